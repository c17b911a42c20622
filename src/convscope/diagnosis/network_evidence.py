"""Evidence from networks alone: the first one and the present one, given training images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import bdtrc
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from ..models.followed import uncompiled
from ..models.taps import call_name, evaluating, observe
from ..models.trial import logits_behind
from ..training.watching import RECTIFIERS, saturated_share
from .chain import find_chain, logits_of
from .gradients import Gradients, Weight, gradients, ready
from .observations import Observations

BLOCK = 128  # images in a pass
LEAST = 1e-4  # a relative gradient under which a step at a usual rate moves no weight by a bit
ARRIVES = 1e-3  # of the median relative gradient: what has less gets none worth the name
MOST = 0.9  # of a rectifier's values
LESS = 0.15  # of them: what biases of zero must bring back at least
MANY = 0.6  # of a layer's channels: the share from which on why they are dead is looked for
SCALES = tuple(2.0**n for n in range(-2, 8))  # of outputs that are no logits, from which the fairest is taken
NOTHING = 1e-30  # the norm of a gradient that has died


def frozen_parameters(network: nn.Module) -> frozenset[str]:
    """The parameters that ask for no gradient, by name, compiled or not."""
    return frozenset(name for name, parameter in uncompiled(network).named_parameters() if not parameter.requires_grad)


def is_unmade(network: nn.Module) -> bool:
    """Whether it has weights that do not exist before its first images."""
    return any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers()))


def not_numbers(network: nn.Module) -> list[str]:
    """The tensors of a network that hold what is no number."""
    return [n for n, t in network.state_dict().items() if t.is_floating_point() and not torch.isfinite(t).all()]


def norms_unset(network: nn.Module) -> float:
    """The share of batch norms whose running statistics have seen no batch; NaN where none keeps any."""
    found = [(m.running_mean, m.running_var) for m in network.modules() if isinstance(m, _BatchNorm)]
    kept = [(mean, var) for mean, var in found if mean is not None and var is not None]
    return float(np.mean([bool((m == 0).all() and (v == 1).all()) for m, v in kept])) if kept else math.nan


def scores(
    material: Observations, known: Mapping[str, float], names: dict[str, str], behind: str | None, plain: bool
) -> dict[str, float]:
    """Accuracy with running statistics, and how much the loss differs from that with the batch's own.

    What is ``behind`` the outputs is measured, where they are no logits; they are ``plain`` logits of a cross-entropy,
    or the loss is another, and the scale of its outputs another too.
    """
    guess = known["guess"]
    logits = logits_behind(_logits(material.network, material.images), behind)
    loss, top1, varies = _scored(logits, material.labels)
    softmaxed = float(F.cross_entropy(logits.softmax(1), material.labels))
    own = math.nan  # the loss with a batch's own statistics
    found = {"top1": top1, "varies": varies, "better": _better(top1, material.labels)}
    if material.trained is not False:  # of the loss as it was trained, smoothed labels and mixed images are a part
        fair = loss if plain else min(_scored(scale * logits, material.labels)[0] for scale in SCALES)
        found["last_loss"] = known.get("last_loss", fair / guess)
        both = (1 - fair / guess, known.get("progress", math.nan))
        found["progress"] = max((p for p in both if math.isfinite(p)), default=-math.inf)
    else:
        found["progress"] = 0.0
    if material.held_out is not None:
        found["held_out_top1"] = _scored(_logits(material.network, material.held_out[0]), material.held_out[1])[1]
        found["better"] = _better(found["held_out_top1"], material.held_out[1])
        found["gap"] = top1 - found["held_out_top1"]
        chance = float(torch.bincount(material.held_out[1]).max()) / len(material.held_out[1])
        found["above_chance"] = found["held_out_top1"] - chance
    found["norms_unset"] = norms_unset(material.network)
    own_norms = [n for n, m in material.network.named_modules() if isinstance(m, _BatchNorm)]
    kept = all(f"{name}.weight" in material.designed for name in own_norms)  # as they were, on purpose
    if (
        not math.isnan(found["norms_unset"]) and material.trained is not False and not kept
    ):  # else they are of nothing yet
        copy = ready(deepcopy(material.network))
        with torch.no_grad():
            block = slice(0, BLOCK)
            outputs = logits_behind(logits_of(copy, material.images[block]), behind)
            own = float(F.cross_entropy(outputs, material.labels[block]))
        same, *_ = _scored(logits[block], material.labels[block])
        found["mode_gap"] = (same - own) / guess
    found["measured"] = loss
    if "told" in known:
        least = min((v for v in (loss, own) if math.isfinite(v)), default=math.nan)
        found["told_below"] = (least - known["told"]) / guess
        found["told_above"] = -found["told_below"]
        found["softmaxed_off"] = abs(known["told"] - softmaxed)
    if material.trained is not False:
        found |= _renamed(logits.argmax(1), material.labels, top1, names)
    if math.isnan(loss):
        found["not_numbers"], names["not_numbers"] = 1.0, "the answer, though no weight,"
    return found


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    """The outputs in evaluation mode: float32 (B, K)."""
    # Not by the pass of classifying: that takes stored images with their preprocess and a network that gives logits
    # alone, while here tensors come from any loop, and a network may answer with a tuple.
    with evaluating(network), torch.no_grad():
        return torch.cat([logits_of(network, images[i : i + BLOCK]).float() for i in range(0, len(images), BLOCK)])


def _better(top1: float, labels: Tensor) -> float:
    """The -log10 of the chance that guessing the commonest class is right so often."""
    count = len(labels)
    share = float(torch.bincount(labels).max()) / count
    chance = float(bdtrc(round(top1 * count) - 1, count, share))
    return -math.log10(max(chance, 1e-300))


def _scored(logits_BK: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Mean loss, accuracy, and the standard deviation of a logit over the images, on average."""
    right = (logits_BK.argmax(1) == labels).float().mean()
    return float(F.cross_entropy(logits_BK, labels)), float(right), float(logits_BK.std(0).mean())


def _renamed(answers: Tensor, labels: Tensor, top1: float, names: dict[str, str]) -> dict[str, float]:
    """What accuracy would be if classes had the names by which most answers are right."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    count = int(max(answers.max(), labels.max())) + 1
    table = torch.bincount(labels * count + answers, minlength=count * count).reshape(count, count)
    mostly = dict(zip(*(ends.tolist() for ends in linear_sum_assignment(table.numpy(), maximize=True)), strict=True))
    mostly = {c: a for c, a in mostly.items() if c in labels.unique().tolist()}
    right = float(torch.tensor([mostly[c] for c in labels.tolist()]).eq(answers).float().mean())
    other = [f"{c} is answered as {a}" for c, a in mostly.items() if c != a]
    names["renamed"] = ", ".join(other[:4]) + (f" and {len(other) - 4} more" if len(other) > 4 else "")
    return {"renamed": right - top1, "renamed_right": right}


def at_start(
    first: nn.Module, material: Observations, guess: float, names: dict[str, str]
) -> tuple[dict[str, float], tuple[Weight, ...]]:
    """Gradients and signals in the first network, with batch statistics and no dropout."""
    images, labels = material.images[:BLOCK], material.labels[:BLOCK]
    network = ready(deepcopy(first))
    reached, unreached = gradient_ends(deepcopy(network), images[:2], labels[:2])
    if unreached:
        names["cut_above"], names["cut_below"] = reached[0] if reached else "no layer", unreached[-1]
        if not reached:
            names["cut_above"] = "the network's output"
        return {"cut": float(len(unreached))}, ()
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


def gradient_ends(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[list[str], list[str]]:
    """The layers with weights that ask for a gradient, in the order of calls: those that the loss's gradient reaches
    and, where it ends on its way, those below. A layer beside the way of the images is none of these. Gradients are
    left in the network: hand over a copy.
    """
    called: dict[str, nn.Module] = {}

    def look(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if any(p.requires_grad and p.ndim > 1 for p in module.parameters(recurse=False)):
            called.setdefault(name, module)

    with torch.enable_grad(), observe(network, look, leaves_only=True):
        logits = logits_of(network, images)
    if logits.requires_grad:
        F.cross_entropy(logits, labels).backward()
    reached = [n for n, m in called.items() if any(p.grad is not None for p in m.parameters(recurse=False))]
    cut = list(called)[: list(called).index(reached[0])] if reached else list(called)
    return reached, cut


def biases_at_start(first: nn.Module, images: Tensor, names: dict[str, str]) -> dict[str, float]:
    """The dead channels of the first network, and whether they are dead no more with its biases at zero."""
    told: dict[str, str] = {}
    dead = activations(first, images, told)["dead"]
    names["before"] = f"; {dead:.0%} of a layer were at the start"
    zeros, layer = zeros_of(ready(deepcopy(first)), images[:BLOCK])
    found = {"dead_before": dead, "zeros_before": zeros}
    names["zeros_before"] = layer
    if dead > MANY or zeros > MOST:
        copy = deepcopy(first)
        biases = [p for n, p in copy.named_parameters() if n.rpartition(".")[2] == "bias"]
        found["bias"] = min((float(p.detach().mean()) for p in biases), default=0.0)
        with torch.no_grad():
            for bias in biases:
                bias.zero_()
        found["dead_without"] = activations(copy, images, {})["dead"]
        found["zeros_without"], _ = zeros_of(ready(deepcopy(copy)), images[:BLOCK])
        fewer = (dead > MANY and found["dead_without"] < dead / 2) or found["zeros_without"] < zeros - LESS
        found["biases_kill"] = float(fewer)
        names["dead_before"] = told.get("dead", layer)
    return found


def zeros_of(network: nn.Module, images: Tensor) -> tuple[float, str]:
    """The largest share of zeros that a rectifier outputs, in the mode the network is in, and its name."""
    shares: dict[str, float] = {}

    def look(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(module, RECTIFIERS) and isinstance(output, Tensor):
            shares[name] = max(float((output == 0).float().mean()), shares.get(name, 0.0))

    with torch.no_grad(), observe(network, look, leaves_only=True):
        logits_of(network, images)
    worst = max(shares, key=lambda name: shares[name], default="")
    return shares.get(worst, math.nan), worst


def _scales(network: nn.Module, images: Tensor) -> list[float]:
    """The standard deviation of what each layer with a weight outputs, over images and units, in order."""
    found: list[float] = []

    def look(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and any(p.ndim > 1 for p in module.parameters(recurse=False)):
            found.append(float(output.std()))

    with torch.no_grad(), observe(network, look, leaves_only=True):
        logits_of(network, images)
    return found


def activations(network: nn.Module, images: Tensor, names: dict[str, str]) -> dict[str, float]:
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


def still_weights(material: Observations, weights: Sequence[Weight], names: dict[str, str]) -> dict[str, float]:
    """Weights that are where they were at the start to the last bit, though others moved and a gradient comes to them.

    Where a gradient is too small to move a weight, the gradient is the fault and not the weight.
    """
    assert material.start is not None
    before = dict(material.start.named_parameters())
    every = material.network.named_parameters()
    wide = {n: p for n, p in every if p.ndim > 1 and n in before and n not in material.designed}
    still = [n for n, p in wide.items() if p.shape == before[n].shape and torch.equal(p.detach(), before[n].detach())]
    if len(still) == len(wide):
        return {"still": float(material.trained is True and bool(wide))}
    relative = {w.name: w.relative for w in weights}
    enough = max(LEAST, ARRIVES * float(np.median(list(relative.values())))) if relative else 0.0
    unused = {w.name for w in weights if not w.used}
    reasons = {
        "is frozen": [n for n in still if not wide[n].requires_grad],
        "is not in the optimizer": [n for n in still if wide[n].requires_grad and relative.get(n, 0.0) > enough],
    }
    names["how"], found = next(((how, found) for how, found in reasons.items() if found), ("", []))
    beside = [n for n in still if wide[n].requires_grad and n in unused]
    names |= {name: _first_of(several) for name, several in (("unlearned", found), ("unused", beside)) if several}
    return {"unlearned": float(len(found)), "unused": float(len(beside))}


def _first_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}, with {len(names) - 1} more,"
