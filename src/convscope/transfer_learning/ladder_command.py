"""Climb the ladder: the cheap ways, the costly ones as far as the budget reaches, the choice, and the one test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..classifying import metrics
from ..classifying.classifier import FILE_NAME, Classifier
from ..classifying.prediction import logits
from ..datasets.dataset import Dataset, Listing, decoded
from ..errors import DataError, DivergedError, UsageError
from ..evaluation.opening import PRETRAINED, log_look
from ..explanation.command import explain
from ..feature_store.extraction import Extraction
from ..images.preprocess import Preprocess
from ..machine import describe, pick_device, pick_precision
from ..progress import Laps
from ..recipes import Recipe
from ..training.continuing import Before, Helped, nobody_knows
from ..training.held_out import save_held_out
from ..training.loop import Step
from ..training.runs import Run, data_description, point_last, runs_folder
from ..training.seen import save_seen
from . import report
from .begun import FOLDER, asked_for, claimed, command_of, recipe_of
from .continuing import compare_with_before
from .costly_rungs import EPOCHS, LEAST_EPOCHS, RungTraining, scratch_rung, tuning_rung, with_head
from .head import train_head
from .ladder import CHEAP, COSTLY, FCNN, HeadTask, Rung, best_of, compare, linear_of
from .learning_curve import LearningCurve, measure_curve
from .options import TransferOptions
from .report import TransferReport
from .used_filters import ClassFilters, pooled_layer, used_filters

MINUTE = 60.0

DECIDES = ("model", "data", "source", "augment", "labels")  # what of a recipe a transfer uses: no optimizer, no epochs


def check_classes(dataset: Dataset) -> None:
    training = np.concatenate([dataset.parts["train"], dataset.parts["val"]])
    counts = np.bincount(dataset.labels[training], minlength=len(dataset.class_names))
    if (counts > 0).sum() < 2 or len(training) < 4:
        raise DataError(
            f"{dataset.name} has {len(training)} images of {(counts > 0).sum()} classes to train on; "
            "a classifier needs two classes and a few images of each."
        )


@dataclass
class Transfer:
    """One transfer: what was asked, what is recorded, and where it is written."""

    data: str
    options: TransferOptions
    backbone: Classifier
    listed: Listing
    dataset: Dataset
    found: Extraction
    notes: list[str]
    laps: Laps
    before: Before | None = None  # the earlier transfer that it goes on from

    def events(self) -> Iterator[Rung | TransferReport]:
        """Climb the ladder, choose, save, open the test images, write: yields each rung, and last the report."""
        stem = f"{self.dataset.name}-{self.options.backbone.removeprefix(PRETRAINED)}"
        with claimed(runs_folder(self.options.runs), self.options.name, stem, self._description()) as (run, told):
            save_seen(run.folder, self.dataset)
            yield from self._events(run, told)

    def _events(self, run: Run, told: list[str]) -> Iterator[Rung | TransferReport]:
        index = np.sort(np.concatenate([self.dataset.parts["train"], self.dataset.parts["val"]]))
        single = [
            n for n, c in zip(self.dataset.class_names, np.bincount(self.dataset.labels[index]), strict=False) if c == 1
        ]
        if single:
            self.notes.append(
                f"class {single[0]!r} has one image to train on: nothing can be said of how well it is known."
            )
        task = self._task(index)
        rungs: list[Rung] = []
        for rung in self._cheap(task, index):
            rungs.append(rung)
            yield rung
        classifiers: dict[str, Classifier] = {}
        if self.options.budget is not None:
            for rung, classifier in self._costly(run, self._start(task, index, self._head(rungs))):
                rungs.append(rung)
                classifiers[rung.name] = classifier
                self.laps.lap(rung.name)
                yield rung
        best = best_of(rungs)
        classifier = classifiers.get(best.name) or with_head(self.backbone, best, self.dataset.class_names, {})
        classifier = replace(classifier, provenance=self._provenance(run, best))
        save_held_out(run.folder, classifier, self.dataset.keys[best.index], best.held_out)
        classifier.save(run.folder / FILE_NAME)
        point_last(run)
        self.laps.lap("saving")
        curve = None if self.options.quick else self._curve(task, self._head(rungs))
        test, continued = self._open_test(run, best, classifier)
        self._tell("report")
        tests = {r.name: compare(r, self._head(rungs)) for r in rungs if r.name != "head"}
        made = TransferReport(
            run=run,
            rungs=tuple(rungs),
            best=best,
            tests=tests,
            curve=curve,
            test=test,
            continued=continued,
            extraction=self.found,
            filters=self._filters(self._head(rungs), task),
            dataset=self.dataset,
            features=self.found.features,
            lasting=tuple(self.notes),
            seconds=sum(self.laps.seconds.values()),
            passing=tuple(told),
            quick=self.options.quick,
        )
        yield self._written(made)

    def _cheap(self, task: HeadTask, index: np.ndarray) -> Iterator[Rung]:
        """The rungs that live on features, as they were asked for."""
        for kind, climb in CHEAP.items():
            if kind == FCNN and (self.options.quick or self.options.fcnn == "none"):
                continue
            self._tell(kind)
            rung = climb(task, index)
            self.laps.lap(kind)
            yield rung

    def _written(self, made: TransferReport) -> TransferReport:
        """The report, with its page, cards, and where the time went: the last file says that it is whole."""
        report.write(made)
        self.laps.lap("report")
        self._write_cards(made)
        self.laps.lap("cards")
        spent = dict(self.laps.seconds)
        return report.finish(replace(made, seconds=sum(spent.values()), spent=spent))

    def _tell(self, what: str) -> None:
        if self.options.progress:
            self.options.progress(what, 0, 1)

    def _write_cards(self, made: TransferReport) -> None:
        """Write the card of each class's most used filter, where that is wanted and there are filters."""
        if self.options.cards and made.leading_filters and made.filters[0].layer:
            used = sorted(made.leading_filters)
            where = {"data_root": self.options.data_root, "progress": self.options.progress}
            explain(str(made.run.folder), layer=[made.filters[0].layer], filter=used, ablate=0, **where)

    def _head(self, rungs: list[Rung]) -> Rung:
        return next(r for r in rungs if r.name == "head")

    def _task(self, index: np.ndarray) -> HeadTask:
        """Features of training and validation images; copies stand behind, with the keys of their images."""
        count = len(self.dataset)
        rows = np.concatenate([index + copy * count for copy in range(1 + self.options.augment)])
        labels = np.tile(self.dataset.labels[index], 1 + self.options.augment)
        keys = np.tile(self.dataset.together[index], 1 + self.options.augment)
        features = torch.from_numpy(self.found.features[rows].astype(np.float32, copy=False))
        classes = len(self.dataset.class_names)
        return HeadTask(
            features, torch.from_numpy(labels), keys, classes, self.options.balance, self.options.seed, len(index),
            self.options.fcnn == "full", self.options.progress,
        )  # fmt: skip

    def _recipe(self) -> Recipe:
        return recipe_of(self.data, self.options, self.backbone, self.listed.unsplit.sides)

    def _description(self) -> dict[str, Any]:
        return {
            "recipe": self._recipe().to_dict(),
            "data": data_description(self.dataset),
            "machine": describe(pick_device(self.options.device)),
            "source": None,
            FOLDER: asked_for(self.options, self.backbone),
        }

    def _provenance(self, run: Run, best: Rung) -> dict[str, Any]:
        return {
            "run": run.name,
            "val_top1": best.top1.value,
            "val_n": best.top1.n,
            "recipe": {part: values for part, values in self._recipe().to_dict().items() if part in DECIDES},
            "data": data_description(self.dataset),
            "machine": describe(pick_device(self.options.device)),
            "transfer": {
                "backbone": self.options.backbone,
                "weights_sha256": self.backbone.provenance["weights_sha256"],
                "rung": best.name,
                "chosen": best.chosen,
                "measured_by": best.measured_by,
            },
            "licence": self.backbone.provenance["licence"],
        }

    def _start(self, task: HeadTask, index: np.ndarray, head: Rung) -> Classifier:
        """What fine-tuning begins with: the head as it was chosen, of training images alone. Those of the validation
        images measure it, and choose its epoch."""
        assert head.strength is not None
        rows = np.flatnonzero(np.isin(np.tile(index, 1 + self.options.augment), self.dataset.parts["train"]))
        found = train_head(
            task.features[rows], task.labels[rows], task.classes, task.keys[rows], folds=0, balance=task.balance,
            strengths=[head.strength * len(task.labels) / len(rows)],
        )  # fmt: skip
        return with_head(self.backbone, replace(head, module=linear_of(found)), self.dataset.class_names, {})

    def _costly(self, run: Run, start: Classifier) -> Iterator[tuple[Rung, Classifier]]:
        """The rungs that train on images, as far as the budget reaches: each with its classifier."""
        left = MINUTE * (self.options.budget or 0)
        for name in COSTLY:
            climb = self._climb(name, run, start)
            epochs = climb.begun() or self._affordable(climb, left)
            if epochs is None:
                continue
            if climb.tuning:
                self.notes.append(f"{name}: {climb.tuning.sentence()}")
            begun = time.perf_counter()
            rung = self._climbed(climb, epochs)
            if rung is None:
                left -= time.perf_counter() - begun
                continue
            start = climb.classifier() if name == "last stage" else start
            left -= rung.seconds  # those of a climb that was stopped and went on are all in it
            yield rung, climb.classifier()

    def _climbed(self, climb: RungTraining, epochs: int) -> Rung | None:
        """The rung, trained and measured; None, with a note, where its training ran away."""
        try:
            for event in climb.steps(epochs):
                if isinstance(event, Rung):
                    return event
                if isinstance(event, Step) and self.options.progress:
                    done = (event.epoch - 1) * event.steps + event.step
                    self.options.progress(f"{climb.name}, epoch {event.epoch}", done, epochs * event.steps)
        except DivergedError as error:
            self.notes.append(f"{climb.name} is left out: {error}")
        return None

    def _affordable(self, climb: RungTraining, left: float) -> int | None:
        """The epochs of a climb that fit in the seconds that are left; None, with a note, where too few do."""
        self._tell(f"{climb.name}: timing an epoch")
        try:
            an_epoch = climb.seconds_an_epoch()
        except DivergedError as error:
            self.notes.append(f"{climb.name} is left out: {error}.")
            return None
        epochs = min(EPOCHS[climb.name], int(left / an_epoch))
        if epochs >= LEAST_EPOCHS:
            return epochs
        self.notes.append(
            f"{climb.name} is left out: an epoch takes about {an_epoch:.3g} s here, and {left:.3g} s are left."
        )
        return None

    def _climb(self, name: str, run: Run, start: Classifier) -> RungTraining:
        command = command_of(self.data, self.options, run.name)
        place = (run.folder / FOLDER, pick_device(self.options.device), command)
        base = self._recipe().with_options({"precision": pick_precision("auto", place[1])})
        if name != "scratch":
            return tuning_rung(name, start, decoded(self.listed, self.backbone.preprocess, False), base, place)
        small = decoded(
            self.listed, Preprocess(self.listed.unsplit.image_size, stretch=self.backbone.preprocess.stretch), True
        )
        return scratch_rung(small, base, place)

    def _curve(self, task: HeadTask, head: Rung) -> LearningCurve | None:
        """The learning curve of the head at the strength that was chosen; None where there are too few images."""
        assert task.scored is not None
        assert head.strength is not None
        total = head.strength * len(task.labels)

        def guess(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
            rows = torch.from_numpy(train)
            found = train_head(
                task.features[rows], task.labels[rows], task.classes, task.keys[train], strengths=[total / len(train)],
                folds=0, balance=task.balance,
            )  # fmt: skip
            return (task.features[held_out] @ found.weight.T + found.bias).argmax(1).numpy()

        plain = slice(0, task.scored)
        try:
            folds = (1 - 1 / (int(task.folds.max()) + 1), head.top1.value)
            labels, keys = task.labels[plain].numpy(), task.keys[plain]
            curve = measure_curve(labels, keys, guess, self.options.seed, folds, self.options.progress)
        except UsageError as error:
            self.notes.append(str(error))
            return None
        finally:
            self.laps.lap("learning curve")
        return curve

    def _open_test(
        self, run: Run, best: Rung, classifier: Classifier
    ) -> tuple[metrics.Evaluation | None, Helped | None]:
        """The test images, once, for the chosen rung, and beside an earlier transfer; None where there are none."""
        index = self.dataset.parts["test"]
        if not len(index):
            self.notes.append(f"there are no test images, so the accuracy is that of {best.measured_by}.")
            return None, None
        self._tell("test images")
        log_look(run, "test", len(index), FOLDER)
        if best.module is not None:
            with torch.inference_mode():
                scores = best.module(torch.from_numpy(self.found.features[index].astype(np.float32, copy=False)))
        else:
            scores = logits(classifier.network, self.dataset.images, classifier.preprocess, index)
        self.laps.lap("test images")
        measured = metrics.evaluate(scores, self.dataset.labels[index], self.dataset.class_names)
        return measured, self._compared(run, scores)

    def _compared(self, run: Run, scores: torch.Tensor) -> Helped | None:
        """How it compares with the transfer that it goes on from, on that one's test images; None without any."""
        if self.before is None:
            return None
        self._tell(f"comparing with run {self.before.run.name!r}")
        found = compare_with_before(self.before, run, self.dataset, self.listed, scores)
        if found is None:
            self.notes.append(nobody_knows(self.before))
        self.laps.lap("comparison")
        return found

    def _filters(self, head: Rung, task: HeadTask) -> tuple[ClassFilters, ...]:
        assert isinstance(head.module, torch.nn.Linear)
        layer = pooled_layer(self.backbone.network, self.backbone.preprocess.size, head.module.in_features)
        scored = slice(0, task.scored)
        return used_filters(head.module, task.features[scored], task.labels[scored], self.dataset.class_names, layer)
