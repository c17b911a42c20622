"""Evidence from a watched loop: what came to the network, what came back, and how its weights moved."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import numpy as np

from ..training.loop_signs import FITS
from ..training.watched import Watched
from .curves import Curve, Named

BEGINNING = 5  # looks in which smoothed labels and mixed images hardly show in the loss
OTHER = 0.33  # of the loss: what is told off by more is of another kind
FAR = 0.6  # and of another unit, whatever its gradient is like
AFTER = 1  # updates before which gradients cannot have been left over


def curve_of(watched: Watched) -> Curve:
    """The course of a watched training, with all that was seen at its steps."""
    others = {"rate": watched.rates, **{name: v.astype(np.float64) for name, v in watched.all_signs().items()}}
    inside = watched.steps < len(watched.losses)
    for name, quantity in (("update", "update"), ("gradient", "weight_gradient")):
        others[name] = np.full(len(watched.losses), np.nan)
        others[name][watched.steps[inside]] = _median(watched.of(quantity)[1])[inside]
    largest = watched.of("update")[1]
    if largest.shape[1]:
        others["largest"] = np.full(len(watched.losses), np.nan)
        others["largest"][watched.steps[inside]] = np.nan_to_num(largest, nan=0.0).max(1)[inside]
    return Curve(watched.losses, others)


def read_watched(watched: Watched, designed: frozenset[str], guess: float) -> Named:
    """The evidence of its looks at layers, and of the signs at its steps; what is frozen by design is passed over."""
    layers, layer_names = _layers(watched, designed)
    signs, sign_names = _signs(watched)
    signs["told_off"] = _told_off(watched, guess)
    return layers | signs, layer_names | sign_names


def _median(values_TL: np.ndarray) -> np.ndarray:
    """The median over layers at each look, NaN where there is none."""
    if not values_TL.shape[1]:
        return np.full(len(values_TL), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # looks without any value
        return np.nanmedian(values_TL, axis=1)


def _layers(watched: Watched, designed: frozenset[str]) -> Named:
    found: dict[str, float] = {}
    names: dict[str, str] = {}
    _, update = watched.of("update")
    if update.size:
        medians = _median(update.T)
        found["update"] = float(np.nanmedian(medians))
        found["largest_update"] = largest = float(np.nanmax(medians))
        found["worst_update"] = float(np.nanmax(update))
        names["moved"] = f"; the largest update of a layer was {largest:.2g} of its weight"
    norms, training = watched.of("training")
    kept = [i for i, name in enumerate(norms) if f"{name}.weight" not in designed]
    norms, training = [norms[i] for i in kept], training[:, kept]
    if training.size:
        found["norms_frozen"] = float(np.mean(training == 0))
        still = [n for n, column in zip(norms, training.T, strict=True) if (column == 0).any()]
        names["norms_frozen"] = still[0] if still else ""
    weights = watched.values["weight"]
    if len(weights):
        have = ~np.isnan(weights).all(0)
        came = np.nan_to_num(watched.values["weight_gradient"][:, have]) > 0
        found["gradients_came"] = float(came.any(0).mean()) if have.any() else math.nan
    return found, names


def _signs(watched: Watched) -> Named:
    signs = {name: v[~np.isnan(v)] for name, v in watched.all_signs().items()}
    found: dict[str, float] = {}
    for sign in ("deviation", "probabilities", "second_softmax", "negated", "crossed", "variety"):
        if len(signs[sign]):
            found["arriving" if sign == "deviation" else sign] = float(np.median(signs[sign]))
    found["updates"] = float(len(watched.losses))
    found["unseen"] = float(not len(signs["crossed"]))
    if len(signs["arrived"]):
        found["arrived"] = float(signs["arrived"].mean())
    if len(signs["left_over"]) > AFTER:
        found["left_over"] = float(signs["left_over"][AFTER:].mean())
    bad, names = _bad_images(watched.all_signs())
    return found | bad, names


def _told_off(watched: Watched, guess: float) -> float:
    """How far the losses told at first are from the cross-entropy that the gradient speaks of.

    It is a share of the largest of the two and the guess. Cross-entropy begins near that, with smoothed labels and
    mixed images too; squares, sums and others do not.
    """
    nats, told = watched.all_signs()["nats"].astype(np.float64), watched.losses
    known = np.flatnonzero(np.isfinite(nats) & np.isfinite(told))[:BEGINNING]
    if not len(known):
        return math.nan
    nats, told = nats[known], told[known]
    largest = np.maximum(np.maximum(np.abs(nats), np.abs(told)), guess)
    return float(np.median(np.abs(told - nats) / largest))


def is_other(seen: Mapping[str, float]) -> bool:
    """Whether the told losses are none of cross-entropy in nats."""
    off = seen.get("told_off", math.nan)
    return off > FAR or (off > OTHER and seen.get("crossed", 0.0) > FITS)


def _bad_images(signs: Mapping[str, np.ndarray]) -> Named:
    steps = np.flatnonzero(np.nan_to_num(signs["not_numbers"]) > 0)
    if not len(steps):
        return {}, {}
    step = int(steps[0])
    place = signs["bad_place"][step]
    where = f"image {place:.0f} of the batch" if math.isfinite(place) else "an image of the batch"
    return {"bad_images": float(signs["not_numbers"][step])}, {"bad_image": f"{where} of step {step}"}
