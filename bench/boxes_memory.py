"""Peak anonymous memory of a whole transfer to boxes, for 200 and for 2,000 images, in fresh processes.

Claim: the peak of 2,000 is at most 1.05 times that of 200: neither maps, boxes nor scores are held in memory. Linux
only. Images are drawn PNG files with one to three discs and YOLO's text beside each, taken at 128 pixels; everything is
asked for: reading, recording, the head, the learning curve, validation and test images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from masks_memory import COUNTS, QUICK, SIDE, TARGET, UNIT, child, peaks_of
from paired import arguments, tell
from PIL import Image, ImageDraw


def write_boxes(folder: Path, count: int) -> None:
    """Images with discs before noise, and their boxes."""
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("dark\nbright\n")
    random = np.random.default_rng(0)
    for i in range(count):
        noise = random.integers(60, 160, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
        image, lines = Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BILINEAR), []
        for left in range(0, SIDE - 50, 55)[: int(random.integers(1, 4))]:
            x, y, side, kind = random.integers([left, 0, 20, 0], [left + 8, 100, 44, 2]).tolist()
            ImageDraw.Draw(image).ellipse((x, y, x + side, y + side), fill=(240, 230, 80) if kind else (20, 30, 90))
            lines.append(f"{kind} {(x + side / 2) / SIDE} {(y + side / 2) / SIDE} {side / SIDE} {side / SIDE}\n")
        image.save(folder / f"{i:05d}.png")
        (folder / f"{i:05d}.txt").write_text("".join(lines))


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], "ap50")
        return
    options = arguments(__doc__)
    runs = peaks_of(write_boxes, __file__, "ap50", QUICK if options.quick else COUNTS)
    low, high = (run["peak"] / 1e9 for run in runs)
    result = {
        "ratio": high / low, "low": low, "high": high, "ours": high, "peer": None, "unit": UNIT, "better": "lower",
        "target": TARGET, "runs": runs,
    }  # fmt: skip
    tell(result, options.json)


if __name__ == "__main__":
    main()
