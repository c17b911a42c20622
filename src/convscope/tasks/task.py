"""What a task is: what is asked of an image, what a network's outputs are worth against it, and which heads learn it.

A batch's outputs and targets are boiled down to one tally an image, which is all that scores are made of; so a
thousand masks take no more memory than their counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from ..classifying.intervals import Interval
from ..datasets.targets import Targets
from ..images.preprocess import Preprocess

DRAWS = 1000  # of a bootstrap
Shape = tuple[int, ...]  # of the features of one image
Solve = Callable[[Tensor, Tensor, float], nn.Module]


@dataclass(frozen=True)
class Score:
    """What outputs are worth: the task's first ``figure`` with its interval, all ``figures``, and one an image.

    ``each`` (N,) is that of every image, larger is better: by it two ways are compared and the worst images found.
    ``groups`` (N,): images of one group, such as a video, say less than as many of different ones.
    """

    figure: Interval
    figures: Mapping[str, Any]
    each: np.ndarray
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class HeadKind:
    """A head and how it is trained: solved at once for each of ``strengths``, or by ``epochs`` of the training loop.

    ``options`` are those of the network's architecture. ``make`` takes the shapes of the features and the number of
    outputs; ``solve`` features (N, C), targets (N, ...) and a strength, and returns the head that they give.
    """

    name: str
    options: Mapping[str, Any]
    make: Callable[[list[Shape], int], nn.Module]
    solve: Solve | None = None
    strengths: tuple[float, ...] = ()
    epochs: int = 0
    rate: float = 0.0
    batch: int = 8


@dataclass(frozen=True, kw_only=True)
class Task:
    """An entry of TASKS.

    ``asks`` says in words what an image is asked, ``metric`` names the first figure, ``better`` which way it goes.
    ``tensor`` gives the targets of the images at an index, as the network sees these; ``outputs`` how many numbers a
    network gives an image, or a pixel. ``tally`` boils a batch down, float64 (B, ...), ``score`` takes the tallies
    (N, ...), the names, the settings, and a group for each image if there are some. ``settings`` are what turns
    outputs into answers, found on tallies of validation images. ``check`` takes the targets of the training and of
    the validation images and returns notes, or raises DataError. Heads live on maps at these ``strides``, and else
    on what the last linear layer is given; ``size`` is then that of images, unless another is asked for. ``mirrored``
    mirrors the targets of images of a side in pixels. With ``has_curve`` a transfer says what more images would add.
    """

    name: str
    asks: str
    better: Literal["higher", "lower"]
    metric: Callable[[tuple[str, ...]], str]
    tensor: Callable[[Targets, np.ndarray, Preprocess], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    tally: Callable[[Tensor, Tensor], np.ndarray]
    score: Callable[[np.ndarray, tuple[str, ...], Mapping[str, Any], np.ndarray | None], Score]
    check: Callable[[Targets, Targets], list[str]]
    settings: Callable[[np.ndarray], dict[str, Any]] = lambda tallies: {}
    scaled: bool = False  # heads learn targets less their mean, over their deviation
    heads: tuple[HeadKind, ...] = ()
    strides: tuple[int, ...] = ()
    has_curve: bool = False
    size: int = 0
    mirrored: Callable[[Tensor, int], Tensor] = lambda targets, side: targets

    def is_better(self, one: float, other: float) -> bool:
        """Whether a figure is better than another."""
        return one > other if self.better == "higher" else one < other


def a_few(names: Sequence[str]) -> str:
    """The first four names, and whether there are more."""
    return ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")


def resamples(n: int, groups: np.ndarray | None, seed: int = 0) -> np.ndarray:
    """How often each image stands in each of DRAWS bootstrap samples, float64 (DRAWS, n); groups are drawn whole."""
    names, place = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    return drawn[:, place].astype(np.float64)


def interval_of(value: float, draws: np.ndarray, n: int) -> Interval:
    """A figure with the percentile interval (Efron 1979) of its values in bootstrap samples; those without are left."""
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (value, value)
    return Interval(float(value), float(low), float(high), n, method="bootstrap")


def ends(name: str, interval: Interval) -> dict[str, float | None]:
    """A figure and its limits under three keys; None for what is no number, which JSON cannot hold."""
    values = {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
