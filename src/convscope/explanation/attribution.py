"""Where a network looks: four maps over one image of how much each place counts for the logit of a class.

Every method leaves the network as it found it and takes any ``nn.Module`` from images (B, C, H, W) to logits (B, K).
A map alone is not evidence: ``sanity_check`` tells whether it depends on the weights at all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn

from ..errors import UnknownName, UsageError
from ..models.taps import Recording, evaluating, leaves, observe, record
from .maps import upsampled

POINTS_A_BATCH = 32  # of the path of integrated gradients, each with a backward pass
WINDOWS_A_BATCH = 64  # of occlusion, forward only
PASSING = 0.5  # mean absolute rank correlation from which a map is said not to depend on the weights


@dataclass(frozen=True)
class Attribution:
    """How much each place of an image counts for the logit of class ``target``.

    ``map_HW`` has the height and width of the image and is signed, save that of grad-cam, which is 0 or more. For
    cam and grad-cam, ``layer`` names the module whose output was weighed and ``coarse_hw`` is the map at its places,
    before upsampling. ``gap`` belongs to integrated gradients: the sum of the map minus (the logit of the image minus
    that of the baseline), in units of the logit. It would be 0 if the integral were exact.
    """

    method: str
    target: int
    map_HW: Tensor  # noqa: N815 - the axes are part of the name
    layer: str | None = None
    coarse_hw: Tensor | None = None
    gap: float | None = None


@dataclass(frozen=True)
class Layerwise:
    """One stage of ``sanity_check``: the last layer that was randomised, and the rank correlation, from -1 to 1."""

    layer: str
    correlation: float


Method = Callable[[nn.Module, Tensor, int, str | None], Attribution]


def cam(network: nn.Module, image_1CHW: Tensor, target: int, layer: str | None = None) -> Attribution:
    """Class activation mapping (Zhou et al. 2016, arXiv:1512.04150): the features, weighed by the last layer.

    For a network that ends in global average pooling, of more than one place, and one linear layer, whose outputs may
    be multiplied by a constant to make the logits. Exact there: the mean of ``coarse_hw`` plus the bias (times the
    constant) is the logit. ``layer`` names the module whose output is pooled; None finds it. Raises UsageError for any
    other network, layer, image or class, and UnknownName for a layer that does not exist.
    """
    with _with_gradients(network):
        names = [*leaves(network), *([] if layer is None else [layer])]
        with record(network, names, clone=True) as taps:
            logits_1K = _logits(network, _leaf(image_1CHW), target)
        modules = dict(network.named_modules())
        for name in reversed(taps.outputs):
            linear = modules.get(name)
            if not isinstance(linear, nn.Linear):
                continue
            factor = _factor(taps.outputs[name], logits_1K, target)
            found = None if factor is None else _pooled(taps, taps.inputs[name], layer)
            if factor is None or found is None:
                continue
            place, features_1Chw = found
            coarse_hw = factor * torch.einsum("k,khw->hw", linear.weight[target], features_1Chw[0])
            return _upsampled("cam", target, coarse_hw.detach(), place, image_1CHW)
    here = "" if layer is None else f" right after layer {layer!r}"
    raise UsageError(
        f"cam needs a network that ends in global average pooling and one linear layer{here}, and this one does not "
        "(or has only one place left to pool): grad-cam, integrated-gradients and occlusion work instead."
    )


def grad_cam(network: nn.Module, image_1CHW: Tensor, target: int, layer: str | None = None) -> Attribution:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): a layer's channels, weighed by the logit's mean gradients.

    The sum of the weighed channels, with what is negative set to 0. ``layer`` is any module that outputs (1, C, h, w);
    None is the last convolution that is called. Of a module called several times the last call counts. Raises
    UsageError for another shape, a network without a convolution, or a class that does not exist; UnknownName for the
    layer.
    """
    with _with_gradients(network):
        with record(network, None if layer is None else [layer], clone=True) as taps:
            logits_1K = _logits(network, _leaf(image_1CHW), target)
        if layer is None:
            modules = dict(network.named_modules())
            convolutions = [name for name in taps.outputs if isinstance(modules[name], nn.Conv2d)]
            if not convolutions:
                raise UsageError("grad-cam finds no 2-D convolution in this network: name the layer to look at.")
            layer = convolutions[-1]
        features_1Chw = taps.outputs.get(layer)
        if features_1Chw is None:
            raise UsageError(f"grad-cam needs a layer that outputs a tensor, and {layer!r} is not called or does not.")
        if features_1Chw.ndim != 4 or len(features_1Chw) != 1:
            shape = tuple(features_1Chw.shape)
            raise UsageError(f"grad-cam needs a layer that outputs (1, C, h, w), and {layer!r} outputs {shape}.")
        gradient_1Chw = _gradient(logits_1K[0, target], features_1Chw)
        weights_1C11 = gradient_1Chw.mean(dim=(2, 3), keepdim=True)
        coarse_hw = (weights_1C11 * features_1Chw.detach()).sum(dim=1)[0].relu()
    return _upsampled("grad-cam", target, coarse_hw, layer, image_1CHW)


def integrated_gradients(  # noqa: PLR0913 - the four that every method takes, and two options
    network: nn.Module,
    image_1CHW: Tensor,
    target: int,
    layer: str | None = None,
    *,
    baseline_1CHW: Tensor | None = None,
    steps: int = 64,
) -> Attribution:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365): the gradient along the way from a baseline.

    Its mean over the straight line from the baseline to the image (Gauss-Legendre, ``steps`` points), times their
    difference, summed over channels. The baseline is zeros unless given: the mean image, in normalised input. Adds up
    to the difference of the two logits, but for ``gap``. Raises UsageError for a layer (it looks at the image), a
    baseline of another shape, no steps, or a class that does not exist.
    """
    _no_layer("integrated-gradients", layer)
    if steps < 1:
        raise UsageError(f"integrated-gradients needs at least 1 step, and got {steps}.")
    if baseline_1CHW is not None and baseline_1CHW.shape != image_1CHW.shape:
        shapes = f"{tuple(image_1CHW.shape)}, and got {tuple(baseline_1CHW.shape)}"
        raise UsageError(f"integrated-gradients needs a baseline of the image's shape {shapes}.")
    places, weights = (torch.from_numpy(numbers / 2) for numbers in leggauss(steps))  # on [-1, 1], halved
    with _with_gradients(network):
        image = _leaf(image_1CHW).detach()
        baseline = torch.zeros_like(image) if baseline_1CHW is None else _leaf(baseline_1CHW).detach().to(image)
        _logits(network, image, target)  # complains before anything is computed
        mean = torch.zeros_like(image)
        for start in range(0, steps, POINTS_A_BATCH):
            part = slice(start, start + POINTS_A_BATCH)
            way, weight = (n.to(image).reshape(-1, 1, 1, 1) for n in (places[part] + 0.5, weights[part]))
            points_BCHW = (baseline + way * (image - baseline)).requires_grad_()
            total = _logits(network, points_BCHW, target)[:, target].sum()  # of each point only its own gradient
            mean += (weight * _gradient(total, points_BCHW)).sum(dim=0, keepdim=True)
        map_HW = ((image - baseline) * mean).sum(dim=1)[0]
        with torch.no_grad():
            ends = [float(_logits(network, end, target)[0, target]) for end in (image, baseline)]
    gap = float(map_HW.double().sum()) - (ends[0] - ends[1])
    return Attribution("integrated-gradients", target, map_HW, gap=gap)


def occlusion(  # noqa: PLR0913 - the four that every method takes, and three options
    network: nn.Module,
    image_1CHW: Tensor,
    target: int,
    layer: str | None = None,
    *,
    side: int | None = None,
    stride: int | None = None,
    baseline: float = 0.0,
) -> Attribution:
    """Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901): what the logit loses when a square is covered.

    A square of ``side`` pixels, all channels set to ``baseline``, moves ``stride`` pixels at a time; a pixel's value is
    the mean over the squares that cover it, in units of the logit. By default a quarter of the image's shorter side,
    and half of that. The last square of a row or column may reach over the border, where it is cut. Raises UsageError
    for a layer, a square that does not fit, a stride that leaves pixels out, or a class that does not exist.
    """
    _no_layer("occlusion", layer)
    with evaluating(network), torch.inference_mode(False), torch.no_grad():
        image = _leaf(image_1CHW).detach()
        logit = _logits(network, image, target)[0, target]
        size = image.shape[2:]
        side = max(1, min(size) // 4) if side is None else side
        stride = max(1, side // 2) if stride is None else stride
        if not 1 <= stride <= side <= min(size):
            raise UsageError(
                "occlusion needs 1 <= stride <= side <= the image's shorter side, "
                f"and got stride {stride}, side {side} and an image of {size[0]} x {size[1]} pixels."
            )
        rows, columns = ([slice(n * stride, n * stride + side) for n in range(_moves(s, side, stride))] for s in size)
        windows = [(row, column) for row in rows for column in columns]
        total_HW, count_HW = image.new_zeros(size), image.new_zeros(size)
        for start in range(0, len(windows), WINDOWS_A_BATCH):
            batch = windows[start : start + WINDOWS_A_BATCH]
            occluded_BCHW = image.repeat(len(batch), 1, 1, 1)
            for image_CHW, (row, column) in zip(occluded_BCHW, batch, strict=True):
                image_CHW[:, row, column] = baseline
            losses_B = logit - _logits(network, occluded_BCHW, target)[:, target]
            for loss, window in zip(losses_B, batch, strict=True):
                total_HW[window] += loss
                count_HW[window] += 1
    return Attribution("occlusion", target, total_HW / count_HW)


METHODS: dict[str, Method] = {
    "cam": cam,
    "grad-cam": grad_cam,
    "integrated-gradients": integrated_gradients,
    "occlusion": occlusion,
}


def sanity_check(
    network: nn.Module, image_1CHW: Tensor, target: int, method: str, seed: int = 0
) -> tuple[Layerwise, ...]:
    """Cascading randomisation (Adebayo et al. 2018, arXiv:1810.03292): does the map depend on the weights at all?

    On a copy, from the output down, the parameters of one layer after the other are drawn anew: from a normal
    distribution with the mean and standard deviation of the old ones, out of a generator of its own with this ``seed``.
    After each layer the absolute map is compared with the original one by Spearman's rank correlation; a map that is
    constant or not finite counts as 0. Layers are those that a pass calls and that have parameters of their own.
    Raises UnknownName for the method, and what the method raises.
    """
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    original_HW = METHODS[method](network, image_1CHW, target, None).map_HW
    with torch.inference_mode(False):  # else the copy would be of inference tensors, which take no gradient
        changed = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)  # of the processor, so that every device gets the same numbers
    checks = []
    for name, module in _from_the_output(changed, image_1CHW):
        with torch.inference_mode(False), torch.no_grad():
            for weights in module.parameters(recurse=False):
                drawn = torch.randn(weights.shape, generator=generator, dtype=weights.dtype).to(weights.device)
                weights.copy_(weights.mean() + weights.std(correction=0) * drawn)
        map_HW = METHODS[method](changed, image_1CHW, target, None).map_HW
        checks.append(Layerwise(name, _rank_correlation(original_HW.abs(), map_HW.abs())))
    return tuple(checks)


def passes(checks: Sequence[Layerwise]) -> bool:
    """Tell whether the later half of a sanity check has a mean absolute correlation below 0.5; False without stages."""
    later = [abs(check.correlation) for check in checks[len(checks) // 2 :]]
    return bool(later) and fmean(later) < PASSING


@contextmanager
def _with_gradients(network: nn.Module) -> Iterator[None]:
    """In evaluation mode and with gradients, whatever the caller has switched off."""
    with evaluating(network), torch.inference_mode(False), torch.enable_grad():
        yield


def _leaf(image_1CHW: Tensor) -> Tensor:
    """A copy of one image that a gradient can be asked of, so that frozen weights do not cut the graph."""
    if image_1CHW.ndim != 4 or len(image_1CHW) != 1 or not image_1CHW.is_floating_point():
        got = f"{tuple(image_1CHW.shape)} of {image_1CHW.dtype}"
        raise UsageError(f"an attribution needs one image (1, C, H, W) of floating-point numbers, and got {got}.")
    return image_1CHW.detach().clone().requires_grad_()


def _logits(network: nn.Module, images_BCHW: Tensor, target: int) -> Tensor:
    """The (B, K) logits, of which ``target`` is one."""
    logits = network(images_BCHW)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images_BCHW):
        shape = f"outputs {tuple(logits.shape)}" if isinstance(logits, Tensor) else "does not output a tensor"
        raise UsageError(f"an attribution needs a network that outputs (B, K) logits, and this one {shape}.")
    if not 0 <= target < logits.shape[1]:
        raise UsageError(f"the network has {logits.shape[1]} classes, counted from 0, and class {target} is not one.")
    return logits


def _gradient(value: Tensor, by: Tensor) -> Tensor:
    """The gradient of a number, asked for without touching any ``.grad``."""
    if value.requires_grad and by.requires_grad:
        (gradient,) = torch.autograd.grad(value, by, allow_unused=True)
        if gradient is not None:
            return gradient
    raise UsageError("no gradient leads from the logit back to the place asked for: the network or the layer cuts it.")


def _factor(linear_1K: Tensor, logits_1K: Tensor, target: int) -> Tensor | None:
    """The constant by which a linear layer's outputs were multiplied to make the logits; None if it was not so."""
    if linear_1K.shape != logits_1K.shape or not linear_1K.requires_grad:
        return None
    (slopes_1K,) = torch.autograd.grad(logits_1K[0, target], linear_1K, allow_unused=True)
    if slopes_1K is None:
        return None
    factor = slopes_1K[0, target]
    # A softmax mixes the classes and a tanh is no constant, so that in neither case the products are the logits.
    return factor if _close(factor * linear_1K, logits_1K) else None


def _pooled(taps: Recording, pooled_1C: Tensor, layer: str | None) -> tuple[str, Tensor] | None:
    """The last recorded (1, C, h, w) features whose mean over places is ``pooled_1C``, and the module they are from.

    What modules output comes before what they are given, which is needed only where a function made the features.
    """
    outputs = [(name, t) for name in reversed(taps.outputs) for t in reversed(taps.every_output[name])]
    given = [(name, taps.inputs[name]) for name in reversed(taps.inputs)]
    candidates = [*outputs, *given] if layer is None else [pair for pair in outputs if pair[0] == layer]
    for name, t in candidates:
        # Of one place, whatever was pooled, and in whatever way, is its own mean: that says nothing.
        fits = t.ndim == 4 and t.shape[:2] == pooled_1C.shape and t[0, 0].numel() > 1
        if fits and _close(t.mean(dim=(2, 3)), pooled_1C):
            return name, t
    return None


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal to about four digits of the largest number, as sums in another order are."""
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.detach().abs().max()))


def _upsampled(method: str, target: int, coarse_hw: Tensor, layer: str, image_1CHW: Tensor) -> Attribution:
    height, width = image_1CHW.shape[2:]
    return Attribution(method, target, upsampled(coarse_hw, (height, width)), layer, coarse_hw)


def _no_layer(method: str, layer: str | None) -> None:
    if layer is not None:
        raise UsageError(f"{method} looks at the image itself and takes no layer, and got {layer!r}.")


def _moves(size: int, side: int, stride: int) -> int:
    """Tell how many squares stand in a row, so that the last one reaches the border."""
    return math.ceil((size - side) / stride) + 1


def _from_the_output(network: nn.Module, image_1CHW: Tensor) -> list[tuple[str, nn.Module]]:
    """The modules with parameters of their own, in the opposite order of their latest calls."""
    called: dict[str, nn.Module] = {}

    def note(name: str, module: nn.Module, *_: object) -> None:
        called.pop(name, None)  # a name comes where it was called last
        if next(module.parameters(recurse=False), None) is not None:
            called[name] = module

    with evaluating(network), torch.no_grad(), observe(network, note):
        network(image_1CHW)
    return list(reversed(called.items()))


def _rank_correlation(one_HW: Tensor, other_HW: Tensor) -> float:
    """Spearman's; 0 where it is not defined."""
    flat = [m.detach().double().flatten().cpu().numpy() for m in (one_HW, other_HW)]
    if any(not m.size or m.min() == m.max() for m in flat):  # scipy would warn of these
        return 0.0
    from scipy.stats import spearmanr  # slow to import

    correlation = float(spearmanr(*flat).statistic)
    return correlation if math.isfinite(correlation) else 0.0
