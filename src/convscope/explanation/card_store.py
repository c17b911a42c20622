"""What is done of an explanation, kept in its folder, so that the next call of the same explanation goes on there."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from torch import Tensor

from ..errors import DamagedFile
from ..models.architecture import weights_hash
from ..storage import read_json
from ..tensor_files import commit_tensors, read_tensors
from .card_making import CardMaker, Streamed
from .layers import Layer

SAVE_EVERY = 10.0  # seconds between two savings of a pass
STREAM = "exemplars.safetensors"


class CardStore:
    """The files in ``folder`` that belong to one explanation, told apart from others by their ``key``."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._saved = time.monotonic()

    def holds(self, layer: Layer) -> bool:
        """Return whether the cards of a layer are there, whole."""
        try:
            stored = read_json(self.folder / f"{layer.file}.json")
        except DamagedFile:
            return False
        return stored.get("key") == self.key and stored.get("images") == stored.get("of")

    def stream(self) -> dict[str, Tensor] | None:
        """Read the state of a pass that was cut off, or ended; None to begin anew."""
        try:
            tensors, meta = read_tensors(self.folder / STREAM)
        except DamagedFile:
            return None
        return tensors if meta.get("key") == self.key else None

    def keep(self, event: Streamed) -> None:
        """Save the state of a pass every few seconds, and at its end."""
        if event.done == event.total or time.monotonic() - self._saved > SAVE_EVERY:
            commit_tensors(self.folder / STREAM, event.stream.state(), {"key": self.key})
            self._saved = time.monotonic()


def key_of(making: CardMaker) -> str:
    """Hash what the cards depend on: weights, data, and the options that choose what is on them."""
    material, options = making.material, making.options
    filters = tuple(options.filter) if options.filter else None
    asked = {"count": options.count, "least": options.least, "filters": filters, "ablate": options.ablate,
             "seeds": options.seeds, "limit": options.limit, "from_exemplar": options.from_exemplar,
             "seed": options.seed}  # fmt: skip
    layers = [layer.name for layer in making.layers]
    parts = [asked, layers, material.dataset.fingerprint, weights_hash(material.network)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
