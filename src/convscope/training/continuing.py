"""Go on from a run with more images: what is new, on which side of the split each image stays, and whether it helped.

Images are known again by what they hold. Those that the run has seen stay where they were, so that its test images
were never trained on by the old network or the new one, and both are asked about the same images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classifying.classifier import Classifier
from ..classifying.intervals import Difference, difference_of
from ..datasets.dataset import Dataset
from ..datasets.named_before import check_named, remember
from ..datasets.splits import PARTS, hexadecimal
from ..errors import DataError, UsageError
from ..models.architecture import Architecture
from ..models.heads import head_place
from .kept_epochs import classifier_at
from .runs import Run, find_run
from .seen import TEST, RunImages, read_run_images

CONTINUED = "continued.json"  # in a run: how it compares with the one that it goes on from
PLACE = "continued"  # of the look at the test images
TOLD = 4  # classes that are named
SAID = {"train": "to train on", "val": "to validate with", "test": "to test with"}


@dataclass(frozen=True)
class Before:
    """The run that another goes on from: its classifier, and the images it knows."""

    run: Run
    classifier: Classifier
    images: RunImages
    epoch: int | None = None  # after which it goes on; None: the best

    def grown(self, architecture: Architecture, names: tuple[str, ...], seed: int) -> torch.nn.Module:
        """The network with its weights, and an output for each of these classes: new ones begin at random.

        UsageError where the classes are others and the network does not end in a linear layer with an output a class.
        """
        network, old = architecture.build(len(names), seed=seed), self.classifier.network.state_dict()
        place = "" if names == self.classifier.class_names else f"{head_place(network)[0]}."
        rows = {name: row for row, name in enumerate(self.classifier.class_names)}
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if not place or not name.startswith(place):
                    tensor.copy_(old[name])
                    continue
                if len(tensor) != len(names):
                    raise UsageError(f"{architecture.name} does not end in one output a class, so it cannot grow.")
                for row, label in enumerate(names):
                    if label in rows:
                        tensor[row] = old[name][rows[label]]
        return network

    def record(self) -> dict[str, Any]:
        """What a run that goes on remembers of this one."""
        remember(self.run.folder.resolve())
        return {
            "run": str(self.run.folder.resolve()),
            "preprocess": self.classifier.preprocess.to_dict(),
            "epoch": self.epoch,
        }

    def test_images(self, dataset: Dataset) -> np.ndarray:
        """The indices of the run's test images that are there, of the classes that it knows."""
        index = dataset.parts["test"]
        mine = np.isin(dataset.keys[index], self.images.keys[self.images.part == TEST])
        return index[mine & np.isin(np.array(dataset.class_names)[dataset.labels[index]], self.classifier.class_names)]


def open_before(run: str, runs: Path, model: str | None, epoch: int | None = None) -> Before:
    """The run to go on from, as it was after the ``epoch``, if one is named, or else at its best.

    UsageError or DataError for a run whose images are not known, or an epoch that is not kept.
    """
    found = find_run(run, runs)
    if found.is_adopted():
        raise UsageError(f"the network of run {found.name!r} was trained elsewhere, on images that are not known here.")
    known = read_run_images(found.folder)
    if known is None or known.labels is None:
        raise DataError(
            f"run {found.name!r} keeps no record of its images and their labels: train it again, without "
            "--continue-from, and go on from that."
        )
    classifier = found.classifier(model) if epoch is None else classifier_at(found, epoch, model)
    return Before(found, classifier, known, epoch)


def open_recorded(continued: Mapping[str, Any], record: str, model: str | None) -> Before:
    """The run that the one called ``record`` goes on from, as that says; UsageError where no user has named it here."""
    folder = Path(continued["run"])
    check_named({"--continue-from": folder}, record)
    return open_before(str(folder), folder.parent, model, continued.get("epoch"))


# ----------------------------------------------------------------------------------------------------- what is new


@dataclass(frozen=True)
class Growth:
    """How data differ from those of a run: images by content, in numbers; classes by name.

    ``new`` is by part, ``new_by_class`` by class, the most first.
    """

    run: str
    new: dict[str, int]
    new_by_class: dict[str, int]
    gone: int
    relabelled: int
    new_classes: tuple[str, ...]
    gone_classes: tuple[str, ...]

    def sentence(self) -> str:
        """All of it in words."""
        count = sum(self.new.values())
        parts = ", ".join(f"{n:,} {SAID[part]}" for part, n in self.new.items() if n)
        classes = _some([f"{n:,} of {name!r}" for name, n in self.new_by_class.items()])
        said = [f"{count:,} new images{f' ({parts}; {classes})' if parts else ''}", f"{self.gone:,} gone"]
        said.append(f"{self.relabelled:,} relabelled")
        said += _named("new", self.new_classes) + _named("gone", self.gone_classes)
        return f"since run {self.run!r}: {', '.join(said)}; the others stay in their parts, test images too."


def _named(what: str, names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    return [f"{what} {'class' if len(names) == 1 else 'classes'} {_some([repr(name) for name in names])}"]


def _some(words: list[str]) -> str:
    return ", ".join(words[:TOLD]) + (", ..." if len(words) > TOLD else "")


def growth(before: Before, dataset: Dataset) -> Growth:
    """What is new in a dataset since a run."""
    known, classes = before.images, before.classifier.class_names
    assert known.labels is not None
    strange = ~np.isin(dataset.keys, known.keys)
    had = set(zip(known.keys.tolist(), (classes[label] for label in known.labels), strict=True))
    used = np.concatenate(list(dataset.parts.values()))
    news = Counter(dataset.class_names[label] for label in dataset.labels[used[strange[used]]])
    used = used[~strange[used]]
    has = zip(dataset.keys[used].tolist(), (dataset.class_names[label] for label in dataset.labels[used]), strict=True)
    return Growth(
        before.run.name,
        {part: int(strange[index].sum()) for part, index in dataset.parts.items()},
        dict(news.most_common()),
        int((~np.isin(known.keys, dataset.keys)).sum()),
        sum(image not in had for image in has),
        tuple(name for name in dataset.class_names if name not in classes),
        tuple(name for name in classes if name not in dataset.class_names),
    )


def sides_of(known: RunImages, dataset: Dataset) -> dict[str, str]:
    """The parts of those images that are not where the run had them, or not with the rest of their group."""
    now = np.full(len(dataset), -1)
    for number, part in enumerate(PARTS):
        now[dataset.parts[part]] = number
    wanted = now.copy()
    mine = [np.isin(dataset.keys, known.keys[known.part == number]) for number in range(len(PARTS))]
    for number, own in enumerate(mine):  # a group that is in several parts counts as tested, or else as validated
        wanted[np.isin(dataset.together, dataset.together[own])] = number
    for number, own in enumerate(mine):
        wanted[own] = number
    moved = np.flatnonzero((now >= 0) & (wanted != now))
    keys = hexadecimal(dataset.keys[moved])
    return {key: PARTS[number] for key, number in zip(keys, wanted[moved].tolist(), strict=True)}


# --------------------------------------------------------------------------------------------------- whether it helped


@dataclass(frozen=True)
class Helped:
    """How the new network compares with that of ``run`` on the run's test images, tested in pairs (McNemar)."""

    run: str
    old_top1: float
    new_top1: float
    found: Difference
    only_new_knows: tuple[str, ...]

    def sentence(self) -> str:
        """Whether it helped."""
        classes = ", of the classes that both know" if self.only_new_knows else ""
        return f"on the test images of run {self.run!r}{classes}: {self.found.sentence()}"

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        figures = {name: getattr(self.found, name) for name in ("n", "difference", "low", "high", "p")}
        said = {"only_new_knows": list(self.only_new_knows), "sentence": self.sentence()}
        return {"run": self.run, "old_top1": self.old_top1, "new_top1": self.new_top1, **figures, **said}


def helped(before: Before, dataset: Dataset, old_right: np.ndarray, new_right: np.ndarray) -> Helped:
    """Compare the two on the test images of `Before.test_images`; DataError without any."""
    found = difference_of(("the new network", new_right), ("the old one", old_right))
    strange = tuple(name for name in dataset.class_names if name not in before.classifier.class_names)
    return Helped(before.run.name, float(old_right.mean()), float(new_right.mean()), found, strange)


def nobody_knows(before: Before) -> str:
    """Why the two cannot be compared."""
    return f"no test image of run {before.run.name!r} is there, so nobody knows whether it helped."


def right(logits_NK: torch.Tensor, names: Iterable[str], dataset: Dataset, index: np.ndarray) -> np.ndarray:
    """Bool (N,): which of the images at ``index`` are answered with the name of their class."""
    answers = np.array(list(names))[logits_NK.argmax(1).numpy()]
    return answers == np.array(dataset.class_names)[dataset.labels[index]]


def log_looks(before: Before, run: Run, n: int) -> None:
    """Note in both runs that their test images were looked at.

    Called until the answer is written: a look that was cut short is noted once. The new run's own note is the first.
    """
    asked = {"part": "test", "n": n, "place": PLACE}
    own = [row["at"] for row in run.openings() if asked.items() <= row.items()]
    if not own:
        run.log_opening(asked)
    asked["place"] = f"{PLACE} in {run.name}"
    noted = [row["at"] for row in before.run.openings() if asked.items() <= row.items()]
    if not own or max(noted, default="") < own[-1]:
        before.run.log_opening(asked)
