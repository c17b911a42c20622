"""Fine-tuning towards targets: the backbone moves too, by the one loop, on images and mirrored images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..classifying.classifier import Classifier
from ..classifying.prediction import each_pass
from ..datasets.dataset import Dataset
from ..errors import DamagedFile
from ..images.preprocess import to_tensor
from ..models.architecture import load_weights
from ..progress import Progress
from ..randomness import distinct, order, uniforms
from ..recipes import Recipe
from ..tasks.task import Score
from ..tensor_files import commit_tensors, read_tensors
from ..training.batches import Batch
from ..training.loop import Step, TrainState, make_optimizer, train
from ..training.runs import restore_state, state_tensors
from .costly_rungs import RATES
from .fine_tuning import tune
from .recorded_targets import Recorded, TaskRung, target_scale

BATCH = 8


@dataclass(frozen=True)
class ImageBatches:
    """Batches of images with their targets, each mirrored or not as seed, epoch and image say."""

    dataset: Dataset
    recorded: Recorded
    rows: np.ndarray
    seed: int

    def __len__(self) -> int:
        return max(1, len(self.rows) // BATCH)

    @property
    def classes(self) -> int:
        """Number of classes."""
        assert self.dataset.targets is not None
        return len(self.dataset.targets.names)

    @cached_property
    def class_weights(self) -> Tensor:
        """Of every class the same."""
        return torch.ones(self.classes)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on."""
        keys = distinct(self.dataset.keys[self.rows])
        shuffled = order(self.seed, epoch, keys)
        copies = (uniforms(self.seed, epoch, keys, 1)[:, 0] < 0.5) & self.dataset.mirror
        for chosen in np.array_split(shuffled, len(self))[start:]:
            rows, mirrored = self.rows[chosen], copies[chosen]
            images = self.dataset.images[rows]
            images[mirrored] = images[mirrored, :, ::-1]
            inputs = self.dataset.preprocess.normalise(to_tensor(images))
            yield Batch(inputs, self.recorded.targets(rows + len(self.dataset) * mirrored), rows)


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned network, measured: an ordinary rung, and its classifier."""

    rung: TaskRung
    classifier: Classifier


@dataclass
class Best:
    """The best epoch so far, by its weights; what these are worth on the validation images is measured."""

    epoch: int
    weights: dict[str, Tensor]
    score: Score
    settings: dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """A fine-tuning of a task's network: where it begins, on what, how far, and the file that it goes on from."""

    start: Classifier
    recorded: Recorded
    dataset: Dataset
    reach: str
    seed: int
    path: Path

    def epochs_begun(self) -> int | None:
        """The epochs that were settled when it was begun; None where it was not, or the file is damaged."""
        try:
            return int(read_tensors(self.path)[1]["epochs"])
        except (DamagedFile, KeyError, TypeError, ValueError):
            return None

    def seconds_an_epoch(self) -> float:
        """Measured on two steps of a copy, the second of which counts."""
        begun = time.perf_counter()
        for step in self._steps(self._state(1), 1):
            if step.step == min(2, step.steps):
                return (time.perf_counter() - begun) * step.steps
            begun = time.perf_counter()
        raise AssertionError("a training without a step")

    def tuned(self, epochs: int, progress: Progress | None = None) -> Tuned:
        """Go on from the file or begin, and keep the epoch that is best on the validation images."""
        begun = time.perf_counter()
        state = self._state(epochs)
        best, spent = self._went_on(state)
        if best is None:
            self._keep(state, epochs, None, 0.0)
        for step in self._steps(state, epochs):
            if progress:
                progress(self.reach, (step.epoch - 1) * step.steps + step.step, epochs * step.steps)
            if step.summary is None:
                continue
            score, settings = measured(replace(self.start, network=state.network), self.recorded, self.dataset)
            if best is None or self.recorded.task.is_better(score.figure.value, best.score.figure.value):
                best = Best(step.epoch, deepcopy(state.network.state_dict()), score, settings)
            self._keep(state, epochs, best, spent + time.perf_counter() - begun)
        assert best is not None
        return self._told(state, best, epochs, spent + time.perf_counter() - begun)

    def _told(self, state: TrainState, best: Best, epochs: int, seconds: float) -> Tuned:
        network = state.network
        network.load_state_dict(best.weights)
        count = sum(p.numel() for p in network.parameters() if p.requires_grad)
        classifier = replace(self.start, network=network.eval().requires_grad_(True), settings=best.settings)
        rung = TaskRung(
            self.reach, best.score, seconds, count, network, dict(self.start.architecture.options), best.settings,
            f"epoch {best.epoch} of {epochs}",
        )  # fmt: skip
        return Tuned(rung, classifier)

    def _keep(self, state: TrainState, epochs: int, best: Best | None, seconds: float) -> None:
        """Write what it needs to go on; ``epochs`` too, which the speed of the moment has settled."""
        tensors, counters = state_tensors(state)
        weights = {} if best is None else best.weights
        tensors |= {f"best/{name}": tensor for name, tensor in weights.items()}
        meta = {"state": counters, "epochs": epochs, "best": 0 if best is None else best.epoch, "seconds": seconds}
        commit_tensors(self.path, tensors, meta)

    def _went_on(self, state: TrainState) -> tuple[Best | None, float]:
        """Put what the file holds into ``state``: the best epoch by then, and the seconds spent. None of a new one."""
        try:
            tensors, meta = read_tensors(self.path)
            if not meta["best"]:
                return None, 0.0
            restore_state(state, tensors, meta["state"], self.path)
        except (DamagedFile, KeyError):
            return None, 0.0
        weights = {name.removeprefix("best/"): t for name, t in tensors.items() if name.startswith("best/")}
        network = deepcopy(state.network)
        load_weights(network, weights, self.path)
        score, settings = measured(replace(self.start, network=network), self.recorded, self.dataset)
        return Best(meta["best"], deepcopy(network.state_dict()), score, settings), meta["seconds"]

    def _state(self, epochs: int) -> TrainState:
        network = deepcopy(self.start.network)
        reached = tune(network, self.reach)
        recipe = tuning_recipe(self.reach, epochs, self.seed)
        return TrainState(network, make_optimizer(network, recipe.optimizer, reached.scales), frozen=reached.frozen)

    def _steps(self, state: TrainState, epochs: int) -> Iterator[Step]:
        """The updates that are left; numbers are learned over their deviation, as heads do."""
        rows = self.dataset.parts["train"]
        task, (_, deviation) = self.recorded.task, target_scale(self.recorded, rows)

        def objective(outputs: Tensor, batch: Batch) -> Tensor:
            if task.scaled:
                return task.loss(outputs / deviation, batch.labels / deviation)
            return task.loss(outputs, batch.labels)

        batches = ImageBatches(self.dataset, self.recorded, rows, self.seed)
        yield from train(state, batches, tuning_recipe(self.reach, epochs, self.seed), objective=objective)


def tuning_recipe(reach: str, epochs: int, seed: int) -> Recipe:
    """AdamW, one cycle, as the classifiers' fine-tuning."""
    options = {"optimizer": "adamw", "lr": RATES[reach], "weight_decay": 0.05, "batch_size": BATCH, "warmup": 0.2}
    return Recipe().with_options({**options, "epochs": epochs, "seed": seed, "precision": "float32"})


def measured(classifier: Classifier, recorded: Recorded, dataset: Dataset) -> tuple[Score, dict[str, Any]]:
    """What a network is worth on the validation images, at the size that it sees, with the settings found there."""
    task, found = recorded.task, []

    def act(here: np.ndarray, inputs: Tensor) -> None:
        found.append(task.tally(classifier.network(inputs).float(), recorded.targets(here)))

    index = dataset.parts["val"]
    each_pass(classifier.network, dataset.images, classifier.preprocess, index, act)
    tallies = np.concatenate(found)
    settings = {**classifier.settings, **task.settings(tallies)}
    groups = None if dataset.groups is None else dataset.groups[index]
    return task.score(tallies, classifier.class_names, settings, groups), settings
