"""A batch norm with the activation and the max pool beside it, forward and backward in one pass over memory each.

Torch goes over memory for the mean, the deviation, the norm, the activation and the pool, keeps what each gave, and
goes all the way back. Here the activation and what was normalised are computed again where they are needed. After Ioffe
and Szegedy 2015 (arXiv:1502.03167), with the gradient of that paper.

All maps are float32 tensors (B, C, H, W) in channels-last memory. What comes out does not depend on the threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .threads import over

ACTIVATIONS: dict[type[nn.Module], int] = {nn.ReLU: 1, nn.SiLU: 2}  # by their number in norm_loops
BLOCK_FLOATS = 1 << 16  # numbers that are worked on at a time: 256 kB
BLOCK_ROWS = 1 << 10  # at most: so many numbers are summed one by one
ROW_FLOATS = 256  # rows of fewer channels are joined to rows of about so many numbers


@dataclass(frozen=True)
class Row:
    """What stands in a row: a 2x2 max pool ``before`` the norm or ``after`` all, not both; an activation's number."""

    before: bool = False
    activation: int = 0
    after: bool = False


@dataclass(frozen=True)
class RowShape:
    """A row, and the channels, height and width of what it is given."""

    channels: int
    height: int
    width: int
    row: Row


@dataclass(frozen=True)
class Moments:
    """Of C channels over their ``count`` numbers: ``mean`` and ``variance`` (over the count) float64 (C,)."""

    mean: np.ndarray
    variance: np.ndarray
    count: int


def fits(images: Tensor) -> bool:
    """Tell whether maps are of the kind that is computed here."""
    return (
        images.dtype == torch.float32
        and images.device.type == "cpu"
        and images.ndim == 4
        and images.numel() > 0
        and images.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )


def by_torch(images: Tensor, weight: Tensor | None, bias: Tensor | None, row: Row) -> Tensor:
    """A row's output as torch computes it, one after the other."""
    images = F.max_pool2d(images, 2) if row.before else images
    out = F.batch_norm(images, None, None, weight, bias, training=True)
    out = (F.relu, F.silu)[row.activation - 1](out) if row.activation else out
    return F.max_pool2d(out, 2) if row.after else out


def normalise(  # noqa: PLR0913 - what a norm is, and its row
    images: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    row: Row,
    seen: Callable[[Moments], None] | None = None,
) -> Tensor:
    """The row's output, of maps whose own moments normalise them; ``seen`` is told these.

    ``weight`` and ``bias`` are (C,); None is 1 and 0. With a pool behind the norm both sides of the maps are even.
    """
    return _Normalised.apply(images, weight, bias, epsilon, row, seen)


@np.errstate(all="ignore")
def normalise_by(  # noqa: PLR0913 - what a norm is, and its row
    images: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, row: Row, moments: Moments
) -> Tensor:
    """The row's output, of maps that given moments normalise, as in evaluation; it has no gradients."""
    x = channels_last(images)
    x = _pooled(x)[0] if row.before else x
    return _rest(x, _line(weight, bias, epsilon, moments), row)[0]


def _line(weight: Tensor | None, bias: Tensor | None, epsilon: float, moments: Moments) -> np.ndarray:
    """Alpha and beta, float32 (2, C)."""
    alpha = 1 / np.sqrt(moments.variance + epsilon)
    alpha = alpha if weight is None else alpha * weight.detach().double().numpy()
    beta = -moments.mean * alpha if bias is None else bias.detach().double().numpy() - moments.mean * alpha
    return _float([alpha, beta])


def _rest(x: Tensor, line: np.ndarray, row: Row) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What comes behind the moments: the output, and with a pool the x that each is of, and which of its square."""
    from . import norm_loops as loops

    if row.after:
        chosen, which = _halved(x), _halved(x, torch.uint8)
        out, pooled = _maps(*chosen.shape)
        arrays = [x.numpy(), line, pooled.numpy(), chosen.numpy(), which.numpy()]
        _by_map(loops.forward_pooled(row.activation), arrays, chosen.shape)
        return out, chosen, which
    (out, rows), wide = _maps(*x.shape), _Wide.of(x)
    wide.run(loops.forward(row.activation), [wide.rows(x), wide.tiled(line), wide.rows(rows)])
    return out, None, None


class _Normalised(torch.autograd.Function):
    @staticmethod
    @np.errstate(all="ignore")  # what is not finite makes its channel so
    def forward(  # noqa: PLR0913 - what autograd passes on
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        epsilon: float,
        row: Row,
        seen: Callable[[Moments], None] | None,
    ) -> Tensor:
        x, which = channels_last(images), None
        ctx.before = x.shape
        if row.before:
            x, which = _pooled(x)
        moments = _moments(x)
        if seen is not None:
            seen(moments)
        ctx.moments, ctx.row, ctx.epsilon = moments, row, epsilon
        ctx.line = _line(weight, bias, epsilon, moments)
        out, chosen, of_square = _rest(x, ctx.line, row)
        ctx.save_for_backward(x, chosen, of_square if row.after else which)
        return out

    @staticmethod
    @once_differentiable
    @np.errstate(all="ignore")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        from . import norm_loops as loops

        x, chosen, which = ctx.saved_tensors
        row, dz, moments = ctx.row, channels_last(gradient), ctx.moments
        deviation = 1 / np.sqrt(moments.variance + ctx.epsilon)
        line = np.concatenate([ctx.line, _float([moments.mean])])
        dy = torch.empty_like(dz) if row.activation == loops.SILU else dz
        total, with_x = _sums(dz, x if chosen is None else chosen, dy, line, row.activation)
        dz, activation = dy, loops.NONE if row.activation == loops.SILU else row.activation
        alpha = ctx.line[0].astype(np.float64) / moments.count
        line = np.concatenate([line, _float([-alpha * deviation**2 * with_x, -alpha * total])])
        dx = None
        if ctx.needs_input_grad[0] and row.after:
            dx = torch.empty_like(x)
            arrays = [dz.numpy(), x.numpy(), chosen.numpy(), which.numpy(), line, dx.numpy()]
            _by_map(loops.backward_pooled(activation), arrays, dz.shape)
        elif ctx.needs_input_grad[0] and row.before:
            odd = ctx.before[1] % 2 or ctx.before[2] % 2
            dx = (torch.zeros if odd else torch.empty)(ctx.before)
            arrays = [dz.numpy(), x.numpy(), which.numpy(), line, dx.numpy()]
            _by_map(loops.backward_of_pooled(activation), arrays, dz.shape)
        elif ctx.needs_input_grad[0]:
            dx, wide = torch.empty_like(x), _Wide.of(x)
            arrays = [wide.rows(dz), wide.rows(x), wide.tiled(line), wide.rows(dx)]
            wide.run(loops.backward(activation), arrays)
        of_weight = torch.from_numpy(_float(with_x * deviation)) if ctx.needs_input_grad[1] else None
        of_bias = torch.from_numpy(_float(total)) if ctx.needs_input_grad[2] else None
        return None if dx is None else dx.permute(0, 3, 1, 2), of_weight, of_bias, None, None, None


# ------------------------------------------------------------------------------------------------------ passes


def _moments(x: Tensor) -> Moments:
    """The moments of all channels: those of blocks, put together in float64 (Chan et al. 1979)."""
    from . import norm_loops as loops

    wide = _Wide.of(x)
    parts = wide.parts(loops.moments(), [wide.rows(x)])
    ends = np.minimum(np.arange(1, len(parts) + 1) * wide.block_rows, len(wide.rows(x)))
    rows = np.diff(ends, prepend=0).astype(np.float64)[:, None, None]
    count = x.numel() // x.shape[3]
    mean = (parts[:, 0] * rows).sum((0, 1)) / count
    squares = (parts[:, 1] + rows * (parts[:, 0] - mean) ** 2).sum((0, 1))
    return Moments(mean, squares / count, count)


def _sums(dz: Tensor, x: Tensor, dy: Tensor, line: np.ndarray, activation: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each channel the sum of dy, and of dy times x - mean, float64 (C,); ``dy`` takes that of a SiLU."""
    from . import norm_loops as loops

    wide = _Wide.of(x)
    arrays = [wide.rows(dz), wide.rows(x), wide.rows(dy), wide.tiled(line)]
    parts = wide.parts(loops.sums_of_gradients(activation), arrays)
    return parts[:, 0].sum((0, 1)), parts[:, 1].sum((0, 1))


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    """The 2x2 max pool of maps (B, H, W, C), and which number of each square it took."""
    from . import norm_loops as loops

    pooled, which = _halved(x), _halved(x, torch.uint8)
    _by_map(loops.pool(), [x.numpy(), pooled.numpy(), which.numpy()], pooled.shape)
    return pooled, which


# ------------------------------------------------------------------------------------------------ rows and blocks


@dataclass(frozen=True)
class _Wide:
    """Maps (B, H, W, C) as rows of ``times`` C numbers: many enough for vectors, of a number that divides them.

    What is summed is summed by blocks of rows, which are of the shape alone and not of the threads.
    """

    count: int  # places: B H W
    channels: int
    times: int

    @classmethod
    def of(cls, x: Tensor) -> _Wide:
        count, channels = x.numel() // x.shape[3], x.shape[3]
        return cls(count, channels, joined(count, channels))

    @property
    def block_rows(self) -> int:
        return max(1, min(BLOCK_ROWS, BLOCK_FLOATS // (self.times * self.channels)))

    def rows(self, x: Tensor) -> np.ndarray:
        return x.view(self.count // self.times, self.times * self.channels).numpy()

    def tiled(self, line: np.ndarray) -> np.ndarray:
        """Rows of a number a channel, for each column of the maps' rows."""
        return np.tile(line, self.times)

    def run(self, loop: Any, arrays: list[np.ndarray]) -> None:
        """Run a loop over all rows."""
        over(loop, arrays, self.count // self.times)

    def parts(self, loop: Any, arrays: list[np.ndarray]) -> np.ndarray:
        """What a loop sums in each block: float64 (blocks, 2, columns of a channel, C)."""
        blocks = math.ceil(self.count // self.times / self.block_rows)
        found = np.empty((blocks, 2, self.times * self.channels), np.float32)
        over(loop, [*arrays, self.block_rows, found], blocks)
        return found.reshape(blocks, 2, self.times, self.channels).astype(np.float64)


def joined(count: int, channels: int) -> int:
    """How many neighbouring places of so many to take as one row: as many as make it long enough, and divide them."""
    times = 1
    while times * channels < ROW_FLOATS and count % (2 * times) == 0:
        times *= 2
    return times


def _by_map(loop: Any, arrays: list[np.ndarray], pooled: torch.Size) -> None:
    """Run a loop over the rows of pooled maps (B, H/2, W/2, C)."""
    over(loop, arrays, pooled[0] * pooled[1])


def _maps(count: int, height: int, width: int, channels: int) -> tuple[Tensor, Tensor]:
    """New maps (B, C, H, W) in channels-last memory, and their numbers as (B, H, W, C).

    The first may be given away: of a view that a function of its own returns torch lets nothing be changed in place.
    """
    maps = torch.empty(count, channels, height, width, memory_format=torch.channels_last)
    return maps, maps.permute(0, 2, 3, 1)


def _halved(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    count, height, width, channels = x.shape
    return torch.empty(count, height // 2, width // 2, channels, dtype=dtype)


def channels_last(maps: Tensor) -> Tensor:
    """The same numbers with the channels last in shape and memory."""
    return maps.detach().permute(0, 2, 3, 1).contiguous()


def _float(values: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    return np.asarray(values).astype(np.float32)
