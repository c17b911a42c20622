"""Boxes around objects from a pretrained network. Usage: python examples/06_detect.py [RUNS]"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import convscope


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    # Images of discs before noise, and where these are as YOLO has it: class, middle, width, height, in parts of sides.
    data, random = tempfile.mkdtemp(), np.random.default_rng(0)
    with open(f"{data}/classes.txt", "w") as file:
        file.write("blue\nyellow\n")
    for k in range(120):
        image, lines = Image.fromarray(random.integers(90, 150, (120, 160, 3), dtype=np.uint8)), []
        for left in (0, 54, 108):
            x, y, side, kind = random.integers([left, 0, 20, 0], [left + 10, 70, 42, 2]).tolist()
            ImageDraw.Draw(image).ellipse((x, y, x + side, y + side), fill=[(30, 40, 150), (235, 220, 60)][kind])
            lines.append(f"{kind} {(x + side / 2) / 160} {(y + side / 2) / 120} {side / 160} {side / 120}")
        image.save(f"{data}/{k}.png")
        with open(f"{data}/{k}.txt", "w") as file:
            file.write("\n".join(lines))

    # What is asked is told from the folder. A head is trained on recorded maps of features.
    found = convscope.transfer(data, image_size=160, engine="torch", runs=runs)
    print(found.sentence())
    print("test: AP50", found.summary["ap50"], found.summary["low"], found.summary["high"])
    # The boxes of an image in its own pixels; on disk, drawn and as other tools read them.
    answer = convscope.predict(found.folder, f"{data}/0.png", boxes_to=found.folder / "boxes")[0]
    assert isinstance(answer, convscope.BoxAnswer)
    print("boxes:", answer.words(), answer.boxes[0], *answer.files)


if __name__ == "__main__":
    main()
