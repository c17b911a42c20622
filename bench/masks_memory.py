"""Peak anonymous memory of a whole transfer to masks, for 200 and for 2,000 images, in fresh processes.

Claim: the peak of 2,000 is at most 1.05 times that of 200: neither maps, masks nor scores are held in memory. Linux
only. Images are drawn PNG files, one disc each, taken at 128 pixels; everything is asked for: reading, recording, both
heads, validation and test images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import watched
from paired import arguments, tell
from PIL import Image, ImageDraw

TARGET = 1.05
COUNTS, QUICK = (200, 2_000), (60, 120)
SIDE, SIZE = 160, 128
UNIT = "the peak of the most images over that of the fewest; low and high in GB"


def write_discs(folder: Path, count: int) -> None:
    """``images`` and ``masks``: a disc of one colour before noise each."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        mask = Image.new("L", (SIDE, SIDE))
        x, y, r = random.integers([40, 40, 15], [120, 120, 40]).tolist()
        ImageDraw.Draw(mask).ellipse((x - r, y - r, x + r, y + r), fill=255)
        noise = random.integers(0, 160, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        image.paste(tuple(random.integers(60, 256, 3).tolist()), mask=mask)
        image.save(folder / "images" / f"{i:05d}.png")
        mask.save(folder / "masks" / f"{i:05d}.png")


def child(folder: str, metric: str) -> None:
    """One transfer while a thread watches; print the peak."""
    import convscope

    start = time.perf_counter()
    with watched() as peak:
        made = convscope.transfer(folder, image_size=SIZE, engine="torch", runs=Path(folder) / "runs")
    seconds = time.perf_counter() - start
    print(json.dumps({"peak": peak[0], "seconds": seconds, metric: made.summary[metric]}))


def peaks_of(
    write: Callable[[Path, int], None], file: str, metric: str, counts: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Transfers of few and of many images that ``write`` writes, each of which learns something: peaks in bytes."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            place = Path(folder) / str(count)
            write(place, count)
            environment = os.environ | {"CONVSCOPE_CACHE": f"{place}-cache"}
            command = [sys.executable, file, "child", str(place)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            runs.append(json.loads(done.stdout.splitlines()[-1]) | {"count": count})
    assert all(run[metric] > 0.5 for run in runs), runs
    return runs


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], "iou")
        return
    options = arguments(__doc__)
    runs = peaks_of(write_discs, __file__, "iou", QUICK if options.quick else COUNTS)
    low, high = (run["peak"] / 1e9 for run in runs)
    result = {
        "ratio": high / low, "low": low, "high": high, "ours": high, "peer": None, "unit": UNIT, "better": "lower",
        "target": TARGET, "runs": runs,
    }  # fmt: skip
    tell(result, options.json)


if __name__ == "__main__":
    main()
