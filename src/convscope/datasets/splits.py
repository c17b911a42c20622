"""Which images train, which validate, which test: decided by content, so that nothing leaks and nothing moves.

The content hash of an image gives u in [0, 1) and u decides its part: copies stay on one side, and adding images
moves no other. Shares a class are therefore approximate.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from ..randomness import mix

if TYPE_CHECKING:
    from .unsplit import Unsplit

PARTS = ("train", "val", "test")
VAL_SHARE = TEST_SHARE = 0.15
LEFT_OUT = "out"


@dataclass(frozen=True)
class Split:
    """Indices by part, and what a user should know about them."""

    parts: dict[str, np.ndarray]
    notes: tuple[str, ...]


def unit(keys: np.ndarray) -> np.ndarray:
    """The number in [0, 1) that decides an image's part, from its key (uint64)."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def together(unsplit: Unsplit, keys: np.ndarray) -> np.ndarray:
    """What decides an image's side, uint64 (N,): its key, or its group's, the same for groups that share a copy."""
    if unsplit.groups is None:
        return keys
    named = {group: _key_of(group) for group in np.unique(unsplit.groups).tolist() if group}
    sides = np.array([named.get(g, 0) for g in unsplit.groups.tolist()], np.uint64)
    sides = np.where(unsplit.groups == "", keys, sides)
    while True:  # groups with a copy in common take the lower key, until nothing changes
        lowest = _lowest(_lowest(sides, keys), sides)
        if (lowest == sides).all():
            return sides
        sides = lowest


def _key_of(group: str) -> int:
    return int.from_bytes(hashlib.sha256(b"group " + group.encode(errors="surrogateescape")).digest()[:8], "little")


def _lowest(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The least value among those with the same key, for each."""
    _, place = np.unique(of, return_inverse=True)
    least = np.full(place.max() + 1 if len(place) else 0, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, place, values)
    return least[place]


def too_few(name: str, parts: Mapping[str, np.ndarray]) -> str:
    """Why images in such parts cannot be trained on, in a sentence; empty where they can."""
    images, train, val = sum(map(len, parts.values())), len(parts["train"]), len(parts["val"])
    if train >= 2 and val:
        return ""
    return (
        f"{name} has {images} images: {train} to train on, {val} to validate with; a class needs at least two "
        "different images, better fifty."
    )


def split(unsplit: Unsplit, contents: np.ndarray) -> Split:
    """Split by what was given and by content, or by groups where there are some.

    Images given as "test" or "val" stay there; the undecided (and, where no validation was given, the "train" ones)
    are decided by u. A copy of a test image is left out of validation, a copy of either out of training, and said so.
    The ``sides`` that a record gives stand above all that.
    """
    keys = together(unsplit, contents)
    part = unsplit.given.astype("U5")
    given = {p for p in PARTS if (part == p).any()}
    notes = _left_out(part, unsplit, keys)
    part[(part == "") & np.isin(keys, keys[part == "train"])] = "train"
    undecided = part == ""
    own = undecided | (part == "train")  # what may move between training and validation
    cuts_test = "test" not in given and bool(undecided.any())
    cuts_val = "val" not in given and bool(own.any())
    u = unit(keys)
    if cuts_test:
        part[undecided & (u < TEST_SHARE)] = "test"
    if cuts_val:
        low = 0.0 if "test" in given else TEST_SHARE
        part[own & (u >= low) & (u < low + VAL_SHARE)] = "val"  # none that tests: its u is below, or it was given
    part[part == ""] = "train"
    shared = _of_several_classes(unsplit.labels, contents)
    if shared.any():
        notes.append(f"{_images(shared, unsplit)} under more than one class.")
    cut = ["train"] * (cuts_val or cuts_test) + ["val"] * cuts_val + ["test"] * cuts_test
    movable = {"train": own, "val": own & ~shared, "test": undecided & ~shared}
    notes += _serve_missed(part, unsplit, keys, {p: movable[p] for p in cut})
    _keep_sides(part, contents, unsplit.sides)
    notes += _missing(part, unsplit, cut)
    return Split({name: np.flatnonzero(part == name) for name in PARTS}, tuple(notes))


def folded(split: Split, labels: np.ndarray, sides: np.ndarray, fold: str) -> Split:
    """The split with fold "i/k" of its training and validation images as validation, and the others for training.

    Folds hold about the same share of each class, and images with one of ``sides`` (N,) are in one fold. UsageError
    where there are not so many folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    one, _, count = fold.partition("/")
    if not (one.isdigit() and count.isdigit() and 1 <= int(one) <= int(count) and int(count) >= 2):
        raise UsageError(f"{fold!r} is no fold: it is one of so many, 2 or more, such as 2/5.")
    pool = np.sort(np.concatenate([split.parts["train"], split.parts["val"]]))
    apart = len(np.unique(sides[pool]))
    if apart < int(count):
        raise UsageError(f"{int(count)} folds need as many different images, and there are {apart}.")
    with warnings.catch_warnings():  # a class of fewer images than folds: the sentence below says it
        warnings.simplefilter("ignore", UserWarning)
        order = pool[np.lexsort((pool, sides[pool]))]  # by content, so that folds do not go by the order of files
        cuts = list(StratifiedGroupKFold(int(count)).split(order, labels[order], sides[order]))
    train, val = (np.sort(order[rows]) for rows in cuts[int(one) - 1])
    notes = list(split.notes)
    few = [label for label in np.unique(labels[pool]) if label not in labels[train] or label not in labels[val]]
    if few:
        notes.append(f"fold {fold}: {len(few)} of the classes have images only to train on, or only to validate on.")
    return Split({"train": train, "val": val, "test": split.parts["test"]}, tuple(notes))


def hexadecimal(keys: np.ndarray) -> list[str]:
    """Keys (N,) as text, as records name images."""
    return [f"{key:016x}" for key in keys.tolist()]


def _keep_sides(part: np.ndarray, contents: np.ndarray, sides: Mapping[str, str]) -> None:
    """Put images where a record says that they were; what is left out of every part stays out."""
    if not sides:
        return
    kept = [sides.get(key, "") for key in hexadecimal(contents)]
    for name in PARTS:
        part[(np.array(kept) == name) & np.isin(part, PARTS)] = name


def with_validation(unsplit: Unsplit, keys: np.ndarray, count: int) -> np.ndarray:
    """``given``, with the ``count`` training images of the lowest hashes (a ninth of them at most) as validation.

    For a dataset that fixes that number. Copies of the last one go with it.
    """
    pool = np.flatnonzero(unsplit.given == "train")
    count = min(count, len(pool) // 9)
    if not count:
        return unsplit.given
    given = unsplit.given.copy()
    given[pool[keys[pool] <= np.partition(keys[pool], count - 1)[count - 1]]] = "val"
    return given


def _left_out(part: np.ndarray, unsplit: Unsplit, keys: np.ndarray) -> list[str]:
    """Leave copies of given test images out of validation, and copies of either out of training."""
    notes = []
    for where, held, lower in (("validation", ("test",), ("val",)), ("training", ("val", "test"), ("train", ""))):
        copies = np.isin(part, lower) & np.isin(keys, keys[np.isin(part, held)])
        part[copies] = LEFT_OUT
        if copies.any():
            also = "test" if where == "validation" else "validation or test"
            what = "of groups that are" if unsplit.groups is not None else ""
            told = " ".join(filter(None, (_images(copies, unsplit, where), what, f"also in {also}")))
            notes.append(f"{told}, and left out of {where}.")
    return notes


def _of_several_classes(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Tell which images have a copy under another label."""
    order = np.lexsort((labels, keys))
    odd = (np.diff(labels[order]) != 0) & (keys[order][1:] == keys[order][:-1])
    return np.isin(keys, keys[order][1:][odd])


class _Moves:
    """Images by key and by class, and how many of each class train, while images change their part."""

    def __init__(self, part: np.ndarray, labels: np.ndarray, keys: np.ndarray) -> None:
        self.part, self.labels = part, labels
        self._by_key, self._by_label = np.argsort(keys, kind="stable"), np.argsort(labels, kind="stable")
        self._keys, self._labels = keys[self._by_key], labels[self._by_label]
        self._trained = np.bincount(labels[part == "train"], minlength=labels.max() + 1 if len(labels) else 0)

    def of_class(self, label: int) -> np.ndarray:
        """The images of a class, in order."""
        return self._by_label[slice(*np.searchsorted(self._labels, [label, label + 1]))]

    def _of_key(self, key: np.uint64) -> np.ndarray:
        return self._by_key[np.searchsorted(self._keys, key, "left") : np.searchsorted(self._keys, key, "right")]

    def empties_training(self, key: np.uint64) -> bool:
        """Whether a class would lose its last training image if these were moved, as a group of several may do."""
        copies = self._of_key(key)
        labels, counts = np.unique(self.labels[copies[self.part[copies] == "train"]], return_counts=True)
        return bool((self._trained[labels] == counts).any())

    def move(self, key: np.uint64, wanted: str) -> None:
        """Put an image with all its copies into another part."""
        copies = self._of_key(key)
        np.subtract.at(self._trained, self.labels[copies[self.part[copies] == "train"]], 1)
        np.add.at(self._trained, self.labels[copies], wanted == "train")
        self.part[copies] = wanted


def _serve_missed(part: np.ndarray, unsplit: Unsplit, keys: np.ndarray, movable: dict[str, np.ndarray]) -> list[str]:
    """Give a part that a class would miss that class's lowest hash, with all its copies; training is served first."""
    served: dict[str, list[str]] = {}
    moves = _Moves(part, unsplit.labels, keys)
    for label in np.flatnonzero(~_holds(part, unsplit, movable).all(1)).tolist():
        mine = moves.of_class(label)
        for wanted, may_move in movable.items():
            present = {p: np.unique(keys[mine[part[mine] == p]]) for p in PARTS}
            donors = [present[p] for p in PARTS if len(present[p]) > (0 if wanted == "train" else 1)]
            if len(present[wanted]) or not donors:
                continue
            candidates = np.intersect1d(np.concatenate(donors), keys[mine[may_move[mine]]])
            free = (key for key in candidates if wanted == "train" or not moves.empties_training(key))
            chosen = next(free, None)
            if chosen is not None:
                moves.move(chosen, wanted)
                served.setdefault(wanted, []).append(unsplit.class_names[label])
    return [
        f"{_classes(names)} would have missed {wanted}: the image with the lowest hash was moved there."
        for wanted, names in served.items()
    ]


def _holds(part: np.ndarray, unsplit: Unsplit, names: Iterable[str] = PARTS) -> np.ndarray:
    """bool (K, len(names)): which of the named parts hold an image of each class."""
    columns = [np.bincount(unsplit.labels[part == name], minlength=len(unsplit.class_names)) > 0 for name in names]
    return np.stack(columns, axis=1) if columns else np.ones((0, 0), bool)


def _missing(part: np.ndarray, unsplit: Unsplit, cut: list[str]) -> list[str]:
    """The classes that are not in every part, and why."""
    has = _holds(part, unsplit)
    imaged = np.bincount(unsplit.labels, minlength=len(has)) > 0
    groups: dict[str, list[str]] = {}
    for label in np.flatnonzero(~has.all(1)):
        name = unsplit.class_names[label]
        lacking = [p for p in PARTS if not has[label, PARTS.index(p)]]
        few = [p for p in lacking if p in cut]
        rest = [p for p in lacking if p not in cut and has[:, PARTS.index(p)].any()]
        if not imaged[label]:
            groups.setdefault("without any image", []).append(name)
        elif few:
            groups.setdefault(f"too few different images to stand in {' and '.join(few)}", []).append(name)
        if imaged[label] and rest:
            groups.setdefault(f"no image in {' or '.join(rest)}", []).append(name)
    notes = [f"{_classes(names)}: {what}." for what, names in groups.items()]
    none = [p for p in PARTS if p not in cut and not (part == p).any()]
    if none and len(part):
        notes.append(f"no image is given as {' or '.join(none)}, so there is no {' and no '.join(none)} part.")
    return notes


def _images(which: np.ndarray, unsplit: Unsplit, kind: str = "") -> str:
    """Tell how many, and the first: "3 training images (the first: cat/1.png) are"."""
    count, first = int(which.sum()), unsplit.origin(int(np.argmax(which)))
    words = " ".join(filter(None, (str(count), kind, "image")))
    return f"{words} ({first}) is" if count == 1 else f"{words}s (the first: {first}) are"


def _classes(names: list[str]) -> str:
    """One class by its name, or how many and the first four; names may be long."""
    shown = [repr(name if len(name) <= 30 else f"{name[:27]}...") for name in names[:4]]
    if len(names) == 1:
        return f"class {shown[0]}"
    return f"{len(names)} classes ({', '.join(shown)}{', ...' if len(names) > 4 else ''})"


def limited(given: np.ndarray, labels: np.ndarray, keys: np.ndarray, limit: int) -> np.ndarray:
    """Indices of ``limit`` images, in order: given parts in proportion, and in each of them the classes."""
    names, counts = np.unique(given, return_counts=True)
    chosen = []
    for name, wanted in zip(names, _quotas(counts, limit), strict=True):
        mine = np.flatnonzero(given == name)
        chosen.append(mine[stratified(labels[mine], keys[mine], wanted)])
    return np.sort(np.concatenate(chosen))


def stratified(labels: np.ndarray, keys: np.ndarray, limit: int) -> np.ndarray:
    """Indices of ``limit`` images, in order: shares a label kept to within one image, chosen by content.

    The hash is mixed once more before it chooses: the plain one decides the part an image belongs to, and would give
    nothing but test images.
    """
    rank = mix(keys, 0x6C696D6974)
    values, counts = np.unique(labels, return_counts=True)
    chosen = []
    for value, wanted in zip(values, _quotas(counts, limit), strict=True):
        mine = np.flatnonzero(labels == value)
        chosen.append(mine[np.argsort(rank[mine], kind="stable")[:wanted]])
    return np.sort(np.concatenate(chosen))


def _quotas(counts: np.ndarray, limit: int) -> Iterable[int]:
    """``limit`` shared out in proportion to ``counts``, each within one of its exact share."""
    shares, rest = np.divmod(counts * limit, counts.sum())
    shares[np.argsort(-rest, kind="stable")[: limit - shares.sum()]] += 1
    return shares.tolist()
