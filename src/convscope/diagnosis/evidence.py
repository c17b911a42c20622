"""The evidence of a verdict: a few numbers about a network and its training, each measured on training images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from dataclasses import field as data_field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..datasets.emptiness import FLAT
from ..models.taps import call_name, evaluating, observe
from ..models.trial import output_fault
from ..training.watching import RECTIFIERS, Watched, saturated_share
from .chain import find_chain, logits_of
from .gradients import Gradients, Weight, gradients, ready

END = 0.1  # the share of a training's steps that counts as its end, and as its beginning
BLOCK = 128  # images in a pass
ARRIVES = 1e-3  # of the median relative gradient: what has less gets none worth the name
NOTHING = 1e-30  # the norm of a gradient that has died


@dataclass(frozen=True)
class Observations:
    """A network with its images, and its training as far as it is known.

    ``start`` is the network before its first step, ``watched`` its training; either may be None. ``images``
    (B, 3, H, W) and ``labels`` (B,) are training images, ``held_out`` the same of others, or None.
    ``losses`` are those of the steps, or of the epochs, in order. ``trained`` is None where nobody knows whether the
    network was trained. ``designed`` names parameters that are frozen on purpose, which is no fault.
    ``widths`` (B,) is how many of 256 values each image spans, None where only the tensors are known.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    classes: int
    start: nn.Module | None = None
    watched: Watched | None = None
    held_out: tuple[Tensor, Tensor] | None = None
    losses: Sequence[float] = ()
    batch_size: int | None = None
    diverged: bool = False
    trained: bool | None = True
    designed: frozenset[str] = frozenset()
    widths: np.ndarray | None = None


@dataclass(frozen=True)
class Evidence:
    """The numbers that the rules look at, NaN where one could not be measured; ``names`` say where.

    Shares are fractions, losses in units of log K, the loss of guessing, which is ``guess`` nats. ``progress`` is the
    part of it that training has taken away. ``shrink`` (a factor) and ``reach`` (all) are what is left of the gradient
    on its way back through the network at its start, the first factor left out; ``signal`` how the scale of what layers
    output changes a layer; ``balance`` the least relative gradient of a weight over the median one. ``update`` is the
    median of ||dW|| / ||W|| over layers and steps, ``largest_update`` the largest median of a layer. ``dead`` is the
    largest share of dead channels in a layer now, ``dead_before`` at the start; ``varies`` the standard deviation of a
    logit over images. ``mode_gap`` is the loss with running statistics above that with a batch's own; of the batch
    norms ``norms_frozen`` used running statistics in training, and in ``norms_unset`` these are as they were made.
    ``blank`` is the share of images of one colour, and the middle one of all spans ``span`` of 256 values.
    ``trained`` is 1, 0, or 0.5 where nobody knows; ``start_loss`` is measured where the first network is known.
    """

    guess: float
    first_loss: float = math.nan
    last_loss: float = math.nan
    worst_loss: float = math.nan
    start_loss: float = math.nan
    progress: float = math.nan
    top1: float = math.nan
    held_out_top1: float = math.nan
    gap: float = math.nan
    above_chance: float = math.nan
    shrink: float = math.nan
    reach: float = math.nan
    balance: float = math.nan
    signal: float = math.nan
    logits: float = math.nan
    update: float = math.nan
    largest_update: float = math.nan
    dead: float = math.nan
    dead_before: float = math.nan
    varies: float = math.nan
    saturated: float = math.nan
    mode_gap: float = math.nan
    norms_frozen: float = math.nan
    norms_unset: float = math.nan
    batch_size: float = math.nan
    steps: float = math.nan
    diverged: float = 0.0
    trained: float = 1.0
    unlearned: float = 0.0
    not_numbers: float = 0.0
    no_logits: float = 0.0
    blank: float = math.nan
    span: float = math.nan
    names: dict[str, str] = data_field(default_factory=dict)


def frozen_parameters(network: nn.Module) -> frozenset[str]:
    """The parameters that ask for no gradient, by name."""
    return frozenset(name for name, parameter in network.named_parameters() if not parameter.requires_grad)


def not_numbers(network: nn.Module) -> list[str]:
    """The tensors of a network that hold what is no number."""
    return [n for n, t in network.state_dict().items() if t.is_floating_point() and not torch.isfinite(t).all()]


def norms_unset(network: nn.Module) -> float:
    """The share of batch norms whose running statistics have seen no batch; NaN where none keeps any."""
    found = [(m.running_mean, m.running_var) for m in network.modules() if isinstance(m, _BatchNorm)]
    kept = [(mean, var) for mean, var in found if mean is not None and var is not None]
    return float(np.mean([bool((m == 0).all() and (v == 1).all()) for m, v in kept])) if kept else math.nan


def collect(material: Observations) -> Evidence:
    """Measure the evidence. Networks are left as they are; UsageError where one cannot be called."""
    found: dict[str, float] = {
        "guess": math.log(max(material.classes, 2)),
        "diverged": float(material.diverged),
        "trained": 0.5 if material.trained is None else float(material.trained),
    }
    names: dict[str, str] = {}
    if material.batch_size is not None:
        found["batch_size"] = material.batch_size
    found |= _held(material) | _losses(material, found["guess"])
    worst = found.get("worst_loss", math.nan) if np.isfinite(_numbers(material.losses)).all() else math.nan
    names["ran"] = f"to {worst:.2g} times that of guessing" if math.isfinite(worst) else "until it was no number"
    fault = output_fault(material.network, material.images[:BLOCK])
    if fault is not None:
        found["no_logits"], names["no_logits"] = 1.0, fault
    bad = not_numbers(material.network)
    if bad:
        found["not_numbers"], names["not_numbers"] = len(bad), bad[0]
    else:
        found |= _scores(material, found, names) | _activations(material.network, material.images, names)
    first = material.start if material.start is not None else None if bad else material.network
    weights: tuple[Weight, ...] = ()
    if first is not None:
        at_start, weights = _at_start(first, material, found["guess"], names)
        found |= at_start
    names["before"] = names["moved"] = ""
    if material.start is not None:
        found["dead_before"] = _activations(material.start, material.images, {})["dead"]
        names["before"] = f"; {found['dead_before']:.0%} of a layer were at the start"
        found |= _unlearned(material, weights, names)
    if material.watched is not None:
        found |= _from_watching(material.watched, names)
    return Evidence(**found, names=names)


def _held(material: Observations) -> dict[str, float]:
    """Tell how much there is in the images."""
    if material.widths is not None:
        return {"blank": float((material.widths <= FLAT).mean()), "span": float(np.median(material.widths))}
    flat = material.images.flatten(2) if material.images.ndim > 2 else material.images[:, None]
    return {"blank": float((flat.amax(2) == flat.amin(2)).all(1).float().mean())}


def _numbers(losses: Sequence[float | None]) -> np.ndarray:
    return np.array([x for x in losses if x is not None], np.float64)


def _losses(material: Observations, guess: float) -> dict[str, float]:
    losses = _numbers(material.losses)
    losses = losses[np.isfinite(losses)]
    if not len(losses):
        return {}
    count = max(1, min(len(losses) // 2, math.ceil(END * len(losses))))
    losses = losses / guess
    first, last = float(np.mean(losses[: max(1, count // 2)])), float(np.mean(losses[-count:]))
    worst = float(np.max(losses))
    return {"first_loss": first, "last_loss": last, "worst_loss": worst, "progress": 1 - last, "steps": len(losses)}


def _scores(material: Observations, known: Mapping[str, float], names: dict[str, str]) -> dict[str, float]:
    """Accuracy with running statistics, and how much the loss differs from that with the batch's own."""
    guess = known["guess"]
    loss, top1, varies = _evaluated(material.network, material.images, material.labels)
    found = {"top1": top1, "varies": varies}
    if material.trained is not False:  # of the loss as it was trained, smoothed labels and mixed images are a part
        found["last_loss"] = known.get("last_loss", loss / guess)
        both = (1 - loss / guess, known.get("progress", math.nan))
        found["progress"] = max((p for p in both if math.isfinite(p)), default=-math.inf)
    else:
        found["progress"] = 0.0
    if material.held_out is not None:
        found["held_out_top1"] = _evaluated(material.network, *material.held_out)[1]
        found["gap"] = top1 - found["held_out_top1"]
        chance = float(torch.bincount(material.held_out[1]).max()) / len(material.held_out[1])
        found["above_chance"] = found["held_out_top1"] - chance
    found["norms_unset"] = norms_unset(material.network)
    if not math.isnan(found["norms_unset"]) and material.trained is not False:  # else they are of nothing yet
        copy = ready(deepcopy(material.network))
        with torch.no_grad():
            block = slice(0, BLOCK)
            own = float(F.cross_entropy(logits_of(copy, material.images[block]), material.labels[block]))
        same, *_ = _evaluated(material.network, material.images[block], material.labels[block])
        found["mode_gap"] = (same - own) / guess
    if math.isnan(loss):
        found["not_numbers"], names["not_numbers"] = 1.0, "the answer, though no weight,"
    return found


def _evaluated(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Mean loss, accuracy, and the standard deviation of a logit over the images, on average."""
    # Not by the pass of classifying: that takes stored images with their preprocess and a network that gives logits
    # alone, while here tensors come from any loop, and a network may answer with a tuple.
    with evaluating(network), torch.no_grad():
        logits = torch.cat([logits_of(network, images[i : i + BLOCK]).float() for i in range(0, len(images), BLOCK)])
    right = (logits.argmax(1) == labels).float().mean()
    return float(F.cross_entropy(logits, labels)), float(right), float(logits.std(0).mean())


def _at_start(
    first: nn.Module, material: Observations, guess: float, names: dict[str, str]
) -> tuple[dict[str, float], tuple[Weight, ...]]:
    """Gradients and signals in the first network, with batch statistics and no dropout."""
    images, labels = material.images[:BLOCK], material.labels[:BLOCK]
    network = ready(deepcopy(first))
    chain = find_chain(network, images[:2])
    measured: Gradients = gradients(network, chain, images, labels)
    relative = np.array([w.relative for w in measured.weights])
    inner = measured.norms[1:] if len(measured.norms) > 2 else measured.norms
    factors = len(inner) - 1
    found = {"reach": inner[0] / inner[-1] if inner[-1] > NOTHING else 0.0}
    if material.start is not None or material.trained is False:
        found["start_loss"] = measured.loss / guess
    found["shrink"] = found["reach"] ** (1 / max(1, factors))
    names["when"] = "before the first step" if "start_loss" in found else "now"
    names["first"] = measured.names[1 if len(measured.names) > 1 else 0]
    if len(relative):
        middle = float(np.median(relative))
        found["balance"] = float(relative.min()) / middle if middle > 0 else 0.0
    scales = _scales(network, images)
    if len(scales) > 1 and scales[0] > 0:
        found["signal"] = (scales[-1] / scales[0]) ** (1 / (len(scales) - 1)) if scales[-1] > 0 else 0.0
        found["logits"] = scales[-1]
    return found, measured.weights


def _scales(network: nn.Module, images: Tensor) -> list[float]:
    """The standard deviation of what each layer with a weight outputs, over images and units, in order."""
    found: list[float] = []

    def look(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and any(p.ndim > 1 for p in module.parameters(recurse=False)):
            found.append(float(output.std()))

    with torch.no_grad(), observe(network, look, leaves_only=True):
        logits_of(network, images)
    return found


def _activations(network: nn.Module, images: Tensor, names: dict[str, str]) -> dict[str, float]:
    """The largest share of dead channels, and of saturated values, of a layer, over all the images."""
    alive: dict[str, Tensor] = {}
    flat: dict[str, list[float]] = {}
    calls: Counter[str] = Counter()  # one module may be called more than once in a pass

    def look(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim < 2:
            return
        calls[name] += 1
        name = call_name(name, calls[name] - 1)
        if isinstance(module, RECTIFIERS):
            seen = (output != 0).transpose(0, 1).flatten(1).any(1)
            alive[name] = alive[name] | seen if name in alive else seen
        if isinstance(module, (nn.Sigmoid, nn.Tanh)):
            flat.setdefault(name, []).append(saturated_share(module, output))

    with evaluating(network), torch.no_grad(), observe(network, look, leaves_only=True):
        for start in range(0, len(images), BLOCK):
            calls.clear()
            logits_of(network, images[start : start + BLOCK])
    found = {"dead": math.nan}
    if alive:
        worst = max(alive, key=lambda name: float((~alive[name]).float().mean()))
        found["dead"], names["dead"] = float((~alive[worst]).float().mean()), worst
    if flat:
        worst = max(flat, key=lambda name: float(np.mean(flat[name])))
        found["saturated"], names["saturated"] = float(np.mean(flat[worst])), worst
    return found


def _unlearned(material: Observations, weights: Sequence[Weight], names: dict[str, str]) -> dict[str, float]:
    """Weights that are where they were at the start to the last bit, though others moved and a gradient comes to them.

    Where a gradient is too small to move a weight, the gradient is the fault and not the weight.
    """
    assert material.start is not None
    before = dict(material.start.named_parameters())
    every = material.network.named_parameters()
    wide = {n: p for n, p in every if p.ndim > 1 and n in before and n not in material.designed}
    still = [n for n, p in wide.items() if p.shape == before[n].shape and torch.equal(p.detach(), before[n].detach())]
    if len(still) == len(wide):
        return {}
    relative = {w.name: w.relative for w in weights}
    enough = ARRIVES * float(np.median(list(relative.values()))) if relative else 0.0
    reasons = {
        "is frozen": [n for n in still if not wide[n].requires_grad],
        "is not used": [n for n in still if wide[n].requires_grad and relative.get(n) == 0],
        "is not in the optimizer": [n for n in still if wide[n].requires_grad and relative.get(n, 0.0) > enough],
    }
    how, found = next(((how, found) for how, found in reasons.items() if found), ("", []))
    if found:
        names["how"] = how
        names["unlearned"] = found[0] if len(found) == 1 else f"{found[0]}, with {len(found) - 1} more,"
    return {"unlearned": float(len(found))}


def _from_watching(watched: Watched, names: dict[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    _, update = watched.of("update")
    if update.size:
        medians = np.nanmedian(update, axis=0)
        found["update"] = float(np.nanmedian(medians))
        found["largest_update"] = largest = float(np.nanmax(medians))
        names["moved"] = f"; the largest update of a layer was {largest:.2g} of its weight"
    norms, training = watched.of("training")
    if training.size:
        found["norms_frozen"] = float(np.mean(training == 0))
        still = [n for n, column in zip(norms, training.T, strict=True) if (column == 0).any()]
        names["norms_frozen"] = still[0] if still else ""
    return found
