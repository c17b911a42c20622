"""JSON files of ours, kept once they are read, while the file is the same: a page asks for them again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ..storage import read_json
from .stamps import SIZE, Stamp, stamp

MOST = 24 << 20  # bytes of files whose content is kept


class KeptJson:
    """Reads as ``read_json`` does. What it gives is shared: it must not be changed."""

    def __init__(self, most: int = MOST) -> None:
        self._kept: OrderedDict[Path, tuple[Stamp, dict[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()
        self._most = most

    def read(self, path: Path) -> dict[str, Any]:
        """The object in a file. DamagedFile where there is none, or another than was written."""
        seen = stamp(path)
        if not seen:
            return read_json(path)  # which says what is wrong
        with self._lock:
            kept = self._kept.get(path)
            if kept is not None and kept[0] == seen:
                self._kept.move_to_end(path)
                return kept[1]
        found = read_json(path)
        with self._lock:
            self._kept[path] = (seen, found)
            while len(self._kept) > 1 and sum(seen[SIZE] for seen, _ in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return found
