"""A layer of a run after one of its kept epochs beside the same layer after another."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..canvas.signed import png, signed_png
from ..classifying.classifier import Classifier
from ..errors import ConvscopeError
from ..training.kept_epochs import classifier_at, kept_epochs
from ..training.looking import LARGEST_MAP, Probes, choose_probes, layers_with_filters
from ..training.runs import Run
from ..training.then_and_now import ThenAndNow, then_and_now
from .explained import layers_of
from .run_data import RunData, uri
from .run_view import head_of
from .served import Served
from .stamps import Stamp, stamp
from .stepping import MOST_EPOCHS

KEPT = 4  # networks


class Epochs:
    """Opens the networks of kept epochs when they are asked about, and keeps the last few; one look at a time."""

    def __init__(self, served: Served, data: RunData) -> None:
        self.served, self.data = served, data
        self._networks: OrderedDict[tuple[Path, Stamp], Classifier] = OrderedDict()
        self._probes: dict[str, Probes] = {}
        self._looking = threading.Lock()

    def page(self, run: str, layer: str = "", then: str = "", now: str = "", image: str = "") -> dict[str, Any]:
        """The layer (the first, where none is named) after the kept epochs nearest to ``then`` and ``now``."""
        found = self.served.run(run)
        kept = list(kept_epochs(found))
        shown: dict[str, Any] = {**head_of(self.served, run), "layers": layers_of(self.served, found), "epochs": kept}
        shown |= dict.fromkeys(("then", "now", "layer", "image", "seconds", "largest", "of"))
        shown |= {"choices": [], "probes": [], "filters": [], "most": MOST_EPOCHS}
        if len(kept) < 2 or shown["problem"]:
            return shown
        start = time.monotonic()
        chosen = (_nearest(kept, then, kept[0]), _nearest(kept, now, kept[-1]))
        with self._looking:
            try:
                pair = [self._network(found, epoch) for epoch in chosen]
                probes = self._probes_of(found, pair[1])
            except ConvscopeError as error:
                return {**shown, "problem": str(error)}
            choices = layers_with_filters(pair[1].network)
            layer = layer or choices[0]
            seen = then_and_now(pair[0], pair[1], layer, probes)
        number = _nearest(range(len(probes.labels)), image, 0)
        shown |= {"then": chosen[0], "now": chosen[1], "layer": layer, "choices": choices, "image": number}
        shown |= {"probes": _probes(probes, seen), "filters": _filters(seen, number)}
        return {**shown, "largest": seen.largest, "of": seen.of, "seconds": time.monotonic() - start}

    def _network(self, run: Run, epoch: int) -> Classifier:
        path = kept_epochs(run)[epoch]
        key = (path, stamp(path))
        if key not in self._networks:
            self._networks[key] = classifier_at(run, epoch)
        self._networks.move_to_end(key)
        while len(self._networks) > KEPT:
            self._networks.popitem(last=False)
        return self._networks[key]

    def _probes_of(self, run: Run, classifier: Classifier) -> Probes:
        key = str(run.folder)
        if key not in self._probes:
            self._probes[key] = choose_probes(self.data.of(run, classifier), torch.device("cpu"))
        return self._probes[key]


def _nearest(there: Sequence[int], asked: str, usual: int) -> int:
    """That of the numbers there which is nearest to the one a browser sent; the usual one for anything else."""
    if not (asked.isascii() and asked.isdecimal() and len(asked) < 9):
        return usual
    return min(there, key=lambda number: abs(number - int(asked)))


def _probes(probes: Probes, seen: ThenAndNow) -> list[dict[str, Any]]:
    every = -(-probes.pixels.shape[1] // LARGEST_MAP)
    rows = zip(probes.labels.tolist(), probes.pixels, seen.answers_then, seen.answers_now, strict=True)
    return [
        {
            "label": probes.classes[label],
            "uri": uri(png(pixels[::every, ::every])),
            "then": {"label": then[0], "probability": then[1]},
            "now": {"label": now[0], "probability": now[1]},
        }
        for label, pixels, then, now in rows
    ]


def _filters(seen: ThenAndNow, image: int) -> list[dict[str, Any]]:
    rows = []
    for place, number in enumerate(seen.filters):
        row: dict[str, Any] = {"filter": number, "moved": seen.moved[place], "cosine": seen.cosine[place]}
        row |= {"then": uri(signed_png(seen.then[place, image])), "now": uri(signed_png(seen.now[place, image]))}
        kernels = (None, None) if seen.kernels is None else [uri(png(k)) for k in seen.kernels[:, place]]
        rows.append({**row, "kernel_then": kernels[0], "kernel_now": kernels[1]})
    return rows
