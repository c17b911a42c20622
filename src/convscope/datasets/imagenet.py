"""The names of ImageNet's classes, as timm has them: the order is that of every pretrained network."""

from __future__ import annotations

import importlib

from .table import told_apart

CLASSES = 1000


def class_names(count: int) -> tuple[str, ...]:
    """ImageNet's names for 1000 outputs, else "output 0" and so on. Two are "crane", and get their numbers."""
    if count != CLASSES:
        return tuple(f"output {i}" for i in range(count))
    info = importlib.import_module("timm.data").ImageNetInfo()
    return told_apart(tuple(info.index_to_description(i) for i in range(CLASSES)))
