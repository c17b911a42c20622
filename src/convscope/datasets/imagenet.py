"""The names of ImageNet's classes, as timm has them: the order is that of every pretrained network."""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

from .synsets import SYNSET, names_beside
from .table import told_apart
from .unsplit import Unsplit

CLASSES = 1000


def class_names(count: int) -> tuple[str, ...]:
    """ImageNet's names for 1000 outputs, else "output 0" and so on. Two are "crane", and get their numbers."""
    if count != CLASSES:
        return tuple(f"output {i}" for i in range(count))
    info = importlib.import_module("timm.data").ImageNetInfo()
    return told_apart(tuple(info.index_to_description(i) for i in range(CLASSES)))


@functools.cache
def names_by_synset() -> dict[str, str]:
    """The same names by WordNet's numbers, which folders of ImageNet are called by: {"n01440764": "tench, ..."}."""
    info = importlib.import_module("timm.data").ImageNetInfo()
    return {info.index_to_label_name(i): name for i, name in enumerate(class_names(CLASSES))}


def readable(unsplit: Unsplit, root: Path) -> Unsplit:
    """Classes that are called by WordNet's numbers under their names, where a table of these lies beside the images.

    The thousand of the challenge are called as pretrained networks call them; of two alike each keeps its number.
    """
    if not all(map(SYNSET.fullmatch, unsplit.class_names)):
        return unsplit
    told = names_beside(root)
    if told is None:
        return unsplit
    known = told | names_by_synset()
    names = [known.get(synset, synset) for synset in unsplit.class_names]
    often = Counter(names)
    apart = (f"{n} ({s})" if often[n] > 1 else n for n, s in zip(names, unsplit.class_names, strict=True))
    return replace(unsplit, class_names=tuple(apart))
