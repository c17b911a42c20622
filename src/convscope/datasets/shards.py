"""Many images in few files: WebDataset tars, and Parquet files with whole images, read where they lie.

What is read when. The first time, each shard is read once from its front to its end: names, places, labels and the hash
of each image go into an index, kept by the shard's path, size and time (shard_index.py; of Parquet the images' bytes
are copied too, parquet_shards.py). After that a set of shards is a table of images, any of which is read alone by a
seek, so that splits by content, the doctor, features, evaluation and explanations need nothing of their own. Nothing is
ever unpacked.

A training that packs its images (the default) shuffles them freely, and learns from shards, bit by bit, what it learns
from a folder of the same images. One that streams (streamed.py) decodes them anew each epoch and reads them block by
block, in an order that is a function of seed and epoch alone (randomness.order).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..progress import Progress
from ..reading import parse_bounded, read_regular_text
from ..recipes import Source
from .folder import IMAGE_SIZE, Need, one_or_two
from .parquet_shards import copied_shard
from .part_names import likely_part, plain_part, with_eval_told
from .patterns import groups_of_paths, labels_of_paths
from .renamed import renamed
from .shard_files import ShardFiles
from .shard_index import ShardIndex, index_of
from .shard_places import PARQUET, TAR, Shard, find_shards, is_address
from .table import MAX_CLASSES, indexed_names, told_apart
from .unsplit import Unsplit, alike

THREADS = min(4, os.cpu_count() or 1)  # shards that are read at once
NOT_TAKEN = {
    "unread": ("file that is neither an image nor a label was", "files that are neither images nor labels were"),
    "hidden": ("hidden file was", "hidden files were"),
    "imageless": ("label without an image was", "labels without an image were"),
    "bare": ("row without an image's bytes was", "rows without an image's bytes were"),
}


def load_shards(
    data: str,
    need: Need = "training",
    source: Source | None = None,
    skip: bool = False,
    progress: Progress | None = None,
) -> Unsplit:
    """The images of the shards that ``data`` names: a pattern, a folder of shards, one file or an address.

    A label is what `.cls`, `.json` or `.txt` of an image's key says, else the folder of its name, or what
    ``label_from`` finds in it; whole numbers are those of the names in `classes.txt` or `classes.json` beside the
    shards. With ``skip`` images without a label are left out. Raises DataError, which names the shard and the key.
    """
    source = source or Source()
    shards = find_shards(data)
    if not shards:
        raise DataError(f"{data} holds no shard: shards are .tar or .parquet files.")
    files, indices = _read(shards, source, progress)
    texts, lacking = _labels(files, indices, need, source)
    notes = list(_left_out(indices, [os.path.basename(shard.path) for shard in shards]))
    if lacking.any():
        told = _without_label(files, lacking)
        if not skip or lacking.all():
            leave = "" if lacking.all() else "--bad-images skip leaves such images out, and "
            raise DataError(f"{told}; {leave}--label-from reads names.")
        notes.append(f"{told}; such images are left out.")
    kept = np.flatnonzero(~lacking)
    given = np.array(_parts([Path(shard.path) for shard in shards]), "U5")[files.which]
    names, labels, more = _classes(texts[kept], Path(shards[0].path))
    digests = np.concatenate([index.digests for index in indices])[kept]
    found = Unsplit(
        name=_name(data, shards),
        class_names=names,
        labels=labels,
        given=given[kept],
        image_size=IMAGE_SIZE,
        files=files.take(kept),
        root=_root(files.places),
        origins=_origins(files.take(kept)),
        notes=(*notes, *more),
        digests=digests,
    )
    return _finished(found, data, need, source)


def images_of_shards(data: str, progress: Progress | None = None) -> Sequence[Path]:
    """The images of the shards that ``data`` names, whatever their labels are; raises as ``load_shards`` does."""
    return _read(find_shards(data), Source(), progress)[0]


def _finished(found: Unsplit, data: str, need: Need, source: Source) -> Unsplit:
    """With classes renamed and groups told; DataError where training cannot use what was found."""
    found = renamed(found, source.renamed)
    names = found.class_names
    if need == "training":
        if len(names) < 2:
            raise DataError(f"{data} holds one class, {names[0]!r}; a classifier needs two or more.")
        if not np.isin(found.given, ("", "train")).any():
            raise DataError(f"{data} holds no shard to train on, by the names of its shards; add those of train-*.")
    found = replace(found, notes=(*found.notes, *map(one_or_two, alike(names))))
    if source.group is None:
        return found
    return replace(found, groups=groups_of_paths([path.as_posix() for path in found.files], source.group))


def _read(shards: Sequence[Shard], source: Source, progress: Progress | None) -> tuple[ShardFiles, list[ShardIndex]]:
    """The images of all shards, and the index of each."""
    kinds = {Path(shard.path).suffix.lower() for shard in shards}
    if len(kinds) > 1:
        raise DataError(f"{shards[0].path} and the other shards are tars and Parquet files mixed: name one kind.")
    held: list[Shard] = []
    indices: list[ShardIndex] = []
    columns: tuple[str, ...] = ()
    with ThreadPoolExecutor(THREADS) as pool:
        work = pool.map(index_of, shards) if kinds == {TAR} else (copied_shard(s, source) for s in shards)
        for shard, found in zip(shards, work, strict=True):
            if isinstance(found, ShardIndex):
                held.append(shard)
                indices.append(found)
            else:
                columns = _same_columns(shards[0], columns, shard, found[2])
                held.append(found[0])
                indices.append(found[1])
            if progress:
                progress("reading shards", len(held), len(shards))
    counts = [len(index) for index in indices]
    files = ShardFiles(
        shards=tuple(held),
        places=tuple(shard.path for shard in shards),
        names=tuple(index.names for index in indices),
        which=np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        starts=np.concatenate([index.starts for index in indices]),
        lengths=np.concatenate([index.lengths for index in indices]),
        ends=np.concatenate([index.ends for index in indices]),
    )
    return files, indices


def _same_columns(first: Shard, columns: tuple[str, ...], shard: Shard, found: tuple[str, ...]) -> tuple[str, ...]:
    if columns and set(columns) != set(found):
        raise DataError(
            f"{shard.path} has the columns {', '.join(found)}, and {os.path.basename(first.path)} has "
            f"{', '.join(columns)}: shards of one data set have the same."
        )
    return found


def _labels(
    files: ShardFiles, indices: Sequence[ShardIndex], need: Need, source: Source
) -> tuple[np.ndarray, np.ndarray]:
    """The label of each image as text, and which have none, bool (N,)."""
    if source.label_from is not None:
        paths = [f"{files.places[int(files.which[i])]}/{files.name(i)}" for i in range(len(files))]
        texts = np.array(labels_of_paths(paths, source.label_from), object)
        return texts, np.zeros(len(files), bool)
    texts = np.array([label for index in indices for label in index.labels], object)
    if not texts.astype(bool).any():  # a tar of a folder of classes
        folders = [os.path.basename(os.path.dirname(files.name(i))) for i in range(len(files))]
        texts = np.array(folders, object)
    if need == "images" and not texts.astype(bool).all():
        texts = np.full(len(files), "images", object)
    lacking = ~texts.astype(bool)
    known = set(texts[~lacking])
    if "-1" in known and all(text.isdecimal() for text in known - {"-1"}):  # how some write that there is none
        lacking |= texts == "-1"
    return texts, lacking


def _without_label(files: ShardFiles, lacking: np.ndarray) -> str:
    """How many images have no label, and the first."""
    count, first = int(lacking.sum()), int(np.argmax(lacking))
    shard = os.path.basename(files.places[int(files.which[first])])
    have = "image has" if count == 1 else "images have"
    ends = "column of labels" if files.name(first).endswith(".image") else ".cls, .json or .txt"
    return f"{count:,} of {len(files):,} {have} no label ({ends}), the first: {files.name(first)} in {shard}"


def _classes(texts: np.ndarray, first: Path) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """The names of the classes, the label of each image, int64 (N,), and notes."""
    known = sorted(set(texts))
    if not all(text.isascii() and text.isdecimal() for text in known):
        number = {name: i for i, name in enumerate(known)}
        return tuple(known), np.array([number[text] for text in texts], np.int64), ()
    large = next((text for text in known if len(text) > len(str(MAX_CLASSES)) or int(text) >= MAX_CLASSES), None)
    if large is not None:
        raise DataError(f"{first.parent}: the class number {large[:40]} is not one from 0 to {MAX_CLASSES - 1}.")
    labels = np.array([int(text) for text in texts], np.int64)
    names, notes = _names_beside(first, labels)
    return names, labels if len(names) > labels.max() else np.zeros(len(labels), np.int64), notes


def _names_beside(first: Path, labels: np.ndarray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of numbered classes: from a file beside the shards, else the numbers themselves."""
    listed = sorted(set(labels.tolist()))
    beside = first.with_name("classes.json")
    if is_address(str(first)) or not beside.is_file() or first.with_name("classes.txt").is_file():
        return indexed_names(first, listed)
    try:
        said = parse_bounded(read_regular_text(beside))
        numbered = dict(enumerate(said)) if isinstance(said, list) else {int(k): v for k, v in said.items()}
        names = tuple(str(numbered[i]) for i in range(len(numbered)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f'{beside} is no list of names, nor numbers with names: {{"0": "cat", ...}}.') from None
    if len(names) <= listed[-1]:
        raise DataError(f"{beside} gives {len(names)} names, and a shard asks for class {listed[-1]}, from 0.")
    return told_apart(names), ()


def _parts(paths: Sequence[Path]) -> list[str]:
    """The part that each shard's name says, or that of its folder where there are several; "" for none."""
    several = len({path.parent for path in paths}) > 1
    names = [f"{path.parent.name} {path.stem}" if several else path.stem for path in paths]
    above = [(plain_part(path.parent.name) if several else None) for path in paths]
    own = [plain_part(path.stem) or likely_part(path.stem) or "" for path in paths]
    told = {name: one or other for name, one, other in zip(names, above, own, strict=True)}
    told = with_eval_told([name for name in told if told[name]], told)
    return [told[name] for name in names]


def _name(data: str, shards: Sequence[Shard]) -> str:
    """What the data set is called: its file or folder, or what the names of its shards have in common."""
    if len(shards) == 1:
        return Path(shards[0].path).stem
    if os.path.isdir(data):
        return Path(data).resolve().name or data
    names = [os.path.basename(shard.path) for shard in shards]
    equal = [len(set(letters)) == 1 for letters in zip(*names, strict=False)]
    common = names[0][: equal.index(False) if False in equal else len(equal)]
    return common.rstrip("0123456789-_. ") or Path(shards[0].path).parent.name or "shards"


def _root(places: Sequence[str]) -> Path | None:
    """The folder of all shards, from which their images are named."""
    try:
        return Path(os.path.commonpath([os.path.dirname(place) for place in places]) or ".")
    except ValueError:  # some have no folder in common
        return None


def _origins(files: ShardFiles) -> Callable[[int], str] | None:
    """How images are called that have no name of their own: rows of Parquet files."""
    if not files.places[0].lower().endswith(PARQUET):
        return None
    return lambda i: f"{os.path.basename(files.places[int(files.which[i])])}, row {int(files.name(i)[:8]) + 1}"


def _left_out(indices: Sequence[ShardIndex], shards: Sequence[str]) -> list[str]:
    """A sentence for each kind of thing that was passed over."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for index, shard in zip(indices, shards, strict=True):
        for kind, (count, names) in index.left_out.items():
            counts[kind] += count
            first.setdefault(kind, f"{names[0]} in {shard}")
    return [
        f"{count:,} {NOT_TAKEN[kind][count > 1]} ignored ({'the first: ' if count > 1 else ''}{first[kind]})."
        for kind, count in counts.items()
    ]
