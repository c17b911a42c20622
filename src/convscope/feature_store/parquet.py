"""Recorded features as one Parquet file, for programs elsewhere."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..datasets.dataset import Listing
from ..errors import UsageError
from ..storage import commit
from .store import Features

ROWS = 1024  # that are read and written together
EXTRA = "pip install 'convscope[parquet]'"


def write_parquet(path: Path, listed: Listing, features: Features) -> None:
    """Write a row an image and a copy: ``image``, ``class``, ``sha256``, ``copy`` (0: itself), ``features``.

    Maps are flat, their shape (C, h, w) stands in the file's metadata as ``shape``. UsageError without the extra.
    """
    arrow, parquet = library()
    kind = arrow.list_(arrow.from_numpy_dtype(features[np.arange(1)].dtype))
    texts = [(name, arrow.string()) for name in ("image", "class", "sha256")]
    shape = " ".join(map(str, features.shape))
    schema = arrow.schema([*texts, ("copy", arrow.int32()), ("features", kind)], metadata={"shape": shape})

    def write(handle: BinaryIO) -> str:
        hashed = _Hashed(handle)
        with parquet.ParquetWriter(arrow.PythonFile(hashed, mode="w"), schema) as writer:
            for start in range(0, len(features), ROWS):
                index = np.arange(start, min(start + ROWS, len(features)))
                writer.write_table(arrow.table(_columns(listed, features, index), schema=schema))
        return hashed.hash.hexdigest()

    commit(path, write)


class _Hashed:
    """A file that is written from its beginning to its end, and hashed as it goes; its opener closes it."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle, self.hash, self.closed = handle, hashlib.sha256(), False

    def write(self, data: bytes) -> int:
        """Write more."""
        self.hash.update(data)
        return self.handle.write(data)

    def tell(self) -> int:
        """How many bytes there are."""
        return self.handle.tell()

    def flush(self) -> None:
        """Hand over what was written."""
        self.handle.flush()

    def close(self) -> None:
        """Take no more."""
        self.closed = True


def _columns(listed: Listing, features: Features, index: np.ndarray) -> dict[str, Any]:
    images = [int(i) % len(listed) for i in index]
    names, labels = listed.unsplit.class_names, listed.unsplit.labels
    return {
        "image": [listed.unsplit.origin(i) for i in images],
        "class": [names[labels[i]] for i in images],
        "sha256": [listed.digests[i].tobytes().hex() for i in images],
        "copy": (index // len(listed)).astype(np.int32),
        "features": list(features[index].reshape(len(index), -1)),
    }


def library() -> tuple[Any, Any]:
    """pyarrow and its Parquet. UsageError where it is not installed."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError(f"--parquet is written with {EXTRA}, which is not installed.") from None
