"""What a library in C would print on standard error beside our own messages, kept from being printed."""

from __future__ import annotations

import ctypes
import functools

from PIL import Image


@functools.cache
def silence_libtiff() -> None:
    """Tell the libtiff that Pillow has loaded to keep its warnings and errors; what matters of them Pillow raises.

    Asked through Pillow's own module, so that it is the same library; where that has it built in, nothing is done.
    """
    try:
        library = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
    except (AttributeError, OSError, TypeError):
        pass
