"""Tables that hold whole images: Parquet files, and image datasets of the Hugging Face Hub.

The bytes of each image are put into the cache as files, as they are, so that all that follows is as for any folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..cache import cache_folder
from ..errors import DataError, UnreachableError, UsageError, one_line
from ..reading import parse_bounded
from ..recipes import Source
from ..storage import file_hash, sha256, write_derived
from .folder import Need
from .hub import what_is_here
from .table import images_of_table
from .table_reading import Table
from .unsplit import Unsplit

HUB = "hf:"
ROWS = 256  # read at a time
ROOM, GROWTH, EACH = 128 << 20, 50, 100  # bytes of all rows; more for each byte of the file; of a row beside its texts
FILE = "{:08d}-{}.image"


def load_parquet(path: Path, need: Need = "training", source: Source | None = None, skip: bool = False) -> Unsplit:
    """The images that a Parquet file names, or holds. Needs the extra ``parquet``; raises DataError or UsageError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"{path} is read with pip install 'convscope[parquet]', which is not installed.") from None
    try:
        opened = parquet.ParquetFile(path)
        schema = opened.schema_arrow
        batches = (batch.to_pylist() for batch in opened.iter_batches(batch_size=ROWS))
        names = hub_names(schema.metadata or {})
        rows = (row_texts(row, names) for batch in batches for row in batch)
        table = _table(path, list(schema.names), explained(path, path.stat().st_size, rows), file_hash(path))
    except (pyarrow.ArrowException, OSError) as error:  # of a damaged file pyarrow raises either
        raise DataError(f"{path} cannot be read as Parquet: {one_line(error)}.") from None
    return _by_row(images_of_table(table, need, source or Source(), skip))


def explained(path: Path | str, size: int, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, while they take no more than the file's size explains: a value that repeats is stored once."""
    left = ROOM + GROWTH * size
    for row in rows:
        left -= EACH + sum(len(value) for value in row.values() if isinstance(value, str | bytes))
        if left < 0:
            raise DataError(f"{path} unpacks to more than its size explains, as no table of images does.")
        yield row


def load_from_hub(name: str, need: Need = "training", source: Source | None = None) -> Unsplit:
    """The images of ``hf:NAME`` or ``hf:NAME:CONFIGURATION``; NAME may be a folder of Parquet files too.

    Needs the extra ``hf``. Raises UsageError without it, UnreachableError where the dataset cannot be fetched, and
    DataError where it holds no images.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{name} is read with pip install 'convscope[hf]', which is not installed.") from None
    wanted, _, configuration = name.removeprefix(HUB).partition(":")
    datasets.disable_progress_bars()
    from huggingface_hub import constants

    try:
        with what_is_here(datasets.config, constants):
            parts = datasets.load_dataset(wanted, configuration or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnreachableError(f"{name} cannot be fetched: {one_line(error)}.") from None
    table = _of_parts(name, wanted, parts)
    return _by_row(images_of_table(table, need, source or Source()))


def _by_row(unsplit: Unsplit) -> Unsplit:
    """The images named by their rows, where the table itself held them."""
    if unsplit.files[0].suffix != Path(FILE).suffix:
        return unsplit
    return replace(unsplit, origins=lambda i: f"{unsplit.name}, row {int(unsplit.files[i].stem.split('-')[0]) + 1}")


def _of_parts(name: str, wanted: str, parts: Any) -> Table:
    """One table of all parts, a dict of datasets; a column ``split`` says the part of each row, if it has several."""
    from datasets import ClassLabel, Image

    first = next(iter(parts.values()))
    columns = [column for column, kind in first.features.items() if isinstance(kind, Image)]
    if not columns:
        raise DataError(f"{name} holds no images: its columns are {', '.join(first.features)}.")
    names = {column: kind.names for column, kind in first.features.items() if isinstance(kind, ClassLabel)}

    def rows() -> Iterator[dict[str, Any]]:
        for part, data in parts.items():
            plain = data.cast_column(columns[0], Image(decode=False))
            for row in plain:
                yield row_texts(row, names) | ({"split": part} if len(parts) > 1 else {})

    header = [*first.features, *(["split"] if len(parts) > 1 else [])]
    identity = sha256("".join(sorted(data._fingerprint for data in parts.values())).encode())
    return _table(Path(wanted.replace("/", "-")), header, rows(), identity)


def _table(path: Path, header: list[str], rows: Iterable[dict[str, Any]], identity: str) -> Table:
    """The rows as cells of text; an image that is held by a row becomes a file in the cache, named in its cell."""
    place = cache_folder() / "embedded" / identity[:40]
    cells: list[tuple[str, ...]] = []
    held: list[str] = []
    for number, row in enumerate(rows):
        for name, value in row.items():
            if isinstance(value, bytes):
                held += [] if name in held else [name]
                file = place / FILE.format(number, header.index(name))
                if not _holds(file, value):
                    write_derived(file, value)
                row[name] = str(file)
        cells.append(tuple("" if row.get(name) is None else str(row[name]) for name in header))
    lines = list(range(1, len(cells) + 1))
    if not held or "path" in held:
        return Table(path, tuple(header), cells, lines)
    first = min(map(header.index, held))  # what the table holds is meant, and the first of several
    named = ("path", *("path (text)" if name == "path" else name for name in header))
    return Table(path, named, [(row[first], *row) for row in cells], lines)


def _holds(file: Path, value: bytes) -> bool:
    """Whether a file holds these bytes: they are at hand, so that one that rotted is written again."""
    try:
        return file.stat().st_size == len(value) and file.read_bytes() == value
    except OSError:
        return False


def row_texts(row: Mapping[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    """A row with the numbers of classes as their names, and images as their bytes, or as their paths without any."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and {"bytes", "path"} & value.keys():
            value = value.get("bytes") or value.get("path")
        elif name in names and isinstance(value, int):
            value = names[name][value] if 0 <= value < len(names[name]) else None
        found[name] = value
    return found


def hub_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of classes by column, as ``datasets`` writes them into a Parquet file; none where it did not."""
    try:
        features = parse_bounded(metadata.get(b"huggingface", b"{}").decode()).get("info", {}).get("features", {})
        return {name: [str(n) for n in kind["names"]] for name, kind in features.items() if "names" in kind}
    except (ValueError, AttributeError, TypeError, KeyError):
        return {}
