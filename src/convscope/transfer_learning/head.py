"""Multinomial logistic regression on recorded features: the whole path of strengths, cross-validated, in seconds.

The objective is scikit-learn's: 1/2 |W|^2 + C sum_i s_i CE_i, biases free. Features are standardised and rotated onto
the eigenvectors of their Gram matrix once; all folds of a strength then share each pass over the data as columns of
one matrix product, and each strength starts from the one before. The solver is L-BFGS (Liu and Nocedal 1989,
https://doi.org/10.1007/BF01589116), preconditioned by the Gram matrix's eigenvalues as in Boehning's bound (1992,
https://doi.org/10.1007/BF00048682), with an exact line search, which costs no pass over the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..classifying.intervals import Interval, wilson
from ..errors import DataError
from ..progress import Counted
from ..randomness import mix
from ..training.batches import balanced

STRENGTHS = (1.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 1e4)  # C times the number of images; larger regularises less
FOLDS = 5
WORSE = 1.1
MEMORY = 12  # pairs of L-BFGS
PASSES = 500
GAP = 1e-7  # a problem is solved when twice the preconditioned decrement is this share of its objective
LINE_STEPS = 6
LINE_GAP = 0.02
RESTART = 50  # passes after which the logits are computed anew, against rounding


@dataclass(frozen=True)
class LinearHead:
    """A linear head on raw features: logits (N, K) are features (N, C) @ ``weight`` (K, C).T + ``bias`` (K,).

    ``path`` holds one row a strength; ``chosen`` is the strength of the least cross-entropy on held-out folds.
    """

    weight: Tensor
    bias: Tensor
    chosen: float
    path: tuple[Strength, ...]
    passes: int


@dataclass(frozen=True)
class Strength:
    """What cross-validation says of one strength C: ``top1`` with its interval and cross-entropy in nats, on images
    that the head of their fold was not trained on, its ``logits`` (N, K), and ``correct`` (N,), those it knew."""

    C: float
    top1: Interval
    loss: float
    correct: np.ndarray
    logits: Tensor


@dataclass(frozen=True)
class Standard:
    """Features brought to mean 0 and deviation 1: ``mean`` and ``std`` (C,); a constant feature is divided by 1."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(features_NC: Tensor) -> Standard:
        """Measured on features, in float64."""
        mean = features_NC.mean(0, dtype=torch.float64)
        variance = torch.zeros_like(mean)
        for block in features_NC.split(4096):
            variance += (block.double() - mean).square().sum(0)
        std = (variance / len(features_NC)).sqrt()
        return Standard(mean.float(), torch.where(std > 1e-7 * std.max(), std, 1.0).float())

    def __call__(self, features_NC: Tensor) -> Tensor:
        return (features_NC - self.mean) / self.std

    def undone(self, weight_KC: Tensor, bias_K: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a linear layer on standardised features, for raw ones."""
        raw = weight_KC / self.std
        return raw, bias_K - raw @ self.mean


def folds_of(keys_N: np.ndarray, labels_N: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """The fold of each image, int64 (N,): stratified, copies of one image (equal keys) together, by content."""
    fold = np.empty(len(keys_N), np.int64)
    rank = mix(keys_N, seed, 0x666F6C64)
    for label in np.unique(labels_N):
        mine = np.flatnonzero(labels_N == label)
        _, group = np.unique(rank[mine], return_inverse=True)  # by rank, so in an order that content decides
        fold[mine] = (group + label) % folds
    return fold


def train_head(  # noqa: PLR0913 - what a head is trained on, and five options
    features_NC: Tensor,
    labels_N: Tensor,
    classes: int,
    keys_N: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    folds: int = FOLDS,
    balance: bool = False,
    scored: int | None = None,
    progress: Counted | None = None,
) -> LinearHead:
    """Choose the strength by cross-validation and train on all images with it. DataError for fewer than 2 images.

    ``keys_N`` (uint64) keep the copies of an image in one fold; with fewer images than folds there are fewer folds.
    ``strengths`` are values of C; by default STRENGTHS over the number of images. With no ``folds`` the first is
    taken. ``scored``: how many of the images, the first ones, are scored, where those behind are copies of them.
    ``progress`` is told of how many fits how many are done: one a strength, and the last.
    """
    if len(features_NC) < 2:
        raise DataError(f"a head needs two images to train on, and there is {len(features_NC)}.")
    standard = Standard.of(features_NC)
    weights = balanced(labels_N.numpy(), classes)[labels_N] if balance else torch.ones(len(labels_N))
    problem = Problem(standard(features_NC), labels_N, classes, weights)
    strengths = [s / len(labels_N) for s in STRENGTHS] if strengths is None else strengths
    path, start, chosen = (), None, strengths[0]
    if folds:
        fold = torch.from_numpy(folds_of(keys_N, labels_N.numpy(), max(2, min(folds, int(np.unique(keys_N).size)))))
        found, solutions = cross_validate(problem, fold, strengths, scored, progress=progress)
        path = tuple(found)
        best = min(range(len(path)), key=lambda i: (path[i].loss, path[i].C))
        start, chosen = solutions[best].mean(1, keepdim=True), path[best].C
        if progress:
            progress(len(strengths), len(strengths) + 1)
    solution = problem.solve(chosen, torch.ones(len(labels_N), 1), start)
    weight, bias = standard.undone(*problem.layer(solution[:, 0]))
    return LinearHead(weight, bias, chosen, path, problem.passes)


def cross_validate(  # noqa: PLR0913 - what is fitted, and three options
    problem: Problem,
    fold_N: Tensor,
    strengths: Sequence[float],
    scored: int | None = None,
    worse: float = WORSE,
    progress: Counted | None = None,
) -> tuple[list[Strength], list[Tensor]]:
    """One Strength, and the solutions (R, J, K) of the J folds, for each strength, from strong to weak.

    It ends where the cross-entropy is ``worse`` times the least: what regularises less takes longer and is worse.
    """
    used_NJ = fold_N[:, None] != torch.arange(int(fold_N.max()) + 1)
    solution = None
    path, solutions = [], []
    for done, C in enumerate(sorted(strengths)):
        if progress:
            progress(done, len(strengths) + 1)
        solution = problem.solve(C, used_NJ.float(), solution)
        logits = problem.logits(solution)[torch.arange(len(fold_N)), fold_N][:scored]
        labels = problem.labels[:scored]
        correct = (logits.argmax(1) == labels).numpy()
        loss = float(torch.nn.functional.cross_entropy(logits.double(), labels))
        path.append(Strength(C, wilson(int(correct.sum()), len(correct)), loss, correct, logits))
        solutions.append(solution)
        if loss > worse * min(found.loss for found in path):
            break
    return path, solutions


class Problem:
    """Standardised features (N, C), rotated once, with labels and weights: solves many regularised fits at a time.

    A solution is (R, J, K): R - 1 rotated features and the bias, J problems, K classes; so nothing is ever transposed.
    """

    def __init__(self, features_NC: Tensor, labels_N: Tensor, classes: int, weights_N: Tensor) -> None:
        self.labels, self.classes, self.weights = labels_N, classes, weights_N
        spread, self.basis = _eigen(features_NC)
        rotated = features_NC @ self.basis
        self.features = torch.cat([rotated, torch.ones(len(rotated), 1)], 1)
        self.spread = torch.cat([spread, torch.full((1,), float(len(rotated)))])[:, None, None]
        self.ridge = torch.cat([torch.ones_like(spread), torch.zeros(1)])[:, None, None]
        self.passes = 0

    def layer(self, solution_RK: Tensor) -> tuple[Tensor, Tensor]:
        """The solution of one problem as a linear layer's weight (K, C) and bias (K,)."""
        return (self.basis @ solution_RK[:-1]).T.contiguous(), solution_RK[-1]

    def logits(self, solution_RJK: Tensor) -> Tensor:
        """(N, J, K) of solutions."""
        self.passes += 1
        wide = self.features @ solution_RJK.reshape(len(solution_RJK), -1)
        return wide.view(len(wide), *solution_RJK.shape[1:])

    def transposed(self, residual_NJK: Tensor) -> Tensor:
        """(R, J, K): the sums over images of feature times residual."""
        self.passes += 1
        wide = self.features.T @ residual_NJK.reshape(len(residual_NJK), -1)
        return wide.view(len(wide), *residual_NJK.shape[1:])

    def solve(self, C: float, used_NJ: Tensor, start: Tensor | None = None) -> Tensor:
        """Minimise the objective of J problems at once: in problem j image i counts ``used_NJ[i, j]`` times."""
        x = start
        if x is None:
            x = torch.zeros(self.features.shape[1], used_NJ.shape[1], self.classes)
        return _descend(self, C * self.weights[:, None, None] * used_NJ[..., None], x)


def _descend(problem: Problem, weights_NJ1: Tensor, x: Tensor) -> Tensor:
    """J convex problems descended together by L-BFGS from ``x``, each with a step of its own."""
    truth = torch.nn.functional.one_hot(problem.labels, problem.classes).bool()[:, None]
    logits = problem.logits(x)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    value, residual, curvature = _value(problem, x, logits, truth, weights_NJ1)
    gradient = problem.transposed(residual) + problem.ridge * x
    for count in range(1, PASSES):
        inverse = 1 / (problem.ridge + curvature * problem.spread).clamp(min=1e-12)
        if bool((_sum(gradient * inverse * gradient) <= GAP * value).all()):
            break
        direction = -_two_loops(gradient, pairs, inverse)
        along = problem.logits(direction)
        step = _line_search(problem, (x, direction), (logits, along), truth, weights_NJ1)[:, None]
        moved = step * direction
        x = x + moved
        logits = problem.logits(x) if count % RESTART == 0 else logits + step * along
        value, residual, curvature = _value(problem, x, logits, truth, weights_NJ1)
        before, gradient = gradient, problem.transposed(residual) + problem.ridge * x
        change = gradient - before
        product = _sum(moved * change)
        pairs = [*pairs, (moved, change, torch.where(product > 0, 1 / product.clamp(min=1e-30), 0.0))][-MEMORY:]
    return x


def _sum(values_RJK: Tensor) -> Tensor:
    """The sum (J,) of each problem's values."""
    return values_RJK.sum((0, 2))


def _value(
    problem: Problem, x: Tensor, logits: Tensor, truth: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The objective (J,) in float64, the weighted residual (N, J, K), and the mean curvature of the loss (J, 1)."""
    log_p = torch.log_softmax(logits, 2)
    p = log_p.exp()
    loss = -(log_p.masked_fill(~truth, 0).sum(2, keepdim=True) * weights).sum((0, 2), dtype=torch.float64)
    others = p.masked_fill(truth, 0)
    # 1 - p of the truth as the sum of the others: the difference would lose all digits where p is nearly 1.
    residual = torch.where(truth, -others.sum(2, keepdim=True), others).mul_(weights)
    curvature = (weights * p * (1 - p)).mean((0, 2))[:, None]
    penalty = 0.5 * (problem.ridge * x.square()).sum((0, 2), dtype=torch.float64)
    return loss + penalty, residual, curvature


def _two_loops(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]], inverse: Tensor) -> Tensor:
    """The L-BFGS estimate of inverse Hessian times gradient, from a diagonal first estimate ``inverse``."""
    q, alphas = gradient, []
    for moved, change, rho in reversed(pairs):
        alpha = (rho * _sum(moved * q))[:, None]
        alphas.append(alpha)
        q = q - alpha * change
    if pairs:
        moved, change, rho = pairs[-1]
        fit = _sum(moved * change) / _sum(change * inverse * change).clamp(min=1e-30)
        inverse = inverse * torch.where(rho > 0, fit, 1.0)[:, None]
    q = inverse * q
    for (moved, change, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + (alpha - (rho * _sum(change * q))[:, None]) * moved
    return q


def _line_search(
    problem: Problem, line: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor], truth: Tensor, weights: Tensor
) -> Tensor:
    """The step (J,) to the minimum along each direction: Newton's method on a convex function of one number.

    ``line`` is where from and whereto, ``logits`` what both give; so no pass over the features is made.
    """
    start, along = logits
    inner = _sum(problem.ridge * line[0] * line[1])
    square = _sum(problem.ridge * line[1].square())
    towards = along.masked_fill(~truth, 0).sum(2, keepdim=True)
    step = torch.ones(start.shape[1])
    low, high = torch.zeros_like(step), torch.full_like(step, float("inf"))
    for _ in range(LINE_STEPS):
        p = torch.softmax(torch.addcmul(start, step[:, None], along), 2)
        weighted = p.mul_(along)
        mean = weighted.sum(2, keepdim=True)
        slope = inner + step * square + _sum((mean - towards) * weights)
        bend = square + _sum((weighted.mul_(along).sum(2, keepdim=True) - mean.square()) * weights)
        low = torch.where(slope < 0, torch.maximum(low, step), low)
        high = torch.where(slope >= 0, torch.minimum(high, step), high)
        newton = step - slope / bend.clamp(min=1e-30)
        middle = torch.where(torch.isinf(high), 2 * step, 0.5 * (low + high))
        before, step = step, torch.where((newton > low) & (newton < high), newton, middle)
        if bool(((step - before).abs() <= LINE_GAP * before).all()):
            break
    return step


def _eigen(features_NC: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues (r,) and vectors (C, r) of the Gram matrix; with fewer images than features, of their span."""
    count, channels = features_NC.shape
    if count >= channels:
        values, vectors = torch.linalg.eigh(features_NC.T @ features_NC)
        return values.clamp(min=0), vectors
    values, vectors = torch.linalg.eigh(features_NC @ features_NC.T)
    kept = values > 1e-6 * values[-1]
    return values[kept], features_NC.T @ (vectors[:, kept] / values[kept].sqrt())
