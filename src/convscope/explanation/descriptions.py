"""What the images of a filter have in common, in words, and how far the words can be believed.

A rule is a thing that can be seen in an image (a colour, edges of one direction, a class). It is chosen on training
images, as the one that best tells the 1 % that excite the filter most from the rest, and it is scored on held-out
ones by the area under the ROC curve: 0.5 is chance, 1 is perfect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.preprocess import to_tensor

TOP_SHARE = 0.01  # of the images: those that a rule is to find
LEAST_AUROC = 0.7  # under it there is nothing simple in common
LEAST_LIFT = 2.0  # times chance: from there on a class is named
LARGEST_SIDE = 48  # px: larger images are made smaller before they are looked at
BLOCK = 500  # images at a time
COLOURS = ("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "cyan", "blue", "purple", "pink")
EDGES = ("vertical edges", "edges rising to the right", "horizontal edges", "edges falling to the right")
# What is looked for, in the order of the columns of ``sights``.
SIGHTS = (
    *COLOURS,
    *EDGES,
    *(f"fine {name}" for name in EDGES),
    "strong contrast",
    "fine texture",
    "a plain area",
    "something bright",
    "something dark",
)
HUES = (  # name, from, to in degrees
    ("red", 0, 14), ("orange", 14, 42), ("yellow", 42, 70), ("green", 70, 165), ("cyan", 165, 195),
    ("blue", 195, 260), ("purple", 260, 315), ("pink", 315, 345), ("red", 345, 361),
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """What the most exciting images have in common: ``words``, and its AUROC on held-out images.

    ``kind`` is "sight" (it can be seen), "class", or "none" where the best rule stays under 0.7, or is within two
    standard errors of chance.
    """

    words: str
    kind: str
    auroc: float


def sights(images_NHWC: np.ndarray, field: int | None) -> Tensor:
    """Tell how much of each of ``SIGHTS`` there is in the part of an image where there is most of it: float32 (N, F).

    A part is a square of ``field`` pixels, the receptive field; the whole image for None.
    """
    side = min(images_NHWC.shape[1:3])
    shrink = max(1, math.ceil(side / LARGEST_SIDE))
    small = side // shrink
    window = small if field is None else max(1, min(small, round(field / shrink)))
    parts = []
    for start in range(0, len(images_NHWC), BLOCK):
        x = to_tensor(np.ascontiguousarray(images_NHWC[start : start + BLOCK])).float().contiguous() / 255
        parts.append(_sights(F.avg_pool2d(x, shrink) if shrink > 1 else x, window))
    return torch.cat(parts)


def _sights(x_BCHW: Tensor, window: int) -> Tensor:
    """The same for images (B, 3, H, W) of values 0..1, in the order of ``SIGHTS``."""
    grey = x_BCHW.mean(1, keepdim=True)
    smooth = F.avg_pool2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), 3, 1)
    maps = torch.cat([_colours(x_BCHW), _gradient(smooth if window >= 5 else grey), _gradient(grey - smooth), grey], 1)
    share = F.avg_pool2d(maps, window, max(1, window // 4))
    n = len(COLOURS)
    (energy, cosine, sine), (fine, fine_cosine, fine_sine) = (
        share[:, n : n + 3].unbind(1),
        share[:, n + 3 : n + 6].unbind(1),
    )
    bright = share[:, n + 6]
    # The gradient's double angle: across is 0 degrees, and an edge stands at right angles to its gradient.
    seen = [cosine, sine, -cosine, -sine, fine_cosine, fine_sine, -fine_cosine, -fine_sine]
    seen += [energy, fine, -energy - fine, bright, -bright]
    return torch.cat([share[:, :n], torch.stack(seen, 1)], 1).amax((2, 3))


def _colours(x_BCHW: Tensor) -> Tensor:
    """Tell which of ``COLOURS`` each pixel has, by hue, saturation and value: (B, 12, H, W) of 0 and 1."""
    value, least = x_BCHW.amax(1), x_BCHW.amin(1)
    spread = value - least
    red, green, blue = x_BCHW.unbind(1)
    by = spread.clamp(min=1e-6)
    sixth = torch.where(value == green, (blue - red) / by + 2, (red - green) / by + 4)
    degrees = 60 * torch.where(value == red, (green - blue) / by % 6, sixth)
    saturation = spread / value.clamp(min=1e-6)
    names = torch.full_like(degrees, COLOURS.index("grey"), dtype=torch.long)
    for name, start, end in HUES:
        names[(degrees >= start) & (degrees < end)] = COLOURS.index(name)
    names[(degrees >= 14) & (degrees < 50) & (value < 0.62)] = COLOURS.index("brown")
    names[((degrees >= 290) | (degrees < 10)) & (value > 0.7) & (saturation < 0.6)] = COLOURS.index("pink")
    dull = (saturation < 0.18) | (spread < 0.08)
    names[dull] = COLOURS.index("grey")
    names[dull & (value > 0.78)] = COLOURS.index("white")
    names[value < 0.2] = COLOURS.index("black")
    return F.one_hot(names, len(COLOURS)).permute(0, 3, 1, 2).float()


def _gradient(grey_B1HW: Tensor) -> Tensor:
    """Energy of the brightness gradient, and its double angle's cosine and sine times the energy: (B, 3, H, W)."""
    padded = F.pad(grey_B1HW, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return torch.cat([across**2 + down**2, across**2 - down**2, 2 * across * down], 1)


# ---------------------------------------------------------------------------------------------------------- rules


def top_images(highest_NC: Tensor) -> Tensor:
    """Tell which images are among the 1 % that excite each filter most, 5 at least: bool (N, C)."""
    n = len(highest_NC)
    best = highest_NC.topk(min(n, max(5, round(TOP_SHARE * n))), dim=0).indices
    return torch.zeros(highest_NC.shape, dtype=torch.bool).scatter_(0, best, True)


def auroc(scores_NF: np.ndarray | Tensor, positives_NC: Tensor) -> Tensor:
    """Area under the ROC curve of each score for each set of positives, float64 (C, F); NaN where a side is empty.

    By the rank sum (Mann and Whitney 1947), equal scores counting half.
    """
    from scipy.stats import rankdata  # slow to import

    ranks_NF = torch.from_numpy(rankdata(np.asarray(scores_NF), axis=0)).double()
    inside_CN = positives_NC.double().T
    n_pos = inside_CN.sum(1, keepdim=True)
    n_neg = len(ranks_NF) - n_pos
    return (inside_CN @ ranks_NF - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)


@dataclass(frozen=True)
class Seen:
    """Some images as the rules see them: ``sights`` (N, F), ``labels`` int64 (N,), ``highest`` (N, C) of a layer."""

    sights: Tensor
    labels: Tensor
    highest: Tensor


def find_rules(train: Seen, held_out: Seen, class_names: Sequence[str]) -> list[Rule]:
    """The rule of each filter: chosen on ``train``, scored on ``held_out``."""
    tops, tops_held = top_images(train.highest), top_images(held_out.highest)
    sight, sight_held = auroc(train.sights, tops), auroc(held_out.sights, tops_held)
    rules = []
    for k in range(tops.shape[1]):
        best = int(sight[k].nan_to_num(0).argmax())
        found = [(float(sight[k, best]), Rule(SIGHTS[best], "sight", float(sight_held[k, best])))]
        classes = _lifted(train.labels, tops[:, k], len(class_names))
        if classes:
            words = " or ".join(class_names[c] for c in classes)
            score, score_held = (
                _set_auroc(torch.isin(seen.labels, torch.tensor(classes)), top[:, k])
                for seen, top in ((train, tops), (held_out, tops_held))
            )
            found.append((score, Rule(words, "class", score_held)))
        rule = max(found, key=lambda pair: pair[0])[1]
        believed = rule.auroc >= LEAST_AUROC and rule.auroc - 2 * _spread(rule.auroc, tops_held[:, k]) > 0.5
        area = 0.5 if math.isnan(rule.auroc) else rule.auroc  # too few held-out images to tell
        rules.append(rule if believed else Rule("nothing simple in common", "none", area))
    return rules


def _set_auroc(inside_N: Tensor, positives_N: Tensor) -> float:
    """The AUROC of being in a set: half the sum of the shares that are right on each side."""
    hit, false = inside_N[positives_N].double().mean(), inside_N[~positives_N].double().mean()
    return float(0.5 + (hit - false) / 2)


def _spread(area: float, positives_N: Tensor) -> float:
    """The standard error of an AUROC (Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747)."""
    n_pos = int(positives_N.sum())
    n_neg = len(positives_N) - n_pos
    if not n_pos or not n_neg:
        return math.inf
    both_pos, both_neg = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n_pos - 1) * (both_pos - area**2) + (n_neg - 1) * (both_neg - area**2)
    return math.sqrt(max(0.0, variance) / (n_pos * n_neg))


def _lifted(labels_N: Tensor, top_N: Tensor, classes: int, most: int = 3) -> list[int]:
    """The classes that are at least twice as frequent among the top images as among all, the strongest first."""
    inside = torch.bincount(labels_N[top_N], minlength=classes).double()
    share = torch.bincount(labels_N, minlength=classes).double() / len(labels_N)
    lift = inside / inside.sum() / share.clamp(min=1e-12)
    order = (inside * (lift >= LEAST_LIFT)).argsort(descending=True, stable=True)[:most].tolist()
    return [c for c in order if lift[c] >= LEAST_LIFT and inside[c] >= 2]


@dataclass(frozen=True)
class ClassShare:
    """How many of a filter's exemplars are of a class, and how many times chance that is."""

    name: str
    count: int
    of: int
    lift: float


def class_mix(labels_k: np.ndarray, shares_K: np.ndarray, class_names: Sequence[str]) -> tuple[ClassShare, ...]:
    """The classes of a filter's exemplars, the most frequent first; ``shares_K`` is the share of each in the data."""
    counts = np.bincount(labels_k, minlength=len(class_names))
    order = np.argsort(-counts, kind="stable")
    n = len(labels_k)
    return tuple(
        ClassShare(class_names[c], int(counts[c]), n, float(counts[c] / n / shares_K[c])) for c in order if counts[c]
    )


def dominant_colours(crops: Sequence[np.ndarray]) -> tuple[tuple[str, float], ...]:
    """The up to three colours that fill at least a sixth of crops uint8 (h, w, 3): (name, share), the largest first."""
    shares = torch.stack([_colours(to_tensor(crop[None]).float() / 255).mean((0, 2, 3)) for crop in crops]).mean(0)
    order = shares.argsort(descending=True)[:3].tolist()
    return tuple((COLOURS[i], float(shares[i])) for i in order if shares[i] >= 1 / 6)


# ---------------------------------------------------------------------------------------------- first-layer filters


@dataclass(frozen=True)
class FirstLayer:
    """What a filter on pixels answers to, from its weights: ``words``, and the figures behind them.

    ``colour`` is the share of its energy that is not the same in red, green and blue; ``flat`` the share that is the
    same in all its places. ``period`` in pixels and ``degrees`` (of the stripes, 0 lying, 90 standing, counter-
    clockwise) are of its strongest frequency, None for a flat filter.
    """

    words: str
    colour: float
    flat: float
    period: float | None
    degrees: float | None


def first_layer(weight_CHW: Tensor) -> FirstLayer:
    """Tell what a filter (3, h, w), in units of pixel values, answers to."""
    w = weight_CHW.double()
    energy = float(w.square().sum())
    if energy == 0:
        return FirstLayer("nothing: its weights are 0", 0.0, 0.0, None, None)
    colour = float((w - w.mean(0)).square().sum()) / energy
    means = w.mean((1, 2))
    flat = float(means.square().sum()) * w[0].numel() / energy
    left, _, right = torch.linalg.svd(w.flatten(1), full_matrices=False)
    pair = _opponents(left[:, 0]) if colour > 0.3 else "black and white"
    if flat > 0.5:
        return FirstLayer(_liked(means), colour, flat, None, None)
    size = 32
    spectrum = torch.fft.fft2(right[0].view(w.shape[1:]) - right[0].mean(), s=(size, size)).abs()
    row, column = divmod(int(spectrum[: size // 2 + 1].argmax()), size)
    down, across = row / size, (column if column <= size // 2 else column - size) / size
    frequency = math.hypot(down, across)
    # Stripes stand at right angles to the way in which they change; rows count downwards, angles upwards.
    degrees = round(math.degrees(math.atan2(across, down))) % 180
    return FirstLayer(
        f"{_direction(degrees)} of about {1 / frequency:.1f} pixels, {pair}",
        colour,
        flat,
        1 / frequency,
        float(degrees),
    )


def _direction(degrees: float) -> str:
    names = ("horizontal stripes", "stripes rising to the right", "vertical stripes", "stripes falling to the right")
    return names[round(degrees / 45) % 4]


def _liked(means_3: Tensor) -> str:
    """The colour that a flat filter likes, and the one it dislikes."""
    spread = means_3 - means_3.mean()
    if float(spread.square().sum()) < 0.3 * float(means_3.square().sum()):
        return f"brightness: {'bright rather than dark' if means_3.sum() > 0 else 'dark rather than bright'}"
    return f"colour: {_opponents(means_3, ' rather than ')}"


def _opponents(direction_3: Tensor, between: str = " and ") -> str:
    """The two ends of a line through grey in colour space, by name."""
    d = 0.5 * direction_3 / direction_3.abs().max()
    ends = [_colours((0.5 + sign * d).clamp(0, 1).float().view(1, 3, 1, 1)).flatten().argmax() for sign in (1, -1)]
    return between.join(COLOURS[int(end)] for end in ends)
