"""A folder of scenes with boxes that a small network can learn in seconds: bright squares and dark discs on noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

KINDS = ("disc", "square")
PARTS = {"train": 64, "val": 20, "test": 12}


def scenes(root: Path, seed: int = 0) -> Path:
    """COCO's form: folders train, valid, test with images of 160 x 120 pixels, one to four objects in each."""
    random = np.random.default_rng(seed)
    for part, count in PARTS.items():
        folder = root / ("valid" if part == "val" else part)
        folder.mkdir(parents=True)
        images, annotations = [], []
        for i in range(count):
            image, boxes = scene(random)
            image.save(folder / f"{part} {i}.png")
            images.append({"id": i, "file_name": f"{part} {i}.png", "width": image.width, "height": image.height})
            for kind, left, top, side in boxes:
                annotations.append({
                    "id": len(annotations), "image_id": i, "category_id": KINDS.index(kind),
                    "bbox": [left, top, side, side], "area": side * side, "iscrowd": 0,
                })  # fmt: skip
        categories = [{"id": k, "name": name} for k, name in enumerate(KINDS)]
        told = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "_annotations.coco.json").write_text(json.dumps(told), encoding="utf-8")
    return root


def scene(random: np.random.Generator) -> tuple[Image.Image, list[tuple[str, int, int, int]]]:
    """An image and its objects: kind, left, top, side in pixels; none lies on another."""
    image = Image.fromarray(random.integers(90, 150, (120, 160, 3), dtype=np.uint8))
    taken: list[tuple[str, int, int, int]] = []
    for _ in range(int(random.integers(1, 5))):
        side = int(random.integers(18, 44))
        left, top = int(random.integers(0, 160 - side)), int(random.integers(0, 120 - side))
        if any(abs(left - x) < max(side, s) and abs(top - y) < max(side, s) for _, x, y, s in taken):
            continue
        kind = KINDS[int(random.integers(2))]
        draw = ImageDraw.Draw(image).rectangle if kind == "square" else ImageDraw.Draw(image).ellipse
        draw((left, top, left + side - 1, top + side - 1), fill=(235, 220, 60) if kind == "square" else (30, 40, 150))
        taken.append((kind, left, top, side))
    return image, taken
