"""The epochs of a run whose network is kept: each a classifier file, to look at, to ask, and to go on from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..classifying.classifier import FILE_NAME, Classifier
from ..errors import UsageError
from ..storage import make_folder
from ..tensor_files import read_header
from .runs import Run

FOLDER = "epochs"  # in a run
STEM = "epoch-"


def kept_every(epochs: int | None) -> int:
    """After how many epochs one is kept; 0 for never. UsageError for less than one."""
    if epochs is not None and epochs < 1:
        raise UsageError(f"--keep-epochs {epochs} is no number of epochs: 1 keeps every one, 5 every fifth.")
    return epochs or 0


def keep_epoch(run: Run, classifier: Classifier) -> Path:
    """Write the network as it is after the epoch that its provenance names (0: as it began). Raises StorageError."""
    path = make_folder(run.folder / FOLDER) / f"{STEM}{classifier.provenance['epoch']:04d}.safetensors"
    classifier.save(path)
    return path


def kept_epochs(run: Run) -> dict[int, Path]:
    """The files of the kept epochs by their number, in order; that of the best epoch is one of them. DamagedFile."""
    found: dict[int, Path] = {}
    if (run.folder / FILE_NAME).exists():
        with suppress(KeyError, TypeError):
            found[int(read_header(run.folder / FILE_NAME).meta["provenance"]["epoch"])] = run.folder / FILE_NAME
    for path in (run.folder / FOLDER).glob(f"{STEM}*.safetensors"):
        number = path.stem.removeprefix(STEM)
        if number.isascii() and number.isdecimal() and len(number) < 9:
            found[int(number)] = path
    return dict(sorted(found.items()))


def classifier_at(run: Run, epoch: int, model: str | None = None) -> Classifier:
    """The classifier as it was after an epoch. UsageError for one that is not kept, DamagedFile."""
    kept = kept_epochs(run)
    if epoch not in kept:
        raise UsageError(
            f"run {run.name!r} keeps no network of epoch {epoch}: there are {', '.join(map(str, kept)) or 'none'}. "
            "A training keeps more with --keep-epochs."
        )
    return Classifier.load(kept[epoch], model)
