"""What was recorded before of some images, by whatever engine: found, and nothing computed."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from ..classifying.classifier import Classifier
from ..errors import UsageError
from .engines import ENGINES, FeatureRequest, engine_identity
from .store import DTYPES, FeatureOptions, Features, Store, store_description, store_folder


def find_recorded(classifier: Classifier, keys_N: np.ndarray) -> Features | None:
    """What the network's head is given of the images with these keys, from the store that holds most of them.

    ``rows`` are -1 where nothing is recorded; None where that is so of all. UsageError for a network without a head.
    """
    found: Features | None = None
    device = torch.device("cpu")
    for engine, dtype in product(ENGINES, DTYPES):
        try:
            identity = engine_identity(engine, FeatureRequest(), device)
        except UsageError:  # it is not installed
            continue
        store = Store(store_folder(store_description(classifier, FeatureOptions(dtype=dtype), identity)), dtype)
        rows = store.rows_by_name(keys_N)
        if (rows >= 0).sum() > (0 if found is None else (found.rows >= 0).sum()):
            found = Features(store, rows)
    return found
