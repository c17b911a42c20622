"""Which network a classifier is, by name and options, and the weights that go into it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import ConvscopeError, DamagedFile, ForeignFile, UsageError
from ..machine import device_of
from ..tensor_files import SealedHeader, read_foreign_tensors, read_tensors, tensor_hash
from .fitting_weights import DTYPES, is_counter, misfits, misfits_unbuilt, size_unbuilt, unusable
from .memory_format import channels_last, laid_out
from .registry import MODELS, build, full_name
from .taps import evaluating
from .user_network import is_own, source_hash

MOST_RECORDED = 100_000_000  # parameters of a network that a record describes and no weights show: 400 MB


# What torch says of an image (1, 3, S, S) that a convolution takes no channels of.
OTHER_CHANNELS = re.compile(r"expected input\[1, 3, \d+, \d+\] to have (\d+) channels, but got 3")


@dataclass(frozen=True)
class Architecture:
    """How a network is built again: a name of MODELS (or ``module.py:function``), its options, the image's side."""

    name: str
    image_size: int
    options: dict[str, Any] = field(default_factory=dict)
    source: str | None = None  # SHA-256 of the user's own module

    def build(self, num_classes: int, seed: int = 0) -> torch.nn.Module:
        """The network, freshly initialised, in channels-last memory where it can be; no generator is moved."""
        network = build(self.name, num_classes, self.image_size, self.options, seed=seed)
        return laid_out(network, self.image_size) if is_own(self.name) else channels_last(network)


def weights_hash(network: torch.nn.Module, without: str | None = None) -> str:
    """The SHA-256 of all that a network's answers depend on: its weights and running statistics.

    ``without`` is a module to leave out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        left_out = without is not None and name.startswith(f"{without}.")
        if not left_out and not is_counter(name):
            digest.update(tensor_hash(name, tensor).encode())
    return digest.hexdigest()


def architecture_of(
    name: str, image_size: int, options: Mapping[str, Any], num_classes: int
) -> tuple[Architecture, torch.nn.Module]:
    """The architecture a recipe asks for, and one network of it to check that it can be built. UsageError otherwise."""
    given = {k: v for k, v in options.items() if v is not None}
    architecture = Architecture(full_name(name), image_size, given, source_hash(name) if is_own(name) else None)
    network = architecture.build(num_classes)
    if name not in MODELS:
        check_foreign(name, network, num_classes, image_size)
    return architecture, network


def shown_an_image(name: str, network: torch.nn.Module, image_size: int) -> Any:
    """What a network outputs for one image of that size; UsageError where it cannot take it."""
    image = torch.zeros(1, 3, image_size, image_size, device=device_of(network))
    with evaluating(network), torch.no_grad():
        try:
            return network(image)
        except ConvscopeError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            channels = OTHER_CHANNELS.search(reason)
            if channels:
                raise UsageError(
                    f"{name} takes images of {channels[1]} channel{'s' * (channels[1] != '1')}, and here they have "
                    "three: give it a first layer of three, or one before it that makes the one of the other."
                ) from error
            raise UsageError(f"{name} cannot take images of {image_size} pixels: {reason}") from error


def check_foreign(name: str, network: torch.nn.Module, num_classes: int, image_size: int) -> None:
    """Show a network that is not ours one image: UsageError where it cannot take it, or outputs no logits."""
    logits_BK = shown_an_image(name, network, image_size)
    if not isinstance(logits_BK, torch.Tensor):
        what = type(logits_BK).__name__
        raise UsageError(
            f"{name} must output (1, {num_classes}) logits for one image, and outputs a {what}: let its forward return "
            "the logits in it."
        )
    shape = tuple(logits_BK.shape)
    if shape != (1, num_classes):
        raise UsageError(
            f"{name} must output (1, {num_classes}) logits for one image, one for each of {num_classes} classes, and "
            f"outputs {shape}."
        )


def architecture_from(stored: Mapping[str, Any], path: Path, model: str | None) -> Architecture:
    """The architecture of a checked description; code of a user's own only as ``model`` names it again."""
    architecture = Architecture(**stored)
    return replace(architecture, name=named_again(architecture.name, str(path), model))


def named_again(recorded: str, record: str, model: str | None) -> str:
    """The network to build for one that a record names: code of a user's own runs only when ``model`` names it again.

    A ``model`` that is a file alone stands for the function in it that the record names. UsageError without one. The
    same is needed of a network that was handed over in memory.
    """
    if recorded in MODELS or (":" in recorded and not is_own(recorded)):
        return recorded
    if not is_own(recorded):
        if model is None or not is_own(model):
            raise UsageError(
                f"{record} holds the weights of {recorded}, which was handed over in memory: name the code that builds "
                "it with --model FILE.py:FUNCTION."
            )
        return model
    if model is None:
        raise UsageError(f"{record} was trained on your own net {recorded}; name it with --model to run that code.")
    return f"{model}:{recorded.rpartition(':')[2]}" if model.endswith(".py") else model


def check_described(architecture: Architecture, num_classes: int, header: SealedHeader, path: Path) -> None:
    """Compare what a file says of its network with its tensors, before any is read; DamagedFile where they differ.

    A network of a user's own is not made twice: ``load_weights`` compares it.
    """
    if is_own(architecture.name):
        return
    told = {name: (DTYPES.get(dtype), shape) for name, (dtype, shape) in header.tensors.items()}
    wrong = misfits_unbuilt(architecture.name, num_classes, architecture.image_size, architecture.options, told)
    _refuse(wrong, path)


def check_recorded(architecture: Architecture, num_classes: int, record: str) -> None:
    """UsageError where a record without weights describes a network too large to be built on its word alone."""
    if is_own(architecture.name):
        return
    count = size_unbuilt(architecture.name, num_classes, architecture.image_size, architecture.options)
    if count > MOST_RECORDED:
        raise UsageError(
            f"{record} describes {architecture.name} with {count:,} parameters and has no weights of it, so it is not "
            f"built: more than {MOST_RECORDED:,} are not built on a record's word."
        )


def _refuse(wrong: list[str], path: Path) -> None:
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DamagedFile(f"{path} holds the weights of another network: {'; '.join(wrong[:3])}{more}.")


def load_weights(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put weights into a network, all or none; DamagedFile lists the first names and shapes that do not fit.

    DamagedFile too for values that are infinite or no numbers.
    """
    _refuse(misfits(network, {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()}), path)
    broken = unusable(tensors)
    if broken:
        raise DamagedFile(f"{path} cannot be used: {broken}.")
    counters = {name: t for name, t in network.state_dict().items() if is_counter(name)}
    network.load_state_dict({**counters, **tensors})


def load_weight_file(network: torch.nn.Module, path: Path) -> None:
    """Put the weights of any safetensors file into a network; a classifier of ours is verified as one.

    The prefix "module." that data-parallel training leaves on names is taken off.
    """
    try:
        tensors, _ = read_tensors(path)
    except ForeignFile:
        tensors = {name.removeprefix("module."): t for name, t in read_foreign_tensors(path).items()}
    load_weights(network, tensors, path)
