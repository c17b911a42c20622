"""Networks of torchvision and timm by name, to be trained from scratch: ``resnet50``, or ``timm:resnet10t`` in full.

Neither library is needed for anything else, and neither is imported until such a name is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType

from torch import nn

from ..errors import UnknownName, UsageError

AUXILIARY = ("googlenet", "inception_v3")  # of torchvision: they output more than logits unless told not to


def resolve(name: str) -> str | None:
    """``source:name`` for a name of torchvision's or timm's, with or without its source; None for any other.

    torchvision's comes first where both have one. UsageError for a source that is not installed.
    """
    source, colon, rest = name.partition(":")
    if colon:
        if source not in SOURCES:
            return None
        library = _library(source)
        if library is None:
            raise UsageError(f"{name} is {source}'s, which is not installed: pip install {source}.")
        if rest not in _names(source, library):
            raise UnknownName(f"model of {source}", rest, _names(source, library))
        return name
    for candidate in SOURCES:
        library = _library(candidate)
        if library is not None and name in _names(candidate, library):
            return f"{candidate}:{name}"
    return None


def build_foreign(full_name: str, num_classes: int, image_size: int) -> nn.Module:
    """The freshly initialised network of a name that ``resolve`` returned; UsageError where it cannot be built."""
    source, _, name = full_name.partition(":")
    library = _library(source)
    if library is None:
        raise UsageError(f"{full_name} is {source}'s, which is not installed: pip install {source}.")
    try:
        return SOURCES[source](library, name, num_classes, image_size)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{source} cannot build {name} for images of {image_size} pixels: {reason}") from error


def _torchvision(library: ModuleType, name: str, num_classes: int, image_size: int) -> nn.Module:
    options: dict[str, object] = {"num_classes": num_classes}
    if name in AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    return library.models.get_model(name, weights=None, **options)


def _timm(library: ModuleType, name: str, num_classes: int, image_size: int) -> nn.Module:
    usual = library.get_pretrained_cfg(name)
    sized = {"img_size": image_size} if usual is not None and usual.fixed_input_size else {}
    return library.create_model(name, pretrained=False, num_classes=num_classes, **sized)


SOURCES: dict[str, Callable[[ModuleType, str, int, int], nn.Module]] = {"torchvision": _torchvision, "timm": _timm}


def _library(source: str) -> ModuleType | None:
    return importlib.import_module(source) if importlib.util.find_spec(source) else None


def _names(source: str, library: ModuleType) -> list[str]:
    if source == "torchvision":
        return library.models.list_models(module=library.models)
    return library.list_models()
