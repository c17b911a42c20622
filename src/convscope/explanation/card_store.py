"""What is done of an explanation, kept in its folder, so that the next call of the same explanation goes on there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import DamagedFile
from ..models.architecture import weights_hash
from ..portable import shortened
from ..storage import commit_json, read_json
from ..tensor_files import commit_tensors, read_tensors
from .card_making import CardMaker, Streamed
from .layers import Layer
from .options import ExplainOptions

SAVE_EVERY = 10.0  # seconds between two savings of a pass
STREAM = "exemplars.safetensors"
LAST = "explain.json"  # written when all else is there
SOME = "filters"  # the folder in which those of some filters only have one each
VERSION = 2  # of what is written of a card: with another one it is written anew
OF_THE_CALL = ("made", "kept")  # in a summary: what one call did, of several perhaps


class CardStore:
    """The files in ``folder`` that belong to one explanation, told apart from others by their ``key``."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._saved = time.monotonic()

    def holds(self, layer: Layer) -> bool:
        """Return whether the cards of a layer are there, whole, with their page and their sheet."""
        stored = self._read(f"{layer.file}.json")
        if stored.get("key") != self.key or stored.get("images") != stored.get("of"):
            return False
        return all((self.folder / f"{layer.file}.{ending}").exists() for ending in ("html", "png"))

    def finished(self, files: Sequence[str]) -> bool:
        """Return whether this explanation was written to its end, and these files of it are still there."""
        return self._read(LAST).get("key") == self.key and all((self.folder / name).exists() for name in files)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary: the last file of an explanation, so that what has it is whole."""
        told = {name: value for name, value in summary.items() if name not in OF_THE_CALL}
        commit_json(self.folder / LAST, {**told, "key": self.key})

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return read_json(self.folder / name)
        except DamagedFile:
            return {}

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


def place_of(options: ExplainOptions) -> Path:
    """The folder of an explanation in that of a run's explanations: one of its own for some images, or some filters, so
    that a quick look leaves what took long as it is."""
    place = Path() if options.limit is None else Path(f"{options.limit}-images")
    if not options.filter:
        return place
    numbers = "-".join(str(k) for k in sorted(set(options.filter)))
    layers = dict.fromkeys(options.layer or ())
    return place / SOME / shortened(f"{'+'.join(layers)}-filter-{numbers}" if layers else numbers)


def key_of(making: CardMaker) -> str:
    """Hash what the cards depend on: weights, data, and the options that choose what is on them."""
    material, options = making.material, making.options
    filters = tuple(options.filter) if options.filter else None
    asked = {"count": options.count, "least": options.least, "filters": filters, "ablate": options.ablate,
             "seeds": options.seeds, "limit": options.limit, "from_exemplar": options.from_exemplar,
             "seed": options.seed}  # fmt: skip
    layers = [layer.name for layer in making.layers]
    parts = [VERSION, asked, layers, material.dataset.fingerprint, weights_hash(material.network)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
