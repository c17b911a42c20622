"""The record of a watched training: what was seen of each layer at each look, and of the loop at each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from ..errors import DamagedFile
from ..schemas import Schema, check_schema
from ..tensor_files import commit_tensors, read_tensors
from .loop_signs import SIGNS

LEAST_SLOPE = 0.05  # of the greatest slope of a sigmoid or tanh: under it a unit is saturated

# The bins of |x|: zeros, then a factor of two each; what lies outside is counted with the first or last of them.
LOWEST, HIGHEST = -40, 16
BINS = HIGHEST - LOWEST + 2

# What is measured of each layer at each watched step; NaN where it has no meaning.
QUANTITIES = {
    "mean": "mean of the layer's output",
    "scale": "standard deviation of the layer's output",
    "zeros": "share of zeros in the layer's output",
    "dead": "share of a rectifier's channels that are zero for every image and place looked at",
    "saturated": f"share of a sigmoid's or tanh's values with a slope under {LEAST_SLOPE:.0%} of the greatest",
    "before_mean": "mean of what a norm is given",
    "before_scale": "standard deviation of what a norm is given",
    "training": "1 where a norm uses the batch's statistics, 0 where it uses running ones",
    "gradient": "root mean square of the loss's gradient at the output of a layer with filters or a matrix",
    "weight_gradient": "norm of the loss's gradient for the layer's weight, before any clipping",
    "weight": "norm of the layer's weight before the step",
    "update": "norm of the weight's change in the step over the norm of the weight",
}


class _WatchedMeta(Schema):
    kind: Literal["watched"]
    layers: list[str]
    every: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Watched:
    """A training as it was watched: T looks at L layers in the order of their calls, S steps in all.

    ``steps`` int64 (T,) from 0; ``values`` maps the names of QUANTITIES to float32 (T, L); ``bins`` int32 (T, L, 2,
    BINS): of output and gradient, how many values looked at fall into which factor of two. ``losses`` float64 (S,) and
    ``rates`` float64 (S,), NaN where they were not told; a loss that was no number is infinite. ``signs`` maps the
    names of SIGNS to float32 (S,).
    """

    layers: tuple[str, ...]
    steps: np.ndarray
    values: dict[str, np.ndarray]
    bins: np.ndarray
    losses: np.ndarray
    rates: np.ndarray
    every: int
    signs: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, quantity: str, having: str | None = None) -> tuple[tuple[str, ...], np.ndarray]:
        """The layers where a quantity (or ``having``) has a meaning, and its values there: float32 (T, l)."""
        known = np.flatnonzero(~np.isnan(self.values[having or quantity]).all(axis=0))
        return tuple(self.layers[i] for i in known), self.values[quantity][:, known]

    def all_signs(self) -> dict[str, np.ndarray]:
        """The signs of each step, NaN throughout in a record of a version that saw none."""
        return {name: self.signs.get(name, np.full(len(self.losses), np.nan, np.float32)) for name in SIGNS}

    def save(self, path: Path) -> None:
        """Write it as one sealed safetensors file. Raises StorageError."""
        tensors = {f"values/{name}": torch.from_numpy(v) for name, v in self.values.items()}
        tensors |= {name: torch.from_numpy(getattr(self, name)) for name in ("steps", "bins", "losses", "rates")}
        tensors |= {f"signs/{name}": torch.from_numpy(v) for name, v in self.signs.items()}
        commit_tensors(path, tensors, {"kind": "watched", "layers": list(self.layers), "every": self.every})

    @staticmethod
    def load(path: Path) -> Watched:
        """Read what ``save`` wrote. Raises DamagedFile."""
        tensors, meta = read_tensors(path)
        said = check_schema(_WatchedMeta, meta, path, "a record of a training")
        looks, layers = len(tensors.get("steps", ())), len(said.layers)
        shapes = {f"values/{name}": (looks, layers) for name in QUANTITIES} | {"bins": (looks, layers, 2, BINS)}
        shapes |= {"steps": (looks,), "losses": (n := len(tensors.get("losses", ())),), "rates": (n,)}
        shapes |= {f"signs/{name}": (n,) for name in SIGNS if f"signs/{name}" in tensors}  # earlier versions had fewer
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
            raise DamagedFile(f"{path} is not a record of a training: its tensors are not those of one.")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        values = {name: arrays[f"values/{name}"] for name in QUANTITIES}
        rest = {name: arrays[name] for name in ("steps", "bins", "losses", "rates")}
        signs = {name: arrays[f"signs/{name}"] for name in SIGNS if f"signs/{name}" in arrays}
        return Watched(tuple(said.layers), values=values, every=said.every, signs=signs, **rest)


def up_to(watched: Watched, steps: int) -> Watched:
    """The part seen in the first ``steps`` updates: for a training that goes on from an earlier checkpoint."""
    kept = watched.steps < steps
    parts: dict[str, Any] = {"values": {q: v[kept] for q, v in watched.values.items()}}
    parts |= {"steps": watched.steps[kept], "bins": watched.bins[kept]}
    parts |= {"signs": {name: v[:steps] for name, v in watched.signs.items()}}
    parts |= {"losses": watched.losses[:steps], "rates": watched.rates[:steps]}
    return Watched(watched.layers, every=watched.every, **parts)
