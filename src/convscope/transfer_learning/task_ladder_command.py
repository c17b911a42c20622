"""A transfer to any task: heads on recorded features, fine-tuning as far as the budget reaches, and the one test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..classifying.classifier import FILE_NAME, Classifier
from ..datasets.asked import find_asked
from ..datasets.dataset import Dataset, Listing, Undecoded, decoded, listing
from ..datasets.options import DatasetOptions
from ..datasets.unsplit import Unsplit
from ..errors import DataError, DivergedError, UsageError
from ..evaluation.opening import PRETRAINED, log_look
from ..evaluation.task_scoring import TaskEvaluated, evaluate_task
from ..feature_store.engines import FeatureRequest
from ..feature_store.extraction import Extraction
from ..feature_store.recording import record_listed
from ..feature_store.store import FeatureOptions
from ..machine import describe, pick_device
from ..models.architecture import load_weights
from ..models.heads import head_place
from ..models.pixel_network import MapNetwork, backbone_maps, load_backbone, map_shapes
from ..progress import Laps
from ..storage import discard
from ..tasks.paired import PairedFigure, paired_scores
from ..tasks.registry import TASKS
from ..tasks.task import Task
from ..training.request import data_name
from ..training.runs import Run, data_description, point_last, runs_folder
from ..training.seen import save_seen
from . import task_report
from .begun import FOLDER, asked_for, claimed, recipe_of
from .costly_rungs import EPOCHS, LEAST_EPOCHS
from .fine_tuning import REACHES
from .ladder_command import DECIDES, MINUTE
from .options import TransferOptions
from .recorded_targets import Recorded, TaskRung, better_head, climb, head_of, kept_rung, record_targets
from .task_curve import measure_task_curve
from .task_filters import deciding_filters
from .task_report import TaskReport
from .task_tuning import Tuned, Tuning

ONLY_CLASSES = ("balance", "cards", "continue_from", "augment", "fcnn")  # options that other tasks do not take


def asked_images(data: str | Path, options: TransferOptions) -> Unsplit | None:
    """The images with their targets where what is asked of them is not one class each; else None."""
    reading = DatasetOptions(
        data_root=options.data_root, bad_images=options.bad_images, progress=options.progress, **options.reading()
    )
    return find_asked(data_name(str(data)), reading, options.task, options.masks)


def check_options(options: TransferOptions, task: str) -> None:
    """UsageError for an option that is for classes only."""
    usual = TransferOptions()
    for name in ONLY_CLASSES:
        if getattr(options, name) != getattr(usual, name):
            raise UsageError(f"--{name.replace('_', '-')} is for the task classification, not {task}.")
    if options.quick and options.budget is not None:
        raise UsageError("--quick leaves out what --budget asks for: leave out one of them.")


def fitted_backbone(classifier: Classifier, options: TransferOptions, task: Task) -> Classifier:
    """The backbone, taking whole images: padded to a square unless another fit is asked for, larger for pixels.

    What is counted, or told of each pixel, may lie where a crop in the middle does not look.
    """
    fit = options.fit if options.fit in ("squash", "crop") else "pad"
    size = options.image_size or (task.size or classifier.preprocess.size)
    if task.strides and fit == "crop":
        raise UsageError("--fit crop leaves pixels without an answer: choose pad or squash.")
    if task.strides and size % 32:
        raise UsageError(f"--image-size {size}: for the task {task.name} it must be a multiple of 32.")
    preprocess = replace(classifier.preprocess, size=size, fit=fit, centre=1.0)
    return replace(classifier, preprocess=preprocess, architecture=replace(classifier.architecture, image_size=size))


def transferring_to(
    asked: Unsplit, data: str, options: TransferOptions, backbone: Classifier, laps: Laps
) -> Iterator[TaskRung | TaskReport]:
    """Climb the ladder of a task: yields each way as it was measured, and last the report."""
    assert asked.targets is not None
    task = TASKS[asked.targets.task]
    check_options(options, task.name)
    backbone = fitted_backbone(backbone, options, task)
    corrections = options.reading()["corrections"]
    listed = listing(asked, options.limit, options.progress, None if corrections is None else Path(corrections))
    stored = FeatureOptions(
        FeatureRequest(strides=task.strides),
        "float16" if task.strides else "float32",
        options.engine,
        copies=int(bool(task.strides) and asked.mirror),
        mirrored=bool(task.strides) and asked.mirror,
    )
    _checked(task, listed.dataset(Undecoded(listed, backbone.preprocess), backbone.preprocess))  # before it takes long
    laps.lap("backbone and reading")
    listed, found, notes = record_listed(listed, options, backbone, stored)
    dataset = listed.dataset(Undecoded(listed, backbone.preprocess), backbone.preprocess)
    notes = [*dataset.notes, *(note for note in notes if note not in dataset.notes), *_checked(task, dataset)]
    laps.lap("engine", {"features": found.seconds})
    yield from TaskTransfer(task, data, options, backbone, listed, dataset, found, notes, laps).events()


def _checked(task: Task, dataset: Dataset) -> list[str]:
    """Notes about targets. DataError where they cannot be learned from."""
    train, val = dataset.parts["train"], dataset.parts["val"]
    if len(train) < 2 or not len(val):
        raise DataError(
            f"{dataset.name} has {len(dataset)} images with targets: {len(train)} to train on and {len(val)} to "
            "validate with; at least two and one are needed, better fifty."
        )
    assert dataset.targets is not None
    return task.check(dataset.targets.take(train), dataset.targets.take(val))


@dataclass
class TaskTransfer:
    """One transfer to a task: what was asked, what is recorded, and where it is written."""

    task: Task
    data: str
    options: TransferOptions
    backbone: Classifier
    listed: Listing
    dataset: Dataset
    found: Extraction
    notes: list[str]
    laps: Laps
    classifiers: dict[str, Classifier] = field(default_factory=dict)

    def events(self) -> Iterator[TaskRung | TaskReport]:
        """Climb, choose, save, open the test images once, write."""
        stem = f"{self.dataset.name}-{self.options.backbone.removeprefix(PRETRAINED)}"
        with claimed(runs_folder(self.options.runs), self.options.name, stem, self._description()) as (run, told):
            save_seen(run.folder, self.dataset)
            rungs: list[TaskRung] = []
            for rung in self._rungs(run):
                rungs.append(rung)
                self.laps.lap(rung.name)
                yield rung
            head = better_head(self.task, [rung for rung in rungs if rung.name not in REACHES])
            best = kept_rung(head, [rung for rung in rungs if rung.name in REACHES])
            classifier = self.classifiers.get(best.name) or self._with_head(best)
            classifier = replace(classifier, provenance=self._provenance(run, best))
            classifier.save(run.folder / FILE_NAME)
            point_last(run)
            self.laps.lap("saving")
            deciding = deciding_filters(self.recorded, rungs, best, classifier, self.options.progress)
            self.laps.lap("filters")
            curve = None
            if self.task.has_curve and not self.options.quick:
                curve = measure_task_curve(self.recorded, head, self.options.seed, self.options.progress)
                self.laps.lap("learning curve")
            test = self._open_test(run, classifier)
            self.laps.lap("test images")
            made = TaskReport(
                run=run, task=self.task, rungs=tuple(rungs), best=best, paired=_paired(rungs, head), test=test,
                classifier=classifier, extraction=self.found, dataset=self.dataset, lasting=tuple(self.notes),
                passing=tuple(told), seconds=sum(self.laps.seconds.values()), deciding=deciding, curve=curve,
            )  # fmt: skip
            task_report.write(made)
            self.laps.lap("report")
            spent = dict(self.laps.seconds)
            finished = task_report.finish(replace(made, seconds=sum(spent.values()), spent=spent))
            for reach in REACHES:  # after the last file of all: until then a kill may have to go on from them
                discard(_stopped_at(run, reach))
            yield finished

    @cached_property
    def recorded(self) -> Recorded:
        """The recorded features with their targets."""
        return record_targets(self.task, self.dataset, self.found.features, self._shapes(), self.options.progress)

    def _rungs(self, run: Run) -> Iterator[TaskRung]:
        recorded = self.recorded
        kinds = self.task.heads[:1] if self.options.quick else self.task.heads
        rungs = []
        for kind in kinds:
            if self.options.progress:
                self.options.progress(f"{kind.name} head", 0, 1)
            rung = climb(kind, recorded, self.options.seed, self.options.progress)
            rungs.append(rung)
            yield rung
        if self.options.budget is None:
            return
        yield from self._costly(run, recorded, self._with_head(better_head(self.task, rungs)))

    def _costly(self, run: Run, recorded: Recorded, start: Classifier) -> Iterator[TaskRung]:
        """The last stage, then all, as far as the budget reaches. What was stopped goes on where it was."""
        left = MINUTE * (self.options.budget or 0)
        dataset = decoded(self.listed, self.backbone.preprocess, False)
        for reach in REACHES:
            begun = time.perf_counter()
            try:
                tuning = Tuning(start, recorded, dataset, reach, self.options.seed, _stopped_at(run, reach))
                found = self._tuned(tuning, left)
            except DivergedError as error:
                self.notes.append(f"{reach} is left out: {error}.")
                left -= time.perf_counter() - begun
                continue
            if found is not None:
                left -= found.rung.seconds
                start = found.classifier
                self.classifiers[reach] = found.classifier
                yield found.rung

    def _tuned(self, tuning: Tuning, left: float) -> Tuned | None:
        """What a tuning made in the seconds that are left; None, with a note, where too few epochs fit in them."""
        epochs = tuning.epochs_begun()
        if epochs is None:
            an_epoch = tuning.seconds_an_epoch()
            epochs = min(EPOCHS[tuning.reach], int(left / an_epoch))
            if epochs < LEAST_EPOCHS:
                self.notes.append(
                    f"{tuning.reach} is left out: an epoch takes about {an_epoch:.3g} s here, and {left:.3g} s are "
                    "left."
                )
                return None
        return tuning.tuned(epochs, self.options.progress)

    def _shapes(self) -> list[tuple[int, ...]]:
        if not self.task.strides:
            return [tuple(self.found.features.shape)]
        return [
            *map_shapes(
                backbone_maps(self.backbone.architecture.name, self.task.strides), self.backbone.preprocess.size
            )
        ]

    def _with_head(self, rung: TaskRung) -> Classifier:
        assert self.dataset.targets is not None
        return classifier_with(self.backbone, rung, self.task, self.dataset.targets.names)

    def _open_test(self, run: Run, classifier: Classifier) -> TaskEvaluated | None:
        """The test images, once; None where there are none."""
        index = self.dataset.parts["test"]
        if not len(index):
            self.notes.append("there are no test images, so the figure is that of the validation images.")
            return None
        log_look(run, "test", len(index), FOLDER)
        try:
            return evaluate_task(classifier, self.dataset, "test", None, self.options.progress)
        except DataError as error:
            self.notes.append(f"the test images say nothing: {error}")
            return None

    def _description(self) -> dict[str, Any]:
        asked = {**asked_for(self.options, self.backbone), "task": self.task.name, "masks": _text(self.options.masks)}
        recipe = recipe_of(self.data, self.options, self.backbone, self.listed.unsplit.sides)
        return {
            "recipe": recipe.to_dict(),
            "data": data_description(self.dataset),
            "machine": describe(pick_device(self.options.device)),
            "source": None,
            FOLDER: asked,
        }

    def _provenance(self, run: Run, best: TaskRung) -> dict[str, Any]:
        recipe = recipe_of(self.data, self.options, self.backbone, self.listed.unsplit.sides).to_dict()
        return {
            "run": run.name,
            "val_n": best.score.figure.n,
            "recipe": {part: values for part, values in recipe.items() if part in DECIDES},
            "data": data_description(self.dataset),
            "machine": describe(pick_device(self.options.device)),
            "transfer": {
                "backbone": self.options.backbone,
                "weights_sha256": self.backbone.provenance["weights_sha256"],
                "rung": best.name,
                "chosen": best.chosen,
                "measured_by": best.measured_by,
                "task": self.task.name,
                "masks": _text(self.options.masks),
            },
            "licence": self.backbone.provenance["licence"],
        }


def classifier_with(backbone: Classifier, rung: TaskRung, task: Task, names: tuple[str, ...]) -> Classifier:
    """The backbone with a head on recorded features in place of its own: an ordinary classifier of this task."""
    architecture = replace(backbone.architecture, options=rung.options)
    network = architecture.build(len(names))
    head = head_of(rung.module).state_dict()
    if isinstance(network, MapNetwork):
        load_backbone(network.body, backbone.network.state_dict())
        network.head.load_state_dict(head)
    else:
        place, _ = head_place(backbone.network)
        body = backbone.network.state_dict().items()
        tensors = {n: t for n, t in body if not n.startswith(f"{place}.")}
        load_weights(network, tensors | {f"{place}.{n}": t for n, t in head.items()}, Path(rung.name))
    return Classifier(network.eval(), names, backbone.preprocess, architecture, {}, task.name, rung.settings)


def _stopped_at(run: Run, reach: str) -> Path:
    """Where a fine-tuning keeps what it goes on from."""
    return run.folder / FOLDER / f"{reach.replace(' ', '-')}.safetensors"


def _paired(rungs: list[TaskRung], head: TaskRung) -> dict[str, PairedFigure]:
    """Each other rung against the better head, image by image."""
    return {r.name: paired_scores(r.score, head.score) for r in rungs if r is not head}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
