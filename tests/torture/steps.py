"""Steps: a training is killed after any of its 48 updates, and goes on from there to the same bits.

Every optimizer, and decoding by 1, 2 and 4 threads; with augmentation, dropout, mixed images, averaged weights and a
look at the network now and then switched on. The images are decoded anew before it goes on, by as many threads.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from convscope.recipes import OPTIMIZERS
from convscope.tensor_files import read_tensors
from convscope.training.runs import Run, checkpoints
from kill_points import Ended, Killer, killing, remains
from torture.attempts import Attempt

EPOCHS, STEPS, BATCH = 4, 12, 4
UPDATES = EPOCHS * STEPS
THREADS = (1, 2, 4)  # that decode images
EVERY = [(k, o, t) for k in range(1, UPDATES + 1) for o in OPTIMIZERS for t in THREADS]
# Saves after each update, where it does so every two minutes.
ALWAYS = {"convscope.training.session.CHECKPOINT_SECONDS": 0.0}
WORDS = (
    f"--name r --width 4 --image-size 16 --epochs {EPOCHS} --batch-size {BATCH} --augment strong --dropout 0.2 "
    "--mixup 0.4 --cutmix 1.0 --balance --ema 0.9 --watch"
).split()


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """Kill after the updates of one list of all; the seed says where in the list it begins."""
    order = np.random.default_rng(0).permutation(len(EVERY))
    with killing(all_commands=False) as killer:
        training = Training(killer, make_images(folder / "images"), folder)
        for chosen in itertools.islice(itertools.cycle(order.tolist()), seed * count % len(EVERY), None):
            if count == 0:
                return
            count -= 1
            yield _attempt(training, *EVERY[chosen])


def make_images(root: Path) -> Path:
    """48 images to train on, twelve batches of four, and 8 to validate with, in two classes that are hard to tell."""
    random = np.random.default_rng(0)
    for part, count in (("train", STEPS * BATCH // 2), ("val", 4)):
        for name, bright in (("dark", 110), ("light", 140)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.normal(bright, 60, (24, 20, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@dataclass(frozen=True)
class Training:
    """A training by each optimizer: as the killer runs it, over ``images``."""

    killer: Killer
    images: Path
    folder: Path

    @cached_property
    def _whole(self) -> dict[str, Path]:
        return {}

    def run(
        self, folder: Path, optimizer: str, threads: int, last: int | str = 0, more: dict[str, float] | None = None
    ) -> Ended:
        """Train in a folder, or go on with what is there, until a moment as ``Moments`` has it."""
        resume = ["--resume"] if (folder / "runs" / "r").exists() else []
        words = ["train", str(self.images), *WORDS, "--optimizer", optimizer, *resume]
        numbers = {"convscope.datasets.packing.THREADS": threads, **(more or {})}
        return self.killer.run(folder, words, last, numbers=numbers)

    def whole(self, optimizer: str) -> Path:
        """The folder of a training that nothing stopped, its images decoded by one thread."""
        if optimizer not in self._whole:
            folder = self.folder / f"whole-{optimizer}"
            folder.mkdir(parents=True)
            ended = self.run(folder, optimizer, 1)
            assert ended.code == 0, ended.said
            self._whole[optimizer] = folder
        return self._whole[optimizer]


def _attempt(training: Training, update: int, optimizer: str, threads: int) -> Attempt:
    what = f"{optimizer}, {threads} threads, killed after update {update} of {UPDATES}"
    folder = training.folder / f"{optimizer}-{threads}-{update}"
    shutil.rmtree(folder, ignore_errors=True)  # an attempt that is made again
    folder.mkdir(parents=True)
    killed = training.run(folder, optimizer, threads, f"/step-{update:08d}.safetensors", ALWAYS)
    shutil.rmtree(folder / "cache" / "images")
    if killed.code != -9:
        return Attempt(what, optimizer, f"it was not killed: exit code {killed.code}: {killed.said}")
    ended = training.run(folder, optimizer, threads)
    flaw = flaw_of(folder, ended, training.whole(optimizer), update)
    if not flaw:
        shutil.rmtree(folder)
    return Attempt(what, f"{optimizer}, {threads} threads", flaw, killed.seconds + ended.seconds)


def flaw_of(folder: Path, ended: Ended, whole: Path, update: int) -> str:
    """What is wrong with a training that went on from an update, beside the whole one, in words; empty: nothing."""
    if ended.code != 0:
        return f"going on ended with exit code {ended.code}: {ended.said}"
    run, other = Run(folder / "runs" / "r"), Run(whole / "runs" / "r")
    epoch = update // STEPS
    anew = sum(row["images"] for row in run.timing()[epoch:])  # a timing row is of the process that ended its epoch
    if anew != (wanted := (EPOCHS * STEPS - update) * BATCH):
        return f"{anew} images were trained on after it went on, and not {wanted}"
    tensors, meta = read_tensors(checkpoints(run)[-1])
    expected, of_whole = read_tensors(checkpoints(other)[-1])
    for name in sorted(tensors.keys() | expected.keys()):
        if name not in tensors or name not in expected or not torch.equal(tensors[name], expected[name]):
            return f"the tensor {name} of the last checkpoint is another"
    if meta != of_whole:
        return "what the last checkpoint says of itself is another"
    if (run.folder / "log.jsonl").read_bytes() != (other.folder / "log.jsonl").read_bytes():
        return "the log is another"
    found, wanted_files = (_files(place) for place in (folder, whole))
    others = [p for p in sorted(found.keys() | wanted_files.keys()) if found.get(p) != wanted_files.get(p)]
    return f"other than undisturbed: {', '.join(others)}" if others else ""


def _files(folder: Path) -> dict[str, str]:
    """What remains but for checkpoints, which were compared, and times, of the process that ended an epoch."""
    left = ("/checkpoints/", "/timing.jsonl")
    return {path: told for path, told in remains(folder).items() if not any(part in path for part in left)}
