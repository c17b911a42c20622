"""scikit-learn's handwritten digits: 1,797 real pictures of 8 x 8 pixels that come with the library. Works offline."""

from __future__ import annotations

import numpy as np

from .dataset import Unsplit


def load_digits() -> Unsplit:
    """The digits as grey RGB pictures; the scans' 17 levels are spread over 0 to 255.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from sklearn.datasets import load_digits as sklearn_digits

    box = sklearn_digits()
    grey = np.rint(box.images * (255 / 16)).astype(np.uint8)
    return Unsplit(
        name="digits",
        class_names=tuple(str(i) for i in range(10)),
        labels=box.target.astype(np.int64),
        given=np.full(len(grey), "", "U5"),
        image_size=32,
        arrays=np.repeat(grey[..., None], 3, axis=3),
        mirror=False,
    )
