"""Copies of an image among many: the same bytes, or the same image saved again, resized, bordered, brighter or turned.

Near copies are found in three steps, each of which only passes on what may still be one. What a thumbnail of 9 x 9
cells has in common with all its eight turns and mirrorings (the mean over the group, and the length of what is left in
each kind of symmetry) is compared with that of all others, in 19 numbers; no pair that is alike in any position is
further apart there. Then the steps between neighbouring cells are compared in all eight positions, and of 16 x 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.near_copies import LEAST_STEP, WIDTH
from ..progress import Progress
from .thumbnails import CELLS, Thumbnails

ALIKE = 0.955  # the cosine between the steps of 9 x 9 cells; where these lie: docs/log.md
ALIKE_FINE = 0.9  # the same of 16 x 16
ROWS, COLUMNS = 1024, 8192  # images compared at a time
# The eight positions of a square: whether its rows and columns change places, then what is mirrored.
POSITIONS = [(turned, mirrored) for turned in (False, True) for mirrored in ((), (2,), (1,), (1, 2))]


@dataclass(frozen=True)
class Pair:
    """Two images that are copies of each other: ``alike`` is 1 for the same bytes, else the finer cosine."""

    first: int
    second: int
    alike: float

    @property
    def exact(self) -> bool:
        return self.alike >= 1.0


def exact_pairs(digests_N32: np.ndarray) -> list[Pair]:
    """Each image with the first that has the same bytes."""
    seen: dict[bytes, int] = {}
    firsts = [seen.setdefault(digest.tobytes(), i) for i, digest in enumerate(digests_N32)]
    return [Pair(first, i, 1.0) for i, first in enumerate(firsts) if first != i]


def near_pairs(thumbnails: Thumbnails, progress: Progress | None = None) -> list[Pair]:
    """Every two images that look alike in some position; one of a single grey is like none."""
    owners = torch.from_numpy(thumbnails.owners)
    looks, lengths = _directions(torch.from_numpy(thumbnails.cells))
    some = (lengths > LEAST_STEP * WIDTH**0.5).nonzero()[:, 0]
    looks, owners = looks[some], owners[some]
    fine = torch.from_numpy(thumbnails.fine)[some]
    best: dict[tuple[int, int], Pair] = {}
    for rows, columns in _candidates([looks.flatten(1) @ kind for kind in _kinds()], progress):
        apart = owners[rows] != owners[columns]
        for pair in _checked(looks, fine, owners, rows[apart], columns[apart]):
            key = (pair.first, pair.second)
            if key not in best or pair.alike > best[key].alike:
                best[key] = pair
    return [best[key] for key in sorted(best)]


def _directions(cells_N99: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (N, 9, 9) such that the cosine of two is that of their steps between neighbours, and their lengths (N,)."""
    place = torch.eye(CELLS * CELLS, dtype=torch.float64).view(CELLS, CELLS, -1)
    steps = torch.cat([(place[:, 1:] - place[:, :-1]).flatten(0, 1), (place[1:] - place[:-1]).flatten(0, 1)])
    values, vectors = torch.linalg.eigh(steps.T @ steps)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T  # steps as cells: it turns as the image turns
    looks = cells_N99.flatten(1) @ root.float()
    lengths = looks.norm(dim=1)
    return (looks / lengths.clamp_min(1e-6)[:, None]).view(-1, CELLS, CELLS), lengths


def placed(looks_Nhw: Tensor, position: int) -> Tensor:
    """The looks (N, s, s) in one of the eight positions."""
    turned, mirrored = POSITIONS[position]
    looks = looks_Nhw.transpose(1, 2) if turned else looks_Nhw
    return looks.flip(mirrored) if mirrored else looks


def _kinds() -> list[Tensor]:
    """A basis (81, d) for each of the five ways in which cells can behave when an image is turned or mirrored.

    What is in the first stays as it is, in the next three it keeps its place and may change its sign; in the last it is
    mixed. (The characters of the symmetry group of the square.)
    """
    grid = torch.arange(CELLS * CELLS).view(1, CELLS, CELLS)
    moves = [torch.eye(CELLS * CELLS)[placed(grid, position).flatten()] for position in range(len(POSITIONS))]
    kinds = []
    for mirroring, turning in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        signs = [(turning if turned else 1) * (mirroring if len(flips) == 1 else 1) for turned, flips in POSITIONS]
        kinds.append(_range_of(torch.stack([s * m for s, m in zip(signs, moves, strict=True)]).mean(0)))
    rest = torch.eye(CELLS * CELLS) - sum(basis @ basis.T for basis in kinds)
    return [*kinds, _range_of(rest)]


def _range_of(projection: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((projection + projection.T).double() / 2)
    return vectors[:, values > 0.5].float()


def _candidates(parts: list[Tensor], progress: Progress | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and columns (row < column) of pairs that may be alike, a block at a time: a product tells distances."""
    points = torch.cat([parts[0], *(part.norm(dim=1, keepdim=True) for part in parts[1:])], 1)
    halves = -points.square().sum(1, keepdim=True) / 2
    ones = torch.ones_like(halves)
    left, right = torch.cat([points, halves, ones], 1), torch.cat([points, ones, halves], 1).T.contiguous()
    least = -(1 - ALIKE) - 1e-5  # minus half the square of the distance of two directions so alike
    count = len(points)
    for start in range(0, count, ROWS):
        rows, columns = [], []
        for other in range(start, count, COLUMNS):
            found = (left[start : start + ROWS] @ right[:, other : other + COLUMNS] > least).nonzero()
            later = found[found[:, 0] + start < found[:, 1] + other]
            rows.append(later[:, 0] + start)
            columns.append(later[:, 1] + other)
        yield _still_likely(parts, torch.cat(rows), torch.cat(columns))
        if progress:
            progress("comparing images", min(start + ROWS, count), count)


def _still_likely(parts: list[Tensor], rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Those pairs that may be alike by the signed parts too, which say most at the least price."""
    most = (parts[0][rows] * parts[0][columns]).sum(1)
    for part in parts[1:-1]:
        most += (part[rows] * part[columns]).sum(1).abs()
    mixed = parts[-1].norm(dim=1)
    likely = most + mixed[rows] * mixed[columns] > ALIKE - 1e-5
    return rows[likely], columns[likely]


def _checked(looks: Tensor, fine: Tensor, owners: Tensor, rows: Tensor, columns: Tensor) -> Iterator[Pair]:
    """The pairs that are alike in one of the eight positions, at both sizes."""
    for start in range(0, len(rows), COLUMNS):
        i, j = rows[start : start + COLUMNS], columns[start : start + COLUMNS]
        ours, theirs = looks[i].flatten(1), looks[j]
        for position in range(len(POSITIONS)):
            alike = ((ours * placed(theirs, position).flatten(1)).sum(1) > ALIKE).nonzero()[:, 0]
            if not len(alike):
                continue
            a, b = i[alike], j[alike]
            finer = torch.cosine_similarity(steps_of(fine[a]), steps_of(placed(fine[b], position)))
            for n in (finer > ALIKE_FINE).nonzero()[:, 0].tolist():
                first, second = sorted((int(owners[a[n]]), int(owners[b[n]])))
                yield Pair(first, second, min(float(finer[n]), 0.9999))


def steps_of(grey_Nhw: Tensor) -> Tensor:
    """The steps of grey between neighbours to the right and below, (N, 2 s (s - 1))."""
    grey = grey_Nhw.float()
    return torch.cat([(grey[:, :, 1:] - grey[:, :, :-1]).flatten(1), (grey[:, 1:] - grey[:, :-1]).flatten(1)], 1)


def groups_of(pairs: list[Pair]) -> list[list[int]]:
    """The images that are copies of one another, directly or by way of others, each group in order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    images, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    linked = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(images), len(images)))
    count, group = connected_components(linked, directed=False)
    members: list[list[int]] = [[] for _ in range(count)]
    for image, number in zip(images.tolist(), group.tolist(), strict=True):
        members[number].append(image)
    return members
