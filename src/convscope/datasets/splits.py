"""Which pictures train, which validate, which test: decided by content, so that nothing leaks and nothing moves.

The content hash of a picture gives u in [0, 1) and u decides its part: copies stay on one side, and adding pictures
moves no other. Shares a class are therefore approximate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..randomness import mix

if TYPE_CHECKING:
    from .dataset import Unsplit

PARTS = ("train", "val", "test")
VAL_SHARE = TEST_SHARE = 0.15


@dataclass(frozen=True)
class Split:
    """Indices by part, and what a user should know about them."""

    parts: dict[str, np.ndarray]
    notes: tuple[str, ...]


def unit(keys: np.ndarray) -> np.ndarray:
    """The number in [0, 1) that decides a picture's part, from its key (uint64)."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def split(unsplit: Unsplit, keys: np.ndarray) -> Split:
    """Split by what was given and by content.

    Pictures given as "test" or "val" stay there; the undecided (and, where no validation was given, the "train" ones)
    are decided by u. A training picture that also stands in validation or test is left out of training, and said so.
    """
    part = unsplit.given.astype("U5").copy()
    u = unit(keys)
    undecided = part == ""
    has_test = bool((part == "test").any())
    has_val = bool((part == "val").any())
    if not has_test:
        part[undecided & (u < TEST_SHARE)] = "test"
    if not has_val:
        pool = np.flatnonzero((part == "") | (part == "train"))
        if unsplit.validation is not None:
            part[pool[np.argsort(u[pool], kind="stable")[: min(unsplit.validation, len(pool) // 9)]]] = "val"
        else:
            low = 0.0 if has_test else TEST_SHARE
            part[pool[(u[pool] >= low) & (u[pool] < low + VAL_SHARE)]] = "val"
    part[part == ""] = "train"
    notes: list[str] = []
    if not has_test or not has_val:
        movable = undecided if not has_test else (part != "test")
        moves = () if has_test and has_val else (("val",) if has_test else ("val", "test"))
        notes += _serve_missed(part, unsplit, keys, movable, moves)
    notes += _drop_leaks(part, keys)
    return Split({name: np.flatnonzero(part == name) for name in PARTS}, tuple(notes))


def _serve_missed(
    part: np.ndarray, unsplit: Unsplit, keys: np.ndarray, movable: np.ndarray, parts: tuple[str, ...]
) -> list[str]:
    """Give a part that a class would miss that class's lowest hash, with all its copies; training is served first."""
    served: dict[str, list[str]] = {}
    short: dict[str, list[str]] = {}
    for label, name in enumerate(unsplit.class_names):
        mine = np.flatnonzero(unsplit.labels == label)
        for wanted in ("train", *parts):
            present = {p: np.unique(keys[mine[part[mine] == p]]) for p in PARTS}
            if len(present[wanted]) or not len(mine):
                continue
            needed = 1 + ("train", *parts).index(wanted)
            donors = [p for p in PARTS if len(present[p]) > (0 if wanted == "train" else 1)]
            candidates = [k for p in donors for k in present[p] if movable[mine[keys[mine] == k]].all()]
            if len(np.unique(keys[mine])) < needed or not candidates:
                short.setdefault(wanted, []).append(name)
                continue
            part[keys == min(candidates)] = wanted
            served.setdefault(wanted, []).append(name)
    return [
        f"{_classes(names)} would have missed {wanted}: the picture with the lowest hash was moved there."
        for wanted, names in served.items()
    ] + [f"{_classes(names)}: too few different pictures to stand in {wanted}." for wanted, names in short.items()]


def _classes(names: list[str]) -> str:
    """Up to five names, and how many more."""
    shown = ", ".join(repr(n) for n in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"class {shown}" if len(names) == 1 else f"classes {shown}"


def _drop_leaks(part: np.ndarray, keys: np.ndarray) -> list[str]:
    held_out = np.isin(keys, keys[(part == "val") | (part == "test")])
    leaked = (part == "train") & held_out
    part[leaked] = ""
    if not leaked.any():
        return []
    verb = "pictures are" if leaked.sum() > 1 else "picture is"
    return [f"{leaked.sum()} training {verb} also in validation or test, and left out of training."]


def stratified(labels: np.ndarray, keys: np.ndarray, limit: int) -> np.ndarray:
    """Indices of ``limit`` pictures, in order: shares a label kept to within one picture, chosen by content.

    The hash is mixed once more before it chooses: the plain one decides the part a picture belongs to, and would give
    nothing but test pictures.
    """
    rank = mix(keys, 0x6C696D6974)
    values, counts = np.unique(labels, return_counts=True)
    exact = counts * (limit / counts.sum())
    quota = np.floor(exact).astype(int)
    short = limit - quota.sum()
    quota[np.argsort(quota - exact, kind="stable")[:short]] += 1
    chosen = []
    for value, wanted in zip(values, quota, strict=True):
        mine = np.flatnonzero(labels == value)
        chosen.append(mine[np.argsort(rank[mine], kind="stable")[:wanted]])
    return np.sort(np.concatenate(chosen))
