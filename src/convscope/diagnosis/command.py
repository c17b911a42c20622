"""`convscope diagnose`: a run, a model's name or any network, and why it does or does not learn."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.classifier import Classifier
from ..datasets.dataset import Dataset
from ..datasets.emptiness import spans
from ..errors import DataError, UsageError
from ..evaluation.subject import Subject, check_answers_unheld, open_subject
from ..images.preprocess import to_tensor
from ..locks import lock
from ..models.followed import uncompiled
from ..options import with_data_and_options
from ..portable import folder_name, shortened
from ..storage import make_folder
from ..training.loop import prepare
from ..training.request import load_recorded_weights
from ..training.runs import runs_folder
from ..training.session import WATCHED, training_batches
from ..training.watched import Watched
from ..training.watching import Watch
from . import report
from .batch_norms import NormView, batch_norms, look_at_norm
from .chain import Factor, find_chain
from .curve_files import is_curve, read_curve
from .curves import Curve, from_losses
from .evidence import Observations, collect, collect_curve
from .gradients import gradients, ready
from .jacobian import jacobians
from .loop_evidence import curve_of
from .network_evidence import frozen_parameters, gradient_ends, norms_unset, not_numbers
from .observations import network_before
from .options import DiagnoseOptions
from .verdict import Verdict, judge

SAMPLE = 512  # training images that are looked at
HELD_OUT = 1000
BATCH = 64  # images whose gradient is followed


@with_data_and_options(DiagnoseOptions)
def diagnose(
    run: str | nn.Module | Classifier | dict | list | Sequence[float | None],
    data: str | Path | Dataset | None,
    options: DiagnoseOptions,
) -> report.DiagnoseReport:
    """Say in words why a network does or does not learn, with its gradients and Jacobians as evidence.

    ``run`` is a run, a classifier file, a model's name (whose weights are random, or come from the file ``weights``),
    any ``nn.Module``, or a curve alone: losses in order, a CSV, JSON lines or TensorBoard's events. ``data`` is what it
    was trained on, or what to look at it with. Of a run the first weights are made again from its seed, and ``train
    --watch`` has left what it saw; of a network of your own they can be given as ``start`` and ``watched`` (of
    ``watching``), or its ``losses``. Options are those of the command line.
    """
    began = time.perf_counter()
    if options.images < 1:
        raise UsageError(f"--images {options.images} leaves nothing to measure; it must be 1 or more.")
    if isinstance(run, nn.Module):
        run = uncompiled(run)
    elif not isinstance(run, Classifier) and (is_curve(run) or not isinstance(run, str)):
        return report.write(_of_curve(run, options, began))
    check_answers_unheld(run, data, options.runs, "diagnose", "the diagnosis")
    subject = open_subject(run, data, options, "diagnose", as_it_began=True)
    making = _Diagnosis(subject, options)
    make_folder(subject.folder)
    with lock(subject.folder, f"the diagnosis of {subject.name}"):
        return report.write(making.result(began))


def _of_curve(source: str | dict | Sequence[Any], options: DiagnoseOptions, began: float) -> report.DiagnoseReport:
    """A verdict on numbers alone."""
    course = read_curve(source)
    verdict = judge(collect_curve(course))
    name = shortened(Path(source).stem) if isinstance(source, (str, Path)) else "losses"
    folder = runs_folder(options.runs) / folder_name(name) / "diagnose"
    summary = {
        "name": name,
        "folder": str(folder),
        "data": None,
        **verdict.to_json(),
        "sentence": report.verdict_sentence(verdict, {}),
        "states": {},
        "watched": None,
        "norm": None,
        "notes": [*course.notes, "a curve alone: with the network and its images more is seen."],
        "seconds": time.perf_counter() - began,
    }
    make_folder(folder)
    return report.DiagnoseReport(folder, verdict, {}, summary, course=course)


@dataclass
class _Diagnosis:
    """A diagnosis in the making: the subject, and what there is of its training."""

    subject: Subject
    options: DiagnoseOptions
    start: nn.Module | None = field(default=None, init=False)
    watched: Watched | None = field(default=None, init=False)
    designed: frozenset[str] = frozenset()
    trained: bool | None = None  # None where nobody knows

    def __post_init__(self) -> None:
        dataset, labels = self.subject.dataset, self.subject.labels
        if labels is None and not self.subject.fresh:
            raise DataError(
                f"the classes of {dataset.name} are not those of {self.subject.name}, so there is no loss to follow: "
                "name the data it was trained on."
            )
        self.notes = list(self.subject.notes)
        self.labels = dataset.labels if labels is None else labels
        self.network = deepcopy(self.subject.classifier.network).cpu()  # the user's own stays where it is
        part = "train" if len(dataset.parts["train"]) else "all"
        index = dataset.subset(part, SAMPLE)
        self.images, self.targets = self._tensors(index)
        self.widths = spans(dataset.images, index, dataset.preprocess.fit == "pad").widths()
        self._find_training(self.options.start, _record(self.options.watched))

    def _tensors(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        images = to_tensor(np.ascontiguousarray(self.subject.dataset.images[index]))
        images = self.subject.classifier.preprocess.normalise(images)
        return images, torch.from_numpy(self.labels[index].astype(np.int64))

    def _find_training(self, start: object, watched: Watched | None) -> None:
        """Take what is given of the training, or find it in the run."""
        self.watched = watched
        if start is not None:
            self.start = network_before(start, self.subject.classifier.network)
            self.designed = frozen_parameters(self.start)
        seen = watched is not None and len(watched.losses) > 0
        if self.subject.own and start is None and not seen:  # unless its norms say that it is fresh, who knows?
            self.trained = False if norms_unset(self.network) == 1 else None
        else:
            self.trained = not self.subject.fresh
        if self.designed:
            self.notes.append(f"frozen from the start, and taken for meant so: {_some(sorted(self.designed))}.")
        run = self.subject.run
        if run is None:
            return
        path = run.folder / WATCHED
        if watched is None and path.exists():
            self.watched = Watched.load(path)
        if watched is None and not path.exists():
            self.notes.append("this training was not watched: with train --watch its updates are seen as well.")
        if start is None and not (run.folder / "transfer").exists():
            first = self._first_weights()
            self.designed = frozen_parameters(first)
            if self.subject.fresh:
                self.network = first
            else:
                self.start = first

    def _first_weights(self) -> nn.Module:
        """The run's network as its training began: from the seed, or from the file it started from."""
        assert self.subject.run is not None
        recipe, classifier = self.subject.run.recipe(), self.subject.classifier
        network = classifier.architecture.build(len(classifier.class_names), seed=recipe.loop.seed)
        if recipe.model.weights is not None:
            load_recorded_weights(network, recipe, f"the recipe of {self.subject.name}")
        else:
            prepare(network, training_batches(self.subject.dataset, recipe, torch.device("cpu")))
        return network

    def material(self) -> Observations:
        """Gather all that the evidence is collected from."""
        dataset, run = self.subject.dataset, self.subject.run
        held_out = None
        elsewhere = self.subject.classifier.is_foreign()
        if len(dataset.parts["val"]) and len(dataset.parts["train"]) and not elsewhere:
            held_out = self._tensors(dataset.subset("val", HELD_OUT))
        losses: Sequence[float] = ()
        if self.options.losses is not None:
            course = read_curve(self.options.losses)
            self.notes += course.notes
            losses = course.losses[~np.isnan(course.losses)].tolist()
        elif self.watched is not None:
            losses = self.watched.losses[~np.isnan(self.watched.losses)].tolist()
        elif run is not None:
            losses = [row["train_loss"] for row in run.log()]
        diverged = None if run is None else run.diverged()
        if diverged is not None:
            losses = [*losses, float(diverged["loss"])]
        ran_off = diverged is not None or (len(losses) > 0 and not math.isfinite(losses[-1]))
        return Observations(
            network=self.network,
            images=self.images,
            labels=self.targets,
            classes=len(self.subject.classifier.class_names),
            start=self.start,
            watched=self.watched,
            held_out=held_out,
            losses=losses,
            batch_size=run.recipe().loop.batch_size if run is not None else None,
            diverged=ran_off,
            trained=self.trained,
            designed=self.designed,
            widths=self.widths,
            cross_entropy=run is not None,
            elsewhere=elsewhere,
        )

    def state(self, network: nn.Module, chain: Sequence[Factor], fresh: bool) -> report.State:
        """Gradients as in training, and Jacobians as at test time; a fresh network's norms take these images'."""
        dtype = torch.float64 if self.options.double else torch.float32
        copy = deepcopy(network).to(dtype)
        images = self.images.to(dtype)
        flow = gradients(ready(copy), chain, images[:BATCH], self.targets[:BATCH])
        still = ready(copy, images[:BATCH]) if fresh else deepcopy(network).to(dtype).eval()
        try:
            measured = jacobians(still, chain, images[: self.options.images], progress=self.options.progress)
            return report.State(flow, measured)
        except UsageError as error:
            self.notes.append(str(error))
            return report.State(flow)

    def result(self, began: float) -> report.DiagnoseReport:
        """Measure everything."""
        tell = self.options.progress or (lambda what, done, total: None)
        states: dict[str, report.State] = {}
        broken = not_numbers(self.network)
        whole = {"start": self.network if self.trained is False else self.start}
        if self.trained is not False:
            whole["now"] = None if broken else self.network
        for number, (when, network) in enumerate(whole.items()):
            if network is not None:
                tell(f"gradients, {when}", number, len(whole))
                found = self._way(network, when)
                if found is not None:
                    states[when] = found
        tell("evidence", 0, 1)
        verdict = judge(collect(self.material()))
        self.notes += _notes(verdict, self.watched)
        view = self._norm(self.options.norm)
        return report.DiagnoseReport(
            self.subject.folder,
            verdict,
            states,
            {
                "name": self.subject.name,
                "folder": str(self.subject.folder),
                "data": self.subject.dataset.name,
                **verdict.to_json(),
                "sentence": report.verdict_sentence(verdict, states),
                "states": {when: report.state_json(state) for when, state in states.items()},
                "watched": self._watched_json(),
                "norm": report.norm_json(view),
                "notes": self.notes,
                "seconds": time.perf_counter() - began,
            },
            self.watched,
            view,
            self.course(),
        )

    def _way(self, network: nn.Module, when: str) -> report.State | None:
        """The gradient's way through a network; None where it ends before the images, which the verdict tells."""
        copy = ready(deepcopy(network))
        if gradient_ends(copy, self.images[:2], self.targets[:2])[1]:
            self.notes.append("the gradient does not come back to the images, so there is no way of it to show.")
            return None
        chain = find_chain(ready(deepcopy(network)), self.images[:2], self.options.layer)
        return self.state(network, chain, when == "start")

    def course(self) -> Curve | None:
        """The training's numbers by step: those given, those watched, or those of the run's log."""
        if self.options.losses is not None:
            return read_curve(self.options.losses)
        if self.watched is not None:
            return curve_of(self.watched)
        run = self.subject.run
        return None if run is None else from_losses([row["train_loss"] for row in run.log()])

    def _watched_json(self) -> dict[str, Any] | None:
        if self.watched is None:
            return None
        return {"looks": len(self.watched.steps), "steps": len(self.watched.losses), "every": self.watched.every}

    def _norm(self, asked: str | None) -> NormView | None:
        """The batch norm asked for as "layer:channel", channel 0 where only the layer is named."""
        if asked is None:
            return None
        layer, _, channel = asked.partition(":")
        if channel and not channel.isdecimal():
            example = (batch_norms(self.network) or ["bn1"])[0]
            raise UsageError(f"--norm {asked} is not a batch norm with a channel, such as {example}:3.")
        return look_at_norm(self.network, layer, int(channel or 0), self.images[: 2 * BATCH])


def _record(watched: Any) -> Watched | None:
    """What was seen of a training: a record, or the watch that keeps one. UsageError for anything else."""
    if isinstance(watched, Watch):
        return watched.watched()
    if watched is not None and not isinstance(watched, Watched):
        raise UsageError(f"watched is what convscope.watching saw, not an object of type {type(watched).__name__}.")
    return watched


def _notes(verdict: Verdict, watched: Watched | None) -> list[str]:
    """What the reader of a verdict has to know, and what is no fault."""
    evidence, faults = verdict.evidence, [finding.fault for finding in verdict.findings]
    notes = []
    if watched is not None and not len(watched.losses):
        notes.append("the watch was told of no step: call watch.step(loss.item()) after each update.")
    if evidence.another_loss == 1 and math.isfinite(evidence.told_off):
        notes.append("the told losses are none of cross-entropy in nats: how far it is was measured on its images.")
    if evidence.unused > 0 and "not-used" not in faults:
        notes.append(f"{evidence.names['unused']} is not used: no answer depends on it.")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
