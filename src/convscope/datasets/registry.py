"""Datasets by name, by folder or by table: ``load_dataset`` turns what a user writes into a Dataset.

``DATASETS`` is the table of names; adding one is one file and one line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import DataError, UnknownName
from ..options import with_options
from ..progress import Progress
from ..storage import expanded
from .cifar import load_cifar10
from .dataset import Dataset, Listing, assemble, listing
from .digits import load_digits
from .folder import load_folder
from .named_before import check_named, remember
from .options import DatasetOptions
from .shapes import load_shapes
from .table import load_table
from .unsplit import Unsplit

Loader = Callable[[Path | None, "Progress | None"], Unsplit]

DATASETS: dict[str, Loader] = {
    "cifar10": load_cifar10,
    "digits": lambda data_root, progress: load_digits(),
    "shapes": lambda data_root, progress: load_shapes(),
}


@with_options(DatasetOptions)
def load_dataset(data: str | Path, options: DatasetOptions) -> Dataset:
    """The dataset that ``data`` names: a name of DATASETS, a folder of images, or a CSV table.

    ``image_size`` in pixels (default 32 for the named datasets, 64 for folders and tables), ``fit`` one of crop (the
    default), pad and squash, ``stretch`` spreads the range of each image over all of it, ``limit`` at most so many
    images, stratified, ``bad_images`` "error" (the default) or "skip". A ``preprocess`` stands for size, fit and
    stretch, and keeps its mean and std: images as a classifier takes them. ``recorded_in`` is the run whose record
    names ``data`` where no user did: a path is then read only if a user named it here before. ``need`` is what the
    images are wanted for: "training", or "classes", which takes one class, classes without images and a test part
    alone. Raises UnknownName, UsageError, DataError, StorageError or UnreachableError.
    """
    return assemble(
        _find(str(data), options),
        image_size=options.image_size,
        fit="crop" if options.fit is None else options.fit,
        stretch=bool(options.stretch),
        limit=options.limit,
        bad_images="error" if options.bad_images is None else options.bad_images,
        progress=options.progress,
        preprocess=options.preprocess,
    )


@with_options(DatasetOptions)
def list_images(data: str | Path, options: DatasetOptions) -> Listing:
    """List what ``load_dataset`` would load, hashed and not decoded, for work that streams over images.

    ``need`` "images" takes a folder without classes too.
    """
    return listing(_find(str(data), options), options.limit, options.progress)


def _find(data: str, options: DatasetOptions) -> Unsplit:
    if data in DATASETS:
        return DATASETS[data](options.data_root, options.progress)
    if options.recorded_in is not None:
        check_named(Path(data), options.recorded_in, "DATA")
    try:
        path = expanded(data)
        is_folder, is_file = bool(data) and path.is_dir(), path.is_file()
    except OSError as error:  # a name too long, a folder one may not look into
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise DataError(f"{data[:200]} cannot be opened: {reason}.") from None
    if is_folder or is_file:
        remember(path)
    if is_folder:
        return load_folder(path, options.need)
    if is_file:
        if path.suffix.lower() == ".csv":
            return load_table(path, options.need)
        raise DataError(
            f"{path} is a file; a dataset is a folder of images, a .csv table, or one of {', '.join(DATASETS)}."
        )
    if "/" in data or path.suffix:
        raise DataError(f"{path} does not exist; a dataset is a folder, a .csv table, or one of {', '.join(DATASETS)}.")
    raise UnknownName("dataset, folder or table", data, DATASETS)
