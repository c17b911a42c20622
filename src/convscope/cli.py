"""The command line: one function a command, which parses, makes one library call and prints. torch comes when needed.

Results go to standard output, notes and progress to standard error; ``--json`` prints JSON and nothing else.
"""

from __future__ import annotations

import json as json_module
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from .errors import ConvscopeError, InterruptedRun, MemoryExhausted, PictureError, StorageError
from .printing import (
    budget_line,
    data_line,
    epoch_line,
    layer_line,
    percent,
    print_claims,
    print_csv,
    print_diagnosis,
    print_evaluation,
    print_explanation,
    print_export,
    print_features,
    print_ledger,
    print_models,
    print_notes,
    print_outcome,
    print_picture,
    print_predictions,
    print_pretrained,
    print_similar,
    print_study,
    print_transfer,
    progress_bar,
    rung_line,
)
from .version import __version__

if TYPE_CHECKING:
    from .session import Session

app = App(
    name="convscope",
    version=__version__,
    help="Train convolutional image classifiers, see honestly how good they are and what each filter learned. "
    "Start with: convscope demo",
    default_parameter=Parameter(negative_iterable=()),
    suppress_keyboard_interrupt=False,  # run() has a sentence for it
)
Flag = Annotated[bool, Parameter(negative=())]
Part = Literal["train", "val", "test", "all"]
Views = Literal["none", "flip", "shift", "flip-shift"]
Engines = Literal["auto", "torch", "onnxruntime"]
STANDARD_INPUT = "standard input"


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code. A user's error is one sentence on standard error, never a traceback."""
    arguments = [STANDARD_INPUT if a == "-" else a for a in arguments]  # to the parser "-" is an unknown option
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), 2)
    except ConvscopeError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted.", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader left; Python would complain at exit
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{(error.strerror or str(error)).lower()}.", StorageError.exit_code)
    except Exception as error:
        if _out_of_memory(error):
            return _complain(
                "the work does not fit in memory: try a smaller --batch-size or --image-size.",
                MemoryExhausted.exit_code,
            )
        return _complain(_report_bug(), 1)


def _complain(sentence: str, code: int) -> int:
    print(f"convscope: {sentence}", file=sys.stderr)
    return code


def _out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate memory" in words))
    )


def _report_bug() -> str:
    from .storage import cache_folder, commit_text

    path = cache_folder() / "error.log"
    try:
        commit_text(path, traceback.format_exc())
    except ConvscopeError:
        traceback.print_exc()
        return "this is a bug of convscope, not yours; what it met stands above."
    return f"this is a bug of convscope, not yours; what it met is in {path}."


# --------------------------------------------------------------------------------------------------------- train


@app.command
def train(
    data: str,
    /,
    *,
    model: str | None = None,
    recipe: str | None = None,
    size: Literal["small", "medium", "large"] | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | Literal["auto"] | None = None,
    optimizer: str | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    schedule: str | None = None,
    warmup: float | None = None,
    label_smoothing: float | None = None,
    clip: float | None = None,
    patience: int | None = None,
    augment: str | None = None,
    flip: str | None = None,
    mixup: float | None = None,
    cutmix: float | None = None,
    balance: Annotated[bool | None, Parameter(negative=())] = None,
    ema: float | None = None,
    save_memory: Annotated[bool | None, Parameter(negative=())] = None,
    memory: float | None = None,
    width: int | None = None,
    depth: int | None = None,
    batch_norm: bool | None = None,
    dropout: float | None = None,
    stem: int | Literal["small"] | None = None,
    shortcut: Literal["pad", "projection"] | None = None,
    weights: Path | None = None,
    image_size: int | None = None,
    fit: str | None = None,
    limit: int | None = None,
    bad_pictures: str | None = None,
    seed: int | None = None,
    precision: str | None = None,
    compile: Annotated[bool | None, Parameter(negative=())] = None,
    watch: Flag = False,
    device: str = "auto",
    name: str | None = None,
    resume: Flag = False,
    preview: Path | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Train a classifier on DATA: cifar10, digits, shapes, a folder (one folder a class), or a CSV table.

    Reports validation accuracy; the test pictures stay closed until `convscope evaluate`.

    Parameters
    ----------
    data
        A dataset's name, a folder of pictures, or a CSV table.
    model
        A name of `convscope models`, of torchvision or timm, or module.py:function for your own (which runs that code).
    recipe
        A named recipe to start from; options given beside it win. See docs/recipes.md.
    size
        small, medium or large: speednet's width, epochs and rate together, instead of --recipe.
    minutes
        How long to train: settles the epochs by the speed measured here, and the size where no model is named.
    epochs
        How often every picture is seen.
    batch_size
        Pictures an update; 128 (muon: 512) when nothing is said, or fewer so that an epoch has 20 updates.
    lr
        The highest learning rate of the schedule; auto: found by a range test first.
    optimizer
        sgd (with Nesterov momentum), adamw, or muon.
    momentum
        Of SGD and Muon; beta1 of AdamW.
    weight_decay
        On filters and matrices, not on norms and biases.
    schedule
        one-cycle, cosine or constant.
    warmup
        The share of the run in which the rate climbs.
    label_smoothing
        The share of each label spread over all classes.
    clip
        The largest norm of a gradient; 0 for no limit.
    patience
        Stop after so many epochs without a better validation accuracy.
    augment
        none, light, standard or strong.
    flip
        none, random or alternating, instead of the level's own: none where a mirror image means something else.
    mixup
        Alpha of mixup: each picture is mixed with another one; 0 for none.
    cutmix
        Alpha of cutmix: a rectangle of another picture is put in; 0 for none.
    balance
        Weigh the classes so that rare ones count as much as frequent ones.
    ema
        Decay of averaged weights, which are then validated and kept: 0.99 to 0.9999; 0 for none.
    save_memory
        Compute activations again in the backward pass instead of keeping them.
    memory
        GB that a training step may take: --save-memory where it is needed, and a plain no where that is not enough.
    width
        Filters of the first layer.
    depth
        Convolutions, for models that have a choice.
    batch_norm
        With or without batch normalization.
    dropout
        The probability of dropping a unit between the fully connected layers.
    stem
        Filter size of resnet's first layer, or small for pictures of about 32 pixels.
    shortcut
        pad or projection: how the CIFAR residual nets skip where the size changes.
    weights
        A safetensors file to start from.
    image_size
        Side of the pictures in pixels: 32 for the named datasets, 64 for folders and tables.
    fit
        crop (the middle), pad (the whole picture with borders) or squash.
    limit
        Use so many pictures, stratified.
    bad_pictures
        error, or skip those that cannot be read.
    seed
        Of initialisation, order, augmentation and dropout.
    precision
        auto, float32 or bfloat16.
    compile
        Compile the network (on CPUs it has not paid so far: see docs/log.md).
    watch
        Look inside the network every 10th step: what layers put out, gradients, updates, for `convscope diagnose`.
    device
        auto, cpu, cuda, cuda:1, mps.
    name
        The run's name; with --resume, the run to go on with (default: the last).
    resume
        Go on with a run that was stopped, bit for bit.
    preview
        Write the sheet of augmented pictures to this PNG file, and train nothing.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs (default: $CONVSCOPE_RUNS, else runs).
    json
        Print JSON lines: one an epoch, and last the summary.
    """
    from . import commands

    options = {
        "model": model, "epochs": epochs, "batch_size": batch_size, "lr": lr, "optimizer": optimizer,
        "momentum": momentum, "weight_decay": weight_decay, "schedule": schedule, "warmup": warmup,
        "label_smoothing": label_smoothing, "clip": clip, "patience": patience, "augment": augment, "flip": flip,
        "mixup": mixup, "cutmix": cutmix, "balance": balance, "ema": ema, "save_memory": save_memory, "width": width,
        "depth": depth, "batch_norm": batch_norm, "dropout": dropout, "stem": stem, "shortcut": shortcut,
        "weights": str(weights) if weights else None, "image_size": image_size, "fit": fit, "limit": limit,
        "bad_pictures": bad_pictures, "seed": seed, "precision": precision, "compile": compile,
    }  # fmt: skip
    request = commands.TrainRequest(
        data, recipe, options, name, resume, device, data_root, runs, size, minutes, memory, watch
    )
    with progress_bar(json) as progress:
        if preview is not None:
            print(commands.preview(request, preview, progress))
            return
        session = commands.prepare_training(request, progress)
    _train(session, json)


def _train(session: Session, json: bool) -> None:
    """Iterate a training, show it, write its report, and print the summary."""
    from . import report

    if not json:
        print(data_line(session))
    print_notes(session.notes)
    shown = len(session.notes)
    for row in _epochs(session, json):
        print_notes(session.notes[shown:])
        shown = len(session.notes)
        timing = session.timing[-1]
        print(json_module.dumps(row) if json else epoch_line(row, timing, session.recipe.loop.epochs), flush=True)
    result = report.write_training(session.run)
    if json:
        print(json_module.dumps(result.summary))
        return
    folder, best = session.run.folder, result.summary
    print(report.roofline(best))
    print(
        f"best: epoch {best['best_epoch']}, {percent(best, 'val')} of {best['val_n']} validation pictures right\n"
        f"run: {folder} (report.html, curves.png, augment.png, classifier.safetensors)\n"
        f"next: convscope evaluate {folder}"
    )


def _epochs(session: Session, json: bool) -> Iterator[dict[str, Any]]:
    """The epoch rows of a training; steps move a progress bar when someone watches."""
    with progress_bar(json) as progress:
        for event in session.events():
            if isinstance(event, dict):
                yield event
            elif progress:
                total = event.steps * session.recipe.loop.epochs
                done = (event.epoch - 1) * event.steps + event.step
                progress(f"training, epoch {event.epoch}, loss {event.loss:.3f}", done, total)


# ---------------------------------------------------------------------------------------------- evaluate, predict


@app.command
def evaluate(
    run: str = "last",
    data: str | None = None,
    /,
    *,
    part: Part | None = None,
    limit: int | None = None,
    views: Views = "none",
    model: str | None = None,
    weights: Path | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Evaluate RUN on its own test pictures, or on DATA: accuracy with intervals, per class, confusion, calibration.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    data
        Another dataset, folder or table; its classes are matched by name.
    part
        train, val, test or all.
    limit
        Take so many pictures, stratified.
    views
        none, flip, shift or flip-shift: score the mean over mirrored and shifted copies too.
    model
        Needed for a net of your own: module.py:function, whose code is run.
    weights
        For pretrained:NAME: a safetensors file to take the weights from.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from . import commands

    with progress_bar(json) as progress:
        result = commands.evaluate(
            run,
            data,
            part=part,
            limit=limit,
            views=views,
            model=model,
            weights=weights,
            data_root=data_root,
            runs=runs,
            progress=progress,
        )
    if json:
        print(json_module.dumps(result.summary))
        return
    print_evaluation(result.summary, result.folder)


@app.command
def predict(
    run: str,
    /,
    *pictures: str,
    top: int = 5,
    views: Views = "none",
    model: str | None = None,
    weights: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
    csv: Flag = False,
) -> int:
    """Ask RUN what is on each PICTURE: files, folders, globs, or - for a picture on standard input.

    A picture that cannot be read is named with its reason, the rest go on, and the exit code is 65.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    pictures
        Files, folders, globs, or -.
    top
        How many answers a picture.
    views
        none, flip, shift or flip-shift: answer by the mean over mirrored and shifted copies.
    model
        Needed for a net of your own: module.py:function, whose code is run.
    weights
        For pretrained:NAME: a safetensors file to take the weights from.
    runs
        The folder of runs.
    json
        Print one JSON list.
    csv
        Print comma-separated values.
    """
    from . import commands

    given = ["-" if p == STANDARD_INPUT else p for p in pictures or (STANDARD_INPUT,)]
    data = sys.stdin.buffer.read() if "-" in given else None
    results = commands.predict(
        run, given, top=top, views=views, model=model, weights=weights, runs=runs, standard_input=data
    )
    rows = [r.to_json() for r in results]
    if json:
        print(json_module.dumps(rows, ensure_ascii=False))
    elif csv:
        print_csv(rows)
    else:
        print_predictions(rows)
    return PictureError.exit_code if any("error" in row for row in rows) else 0


# ------------------------------------------------------------------------------------------------------- explain


@app.command
def diagnose(
    run: str,
    data: str | None = None,
    /,
    *,
    layer: list[str] | None = None,
    norm: str | None = None,
    pictures: int = 4,
    double: Flag = False,
    weights: Path | None = None,
    model: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Say in words why RUN, or a MODEL, does or does not learn: gradients, Jacobians, a verdict and one next step.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or the name of a model (whose weights are random).
    data
        What it was trained on (default: what the run says).
    layer
        The module that ends a factor; say it once for each, in order. Found by itself when not said.
    norm
        A batch norm and a channel to look at, as bn1:3.
    pictures
        Whose Jacobians are measured.
    double
        Measure in float64.
    weights
        For a model's name: a safetensors file to take the weights from.
    model
        Needed for a net of your own: module.py:function, whose code is run.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from . import commands

    with progress_bar(json) as progress:
        result = commands.diagnose(
            run, data, layer=layer, norm=norm, pictures=pictures, double=double, weights=weights, model=model,
            data_root=data_root, runs=runs, progress=progress,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_diagnosis(result)


@app.command
def explain(
    run: str = "last",
    data: str | None = None,
    /,
    *,
    layer: list[str] | None = None,
    filter: list[int] | None = None,
    picture: Path | None = None,
    target: str | None = None,
    method: list[str] | None = None,
    sanity: Flag = False,
    count: int = 9,
    least: Flag = False,
    seeds: int = 1,
    ablate: int = 1_000,
    limit: int | None = None,
    from_exemplar: Flag = False,
    seed: int = 0,
    weights: Path | None = None,
    model: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Write a card for every filter of RUN: exemplars, maximization, words, what it is for. Or take a picture apart.

    Stopped in the middle it keeps what is done, and the same command goes on.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or a model's name.
    data
        What it is explained on (default: what it was trained on).
    layer
        A layer, by its name in `convscope models`; more than one by repeating it. Default: every convolution.
    filter
        A filter's number; more than one by repeating it. Default: all.
    picture
        Take this picture's answer apart instead: evidence, where the network looks, maps.
    target
        With --picture: the class in question, instead of the answer.
    method
        With --picture: cam, grad-cam, integrated-gradients or occlusion; default: all that the network allows.
    sanity
        With --picture: randomise the weights layer by layer, and say whether the maps change.
    count
        Exemplars of each filter.
    least
        The least exciting pictures too.
    seeds
        Maximized pictures of each filter, from other noise each; 0 for none.
    ablate
        Validation pictures on which each filter is silenced; 0 for none.
    limit
        Search so many pictures for exemplars.
    from_exemplar
        Begin maximization at the best exemplar instead of noise.
    seed
        Of the order, the noise and the random moves.
    weights
        For a model's name: a safetensors file (random weights without).
    model
        Needed for a net of your own: module.py:function, whose code is run.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from . import commands

    with _keeping("what is done is kept, and the same command goes on."), progress_bar(json) as progress:
        if picture is not None:
            taken = commands.explain_picture(
                run, picture, data, target=target, methods=method, sanity=sanity, layer=layer, model=model,
                data_root=data_root, runs=runs, progress=progress,
            )  # fmt: skip
            print(json_module.dumps(taken.summary)) if json else print_picture(taken.summary)
            return
        result = commands.explain(
            run, data, layer=layer, filter=filter, count=count, least=least, seeds=seeds, ablate=ablate,
            limit=limit, from_exemplar=from_exemplar, seed=seed, weights=weights, model=model,
            data_root=data_root, runs=runs, progress=progress, on_layer=None if json else layer_line,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_explanation(result.summary)


# -------------------------------------------------------------------------------------------- transfer learning


@app.command
def features(
    data: str,
    /,
    *,
    backbone: str = "lite0",
    weights: Path | None = None,
    layer: str | None = None,
    maps: Flag = False,
    augment: int = 0,
    level: str = "standard",
    dtype: Literal["float32", "float16"] = "float32",
    engine: Engines = "auto",
    image_size: int | None = None,
    fit: str | None = None,
    limit: int | None = None,
    bad_pictures: str = "error",
    seed: int = 0,
    device: str = "auto",
    data_root: Path | None = None,
    json: Flag = False,
) -> None:
    """Record what a pretrained network makes of every picture of DATA, once: only what changed is computed again.

    Parameters
    ----------
    data
        A dataset's name, a folder of pictures, or a CSV table.
    backbone
        A name of `convscope models --pretrained`: lite0 needs no network.
    weights
        A safetensors file to take the backbone's weights from.
    layer
        Record this layer instead of what the last linear layer is given: the mean of its map over places.
    maps
        Keep whole feature maps: of the layer, or the last one.
    augment
        So many varied copies of each picture beside it.
    level
        How they are varied: light, standard or strong.
    dtype
        float32 or float16, which halves the disk.
    engine
        auto, torch or onnxruntime.
    image_size
        Side of the pictures in pixels (default: the backbone's).
    fit
        crop, pad or squash (default: the backbone's).
    limit
        Use so many pictures, stratified.
    bad_pictures
        error, or skip those that cannot be read.
    seed
        Of the varied copies.
    device
        auto, cpu, cuda, cuda:1, mps.
    data_root
        Where cifar10 lies.
    json
        Print one JSON object.
    """
    from . import commands

    with _keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        result = commands.features(
            data, backbone=backbone, weights=weights, layer=layer, maps=maps, augment=augment, level=level, dtype=dtype,
            engine=engine, image_size=image_size, fit=fit, limit=limit, bad_pictures=bad_pictures, seed=seed,
            device=device, data_root=data_root, progress=progress,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_features(result)


@app.command
def transfer(
    data: str,
    /,
    *,
    backbone: str = "lite0",
    weights: Path | None = None,
    budget: float | None = None,
    augment: int = 0,
    level: str = "standard",
    balance: Flag = False,
    cards: Flag = False,
    engine: Engines = "auto",
    image_size: int | None = None,
    fit: str | None = None,
    limit: int | None = None,
    bad_pictures: str = "error",
    seed: int = 0,
    device: str = "auto",
    name: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Make a classifier of DATA from a pretrained network: features, heads, fine-tuning where it pays, one table.

    Parameters
    ----------
    data
        A dataset's name, a folder of pictures, or a CSV table.
    backbone
        A name of `convscope models --pretrained`: lite0 needs no network.
    weights
        A safetensors file to take the backbone's weights from.
    budget
        Minutes for fine-tuning and training from scratch; without it only the cheap ways are tried.
    augment
        So many varied copies of each training picture.
    level
        How they are varied: light, standard or strong.
    balance
        Weigh the classes so that rare ones count as much as frequent ones.
    cards
        Write the card of each class's most used filter too.
    engine
        auto, torch or onnxruntime.
    image_size
        Side of the pictures in pixels (default: the backbone's).
    fit
        crop, pad or squash (default: the backbone's).
    limit
        Use so many pictures, stratified.
    bad_pictures
        error, or skip those that cannot be read.
    seed
        Of whatever is drawn.
    device
        auto, cpu, cuda, cuda:1, mps.
    name
        The run's name.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs (default: $CONVSCOPE_RUNS, else runs).
    json
        Print JSON lines: one a rung, and last the summary.
    """
    from . import commands

    def show(rung: Any) -> None:
        print(json_module.dumps(rung.to_json()) if json else rung_line(rung), flush=True)

    with _keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        result = commands.transfer(
            data, backbone=backbone, weights=weights, budget=budget, augment=augment, level=level, balance=balance,
            cards=cards, engine=engine, image_size=image_size, fit=fit, limit=limit, bad_pictures=bad_pictures,
            seed=seed, device=device, name=name, data_root=data_root, runs=runs, progress=progress, on_rung=show,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_transfer(result)


@app.command
def study(
    *claims: str,
    size: Literal["small", "medium", "large"] = "small",
    list: Flag = False,
    html: Flag = False,
    minutes: float | None = None,
    device: str = "cpu",
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Run the lecture's CLAIMS, or all of them, as controlled experiments; each ends with a verdict.

    Stopped in the middle it keeps every training that was done, and the same command goes on.

    Parameters
    ----------
    claims
        Names of `convscope study --list`; all when none is named.
    size
        small: digits and shapes, offline, half an hour for all; medium and large: CIFAR-10, hours and days.
    list
        Only say which claims there are, what each needs, and its minutes.
    html
        Write one self-contained page to hand in: verdicts, curves, data hashes, seeds, versions.
    minutes
        Begin no other training after so many.
    device
        auto, cpu, cuda, cuda:1, mps.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs (default: $CONVSCOPE_RUNS, else runs); a study lies in its folder `study`.
    json
        Print JSON lines: one a claim. With --list, one JSON list.
    """
    from . import commands

    asked = commands.find_claims(claims)
    if list:
        print(json_module.dumps([claim.to_json() for claim in asked])) if json else print_claims(asked, size)
        return

    if not json:
        print(budget_line(asked, size), file=sys.stderr)

    def show(outcome: Any) -> None:
        print(json_module.dumps(outcome.to_json()), flush=True) if json else print_outcome(outcome)

    with (
        _keeping("every training that was done is kept, and the same command goes on."),
        progress_bar(json) as progress,
    ):
        report = commands.study(
            claims, size=size, minutes=minutes, data_root=data_root, device=device, runs=runs, progress=progress,
            on_claim=show,
        )  # fmt: skip
    page = report.write() if html else None
    if not json:
        print_study(report, page)


@app.command
def similar(
    run: str,
    picture: Path,
    data: str | None = None,
    /,
    *,
    count: int = 9,
    engine: Engines = "auto",
    model: str | None = None,
    weights: Path | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Find the pictures of RUN's data, or of DATA, that are nearest to PICTURE by what the network makes of them.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    picture
        A picture.
    data
        Where to search (default: what it was trained on).
    count
        How many.
    engine
        auto, torch or onnxruntime.
    model
        Needed for a net of your own: module.py:function, whose code is run.
    weights
        For pretrained:NAME: a safetensors file to take the weights from.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from . import commands

    with progress_bar(json) as progress:
        result = commands.similar(
            run, picture, data, count=count, engine=engine, model=model, weights=weights, data_root=data_root,
            runs=runs, progress=progress,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_similar(result)


@app.command
def export(
    run: str = "last",
    /,
    *,
    format: Literal["onnx", "safetensors"] = "onnx",
    output: Path | None = None,
    model: str | None = None,
    weights: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Write RUN as one file that predicts the same elsewhere, with class names, preprocessing and a parity seal inside.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    format
        onnx (with a plain script that predicts), or safetensors.
    output
        The folder to write into (default: export in the run).
    model
        Needed for a net of your own: module.py:function, whose code is run.
    weights
        For pretrained:NAME: a safetensors file to take the weights from.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from . import commands

    result = commands.export(run, format=format, output=output, model=model, weights=weights, runs=runs)
    print(json_module.dumps(result.summary)) if json else print_export(result.summary)


@contextmanager
def _keeping(words: str) -> Iterator[None]:
    """A with-block after whose interruption these words are said."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRun(f"interrupted; {words}", signal.SIGINT) from None


# ---------------------------------------------------------------------------------------------------- models, demo


@app.command
def models(
    name: str | None = None,
    /,
    *,
    classes: int = 10,
    image_size: int = 32,
    width: int | None = None,
    depth: int | None = None,
    batch_norm: bool | None = None,
    dropout: float | None = None,
    stem: int | Literal["small"] | None = None,
    shortcut: Literal["pad", "projection"] | None = None,
    pretrained: Flag = False,
    json: Flag = False,
) -> None:
    """List the models, or print the lecture's table of one: layers, sizes, parameters, work, rules it breaks.

    Parameters
    ----------
    name
        A model, one of torchvision or timm, or module.py:function for a net of your own (which runs that code).
    classes
        How many classes it tells apart.
    image_size
        Side of its pictures in pixels.
    width
        Filters of the first layer.
    depth
        Convolutions, for models that have a choice.
    batch_norm
        With or without batch normalization.
    dropout
        Between the fully connected layers.
    stem
        Filter size of resnet's first layer, or small.
    shortcut
        pad or projection, of the CIFAR residual nets.
    pretrained
        List pretrained networks instead: some, or with NAME all whose name contains it.
    json
        Print JSON.
    """
    from . import commands

    if pretrained:
        rows = commands.pretrained_list(name)
        print(json_module.dumps(rows)) if json else print_pretrained(rows)
        return
    if name is None:
        rows = commands.model_list()
        if json:
            print(json_module.dumps(rows))
            return
        print_models(rows)
        return
    options = {"width": width, "depth": depth, "batch_norm": batch_norm, "dropout": dropout}
    options |= {"stem": stem, "shortcut": shortcut}
    book = commands.model_table(name, classes=classes, image_size=image_size, options=options)
    print_ledger(book, commands.model_rules(book, image_size), json)


@app.command
def demo(*, runs: Path | None = None) -> None:
    """The main job on built-in data, offline, in a few minutes: train on handwritten digits, evaluate, predict.

    Parameters
    ----------
    runs
        The folder of runs.
    """
    from . import commands

    print("1. Train the lecture's network on 1,797 real handwritten digits (convscope train digits)")
    session = commands.prepare_training(commands.TrainRequest("digits", recipe="digits", runs=runs))
    _train(session, json=False)
    run = session.run
    print(f"\n2. Open the test pictures, which no choice was made on (convscope evaluate {run.folder})")
    result = commands.evaluate(str(run.folder))
    print_evaluation(result.summary, result.folder)
    example, truth = commands.save_example(session.dataset, run.folder)
    print(f"\n3. Ask about one picture, a handwritten {truth} (convscope predict {run.folder} {example})")
    print_predictions([p.to_json() for p in commands.predict(str(run.folder), [str(example)])])
    print(f"\n4. See what each filter learned (convscope explain {run.folder})")
    explained = commands.explain(str(run.folder), on_layer=layer_line)
    print_explanation(explained.summary)
    print(f"\nOpen {run.folder / 'report.html'} in a browser. Then try your own pictures, one folder a class:")
    print("convscope train FOLDER")
