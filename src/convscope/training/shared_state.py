"""The state of a training handed from the first process to the others, so that all go on from the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .loop import TrainState
from .ranks import Team
from .runs import restore_state, state_tensors


def described(state: TrainState) -> dict[str, Any]:
    """What the others have to know of the state before they are given it, as JSON values."""
    tensors, counters = state_tensors(state)
    shapes = [[n, str(t.dtype).removeprefix("torch."), list(t.shape), t.device.type] for n, t in tensors.items()]
    return {"tensors": shapes, "counters": counters}


def hand_over(state: TrainState, team: Team) -> None:
    """Give the others the state of this process."""
    team.share(list(state_tensors(state)[0].values()))


def take_over(state: TrainState, team: Team, told: Mapping[str, Any]) -> None:
    """Take the state of the first process, which was ``told`` by ``described``."""
    tensors = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device=team.device if kind != "cpu" else "cpu")
        for name, dtype, shape, kind in told["tensors"]
    }
    team.share(list(tensors.values()))
    restore_state(state, tensors, dict(told["counters"]), Path("rank 0"))
