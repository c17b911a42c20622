"""Images whose every number is known, written byte by byte: the pixels that come out are those that the format says."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from convscope.errors import ImageError
from convscope.exporting import predict_onnx
from convscope.images.decoding import decode, has_frames, read_header, stored_values
from convscope.images.places import InMemory, OnDisk
from convscope.images.preprocess import Preprocess
from convscope.inspection.survey import look_at
from torture.synthetic_images import KINDS, exif, image, images, raw_profile, saved, waves
from torture.written_images import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    bmp,
    bmp_in_runs,
    chunk,
    png,
    tiff,
)

COLOURS = np.random.default_rng(5).integers(0, 256, (256, 3), np.uint8)


def shown(raw: bytes) -> np.ndarray:
    return np.asarray(decode(raw)).astype(int)


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colours * (alpha / 255) + 255 * (1 - alpha / 255)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_every_depth(bits: int, interlaced: bool) -> None:
    values = waves(1, 1, 2**bits - 1)[..., 0]
    expected = np.rint(values * 255.0 / (2**bits - 1))
    assert len(np.unique(values)) > min(2**bits, 99) // 2
    assert np.array_equal(shown(png(values, GREY, bits, interlaced=interlaced)), np.repeat(expected[..., None], 3, 2))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_every_depth_with_their_transparency(bits: int, interlaced: bool) -> None:
    values, alphas = waves(2, 1, 2**bits - 1)[..., 0], np.linspace(0, 255, 2**bits).astype(np.uint8)
    table = chunk(b"PLTE", COLOURS[: 2**bits].tobytes())
    assert np.array_equal(shown(png(values, PALETTE, bits, more=table, interlaced=interlaced)), COLOURS[values])
    clear = shown(png(values, PALETTE, bits, more=table + chunk(b"tRNS", alphas.tobytes()), interlaced=interlaced))
    assert np.abs(clear - over_white(COLOURS[values], alphas[values][..., None])).max() <= 1


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [RGB, RGB_ALPHA, GREY_ALPHA])
def test_colours_of_both_depths_have_their_upper_eight_bits(kind: int, bits: int, interlaced: bool) -> None:
    values = waves(3, {RGB: 3, RGB_ALPHA: 4, GREY_ALPHA: 2}[kind], 2**bits - 1)
    upper = (values >> (bits - 8)).astype(int)
    expected = upper if kind == RGB else over_white(upper[..., :-1], upper[..., -1:])
    found = shown(png(values, kind, bits, interlaced=interlaced))
    assert np.abs(found - np.broadcast_to(expected, found.shape)).max() <= (0 if kind == RGB else 1)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmps_with_a_palette(bits: int) -> None:
    values, table = waves(4, 1, 2**bits - 1)[..., 0], COLOURS[: 2**bits]
    assert np.array_equal(shown(bmp(values, bits, palette=table)), table[values])
    if bits > 1:
        assert np.array_equal(shown(bmp_in_runs(values, bits, table)), table[values])


@pytest.mark.parametrize("green", [5, 6])
def test_bmps_of_16_bits(green: int) -> None:
    values = np.random.default_rng(6).integers(0, 1 << (10 + green), (19, 23)).astype(np.uint16)
    red, middle, blue = values >> (5 + green), (values >> 5) & ((1 << green) - 1), values & 31
    expected = np.stack([red * 255 / 31, middle * 255 / ((1 << green) - 1), blue * 255 / 31], 2)
    raw = bmp(values, 16, masks=(0xF800, 0x7E0, 0x1F) if green == 6 else ())
    assert np.abs(shown(raw) - expected).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("layout", [{}, {"tile": 16}, {"tile": 64}, {"planes": True}])
def test_tiffs_in_strips_tiles_and_planes(layout: dict, deflated: bool, order: str) -> None:
    values = waves(7)
    assert np.array_equal(shown(tiff(values, order=order, deflated=deflated, **layout)), values)
    if "planes" not in layout:
        deep = waves(7, 1, 65535)[..., 0]
        found = shown(tiff(deep, order=order, deflated=deflated, **layout))
        assert np.array_equal(found[..., 0], np.rint(deep / 257))


def test_inks_kept_as_brightness_and_colours() -> None:
    raw = images("JPEG")["JPEG", "YCCK"]
    expected = waves(7) * (255.0 - np.asarray(image(8, "L"))[..., None]) / 255
    assert read_header(raw).mode == "CMYK"
    assert np.abs(shown(raw) - expected).mean() < 4


def test_a_colour_profile_changes_no_pixel() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})):
        plain = shown(saved(image(9), kind, **options))
        assert np.array_equal(shown(saved(image(9), kind, icc_profile=lab, **options)), plain)


def turned(orientation: int) -> dict[str, bytes]:
    """A file of each format that says this orientation, in each place where one is said."""
    block, held = exif(orientation), Image.fromarray(waves(10))
    plain = saved(held, "PNG")
    xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)

    def behind(more: bytes) -> bytes:
        return plain[:-12] + more + plain[-12:]

    found = {
        "PNG": saved(held, "PNG", exif=block),
        "PNG, behind its pixels": behind(chunk(b"eXIf", block[6:])),
        "PNG, in a text": png(waves(10), RGB, 8, more=raw_profile(block)),
        "PNG, in a text behind its pixels": behind(raw_profile(block, b"tEXt")),
        "PNG, in XMP": png(waves(10), RGB, 8, more=text),
        "PNG, in XMP behind its pixels": behind(text),
        "animated PNG, behind its frames": _animated(chunk(b"eXIf", block[6:])),
        "WEBP": saved(held, "WEBP", lossless=True, exif=block),
    }
    for name, options in {
        "strips": {},
        "tiles": {"tile": 16},
        "deflated tiles": {"tile": 16, "deflated": True},
    }.items():
        found[f"TIFF in {name}"] = tiff(waves(10), more=((274, 3, orientation),), **options)
    return found


def _animated(more: bytes) -> bytes:
    whole = saved(Image.fromarray(waves(10)), "PNG", save_all=True, append_images=[image(11)])
    return whole[:-12] + more + whole[-12:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_way_of_reading_knows_the_orientation_wherever_it_is_said(orientation: int, tmp_path: Path) -> None:
    rows, columns = waves(10), waves(10).transpose(1, 0, 2)
    upright = {
        1: rows,
        2: rows[:, ::-1],
        3: rows[::-1, ::-1],
        4: rows[::-1],
        5: columns,
        6: columns[:, ::-1],
        7: columns[::-1, ::-1],
        8: columns[::-1],
    }[orientation]
    for name, raw in turned(orientation).items():
        path = tmp_path / "image"
        path.write_bytes(raw)
        for source in (path, raw):
            header = read_header(source)
            assert np.array_equal(np.asarray(decode(source)), upright), name
            assert header.orientation == orientation, name
            assert header.upright_size == (upright.shape[1], upright.shape[0]), name
            assert (header.width, header.height) == (rows.shape[1], rows.shape[0]), name
        assert Preprocess(size=9).fit_sized(raw)[1] == header.upright_size, name
        row, _ = look_at(raw, len(raw), name)
        assert row[3:5] == header.upright_size, name
        assert np.array_equal(np.asarray(stored_values(raw)[1]), rows), name


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_exported_script_sees_what_we_see(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "image"
    for name, raw in turned(orientation).items():
        path.write_bytes(raw)
        found, whole = predict_onnx.opened(str(path))
        if "animated" not in name:  # Pillow reads its EXIF with its last frame
            assert whole == decode(raw).size, name
            assert np.array_equal(np.asarray(found), shown(raw)), name
    unread = ("floats", "floats, deflated", "whole numbers of 32 bits", "PFM")  # as docs/export.md says
    for (kind, name), raw in images(*KINDS.keys() - {"HEIC"}).items():
        path.write_bytes(raw)
        if name not in unread:
            found, whole = predict_onnx.opened(str(path))
            assert whole == decode(raw).size, (kind, name)
            assert np.array_equal(np.asarray(found), shown(raw)), (kind, name)


def test_a_damaged_text_costs_the_header_no_more_than_the_pixels() -> None:
    raw = bytearray(png(waves(12), RGB, 8, more=chunk(b"tEXt", b"Title\0waves")))
    raw[raw.index(b"waves")] ^= 1
    with Image.open(io.BytesIO(png(waves(12), RGB, 8))) as whole:
        assert read_header(bytes(raw)).upright_size == whole.size
        assert np.array_equal(shown(bytes(raw)), np.asarray(whole))


def test_a_text_that_unpacks_to_too_much_is_refused_alike_wherever_it_stands() -> None:
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 23)))
    plain = saved(image(13), "PNG")
    for raw in (plain[:33] + bomb + plain[33:], plain[:-12] + bomb + plain[-12:]):
        with pytest.raises(ImageError) as by_pixels:
            decode(raw)
        with pytest.raises(ImageError) as by_header:
            read_header(raw)
        assert by_pixels.value.reason == by_header.value.reason


@pytest.mark.parametrize("place", [1 << 33, 1 << 45, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_file_whose_places_are_beyond_any_file(place: int, tmp_path: Path) -> None:
    raw = b"II+\0\x08\0\0\0" + struct.pack("<Q", place)
    (tmp_path / "image").write_bytes(raw)
    reasons = set()
    for source in (raw, tmp_path / "image"):
        assert has_frames(source) is False
        with pytest.raises(ImageError) as caught:
            decode(source)
        assert not caught.value.passing
        reasons.add(caught.value.reason)
    assert len(reasons) == 1


@pytest.mark.parametrize("place", [-9, -1, 0, 3, 8, 9, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 70])
@pytest.mark.parametrize("whence", [os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
def test_a_place_is_the_same_on_disk_and_in_memory(place: int, whence: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345678")
    found = []
    with OnDisk(open(tmp_path / "file", "rb", buffering=0)) as disk, InMemory(b"12345678") as memory:
        for file in (disk, memory):
            file.seek(4)
            try:
                found.append((file.seek(place, whence), file.tell(), file.read()))
            except ValueError as error:
                found.append(str(error))
    assert found[0] == found[1]
    assert isinstance(found[0], str) == (place + {os.SEEK_SET: 0, os.SEEK_CUR: 4, os.SEEK_END: 8}[whence] < 0)


@pytest.mark.parametrize("samples", [5, 127, 60_000])
def test_nothing_of_pillows_log_reaches_standard_error(
    samples: int, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a program that has set up no logging
    raw = tiff(waves(14, 1)[..., 0], more=((277, 3, samples),))
    with pytest.raises(ImageError):
        decode(raw)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_that_the_attack_starts_from_is_read(kind: str) -> None:
    if kind == "HEIC":
        pytest.importorskip("pillow_heif")
    for (_, name), raw in images(kind).items():
        header, found = read_header(raw), decode(raw)
        assert header.format == kind, name
        assert header.upright_size == found.size, name
        assert np.asarray(found).std() > 20, name
