"""A run while it trains: the loop's observers. Validates, logs, keeps the best, saves, and stops cleanly on a signal.

``Session.events`` is a generator of Steps and epoch rows; whoever iterates shows progress in the body of a ``for``.
"""

from __future__ import annotations

import contextlib
import signal
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..classifying import metrics
from ..classifying.classifier import FILE_NAME, Classifier
from ..convolution.timing import is_possible
from ..datasets.dataset import Dataset
from ..errors import DivergedError, InterruptedRun, UsageError
from ..locks import lock
from ..machine import matmul_peak
from ..models.architecture import Architecture
from ..models.fast_convolutions import convolving
from ..recipes import Recipe
from ..spoken import called
from ..storage import commit_lines, make_folder
from .batches import Batches
from .continuing import Before
from .diverging import Diverged
from .kept_epochs import keep_epoch
from .launching import Launch, leading
from .loop import Step, TrainState, flops_per_image, make_optimizer, prepare, train
from .ranks import LostRank
from .runs import (
    Run,
    RunProgress,
    check_room,
    checkpoints,
    data_description,
    load_checkpoint,
    point_last,
    save_checkpoint,
)
from .seen import save_seen
from .shared_state import described, hand_over
from .sharing import check_shares, shared_logits
from .stopping import noting_signals
from .watched import Watched, up_to
from .watching import Watch, watching

CHECKPOINT_SECONDS = 120.0  # the longest a training goes unsaved inside an epoch
WATCHED = "diagnose/watched.safetensors"  # in a run: what was seen of its training


@dataclass
class _Clock:
    """Seconds of one epoch by what they were spent on."""

    data: float = 0.0
    compute: list[float] = field(default_factory=list)
    evaluation: float = 0.0
    saving: float = 0.0
    images: int = 0
    start: float = field(default_factory=time.perf_counter)

    def row(self, epoch: int, compiled: bool, gflop_an_image: float, peak: float) -> dict[str, Any]:
        """The timing row; a compiled network's first calls are told apart by their length."""
        usual = statistics.median(self.compute)
        compiling = sum(s - usual for s in self.compute if compiled and s > 3 * usual)
        compute = sum(self.compute) - compiling
        rate = self.images * gflop_an_image / compute
        return {
            "epoch": epoch,
            "images": self.images,
            "seconds": time.perf_counter() - self.start,
            "data_seconds": self.data,
            "compute_seconds": compute,
            "evaluation_seconds": self.evaluation,
            "saving_seconds": self.saving,
            "compile_seconds": compiling,
            "images_per_second": self.images / (self.data + compute),
            "gflop": self.images * gflop_an_image,
            "gflop_per_second": rate,
            "peak_gflop_per_second": peak,
            "percent_of_peak": 100 * rate / peak,
        }


@dataclass(kw_only=True)
class Session:
    """A run, its data and its state in memory. ``recipe`` is resolved: no "auto" is left in it."""

    run: Run
    recipe: Recipe
    dataset: Dataset
    architecture: Architecture
    device: torch.device
    resume_command: str
    initial: torch.nn.Module | None = None  # weights to start from; None: fresh ones from the seed
    notes: list[str] = field(default_factory=list)
    scales: Mapping[str, float] | None = None  # factors of the rate by parameter
    frozen: tuple[str, ...] = ()  # modules that stay in evaluation mode
    watch: int = 0  # look inside the network every so many steps; 0: never
    keep_epochs: int = 0  # keep the network after every so many epochs, and as it began; 0: never
    keep_memory: bool = True  # from step to step, where it need not be saved
    before: Before | None = None  # the run that this one goes on from, with more images
    launch: Launch | None = None  # the processes that train together; None: this one alone
    asked: Mapping[str, Any] = field(default_factory=dict)  # what of them those are given that are started here
    prompt: bool = False  # tell each loss with its own update, also where a GPU has to wait for it
    paused_seconds: float = 0.0  # in which whoever iterates did not go on, and which are no time of the training
    stopping: list[int] = field(default_factory=list)  # signals that came: with the first one it saves and stops

    def events(self) -> Iterator[Step | dict[str, Any]]:
        """Train to the end, yielding every Step, and after each epoch its log row.

        Raises InterruptedRun after a signal (everything saved), DivergedError, LockedError, StorageError, DamagedFile.
        """
        with called(), lock(self.run.folder, f"run {self.run.name!r}"), noting_signals(self.stopping):
            self._prepare()
            check_room(self.run, self.state)
            save_seen(self.run.folder, self.dataset)
            point_last(self.run)
            if self.progress.finished:
                return
            try:
                with self._together(), self._watching() as self._watch:
                    yield from self._train()
            except Diverged as error:
                raise self._explain(error) from error
            except LostRank as error:
                raise LostRank(f"{error} {self._go_on()}", error.exit_code) from None

    def _prepare(self) -> None:
        loop = self.recipe.loop
        network = self.initial
        if network is None:
            network = self.architecture.build(len(self.dataset.class_names), seed=loop.seed)
        network = network.to(self.device)
        optimizer = make_optimizer(network, self.recipe.optimizer, self.scales)
        self.state = TrainState(network, optimizer, frozen=self.frozen)
        self.batches = training_batches(self.dataset, self.recipe, self.device)
        if (self.recipe.convolution.tiles or self.recipe.convolution.fused) and not is_possible():
            self.notes.append("Numba is missing here: layers that were computed faster are computed by torch now.")
        if self.initial is None:
            prepare(network, self.batches)
        self.validation = self.dataset.subset("val")
        self.progress, notes = load_checkpoint(self.run, self.state)
        self.notes += notes
        done = self.state.epoch
        self.log = [row for row in self.run.log() if row["epoch"] <= done]
        self.timing = [row for row in self.run.timing() if row["epoch"] <= done]
        self.gflop = flops_per_image(network, self.dataset.preprocess.size) / 1e9
        self.peak = matmul_peak(self.device, loop.precision)

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """A with-block in which the other processes, if there are any, train with this one."""
        if self.launch is None:
            yield
            return
        parts, size = self.recipe.parts, self.launch.size
        check_shares(len(self.batches.index), len(self.batches), size, parts.accumulate)
        told = {
            "recipe": self.recipe.to_dict(),
            "data": data_description(self.dataset),
            "preprocess": None if self.before is None else self.dataset.preprocess.to_dict(),
            "scales": None if self.scales is None else dict(self.scales),
            "frozen": list(self.frozen),
            "keep_memory": self.keep_memory,
            "state": described(self.state),
        }
        self.launch.note_run(self.run.folder)
        with leading(self.launch, self.asked, told, self.device) as team:
            hand_over(self.state, team)
            team.asked = lambda: bool(self.stopping)
            self.state.team = team
            self.batches = replace(self.batches, share=(0, size))
            self.peak *= size
            yield

    def _train(self) -> Iterator[Step | dict[str, Any]]:
        clock, saved = _Clock(), time.monotonic()
        if self.keep_epochs and not self.state.epoch and not self.state.step:
            keep_epoch(self.run, self._classifier({"epoch": 0, "val_top1": None, "val_n": len(self.validation)}))
        late = self.device.type != "cpu" and self._watch is None and self.state.team is None and not self.prompt
        for step in train(self.state, self.batches, self.recipe, keep_memory=self.keep_memory, late=late):
            clock.data += step.seconds["data"]
            clock.compute.append(step.seconds["compute"])
            clock.images += step.images
            if self._watch is not None:
                self._watch.step(step.loss, step.lr)
            yield step
            clock.start, saved = clock.start + self.paused_seconds, saved + self.paused_seconds
            self.paused_seconds = 0.0
            if step.summary is not None:
                row = self._end_epoch(step, clock)
                start = time.perf_counter()
                self._save()
                clock, saved = _Clock(saving=time.perf_counter() - start, start=start), time.monotonic()
                if self.state.team is not None:
                    self.state.team.agree(self.progress.finished)
                yield row
                if self.progress.finished:
                    return
            elif time.monotonic() - saved > CHECKPOINT_SECONDS and not self.stopping:
                start = time.perf_counter()
                self._save()
                clock.saving += time.perf_counter() - start
                saved = time.monotonic()
            if self._stops():
                self._save()
                raise InterruptedRun(
                    f"stopped at epoch {step.epoch}, step {step.step} of {step.steps}, everything saved; "
                    f"go on with: {self.resume_command}",
                    (self.stopping or [signal.SIGTERM])[0],
                )

    def _stops(self) -> bool:
        """Whether to stop now: of several processes all stop after the same update."""
        return bool(self.stopping) if self.state.team is None else self.state.team.stops

    def _end_epoch(self, step: Step, clock: _Clock) -> dict[str, Any]:
        """Validate, keep the best, log. The checkpoint comes after it all, so that a kill in between loses nothing."""
        start = time.perf_counter()
        self._check_finite()
        row = self._log_row(step)
        clock.evaluation = time.perf_counter() - start
        start = time.perf_counter()
        if row["val_top1"] > self.progress.best_top1:
            self.progress = RunProgress(row["val_top1"], step.epoch)
            self._classifier(row).save(self.run.folder / FILE_NAME)
        patience = self.recipe.loop.patience
        stale = patience is not None and step.epoch - self.progress.best_epoch >= patience
        self.progress.finished = stale or step.epoch == self.recipe.loop.epochs
        if self.keep_epochs and (self.progress.finished or step.epoch % self.keep_epochs == 0):
            keep_epoch(self.run, self._classifier(row))
        self.log.append(row)
        commit_lines(self.run.folder / "log.jsonl", self.log)
        clock.saving += time.perf_counter() - start  # the checkpoint that follows is of the next epoch, time and all
        self.timing.append(clock.row(step.epoch, self.recipe.loop.compile, self.gflop, self.peak))
        commit_lines(self.run.folder / "timing.jsonl", self.timing)
        return row

    def _log_row(self, step: Step) -> dict[str, Any]:
        assert step.summary is not None
        chosen = self.recipe.convolution
        with convolving(self.state.best_network, chosen.by_layer, chosen.fused):
            scores = shared_logits(self.state.best_network, self.dataset, self.validation, self.device, self.state.team)
        if not metrics.finite(scores):
            raise self._no_numbers("the validation outputs")
        labels = torch.from_numpy(self.dataset.labels[self.validation])
        top1 = metrics.top_k(scores, labels, 1)
        return {
            "epoch": step.epoch,
            "train_loss": step.summary.loss,
            "train_top1": step.summary.top1,
            "val_loss": metrics.cross_entropy(scores, labels),
            "val_top1": top1.value,
            "val_low": top1.low,
            "val_high": top1.high,
            "val_n": top1.n,
            "lr": step.lr,
        }

    def _check_finite(self) -> None:
        for name, tensor in self.state.best_network.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise self._no_numbers(f"the weights {name!r}")

    def _no_numbers(self, what: str) -> DivergedError:
        epoch = self.state.epoch + (self.state.step > 0)  # at an epoch's end the state counts it already
        return DivergedError(
            f"{what} are no longer numbers in epoch {epoch}; {self._kept()}. "
            f"Try a lower --lr (it was {self.recipe.optimizer.lr:g}), or --clip."
        )

    def _kept(self) -> str:
        return "the last finite checkpoint is kept" if checkpoints(self.run) else "there was no checkpoint yet"

    def _go_on(self) -> str:
        """What is left of a training that lost a process, and how to go on."""
        if not checkpoints(self.run):
            return "There was no checkpoint yet: begin again under another --name, or with --resume."
        return f"What was saved last is kept; go on with: {self.resume_command}"

    def _classifier(self, row: dict[str, Any]) -> Classifier:
        description = self.run.description()
        provenance = {
            "run": self.run.name,
            "epoch": row["epoch"],
            "val_top1": row["val_top1"],
            "val_n": row["val_n"],
            "recipe": self.recipe.to_dict(),
            "data": description["data"],
            "machine": description["machine"],
        }
        names, preprocess = self.dataset.class_names, self.dataset.preprocess
        return Classifier(self.state.best_network, names, preprocess, self.architecture, provenance)

    def _save(self) -> None:
        """Save what was seen, then the checkpoint: what was seen beyond it is cut off, what is missing is lost."""
        self.state.catch_up()
        self._check_finite()
        if self._watch is not None:
            make_folder((self.run.folder / WATCHED).parent)
            self._watch.watched().save(self.run.folder / WATCHED)
        save_checkpoint(self.run, self.state, self.progress, self._updates())

    def _updates(self) -> int:
        return self.state.epoch * len(self.batches) + self.state.step

    def _watching(self) -> contextlib.AbstractContextManager[Watch | None]:
        """A with-block that watches, if that is wanted; a run that goes on keeps what was seen before."""
        path = self.run.folder / WATCHED
        before = up_to(Watched.load(path), self._updates()) if path.exists() else None
        every = self.watch if before is None else before.every
        return watching(self.state.network, every, before=before) if every else contextlib.nullcontext()

    def _explain(self, error: Diverged) -> DivergedError:
        """The user's form of a divergence; the whole list of the batch's images goes to a file."""
        where = [self.dataset.origins(int(i)) for i in error.index]
        details = {"epoch": error.epoch, "step": error.step, "lr": error.lr, "loss": str(error.loss), "images": where}
        path = self.run.log_divergence(details)
        return DivergedError(
            f"{error}; {self._kept()}. Try a lower --lr or --clip. The batch began with "
            f"{', '.join(where[:3])}; all {len(where)} images are in {path}."
        )


def training_batches(dataset: Dataset, recipe: Recipe, device: torch.device) -> Batches:
    """The batches of a resolved recipe over the dataset's training part."""
    if recipe.data.stretch != dataset.preprocess.stretch:
        raise UsageError(f"the recipe says stretch {recipe.data.stretch}, and the images were read otherwise.")
    index, loop = dataset.subset("train"), recipe.loop
    assert loop.batch_size is not None  # settled before anything trains
    return Batches(dataset, index, loop.batch_size, loop.seed, recipe.augment, device, recipe.labels)
