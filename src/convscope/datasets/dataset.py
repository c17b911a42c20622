"""The Dataset record, and the images-not-yet-split it is assembled from.

A loader returns ``Unsplit``: images (arrays, or files to decode), labels, and for each its given part ("train",
"val", "test", or "" for undecided). ``assemble`` limits, splits, decodes and measures: one way for every dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, UnknownName, UsageError
from ..images.preprocess import ChannelTriple, Preprocess, statistics
from ..progress import Progress
from ..recipes import BAD_IMAGES
from ..storage import expanded
from . import packing as packed
from . import splits
from .choosing_fit import AUTO, choose_fit
from .corrections import corrected, read_corrections, struck_out
from .emptiness import emptiness_notes
from .file_index import LARGE, NOTE, is_large, name_hashes
from .remote import contents
from .streamed import Streamed, look_over
from .targets import Targets
from .unsplit import Unsplit

PARTS = splits.PARTS


@dataclass(frozen=True, repr=False)
class Dataset:
    """Images with labels, class names, parts and a fingerprint of its content.

    ``images`` is uint8 (N, H, W, 3), in memory, memory-mapped, or decoded when asked for; ``labels`` int64 (N,);
    ``keys`` uint64 (N,), the first eight bytes of each image's content hash; ``parts`` maps "train", "val" and
    "test" to indices; ``origins`` says where each image came from; ``mirror`` whether a mirrored image keeps its
    label; ``test_given`` whether the test part came with the data and was not cut from it; ``notes`` are sentences a
    user should read.
    """

    name: str
    class_names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    parts: dict[str, np.ndarray]
    preprocess: Preprocess
    origins: Callable[[int], str]
    fingerprint: str
    mirror: bool = True
    test_given: bool = False
    notes: tuple[str, ...] = ()
    groups: np.ndarray | None = None  # uint64 (N,), where there are some: see ``together``
    targets: Targets | None = None  # what is asked of each image, where that is not its one class

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        parts = ", ".join(f"{len(index):,} {part}" for part, index in self.parts.items())
        what = f"{len(self.class_names):,} classes" if self.targets is None else f"the task {self.targets.task}"
        size = self.preprocess.size
        return f"<Dataset {self.name!r}: {len(self):,} images of {size} x {size} pixels ({parts}), {what}>"

    @property
    def together(self) -> np.ndarray:
        """uint64 (N,): equal for images that stay on one side of every split and fold."""
        return self.keys if self.groups is None else self.groups

    def counts(self) -> dict[str, dict[str, int]]:
        """Tell how many images of each class each part holds: ``{part: {class name: n}}``; or of each target."""
        if self.targets is not None:
            return {part: self.targets.counts(index) for part, index in self.parts.items()}
        return {
            part: {c: int(n) for c, n in zip(self.class_names, self._bincount(index), strict=True)}
            for part, index in self.parts.items()
        }

    def _bincount(self, index: np.ndarray) -> np.ndarray:
        return np.bincount(self.labels[index], minlength=len(self.class_names))

    def subset(self, part: str, limit: int | None = None) -> np.ndarray:
        """The indices of a part ("train", "val", "test" or "all"), at most ``limit`` of them, stratified by class.

        Raises DataError when the part holds nothing, and UsageError for no part and for a limit below 1.
        """
        check_limit(limit)
        if part != "all" and part not in PARTS:
            raise UsageError(f"no part named {part!r}: there are train, val, test and all.")
        index = np.arange(len(self)) if part == "all" else self.parts[part]
        if limit is not None and limit < len(index):
            index = index[splits.stratified(self.labels[index], self.keys[index], limit)]
        if not len(index):
            others = [name for name in PARTS if len(self.parts[name])]
            raise DataError(
                f"{self.name} has no {part} images; add some, or choose another part: {' or '.join(others)}."
            )
        return index


def check_limit(limit: int | None) -> None:
    """UsageError for what is no number of images; None is all of them."""
    if limit is not None and limit < 1:
        raise UsageError(f"a limit is a number of images from 1, not {limit}.")


@dataclass(frozen=True)
class Listing:
    """A loader's images, limited and hashed, none of them decoded: ``digests`` is uint8 (N, 32), their SHA-256.

    Where it is ``provisional`` no file was read, and they are the hashes of names: the split goes by these.
    """

    unsplit: Unsplit
    digests: np.ndarray
    provisional: bool = False

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def keys(self) -> np.ndarray:
        """uint64 (N,): the first eight bytes of each hash."""
        return packed.keys(self.digests)

    @property
    def together(self) -> np.ndarray:
        """uint64 (N,): equal for images that stay on one side of every split, their keys where there are no groups."""
        return splits.together(self.unsplit, self.keys)

    def source(self, i: int) -> Path | bytes | Image.Image:
        """Tell what to decode image ``i`` from."""
        return (
            contents(self.unsplit.files[i]) if self.unsplit.arrays is None else Image.fromarray(self.unsplit.arrays[i])
        )

    def take(self, index: np.ndarray) -> Listing:
        """The images at ``index``, in that order."""
        return Listing(self.unsplit.take(index), self.digests[index], self.provisional)

    def dataset(
        self, images: Any, preprocess: Preprocess, notes: tuple[str, ...] = (), fold: str | None = None
    ) -> Dataset:
        """The Dataset with these images, uint8 (N, S, S, 3) or Undecoded, split by content. ``notes`` are added.

        With a ``fold`` its images validate, and the others that are not for testing train.
        """
        split = splits.split(self.unsplit, self.keys)
        if fold is not None:
            split = splits.folded(split, self.unsplit.labels, self.together, fold)
        return Dataset(
            name=self.unsplit.name,
            class_names=self.unsplit.class_names,
            images=images,
            labels=self.unsplit.labels,
            keys=self.keys,
            parts=split.parts,
            preprocess=preprocess,
            origins=self.unsplit.origin,
            fingerprint=_fingerprint(self.unsplit, self.digests, split.parts),
            mirror=self.unsplit.mirror,
            test_given=bool((self.unsplit.given == "test").any()),
            notes=self.unsplit.notes + notes + split.notes + (NOTE,) * self.provisional,
            groups=None if self.unsplit.groups is None else self.together,
            targets=self.unsplit.targets,
        )


class Undecoded:
    """The images of a listing in place of an array uint8 (N, S, S, 3): decoded when asked for, and kept nowhere."""

    def __init__(self, listed: Listing, preprocess: Preprocess) -> None:
        self.listed, self.preprocess = listed, preprocess
        self.shape = (len(listed), preprocess.size, preprocess.size, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return self._one(int(chosen))
        shape = (len(chosen), *self.shape[1:])
        return np.stack([self._one(int(i)) for i in chosen]) if len(chosen) else np.zeros(shape, np.uint8)

    def _one(self, i: int) -> np.ndarray:
        return self.preprocess.fit_image(self.listed.source(i), self.listed.unsplit.origin(i))


def listing(
    unsplit: Unsplit,
    limit: int | None = None,
    progress: Progress | None = None,
    corrections: Path | None = None,
    unread: bool = False,
) -> Listing:
    """Hash, correct and limit, the first half of ``assemble``; UsageError for a limit below 1.

    Of very many files those within a limit are chosen by their names. With ``unread`` none of these is read, unless
    corrections, which go by content, ask for it: the listing is provisional.
    """
    check_limit(limit)
    by_name = is_large(unsplit) and corrections is None
    if by_name and limit is not None and limit < len(unsplit.labels):
        unsplit = unsplit.take(splits.limited(unsplit.given, unsplit.labels, packed.keys(name_hashes(unsplit)), limit))
        told = f"the {limit:,} images of --limit are chosen by their names, as of {LARGE:,} files and more."
        unsplit, limit = replace(unsplit, notes=(*unsplit.notes, told)), None
    if unread and by_name and is_large(unsplit):
        return Listing(unsplit, name_hashes(unsplit), provisional=True)
    digests = packed.digests(unsplit, progress)
    if corrections is not None:
        path = expanded(corrections)
        rows = read_corrections(path)
        unsplit, digests = corrected(unsplit, digests, rows, str(corrections), struck_out(path))
    if unsplit.validation is not None:  # before the limit: a limited run must not train on what a full one validates
        given = splits.with_validation(unsplit, packed.keys(digests), unsplit.validation)
        unsplit = replace(unsplit, given=given)
    if limit is not None and limit < len(unsplit.labels):
        chosen = splits.limited(unsplit.given, unsplit.labels, packed.keys(digests), limit)
        unsplit, digests = unsplit.take(chosen), digests[chosen]
    return Listing(unsplit, digests)


def assemble(  # noqa: PLR0913 - each is an option that a user sets by name
    unsplit: Unsplit,
    *,
    image_size: int | None = None,
    fit: str = "crop",
    stretch: bool = False,
    limit: int | None = None,
    bad_images: str = "error",
    progress: Progress | None = None,
    preprocess: Preprocess | None = None,
    corrections: Path | None = None,
    fold: str | None = None,
    stream: bool = False,
) -> Dataset:
    """Limit, split, decode and measure: the one way from a loader's images to a Dataset.

    A ``preprocess`` of a classifier stands for size, fit and stretch, and its mean and std are kept. Raises ImageError
    or DataError when an image cannot be read and ``bad_images`` is "error"; with "skip" they are left out and named in
    the notes. To ``stream`` is to decode images anew whenever they are used, and to pack none.
    """
    check_bad_images(bad_images)
    size = unsplit.image_size if image_size is None else image_size
    if fit == AUTO and preprocess is None:
        fit, told = choose_fit(unsplit)
        unsplit = replace(unsplit, notes=(*unsplit.notes, *filter(None, [told])))
    wanted = preprocess or Preprocess(size=size, fit=fit, stretch=stretch)  # before anything is read: it may be refused
    listed = listing(unsplit, limit, progress, corrections, unread=not stream)
    if stream and unsplit.arrays is None:
        return streamed(listed, wanted, preprocess is None, bad_images, progress, fold)
    return decoded(listed, wanted, preprocess is None, bad_images, progress, fold)


def decoded(  # noqa: PLR0913 - as assemble, of which it is the second half
    listed: Listing,
    wanted: Preprocess,
    measure: bool,
    bad_images: str = "error",
    progress: Progress | None = None,
    fold: str | None = None,
) -> Dataset:
    """Decode and split what was listed; ``measure`` takes mean and std from the training images. Raises the same."""
    if listed.provisional:
        digests, fitted = packed.read_and_fitted(listed.unsplit, wanted, bad_images, progress)
        listed = Listing(listed.unsplit, digests)
    else:
        fitted = packed.fitted_images(listed.unsplit, listed.digests, wanted, bad_images, progress)
    images, kept, notes = fitted
    if len(kept) < len(listed):
        listed = listed.take(kept)
    data = listed.dataset(images, wanted, notes, fold)
    return _measured(data, lambda train: statistics(images, train)) if measure else data


def streamed(  # noqa: PLR0913 - as decoded
    listed: Listing,
    wanted: Preprocess,
    measure: bool,
    bad_images: str = "error",
    progress: Progress | None = None,
    fold: str | None = None,
) -> Dataset:
    """As ``decoded``, and equal to it but for the images, which are decoded anew whenever they are used."""
    found = look_over(listed.unsplit, listed.digests, wanted, bad_images == "skip", progress)
    kept, notes = packed.kept_without(found.bad, len(listed)), packed.left_out_note(found.bad, listed.unsplit)
    if len(kept) < len(listed):
        listed = listed.take(kept)
    data = listed.dataset(Streamed(listed.unsplit, wanted), wanted, notes, fold)
    return _measured(data, lambda train: found.statistics(kept[train], wanted.size)) if measure else data


def _measured(data: Dataset, statistics_of: Callable[[np.ndarray], tuple[ChannelTriple, ChannelTriple]]) -> Dataset:
    """The dataset normalised by its training images, with a note of those that hold nothing."""
    train = data.parts["train"]
    if not len(train):
        return data
    mean, std = statistics_of(train)
    notes = data.notes + emptiness_notes(data.images, train, data.preprocess)
    return replace(data, preprocess=replace(data.preprocess, mean=mean, std=std), notes=notes)


def check_bad_images(bad_images: str) -> None:
    """UnknownName unless it is "error" or "skip"."""
    if bad_images not in BAD_IMAGES:
        raise UnknownName("way with bad images", bad_images, BAD_IMAGES)


def _fingerprint(unsplit: Unsplit, digests: np.ndarray, parts: dict[str, np.ndarray]) -> str:
    """A SHA-256 of classes, contents, labels and parts; independent of the order in which images were listed."""
    part_of = np.full(len(digests), 3, np.uint8)
    for number, part in enumerate(PARTS):
        part_of[parts[part]] = number
    asked = (
        unsplit.labels.astype("<u4")[:, None].view(np.uint8) if unsplit.targets is None else unsplit.targets.digests()
    )
    rows = np.concatenate([digests, part_of[:, None], asked], axis=1)
    rows = rows[np.lexsort(rows.T[::-1])]
    names = unsplit.class_names if unsplit.targets is None else unsplit.targets.names
    text = "\0".join(names).encode(errors="surrogatepass")  # a folder's name may be no text
    return hashlib.sha256(text + b"\0\0" + np.ascontiguousarray(rows).tobytes()).hexdigest()
