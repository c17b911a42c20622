"""Predict with the ONNX file beside this script. It needs NumPy, Pillow and onnxruntime, and nothing else.

    python NAME.predict.py IMAGE...       the answer to each image; a mask is written beside it as IMAGE.mask.png
    python NAME.predict.py --tile IMAGE...  boxes of large images: seen whole, and by overlapping parts in full size
    python NAME.predict.py --check          only compare the sealed images

At every start it compares its own hash and 16 answers. Exit code: 1 where they differ, 65 for an unreadable image.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__)
MODEL = HERE.with_name(HERE.name.removesuffix(".predict.py") + ".onnx")
BACKGROUND, BORDER = (255, 255, 255), (128, 128, 128)  # behind transparent pixels; around a padded image
UNSEALED = "0" * 64  # stands where the hash of the file stands, while the hash is taken
ORIENTATION, BITS, COLOURS = 0x0112, 258, 262  # tags of EXIF, and of a TIFF
LEAST, CANDIDATES, MOST = 0.05, 1000, 300  # score below which nothing is a box; boxes that are compared, and kept
OVERLAP, SEAM, LAP = 0.6, 2.0, 0.25  # of two boxes that are one; px from a border that cuts them; part that 2 tiles see
EDGES = ("left", "top", "right", "bottom")
EIGHT = {"L;2": lambda v: 85 * v, "L;4": lambda v: 17 * v, "RGB;16B": lambda v: tuple(c >> 8 for c in v)}
HOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def open_model(path: Path) -> tuple[Any, dict]:
    """The session and its description; ends the program where either is not what was exported."""
    data = read_whole(path)
    try:
        import onnxruntime  # here, for convscope itself takes the sealed images from this file, and may have none
    except ImportError as error:
        sys.exit(f"onnxruntime cannot be imported ({one_line(error)}): pip install onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says is in its error
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        about = json.loads(session.get_modelmeta().custom_metadata_map["convscope"])
        size = about["preprocess"]["size"]
        found = sealed_part(np.asarray(session.run(None, {"images": seal_images(size)})[0]), size)
        difference = np.abs(found - np.array(about["seal"]["logits"])).max()
        told = found.shape[2] - 4 if found.ndim == 3 else found.shape[1]
        same = difference <= about["seal"]["tolerance"] and len(about["classes"]) == told
    except Exception as error:  # onnxruntime has errors of many kinds
        sys.exit(f"{path.name} cannot be opened: {one_line(error)}")
    if not same:
        sys.exit(f"{path.name} is not what was exported: its classes, or the sealed images by {difference:.2g}.")
    if about.get("script") not in (None, hashlib.sha256(HERE.read_bytes().replace(b"\r\n", b"\n")).hexdigest()):
        sys.exit(f"{HERE.name} is not what was exported: if you changed it, delete this line and the one above it.")
    return session, about


def read_whole(path: Path) -> bytes:
    """The bytes of the model; ends the program where one is not what was exported."""
    try:
        data = path.read_bytes()
    except OSError as error:
        sys.exit(f"{path.name} cannot be opened: {error.strerror}")
    seals = re.findall(rb"convscope_sha256\x12@([0-9a-f]{64})", data)
    if len(seals) != 1:
        sys.exit(f"{path.name} cannot be opened: it is no model that convscope exported, or it was altered.")
    if hashlib.sha256(data.replace(seals[0], UNSEALED.encode())).hexdigest() != seals[0].decode():
        sys.exit(f"{path.name} is not what was exported: a byte of it was altered.")
    return data


def one_line(error: Exception) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def shown(text: str) -> str:
    """A name with what cannot be printed written out: bytes that are no text, line feeds, escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def seal_images(size: int) -> np.ndarray:
    """The generated images, uint8 (16, size, size, 3): ramps, checkerboards, blends and noise."""
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.int64) for n in (size, size, 3)), indexing="ij")
    images = []
    for n in range(4):
        ramp = (x * (n + 1) + y * (4 - n) + 60 * c) * 255 // (8 * size)
        checks = ((x >> (n + 1)) + (y >> (n + 1)) + c) % 2 * 255
        noise = ((x * 73856093) ^ (y * 19349663) ^ ((c + 3 * n + 1) * 83492791)) * 2654435761 % 2**32 >> 24
        images += [ramp % 256, checks, (ramp % 256 + noise) // 2, noise]
    return np.stack(images).astype(np.uint8)


def sealed_part(outputs: np.ndarray, size: int) -> np.ndarray:
    """What of outputs is sealed: all, of maps (N, K, S, S) 16 rows and columns, of boxes (N, L, K + 4) 64 or more."""
    if outputs.ndim == 3:
        step = max(1, outputs.shape[1] // 64)
        sides = np.array([1.0] * (outputs.shape[2] - 4) + [size] * 4)
        return outputs[:, step // 2 :: step] / sides  # corners as parts of the network's square
    step = max(1, outputs.shape[-1] // 16)
    return outputs[:, :, step // 2 :: step, step // 2 :: step] if outputs.ndim == 4 else outputs


def opened(path: str, least: int | None = None, stretch: bool = False) -> tuple[Image.Image, tuple[int, int]]:
    """An upright image in RGB, and its own width and height; a JPEG may come smaller, its sides ``least`` or more."""
    with Image.open(path) as image:
        clear = image.info.get("transparency")
        if image.format == "PNG" and clear is not None:  # Pillow brings its pixels to 8 bits, and not this colour
            image.info["transparency"] = EIGHT.get(str(image.tile[0][3]), lambda v: v)(clear)
        turned = image.getexif().get(ORIENTATION, 1) >= 5 and image.format != "TIFF"  # whose size is turned already
        whole = image.size[::-1] if turned else image.size
        if least:
            image.draft(None, (least, least))  # which is faster
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":  # grey of more than 8 bits
            image = Image.fromarray(eight_bits(np.asarray(image), tags, stretch, clear))
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.new("RGB", image.size, BACKGROUND)
            image.paste(layer, mask=layer.getchannel("A"))
        image = image.convert("RGB")
    return Image.fromarray(stretched(np.asarray(image))) if stretch else image, whole


def read(path: str, preprocess: dict) -> tuple[np.ndarray, tuple[int, int]]:
    """An image as the network takes it, uint8 (size, size, 3), upright and fitted; and its own width and height."""
    image, whole = opened(path, 2 * int(np.ceil(preprocess["size"] / preprocess["centre"])), preprocess["stretch"])
    return seen(image, preprocess), whole


def seen(image: Image.Image, preprocess: dict) -> np.ndarray:
    """An image in RGB as the network takes it: its middle (crop), the whole with a border (pad), or squashed."""
    size, fit, how = preprocess["size"], preprocess["fit"], HOW[preprocess["interpolation"]]
    if fit == "crop":
        side = max(1, round(preprocess["centre"] * min(image.size)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        if preprocess["centre"] < 1:
            image, left, top = image.crop((left, top, left + side, top + side)), 0, 0
        return np.asarray(image.resize((size, size), how, box=(left, top, left + side, top + side)))
    left, top, width, height = place_of(image.size, size, fit)
    canvas = Image.new("RGB", (size, size), BORDER)
    canvas.paste(image.resize((width, height), how), (left, top))
    return np.asarray(canvas)


def stretched(values: np.ndarray) -> np.ndarray:
    """The darkest value as 0 and the brightest as 255; one value alone as it is, in 8 bits."""
    low, span = int(values.min()), int(values.max()) - int(values.min())
    return np.rint((values.astype(np.float64) - low) * (255.0 / span)).astype(np.uint8) if span else values


def eight_bits(values: np.ndarray, tags, stretch: bool, clear: Any) -> np.ndarray:
    """Grey pixels of 12 or 16 bits as uint8, with what is ``clear`` as white; ValueError for others."""
    white = 4095 if tags.get(BITS) == (12,) else 65535
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > white:
        raise ValueError("its grey pixels are neither of 8 nor of 16 bits")
    spread = stretch and values.min() < values.max()
    grey = stretched(values) if spread else ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    grey = 255 - grey if tags.get(COLOURS) == 0 else grey  # 0: white is zero
    return np.where(values == clear, np.uint8(BACKGROUND[0]), grey) if isinstance(clear, int) else grey


def place_of(whole: tuple[int, int], size: int, fit: str) -> tuple[int, int, int, int]:
    """Where an image lies in its square, padded or squashed: left, top, width and height."""
    if fit != "pad":
        return 0, 0, size, size
    longest = max(whole)
    width, height = (max(1, (2 * side * size + longest) // (2 * longest)) for side in whole)
    return (size - width) // 2, (size - height) // 2, width, height


def answer(session: Any, about: dict, path: str, top: int, tile: bool = False) -> dict:
    """The answer to an image, as its task has it, or why it cannot be read."""
    task, names, settings = about.get("task"), about["classes"], about.get("settings", {})
    try:
        if task == "detection":
            return boxes(session, about, path, tile)
        pixels, whole = read(path, about["preprocess"])
    except Exception as error:  # decoders raise whatever comes to them
        return {"path": path, "error": one_line(error)}
    logits = np.asarray(session.run(None, {"images": pixels[None]})[0])[0].astype(np.float64)
    if task == "segmentation":
        return mask(path, logits, about, whole)
    if task == "regression":
        value, half = float(logits[0]), settings.get("half_width")  # of an interval that holds the truth 9 times in 10
        low, high = (None, None) if half is None else (value - half, value + half)
        return {"path": path, "value": value, "low": low, "high": high}
    shares = np.exp(logits - logits.max())
    p = 1 / (1 + np.exp(-logits)) if task == "multi_label" else shares / shares.sum()
    ranked = [{"label": names[i], "probability": float(p[i])} for i in np.argsort(-p, kind="stable")]
    if task == "multi_label":
        said = [name for name, q, least in zip(names, p, settings["thresholds"], strict=True) if q >= least]
        return {"path": path, "labels": said, "top": ranked}
    return {"path": path, "top": ranked[:top]}


def mask(path: str, logits: np.ndarray, about: dict, whole: tuple[int, int]) -> dict:
    """The class of each pixel, written beside the image as a PNG of class numbers; and each class's share."""
    left, top, wide, high = place_of(whole, logits.shape[-1], about["preprocess"]["fit"])
    scaled = enlarged(enlarged(logits[:, top : top + high, left : left + wide], whole[1], 1), whole[0], 2)
    found = scaled.argmax(0).astype(np.uint8)
    written = Path(path).with_name(Path(path).name + ".mask.png")
    Image.fromarray(found).save(written)
    shares = np.bincount(found.ravel(), minlength=len(about["classes"])) / found.size
    told = [{"name": n, "share": float(s)} for n, s in zip(about["classes"], shares, strict=True)]
    return {"path": path, "mask": str(written), "classes": told}


def enlarged(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Values at another length along an axis, linearly between the centres of their places."""
    before = values.shape[axis]
    place = np.clip((np.arange(size) + 0.5) * before / size - 0.5, 0, before - 1)
    first = np.floor(place).astype(int)
    share = (place - first).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return np.take(values, first, axis) * (1 - share) + np.take(values, np.minimum(first + 1, before - 1), axis) * share


def boxes(session: Any, about: dict, path: str, tile: bool) -> dict:
    """The boxes whose score reaches the threshold, best first, in pixels of the upright image."""
    preprocess, names = about["preprocess"], about["classes"]
    image, whole = opened(path, stretch=about["preprocess"]["stretch"]) if tile else (None, (0, 0))
    if image and max(whole) > preprocess["size"]:
        found = by_tiles(session, image, preprocess)
    else:
        pixels, whole = read(path, preprocess)
        found = back(look(session, pixels), whole, preprocess)
    found = found[(found[:, 2:4] > found[:, :2]).all(1)]  # padding falls away
    rows = found[found[:, 5] >= about["settings"]["threshold"]].tolist()
    told = [{"label": names[int(k)], "score": p, **dict(zip(EDGES, edges, strict=True))} for *edges, k, p in rows]
    return {"path": path, "width": whole[0], "height": whole[1], "boxes": told}


def look(session: Any, pixels: np.ndarray) -> np.ndarray:
    """The boxes in the network's square, best first: rows (n, 6) of corners, class and score."""
    told = session.run(None, {"images": pixels[None]})[0][0]
    if not np.isfinite(told).all():
        raise ValueError("the network's outputs for it are no numbers")
    scores, corners = told[:, :-4], told[:, -4:]
    best = np.argsort(-scores, axis=None, kind="stable")[:CANDIDATES]
    place, label = np.divmod(best[scores.ravel()[best] > LEAST], scores.shape[1])
    rows = np.column_stack([corners[place], label, scores[place, label]])
    return rows[distinct(corners[place], label, np.zeros((len(rows), 2)))[:MOST]]


def distinct(corners: np.ndarray, labels: np.ndarray, looks: np.ndarray) -> list[int]:
    """The rows that are not one box with an earlier one: ``looks`` says if a border cuts it, and in which look."""
    corners = corners + labels[:, None].astype(corners.dtype) * (corners.max(initial=0) + 1)  # classes never meet
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    kept, left = [], np.arange(len(corners))
    while len(left):
        first, left = left[0], left[1:]
        kept.append(int(first))
        low, high = np.maximum(corners[first], corners[left]), np.minimum(corners[first], corners[left])
        both = np.prod((high[:, 2:] - low[:, :2]).clip(0), 1)
        with np.errstate(invalid="ignore"):  # of boxes without an area
            overlap = (both / (areas[first] + areas[left] - both)).astype(np.float64)
            within = both / np.minimum(areas[first], areas[left]) > OVERLAP
        within &= (looks[left, 0] > 0) & (looks[left, 1] != looks[first, 1])
        left = left[~((overlap > OVERLAP) | within)]
    return kept


def back(rows: np.ndarray, whole: tuple[int, int], preprocess: dict) -> np.ndarray:
    """Rows of boxes in the network's square with corners in pixels of the image, cut off at its edges."""
    left, top, width, height = place_of(whole, preprocess["size"], preprocess["fit"])
    scale = np.array([width / whole[0], height / whole[1]] * 2)
    corners = np.clip((rows[:, :4] - [left, top, left, top]) / scale, 0, [*whole, *whole])
    return np.column_stack([corners, rows[:, 4:]])


def by_tiles(session: Any, image: Image.Image, preprocess: dict) -> np.ndarray:
    """The boxes of a large image, seen whole and by tiles; of those that are one, the uncut and surer."""
    side, (width, height) = preprocess["size"], image.size
    pixels = np.full((max(height, side), max(width, side), 3), BORDER, np.uint8)
    pixels[:height, :width] = np.asarray(image)
    rows = back(look(session, seen(image, preprocess)), image.size, preprocess)
    looks = [np.column_stack([rows, np.zeros((len(rows), 2))])]  # with whether a border cuts them, and which look it is
    tops, lefts = (starts(length, side) for length in pixels.shape[:2])
    for left, top in ((left, top) for top in tops for left in lefts):
        rows = look(session, pixels[top : top + side, left : left + side])
        borders = np.array([left, top, left + side, top + side])
        rows[:, :4] += borders[[0, 1, 0, 1]]
        inner = [left > 0, top > 0, left + side < width, top + side < height]
        cut = ((np.abs(rows[:, :4] - borders) < SEAM) & inner).any(1)
        rows[:, :4] = np.minimum(rows[:, :4], [width, height, width, height])
        looks.append(np.column_stack([rows, cut, np.full(len(rows), len(looks))]))
    found = np.concatenate(looks)
    found = found[np.lexsort((-found[:, 5], found[:, 6]))]
    found = found[distinct(found[:, :4], found[:, 4], found[:, 6:])]
    return found[np.argsort(-found[:, 5], kind="stable"), :6]


def starts(length: int, side: int) -> list[int]:
    """Where tiles begin, so that they cover a length and overlap."""
    count = 1 + max(0, -(-(length - side) // max(1, int(side * (1 - LAP)))))
    return sorted({round(i * (length - side) / max(1, count - 1)) for i in range(count)})


def words(row: dict) -> str:
    """An answer on one line."""
    if "boxes" in row:
        counts = sorted(Counter(box["label"] for box in row["boxes"]).items(), key=lambda pair: (-pair[1], pair[0]))
        return ", ".join(f"{count} {name}" for name, count in counts) or "no box"
    if "value" in row:
        return f"{row['value']:.4g}" + ("" if row["low"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]")
    if "labels" in row:
        return ", ".join(row["labels"]) or "none of the labels"
    if "mask" in row:
        shares = ", ".join(f"{c['name']} {100 * c['share']:.1f} %" for c in row["classes"] if c["share"] > 0)
        return f"{shares}; {row['mask']}"
    return ", ".join(f"{t['label']} {100 * t['probability']:.1f} %" for t in row["top"])


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Predict with {MODEL.name}.")
    parser.add_argument("images", nargs="*", metavar="IMAGE")
    parser.add_argument("--top", type=int, default=5, help="how many answers an image")
    parser.add_argument("--tile", action="store_true", help="boxes in large images, by overlapping parts too")
    parser.add_argument("--check", action="store_true", help="only compare the sealed images")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    asked = parser.parse_args()
    if asked.top < 1:
        parser.error("--top must be 1 or more")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of a name that this terminal's characters cannot spell
    warnings.filterwarnings("ignore", module="PIL")  # what matters of them is an error too
    session, about = open_model(MODEL)
    if asked.tile and about.get("task") != "detection":
        parser.error(f"tiles are for boxes, and {MODEL.name} finds none")
    if asked.check or not asked.images:
        print(f"{MODEL.name} answers the sealed images as when it was exported.")
        return 0
    rows = [answer(session, about, path, asked.top, asked.tile) for path in asked.images]
    told = [f"{row['path']}: {'cannot be read: ' + row['error'] if 'error' in row else words(row)}" for row in rows]
    print(json.dumps(rows) if asked.json else "\n".join(map(shown, told)))
    return 65 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
