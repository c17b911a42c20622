"""Which files are taken for images by their names. What they are is told by their content, when they are read."""

from __future__ import annotations

import functools
import importlib.util
import os

# fmt: off
EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif",
})
# fmt: on
HEIC_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})  # read where pillow-heif is installed


@functools.cache
def reads_heic() -> bool:
    """Whether what reads HEIC, as phones write it, is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def is_image_name(name: str) -> bool:
    """Whether a file of that name is taken for an image that can be read here."""
    end = os.path.splitext(name)[1].lower()
    return end in EXTENSIONS or (end in HEIC_EXTENSIONS and reads_heic())
