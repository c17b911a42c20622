"""One function a command: what the command line and Python call. Takes names, returns results, prints nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import report
from .classifier import Architecture, Classifier, architecture_of, load_weight_file
from .datasets import DATASETS, Dataset, Progress
from .datasets import load as load_dataset
from .decoding import EXTENSIONS
from .errors import DataError, LockedError, UsageError
from .evaluation import evaluate as evaluate_classifier
from .machine import describe, pick_device, pick_precision
from .models import MODELS, options_of
from .models.own import is_own
from .prediction import Prediction, Unreadable
from .prediction import predict as predict_pictures
from .recipes import RECIPES, Recipe, find_recipe
from .runs import (
    Run,
    check_name,
    checkpoints,
    create_run,
    data_description,
    data_difference,
    find_run,
    free_name,
    runs_folder,
)
from .session import Session
from .storage import commit_bytes

# ---------------------------------------------------------------------------------------------------------- train


@dataclass(frozen=True)
class TrainRequest:
    """A training as it is asked for: ``options`` are flat names of recipe fields, None where nothing was said."""

    data: str
    recipe: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    resume: bool = False
    device: str = "auto"
    data_root: Path | None = None
    runs: Path | None = None


def train(
    data: str | Path,
    *,
    recipe: str | None = None,
    name: str | None = None,
    resume: bool = False,
    device: str = "auto",
    data_root: Path | None = None,
    runs: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> report.TrainReport:
    """Train a classifier and write its run; returns the report, which a notebook shows as curves.

    ``options`` are those of the command line: ``{"model": "vgg", "epochs": 5, "lr": 0.1}``.
    """
    request = TrainRequest(str(data), recipe, options or {}, name, resume, device, data_root, runs)
    session = prepare_training(request)
    for _ in session.events():
        pass
    return report.write_training(session.run)


def prepare_training(request: TrainRequest, progress: Progress | None = None) -> Session:
    """Read the data, settle the recipe, make or find the run: everything before the first update.

    Iterate ``session.events()`` to train; ``session.notes`` are sentences to show first.
    """
    folder = runs_folder(request.runs)
    if request.resume:
        return _resume(request, folder, progress)
    recipe = _wanted(request)
    if request.name is not None and (folder / check_name(request.name) / "recipe.json").exists():
        raise LockedError(f"run {request.name!r} exists already: go on with it by --resume, or choose another --name.")
    options_of(recipe.model.name)  # an unknown model is told before pictures are read
    dataset = _read(recipe, request.data_root, progress)
    recipe, device, notes = _settle(recipe, dataset, request.device)
    _check_trainable(dataset)
    architecture, initial = _architecture(recipe, dataset)
    name = request.name or free_name(folder, f"{dataset.name}-{Path(recipe.model.name.split(':')[0]).stem}")
    description = {
        "recipe": recipe.to_dict(),
        "data": data_description(dataset),
        "machine": describe(device),
        "source": architecture.source,
    }
    run = create_run(folder, name, description)
    sheet = report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed)
    commit_bytes(run.folder / "augment.png", sheet.png)
    return Session(run, recipe, dataset, architecture, device, _resume_command(run, request), initial, notes)


def preview(request: TrainRequest, target: Path, progress: Progress | None = None) -> Path:
    """Write the augmentation sheet that a training with this request would begin with."""
    recipe = _wanted(request)
    dataset = _read(recipe, request.data_root, progress)
    recipe, _, _ = _settle(recipe, dataset, request.device)
    commit_bytes(target, report.augmentation_preview(dataset, recipe.augment, recipe.loop.seed).png)
    return target


def _wanted(request: TrainRequest) -> Recipe:
    named = find_recipe(request.recipe or (request.data if request.data in RECIPES else "default"))
    options = {"data": _data_name(request.data), **request.options}
    if options.get("weights") is not None:
        options["weights"] = str(Path(options["weights"]).resolve())
    return named.recipe.with_options(options)


def _data_name(data: str) -> str:
    """A dataset's name as a run remembers it: paths in full, so that they mean the same from another folder."""
    path = Path(data).expanduser()
    return str(path.resolve()) if data not in DATASETS and path.exists() else data


def _read(recipe: Recipe, data_root: Path | None, progress: Progress | None) -> Dataset:
    data = recipe.data
    return load_dataset(
        data.name,
        data_root=data_root,
        image_size=data.image_size,
        fit=data.fit,
        limit=data.limit,
        bad_pictures=data.bad_pictures,
        progress=progress,
    )


def _settle(recipe: Recipe, dataset: Dataset, device_name: str) -> tuple[Recipe, Any, list[str]]:
    """The recipe with nothing left open, the device, and what was decided, in sentences."""
    device = pick_device(device_name)
    precision = pick_precision(recipe.loop.precision, device)
    settled: dict[str, Any] = {"precision": precision, "image_size": dataset.preprocess.size}
    if recipe.loop.batch_size is None:
        settled["batch_size"] = _batch_size(len(dataset.parts["train"]))
    notes = list(dataset.notes)
    if recipe.augment.flip != "none" and not dataset.mirror:
        settled["flip"] = "none"
        notes.append(f"{dataset.name} change their meaning in a mirror: flips are switched off.")
    if is_own(recipe.model.name):
        notes.append(f"{recipe.model.name} is your own code: it is run as it stands.")
    return recipe.with_options(settled), device, notes


def _batch_size(pictures: int) -> int:
    """A power of two from 16 to 128 that gives an epoch 20 updates where it can."""
    return next((size for size in (128, 64, 32) if pictures >= 20 * size), 16)


def _architecture(recipe: Recipe, dataset: Dataset, begun: bool = False) -> tuple[Architecture, Any]:
    """The architecture, and the network to start from: None where the seed or a checkpoint gives the weights."""
    size, classes = dataset.preprocess.size, len(dataset.class_names)
    architecture, network = architecture_of(recipe.model.name, size, recipe.model.options(), classes)
    if recipe.model.weights is None or begun:
        return architecture, None
    load_weight_file(network, Path(recipe.model.weights))
    return architecture, network


def _check_trainable(dataset: Dataset) -> None:
    counts = {part: len(dataset.parts[part]) for part in ("train", "val")}
    if counts["train"] < 2 or not counts["val"]:
        raise DataError(
            f"{dataset.name} has {len(dataset)} pictures: {counts['train']} to train on, {counts['val']} to validate "
            "with; a class needs at least two different pictures, better fifty."
        )


def _resume_command(run: Run, request: TrainRequest) -> str:
    """What to type to go on with a run, ready to be pasted into a shell."""
    places = {"--data-root": request.data_root, "--runs": request.runs}
    words = ["convscope", "train", request.data, "--name", run.name, "--resume"]
    words += [w for option, path in places.items() if path is not None for w in (option, str(path))]
    words += ["--device", request.device] if request.device != "auto" else []
    return shlex.join(words)


def _resume(request: TrainRequest, folder: Path, progress: Progress | None) -> Session:
    run = find_run(request.name or "last", folder)
    before, recipe = run.description(), run.recipe()
    _refuse_changes(run, recipe, request)
    dataset = _read(recipe, request.data_root, progress)
    difference = data_difference(before["data"], data_description(dataset))
    if difference:
        raise DataError(
            f"the data changed since run {run.name!r} began: {difference}. Start a new run with another --name."
        )
    architecture, initial = _architecture(recipe, dataset, begun=bool(checkpoints(run)))
    if architecture.source != before.get("source"):
        raise DataError(f"the code of {recipe.model.name} changed since run {run.name!r} began; start a new run.")
    device = pick_device(request.device)
    notes = [*dataset.notes, *_footing(before["machine"], describe(device))]
    return Session(run, recipe, dataset, architecture, device, _resume_command(run, request), initial, notes)


def _footing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence when the machine or its libraries are not those the run began on, for then bits may differ."""
    changed = [k for k in now if before.get(k) != now[k] and k != "platform"]
    words = "; ".join(f"{k} was {before.get(k)!r} and is {now[k]!r}" for k in changed)
    return [f"resumed on another footing, so not bit for bit as if undisturbed: {words}."] if changed else []


def _refuse_changes(run: Run, recipe: Recipe, request: TrainRequest) -> None:
    """A resumed run keeps its recipe: what is asked for beside --resume must be what the run was started with."""
    given = {k: v for k, v in request.options.items() if v is not None and v != "auto"}
    wanted: dict[str, Any] = {"data": _data_name(request.data)}
    if request.recipe is not None:
        settled = {"precision", "image_size", "batch_size", "flip"}  # a run may have found its own values for these
        named = find_recipe(request.recipe).recipe.flat()
        wanted |= {k: v for k, v in named.items() if k not in settled | {"data"}}
    before = recipe.flat()
    for option, value in {**wanted, **given}.items():
        if option in before and before[option] != value:
            name = "DATA" if option == "data" else f"--{option.replace('_', '-')}"
            raise UsageError(
                f"run {run.name!r} was started with {name} {before[option]} and not {value}; a resumed run keeps its "
                "recipe, so leave the option out, or start a new run with another --name."
            )


# ------------------------------------------------------------------------------------------- evaluate and predict


def open_classifier(run: str, runs: Path | None = None, model: str | None = None) -> tuple[Classifier, Run | None]:
    """The classifier of a RUN (a run's name or path, ``last``, or a classifier file), and the run it lies in."""
    path = Path(run)
    if path.suffix == ".safetensors" and path.is_file():
        home = Run(path.parent) if (path.parent / "recipe.json").exists() else None
        return Classifier.load(path, model), home
    found = find_run(run, runs_folder(runs))
    return found.classifier(model), found


def evaluate(
    run: str,
    data: str | Path | None = None,
    *,
    part: str | None = None,
    limit: int | None = None,
    model: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    progress: Progress | None = None,
) -> report.EvaluationReport:
    """Evaluate a RUN on a dataset's part; without ``data`` on the run's own test pictures. Written into the run.

    The part is "test" for the data it was trained on and for data that came with a test part, else "all". Looking at
    a run's own test pictures is logged in it.
    """
    classifier, found = open_classifier(run, runs, model)
    own = classifier.provenance.get("recipe", {}).get("data", {})
    if data is None and not own:
        raise UsageError(f"{run} does not say what it was trained on; name a dataset to evaluate it on.")
    name = own["name"] if data is None else _data_name(str(data))
    same = name == own.get("name")
    dataset = load_dataset(
        name,
        data_root=data_root,
        image_size=classifier.preprocess.size,
        fit=classifier.preprocess.fit,
        limit=own.get("limit") if same else None,
        bad_pictures=own.get("bad_pictures", "error"),
        progress=progress,
    )
    notes = [*dataset.notes]
    change = data_difference(classifier.provenance["data"], data_description(dataset)) if same else None
    if change and data is None:
        raise DataError(f"the data changed since {run} was trained: {change}. Name it to evaluate on it as it is.")
    if change:
        notes.append(f"the data changed since {run} was trained: {change}.")
    chosen = part or ("test" if same or dataset.test_given else "all")
    if same and chosen in ("train", "all"):
        notes.append("among these are the pictures that it was trained on.")
    opened = None
    if found is not None and same and chosen in ("test", "all"):  # before the pass: looking cannot be undone
        opened = found.log_opening({"part": chosen, "n": len(dataset.subset(chosen, limit))})
    evaluated = evaluate_classifier(classifier, dataset, chosen, limit)
    summary = {
        "run": str(found.folder if found else run),
        "data": dataset.name,
        "part": chosen,
        **evaluated.scores.to_json(),
        "notes": [*notes, *evaluated.notes],
        "test_openings": opened,
    }
    target = found.folder if found else runs_folder(runs) / Path(run).stem
    result = report.write_evaluation(evaluated, target / "evaluate" / f"{dataset.name}-{chosen}", summary)
    if found is not None and found.log() and found.timing():
        report.write_page(found)
    return result


def find_pictures(patterns: Iterable[str], standard_input: bytes | None = None) -> list[tuple[str, Path | bytes]]:
    """Files, folders (their pictures, by name), globs, and ``-`` for the bytes of standard input, as (name, source).

    A file that does not exist is kept, so that its answer says so; UsageError for a pattern without any match.
    """
    found: list[tuple[str, Path | bytes]] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if pattern == "-":
            found.append(("-", standard_input or b""))
        elif path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
            if not inside:
                raise UsageError(f"the folder {path} holds no picture.")
            found += [(str(p), p) for p in inside]
        elif not path.exists() and any(c in pattern for c in "*?["):
            matches = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
            if not matches:
                raise UsageError(f"no file matches {pattern!r}.")
            found += [(str(p), p) for p in matches]
        else:
            found.append((str(path), path))
    return found


def predict(
    run: str,
    pictures: Iterable[str],
    *,
    top: int = 5,
    model: str | None = None,
    runs: Path | None = None,
    standard_input: bytes | None = None,
) -> list[Prediction | Unreadable]:
    """The classifier's answer for each picture; those that cannot be read are named with the reason."""
    if top < 1:
        raise UsageError(f"--top {top} asks for no answer; it must be 1 or more.")
    classifier, _ = open_classifier(run, runs, model)
    return predict_pictures(classifier, find_pictures(pictures, standard_input), top)


# --------------------------------------------------------------------------------------------------------- models


def model_table(name: str, *, classes: int = 10, image_size: int = 32, options: Mapping[str, Any] | None = None) -> Any:
    """The lecture's table of a model: its Ledger."""
    from .models.ledger import ledger

    _, network = architecture_of(name, image_size, options or {}, classes)
    return ledger(network, image_size)


def model_list() -> list[dict[str, Any]]:
    """Every model with its options, and its size at 32 x 32 for 10 classes."""
    rows = []
    for name in MODELS:
        book = model_table(name)
        sizes = {"parameters": book.parameters, "multiply_adds": book.multiply_adds}
        rows.append({"name": name, "options": list(options_of(name)), **sizes})
    return rows


# ----------------------------------------------------------------------------------------------------------- demo


def save_example(dataset: Dataset, folder: Path, part: str = "test") -> tuple[Path, str]:
    """Write one picture of a part as a PNG file, and return it with its class: something to predict."""
    import io

    from PIL import Image

    i = int(dataset.subset(part, 1)[0])
    box = io.BytesIO()
    Image.fromarray(np.asarray(dataset.pictures[i])).save(box, "PNG")
    path = folder / "example.png"
    commit_bytes(path, box.getvalue())
    return path, dataset.class_names[dataset.labels[i]]
