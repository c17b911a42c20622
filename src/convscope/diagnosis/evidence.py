"""The evidence of a verdict: a few numbers about a network and its training, each measured on training images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..datasets.emptiness import FLAT
from ..models.followed import uncompiled
from ..models.trial import output_fault
from ..training.loop_signs import DROPOUTS, FITS, variety_of
from .curves import Curve, from_losses, read_course
from .loop_evidence import curve_of, is_other, read_watched
from .network_evidence import (
    BLOCK,
    activations,
    at_start,
    biases_at_start,
    frozen_parameters,
    is_unmade,
    not_numbers,
    scores,
    still_weights,
)  # fmt: skip
from .observations import Evidence, Observations

__all__ = ["Evidence", "Observations", "collect", "collect_curve", "frozen_parameters"]
BEGINS = 0.6  # of the loss of guessing: what begins under it is of a network that was trained before, or no such loss
END = 0.1  # the share of a training's steps that counts as its end, and as its beginning


def collect(material: Observations) -> Evidence:
    """Measure the evidence. Networks are left as they are; UsageError where one cannot be called."""
    material = _known(material)
    guess = math.log(max(material.classes, 2))
    found: dict[str, float] = {
        "guess": guess,
        "diverged": float(material.diverged),
        "trained": 0.5 if material.trained is None else float(material.trained),
        "elsewhere": float(material.elsewhere),
        "floor": math.log(math.e + material.classes - 1) - 1,
    }
    names: dict[str, str] = {}
    if material.batch_size is not None:
        found["batch_size"] = material.batch_size
    seen, seen_names = (
        ({}, {}) if material.watched is None else read_watched(material.watched, material.designed, guess)
    )
    if material.cross_entropy:
        seen = {"crossed": 0.0, "unseen": 0.0} | seen
    seen.setdefault("unseen", 1.0)
    told, ran, ran_names = _told(material, seen, guess)
    found |= told
    worst = found.get("worst_loss", math.nan) if np.isfinite(_numbers(material.losses)).all() else math.nan
    names["ran"] = f"to {worst:.2g} times that of guessing" if math.isfinite(worst) else "until it was no number"
    found |= _dropouts(material.network, names)
    bad = not_numbers(material.network)
    if bad:
        found["not_numbers"], names["not_numbers"] = len(bad), bad[0]
    found |= _answers(material, found | seen, names)
    first = material.start if material.start is not None else None if bad else material.network
    weights = ()
    if first is not None:
        began, weights = at_start(first, material, guess, names)
        found |= began
    if material.start is not None:
        found |= biases_at_start(material.start, material.images, names)
        found |= {} if bad else still_weights(material, weights, names)
    found |= ran | seen
    names |= ran_names | seen_names
    held, held_names = _images(material, found)
    found |= held
    names |= held_names
    came = found.get("gradients_came", 0.0) > 0
    names["within"] = f" in {found['steps']:.0f} steps" if "steps" in found else ""
    names["came"] = " though gradients came to them" if came else ""
    names["arrive"] = " though gradients arrive and weights move" if came and found.get("largest_update", 0) > 0 else ""
    names["still"] = ", so no weight moves" if found.get("still") == 1 else ""
    return Evidence(**found, names=names)


def _known(material: Observations) -> Observations:
    """Without what says nothing: a watch that no step was told of, and a first network that was not made yet."""
    start = None if material.start is None or is_unmade(material.start) else uncompiled(material.start)
    material = replace(material, network=uncompiled(material.network), start=start)
    if material.watched is None or len(material.watched.losses):
        return material
    return replace(material, watched=None, trained=None if material.trained else material.trained)


def _told(
    material: Observations, seen: Mapping[str, float], guess: float
) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    """What the told losses say, in units of the guess, and their course with its words.

    Losses that are none of cross-entropy in nats are measured by their own first ones, and tell of no progress.
    """
    course = curve_of(material.watched) if material.watched is not None else from_losses(material.losses)
    other = is_other(seen)
    unit = _first(course.losses) if other else guess
    found = losses_of(material.losses, unit)
    doubtful = "told_off" not in seen or math.isnan(seen["told_off"])
    if other or (doubtful and not material.cross_entropy and found.get("first_loss", 1.0) < BEGINS):
        found = {k: v for k, v in found.items() if k in ("first_loss", "worst_loss", "steps")}
        found["another_loss"] = 1.0
    return found, *read_course(course, unit)


def _first(losses: np.ndarray) -> float:
    """The loss that a training began with; 1 where it is 0 or none was told."""
    known = losses[np.isfinite(losses)]
    return float(np.median(np.abs(known[: max(1, math.ceil(END * len(known)))]))) or 1.0 if len(known) else 1.0


def _answers(material: Observations, found: Mapping[str, float], names: dict[str, str]) -> dict[str, float]:
    """What the network answers: whether by logits, how right, and what its units do."""
    told: dict[str, float] = {}
    fault = output_fault(material.network, material.images[:BLOCK])
    if fault is not None:
        told["no_logits"], names["no_logits"] = 1.0, fault
    if found.get("not_numbers"):
        return told
    crossed = found.get("crossed", math.nan)
    of_logits = crossed <= FITS or (math.isnan(crossed) and fault is None)
    plain = of_logits and "another_loss" not in found
    told |= scores(material, found, names, None if of_logits else fault, plain)
    return told | activations(material.network, material.images, names)


def collect_curve(course: Curve, classes: int | None = None) -> Evidence:
    """The evidence in numbers alone, without a network. Without ``classes`` the first losses stand for guessing, unless
    these are missing: then the larger of the first and last ones, or what guessing one of two classes costs."""
    known = course.losses[np.isfinite(course.losses)]
    count = max(1, math.ceil(END * len(known)))
    first, last = (float(np.median(part)) if len(part) else math.nan for part in (known[:count], known[-count:]))
    late = course.late and classes is None
    guess = max(abs(first), abs(last), math.log(2)) if late else abs(first) if first else 1.0
    guess = guess if classes is None else math.log(max(classes, 2))
    told = [None if math.isnan(x) else x for x in course.losses.tolist()]
    found: dict[str, float] = {"guess": guess, "curve_alone": 1.0, **losses_of(told, guess)}
    if late:  # how far that is from guessing is not known
        found |= dict.fromkeys(("first_loss", "worst_loss", "progress", "told_progress"), math.nan)
    found |= {"steps": course.made(), "early": float(course.early())}
    ran, names = read_course(course, guess)
    names["unit"] = "epochs" if course.epochs else "steps"
    losses = int((~np.isnan(course.losses)).sum())
    names["told"] = "1 loss was told" if losses == 1 else f"{losses or 'no'} losses were told"
    broken = np.flatnonzero(np.isinf(course.losses))
    if len(broken) and np.isinf(course.losses[~np.isnan(course.losses)][-1]):
        found["diverged"] = 1.0
        names["ran"] = f"until it was no number, at step {course.step(int(broken[0])):.0f}"
    return Evidence(**(found | ran), names=names)


def _dropouts(network: nn.Module, names: dict[str, str]) -> dict[str, float]:
    """The largest share that a dropout of the network drops."""
    shares = {name: module.p for name, module in network.named_modules() if isinstance(module, DROPOUTS)}
    names["dropped"] = max(shares, key=lambda name: shares[name], default="")
    return {"dropped": max(shares.values())} if shares else {}


def _images(material: Observations, found: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """What there is in the images given, and how those that came to the network differ from them."""
    images = material.images
    known: dict[str, float] = {}
    names = {"alike": "the images given here"}
    finite = torch.isfinite(images.flatten(1)).all(1)
    if not finite.all():
        known["bad_images"] = float((~finite).sum())
        names["bad_image"] = f"image {int((~finite).nonzero()[0])} of those given here"
        images = images[finite]
    if material.widths is not None:
        known |= {"blank": float((material.widths <= FLAT).mean()), "span": float(np.median(material.widths))}
    elif len(images):
        flat = images.flatten(2) if images.ndim > 2 else images[:, None]
        known["blank"] = float((flat.amax(2) == flat.amin(2)).all(1).float().mean())
    if len(images) > 1:
        known["given"] = deviation = float(images.float().std(correction=0))
        variety = variety_of(images)
        came = found.get("variety", math.nan)
        known["variety"] = min((v for v in (variety, came) if math.isfinite(v)), default=math.nan)
        if came <= variety:
            names["alike"] = "the images that came to the network"
        ratio = found.get("arriving", math.nan) / deviation if deviation > 0 else math.nan
        known["rescaled"] = max(ratio, 1 / ratio) if ratio > 0 else math.nan
    return known, names


def _numbers(losses: Sequence[float | None]) -> np.ndarray:
    return np.array([x for x in losses if x is not None], np.float64)


def losses_of(told: Sequence[float | None], guess: float) -> dict[str, float]:
    """First, last and worst of the losses told, in units of the guess, and what was taken away of it."""
    losses = _numbers(told)
    losses = losses[np.isfinite(losses)]
    if not len(losses):
        return {}
    count = max(1, min(len(losses) // 2, math.ceil(END * len(losses))))
    losses = losses / guess
    first, last = float(np.mean(losses[: max(1, count // 2)])), float(np.mean(losses[-count:]))
    found = {"first_loss": first, "last_loss": last, "worst_loss": float(np.max(losses)), "progress": 1 - last}
    return found | {"steps": len(losses), "told": last * guess, "told_progress": 1 - last}
