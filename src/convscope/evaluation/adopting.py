"""A network that was trained elsewhere as a classifier: its weights found by name, its classes and images described."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..classifying.classifier import Classifier
from ..datasets.imagenet import CLASSES, class_names
from ..datasets.options import DatasetOptions
from ..datasets.registry import DATASETS, find_images
from ..datasets.table import told_apart
from ..datasets.yolo_names import names_in
from ..errors import DataError, UsageError
from ..images.preprocess import Preprocess
from ..images.preprocess_files import read_preprocess
from ..models.architecture import Architecture, architecture_of, check_foreign, load_weights, weights_hash
from ..models.library_preprocess import library_preprocess
from ..models.matching_weights import match_weights
from ..models.pickled_weights import read_weight_groups
from ..models.registry import full_name
from ..models.trial import output_fault
from ..models.user_network import is_own
from ..reading import open_regular, parse_bounded
from ..storage import expanded, file_hash
from ..visible import visible
from .options import Adopting

_NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:,;]\s*|\s+)(\S.*)", re.ASCII)
MAX_NAMES = 4 << 20  # bytes of a file of class names


@dataclass(frozen=True, kw_only=True)
class AdoptInPython(Adopting):
    """A network from elsewhere as Python brings it along."""

    classes: str | Sequence[str] | None = None
    """What its outputs mean, in their order: names, or a file of them, a folder, or a dataset."""
    preprocess: Path | Preprocess | None = None
    """How it takes images: a Preprocess, or a file as the command line takes it."""


@dataclass(frozen=True)
class Adopted:
    """A network as a classifier, and sentences on what was taken for granted."""

    classifier: Classifier
    notes: tuple[str, ...]


def adopt_named(network: str, names: tuple[str, ...] | None, options: AdoptInPython) -> Adopted:
    """A network by its name with the weights of a file; without ``names`` of its classes a library's has ImageNet's.

    UsageError, UnknownName, DataError or DamagedFile where something does not fit.
    """
    full = full_name(network)
    if options.weights is None:
        raise UsageError(f"the weights of {network} are missing: name their file with --weights.")
    path = expanded(options.weights)
    preprocess, notes = preprocess_of(full, options)
    if names is None:
        names, told = _imagenet(full, network)
        notes += told
    choices = {n: getattr(options, n) for n in ("width", "depth", "batch_norm", "dropout", "stem", "shortcut")}
    architecture, built = architecture_of(full, preprocess.size, choices, len(names))
    found = match_weights(built, read_weight_groups(path), path, network, preprocess.size)
    load_weights(built, found.tensors, path)
    provenance = {
        "adopted": {"network": network, "weights": path.name, "sha256": file_hash(path)},
        "weights_sha256": weights_hash(built),
    }
    classifier = Classifier(built.eval(), names, preprocess, architecture, provenance)
    odd = _no_logits(network, built, preprocess.size) if is_own(full) else ()
    return Adopted(classifier, (*notes, *found.notes, *odd))


def adopt_module(
    network: nn.Module, classes: tuple[str, ...], preprocess: Preprocess, name: str | None = None
) -> Adopted:
    """A network in memory, as it is. UsageError where it cannot take such images or has other outputs."""
    kind, size = type(network).__name__, preprocess.size
    check_foreign(kind, network, len(classes), size)
    provenance = {"adopted": {"network": kind}, "weights_sha256": weights_hash(network)}
    architecture = Architecture(name or kind, size)
    return Adopted(Classifier(network, classes, preprocess, architecture, provenance), _no_logits(kind, network, size))


def _no_logits(name: str, network: nn.Module, size: int) -> tuple[str, ...]:
    """A note where outputs are something else than logits."""
    fault = output_fault(network, torch.zeros(1, 3, size, size))
    if fault is None:
        return ()
    return (
        f"the outputs of {name} are {fault}, and are taken for logits here: take that last layer away, or its "
        "probabilities, loss and calibration will be wrong.",
    )


# -------------------------------------------------------------------------------------------------------- classes


def _imagenet(full: str, network: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """ImageNet's names for a library's network; UsageError for any other."""
    if is_own(full) or ":" not in full:
        raise UsageError(
            f"nobody says what the outputs of {network} mean: name its classes, in their order, with --classes "
            "FILE (one name a line), a folder of classes, or a dataset."
        )
    return class_names(CLASSES), ("no classes were named: its outputs are taken for ImageNet's 1000.",)


def read_classes(source: str, data_root: Path | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of outputs in their order, and notes: of a text or JSON file, or the classes of a folder or dataset.

    DataError for names that are empty, or fewer than two.
    """
    path = expanded(source)
    if source in DATASETS or not path.is_file() or path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        return find_images(source, DatasetOptions(data_root=data_root, need="classes")).class_names, ()
    with open_regular(path) as handle:
        data = handle.read(MAX_NAMES + 1)
    try:
        text = data.decode("utf-8-sig") if len(data) <= MAX_NAMES else ""
        if path.suffix.lower() in (".yaml", ".yml"):  # as YOLO's tools write it
            found: tuple[str, ...] = names_in(path)
        else:
            found = _of_json(path, text) if path.suffix.lower() == ".json" else _of_lines(text)
    except ValueError:
        raise DataError(f"{path} is no list of class names: it is neither text nor JSON.") from None
    return checked_names(found, str(path))


def checked_names(found: Sequence[str], source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names as they are shown, and notes: those that stand twice, as "crane" does in ImageNet, get their numbers.

    DataError where one is empty, or two are alike with their numbers too, or there are fewer than two.
    """
    names = tuple(visible(name.strip()) for name in found)
    if len(names) < 2:
        raise DataError(f"{source} names {len(names)} classes; a classifier needs two or more.")
    if "" in names:
        raise DataError(f"{source}: class {names.index('') + 1} has no name.")
    apart = told_apart(names)
    twice = [name for name, count in Counter(apart).items() if count > 1]
    if twice:
        raise DataError(f"{source} names the class {twice[0]!r} twice: each output needs a name of its own.")
    changed = [repr(name) for name, before in zip(apart, names, strict=True) if name != before]
    shown = ", ".join(changed[:4]) + (", ..." if len(changed) > 4 else "")
    note = f"{source} names several classes alike; they are told apart by their numbers: {shown}."
    return apart, (note,) if changed else ()


def _of_lines(text: str) -> tuple[str, ...]:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [_NUMBERED.fullmatch(line) for line in lines]  # "0 cat", "1: dog", as some tools write it
    names = tuple(found[2] for found in numbered if found)
    counted = [int(found[1]) for found in numbered if found] == list(range(len(lines)))
    return names if counted and len(set(names)) == len(lines) else tuple(lines)


def _of_json(path: Path, text: str) -> tuple[str, ...]:
    """A list of names; or which name an index has, or an index a name, perhaps within a Hugging Face config.json."""
    box = parse_bounded(text)
    if isinstance(box, Mapping):
        box = next((box[key] for key in ("id2label", "label_names", "classes", "class_names") if key in box), box)
    if isinstance(box, Mapping):
        by_index: dict[int, str] = {}
        for key, value in box.items():
            number, name = (key, value) if str(key).isdecimal() else (value, key)
            if isinstance(name, list):  # Keras' ["n01440764", "tench"]
                name = name[-1] if name else ""
            if not str(number).isdecimal() or not isinstance(name, str):
                raise DataError(f"{path} is no list of class names: {str(key)[:40]!r} has {str(value)[:40]!r}.")
            by_index[int(number)] = name
        if sorted(by_index) != list(range(len(by_index))):
            raise DataError(
                f"{path} names {len(by_index)} classes, and their numbers are not 0 to {len(by_index) - 1}."
            )
        return tuple(by_index[i] for i in range(len(by_index)))
    if not isinstance(box, list) or not all(isinstance(name, str) for name in box):
        raise DataError(f"{path} is no list of class names.")
    return tuple(box)


# --------------------------------------------------------------------------------------------------------- images


def preprocess_of(full: str, options: AdoptInPython) -> tuple[Preprocess, tuple[str, ...]]:
    """How images are taken: what the options say, else a file, else the library's own weights of that name."""
    given: dict[str, Any] = {
        name: value
        for name, value in (
            ("size", options.input_size),
            ("fit", options.fit),
            ("mean", options.mean),
            ("std", options.std),
            ("interpolation", options.interpolation),
            ("centre", options.centre),
        )
        if value is not None
    }
    _check_unit(options)
    if options.preprocess is not None:
        said = options.preprocess
        return replace(said if isinstance(said, Preprocess) else read_preprocess(expanded(said)), **given), ()
    base = library_preprocess(full)
    if base is None:
        asked = ("input_size", "mean", "std")
        missing = [f"--{name.replace('_', '-')}" for name in asked if getattr(options, name) is None]
        if missing:
            raise UsageError(
                f"nobody says how {full} takes its images: give {', '.join(missing)}, or a file with --preprocess."
            )
        return Preprocess(**given), ()
    told = [f"--{name.replace('size', 'input-size')}" for name in given]
    if "centre" not in given and base["centre"] < 1 and (options.fit not in (None, "crop") or "size" in given):
        base["centre"] = 1.0
        told.append("the whole image, and not its middle alone")
    found = Preprocess(**{**base, **given})
    if {"size", "mean", "std"} <= set(given):
        return found, ()
    library, _, name = full.partition(":")
    but = f", but for {', '.join(told)}" if told else ""
    note = (
        f"images are prepared as {library}'s own weights of {name} take them{but} ({found.size} pixels, {found.fit}, "
        f"centre {found.centre:.3g}, {found.interpolation}, mean {_short(found.mean)}, std {_short(found.std)}): if "
        "these were trained otherwise, say so with --input-size, --fit, --centre, --interpolation, --mean, --std or "
        "--preprocess."
    )
    return found, (note,)


def _check_unit(options: AdoptInPython) -> None:
    """UsageError for a mean and a deviation of pixels from 0 to 255, as some write them: here they are of 0 to 1."""
    given = {name: getattr(options, name) for name in ("mean", "std") if getattr(options, name) is not None}
    for name, values in given.items():
        if max(values) > 1:
            of_one = " ".join(f"--{n} {_short(tuple(v / 255 for v in vs))}" for n, vs in given.items())
            raise UsageError(
                f"--{name} {_short(values)} is of pixels from 0 to 255, and here they are 0 to 1: {of_one}."
            )


def _short(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3g}" for value in values)
