"""Where packed images, features and downloads are kept: what can be made again."""

from __future__ import annotations

import functools
import os
import stat
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Tell where packed images and downloads are kept: ``$CONVSCOPE_CACHE``, else the system's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("CONVSCOPE_CACHE")
    if chosen:
        return Path(chosen)
    try:
        found = user_cache_path("convscope")
    except (RuntimeError, KeyError, OSError):  # a user without a home, as in many containers
        return _temporary_cache()
    return found if found.is_absolute() else _temporary_cache()  # older platformdirs say ~ of such a user


@functools.cache
def _temporary_cache() -> Path:
    """A cache in the system's temporary folder, of this user alone, with a note that says so."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"convscope-{user}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022
    except OSError:
        own = False
    if not own:
        path = Path(tempfile.mkdtemp(prefix="convscope-"))
    sys.stderr.write(f"note: there is no home folder, so the cache is {path}; CONVSCOPE_CACHE names another.\n")
    return path
