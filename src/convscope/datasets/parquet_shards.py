"""Parquet files that hold whole images, many of them: their images' bytes are copied once, one file a shard.

In Parquet an image cannot be read without its whole group of rows, thousands of images at times. So the bytes of its
images, as they are, go into one file of the cache, where each can be read alone, as in a tar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..cache import cache_folder
from ..errors import DataError, StorageError, UsageError, one_line
from ..recipes import Source
from ..storage import check_free, commit, sha256
from .embedded import ROWS, explained, hub_names, row_texts
from .shard_index import Gathered, ShardIndex, index_place, keep_index, leave_out, read_index
from .shard_places import LocalShard, Shard
from .table_reading import Table


def copied_shard(shard: Shard, source: Source) -> tuple[LocalShard, ShardIndex, tuple[str, ...]]:
    """The file with the bytes of a shard's images, where each lies in it, and the shard's columns.

    Raises DataError where it is no Parquet file with images and labels, StorageError where there is no room.
    """
    with _opened(shard) as opened:
        columns = tuple(opened.schema_arrow.names)
        image, label = _columns(shard, opened, source)
        place = cache_folder() / "shards" / f"{sha256(f'{shard.identity}|{image}'.encode())[:40]}.bytes"
        kept = read_index(index_place(shard, f"parquet|{image}|{label}"))
        if kept is None or not place.exists() or place.stat().st_size != int(kept.lengths.sum()):
            kept = _copy(shard, opened, (image, label), place)
    found = place.stat()
    return LocalShard(str(place), found.st_size, found.st_mtime_ns), kept, columns


@contextmanager
def _opened(shard: Shard) -> Iterator[Any]:
    """The Parquet file within the block."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            f"{shard.path} is read with pip install 'convscope[parquet]', which is not installed."
        ) from None
    try:
        with shard.open() as handle:
            yield parquet.ParquetFile(handle)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{shard.path} cannot be read as Parquet: {one_line(error)}.") from None


def _columns(shard: Shard, opened: Any, source: Source) -> tuple[str, str | None]:
    """The column of images, which holds their bytes, and that of labels; None where the labels stand elsewhere."""
    import pyarrow

    path, schema = Path(shard.path), opened.schema_arrow
    table = Table(path, tuple(schema.names), [], [])
    held = [field.name for field in schema if _holds_bytes(field.type, pyarrow)]
    named = None if source.path_column is None else table.find("path", source.path_column)
    image = named or (held[0] if held else None)
    if image is None or image not in held:
        raise DataError(
            f"{path} holds no images: of several Parquet files each has a column of their bytes; it has: "
            f"{', '.join(schema.names)}."
        )
    return image, None if source.label_from else table.find("label", source.label_column)


def _holds_bytes(kind: Any, pyarrow: Any) -> bool:
    types = pyarrow.types
    if types.is_struct(kind):
        return any(f.name == "bytes" and _holds_bytes(f.type, pyarrow) for f in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _copy(shard: Shard, opened: Any, columns: tuple[str, str | None], place: Path) -> ShardIndex:
    """Copy the bytes of all images into the cache, and note where each lies."""
    image, label = columns
    gathered = Gathered()

    def write(handle: BinaryIO) -> str:
        whole, at = hashlib.sha256(), 0
        for number, row in enumerate(_rows(shard, opened, [c for c in columns if c])):
            data = row.get(image)
            if not isinstance(data, bytes):
                leave_out(gathered.left_out, "bare", f"row {number + 1}")
                continue
            said = "" if label is None or row.get(label) is None else str(row[label])
            gathered.add(f"{number:08d}.image", (at, len(data)), hashlib.sha256(data).digest(), said.strip())
            whole.update(data)
            handle.write(data)
            at += len(data)
        if not gathered.names:
            raise DataError(f"{shard.path} holds no image.")
        return whole.hexdigest()

    try:
        check_free(place.parent, shard.size, "the bytes of the images in these Parquet files")
        commit(place, write)
    except StorageError as error:
        raise StorageError(f"{error} Set CONVSCOPE_CACHE to a folder with room.") from error
    found = gathered.index()
    keep_index(index_place(shard, f"parquet|{image}|{label}"), found)
    return found


def _rows(shard: Shard, opened: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows with the images' bytes and the labels' names, a few at a time."""
    names = hub_names(opened.schema_arrow.metadata or {})
    batches = (batch.to_pylist() for batch in opened.iter_batches(batch_size=ROWS, columns=columns))
    rows = (row_texts(row, names) for batch in batches for row in batch)
    return explained(shard.path, shard.size, rows)
