"""What libraries would print on standard error beside our own messages, kept from being printed."""

from __future__ import annotations

import ctypes
import functools
import logging

from PIL import Image


@functools.cache
def silence_libraries() -> None:
    """Tell Pillow, and the libtiff that it has loaded, to keep their warnings and errors; what matters Pillow raises.

    A program that has set up logging still gets Pillow's. libtiff is asked through Pillow's own module, so that it is
    the same library; where that has it built in, nothing is done.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # without any handler Python prints them
    try:
        library = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
    except (AttributeError, OSError, TypeError):
        pass
