"""One function a command: what the command line and Python call. Takes names, returns results, prints nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import report
from ..classifier import Classifier, architecture_of
from ..datasets import Dataset, Progress
from ..datasets import load as load_dataset
from ..decoding import EXTENSIONS
from ..errors import DataError, UsageError
from ..evaluation import Evaluated
from ..evaluation import evaluate as evaluate_classifier
from ..exporting import check_seal
from ..models import MODELS, options_of
from ..models.pretrained import pretrained_list as pretrained_list
from ..prediction import UNMIRRORED, Prediction, Unreadable, find_views
from ..prediction import predict as predict_images
from ..preparing import TrainRequest, data_name, prepare_training, preview
from ..recipes import RECIPES
from ..runs import (
    Run,
    data_description,
    data_difference,
    find_run,
    runs_folder,
)
from ..storage import commit_bytes

__all__ = [
    "TrainRequest",
    "evaluate",
    "model_list",
    "model_rules",
    "model_table",
    "open_classifier",
    "predict",
    "prepare_training",
    "preview",
    "save_example",
    "train",
]

# ---------------------------------------------------------------------------------------------------------- train


def train(
    data: str | Path,
    *,
    recipe: str | None = None,
    size: str | None = None,
    minutes: float | None = None,
    memory: float | None = None,
    watch: bool = False,
    name: str | None = None,
    resume: bool = False,
    device: str = "auto",
    data_root: Path | None = None,
    runs: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> report.TrainReport:
    """Train a classifier and write its run; returns the report, which a notebook shows as curves.

    ``options`` are those of the command line: ``{"model": "vgg", "epochs": 5, "lr": 0.1}``. ``watch``: look inside the
    network every 10th step, for ``diagnose``.
    """
    request = TrainRequest(
        str(data),
        recipe,
        options or {},
        name,
        resume,
        device,
        data_root,
        runs,
        size,
        minutes,
        memory,
        watch,
    )
    session = prepare_training(request)
    for _ in session.events():
        pass
    return report.write_training(session.run)


# ------------------------------------------------------------------------------------------- evaluate and predict

PRETRAINED = "pretrained:"


def open_classifier(
    run: str, runs: Path | None = None, model: str | None = None, weights: Path | None = None
) -> tuple[Classifier, Run | None]:
    """The classifier of a RUN, and the run it lies in: a run's name or path, ``last``, a classifier file, or
    ``pretrained:NAME``, whose weights may come from the safetensors file ``weights``."""
    if run.startswith(PRETRAINED):
        return Classifier.pretrained(run.removeprefix(PRETRAINED), weights), None
    if weights is not None:
        raise UsageError(f"--weights is for pretrained:NAME, and {run} has weights of its own.")
    path = Path(run)
    if path.suffix == ".safetensors" and path.is_file():
        home = Run(path.parent) if (path.parent / "recipe.json").exists() else None
        classifier = Classifier.load(path, model)
        check_seal(classifier)
        return classifier, home
    found = find_run(run, runs_folder(runs))
    return found.classifier(model), found


def read_data(
    classifier: Classifier,
    run: str,
    data: str | Path | None,
    purpose: str,
    data_root: Path | None,
    progress: Progress | None,
) -> tuple[Dataset, bool, str | None]:
    """The data named, or a classifier's own, as it takes its images: the dataset, whether it is its own, and in
    words how that has changed since the training (None where it has not). UsageError where none is known."""
    own = classifier.provenance.get("recipe", {}).get("data", {})
    if data is None and not own:
        raise UsageError(f"{run} does not say what it was trained on; name a dataset to {purpose} it on.")
    name = own["name"] if data is None else data_name(str(data))
    same = name == own.get("name")
    dataset = load_dataset(
        name,
        data_root=data_root,
        preprocess=classifier.preprocess,
        limit=own.get("limit") if same else None,
        bad_images=own.get("bad_images", "error"),
        progress=progress,
    )
    return dataset, same, data_difference(classifier.provenance["data"], data_description(dataset)) if same else None


def evaluate(
    run: str,
    data: str | Path | None = None,
    *,
    part: str | None = None,
    limit: int | None = None,
    views: str = "none",
    model: str | None = None,
    weights: Path | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    progress: Progress | None = None,
) -> report.EvaluationReport:
    """Evaluate a RUN on a dataset's part; without ``data`` on the run's own test images. Written into the run.

    The part is "test" for the data it was trained on and for data that came with a test part, else "all". Looking at
    a run's own test images is logged in it. ``views`` is a name of VIEWS: test-time views, whose mean is scored too.
    """
    find_views(views)
    classifier, found = open_classifier(run, runs, model, weights)
    dataset, same, change = read_data(classifier, run, data, "evaluate", data_root, progress)
    notes = [*dataset.notes]
    if change and data is None:
        raise DataError(f"the data changed since {run} was trained: {change}. Name it to evaluate on it as it is.")
    if change:
        notes.append(f"the data changed since {run} was trained: {change}.")
    chosen = part or ("test" if same or dataset.test_given else "all")
    if same and chosen in ("train", "all"):
        notes.append("among these are the images that it was trained on.")
    opened = None
    if found is not None and same and chosen in ("test", "all"):  # before the pass: looking cannot be undone
        opened = found.log_opening({"part": chosen, "n": len(dataset.subset(chosen, limit))})
    views, unmirrored = _allowed_views(classifier, views)
    evaluated = evaluate_classifier(classifier, dataset, chosen, limit, views)
    summary = {
        "run": str(found.folder if found else run),
        "data": dataset.name,
        "part": chosen,
        **evaluated.scores.to_json(),
        "views": views,
        **_view_figures(evaluated),
        "notes": [*notes, *unmirrored, *evaluated.notes],
        "test_openings": opened,
    }
    target = found.folder if found else runs_folder(runs) / home_of(run)
    result = report.write_evaluation(evaluated, target / "evaluate" / f"{dataset.name}-{chosen}", summary)
    if found is not None and found.log() and found.timing():
        report.write_page(found)
    return result


def home_of(run: str) -> str:
    """The name of the folder for what is found out about a classifier that lies in no run."""
    return run.replace(":", "-").replace("/", "-") if run.startswith(PRETRAINED) else Path(run).stem


def _allowed_views(classifier: Classifier, views: str) -> tuple[str, list[str]]:
    """The views, without mirrored ones where the network saw none: a mirror image may mean another thing."""
    flip = classifier.provenance.get("recipe", {}).get("augment", {}).get("flip")
    if flip != "none" or "flip" not in views:
        return views, []
    return UNMIRRORED[views], [f"this network was trained without mirrored images, so --views {views} leaves them out."]


def _view_figures(evaluated: Evaluated) -> dict[str, float | None]:
    """The figures with test-time views, null where there were none."""
    scores = evaluated.view_scores
    values = (scores.top1.value, scores.top1.low, scores.top1.high, scores.loss) if scores else (None,) * 4
    return dict(zip(("views_top1", "views_low", "views_high", "views_loss"), values, strict=True))


def find_images(patterns: Iterable[str], standard_input: bytes | None = None) -> list[tuple[str, Path | bytes]]:
    """Files, folders (their images, by name), globs, and ``-`` for the bytes of standard input, as (name, source).

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
                raise UsageError(f"the folder {path} holds no image.")
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
    images: Iterable[str],
    *,
    top: int = 5,
    views: str = "none",
    model: str | None = None,
    weights: Path | None = None,
    runs: Path | None = None,
    standard_input: bytes | None = None,
) -> list[Prediction | Unreadable]:
    """The classifier's answer for each image; those that cannot be read are named with the reason.

    ``views`` is a name of VIEWS: with more than one, the mean of the views is the answer.
    """
    if top < 1:
        raise UsageError(f"--top {top} asks for no answer; it must be 1 or more.")
    classifier, _ = open_classifier(run, runs, model, weights)
    find_views(views)
    views, _ = _allowed_views(classifier, views)
    return predict_images(classifier, find_images(images, standard_input), top, views)


# --------------------------------------------------------------------------------------------------------- models


def model_table(name: str, *, classes: int = 10, image_size: int = 32, options: Mapping[str, Any] | None = None) -> Any:
    """The lecture's table of a model: its Ledger."""
    from ..models.ledger import ledger

    _, network = architecture_of(name, image_size, options or {}, classes)
    return ledger(network, image_size)


def model_rules(book: Any, image_size: int = 32) -> tuple[str, ...]:
    """What in a Ledger breaks the lecture's rules, in sentences."""
    from ..models.rules import broken_rules

    return broken_rules(book, image_size)


def model_list() -> list[dict[str, Any]]:
    """Every model with its options, its size at 32 x 32 for 10 classes, and the best that was measured of it.

    ``top1`` is the best validation accuracy among the named recipes of the model, None where there is none.
    """
    rows = []
    for name in MODELS:
        book = model_table(name)
        measured = [
            (named.measured.top1, recipe, named.measured)
            for recipe, named in RECIPES.items()
            if named.recipe.model.name == name and named.measured is not None
        ]
        top1, recipe, best = max(measured, default=(None, None, None))
        row = {"name": name, "options": list(options_of(name))}
        row |= {"parameters": book.parameters, "multiply_adds": book.multiply_adds}
        row |= {"top1": top1, "data": best and best.data, "minutes": best and best.minutes, "recipe": recipe}
        rows.append(row)
    return rows


# ----------------------------------------------------------------------------------------------------------- demo


def save_example(dataset: Dataset, folder: Path, part: str = "test") -> tuple[Path, str]:
    """Write one image of a part as a PNG file, and return it with its class: something to predict."""
    import io

    from PIL import Image

    i = int(dataset.subset(part, 1)[0])
    box = io.BytesIO()
    Image.fromarray(np.asarray(dataset.images[i])).save(box, "PNG")
    path = folder / "example.png"
    commit_bytes(path, box.getvalue())
    return path, dataset.class_names[dataset.labels[i]]
