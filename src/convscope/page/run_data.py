"""The images that a run was trained on, opened when a page needs some of them, and kept for the next one."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from pathlib import Path

from ..classifying.classifier import Classifier
from ..datasets.dataset import Dataset
from ..evaluation.opening import read_data
from ..evaluation.options import EvaluateOptions
from ..training.runs import Run
from .stamps import Stamp, stamp

KEPT = 2  # datasets


class RunData:
    """Datasets of runs; what only a run's record names is read where somebody named it on this machine before."""

    def __init__(self, data_root: Path | None = None) -> None:
        self.data_root = data_root
        self._kept: OrderedDict[tuple[str, Stamp], Dataset] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: Run, classifier: Classifier) -> Dataset:
        """The dataset of a run as its classifier takes it. Raises what reading it raises."""
        key = (str(run.folder), stamp(run.folder / "recipe.json"))
        with self._lock:
            if key not in self._kept:
                options = EvaluateOptions(data_root=self.data_root)
                self._kept[key] = read_data(classifier, run.name, None, "show", options)[0]
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


def uri(file: bytes) -> str:
    """A PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(file).decode("ascii")
