"""Datasets by name, by folder or by table: ``load_dataset`` turns what a user writes into a Dataset.

``DATASETS`` is the table of names; adding one is one file and one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import DataError, UnknownName, UsageError
from ..options import with_options
from ..progress import Progress
from ..recipes import Source
from ..storage import expanded
from .cifar import load_cifar10
from .dataset import Dataset, Listing, assemble, listing
from .digits import load_digits
from .embedded import HUB, load_from_hub, load_parquet
from .folder import load_folder
from .imagenet import readable
from .named_before import check_named, remember
from .options import DatasetOptions
from .remote import load_remote
from .renamed import renamed
from .shapes import load_shapes
from .shard_places import is_address, is_shards
from .shards import load_shards
from .table import TABLES, load_table
from .unsplit import Unsplit

Loader = Callable[[Path | None, "Progress | None"], Unsplit]

DATASETS: dict[str, Loader] = {
    "cifar10": load_cifar10,
    "digits": lambda data_root, progress: load_digits(),
    "shapes": lambda data_root, progress: load_shapes(),
}

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst")


@with_options(DatasetOptions)
def load_dataset(data: str | Path, options: DatasetOptions) -> Dataset:
    """The dataset that ``data`` names: a name of DATASETS, a folder of images, a table, or shards.

    ``image_size`` in pixels (default 32 for the named datasets, 64 for folders and tables), ``fit`` one of crop (the
    default), pad and squash, ``stretch`` spreads the range of each image over all of it, ``limit`` at most so many
    images, stratified, ``bad_images`` "error" (the default) or "skip", ``fold`` "2/5" to validate on the second of
    five. A ``preprocess`` stands for size, fit and stretch, and keeps its mean and std: images as a classifier takes
    them. ``recorded_in`` is the run whose record names ``data`` where no user did: a path is then read only if a user
    named it here before. ``need`` is what the images are wanted for: "training", or "classes", which takes one class,
    classes without images and a test part alone. To ``stream`` is to decode images anew whenever they are used, instead
    of packing them first. Raises UnknownName, UsageError, DataError, StorageError or
    UnreachableError.
    """
    return assemble(
        _on_sides(data, options),
        image_size=options.image_size,
        fit="crop" if options.fit is None else options.fit,
        stretch=bool(options.stretch),
        limit=options.limit,
        bad_images="error" if options.bad_images is None else options.bad_images,
        progress=options.progress,
        preprocess=options.preprocess,
        corrections=options.corrections,
        fold=options.fold,
        stream=options.stream,
    )


@with_options(DatasetOptions)
def list_images(data: str | Path, options: DatasetOptions) -> Listing:
    """List what ``load_dataset`` would load, hashed and not decoded, for work that streams over images.

    ``need`` "images" takes a folder without classes too.
    """
    return listing(_on_sides(data, options), options.limit, options.progress, options.corrections)


def _on_sides(data: str | Path, options: DatasetOptions) -> Unsplit:
    return replace(find_images(str(data), options), sides=options.sides or {})


def find_images(data: str, options: DatasetOptions) -> Unsplit:
    """The images that ``data`` names, neither hashed nor split. Raises as ``load_dataset`` does."""
    source = options.source()
    check_recorded(data, options)
    if data in DATASETS:
        _check_plain(data, source)
        return _not_the_folder(data, _named(data, options, source))
    if data.startswith(HUB):
        remember(Path(data))
        return load_from_hub(data, options.need, source)
    if is_address(data) and not is_shards(data):
        return load_remote(data, options.need)
    try:
        path = expanded(data)
        is_folder, is_file = bool(data) and path.is_dir(), path.is_file()
    except OSError as error:  # a name too long, a folder one may not look into
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise DataError(f"{data[:200]} cannot be opened: {reason}.") from None
    in_shards = is_shards(data)
    for place in filter(None, (path, options.images, options.corrections) if is_folder or is_file or in_shards else ()):
        remember(place)
    if in_shards:
        _check_shards(source)
        return load_shards(data, options.need, source, options.bad_images == "skip", options.progress)
    if is_folder:
        _check_folder(source)
        return readable(load_folder(path, options.need, source), path)
    if is_file:
        return _images_of_file(path, options, source)
    if "/" in data or path.suffix:
        raise DataError(
            f"{path} does not exist; a dataset is a folder, a table (.csv, .tsv), shards (.tar), or one of "
            f"{', '.join(DATASETS)}."
        )
    raise UnknownName("dataset, folder or table", data, DATASETS)


def _not_the_folder(name: str, unsplit: Unsplit) -> Unsplit:
    """Data of our own, with a note where a folder of their name is here, which may have been meant."""
    if not os.path.isdir(name):
        return unsplit
    note = f"{name} is the built-in data of that name, and not the folder {name} that is here: that is ./{name}."
    return replace(unsplit, notes=(*unsplit.notes, note))


def _images_of_file(path: Path, options: DatasetOptions, source: Source) -> Unsplit:
    """The images that a table names or holds."""
    if path.suffix.lower() in TABLES:
        return load_table(path, options.need, source, options.bad_images == "skip")
    if path.suffix.lower() == ".parquet":
        return load_parquet(path, options.need, source, options.bad_images == "skip")
    if path.suffix.lower() in ARCHIVES:
        raise DataError(f"{path} is an archive: unpack it, and name the folder it makes.")
    raise DataError(
        f"{path} is a file; a dataset is a folder of images, a table (.csv, .tsv), or one of {', '.join(DATASETS)}."
    )


def check_recorded(data: str, options: DatasetOptions) -> None:
    """UsageError where a run's record, and nobody here, names a file that would be read."""
    if options.recorded_in is None:
        return
    places = {"DATA": None if data in DATASETS else data}
    check_named(places | {"--images": options.images, "--corrections": options.corrections}, options.recorded_in)


def _named(name: str, options: DatasetOptions, source: Source) -> Unsplit:
    """A dataset of the table, its classes merged and renamed as asked."""
    unsplit = renamed(DATASETS[name](options.data_root, options.progress), source.renamed)
    if len(unsplit.class_names) < 2 and options.need == "training":
        raise DataError(f"{name} has one class now, {unsplit.class_names[0]!r}; a classifier needs two or more.")
    return unsplit


def _check_plain(name: str, source: Source) -> None:
    """UsageError where a named dataset is asked for what only files have."""
    for field, value in vars(source).items():
        if value is not None and field not in ("corrections", "renamed"):
            raise UsageError(f"--{field.replace('_', '-')} is for folders and tables; {name} has its own labels.")


def _check_shards(source: Source) -> None:
    """UsageError where shards are asked for what only a table of paths has."""
    for field in ("images", "suffix"):
        if getattr(source, field) is not None:
            raise UsageError(f"--{field} is for tables of paths, and these are shards.")


def _check_folder(source: Source) -> None:
    """UsageError where a folder is asked for what only a table has."""
    for field in ("path_column", "label_column", "images", "suffix"):
        if getattr(source, field) is not None:
            raise UsageError(f"--{field.replace('_', '-')} is for tables, and this is a folder.")
