"""A number an image. Scored by the mean absolute error; an answer is an interval, by split conformal prediction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..classifying.intervals import wilson
from ..datasets.asked import ASKED
from ..datasets.targets import Numbers, Targets
from ..errors import DataError
from ..images.preprocess import Preprocess
from .multi_label import make
from .task import HeadKind, Score, Task, ends, interval_of, resamples

FEW_DIGITS = 1e-13  # of the numbers: a spread below it is what rounding left of none
COVERAGE = 0.9  # of the truth by the intervals that are answered
STRENGTHS = tuple(float(c) for c in np.logspace(-5, 2, 8))


def tensor(targets: Targets, index: np.ndarray, preprocess: Preprocess) -> Tensor:
    """Numbers float32 (B, 1)."""
    assert isinstance(targets, Numbers)
    return torch.from_numpy(targets.values[index]).float()[:, None]


def loss(outputs_B1: Tensor, numbers_B1: Tensor) -> Tensor:
    """The mean squared error."""
    return F.mse_loss(outputs_B1, numbers_B1)


def tally(outputs_B1: Tensor, numbers_B1: Tensor) -> np.ndarray:
    """What is answered and what is true, (B, 2)."""
    return torch.cat([outputs_B1.double(), numbers_B1.double()], 1).cpu().numpy()


def score(
    tallies_N2: np.ndarray, names: tuple[str, ...], settings: Mapping[str, Any], groups: np.ndarray | None = None
) -> Score:
    """The mean absolute error, R2, by how much it is below that of the training mean, and what intervals cover."""
    if not len(tallies_N2):
        raise DataError("no images to evaluate")
    n, guess, truth = len(tallies_N2), tallies_N2[:, 0], tallies_N2[:, 1]
    error, drawn = np.abs(guess - truth), resamples(len(tallies_N2), groups)
    total = drawn.sum(1)
    figure = interval_of(float(error.mean()), drawn @ error / total, n)
    figures: dict[str, Any] = {**ends("mae", figure), "n": n, "rmse": float(np.sqrt((error**2).mean()))}
    figures |= ends("r2", interval_of(_r2(np.ones((1, n)), guess, truth)[0], _r2(drawn, guess, truth), n))
    if "mean" in settings:
        plain = np.abs(truth - settings["mean"])
        better = interval_of(float((plain - error).mean()), drawn @ (plain - error) / total, n)
        figures |= {"mean_mae": float(plain.mean()), **ends("mae_lowered", better)}
    if settings.get("half_width") is not None:
        inside = wilson(int((error <= settings["half_width"]).sum()), n)
        figures |= {"half_width": settings["half_width"], "aimed_coverage": COVERAGE, **ends("coverage", inside)}
    return Score(figure, figures, -error, groups)


def _r2(weights_RN: np.ndarray, guess_N: np.ndarray, truth_N: np.ndarray) -> np.ndarray:
    """The share of the variance that is explained, in each sample; NaN where all the numbers are one.

    Numbers are taken about their mean, in units of the farthest from it: a spread of 1e-9, or of 1 about 1e9, is one.
    """
    about = truth_N - truth_N.mean()
    unit = float(np.abs(about).max())
    if not unit > FEW_DIGITS * float(np.abs(truth_N).max()):
        return np.full(len(weights_RN), np.nan)
    about, error = about / unit, (truth_N - guess_N) / unit
    total = weights_RN.sum(1)
    spread = weights_RN @ about**2 - (weights_RN @ about) ** 2 / total
    left = weights_RN @ error**2
    return 1 - np.divide(left, spread, out=np.full(len(left), np.nan), where=spread > FEW_DIGITS * total)


def settings(tallies_N2: np.ndarray) -> dict[str, Any]:
    """The half width of intervals that hold the truth of a new image with probability COVERAGE at least.

    Split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018): the ceil((n + 1) COVERAGE)-th smallest
    error of images that nothing was fitted to. None where there are too few to promise that.
    """
    errors = np.sort(np.abs(tallies_N2[:, 0] - tallies_N2[:, 1]))
    rank = _rank(len(errors))
    return {"half_width": float(errors[rank - 1]) if rank <= len(errors) else None}


def _rank(n: int) -> int:
    return math.ceil((n + 1) * COVERAGE - 1e-9)  # 9.000000000000002 is nine


def check(train: Targets, val: Targets) -> list[str]:
    """DataError where all numbers are one; a note where there are too few images for an interval."""
    assert isinstance(train, Numbers)
    if np.ptp(train.values) == 0:
        raise DataError(f"{train.name} is {train.values[0]:g} for every training image: there is nothing to learn.")
    least = next(n for n in itertools.count(1) if _rank(n) <= n)
    if len(val) >= least:
        return []
    return [f"{len(val)} validation images are too few for intervals: {100 * COVERAGE:.0f} % need {least}."]


def solve(features_NC: Tensor, numbers_N1: Tensor, strength: float) -> nn.Module:
    """Ridge regression: the least of the squared errors plus the squared weights over ``strength`` times the spread."""
    features, numbers = features_NC.double(), numbers_N1.double()
    mean, level = features.mean(0), numbers.mean(0)
    inputs = features - mean
    gram = inputs @ inputs.T
    penalty = gram.diagonal().mean().clamp(min=1e-12) / strength
    dual = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), numbers - level)
    weight = (inputs.T @ dual).T
    head = nn.Linear(features.shape[1], 1)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(level - weight @ mean)
    return head


TASK = Task(
    name="regression",
    asks=ASKED["regression"],
    better="lower",
    metric=lambda names: "mae",
    tensor=tensor,
    loss=loss,
    tally=tally,
    score=score,
    settings=settings,
    check=check,
    scaled=True,
    heads=(
        HeadKind("ridge", {}, partial(make, "linear"), solve, STRENGTHS),
        HeadKind("FCNN", {"head": "fcnn"}, partial(make, "fcnn"), epochs=40, rate=1e-3, batch=32),
    ),
)
