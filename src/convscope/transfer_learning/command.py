"""`convscope transfer`: from a folder of images to the classifier that its pretrained features make."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classifying import metrics
from ..classifying.classifier import FILE_NAME, Classifier
from ..classifying.prediction import logits
from ..datasets.dataset import Dataset, Undecoded
from ..datasets.registry import load_dataset
from ..errors import DataError, LockedError, UsageError
from ..evaluation.opening import PRETRAINED
from ..explanation.command import explain
from ..explanation.layers import find_layers
from ..feature_store.command import Asked, backbone_notes, feature_options
from ..feature_store.extraction import Extraction
from ..feature_store.store import FeatureOptions
from ..machine import describe, pick_device, pick_precision
from ..progress import Progress
from ..recipes import Recipe
from ..training.loop import Step
from ..training.request import data_name
from ..training.runs import Run, check_name, create_run, data_description, find_run, free_name, point_last, runs_folder
from . import report
from .costly_rungs import EPOCHS, LEAST_EPOCHS, Climb, scratch_climb, tuning_climb, with_head
from .head import train_head
from .ladder import CHEAP, COSTLY, Rung, Task, best_of, compare
from .learning_curve import LearningCurve, measure_curve
from .report import ClassFilters, TransferReport

FILTERS_A_CLASS = 5
MINUTE = 60.0


def transfer(
    data: str | Path,
    *,
    backbone: str = "lite0",
    weights: Path | None = None,
    budget: float | None = None,
    augment: int = 0,
    level: str = "standard",
    balance: bool = False,
    cards: bool = False,
    engine: str = "auto",
    image_size: int | None = None,
    fit: str | None = None,
    limit: int | None = None,
    bad_images: str = "error",
    seed: int = 0,
    device: str = "auto",
    name: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    progress: Progress | None = None,
    on_rung: Callable[[Rung], None] | None = None,
) -> TransferReport:
    """Make a classifier of a folder of images from a pretrained network: record features, climb the ladder, keep the
    best by validation, and open the test images once for it. Written into a run, which every command takes.

    ``budget``: minutes that fine-tuning and training from scratch may take beside the cheap rungs; None for none.
    ``cards`` writes the card of each class's most used filter, as ``explain`` does.
    """
    start = time.perf_counter()
    asked = Asked(str(data), backbone, weights, image_size, fit, limit, bad_images, device, data_root)
    if budget is not None and not 0 < budget < 1e6:
        raise UsageError(f"--budget {budget:g} is no time to spend: give minutes.")
    folder = runs_folder(runs)
    if name is not None and (folder / check_name(name) / FILE_NAME).exists():
        raise LockedError(f"run {name!r} exists already: choose another --name.")
    classifier = asked.classifier()
    options = feature_options(augment, level, seed, engine)
    listed, found, notes = asked.recorded(classifier, options, progress)
    dataset = listed.dataset(Undecoded(listed, classifier.preprocess), classifier.preprocess)
    _check(dataset)
    climb = _Transfer(asked, classifier, dataset, found, options, balance, seed, folder, name, budget, [])
    climb.notes += [*dataset.notes, *notes, *backbone_notes(asked, classifier, listed)]
    made = climb.run(progress, on_rung, start)
    if cards and made.filters and made.filters[0].layer:
        used = sorted({found.filters[0] for found in made.filters})
        layer = [made.filters[0].layer]
        explain(str(made.run.folder), layer=layer, filter=used, ablate=0, data_root=data_root, progress=progress)
    return made


def _check(dataset: Dataset) -> None:
    training = np.concatenate([dataset.parts["train"], dataset.parts["val"]])
    counts = np.bincount(dataset.labels[training], minlength=len(dataset.class_names))
    if (counts > 0).sum() < 2 or len(training) < 4:
        raise DataError(
            f"{dataset.name} has {len(training)} images of {(counts > 0).sum()} classes to train on; "
            "a classifier needs two classes and a few images of each."
        )


@dataclass
class _Transfer:
    """One transfer: what was asked, what is recorded, and where it is written."""

    asked: Asked
    backbone: Classifier
    dataset: Dataset
    found: Extraction
    options: FeatureOptions
    balance: bool
    seed: int
    folder: Path
    name: str | None
    budget: float | None
    notes: list[str]

    def run(self, progress: Progress | None, on_rung: Callable[[Rung], None] | None, start: float) -> TransferReport:
        """Climb, choose, save, open the test images, write."""
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
        for number, (kind, climb) in enumerate(CHEAP.items()):
            if progress:
                progress(kind, number, len(CHEAP))
            rungs.append(climb(task, index))
            if on_rung:
                on_rung(rungs[-1])
        run = self._create_run()
        classifiers: dict[str, Classifier] = {}
        if self.budget is not None:
            for rung, classifier in self._costly(run, rungs, progress):
                rungs.append(rung)
                classifiers[rung.name] = classifier
                if on_rung:
                    on_rung(rung)
        best = best_of(rungs)
        classifier = classifiers.get(best.name) or with_head(self.backbone, best, self.dataset.class_names, {})
        classifier = replace(classifier, provenance=self._provenance(run, best))
        classifier.save(run.folder / FILE_NAME)
        point_last(run)
        curve = self._curve(task, next(r for r in rungs if r.name == "head"))
        test = self._open_test(run, best, classifier)
        tests = {r.name: compare(r, self._head(rungs)) for r in rungs if r.name != "head"}
        made = TransferReport(
            run=run,
            rungs=tuple(rungs),
            best=best,
            tests=tests,
            curve=curve,
            test=test,
            extraction=self.found,
            filters=self._filters(self._head(rungs), task),
            dataset=self.dataset,
            features=self.found.features,
            notes=tuple(self.notes),
            seconds=time.perf_counter() - start,
        )
        return report.write(made)

    def _head(self, rungs: list[Rung]) -> Rung:
        return next(r for r in rungs if r.name == "head")

    def _task(self, index: np.ndarray) -> Task:
        """Features of training and validation images; copies stand behind, with the keys of their images."""
        count = len(self.dataset)
        rows = np.concatenate([index + copy * count for copy in range(1 + self.options.copies)])
        labels = np.tile(self.dataset.labels[index], 1 + self.options.copies)
        keys = np.tile(self.dataset.keys[index], 1 + self.options.copies)
        features = torch.from_numpy(self.found.features[rows].astype(np.float32, copy=False))
        classes = len(self.dataset.class_names)
        return Task(features, torch.from_numpy(labels), keys, classes, self.balance, self.seed, len(index))

    def _recipe(self) -> Recipe:
        size, fit = self.backbone.preprocess.size, self.backbone.preprocess.fit
        return Recipe().with_options(
            {
                "model": self.backbone.architecture.name,
                "data": data_name(self.asked.data),
                "image_size": size,
                "fit": fit,
                "limit": self.asked.limit,
                "bad_images": self.asked.bad_images,
                "augment": "none",
                "balance": self.balance,
                "seed": self.seed,
                "precision": "float32",
            }
        )

    def _create_run(self) -> Run:
        name = self.name or free_name(
            self.folder, f"{self.dataset.name}-{self.asked.backbone.removeprefix(PRETRAINED)}"
        )
        description = {
            "recipe": self._recipe().to_dict(),
            "data": data_description(self.dataset),
            "machine": describe(pick_device(self.asked.device)),
            "source": None,
            "transfer": {"backbone": self.asked.backbone, "augment": self.options.copies},
        }
        run = Run(self.folder / name)
        if (run.folder / "recipe.json").exists():  # stopped before it had a classifier: it goes on
            return find_run(name, self.folder)
        return create_run(self.folder, name, description)

    def _provenance(self, run: Run, best: Rung) -> dict[str, Any]:
        return {
            "run": run.name,
            "val_top1": best.top1.value,
            "val_n": best.top1.n,
            "recipe": self._recipe().to_dict(),
            "data": data_description(self.dataset),
            "machine": describe(pick_device(self.asked.device)),
            "transfer": {
                "backbone": self.asked.backbone,
                "weights_sha256": self.backbone.provenance["weights_sha256"],
                "rung": best.name,
                "chosen": best.chosen,
            },
            "licence": self.backbone.provenance["licence"],
        }

    def _costly(self, run: Run, rungs: list[Rung], progress: Progress | None) -> Iterator[tuple[Rung, Classifier]]:
        """The rungs that train on images, as far as the budget reaches: each with its classifier."""
        left = MINUTE * (self.budget or 0)
        start = with_head(self.backbone, self._head(rungs), self.dataset.class_names, {})
        for name in COSTLY:
            climb = self._climb(name, run, start)
            an_epoch = climb.seconds_an_epoch()
            epochs = min(EPOCHS[name], int(left / an_epoch))
            if epochs < LEAST_EPOCHS:
                self.notes.append(
                    f"{name} is left out: an epoch takes about {an_epoch:.3g} s here, and {left:.3g} s are left."
                )
                continue
            if climb.tuning:
                self.notes.append(f"{name}: {climb.tuning.sentence()}")
            begun = time.perf_counter()
            for event in climb.steps(epochs):
                if isinstance(event, Step) and progress:
                    progress(
                        f"{name}, epoch {event.epoch}",
                        (event.epoch - 1) * event.steps + event.step,
                        epochs * event.steps,
                    )
                elif isinstance(event, Rung):
                    start = climb.classifier() if name == "last stage" else start
                    yield event, climb.classifier()
            left -= time.perf_counter() - begun

    def _climb(self, name: str, run: Run, start: Classifier) -> Climb:
        place = (run.folder / "transfer", pick_device(self.asked.device), self._command(run))
        base = self._recipe().with_options({"precision": pick_precision("auto", place[1])})
        if name != "scratch":
            images = load_dataset(
                data_name(self.asked.data), preprocess=self.backbone.preprocess, data_root=self.asked.data_root,
                limit=self.asked.limit, bad_images=self.asked.bad_images,
            )  # fmt: skip
            return tuning_climb(name, start, images, base, place)
        small = load_dataset(
            data_name(self.asked.data), data_root=self.asked.data_root, limit=self.asked.limit,
            bad_images=self.asked.bad_images,
        )  # fmt: skip
        return scratch_climb(small, base, place)

    def _command(self, run: Run) -> str:
        """What to type to go on with a transfer that was stopped."""
        words = ["convscope", "transfer", self.asked.data, "--backbone", self.asked.backbone, "--name", run.name]
        words += ["--budget", f"{self.budget:g}"] if self.budget else []
        words += ["--weights", str(self.asked.weights)] if self.asked.weights else []
        return shlex.join(words)

    def _curve(self, task: Task, head: Rung) -> LearningCurve | None:
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
            return measure_curve(task.labels[plain].numpy(), task.keys[plain], guess, self.seed, folds)
        except UsageError as error:
            self.notes.append(str(error))
            return None

    def _open_test(self, run: Run, best: Rung, classifier: Classifier) -> metrics.Evaluation | None:
        """The test images, once, for the chosen rung; None where there are none."""
        index = self.dataset.parts["test"]
        if not len(index):
            self.notes.append("there are no test images, so the accuracy is that of validation.")
            return None
        run.log_opening({"part": "test", "n": len(index)})
        if best.module is not None:
            with torch.inference_mode():
                scores = best.module(torch.from_numpy(self.found.features[index].astype(np.float32, copy=False)))
        else:
            scores = logits(classifier.network, self.dataset.images, classifier.preprocess, index)
        return metrics.evaluate(scores, self.dataset.labels[index], self.dataset.class_names)

    def _filters(self, head: Rung, task: Task) -> tuple[ClassFilters, ...]:
        """For each class the filters that its images' lead rests on: weight times how much more they answer to it."""
        assert isinstance(head.module, torch.nn.Linear)
        layer = self._last_layer(head.module.in_features)
        features, labels = task.features[: task.scored], task.labels[: task.scored]
        mean = features.mean(0)
        weight = head.module.weight - head.module.weight.mean(0)
        found = []
        for k, name in enumerate(self.dataset.class_names):
            if not (labels == k).any():
                continue
            share = weight[k] * (features[labels == k].mean(0) - mean)
            best = torch.topk(share, min(FILTERS_A_CLASS, len(share)))
            found.append(ClassFilters(name, layer, tuple(best.indices.tolist()), tuple(best.values.tolist())))
        return tuple(found)

    def _last_layer(self, filters: int) -> str | None:
        """The name of the layer whose filters the features are the means of; None where there is none."""
        size = self.backbone.preprocess.size
        layers = find_layers(self.backbone.network, torch.zeros(1, 3, size, size))
        same = [layer.name for layer in layers if layer.filters == filters]
        return same[-1] if same else None
