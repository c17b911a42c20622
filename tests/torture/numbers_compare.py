"""What the attack on numbers compares with, and what it compares: one norm, and values of every kind.

Two tensors agree where no entry is further apart than ``NEAR`` of the largest magnitude in play: that of the right
answer, or, where a check says so, of the terms whose sum the answer is, for those are what float32 rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

Random = np.random.Generator
Check = Callable[[Random], str]  # a flaw in a sentence, or ''

NEAR = 1e-5
SMALLEST = 2.0**-126  # of float32, above which it has all its digits
LAST = torch.channels_last

# What is drawn: (a standard normal draw, a generator) -> values. "denormal" numbers are below SMALLEST.
KINDS: dict[str, Callable[[np.ndarray, Random], np.ndarray]] = {
    "usual": lambda z, random: z,
    "large": lambda z, random: 1e12 * z,
    "tiny": lambda z, random: 1e-12 * z,
    "denormal": lambda z, random: 1e-40 * z,
    "constant": lambda z, random: np.full(z.shape, random.normal()),
    "negative": lambda z, random: -np.abs(z) - 0.01,
    "far from 0": lambda z, random: z + 50,
    "half zeros": lambda z, random: z * (random.random(z.shape) < 0.5),
    "one large": lambda z, random: np.where(random.random(z.shape) < 1 / max(1, z.size), 1e6, z),
}


def apart(found: Any, right: Any, what: str, near: float = NEAR, scale: float = 0.0) -> str:
    """Where two arrays differ, in a sentence; '' where they agree. NaN and infinities stand at the same places.

    ``scale`` is the largest magnitude of the terms, where that is above the answer's own.
    """
    a, b = (np.asarray(v.detach().double() if isinstance(v, Tensor) else v, np.float64) for v in (found, right))
    if a.shape != b.shape:
        return f"{what} has the shape {a.shape} and not {b.shape}"
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return f"{what} is {_shown(a)} and not {_shown(b)} where it is not finite"
    if not finite.any():
        return ""
    off = np.abs(a[finite] - b[finite])
    limit = near * max(float(np.abs(b[finite]).max()), scale) + SMALLEST
    if (worst := int(off.argmax())) >= 0 and off[worst] > limit:
        one, other = a[finite][worst], b[finite][worst]
        return f"{what} is {one:.9g} and not {other:.9g}, {off[worst] / limit * near:.2g} of the largest"
    return ""


def first(*flaws: str) -> str:
    """The first flaw of several."""
    return next((flaw for flaw in flaws if flaw), "")


def all_apart(found: Sequence[Any], right: Sequence[Any], names: str, near: float = NEAR, scale: float = 0.0) -> str:
    """The first flaw of several arrays, named by the words of ``names``."""
    words = names.split()
    return first(*(apart(a, b, w, near, scale) for a, b, w in zip(found, right, words, strict=True)))


def unequal(found: Sequence[Any], right: Sequence[Any], what: str) -> str:
    """'' where arrays or tensors are the same to the last bit."""
    for number, (a, b) in enumerate(zip(found, right, strict=True)):
        a, b = (v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v) for v in (a, b))
        if a.shape != b.shape or a.tobytes() != b.tobytes():
            return f"{what}, number {number} of what comes out, differ in their bits"
    return ""


def drawn(random: Random, *shape: int, but: str = "") -> Tensor:
    """Float32 values of a kind of KINDS, ``but`` not of these (words with commas)."""
    allowed = [kind for kind in KINDS if kind not in but.split(", ")]
    return of_kind(random, str(random.choice(allowed)), *shape)


def of_kind(random: Random, kind: str, *shape: int) -> Tensor:
    """Float32 values of one kind."""
    return torch.from_numpy(KINDS[kind](random.normal(size=shape), random).astype(np.float32))


def usual(random: Random, *shape: int) -> Tensor:
    """Standard normal float32 values."""
    return of_kind(random, "usual", *shape)


def size(random: Random, low: int, high: int) -> int:
    """A whole number, both ends within."""
    return int(random.integers(low, high + 1))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A with-block in which torch, and what convscope shares among as many threads, computes with so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def lively(network: torch.nn.Module, random: Random) -> torch.nn.Module:
    """Norms and biases that are not the identity and 0, so that each counts."""
    with torch.no_grad():
        for name, values in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith("running_var"):
                values.copy_(torch.from_numpy(random.uniform(0.5, 1.5, values.shape)))
            elif values.ndim == 1 and values.is_floating_point():
                values.copy_(torch.from_numpy(random.normal(0.3, 0.4, values.shape)))
    return network


def _shown(values: np.ndarray) -> str:
    odd = values[~np.isfinite(values)]
    return f"{odd.flat[0]}" if odd.size else "finite"
