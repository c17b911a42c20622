"""A mask for each image from a pretrained network. Usage: python examples/05_segment.py [RUNS]"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import convscope


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    # Images of a disc before noise, and in a folder beside them their masks: 255 where the disc is, else 0.
    data, random = f"{tempfile.mkdtemp()}/discs", np.random.default_rng(0)
    for kind in ("images", "masks"):
        os.makedirs(f"{data}/{kind}")
    for k in range(60):
        x, y, radius, *colour = random.integers([20, 20, 8, 60, 60, 60], [70, 60, 20, 200, 200, 200]).tolist()
        mask = Image.new("L", (96, 80))
        ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        image = Image.fromarray(random.integers(0, 120, (80, 96, 3), dtype=np.uint8))
        image.paste(tuple(colour), mask=mask)
        image.save(f"{data}/images/{k}.png")
        mask.save(f"{data}/masks/{k}.png")

    # What is asked is told from the folders. Heads are trained on recorded maps of features, and the best is kept.
    found = convscope.transfer(data, image_size=64, engine="torch", runs=runs)
    print(found.sentence())
    print("test: IoU", found.summary["iou"], found.summary["low"], found.summary["high"])
    # The classes of an image's pixels are an array; on disk, numbers in a PNG, and colours over the image.
    answer = convscope.predict(found.folder, f"{data}/images/0.png", masks_to=found.folder / "masks")[0]
    assert isinstance(answer, convscope.Mask)
    print("mask:", answer.mask.shape, answer.words(), *answer.files)


if __name__ == "__main__":
    main()
