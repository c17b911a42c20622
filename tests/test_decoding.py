"""What `decoding` promises: any image comes out right, anything else comes out as a ImageError."""

import contextlib
import csv
import errno
import io
import os
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from convscope.errors import ImageError
from convscope.images import decoding
from convscope.images.decoding import EXTENSIONS, decode
from convscope.images.preprocess import Preprocess

BROKEN = Path(__file__).parents[2] / "shared" / "data" / "broken"
INVERSE = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's number of the turn that EXIF undoes


def noise(width=24, height=16, seed=0, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def blocks(width=40, height=24, seed=0):
    """Flat 8 x 8 blocks, which a JPEG keeps the same whichever way the image is turned."""
    return np.kron(noise(width // 8, height // 8, seed), np.ones((8, 8, 1), np.uint8))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source, **options):
    image = decode(source, **options)
    assert image.mode == "RGB"
    assert not image.info
    return np.asarray(image)


def over_white(rgba):
    colour, alpha = rgba[..., :3].astype(float), rgba[..., 3:].astype(float) / 255
    return colour * alpha + 255 * (1 - alpha)


def refused(source):
    with pytest.raises(ImageError) as caught:
        decode(source)
    assert caught.value.exit_code == 65
    return caught.value.reason


def same_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


# --- what a file is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", decoding._READERS)
def test_every_format_is_told_by_its_content(kind, tmp_path):
    exactly = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    exactly["AVIF"] = {"quality": 100, "subsampling": "4:4:4"}
    options = exactly.get(kind, {})
    image = Image.fromarray(blocks())
    path = tmp_path / "wrong.name.txt"
    path.write_bytes(encoded(image, kind, **options))
    expected = np.asarray(image.quantize(256).convert("RGB")) if kind == "GIF" else np.asarray(image)
    tolerance = {"JPEG": 3, "AVIF": 3}.get(kind, 0)
    assert np.abs(pixels(path).astype(int) - expected).max() <= tolerance
    assert np.array_equal(pixels(path), pixels(path.read_bytes()))


def test_extensions_are_lower_case_endings():
    assert all(e.startswith(".") and e == e.lower() for e in EXTENSIONS)
    assert {".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".ppm"} <= EXTENSIONS


def test_an_mpo_is_its_first_image():
    first, second = (Image.fromarray(blocks(seed=s)) for s in (1, 2))
    raw = encoded(first, "MPO", save_all=True, append_images=[second], quality=95, subsampling=0)
    with Image.open(io.BytesIO(raw)) as opened:
        assert opened.format == "MPO"
    assert np.abs(pixels(raw).astype(int) - np.asarray(first)).max() <= 3


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "empty file"),
        (b"\x89", "not an image"),
        (b"just some words", "not an image"),
        (b"<p>sorry", "not an image"),
        (b"<html>", "a web page"),
        (b"\xef\xbb\xbf\n<!-- x --> <!DOCTYPE HTML PUBLIC>", "a web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "format EPS is not allowed"),
        (b"%PDF-1.7", "format PDF is not allowed"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "format SVG is not allowed"),
        (b"\0\0\1\0\1\0", "format ICO is not allowed"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff", "corrupt: its header tells no size"),
    ],
)
def test_what_is_no_image_says_why(head, reason, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(head)
    assert refused(path).startswith(reason)
    assert refused(head).startswith(reason)


def test_errors_name_the_image(tmp_path):
    with pytest.raises(ImageError, match=r"^image: empty file$"):
        decode(b"")
    with pytest.raises(ImageError, match=r"^third upload: empty file$"):
        decode(b"", where="third upload")
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / "absent.png")
    assert caught.value.where == str(tmp_path / "absent.png")


def test_what_is_no_regular_file_is_refused_unopened(tmp_path, monkeypatch):
    assert refused(tmp_path) == "not a file"
    assert refused(Path(os.devnull)) == "not a file"
    assert refused(tmp_path / "absent") == "does not exist"
    (tmp_path / "file").write_bytes(b"x")
    assert refused(tmp_path / "file" / "within") == "does not exist"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refused(tmp_path / "loop").startswith("cannot be opened: ")
    assert refused(Path("nul\0byte")).startswith("cannot be opened: ")

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decoding, "open", forbidden, raising=False)
    assert refused(tmp_path / "file") == "cannot be opened: permission denied"


def test_a_fifo_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    reasons = []
    thread = threading.Thread(target=lambda: reasons.append(refused(tmp_path / "fifo.png")), daemon=True)
    thread.start()
    thread.join(5)
    assert reasons == ["not a file"]


# --- modes ------------------------------------------------------------------------------------------------------------


def test_grey_and_bilevel():
    grey = noise(channels=1)
    assert np.array_equal(pixels(encoded(Image.fromarray(grey), "PNG")), same_rgb(grey))
    bilevel = np.where(grey > 127, 255, 0).astype(np.uint8)
    assert np.array_equal(pixels(encoded(Image.fromarray(bilevel).convert("1"), "PNG")), same_rgb(bilevel))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_lies_on_the_background_and_hides_colours(kind):
    rgba = noise(channels=4)
    rgba[:4, :, 3], rgba[4:8, :, 3] = 0, 255
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    shown = pixels(encoded(Image.fromarray(rgba), kind, **options))
    assert (shown[:4] == decoding.BACKGROUND).all()
    assert np.array_equal(shown[4:8], rgba[4:8, :, :3])
    assert np.abs(shown - over_white(rgba)).max() <= 1
    other = rgba.copy()
    other[:4, :, :3] ^= 255
    assert np.array_equal(shown, pixels(encoded(Image.fromarray(other), kind, **options)))


def test_grey_with_alpha():
    both = noise(channels=2)
    rgba = np.concatenate([np.repeat(both[..., :1], 3, axis=2), both[..., 1:]], axis=2)
    assert np.abs(pixels(encoded(Image.fromarray(both, "LA"), "PNG")) - over_white(rgba)).max() <= 1


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA"])
def test_modes_that_few_files_hold(mode):
    rgba = noise(channels=4)
    rgba[:4, :, 3] = 0
    full = Image.fromarray(rgba)
    image = {
        "La": lambda: full.convert("LA").convert("La"),
        "RGBa": lambda: full.convert("RGBa"),
        "PA": lambda: full.convert("PA"),
    }[mode]()
    assert image.mode == mode
    shown = np.asarray(decoding.upright_rgb(image))
    straight = image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
    assert (shown[:4] == 255).all()
    assert np.abs(shown - over_white(np.asarray(straight))).max() <= 1


def test_palettes():
    palette_image = Image.fromarray(blocks()).quantize(16)
    assert np.array_equal(pixels(encoded(palette_image, "PNG")), np.asarray(palette_image.convert("RGB")))
    index = np.asarray(palette_image)
    colours = np.asarray(palette_image.convert("RGB"))
    one = pixels(encoded(palette_image, "PNG", transparency=int(index[0, 0])))
    assert np.array_equal(one, np.where((index == index[0, 0])[..., None], 255, colours))
    table = bytes(range(0, 256, 16))
    alpha = np.frombuffer(table, np.uint8)[index]
    each = pixels(encoded(palette_image, "PNG", transparency=table))
    assert np.abs(each - over_white(np.dstack([colours, alpha]))).max() <= 1
    gif = pixels(encoded(palette_image, "GIF", transparency=int(index[0, 0])))
    assert np.array_equal(gif, one)


def test_a_transparent_colour_of_grey_and_rgb():
    grey, rgb = noise(channels=1), noise()
    shown = pixels(encoded(Image.fromarray(grey), "PNG", transparency=int(grey[3, 3])))
    assert np.array_equal(shown, same_rgb(np.where(grey == grey[3, 3], 255, grey)))
    shown = pixels(encoded(Image.fromarray(rgb), "PNG", transparency=tuple(rgb[3, 3].tolist())))
    hidden = (rgb == rgb[3, 3]).all(axis=2, keepdims=True)
    assert hidden.any()
    assert np.array_equal(shown, np.where(hidden, 255, rgb))


def test_cmyk_of_both_polarities():
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    cyan, black = np.meshgrid(ramp, ramp)
    inks = np.kron(np.dstack([cyan, 255 - cyan, cyan // 2, black // 2]), np.ones((8, 8, 1), np.uint8))
    image = Image.fromarray(inks, "CMYK")
    expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    inverted = encoded(image, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in inverted
    assert np.abs(pixels(encoded(image, "TIFF")) - expected).max() <= 2
    assert np.abs(pixels(inverted) - expected).max() <= 4


def test_other_colour_spaces():
    image = Image.fromarray(blocks())
    for mode, tolerance in (("YCbCr", 3), ("HSV", 8), ("LAB", 16)):
        if mode == "LAB":
            ImageCms = pytest.importorskip("PIL.ImageCms")
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
        else:
            converted = image.convert(mode)
        assert converted.mode == mode
        shown = np.asarray(decoding.upright_rgb(converted))
        assert np.abs(shown.astype(int) - np.asarray(image)).max() <= tolerance
        if mode != "HSV":
            assert np.array_equal(pixels(encoded(converted, "TIFF")), shown)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_256_levels(kind):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    shown = pixels(encoded(Image.fromarray(ramp), kind))
    assert np.array_equal(shown, same_rgb(np.rint(ramp / 257).astype(np.uint8)))
    assert len(np.unique(shown)) == 256


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N", "I"])
def test_deep_integer_modes(mode):
    ramp = np.arange(65536).reshape(256, 256)
    layout = {"I;16B": ">u2", "I;16N": "=u2", "I": "<i4"}.get(mode, "<u2")
    image = Image.frombytes(mode, (256, 256), ramp.astype(layout).tobytes())
    assert np.array_equal(np.asarray(decoding.upright_rgb(image))[..., 1], np.rint(ramp / 257))


def test_wide_integers_and_floats_are_scaled_not_clipped():
    wide = np.linspace(-1_000_000, 2_000_000_000, 64 * 64).reshape(64, 64).astype(np.int32)
    shown = pixels(encoded(Image.fromarray(wide), "TIFF"))[..., 0].astype(float)
    low, high = float(wide.min()), float(wide.max())
    assert np.abs(shown - (wide - low) / (high - low) * 255).max() <= 0.5001
    unit = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    assert np.abs(pixels(encoded(Image.fromarray(unit), "TIFF"))[..., 0] - unit * 255.0).max() <= 0.5001
    far = unit * 2e38 - 1e38
    far[0, :3] = np.nan, np.inf, -np.inf
    shown = pixels(encoded(Image.fromarray(far), "TIFF"))[..., 0]
    assert shown[0, :3].tolist() == [0, 0, 0]
    assert (shown.min(), shown.max()) == (0, 255)
    for constant in (np.full((4, 4), 7.5, np.float32), np.full((4, 4), np.nan, np.float32), np.full((4, 4), -9)):
        constant = constant.astype(np.int32) if constant.dtype == np.int64 else constant
        assert (pixels(encoded(Image.fromarray(constant), "TIFF")) == 0).all()


# --- orientation, frames, scaled decoding -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_each_orientation_gives_the_same_pixels(kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    base = Image.fromarray(blocks())
    shown = []
    for orientation, turn in INVERSE.items():
        stored = base if turn is None else base.transpose(Image.Transpose(turn))
        exif = Image.Exif()
        exif[0x0112] = orientation
        raw = encoded(stored, kind, exif=exif, **options)
        image = decode(raw)
        shown.append(np.asarray(image))
        assert np.array_equal(np.asarray(decoding.upright_rgb(image)), shown[-1])
        with Image.open(io.BytesIO(raw)) as opened:
            assert np.array_equal(Preprocess(size=16).fit_image(opened), Preprocess(size=16).fit_image(raw))
    assert all(np.array_equal(shown[0], other) for other in shown)
    assert np.abs(shown[0].astype(int) - np.asarray(base)).max() <= (3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0", b"x" * 60_000])
def test_a_corrupt_exif_block_leaves_the_image_as_it_stands(exif):
    image = Image.fromarray(blocks())
    plain = pixels(encoded(image, "JPEG", quality=95))
    assert np.array_equal(pixels(encoded(image, "JPEG", quality=95, exif=exif)), plain)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame(kind):
    frames = [Image.fromarray(blocks(seed=s)).quantize(64).convert("RGB") for s in range(4)]
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(pixels(raw), np.asarray(frames[0]))


def test_a_large_jpeg_is_decoded_smaller_and_always_the_same():
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    raw = encoded(Image.fromarray(np.dstack([np.tile(ramp, (600, 1))] * 3)), "JPEG", quality=95)
    assert decode(raw).size == (800, 600)
    assert decode(raw, at_least=32).size == (100, 75)
    assert decode(raw, at_least=75).size == (200, 150)
    assert decode(raw, at_least=400).size == (800, 600)
    assert decode(raw, at_least=5000).size == (800, 600)
    assert np.array_equal(pixels(raw, at_least=32), pixels(raw, at_least=32))
    small, full = Preprocess(size=32).fit_image(raw), Preprocess(size=32).fit_image(decode(raw))
    assert np.abs(small.astype(int) - full).max() <= 3


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged_bases():
    smooth = Image.fromarray(np.dstack([np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)] * 3))
    rough = Image.fromarray(noise(64, 48))
    return {
        "JPEG": encoded(rough, "JPEG"),
        "progressive JPEG": encoded(rough, "JPEG", progressive=True),
        "PNG": encoded(rough, "PNG"),
        "palette PNG": encoded(smooth.quantize(32), "PNG", transparency=3),
        "GIF": encoded(rough, "GIF"),
        "WEBP": encoded(rough, "WEBP"),
        "lossless WEBP": encoded(rough.convert("RGBA"), "WEBP", lossless=True),
        "BMP": encoded(rough, "BMP"),
        "TIFF": encoded(rough, "TIFF"),
        "deflated TIFF": encoded(rough, "TIFF", compression="tiff_adobe_deflate"),
        "PPM": encoded(rough, "PPM"),
        "PFM": encoded(smooth.convert("F"), "PPM"),
    }


BASES = damaged_bases()


@pytest.mark.parametrize("name", BASES)
def test_a_truncated_file_is_never_shown_in_part(name):
    raw = BASES[name]
    whole = pixels(raw)
    cuts = sorted({*range(min(64, len(raw))), *np.linspace(0, len(raw) - 1, 120).astype(int).tolist()})
    refusals = []
    for cut in cuts:
        try:
            assert np.array_equal(pixels(raw[:cut]), whole), f"{name} cut at {cut} of {len(raw)} decodes in part"
        except ImageError as error:
            refusals.append(error.reason)
    assert len(refusals) >= 0.9 * len(cuts)
    assert "truncated" in refusals
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("name", BASES)
def test_a_corrupt_file_is_an_image_or_an_image_error(name):
    random, reasons = np.random.default_rng(7), []
    for _ in range(40):
        mutant = bytearray(BASES[name])
        reach = len(mutant) if random.random() < 0.5 else min(len(mutant), 200)
        for place in random.integers(0, reach, random.integers(1, 12)):
            mutant[place] = random.integers(0, 256)
        try:
            assert pixels(bytes(mutant)).shape[2] == 3
        except ImageError as error:
            reasons.append(error.reason)
    assert reasons or name in ("BMP", "PPM", "PFM")  # formats without any check
    assert all(reason.isprintable() and len(reason) < 120 for reason in reasons)


def test_a_wrong_checksum_is_noticed():
    raw = bytearray(BASES["PNG"])
    end = raw.rindex(b"IEND") - 4
    raw[end - 1] ^= 1  # the last byte of the checksum of the last pixels
    assert refused(bytes(raw)).startswith("corrupt: ")


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bilevel_png(width, height):
    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8) * 1000
    body = b"".join(packer.compress(row) for _ in range(height // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_gigapixel_image_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bilevel_png(30_000, 30_000))
    resource = pytest.importorskip("resource")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert refused(path) == "too large: 30000 x 30000 is over 50 million pixels"
    assert time.perf_counter() - started < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
    assert refused(bilevel_png(10_000, 9_000)) == "too large: 10000 x 9000 is over 50 million pixels"


def test_a_gigapixel_webp_and_gif_are_refused_too():
    exif = Image.Exif()
    exif[0x0112] = 1
    webp = bytearray(encoded(Image.new("RGBA", (4, 4)), "WEBP", lossless=True, exif=exif))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (16382).to_bytes(3, "little") * 2
    assert refused(bytes(webp)).startswith("too large: ")
    gif = bytearray(encoded(Image.new("P", (4, 4)), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    assert refused(bytes(gif)) == "too large: 65535 x 65535 is over 50 million pixels"


def test_threads_do_not_disturb_each_other():
    names = [*BASES] * 6
    expected = {name: pixels(raw) for name, raw in BASES.items()}
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda name: pixels(BASES[name]), names))
    assert all(np.array_equal(image, expected[name]) for name, image in zip(names, shown, strict=True))


# --- what is printed, and who is to blame -----------------------------------------------------------------------------


def test_nothing_of_libtiff_reaches_standard_error(capfd):
    broken = bytearray(encoded(Image.fromarray(noise(64, 64, channels=1)).convert("1"), "TIFF", compression="group4"))
    start = int.from_bytes(broken[4:8], "little")
    for place in range(16, start if start > 400 else 400):
        broken[place] ^= 0x5A
    for raw in (bytes(broken), BASES["deflated TIFF"][:-40], broken[:200]):
        with contextlib.suppress(ImageError):
            decode(bytes(raw))
    assert capfd.readouterr().err == ""


def test_an_error_says_whether_it_may_be_gone_tomorrow(tmp_path, monkeypatch):
    def passing(source):
        with pytest.raises(ImageError) as caught:
            decode(source)
        return caught.value.passing

    path = tmp_path / "image.png"
    path.write_bytes(BASES["PNG"])
    for raw in (b"", b"words", b"%PDF-1.7", BASES["PNG"][:90], BASES["TIFF"][:90], bilevel_png(30_000, 30_000)):
        assert passing(raw) is False
    assert passing(tmp_path / "absent.png") is True
    assert passing(tmp_path) is True
    for error, reason in (
        (OSError(errno.EIO, "Input/output error"), "cannot be read: input/output error"),
        (MemoryError(), "cannot be read: not enough memory"),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(decoding, "upright_rgb", fail)
        assert passing(path) is True
        assert refused(path) == reason
    monkeypatch.setattr(decoding, "open", fail, raising=False)
    monkeypatch.setattr(
        decoding, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "no")), raising=False
    )
    assert passing(path) is True


def as_plain(kind, values, brightest):
    head = f"P{kind} # a comment\n{values.shape[1]} # another\n {values.shape[0]}\n" + (
        f"{brightest}\n" if kind > 1 else ""
    )
    words = (str(v) + (" # of 3\n" if i == 5 else "\t\n " if i % 7 else "  ") for i, v in enumerate(values.ravel()))
    return head.encode() + "".join(words).encode()


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("brightest", [1, 7, 100, 255, 256, 4095, 65535])
def test_every_netpbm_file_comes_out_as_pillow_reads_it(kind, brightest):
    shape = (13, 9, 3) if kind in (3, 6) else (13, 9)
    values = np.random.default_rng(brightest).integers(0, (1 if kind == 1 else brightest) + 1, shape)
    if kind < 4:
        raw = as_plain(kind, values, brightest)
    else:
        raw = f"P{kind}\n9 13\n{brightest}\n".encode() + values.astype(">u2" if brightest > 255 else "u1").tobytes()
    with Image.open(io.BytesIO(raw)) as image:
        expected = np.asarray(decoding.upright_rgb(image))
    assert np.array_equal(pixels(raw), expected)
    assert refused(raw[: len(raw) // 2]) == "truncated"


def test_plain_files_that_lie_are_refused():
    assert refused(b"P2 2 2 9\n1 2 3") == "truncated"
    assert refused(b"P2 2 2 9\n1 2 3 10 ").startswith("corrupt: ")
    assert refused(b"P2 2 2 9\n1 2 3 -1 ").startswith("corrupt: ")
    assert refused(b"P2 2 2 9\n1 2 x 1 ").startswith("corrupt: ")
    assert refused(b"P1 2 2\n1 0 1 2 ").startswith("corrupt: ")
    assert refused(b"P5 2 2 100#\n \1\1\1\1").startswith("corrupt: ")


# --- images from elsewhere ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (BROKEN / "pngsuite").is_dir(), reason="shared/data/broken/pngsuite is not here")
def test_png_suite():
    folder = BROKEN / "pngsuite"
    with open(folder / "ref_results.csv", newline="") as file:
        listed = {row["filename"].removeprefix("pngsuite/"): row for row in csv.DictReader(file)}
    assert len(listed) > 100
    for name in sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.png")):
        if name.startswith(("corrupt/", "iphone/")):  # Apple's own variant cannot be read by other decoders
            assert refused(folder / name), name
            continue
        size = decode(folder / name).size
        if name in listed:
            assert size == (int(listed[name]["width"]), int(listed[name]["height"])), name


@pytest.mark.skipif(not (BROKEN / "pngsuite").is_dir(), reason="shared/data/broken/pngsuite is not here")
def test_png_suite_equals_its_rgba_references():
    for path in sorted((BROKEN / "pngsuite" / "primary").glob("*.png")):
        with Image.open(BROKEN / "pngsuite" / "primary_check" / path.name) as reference:
            expected = over_white(np.asarray(reference.convert("RGBA")))
        assert np.abs(pixels(path) - expected).max() <= 1, path.name


@pytest.mark.skipif(
    not (BROKEN / "exif_orientation").is_dir(), reason="shared/data/broken/exif_orientation is not here"
)
@pytest.mark.parametrize("scene", ["Landscape", "Portrait"])
def test_a_scene_looks_the_same_in_each_orientation(scene):
    paths = sorted((BROKEN / "exif_orientation").glob(f"{scene}_*.jpg"))
    assert len(paths) == 9
    shown = [Preprocess(size=64, fit="squash").fit_image(path).astype(int) for path in paths]
    assert max(np.abs(image - shown[0]).mean() for image in shown) < 4


def test_pillow_is_left_as_it_was():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    assert TiffImagePlugin.READ_LIBTIFF is False
