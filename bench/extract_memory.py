"""Peak anonymous memory of recording features, for 1,000, 10,000 and 40,000 images, in fresh processes.

Claim: the peak of 40,000 is at most 1.05 times that of fewer: memory does not grow with the number of images. Linux
only.

Images are drawn PNG files of 64 x 64 pixels, taken at 64 pixels; the engine is the one that is installed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from memory import watched
from paired import arguments, tell
from PIL import Image

TARGET = 1.05
TIMES = 3  # of the smaller counts: what making the session takes varies
COUNTS, QUICK = (1_000, 10_000, 40_000), (200, 1_000)


def write_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        place = folder / str(i % 10)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64)).save(place / f"{i:05d}.png")


def child(folder: str, limit: int) -> None:
    """Record the features of so many images while a thread watches; print the peak."""
    import convscope

    with watched() as peak:
        found = convscope.features(folder, image_size=64, limit=limit)
    assert found.extraction.computed >= 0.99 * limit
    print(json.dumps({"peak": peak[0], "engine": found.extraction.engine, "seconds": found.extraction.seconds}))


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]))
        return
    options = arguments(__doc__)
    counts = QUICK if options.quick else COUNTS
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", counts[-1])
        # The first one makes the engine, which takes memory of its own, and is not counted.
        order = [counts[0]] + [c for c in counts for _ in range(1 if c == counts[-1] else TIMES)]
        for count in order:
            environment = os.environ | {"CONVSCOPE_CACHE": f"{folder}/cache"}
            for path in Path(folder).glob("cache/features/*/*.safetensors"):
                path.unlink()
            command = [sys.executable, __file__, "child", f"{folder}/images", str(count)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            runs.append(json.loads(done.stdout) | {"count": count})
    every = {count: [run["peak"] / 1e9 for run in runs[1:] if run["count"] == count] for count in counts}
    peaks = [statistics.median(values) for values in every.values()]
    growth = peaks[-1] / min(peaks)
    result = {
        "ratio": growth,
        "low": min(peaks),
        "high": max(peaks),
        "ours": growth,
        "peer": None,
        "unit": "the peak of the most images over the smallest; low and high in GB",
        "better": "lower",
        "target": TARGET,
        "images": list(counts),
        "peaks_gb": every,
        "engine": runs[-1]["engine"],
        "seconds": [run["seconds"] for run in runs[1:]],
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
