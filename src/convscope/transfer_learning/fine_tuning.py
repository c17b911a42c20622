"""Fine-tuning: which parameters move, how fast at which depth, and which batch norms stay as they were."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UsageError
from ..models.heads import head_place
from ..models.pixel_network import MapNetwork

DEPTH_FACTOR = 0.6  # of the rate, for each stage further from the top
GROUPED = re.compile(r"^(blocks|layers|stages|features|encoder)\.(\d+)|^layer(\d+)")
REACHES = ("last stage", "full")


@dataclass(frozen=True)
class Tuning:
    """What fine-tuning moves: ``scales`` are factors of the rate by parameter's name (the others stand still), and
    ``frozen`` the modules that stay in evaluation mode."""

    scales: dict[str, float]
    frozen: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]

    def sentence(self) -> str:
        """Tell what is frozen, in words."""
        return (
            f"{len(self.scales)} tensors are trained; the running statistics of {len(self.frozen)} batch norms stay "
            "those of the pretrained network."
        )


def stages_of(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The parameters' names by stage, from the image to the top; the head is not among them.

    A stage is a numbered group of modules (``layer3``, ``blocks.5``); what comes before the first one is a stage of its
    own, what comes after the last belongs to that. A network without such groups is one stage a module.
    """
    head = head_name(network)
    groups: dict[str, list[str]] = {}
    names = [name for name, _ in network.named_parameters() if not name.startswith(f"{head}.")]
    numbered = any(GROUPED.match(name.removeprefix("body.")) for name in names)
    current = "stem"
    for name in names:
        match = GROUPED.match(name.removeprefix("body."))
        if match:
            current = match[0]
        elif not numbered:
            current = name.rpartition(".")[0]
        groups.setdefault(current, []).append(name)
    return tuple(tuple(group) for group in groups.values())


def head_name(network: nn.Module) -> str:
    """The module that a network ends in. UsageError where there is none."""
    return "head" if isinstance(network, MapNetwork) else head_place(network)[0]


def tune(network: nn.Module, reach: str) -> Tuning:
    """Set which parameters of a network move: the head and the "last stage", or "full" all, slower by depth.

    Every batch norm keeps its running statistics: those of a few images are worse. UsageError for another reach.
    """
    if reach not in REACHES:
        raise UsageError(f"fine-tuning reaches the {' or '.join(REACHES)}, not {reach!r}.")
    stages, head = stages_of(network), head_name(network)
    scales = {name: 1.0 for name, _ in network.named_parameters() if name.startswith(f"{head}.")}
    moving = stages[-1:] if reach == "last stage" else stages
    for depth, stage in enumerate(reversed(moving)):
        scales |= dict.fromkeys(stage, DEPTH_FACTOR**depth)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in scales)
    frozen = tuple(name for name, module in network.named_modules() if isinstance(module, _BatchNorm))
    return Tuning(scales, frozen, stages)
