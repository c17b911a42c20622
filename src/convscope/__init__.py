"""convscope: train convolutional image classifiers, see how good they are and what each filter learned.

The public names stand in ``__init__.pyi``, once; everything else may change. Each is imported when it is first used,
so that ``import convscope`` and the command line's help need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
