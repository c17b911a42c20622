"""Our own functions of autograd, against float64 autograd of the plain version: outputs and all gradients.

They compute in float32 alone, so torch's gradcheck cannot take them; the plain versions are checked by it in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import slow_winograd
from convscope.convolution.minimal_filtering import Filtering
from convscope.convolution.normalised import Moments, Row, by_torch, normalise, normalise_by
from convscope.convolution.passes import Passes, convolve
from convscope.convolution.peaks import peaks
from convscope.convolution.timing import EPSILON, SIZES
from convscope.models.synced_norms import synced
from convscope.models.taps import computing_by
from torture.numbers_compare import LAST, Check, Random, all_apart, apart, drawn, first, of_kind, size, unequal, usual

FILTERINGS = [Filtering(m, r) for r in (3, 5) for m in SIZES if m + r - 1 <= 8]
WIDE_TILE = 4e-5  # NEAR of tiles of 8: float32 loses digits between points that far apart (docs/log.md)


def convolution(random: Random) -> str:
    """All passes of a convolution by minimal filtering; the scale is the largest sum of absolute products."""
    way = FILTERINGS[size(random, 0, len(FILTERINGS) - 1)]
    counts = (size(random, 1, 3), size(random, 1, 24), size(random, 1, 24))
    return convolved(random, way, counts, (size(random, 1, 13), size(random, 1, 13)))


def convolved(random: Random, way: Filtering, counts: tuple[int, int, int], sides: tuple[int, int]) -> str:
    """The same for one filtering, numbers of images, channels and filters, and sides of a map; any padding."""
    r, (images, channels, filters) = way.filter_size, counts
    padding = size(random, 0, r - 1), size(random, 0, r - 1)
    sides = tuple(max(side, r - 2 * p) for side, p in zip(sides, padding, strict=True))
    x, w = drawn(random, images, channels, *sides), drawn(random, filters, channels, r, r, but="large, denormal")
    x = x.contiguous(memory_format=LAST)
    dy = drawn(random, *F.conv2d(x, w, padding=padding).shape, but="large, denormal")

    def passes(x: Tensor, w: Tensor, dy: Tensor, ours: bool) -> list[Tensor]:
        x, w = x.clone(memory_format=torch.preserve_format).requires_grad_(), w.clone().requires_grad_()
        out = convolve(x, w, None, padding, Passes(way, way, way)) if ours else F.conv2d(x, w, padding=padding)
        return [out.detach(), *torch.autograd.grad(out, (x, w), dy)]

    found, right = passes(x, w, dy, True), passes(x.double(), w.double(), dy.double(), False)
    most = passes(x.double().abs(), w.double().abs(), dy.double().abs(), False)
    # A tile multiplies padding too, so what is large and meets nothing else rounds as if it met the largest value.
    edge = F.pad(x.double().abs(), (padding[1], padding[1], padding[0], padding[0]), value=float(x.abs().max()))
    most[0] = F.conv2d(edge, w.double().abs())
    most[1] = dy.double().abs().max() * w.double().abs().sum((0, 2, 3))
    most[2] = torch.nn.grad.conv2d_weight(edge, w.shape, dy.double().abs())
    near = WIDE_TILE if way.side > 7 else 1e-5
    scales = [float(one.max()) for one in most]
    names = ("output", "gradient of the images", "gradient of the filters")
    rows = zip(found, right, names, scales, strict=True)
    return first(*(apart(a, b, f"{way}'s {name}", near, scale) for a, b, name, scale in rows))


def row(random: Random) -> str:
    """A norm with what stands beside it, in one go, forward and backward."""
    before, after = [(False, False), (True, False), (False, True)][size(random, 0, 2)]
    kind = Row(before, size(random, 0, 2), after)
    return normed(random, kind, (size(random, 1, 4), size(random, 1, 40)), (size(random, 2, 11), size(random, 2, 11)))


def normed(random: Random, kind: Row, counts: tuple[int, int], sides: tuple[int, int]) -> str:
    """The same for one kind of row, numbers of images and channels, and sides of a map.

    An output is alpha x + beta, which is rounded by the size of its terms; so are gradients by that of alpha dz and of
    what is left of x behind its mean.
    """
    sides = (2 * sides[0], 2 * sides[1]) if kind.after else sides
    images = max(counts[0], 8 // (min(sides[0] // 2, sides[0]) or 1))
    # Below the digits of beta all of a square is equal, and which of it a pool takes is anybody's choice.
    kinds = "one large, tiny, denormal" if kind.after else "one large"
    x = drawn(random, images, counts[1], *sides, but=kinds).contiguous(memory_format=LAST)
    weight, bias = usual(random, counts[1]) + 1, usual(random, counts[1])
    shape = by_torch(x, weight, bias, kind).shape
    dz = drawn(random, *shape, but="large, denormal").contiguous(memory_format=LAST)

    def passes(way, *given: Tensor) -> list[Tensor]:
        given = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in given]
        out = way(*given)
        return [out.detach(), *torch.autograd.grad(out, given, dz.to(out.dtype))]

    found = passes(lambda x, w, b: normalise(x, w, b, EPSILON, kind), x, weight, bias)
    right = passes(lambda x, w, b: by_torch(x, w, b, kind), x.double(), weight.double(), bias.double())
    pooled = F.max_pool2d(x, 2).double() if kind.before else x.double()
    deviation = (pooled.var((0, 2, 3), correction=0) + EPSILON).sqrt()
    left = pooled.abs().amax((0, 2, 3)) / deviation  # what x is beside its own spread
    terms = float((left * (weight.abs() + 1)).max()) + float(bias.abs().max())
    per_channel = float(dz.abs().double().sum((0, 2, 3)).max())
    of_x = float((weight.abs() / deviation).max()) * float(dz.abs().max()) * (1 + float(left.max()))
    bend = 1 + (terms if kind.activation == 2 else 0)  # a SiLU's slope is that of a rounded number
    scales = (terms, bend * of_x, bend * per_channel * float(left.max()), bend * per_channel)
    names = ("output", "gradient of the images", "gradient of the scale", "gradient of the shift")
    rows = zip(found, right, names, scales, strict=True)
    return first(*(apart(a, b, f"{kind}'s {name}", scale=scale) for a, b, name, scale in rows))


def team(count: int) -> list[Callable[[Tensor], Tensor]]:
    """For each of some threads, what gives all of them what each holds."""
    held, barrier = [torch.empty(0)] * count, Barrier(count, timeout=20)

    def gather(rank: int, values: Tensor) -> Tensor:
        held[rank] = values
        barrier.wait()
        found = torch.stack(held)
        barrier.wait()
        return found

    return [partial(gather, rank) for rank in range(count)]


def synchronised(random: Random) -> str:
    """A batch norm over the uneven shares of one to three processes, against that of the whole batch."""
    count, channels = size(random, 1, 3), size(random, 1, 12)
    shape = (size(random, count, 9), channels, size(random, 1, 5), size(random, 2, 5))
    x, dz = drawn(random, *shape, but="one large"), drawn(random, *shape, but="large, denormal")
    norms = [nn.BatchNorm2d(channels, eps=EPSILON) for _ in range(count + 1)]
    weight, bias = usual(random, channels) + 1, usual(random, channels)
    with torch.no_grad():
        for norm in norms:
            norm.weight.copy_(weight)
            norm.bias.copy_(bias)

    def passes(norm: nn.BatchNorm2d, x: Tensor, dz: Tensor) -> list[Tensor]:
        given = x.clone().requires_grad_()
        out = norm(given)
        return [out.detach(), *torch.autograd.grad(out, [given, norm.weight, norm.bias], dz)]

    def share(rank: int, gather: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with computing_by(synced(norms[rank], gather)):
            return passes(norms[rank], x.tensor_split(count)[rank], dz.tensor_split(count)[rank])

    with ThreadPoolExecutor(count) as pool:
        out, of_x, of_weight, of_bias = zip(*pool.map(share, range(count), team(count)), strict=True)
    found = [torch.cat(out), torch.cat(of_x), torch.stack(of_weight).sum(0), torch.stack(of_bias).sum(0)]
    right = passes(norms[-1].double(), x.double(), dz.double())
    deviation = (x.double().var((0, 2, 3), correction=0) + EPSILON).sqrt()
    left = x.double().abs().amax((0, 2, 3)) / deviation  # as of a row
    terms = float((left * (weight.abs() + 1)).max()) + float(bias.abs().max())
    steepest = float((weight.abs() / deviation).max()) * float(dz.abs().max()) * (1 + float(left.max()))
    per_channel = float(dz.abs().double().sum((0, 2, 3)).max())
    scales = (terms, steepest, per_channel * float(left.max()), per_channel)
    names = ("output", "gradient of the images", "gradient of the scale", "gradient of the shift")
    rows = zip(found, right, names, scales, strict=True)
    moved = [[norm.get_buffer(f"running_{what}") for what in ("mean", "var")] for norm in norms]
    return first(
        *(apart(a, b, f"a synchronised norm's {name}", scale=scale) for a, b, name, scale in rows),
        *(all_apart(own, moved[-1], "mean variance", scale=float(x.abs().max())) for own in moved[:-1]),
    )


def row_evaluated(random: Random) -> str:
    """A row by given moments, as in evaluation."""
    kind = Row(False, size(random, 0, 2), bool(random.integers(2)))
    sides, channels = (2 * size(random, 1, 5), 2 * size(random, 1, 5)), size(random, 1, 40)
    x = drawn(random, size(random, 1, 3), channels, *sides).contiguous(memory_format=LAST)
    mean, variance = random.normal(size=channels), random.uniform(0, 2, channels)
    weight, bias = usual(random, channels), usual(random, channels)
    found = normalise_by(x, weight, bias, EPSILON, kind, Moments(mean, variance, 0))
    given = [torch.from_numpy(mean), torch.from_numpy(variance), weight.double(), bias.double()]
    plain = F.batch_norm(x.double(), *given, training=False, eps=EPSILON)
    out = (plain, F.relu(plain), F.silu(plain))[kind.activation]
    out = F.max_pool2d(out, 2) if kind.after else out
    alpha = float((weight.double().abs() / torch.from_numpy(variance + EPSILON).sqrt()).max())
    return apart(found, out, f"{kind} in evaluation", scale=alpha * (float(x.abs().max()) + np.abs(mean).max()))


def highest_values(random: Random) -> str:
    """The highest value of each map, where it is, and how many are above 0: equal, not near."""
    shape = size(random, 1, 4), size(random, 1, 300), size(random, 1, 12), size(random, 1, 12)
    x = drawn(random, *shape).contiguous(memory_format=LAST)
    x = x.round().contiguous(memory_format=LAST) if random.integers(2) else x
    values, places, above = peaks(x)
    flat = x.flatten(2)
    wrong = (values != flat.amax(2)).any() or (places != flat.argmax(2)).any()
    wrong = wrong or (above != (flat > 0).sum((0, 2)).double()).any()
    return f"the peaks of maps {shape} are not torch's" if wrong else ""


def plain_version(random: Random) -> str:
    """gradcheck, in float64: of minimal filtering as its formula has it, and of the row that ours is compared with."""
    way = FILTERINGS[size(random, 0, len(FILTERINGS) - 1)]
    x = usual(random, 1, size(random, 1, 2), 6, 5).double().requires_grad_()
    w = usual(random, 2, x.shape[1], way.filter_size, way.filter_size).double().requires_grad_()
    padding = size(random, 1, 2), size(random, 1, 2)
    kind = Row(False, 2, False)
    weight, bias = (usual(random, x.shape[1]).double().requires_grad_() for _ in range(2))

    def held(function, *given: Tensor) -> bool:
        return torch.autograd.gradcheck(function, given, raise_exception=False, fast_mode=True)

    if not held(lambda a, b: slow_winograd.convolve(a, b, way, padding), x, w):
        return f"{way} as its formula has it does not have the gradients of differences"
    if not held(lambda a, b, c: by_torch(a, b, c, kind), x, weight, bias):
        return f"{kind} by torch does not have the gradients of differences"
    return apart(slow_winograd.convolve(x, w, way, padding), F.conv2d(x, w, padding=padding), f"{way}'s formula", 1e-9)


def differences(random: Random) -> str:
    """The gradient of each function along a random direction, against differences of its own outputs.

    In float32 a difference has about three digits: so a gradient that is another's, or has a wrong sign, is seen.
    """
    x = of_kind(random, "usual", 2, 4, 6, 6).contiguous(memory_format=LAST)
    way, step = FILTERINGS[size(random, 0, len(FILTERINGS) - 1)], 2e-2
    w = usual(random, 3, 4, way.filter_size, way.filter_size)
    weight, bias, kind = usual(random, 4) + 2, usual(random, 4), Row(False, 2, False)
    functions = {
        "the convolution": lambda x: convolve(x, w, None, (1, 1), Passes(way, way, way)),
        "the row": lambda x: normalise(x, weight, bias, EPSILON, kind),
    }
    along = usual(random, *x.shape).contiguous(memory_format=LAST)
    along /= along.norm()
    for name, function in functions.items():
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        out = function(given)
        dz = usual(random, *out.shape)
        (gradient,) = torch.autograd.grad(out, given, dz)
        ends = [(function(x + sign * step * along).double() * dz.double()).sum() for sign in (1, -1)]
        slope = float(ends[0] - ends[1]) / (2 * step)
        scale = float(dz.norm() * gradient.norm() / dz.norm())
        if abs(slope - float((gradient.double() * along.double()).sum())) > 1e-2 * scale:
            return f"the gradient of {name} is not that of differences"
    return ""


def same_bits_again(random: Random) -> str:
    """A convolution and a row asked twice give the same bits."""
    seed = size(random, 0, 2**31)
    found = []
    for _ in range(2):
        again = np.random.default_rng(seed)
        x = drawn(again, 2, 8, 8, 8).contiguous(memory_format=LAST)
        w, weight, bias = usual(again, 8, 8, 3, 3), usual(again, 8), usual(again, 8)
        way = FILTERINGS[1]
        found.append(
            [
                convolve(x, w, None, (1, 1), Passes(way, way, way)),
                normalise(x, weight, bias, EPSILON, Row(False, 1, True)),
            ]
        )
    return unequal(*found, "a convolution or row asked twice")


# By the name of the subclass of torch.autograd.Function.
FUNCTIONS: dict[str, Check] = {"_Convolution": convolution, "_Normalised": row, "_Synchronised": synchronised}

ENTRIES: dict[str, Check] = {
    **{f"function {name}": check for name, check in FUNCTIONS.items()},
    "function, plain": plain_version,
    "function, differences": differences,
    "function, asked twice": same_bits_again,
    "layer, a row in evaluation": row_evaluated,
    "layer, peaks of maps": highest_values,
}
