"""A class for each pixel. Scored by intersection over union (Everingham et al. 2010), of all images together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..classifying.intervals import Interval
from ..datasets.asked import ASKED
from ..datasets.mask_coding import VOID
from ..datasets.masks import Masks
from ..datasets.polygons import has_background
from ..datasets.targets import Targets
from ..errors import DataError
from ..images.preprocess import Preprocess
from ..models.pixel_network import PIXEL_HEADS, STRIDES, on_flat_maps
from .task import HeadKind, Score, Task, a_few, ends, interval_of, resamples


def is_one_object(names: tuple[str, ...]) -> bool:
    """Whether there is one thing and its background: then the figure is the intersection over union of the thing."""
    return len(names) == 2 and has_background(names)


def metric(names: tuple[str, ...]) -> str:
    """ "iou" of one object, "miou" of several classes: the mean."""
    return "iou" if is_one_object(names) else "miou"


def tensor(targets: Targets, index: np.ndarray, preprocess: Preprocess) -> Tensor:
    """Masks int64 (B, S, S)."""
    assert isinstance(targets, Masks)
    return torch.from_numpy(targets.all_fitted(index, preprocess)).long()


def loss(logits_BKHW: Tensor, masks_BSS: Tensor) -> Tensor:
    """The mean cross-entropy of pixels, in nats, at the logits' own size; those that are void do not count."""
    step = masks_BSS.shape[-1] // logits_BKHW.shape[-1]
    masks = masks_BSS[:, step // 2 :: step, step // 2 :: step] if step > 1 else masks_BSS
    known = (masks != VOID).sum().clamp(min=1)
    return F.cross_entropy(logits_BKHW, masks, ignore_index=VOID, reduction="sum") / known


def counts(guess_HW: np.ndarray, truth_HW: np.ndarray, classes: int) -> np.ndarray:
    """Of each class the pixels that are both, guessed and true: float64 (K, 3), void ones left out."""
    known = truth_HW != VOID
    guess, truth = guess_HW[known].astype(np.int64), truth_HW[known].astype(np.int64)
    both = np.bincount(truth[guess == truth], minlength=classes)
    sides = [np.bincount(one, minlength=classes) for one in (guess, truth)]
    return np.stack([both, *sides], 1).astype(np.float64)


def tally(logits_BKHW: Tensor, masks_BSS: Tensor) -> np.ndarray:
    """The counts of each image (B, K, 3), at the size of the masks."""
    if logits_BKHW.shape[-2:] != masks_BSS.shape[-2:]:
        logits_BKHW = F.interpolate(logits_BKHW, size=masks_BSS.shape[-2:], mode="bilinear", align_corners=False)
    guesses, classes = logits_BKHW.argmax(1).cpu().numpy(), logits_BKHW.shape[1]
    return np.stack([counts(g, t, classes) for g, t in zip(guesses, masks_BSS.cpu().numpy(), strict=True)])


def _iou(counts_K3: np.ndarray) -> np.ndarray:
    """Intersection over union (..., K); NaN for a class that is neither there nor guessed."""
    both, union = counts_K3[..., 0], counts_K3[..., 1] + counts_K3[..., 2] - counts_K3[..., 0]
    return np.divide(both, union, out=np.full(both.shape, np.nan), where=union > 0)


def _mean(iou_K: np.ndarray, one_object: bool) -> np.ndarray:
    """The figure of (..., K): the object's, or the mean of the classes that are there or guessed."""
    if one_object:
        return iou_K[..., 1]
    there = np.isfinite(iou_K)
    total = np.where(there, iou_K, 0.0).sum(-1)
    return np.divide(total, there.sum(-1), out=np.full(total.shape, np.nan), where=there.any(-1))


def score(
    tallies_NK3: np.ndarray, names: tuple[str, ...], settings: Mapping[str, Any], groups: np.ndarray | None = None
) -> Score:
    """Intersection over union with the bootstrap's interval, over images or groups of them.

    DataError without any, and where neither the masks nor the answers show what is scored.
    """
    if not len(tallies_NK3):
        raise DataError("no images to evaluate")
    n, one_object = len(tallies_NK3), is_one_object(names)
    flat = tallies_NK3.reshape(n, -1)
    drawn = _iou((resamples(n, groups) @ flat).reshape(-1, *tallies_NK3.shape[1:]))
    whole = tallies_NK3.sum(0)
    iou = _iou(whole)
    if not np.isfinite(_mean(iou, one_object)):
        what = repr(names[1]) if one_object else "any class"
        raise DataError(f"neither these masks nor the answers show {what}, so there is nothing to score.")
    figure = interval_of(float(_mean(iou, one_object)), _mean(drawn, one_object), n)
    classes = [_class_row(name, whole[k], interval_of(iou[k], drawn[:, k], n)) for k, name in enumerate(names)]
    figures = {**ends(metric(names), figure), "n": n, "pixel_accuracy": _accuracy(whole), "classes": classes}
    each = _mean(_iou(tallies_NK3), one_object)
    each = np.where(np.isfinite(each), each, 1.0)  # nothing there and nothing guessed is right
    return Score(figure, figures, each, groups)


def _accuracy(counts_K3: np.ndarray) -> float | None:
    total = float(counts_K3[:, 2].sum())
    return float(counts_K3[:, 0].sum()) / total if total else None


def _class_row(name: str, counts_3: np.ndarray, iou: Interval) -> dict[str, Any]:
    """One class; null where it is neither there nor guessed."""
    there = bool(np.isfinite(iou.value))
    both, guessed, true = map(float, counts_3)
    return {
        "name": name,
        "iou": iou.value if there else None,
        "iou_low": iou.low if there else None,
        "iou_high": iou.high if there else None,
        "precision": both / guessed if guessed else None,
        "recall": both / true if true else None,
        "pixels": int(true),
    }


def check(train: Targets, val: Targets) -> list[str]:
    """Notes about classes that no training image shows. DataError where fewer than two classes are there."""
    assert isinstance(train, Masks)
    shown = train.counts(np.arange(len(train)))
    absent = [name for name, count in shown.items() if not count]
    if len(shown) - len(absent) < 2:
        there = next((name for name, count in shown.items() if count), "none")
        raise DataError(
            f"the masks of the training images hold one class only, {there!r}: there is nothing to tell apart."
        )
    if not absent:
        return []
    many = "1 class is" if len(absent) == 1 else f"{len(absent)} classes are"
    return [f"{many} in no training image and cannot be learned: {a_few(absent)}."]


TASK = Task(
    name="segmentation",
    asks=ASKED["segmentation"],
    better="higher",
    metric=metric,
    tensor=tensor,
    loss=loss,
    tally=tally,
    score=score,
    check=check,
    strides=STRIDES,
    size=256,
    mirrored=lambda masks_BSS, side: masks_BSS.flip(-1),
    heads=(
        HeadKind(
            "linear",
            {"head": "linear-pixels"},
            partial(on_flat_maps, PIXEL_HEADS["linear-pixels"]),
            epochs=12,
            rate=5e-3,
        ),
        HeadKind(
            "top-down", {"head": "top-down"}, partial(on_flat_maps, PIXEL_HEADS["top-down"]), epochs=20, rate=3e-3
        ),
    ),
)
