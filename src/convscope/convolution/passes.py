"""A convolution whose three passes are each computed directly or by minimal filtering, as autograd knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .minimal_filtering import Filtering
from .normalised import fits

ONE, NONE = (1, 1), (0, 0)
Padding = tuple[int, int]
Tiles = tuple[int, int, int]  # outputs a side of a tile: forward, gradient of the input, of the filters; 0 is direct
DIRECT: Tiles = (0, 0, 0)
LARGEST_TILE = 8  # pixels a side: more points are further apart, and float32 loses digits


@dataclass(frozen=True)
class Passes:
    """How each pass is computed; None is directly, by torch."""

    forward: Filtering | None
    input_gradient: Filtering | None
    filter_gradient: Filtering | None

    @staticmethod
    def of(tiles: Tiles, filter_size: int) -> Passes:
        """The passes by the sides of their tiles; direct for one that would be too large, as a record may have it."""
        ways = (Filtering(m, filter_size) for m in tiles)
        return Passes(*(way if way.outputs and way.side <= LARGEST_TILE else None for way in ways))


def convolve(images: Tensor, filters: Tensor, bias: Tensor | None, padding: Padding, passes: Passes) -> Tensor:
    """Outputs (B, K, H', W') of float32 images (B, C, H, W) under filters (K, C, r, r), as ``F.conv2d`` gives them.

    Stride and dilation are 1, and there are no groups. Half precision, another device, another layout of
    memory and an empty batch go to torch.
    """
    if not fits(images) or filters.dtype != torch.float32:
        return torch.nn.functional.conv2d(images, filters, bias, padding=padding)
    out = _Convolution.apply(images, filters, padding, passes)
    return out if bias is None else out + bias[:, None, None]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, filters: Tensor, padding: Padding, passes: Passes) -> Tensor:
        from . import winograd

        ctx.save_for_backward(images, filters)
        ctx.padding, ctx.passes = padding, passes
        if passes.forward is not None:
            out, finite = winograd.convolve(images, filters, passes.forward, padding)
            if finite:
                return out
        return torch.nn.functional.conv2d(images, filters, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        from . import winograd

        images, filters = ctx.saved_tensors
        passes, of_images, of_filters = ctx.passes, None, None
        wants_images, wants_filters = ctx.needs_input_grad[:2]
        if wants_images and passes.input_gradient is not None:
            of_images, finite = winograd.input_gradient(gradient, filters, passes.input_gradient, ctx.padding)
            of_images = of_images if finite else None
        if wants_filters and passes.filter_gradient is not None:
            of_filters = winograd.filter_gradient(images, gradient, passes.filter_gradient, ctx.padding)
            of_filters = of_filters if torch.isfinite(of_filters).all() else None
        left = (wants_images and of_images is None, wants_filters and of_filters is None, False)
        if any(left):
            direct = torch.ops.aten.convolution_backward(
                gradient, images, filters, None, ONE, ctx.padding, ONE, False, NONE, 1, left
            )
            of_images = direct[0] if left[0] else of_images
            of_filters = direct[1] if left[1] else of_filters
        return of_images, of_filters, None, None
