"""Predict with the ONNX file beside this script. It needs NumPy, Pillow and onnxruntime, and nothing else.

    python NAME.predict.py IMAGE...       the answer to each image; a mask is written beside it as IMAGE.mask.png
    python NAME.predict.py --check          only compare the sealed images

The file holds class names, preprocessing and the logits of 16 generated images, which are compared at every start.
The exit code is 1 where they differ, and 65 where an image cannot be read.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    import onnxruntime

HERE = Path(__file__)
MODEL = HERE.with_name(HERE.name.removesuffix(".predict.py") + ".onnx")
BACKGROUND, BORDER = (255, 255, 255), (128, 128, 128)  # behind transparent pixels; around a padded image
UNSEALED = "0" * 64  # stands where the hash of the file stands, while the hash is taken
BITS, COLOURS = 258, 262  # tags of a TIFF
ORIENTATION = 0x0112  # of EXIF
HOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def open_model(path: Path) -> tuple[onnxruntime.InferenceSession, dict]:
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
        found = sealed_part(np.asarray(session.run(None, {"images": seal_images(about["preprocess"]["size"])})[0]))
        difference = np.abs(found - np.array(about["seal"]["logits"])).max()
        same = difference <= about["seal"]["tolerance"] and len(about["classes"]) == found.shape[1]
    except Exception as error:  # onnxruntime has errors of many kinds
        sys.exit(f"{path.name} cannot be opened: {one_line(error)}")
    if not same:
        sys.exit(f"{path.name} is not what was exported: its classes, or the sealed images by {difference:.2g}.")
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


def sealed_part(outputs: np.ndarray) -> np.ndarray:
    """What of outputs is sealed: all, or of maps (N, K, S, S) 16 of their rows and columns."""
    if outputs.ndim != 4:
        return outputs
    step = max(1, outputs.shape[-1] // 16)
    return outputs[:, :, step // 2 :: step, step // 2 :: step]


def read(path: str, preprocess: dict) -> tuple[np.ndarray, tuple[int, int]]:
    """An image as the network takes it, uint8 (size, size, 3), upright and fitted; and its own width and height."""
    size, centre = preprocess["size"], preprocess["centre"]
    with Image.open(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) >= 5
        whole = image.size[::-1] if turned else image.size
        least = 2 * int(np.ceil(size / centre))
        image.draft(None, (least, least))  # a large JPEG is decoded smaller, which is faster
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":  # grey of more than 8 bits
            image = Image.fromarray(eight_bits(np.asarray(image), tags, preprocess["stretch"]))
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.new("RGB", image.size, BACKGROUND)
            image.paste(layer, mask=layer.getchannel("A"))
        image = image.convert("RGB")
    if preprocess["stretch"]:
        image = Image.fromarray(stretched(np.asarray(image)))
    if centre < 1:
        side = max(1, round(centre * min(image.size)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(fitted(image, size, preprocess["fit"], HOW[preprocess["interpolation"]])), whole


def stretched(values: np.ndarray) -> np.ndarray:
    """The darkest value as 0 and the brightest as 255; one value alone as it is, in 8 bits."""
    low, high = int(values.min()), int(values.max())
    if low == high:
        return values
    return np.rint((values.astype(np.float64) - low) * (255.0 / (high - low))).astype(np.uint8)


def eight_bits(values: np.ndarray, tags, stretch: bool) -> np.ndarray:
    """Grey pixels of 12 or 16 bits as uint8; ValueError for others."""
    white = 4095 if tags.get(BITS) == (12,) else 65535
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > white:
        raise ValueError("its grey pixels are neither of 8 nor of 16 bits")
    if stretch and values.min() < values.max():
        grey = stretched(values)
    else:
        grey = ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    return 255 - grey if tags.get(COLOURS) == 0 else grey  # 0: white is zero


def fitted(image: Image.Image, size: int, fit: str, how: Image.Resampling) -> Image.Image:
    """An image as a square of ``size`` pixels: its middle (crop), the whole with a border (pad), or squashed."""
    if image.size == (size, size):
        return image
    if fit == "squash":
        return image.resize((size, size), how)
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.resize((size, size), how, box=(left, top, left + side, top + side))
    longest = max(image.size)
    width, height = (max(1, (2 * side * size + longest) // (2 * longest)) for side in image.size)
    canvas = Image.new("RGB", (size, size), BORDER)
    canvas.paste(image.resize((width, height), how), ((size - width) // 2, (size - height) // 2))
    return canvas


def answer(session: onnxruntime.InferenceSession, about: dict, path: str, top: int) -> dict:
    """The answer to an image, as its task has it, or why it cannot be read."""
    try:
        pixels, whole = read(path, about["preprocess"])
    except Exception as error:  # decoders raise whatever comes to them
        return {"path": path, "error": one_line(error)}
    logits = np.asarray(session.run(None, {"images": pixels[None]})[0])[0].astype(np.float64)
    task = about.get("task", "classification")
    if task == "regression":
        return number(path, float(logits[0]), about["settings"].get("half_width"))
    if task == "multi_label":
        return labels(path, 1 / (1 + np.exp(-logits)), about)
    if task == "segmentation":
        return mask(path, logits, about, whole)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    best = np.argsort(-probabilities, kind="stable")[:top]
    return {"path": path, "top": [{"label": about["classes"][i], "probability": probabilities[i]} for i in best]}


def number(path: str, value: float, half: float | None) -> dict:
    """A number, and the interval that holds the truth nine times in ten, where one is known."""
    low, high = (None, None) if half is None else (value - half, value + half)
    return {"path": path, "value": value, "low": low, "high": high}


def labels(path: str, probabilities: np.ndarray, about: dict) -> dict:
    """The labels whose probability reaches their threshold, and all with their probabilities."""
    names, thresholds = about["classes"], about["settings"]["thresholds"]
    said = [n for n, p, t in zip(names, probabilities, thresholds, strict=True) if p >= t]
    order = np.argsort(-probabilities, kind="stable")
    top = [{"label": names[i], "probability": float(probabilities[i])} for i in order]
    return {"path": path, "labels": said, "top": top}


def mask(path: str, logits: np.ndarray, about: dict, whole: tuple[int, int]) -> dict:
    """The class of each pixel, written beside the image as a PNG of class numbers; and each class's share."""
    side, (width, height) = logits.shape[-1], whole
    if about["preprocess"]["fit"] == "pad":
        longest = max(whole)
        wide, high = (max(1, (2 * s * side + longest) // (2 * longest)) for s in whole)
        left, top = (side - wide) // 2, (side - high) // 2
        logits = logits[:, top : top + high, left : left + wide]
    scaled = enlarged(enlarged(logits, height, 1), width, 2)
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
    second = np.minimum(first + 1, before - 1)
    return np.take(values, first, axis) * (1 - share) + np.take(values, second, axis) * share


def words(row: dict) -> str:
    """An answer on one line."""
    if "value" in row:
        band = "" if row["low"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
        return f"{row['value']:.4g}{band}"
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
    if asked.check or not asked.images:
        print(f"{MODEL.name} answers the sealed images as when it was exported.")
        return 0
    rows = [answer(session, about, path, asked.top) for path in asked.images]
    if asked.json:
        print(json.dumps(rows))
        return 65 if any("error" in row for row in rows) else 0
    for row in rows:
        print(shown(f"{row['path']}: {'cannot be read: ' + row['error'] if 'error' in row else words(row)}"))
    return 65 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
