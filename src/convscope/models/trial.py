"""One step of training on a copy of a network, before a run is made: what cannot be trained is told in a sentence."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..machine import device_of
from .taps import evaluating, logits_in

SCALES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # of images whose outputs are looked at: logits grow with them
VARIES = 1e-3  # over images a thousand times as bright; less is of a network that is blind to them
EACH = 8  # images of each scale
SOFTMAX, SIGMOID = "probabilities that add up to 1, as of a softmax", "between 0 and 1, as of a sigmoid"
LEAST = 1e-12  # a probability under it counts as this


def try_training(name: str, network: nn.Module, num_classes: int, image_size: int, batch_size: int) -> None:
    """Take one step on images of noise, on a copy. UsageError, in a sentence, for a network that cannot be trained."""
    parameters = list(network.parameters())
    if not any(p.requires_grad for p in parameters):
        why = "all its weights are frozen" if parameters else "it has no weights"
        raise UsageError(f"{name} has nothing to train: {why}.")
    odd = next((n for n, p in network.named_parameters() if p.is_complex()), None)
    if odd is not None:
        raise UsageError(f"{name} has complex weights ({odd}), which no optimizer here trains.")
    count = min(batch_size, 2)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        copy = deepcopy(network).train()
        images = torch.randn(count, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
        try:
            logits = copy(images)
        except Exception as error:  # whatever a user's code raises
            raise UsageError(f"{name} cannot be trained: {_reason(error, count)}.") from error
        _check_logits(name, logits, (count, num_classes))
        try:
            F.cross_entropy(logits.float(), torch.arange(count) % num_classes).backward()
        except Exception as error:
            raise UsageError(f"{name} cannot be trained: {_reason(error, count)}.") from error
    scripted = isinstance(copy, torch.jit.ScriptModule)  # the weights of a copy of one are no leaves
    if not scripted and all(p.grad is None for p in copy.parameters()):
        raise UsageError(f"{name} cannot be trained: no gradient reaches any of its weights.")


def _reason(error: Exception, count: int) -> str:
    words = " ".join(str(error).split()).rstrip(".")[:300]
    if count == 1 and "more than 1 value per channel" in words:
        return "its batch norm needs more than one value a channel: use a --batch-size of 3 or more"
    return words or type(error).__name__


def _check_logits(name: str, logits: object, shape: tuple[int, int]) -> None:
    if not isinstance(logits, Tensor):
        what = f"a {type(logits).__name__}"
        raise UsageError(f"{name} outputs {what} while it trains, and must output one tensor of logits.")
    if tuple(logits.shape) != shape:
        raise UsageError(f"{name} outputs {tuple(logits.shape)} while it trains, and must output {shape}: its logits.")
    if not logits.is_floating_point():
        raise UsageError(f"{name} outputs {logits.dtype} while it trains, and must output logits, real numbers.")
    if not logits.requires_grad:
        raise UsageError(f"{name} cannot be trained: no gradient reaches any of its weights.")


def output_fault(network: nn.Module, images_BCHW: Tensor) -> str | None:
    """What the outputs of a network are where they are no logits, in words; None where they may be logits.

    It is asked about images of noise up to a thousand times as bright as usual, and about those given: logits grow
    with them, while what a softmax, a sigmoid, a tanh or a ReLU outputs stays within its bounds.
    """
    shape = images_BCHW.shape[1:]
    generator = torch.Generator().manual_seed(0)
    noise = [scale * torch.randn(EACH, *shape, generator=generator) for scale in SCALES]
    with evaluating(network), torch.no_grad():
        try:
            found = [logits_in(network(x.to(device_of(network)))) for x in (images_BCHW, *noise)]
        except Exception:  # it is told elsewhere
            return None
    rows = [y.cpu().double() for y in found if y is not None and y.dim() == 2 and y.is_floating_point()]
    if len(rows) < len(found):
        return None
    outputs = torch.cat(rows)
    outputs = outputs[torch.isfinite(outputs).all(1)]
    return _told(outputs) if len(outputs) and outputs.shape[1] > 1 else None


def logits_behind(outputs_NK: Tensor, fault: str | None) -> Tensor:
    """What a last softmax or sigmoid was given, but for a constant; of other outputs these themselves."""
    if fault == SOFTMAX:
        return outputs_NK.clamp_min(LEAST).log()
    return torch.logit(outputs_NK.double(), LEAST).to(outputs_NK.dtype) if fault == SIGMOID else outputs_NK


def _told(outputs_NK: Tensor) -> str | None:
    least, most = float(outputs_NK.min()), float(outputs_NK.max())
    varied = float(outputs_NK.std(0).max()) > VARIES
    sums = outputs_NK.sum(1)
    if least >= 0 and bool((sums - 1).abs().max() < 1e-3):
        return SOFTMAX
    if varied and least >= 0 and most <= 1 + 1e-6 and max(most, 1 - least) > 0.9:
        return SIGMOID
    if varied and -1 - 1e-6 <= least < 0 and math.isclose(max(most, -least), 1, abs_tol=0.02) and most <= 1 + 1e-6:
        return "between -1 and 1, as of a tanh"
    if least == 0 and most > 0 and float((outputs_NK == 0).double().mean()) > 0.1:
        return "never below 0, as of a ReLU"
    return None
