"""What a training would take: some steps on made-up images of its size, and from them hours, memory and money for all.

No image is read or packed. What is projected is said with what it assumes.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..classifying.prediction import logits
from ..datasets.dataset import Dataset, assemble, listing
from ..datasets.packing import THREADS
from ..datasets.registry import find_images
from ..datasets.unsplit import Unsplit
from ..errors import UsageError
from ..images.preprocess import Preprocess
from ..machine import describe, matmul_peak, pick_device, pick_precision
from ..models.architecture import architecture_of
from ..progress import Progress
from ..recipes import Recipe
from .batches import Batches
from .estimates import step_bytes
from .loop import TrainState, flops_per_image, make_optimizer, train
from .options import TrainOptions
from .request import wanted_recipe
from .starting import usual_batch_size

IMAGENET = "imagenet-shaped"  # in place of DATA: so many images of so many classes as ImageNet, and none of them
IMAGENET_COUNTS = {"train": 1_281_167, "val": 50_000, "test": 0}
CLASSES = 1000
FIRST = 2  # steps that are not timed
PHOTO = (500, 375)  # px, of the JPEG that is decoded to time a packing: ImageNet's usual size
SMOOTH = 8  # times that noise is enlarged, so that the file is about as large as a photo's
DECODED = 96  # times
PASSES = 3  # times that the activations go through memory: written, read forward, read backward
HOUR = 3600.0


@dataclass(frozen=True)
class Hardware:
    """Another machine: the peak of its matrix products (TFLOP/s) and of its memory (GB/s)."""

    tflops: float
    bandwidth: float

    @classmethod
    def parse(cls, text: str) -> Hardware:
        """Of "989,3350"; UsageError for what is not two positive numbers."""
        try:
            tflops, bandwidth = map(float, text.split(","))
        except ValueError:
            tflops = bandwidth = math.nan
        if not (0 < tflops < math.inf and 0 < bandwidth < math.inf):
            raise UsageError(
                f"--hardware {text!r} is not TFLOP/s and GB/s, as 989,3350 for a card that has these peaks."
            )
        return cls(tflops, bandwidth)


@dataclass(frozen=True)
class DryRun:
    """Measured here: a ``step`` (seconds), and seconds an image of a validation and of a packing. All else follows."""

    recipe: Recipe
    counts: dict[str, int]
    classes: int
    machine: str
    step: float
    evaluating: float
    packing: float
    gflop_an_image: float
    peak: float  # GFLOP/s
    fixed: int  # bytes: weights, gradients and what the optimizer keeps
    an_image: int  # bytes of activations
    notes: tuple[str, ...] = ()
    hardware: Hardware | None = None
    price: float | None = None  # for an hour

    @property
    def _batch(self) -> int:
        assert self.recipe.loop.batch_size is not None
        return self.recipe.loop.batch_size

    @property
    def steps(self) -> int:
        """Updates of the whole training."""
        return -(-self.counts["train"] // self._batch) * self.recipe.loop.epochs

    @property
    def share(self) -> float:
        """Of the peak that a matrix product reaches here, what a step does."""
        return self._batch * self.gflop_an_image / self.step / self.peak

    def step_elsewhere(self) -> float | None:
        """Seconds of a step on the other machine: bound by its products at our share of the peak, or by its memory."""
        if self.hardware is None:
            return None
        computed = self._batch * self.gflop_an_image / (1000 * self.hardware.tflops * min(1.0, self.share))
        moved = PASSES * self._batch * self.an_image + 2 * self.fixed
        return max(computed, moved / (1e9 * self.hardware.bandwidth))

    def hours(self, step: float, evaluating: float) -> float:
        """Of all steps and of a validation each epoch."""
        return (self.steps * step + self.recipe.loop.epochs * self.counts["val"] * evaluating) / HOUR

    def summary(self) -> dict[str, Any]:
        """All figures, as JSON values (docs/json.md)."""
        data, elsewhere = self.recipe.data, self.step_elsewhere()
        assert data.image_size is not None
        here = self.hours(self.step, self.evaluating)
        there = None if elsewhere is None else self.hours(elsewhere, self.evaluating * elsewhere / self.step)
        paid = here if there is None else there
        every = sum(self.counts.values())
        return {
            "machine": self.machine,
            "images": self.counts,
            "classes": self.classes,
            "epochs": self.recipe.loop.epochs,
            "batch_size": self._batch,
            "image_size": data.image_size,
            "step_seconds": self.step,
            "images_per_second": self._batch / self.step,
            "gflop_per_second": self._batch * self.gflop_an_image / self.step,
            "percent_of_peak": 100 * self.share,
            "hours": here,
            "packing_hours": every * self.packing / HOUR,
            "packed_bytes": 0 if self.recipe.reading.stream else every * 3 * data.image_size**2,
            "step_bytes": self.fixed + self._batch * self.an_image,
            "hardware": None if self.hardware is None else asdict(self.hardware),
            "hardware_hours": there,
            "cost": None if self.price is None else self.price * paid,
            "notes": list(self.notes),
        }

    def _packed(self, s: dict[str, Any]) -> str:
        photo = f"if the files are like JPEGs of {PHOTO[0]} x {PHOTO[1]}"
        if self.recipe.reading.stream:
            a_look = _time(sum(self.counts.values()) * self.packing / HOUR)
            return f"disk: nothing is packed; decoding all once takes {a_look}, {photo}"
        return (
            f"disk: {s['packed_bytes'] / 1e9:,.1f} GB in the folder of CONVSCOPE_CACHE, packed in "
            f"{_time(s['packing_hours'])} {photo}"
        )

    def lines(self) -> list[str]:
        """The same in sentences, with what they assume."""
        s = self.summary()
        name, machine = self.recipe.model.name, self.machine
        said = [
            *self.notes,
            *(["the peak was measured while other work ran, so shares of it are too large."] if self.share > 1 else []),
            f"{name}, {s['images']['train']:,} images of {self.classes:,} classes at {s['image_size']} px, "
            f"{s['epochs']} epoch{'' if s['epochs'] == 1 else 's'} in batches of {self._batch}: {self.steps:,} steps",
            f"here ({machine}): {self.step:.3g} s a step, {s['images_per_second']:,.0f} images/s, "
            f"{s['percent_of_peak']:.0f} % of a matrix product's peak: {_time(s['hours'])} for all, with validation",
            f"memory: {s['step_bytes'] / 1e9:.2f} GB for a step, counted: weights, gradients, the optimizer's and "
            "activations",
            self._packed(s),
        ]
        if self.hardware is not None:
            there = f"{self.hardware.tflops:g} TFLOP/s and {self.hardware.bandwidth:g} GB/s"
            said.append(
                f"with {there}: {_time(s['hardware_hours'])}, if it reaches the same share of its peak, activations "
                f"go {PASSES} times through its memory, and reading keeps up"
            )
        if s["cost"] is not None:
            said.append(f"cost: {s['cost']:,.2f} at {self.price:g} an hour")
        return said


def _time(hours: float) -> str:
    return (
        f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    )


def dry_run(
    data: str, options: TrainOptions, steps: int, hardware: str | None = None, price: float | None = None
) -> DryRun:
    """Time ``steps`` steps of the training that ``data`` and ``options`` ask for, on made-up images. UsageError."""
    other = None if hardware is None else Hardware.parse(hardware)
    if steps < 1:
        raise UsageError(f"--dry-run takes a number of steps from 1, not {steps}.")
    if price is not None and not 0 <= price < math.inf:
        raise UsageError(f"--price-per-hour {price:g} is no price.")
    counts, classes, size, notes = _shape(data, options)
    device = pick_device(options.device)
    recipe = wanted_recipe(data, options)
    batch = recipe.loop.batch_size or usual_batch_size(recipe, counts["train"])
    size = recipe.data.image_size or size
    settled = {"image_size": size, "batch_size": batch, "precision": pick_precision(recipe.loop.precision, device)}
    recipe = recipe.with_options(settled)
    _, network = architecture_of(recipe.model.name, size, recipe.model.options(), classes)
    made_up = _made_up(2 * batch, size, classes)
    seconds = _step_seconds(network, recipe, made_up, (device, steps), options.progress)
    fixed, plain, saved = step_bytes(network, recipe, size)
    if options.processes is not None and options.processes > 1:
        notes = (*notes, f"timed in one process; {options.processes} would share each batch.")
    return DryRun(
        recipe, counts, classes, describe(device)["device"], seconds,
        _evaluating(network, made_up, device),
        _packing(size),
        flops_per_image(network, size) / 1e9,
        matmul_peak(device, recipe.loop.precision),
        fixed, saved if recipe.loop.save_memory else plain,
        notes, other, price,
    )  # fmt: skip


def _shape(data: str, options: TrainOptions) -> tuple[dict[str, int], int, int, tuple[str, ...]]:
    """Images by part, classes, the usual size in pixels, and notes."""
    if data == IMAGENET:
        return IMAGENET_COUNTS, CLASSES, 224, (f"{IMAGENET}: images are made up, none is read.",)
    from ..datasets.options import DatasetOptions

    given: dict[str, Any] = {**options.reading(), "data_root": options.data_root, "progress": options.progress}
    listed = listing(
        find_images(data, DatasetOptions(**given)), options.limit, options.progress, options.corrections, unread=True
    )
    found = listed.dataset(None, Preprocess(listed.unsplit.image_size), fold=options.fold)
    counts = {part: len(index) for part, index in found.parts.items()}
    return counts, len(found.class_names), listed.unsplit.image_size, found.notes


def _made_up(count: int, size: int, classes: int) -> Dataset:
    """Noise, uint8, of so many classes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size, 3), np.uint8)
    names, labels = tuple(f"class {k}" for k in range(classes)), random.integers(0, classes, count)
    return assemble(Unsplit("made up", names, labels, np.full(count, "train", "U5"), size, arrays=images))


def _step_seconds(
    network: torch.nn.Module,
    recipe: Recipe,
    made_up: Dataset,
    where: tuple[torch.device, int],
    progress: Progress | None,
) -> float:
    """The median of the timed steps, data and computing together."""
    device, steps = where
    assert recipe.loop.batch_size is not None
    network = network.to(device).to(memory_format=torch.channels_last)
    index = np.arange(len(made_up))
    batches = Batches(made_up, index, recipe.loop.batch_size, recipe.loop.seed, recipe.augment, device, recipe.labels)
    count = steps + FIRST
    wanted = recipe.with_options({"epochs": math.ceil(count / len(batches)), "compile": False})
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    seconds = []
    what = f"{recipe.model.name} in batches of {recipe.loop.batch_size}"
    if progress:
        progress(what, 0, count)
    for number, step in enumerate(islice(train(state, batches, wanted), count), 1):
        seconds.append(sum(step.seconds.values()))
        if progress:
            progress(what, number, count)
    return statistics.median(seconds[FIRST:])


def _evaluating(network: torch.nn.Module, made_up: Dataset, device: torch.device) -> float:
    """Seconds an image of a validation."""
    index = np.arange(min(64, len(made_up)))
    start = time.perf_counter()
    logits(network, made_up.images, made_up.preprocess, index, device)
    return (time.perf_counter() - start) / len(index)


def _packing(size: int) -> float:
    """Seconds an image of decoding a photo's JPEG and fitting it, with as many threads as a packing has."""
    width, height = PHOTO
    noise = np.random.default_rng(0).integers(0, 256, (height // SMOOTH, width // SMOOTH, 3), np.uint8)
    held = io.BytesIO()
    Image.fromarray(noise).resize(PHOTO, Image.Resampling.BICUBIC).save(held, "JPEG", quality=95)
    content, preprocess = held.getvalue(), Preprocess(size)
    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: preprocess.fit_image(content, "photo"), range(DECODED)))
    return (time.perf_counter() - start) / DECODED
