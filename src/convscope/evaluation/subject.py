"""The subject of a command: a run, a classifier file, a model's name or any network, with its data and place."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from ..classifying.classifier import Classifier
from ..datasets.dataset import Dataset
from ..datasets.named_before import remember
from ..datasets.registry import load_dataset
from ..errors import ConvscopeError, DataError, UnknownName, Untrained, UsageError
from ..locks import check_unheld
from ..machine import pick_device
from ..models.architecture import (
    Architecture,
    architecture_of,
    check_recorded,
    load_weight_file,
    named_again,
    shown_an_image,
)
from ..models.registry import full_name
from ..models.taps import logits_in
from ..models.user_network import check_needed, is_own
from ..options import SubjectOptions
from ..portable import folder_name, shortened
from ..storage import expanded
from ..tensor_files import read_foreign_tensors
from ..training.request import data_name, read_dataset
from ..training.runs import Run, find_run, runs_folder
from .opening import PRETRAINED, home_of, open_classifier, read_data
from .scoring import translation

Command = Literal["explain", "diagnose"]  # which asks: a verb in sentences, and the folder of its answers


@dataclass(frozen=True)
class Subject:
    """A classifier, the data it is looked at on with the ``labels`` in its order, where the answers go, and notes.

    ``run`` is the run it was trained in, if any; ``fresh`` a model whose weights are random; ``own`` a network that was
    handed over as it is.
    """

    classifier: Classifier
    dataset: Dataset
    name: str
    folder: Path
    labels: np.ndarray | None
    notes: tuple[str, ...]
    run: Run | None = None
    fresh: bool = False
    own: bool = False


def open_subject(
    run: str | nn.Module | Classifier,
    data: str | Path | Dataset | None,
    options: SubjectOptions,
    command: Command,
    *,
    as_it_began: bool = False,
) -> Subject:
    """Find out what is asked about: a run, a classifier file, a model's name, or a network.

    The folder of the answers has the name of the ``command``. ``as_it_began`` takes a run that diverged before its
    first epoch was over, with its network as it is built. UsageError, UnknownName or DataError where a name, a dataset
    or weights do not fit.
    """
    if isinstance(run, nn.Module):
        return _of_module(run, _named_data("a network", data, options, command), options, command)
    if isinstance(run, Classifier):
        return _of_classifier(run, home_of(run), None, data, options, command)
    if is_model(run, options.runs):
        check_needed(options.model, full_name(run), run)
        return _of_model(run, _named_data(f"the model {run}", data, options, command), options, command)
    pretrained = options.weights if run.startswith(PRETRAINED) else None
    if options.weights is not None and pretrained is None and not _names_again(run, options.weights, options.runs):
        raise UsageError(f"--weights is for a model's name, and {run} is a run, which has weights of its own.")
    try:
        classifier, found = open_classifier(run, options.runs, options.model, pretrained, device=options.device)
    except Untrained:
        begun = find_run(run, runs_folder(options.runs))
        if as_it_began and data is None and begun.diverged() is not None:
            return _as_it_began(begun, options, command)
        raise
    return _of_classifier(classifier, run, found, data, options, command)


def check_answers_unheld(
    run: str | nn.Module | Classifier, data: str | Path | Dataset | None, runs: Path | None, folder: str, what: str
) -> None:
    """LockedError, before anything is read, where another process writes ``what`` of a run into that ``folder`` of it.

    Answers on data that is named lie in a folder whose name is known later, and the lock is met then.
    """
    if isinstance(run, str) and data is None:
        with suppress(UnknownName):  # a file, or what is told of later
            found = find_run(run, runs_folder(runs))
            check_unheld(found.folder / folder, f"{what} of {found.name}")


def _of_classifier(  # noqa: PLR0913 - as open_subject, with what it found
    classifier: Classifier,
    run: str,
    found: Run | None,
    data: str | Path | Dataset | None,
    options: SubjectOptions,
    command: Command,
) -> Subject:
    """Take a classifier, of the run ``found`` if of any, on the data named or its own."""
    if isinstance(data, Dataset):
        dataset, same, change = data, False, None
    else:
        dataset, same, change = read_data(classifier, run, data, command, options)
    labels, notes = _labels(classifier, dataset)
    if change:
        notes = (*notes, f"the data changed since {run} was trained: {change}.")
    home = found.folder if found else runs_folder(options.runs) / folder_name(run)
    folder = home / command if same else home / command / shortened(dataset.name)
    trained_here = None if found is None or found.is_adopted() else found
    return Subject(classifier, dataset, home.name, folder, labels, (*dataset.notes, *notes), trained_here)


def _names_again(run: str, weights: Path, runs: Path | None) -> bool:
    """Whether a user names the file that a run started from: for its record alone it would not be read."""
    try:
        recorded = find_run(run, runs_folder(runs)).recipe().model.weights
    except ConvscopeError:
        return False
    remember(weights.resolve())
    return recorded == str(weights.resolve())


def is_model(run: str, runs: Path | None) -> bool:
    """Say whether a name is that of a model and not of a run, a path, or ``last``."""
    place = runs_folder(runs) / run  # the answers about a model lie in a folder of its name, which is no run
    if os.path.exists(expanded(run)) or (place / "recipe.json").exists() or run == "last":
        return False
    try:
        full_name(run)
    except UnknownName:
        return False
    return True


def _as_it_began(run: Run, options: SubjectOptions, command: Command) -> Subject:
    """Open a run that left no weights, with its network as it is built."""
    recipe = run.recipe()
    name = named_again(recipe.model.name, f"run {run.name!r}", options.model)
    dataset = read_dataset(recipe, options.data_root, options.progress, recorded_in=run.name)
    classes, size = dataset.class_names, dataset.preprocess.size
    check_recorded(Architecture(name, size, recipe.model.options()), len(classes), f"run {run.name!r}")
    architecture, network = architecture_of(name, size, recipe.model.options(), len(classes))
    network = network.to(pick_device(options.device)).eval()
    classifier = Classifier(network, classes, dataset.preprocess, architecture)
    note = "it diverged before its first epoch was over and left no weights: this is the network as it began."
    folder = run.folder / command
    return Subject(classifier, dataset, run.name, folder, dataset.labels, (*dataset.notes, note), run, fresh=True)


def _named_data(name: str, data: str | Path | Dataset | None, options: SubjectOptions, command: Command) -> Dataset:
    """Load the dataset that has to be named where nothing says what a network was trained on."""
    if data is None:
        raise UsageError(f"{name} does not say what it was trained on: name a dataset to {command} it on.")
    if isinstance(data, Dataset):
        return data
    return load_dataset(
        data_name(str(data)),
        data_root=options.data_root,
        progress=options.progress,
        need="classes",
        corrections=options.corrections,
    )


def _labels(classifier: Classifier, dataset: Dataset) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The dataset's labels in the classifier's order, None with a note where a class is not the classifier's."""
    try:
        return translation(classifier.class_names, dataset.class_names)[dataset.labels], ()
    except DataError as error:
        return None, (f"{error} So it is not measured what each filter is for; everything else is.",)


def _of_model(name: str, dataset: Dataset, options: SubjectOptions, command: Command) -> Subject:
    """Build a model by its name, with the weights of a file or random ones."""
    weights = options.weights
    classes = dataset.class_names
    notes: tuple[str, ...] = ()
    if weights is None:
        notes = (f"the weights of {name} are random: give a run, or a file with --weights.",)
    else:
        n = _outputs(weights)
        if n is not None and n != len(classes):
            classes = tuple(f"output {i}" for i in range(n))
    architecture = Architecture(full_name(name), dataset.preprocess.size)
    network = architecture.build(len(classes))
    if weights is not None:
        load_weight_file(network, weights)
    network = network.to(pick_device(options.device)).eval()
    classifier = Classifier(network, classes, dataset.preprocess, architecture)
    labels, unfit = _labels(classifier, dataset) if weights is not None else (None, ())
    home = name.split("/")[-1].replace(":", "-").removesuffix(".py") if is_own(name) else name.replace(":", "-")
    folder = runs_folder(options.runs) / shortened(home) / command / shortened(dataset.name)
    return Subject(classifier, dataset, name, folder, labels, (*dataset.notes, *notes, *unfit), fresh=weights is None)


def _outputs(weights: Path) -> int | None:
    """Count the logits of a weight file's network: the rows of its matrix; None where it has several."""
    matrices = [t for n, t in read_foreign_tensors(weights).items() if t.dim() == 2 and n.endswith("weight")]
    return len(matrices[0]) if len(matrices) == 1 else None


def _of_module(network: nn.Module, dataset: Dataset, options: SubjectOptions, command: Command) -> Subject:
    """Take any network: it is given the dataset's images as the dataset's preprocess makes them."""
    name = type(network).__name__
    classifier = Classifier(
        network, dataset.class_names, dataset.preprocess, Architecture(name, dataset.preprocess.size)
    )
    answer = shown_an_image(name, network, dataset.preprocess.size)
    if command == "diagnose":  # which finds the logits among others, as a Trainer's models give them
        answer = logits_in(answer)
    if not isinstance(answer, torch.Tensor):
        raise UsageError(f"{name} outputs a {type(answer).__name__}: let its forward return the logits alone.")
    of_classes = answer.ndim == 2 and answer.shape[1] == len(dataset.class_names)
    if command == "diagnose" and answer.ndim != 2:
        raise UsageError(
            f"{name} outputs {tuple(answer.shape)} for one image, and logits are (1, classes): let its forward return "
            "these."
        )
    labels = dataset.labels if of_classes else None
    folder = runs_folder(options.runs) / name / command / shortened(dataset.name)
    return Subject(classifier, dataset, name, folder, labels, dataset.notes, own=True)
