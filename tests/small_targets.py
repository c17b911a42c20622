"""A folder of discs before noise with what may be asked of them: masks, boxes, and tables of labels and of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def discs(root: Path, count: int = 60) -> Path:
    """``images`` and ``masks``, ``tags.csv`` of several labels, ``sizes.csv`` of numbers, ``boxes.json`` as of COCO.

    Returns the folder.
    """
    random = np.random.default_rng(0)
    tags, sizes, boxes = ["path,label"], ["path,radius"], []
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for k in range(count):
        x, y, radius, *colour = random.integers([20, 20, 8, 60, 60, 60], [70, 60, 20, 200, 200, 200]).tolist()
        mask = Image.new("L", (96, 80))
        ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        image = Image.fromarray(random.integers(0, 120, (80, 96, 3), dtype=np.uint8))
        image.paste(tuple(colour), mask=mask)
        image.save(root / "images" / f"{k}.png")
        mask.save(root / "masks" / f"{k}.png")
        said = [name for name, true in (("red", colour[0] > 130), ("large", radius > 13), ("left", x < 45)) if true]
        tags.append(f"images/{k}.png,{'|'.join(said)}")
        sizes.append(f"images/{k}.png,{radius + 0.5}")
        side = 2 * radius + 1
        box = {"bbox": [x - radius, y - radius, side, side], "area": side**2, "iscrowd": 0}
        boxes.append({"id": k + 1, "image_id": k, "category_id": int(radius > 13), **box})
    (root / "tags.csv").write_text("\n".join(tags) + "\n", encoding="utf-8")
    (root / "sizes.csv").write_text("\n".join(sizes) + "\n", encoding="utf-8")
    images = [{"id": k, "file_name": f"images/{k}.png", "width": 96, "height": 80} for k in range(count)]
    kinds = [{"id": 0, "name": "small"}, {"id": 1, "name": "large"}]
    told = {"images": images, "annotations": boxes, "categories": kinds}
    (root / "boxes.json").write_text(json.dumps(told), encoding="utf-8")
    return root
