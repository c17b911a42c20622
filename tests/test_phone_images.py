"""Images as phones and the web write them: AVIF by Pillow itself, HEIC by what is installed beside."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.registry import load_dataset
from convscope.errors import ImageError
from convscope.images.decoding import decode, examined
from convscope.images.file_names import is_image_name
from planted_folders import pattern


def encoded(image: Image.Image, kind: str, exif: bytes | None = None) -> bytes:
    file = io.BytesIO()
    extra = {} if exif is None else {"exif": exif}
    if kind == "HEIC":
        pytest.importorskip("pillow_heif").from_pillow(image).save(file, quality=95, **extra)
    else:
        image.save(file, kind, quality=95, **extra)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_pixels_are_those_that_were_saved(kind: str) -> None:
    image = pattern(3, 64)
    found = decode(encoded(image, kind))
    assert (found.size, found.mode) == ((64, 64), "RGB")
    assert np.abs(np.asarray(found).astype(int) - np.asarray(image)).mean() < 8


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_the_orientation_is_applied_once(kind: str) -> None:
    image = pattern(4, 96).resize((96, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(encoded(image, kind, exif.tobytes()))
    turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert found.size == (48, 96)
    assert np.abs(np.asarray(found).astype(int) - turned).mean() < 8


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_is_cut_or_broken_is_said(kind: str, share: float) -> None:
    whole = encoded(pattern(5, 64), kind)
    with pytest.raises(ImageError):
        decode(whole[: int(share * len(whole))])
    rotten = bytearray(whole)
    rotten[40:160] = bytes(120)
    with pytest.raises(ImageError):
        decode(bytes(rotten))


def test_a_large_one_is_refused_from_its_header() -> None:
    whole = encoded(Image.new("RGB", (8000, 4000)), "AVIF")
    with pytest.raises(ImageError, match=r"8000 x 4000 AVIF takes .* MB to decode"):
        decode(whole)


def test_the_header_is_told(tmp_path: Path) -> None:
    with examined(encoded(pattern(6, 48), "AVIF")) as (header, image):
        assert (header.format, header.width, image.size) == ("AVIF", 48, (48, 48))


def test_without_its_reader_heic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.images.decoding.reads_heic", lambda: False)
    with pytest.raises(ImageError, match=r"pip install 'convscope\[heic\]'"):
        decode(b"\0\0\0\x18ftypheic" + bytes(30))


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_a_folder_of_them_is_a_dataset(kind: str, tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / ("ants", "bees")[i % 2] / f"{i}.{kind.lower()}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(pattern(i), kind))
        assert is_image_name(path.name)
    data = load_dataset(tmp_path, image_size=32)
    assert len(data) == 12
    assert data.images[0].std() > 5
