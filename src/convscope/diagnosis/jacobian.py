"""The Jacobian of each factor of a network, measured without ever being written down.

A Jacobian of a 16 x 32 x 32 map has 2.7 * 10^8 entries; products with it cost a pass forward or backward. The largest
singular values come from a randomised block Krylov space (Musco and Musco 2015, arXiv:1504.05477), which is the power
iteration v -> J^T J v with nothing thrown away, and the Frobenius norm from random vectors (Hutchinson 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..progress import Progress
from .chain import Factor, Segment, segments

VECTORS = 4  # an image: the block of the Krylov space, and the random vectors of a Frobenius norm
STEPS = 16  # of the Krylov space at most; it ends earlier when the largest value stands still
LEAST_STEPS = 24  # where the least singular value is wanted too, which takes longer to come out
STILL = 3e-3  # relative change of the values wanted in two steps; 1e-10 in float64
WELL_APART = 1e-2  # least over largest length of columns made orthonormal without QR
SHOWN = 5  # singular values

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Linear:
    """A linear map of each image by its products; ``x`` and ``y``, (P * vectors, ...), have the form of its ends."""

    forward: Product
    backward: Product
    x: Tensor
    y: Tensor
    vectors: int


@dataclass(frozen=True)
class Spectrum:
    """A linear map's ``largest`` singular values, the ``least`` at most (exact for small maps), its Frobenius norm with
    the standard error of that, and the sizes. All are medians over the images."""

    largest: tuple[float, ...]
    least: float
    frobenius: float
    error: float
    inputs: int
    outputs: int

    @property
    def norm(self) -> float:
        """The spectral norm: no direction is stretched more."""
        return self.largest[0]

    @property
    def gain(self) -> float:
        """The stretch of a random gradient on its way back: the Frobenius norm over the root of the outputs."""
        return self.frobenius / math.sqrt(self.outputs)


@dataclass(frozen=True)
class FactorJacobian:
    """The Jacobian of one factor; of a block with an identity skip, that of F(x) and of F(x) + x as well."""

    name: str
    whole: Spectrum
    branch: Spectrum | None = None  # J_F
    total: Spectrum | None = None  # I + J_F


@dataclass(frozen=True)
class Jacobians:
    """All factors, the first at the images, and the product of them all as one map, ``end_to_end``."""

    factors: tuple[FactorJacobian, ...]
    end_to_end: Spectrum

    @property
    def bound(self) -> float:
        """The product of the factors' norms: what the norm of the whole cannot exceed."""
        return math.prod(f.whole.norm for f in self.factors)


def jacobians(  # noqa: PLR0913 - what is measured, and how
    network: nn.Module,
    chain: Sequence[Factor],
    images_BCHW: Tensor,
    vectors: int = VECTORS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Jacobians:
    """Measure the Jacobians of a network's factors at these images, each image for itself.

    The network must be in evaluation mode, or a norm would mix the images; use float64 weights and images for more
    digits. UsageError for a factor that cannot be differentiated twice, which the products J v need.
    """
    repeated = images_BCHW.repeat_interleave(vectors, 0)
    cuts = segments(network, chain, repeated)
    maps = [_Map(s.x, s.y, vectors, s.factor.name) for s in cuts]
    factors = []
    for i, (segment, whole) in enumerate(zip(cuts, maps, strict=True)):
        if progress:
            progress(f"Jacobians, {segment.factor.name}", i, len(cuts) + 1)
        factors.append(_factor(segment, whole, seed + 10 * i))
    if progress:
        progress("Jacobians, end to end", len(cuts), len(cuts) + 1)

    def forward(v: Tensor) -> Tensor:
        for m in maps:
            v = m.forward(v)
        return v

    def backward(u: Tensor) -> Tensor:
        for m in reversed(maps):
            u = m.backward(u)
        return u

    product = _Linear(forward, backward, maps[0].x, maps[-1].y, vectors)
    return Jacobians(tuple(factors), _spectrum(product, seed + 5))


def _factor(segment: Segment, whole: _Map, seed: int) -> FactorJacobian:
    vectors, name = whole.vectors, segment.factor.name
    measured = _spectrum(whole.linear(), seed)
    if segment.total is None or segment.total.shape != segment.x.shape:
        return FactorJacobian(name, measured)
    total = _Map(segment.x, segment.total, vectors, name)
    branch = _Linear(lambda v: total.forward(v) - v, lambda u: total.backward(u) - u, segment.x, segment.total, vectors)
    return FactorJacobian(name, measured, _spectrum(branch, seed + 1), _spectrum(total.linear(), seed + 2, least=True))


class _Map:
    """The Jacobian of ``y`` (B, ...) for ``x`` (B, ...) as a linear map; B is ``vectors`` copies of each image."""

    def __init__(self, x: Tensor, y: Tensor, vectors: int, name: str) -> None:
        self.x, self.y, self.vectors = x, y, vectors
        self._dual = torch.zeros_like(y, requires_grad=True)
        try:
            back = torch.autograd.grad(y, x, self._dual, create_graph=True, retain_graph=True, allow_unused=True)[0]
            self._back = None if back is None or not back.requires_grad else back
            self.forward(torch.zeros_like(x))
        except RuntimeError as error:
            raise UsageError(f"{name} cannot be differentiated twice, so its Jacobian is unknown: {error}") from error

    def backward(self, u: Tensor) -> Tensor:
        """J^T u."""
        found = torch.autograd.grad(self.y, self.x, u, retain_graph=True, allow_unused=True)[0]
        return torch.zeros_like(self.x) if found is None else found

    def forward(self, v: Tensor) -> Tensor:
        """J v: J^T u is linear in u, so its derivative for u is J."""
        if self._back is None:
            return torch.zeros_like(self.y)
        return torch.autograd.grad(self._back, self._dual, v, retain_graph=True)[0]

    def linear(self) -> _Linear:
        return _Linear(self.forward, self.backward, self.x, self.y, self.vectors)


def _spectrum(linear: _Linear, seed: int, least: bool = False) -> Spectrum:
    """Singular values of the map of each image, and the median of each over the images."""
    x, y, vectors = linear.x, linear.y, linear.vectors
    images = len(x) // vectors
    inputs, outputs = x[0].numel(), y[0].numel()
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(0, 2, (images * vectors, inputs), generator=generator).to(x) * 2 - 1
    squares = linear.forward(draws.reshape(x.shape)).reshape(images, vectors, outputs).double().square().sum(-1)
    frobenius = squares.mean(1).sqrt()
    spread = squares.std(1) / math.sqrt(vectors) / (2 * frobenius).clamp_min(torch.finfo(torch.float64).tiny)
    values = _krylov(linear, generator, least)
    largest = tuple(values[:, :SHOWN].median(0).values.tolist())
    smallest = float(values[:, -1].median()) if outputs >= inputs else 0.0
    return Spectrum(largest, smallest, float(frobenius.median()), float(spread.median()), inputs, outputs)


def _krylov(linear: _Linear, generator: torch.Generator, least: bool) -> Tensor:
    """Approximate singular values (P, d), the largest first; exact when the space has all dimensions.

    The values are those of J on the space: the largest come out from below, and the least from above and later.
    Products are taken in units of a power of two, for squares of an exploding network's do not fit into float32.
    UsageError where the products do not either.
    """
    x, vectors = linear.x, linear.vectors
    batch, inputs = len(x) // vectors, x[0].numel()
    double = x.dtype == torch.float64
    steps = (LEAST_STEPS if least else STEPS) * (10 if double else 1)
    most = min(inputs, vectors * steps)
    block = _orthonormal(torch.randn(batch, inputs, vectors, generator=generator).to(x)[..., :inputs], None)
    basis, mapped = block, linear.y.new_zeros(batch, linear.y[0].numel(), 0)
    gram = mapped.new_zeros(batch, 0, 0)
    unit = None
    wanted: list[Tensor] = []
    while True:
        outputs = _apply(linear.forward, block, x.shape, vectors)
        unit = _unit(outputs) if unit is None else unit
        outputs = outputs / unit
        mapped = torch.cat([mapped, outputs], 2)
        cross = mapped.transpose(1, 2) @ outputs
        gram = torch.cat([torch.cat([gram, cross[:, : gram.shape[1]].transpose(1, 2)], 1), cross], 2)
        if not torch.isfinite(gram).all():
            raise UsageError(f"the Jacobians hold numbers beyond {str(x.dtype).removeprefix('torch.')}.")
        values = torch.linalg.eigvalsh(gram.double()).clamp_min(0).sqrt().flip(1) * unit
        wanted.append(values[:, [0, -1]] if least else values[:, :1])
        if basis.shape[2] >= most or _stand_still(wanted, 1e-10 if double else STILL):
            return values
        back = _apply(linear.backward, outputs, linear.y.shape, vectors)
        block = _orthonormal(back[..., : most - basis.shape[2]], basis)
        basis = torch.cat([basis, block], 2)


def _unit(values: Tensor) -> float:
    """The power of two below the largest: dividing by it costs no digit."""
    largest = float(values.abs().max())
    return 2.0 ** math.floor(math.log2(largest)) if 0 < largest < math.inf else 1.0


def _stand_still(wanted: list[Tensor], still: float) -> bool:
    """Say whether no value has changed in the last two steps by more than so much of it."""
    if len(wanted) < 3:
        return False
    now, before = wanted[-1], wanted[-3]
    return bool(((now - before).abs() <= still * now.abs()).all())


def _apply(product: Product, columns_PnV: Tensor, shape: torch.Size, vectors: int) -> Tensor:
    """A product for each column: (P, n, V) to (P, m, V), with V up to ``vectors``."""
    images, _, width = columns_PnV.shape
    rows = columns_PnV.transpose(1, 2)
    if width < vectors:
        rows = torch.cat([rows, rows.new_zeros(images, vectors - width, rows.shape[2])], 1)
    found = product(rows.reshape(shape)).reshape(images, vectors, -1)
    return found[:, :width].transpose(1, 2)


def _orthonormal(columns_PnV: Tensor, basis_PnD: Tensor | None) -> Tensor:
    """An orthonormal basis of the columns, at right angles to those there are; twice, for the digits lost at first."""
    for _ in range(2):
        if basis_PnD is not None:
            columns_PnV = columns_PnV - basis_PnD @ (basis_PnD.transpose(1, 2) @ columns_PnV)
        columns_PnV = _at_right_angles(columns_PnV)
    return columns_PnV


def _at_right_angles(columns_PnV: Tensor) -> Tensor:
    """The columns made orthonormal by the Cholesky factor of their products: for few long columns a tenth of QR's time.

    Done twice it is as exact as QR (Yamamoto and others 2015), unless columns are nearly dependent: then it is QR.
    """
    gram = (columns_PnV.transpose(1, 2) @ columns_PnV).double()
    factor, failed = torch.linalg.cholesky_ex(gram)
    lengths = factor.diagonal(dim1=1, dim2=2)
    if failed.any() or not (lengths.amin(1) > WELL_APART * lengths.amax(1)).all():
        return torch.linalg.qr(columns_PnV).Q
    inverse = torch.linalg.inv(factor).transpose(1, 2)
    return columns_PnV @ inverse.to(columns_PnV.dtype)
