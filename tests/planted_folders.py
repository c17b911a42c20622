"""Folders of images, clean ones and ones with a planted fault of each kind, and what the doctor should call it.

Images are smooth random patterns, each unlike all others, in three classes that differ in nothing but their patterns.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

CLASSES = ("ants", "bees", "wasps")
SIDE = 48
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def pattern(seed: int, side: int = SIDE) -> Image.Image:
    """A smooth random image, unlike that of any other seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
    coarse[0, 0], coarse[6, 6] = 0, 255
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def clean(root: Path, seed: int = 0, each: int = 25, classes: tuple[str, ...] = CLASSES, end: str = "png") -> Path:
    """One folder a class, with nothing wrong in it."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pattern(seed * 100_000 + number * 1000 + i).save(root / name / f"{name}{i:03}.{end}")
    return root


def grown_copy(earlier: tuple[Path, Path], place: Path) -> Path:
    """Copies of a folder and its runs in ``place``: 5 ants more, a bee gone, a new class; returns the folder."""
    for old, name in zip(earlier, ("data", "runs"), strict=True):
        shutil.copytree(old, place / name)
    for i in range(5):
        pattern(777_000 + i).save(place / "data" / "ants" / f"more{i}.png")
    (place / "data" / "bees" / "bees000.png").unlink()
    return clean(place / "data", seed=9, classes=("moths",), each=12)


def in_parts(root: Path, seed: int = 0, each: int = 25) -> Path:
    """The same with train and test folders above."""
    clean(root / "train", seed, each)
    clean(root / "test", seed + 50, each)
    return root


# ------------------------------------------------------------------------------- each plants one fault in a folder


def _first(root: Path, count: int = 1, name: str = "ants") -> list[Path]:
    return sorted((root / name).glob("*.png"))[:count]


def truncated(root: Path) -> None:
    for path in _first(root, 3):
        path.write_bytes(path.read_bytes()[:-200])


def empty_file(root: Path) -> None:
    _first(root)[0].write_bytes(b"")


def lfs_pointer(root: Path) -> None:
    for path in _first(root, 2):
        path.write_bytes(LFS)


def web_page(root: Path) -> None:
    _first(root)[0].rename(root / "ants" / "page.jpg")
    (root / "ants" / "page.jpg").write_bytes(b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>")


def wrong_ending(root: Path) -> None:
    for path in _first(root, 3):
        path.rename(path.with_suffix(".jpg"))


def appledouble(root: Path) -> None:
    (root / "ants" / "._ants000.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._x.png").write_bytes(b"\0\5\x16\7")


def upload_leftover(root: Path) -> None:
    (root / "ants" / "ants999.png.part").write_bytes(b"half")


def stray_image(root: Path) -> None:
    pattern(77).save(root / "lost.png")


def link_outside(root: Path) -> None:
    outside = root.parent / f"{root.name}-elsewhere"
    clean(outside, 9, 1, ("ants",))
    os.symlink(outside / "ants" / "ants000.png", root / "ants" / "linked.png")


def broken_link(root: Path) -> None:
    os.symlink(root / "nowhere.png", root / "bees" / "gone.png")


def pipe(root: Path) -> None:
    os.mkfifo(root / "ants" / "pipe.png")


def heic(root: Path) -> None:
    (root / "ants" / "phone.psd").write_bytes(b"8BPS" + bytes(40))


def rotated_by_exif(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in _first(root, 4):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()


def transparent(root: Path) -> None:
    for path in _first(root, 4):
        image = Image.open(path).convert("RGBA")
        image.putalpha(128)
        image.save(path)


def deep(root: Path) -> None:
    for path in _first(root, 4):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path)


def animated(root: Path) -> None:
    frames = [pattern(800 + i) for i in range(3)]
    frames[0].save(root / "ants" / "moving.gif", save_all=True, append_images=frames[1:])


def grey_images(root: Path) -> None:
    for path in _first(root, 10):
        Image.open(path).convert("L").save(path)


def blank_image(root: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), (255, 0, 0)).save(root / "ants" / "nothing.png")


def masks_beside(root: Path) -> None:
    for name in CLASSES:
        for path in sorted((root / name).glob("*.png")):
            mask = Image.open(path).convert("L").point(lambda v: 255 * (v > 128))
            (root / f"{name}_masks").mkdir(exist_ok=True)
            mask.save(root / f"{name}_masks" / f"{path.stem}_mask.png")


def masks_within(root: Path) -> None:
    for path in _first(root, 25):
        Image.open(path).convert("L").point(lambda v: 255 * (v > 128)).save(path.with_name(f"{path.stem}_mask.png"))


def annotations(root: Path) -> None:
    for path in _first(root, 5):
        path.with_suffix(".xml").write_text("<annotation><object/></annotation>")


def masks_in_colour(root: Path) -> None:
    """Photographs, and for each an outline in three colours, as a data set of street scenes has them."""
    shutil.rmtree(root)
    for i in range(12):
        for folder, image in (
            ("frames", pattern(i)),
            ("SegmentationClass", pattern(700 + i).quantize(3).convert("RGB")),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image.save(root / folder / f"{i:03}.png")


def labels_of_boxes(root: Path) -> None:
    """One folder of images and one of text files, as a detector is trained on: KITTI's, which are not read."""
    shutil.rmtree(root)
    for i in range(12):
        for folder in ("images", "labels"):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
        pattern(i).save(root / "images" / "train" / f"{i:03}.png")
        (root / "labels" / "train" / f"{i:03}.txt").write_text(
            "Car 0.0 0 1.85 10.0 10.0 30.0 20.0 1.7 1.9 3.7 1.0 1.5 9.0 1.57\n"
        )


def boxes_in_one_file(root: Path) -> None:
    (root / "_annotations.coco.json").write_text("{}")


def folders_in_classes(root: Path) -> None:
    for name in CLASSES:
        for i, path in enumerate(sorted((root / name).glob("*.png"))):
            (root / name / f"{name} {i % 2}").mkdir(exist_ok=True)
            path.rename(root / name / f"{name} {i % 2}" / path.name)


def one_image_a_class(root: Path) -> None:
    for name in CLASSES:
        for path in sorted((root / name).glob("*.png"))[1:]:
            path.unlink()


def unseen_sign(root: Path) -> None:
    (root / "an\u200bts").mkdir()
    for path in _first(root, 12):
        path.rename(root / "an\u200bts" / path.name)


def trailing_blank(root: Path) -> None:
    (root / "train" / "ants ").mkdir()
    for path in _first(root / "train", 8):
        path.rename(root / "train" / "ants " / path.name)


def other_case(root: Path) -> None:
    (root / "test" / "ants").rename(root / "test" / "Ants")


def other_unicode(root: Path) -> None:
    for part, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        clean(root / part, 60 + len(name), 12, (name,))


def class_missing_from_test(root: Path) -> None:
    shutil.rmtree(root / "test" / "wasps")


def unbalanced(root: Path) -> None:
    for path in _first(root, 24):
        path.unlink()


def classes_in_names(root: Path) -> None:
    (root / "all").mkdir()
    for name in CLASSES:
        for i, path in enumerate(sorted((root / name).glob("*.png"))):
            path.rename(root / "all" / f"{name}.{i}.png")
        (root / name).rmdir()


def groups_as_classes(root: Path) -> None:
    for name in CLASSES:
        shutil.rmtree(root / name)
    clean(root, 5, 6, tuple(f"patient_{i:03}" for i in range(12)))


def exact_copies(root: Path) -> None:
    for path in _first(root, 4):
        shutil.copy(path, path.with_name(f"copy_{path.name}"))


def exact_across_parts(root: Path) -> None:
    for path in _first(root / "train", 4):
        shutil.copy(path, root / "test" / "ants" / f"again_{path.name}")


def exact_across_labels(root: Path) -> None:
    for path in _first(root, 3):
        shutil.copy(path, root / "bees" / path.name)


def _near(root: Path, change: Callable[[Image.Image], Image.Image], end: str = "png", count: int = 6) -> None:
    for path in _first(root, count):
        change(Image.open(path)).save(path.with_name(f"near_{path.stem}.{end}"))


def saved_again(root: Path) -> None:
    _near(root, lambda image: image, "jpg")


def resized(root: Path) -> None:
    _near(root, lambda image: image.resize((31, 31)))


def flipped(root: Path) -> None:
    _near(root, ImageOps.mirror)


def turned(root: Path) -> None:
    _near(root, lambda image: image.rotate(90))


def bordered(root: Path) -> None:
    _near(root, lambda image: ImageOps.expand(image, 6, (255, 255, 255)))


def brighter_copy(root: Path) -> None:
    _near(root, lambda image: ImageEnhance.Brightness(image).enhance(1.2))


def near_across_parts(root: Path) -> None:
    for path in _first(root / "train", 6):
        Image.open(path).save(root / "test" / "ants" / f"{path.stem}.jpg", quality=80)


def near_across_labels(root: Path) -> None:
    for path in _first(root, 6):
        Image.open(path).save(root / "bees" / f"{path.stem}.jpg", quality=80)


def frames_of_videos(root: Path) -> None:
    for number, name in enumerate(CLASSES):
        for video in range(2):
            start, end = pattern(9000 + 10 * number + video), pattern(9500 + 10 * number + video)
            for frame in range(15):
                Image.blend(start, end, frame * 0.02).save(root / name / f"{name}clip{video}_{frame:03}.png")
    for path in (p for name in CLASSES for p in sorted((root / name).glob("*.png"))):
        if "clip" not in path.stem:
            path.unlink()


def one_class_as_jpeg(root: Path) -> None:
    for path in _first(root, 99):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()


def one_class_larger(root: Path) -> None:
    for path in _first(root, 99):
        Image.open(path).resize((64, 64)).save(path)


def one_class_brighter(root: Path, name: str = "ants") -> None:
    for path in _first(root, 99, name):
        bright = np.minimum(np.asarray(Image.open(path)).astype(int) + 10, 255).astype(np.uint8)
        Image.fromarray(bright).save(path)


# Each fault with what it is called, and whether the folder has parts.
FAULTS: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "truncated": (truncated, "unreadable", False),
    "empty-file": (empty_file, "unreadable", False),
    "lfs-pointer": (lfs_pointer, "unreadable", False),
    "web-page": (web_page, "unreadable", False),
    "wrong-ending": (wrong_ending, "wrong-ending", False),
    "appledouble": (appledouble, "appledouble", False),
    "upload-leftover": (upload_leftover, "unfinished", False),
    "stray-image": (stray_image, "strays", False),
    "link-outside": (link_outside, "links-outside", False),
    "broken-link": (broken_link, "links-broken", False),
    "pipe": (pipe, "special", False),
    "unread-kind": (heic, "unread", False),
    "orientation": (rotated_by_exif, "orientation", False),
    "alpha": (transparent, "alpha", False),
    "deep": (deep, "deep", False),
    "frames": (animated, "frames", False),
    "grey": (grey_images, "modes", False),
    "blank": (blank_image, "blank", False),
    "masks-beside": (masks_beside, "masks", False),
    "masks-within": (masks_within, "masks", False),
    "masks-in-colour": (masks_in_colour, "masks", False),
    "labels-of-boxes": (labels_of_boxes, "annotations", False),
    "boxes-in-one-file": (boxes_in_one_file, "annotations", False),
    "folders-in-classes": (folders_in_classes, "folders-in-classes", False),
    "one-image-a-class": (one_image_a_class, "refused", False),
    "unseen-sign": (unseen_sign, "names-alike", False),
    "annotations": (annotations, "annotations", False),
    "trailing-blank": (trailing_blank, "names-alike", True),
    "other-case": (other_case, "names-alike", True),
    "other-unicode": (other_unicode, "names-alike", True),
    "missing-from-test": (class_missing_from_test, "missing-class", True),
    "unbalanced": (unbalanced, "balance", False),
    "classes-in-names": (classes_in_names, "classes-in-names", False),
    "groups-as-classes": (groups_as_classes, "groups-as-classes", False),
    "exact-copies": (exact_copies, "copies", False),
    "exact-across-parts": (exact_across_parts, "exact-copies-across-parts", True),
    "exact-across-labels": (exact_across_labels, "exact-copies-across-labels", False),
    "saved-again": (saved_again, "near-copies", False),
    "resized": (resized, "near-copies", False),
    "flipped": (flipped, "near-copies", False),
    "turned": (turned, "near-copies", False),
    "bordered": (bordered, "near-copies", False),
    "brighter-copy": (brighter_copy, "near-copies", False),
    "near-across-parts": (near_across_parts, "near-copies-across-parts", True),
    "near-across-labels": (near_across_labels, "near-copies-across-labels", False),
    "frames-of-videos": (frames_of_videos, "frames-of-video", False),
    "one-class-as-jpeg": (one_class_as_jpeg, "shortcut", False),
    "one-class-larger": (one_class_larger, "shortcut", False),
    "one-class-brighter": (one_class_brighter, "shortcut", False),
}
