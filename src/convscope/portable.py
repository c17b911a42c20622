"""Names of files that are made of other names: such as Linux, macOS and Windows can all hold, and keep apart."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

LONGEST_NAME = 150  # bytes of a name that becomes part of another: a file system takes 255
_NOT_EVERYWHERE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')  # in names: Windows; the last are bytes, macOS
RESERVED = re.compile(
    r"(con|prn|aux|nul|(com|lpt)[0-9])(?=\.|$)", re.IGNORECASE
)  # a device on Windows, with any ending


def shortened(name: str) -> str:
    """A name as a part of a file's name on any system.

    Where it is too long, or holds what Windows or macOS cannot: what can be kept of it and a hash, so that two differ.
    """
    plain = _NOT_EVERYWHERE.sub("_", name).rstrip(" .") or "unnamed"
    plain = f"_{plain}" if RESERVED.match(plain) else plain
    raw = plain.encode()
    if plain == name and len(raw) <= LONGEST_NAME:
        return name
    told = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{raw[:LONGEST_NAME].decode(errors='ignore')}-{told}"


def merged_name(name: str) -> str:
    """What two names have in common that are one on some system, which knows no letter case or one form of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def folder_name(path: str | Path) -> str:
    """What a folder of answers about a file is called: the file's name without its ending."""
    return shortened(Path(path).stem.strip(".") or "unnamed")
