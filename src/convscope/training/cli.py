"""`convscope train`: the options of a training, and its epochs line by line."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..options import Flag
from ..terminal import percent, print_notes, progress_bar

if TYPE_CHECKING:
    from .session import Session


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
    bad_images: str | None = None,
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

    Reports validation accuracy; the test images stay closed until `convscope evaluate`.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, or a CSV table.
    model
        A name of `convscope models`, of torchvision or timm, or module.py:function for your own (which runs that code).
    recipe
        A named recipe to start from; options given beside it win. See docs/recipes.md.
    size
        small, medium or large: speednet's width, epochs and rate together, instead of --recipe.
    minutes
        How long to train: settles the epochs by the speed measured here, and the size where no model is named.
    epochs
        How often every image is seen.
    batch_size
        Images an update; 128 (muon: 512) when nothing is said, or fewer so that an epoch has 20 updates.
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
        Alpha of mixup: each image is mixed with another one; 0 for none.
    cutmix
        Alpha of cutmix: a rectangle of another image is put in; 0 for none.
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
        Filter size of resnet's first layer, or small for images of about 32 pixels.
    shortcut
        pad or projection: how the CIFAR residual nets skip where the size changes.
    weights
        A safetensors file to start from.
    image_size
        Side of the images in pixels: 32 for the named datasets, 64 for folders and tables.
    fit
        crop (the middle), pad (the whole image with borders) or squash.
    limit
        Use so many images, stratified.
    bad_images
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
        Write the sheet of augmented images to this PNG file, and train nothing.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs (default: $CONVSCOPE_RUNS, else runs).
    json
        Print JSON lines: one an epoch, and last the summary.
    """
    from . import command, request, starting

    options = {
        "model": model, "epochs": epochs, "batch_size": batch_size, "lr": lr, "optimizer": optimizer,
        "momentum": momentum, "weight_decay": weight_decay, "schedule": schedule, "warmup": warmup,
        "label_smoothing": label_smoothing, "clip": clip, "patience": patience, "augment": augment, "flip": flip,
        "mixup": mixup, "cutmix": cutmix, "balance": balance, "ema": ema, "save_memory": save_memory, "width": width,
        "depth": depth, "batch_norm": batch_norm, "dropout": dropout, "stem": stem, "shortcut": shortcut,
        "weights": str(weights) if weights else None, "image_size": image_size, "fit": fit, "limit": limit,
        "bad_images": bad_images, "seed": seed, "precision": precision, "compile": compile,
    }  # fmt: skip
    request = request.TrainRequest(
        data, recipe, options, name, resume, device, data_root, runs, size, minutes, memory, watch
    )
    with progress_bar(json) as progress:
        if preview is not None:
            print(command.preview(request, preview, progress))
            return
        session = starting.prepare_training(request, progress)
    show_training(session, json)


def show_training(session: Session, json: bool) -> None:
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
        f"best: epoch {best['best_epoch']}, {percent(best, 'val')} of {best['val_n']} validation images right\n"
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


def data_line(session: Session) -> str:
    data, recipe = session.dataset, session.recipe
    parts = " / ".join(f"{len(index):,} {part}" for part, index in data.parts.items())
    return (
        f"{data.name}: {len(data):,} images of {len(data.class_names)} classes at {data.preprocess.size} x "
        f"{data.preprocess.size} ({data.preprocess.fit}), {parts}; {recipe.model.name} in {recipe.loop.precision} on "
        f"{session.device}, batches of {recipe.loop.batch_size}, augmentation {recipe.augment.name}, "
        f"run {session.run.name}"
    )


def epoch_line(row: dict[str, Any], timing: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  train {100 * row['train_top1']:5.1f} %  "
        f"val {percent(row, 'val')}  val loss {row['val_loss']:.3f}  "
        f"{timing['seconds']:.1f} s  {timing['images_per_second']:,.0f} images/s"
    )
