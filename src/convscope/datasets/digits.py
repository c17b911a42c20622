"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels that come with the library. Works offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from .unsplit import Unsplit

if TYPE_CHECKING:  # slow to import
    from sklearn.utils import Bunch


def load_digits() -> Unsplit:
    """The digits as grey RGB images; the scans' 17 levels are spread over 0 to 255.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from sklearn.datasets import load_digits as sklearn_digits

    box = cast("Bunch", sklearn_digits())  # a tuple only with return_X_y
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
