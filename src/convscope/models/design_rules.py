"""The lecture's rules for convolutional networks, held against a network's table: what breaks one, in a sentence.

After Simonyan and Zisserman 2015 (arXiv:1409.1556): equal 3x3 convolutions of stride 1, 2x2 pools of stride 2, twice
the channels after each pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from .layer_table import LayerRow, Ledger

DENSE_SHARE = 0.5  # of all parameters: more than this in the fully connected layers is worth a word


def broken_rules(book: Ledger, image_size: int) -> tuple[str, ...]:
    """One sentence for each rule that the network breaks, from the image on; ``image_size`` in pixels.

    A rule is a habit that has proved itself, not a law: residual networks break two of them on purpose.
    """
    convolutions = [row for row in book.rows if row.kind == "Conv" and isinstance(row.out_size, int)]
    if len(convolutions) < 2:
        return ()  # no convolutional network
    return (
        *_large_filters(convolutions),
        *_stem(book.rows, image_size),
        *_doubling(convolutions),
        *_reach(convolutions, image_size),
        *_dense(book),
    )


def _large_filters(convolutions: Sequence[LayerRow]) -> Iterator[str]:
    for row in convolutions:
        size = row.filter_size
        if isinstance(size, int) and size > 3 and size % 2:
            layers = (size - 1) // 2
            yield (
                f"{row.name}: {layers} convolutions of 3x3 see as much as one of {size}x{size}, "
                f"with {9 * layers} weights instead of {size * size} for a pair of channels"
            )


def _stem(rows: Sequence[LayerRow], image_size: int) -> Iterator[str]:
    """A first convolution, with the pool behind it, that leaves a quarter of the side of a small image."""
    side, names = image_size, []
    for row in rows:
        if row.kind == "Conv" and names:
            break
        if row.filter_size is not None and isinstance(row.out_size, int):
            side, names = row.out_size, [*names, row.name]
    stride = round(image_size / side) if side else 1
    if stride >= 4 and image_size <= 64:
        yield (
            f"{' and '.join(names)}: a stem of stride {stride} on {image_size} px discards "
            f"{stride * stride - 1}/{stride * stride} of the positions before the second convolution"
        )


def _doubling(convolutions: Sequence[LayerRow]) -> Iterator[str]:
    """A stage is what works on maps of one side; its channels are those of its widest convolution."""
    widest: dict[int, tuple[int, str]] = {}
    for row in convolutions:
        assert isinstance(row.out_size, int)
        widest[row.out_size] = max(widest.get(row.out_size, (0, "")), (row.filters or 0, row.name), key=lambda c: c[0])
    sides = sorted(widest, reverse=True)
    for stage, (side, smaller) in enumerate(pairwise(sides), start=2):
        (before, _), (after, name) = widest[side], widest[smaller]
        if after < 2 * before:
            sizes = f"{before} at {side} px, {after} at {smaller} px"
            yield f"{name}: pool without doubling channels at stage {stage}: {sizes}"


def _reach(convolutions: Sequence[LayerRow], image_size: int) -> Iterator[str]:
    if convolutions:
        seen = convolutions[-1].receptive_field
        if isinstance(seen, int) and seen < image_size:
            yield f"{convolutions[-1].name}: the last convolution sees {seen} of the image's {image_size} px"


def _dense(book: Ledger) -> Iterator[str]:
    dense = [row for row in book.rows if row.kind == "Linear"]
    held = sum(row.parameters for row in dense)
    if len(dense) > 1 and held > DENSE_SHARE * book.parameters:
        yield (
            f"{dense[0].name}: the fully connected layers hold {100 * held / book.parameters:.0f} % of the parameters; "
            "global average pooling needs none of them"
        )
