"""TIFFs of every depth and both polarities, and PNGs with damaged comments, against answers known on paper."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from convscope.errors import ImageError
from convscope.images import tiff as tiff_module
from convscope.images.decoding import decode

RAMP = np.linspace(0, 1, 32)[None, :].repeat(8, axis=0)


def tiff(values, order="<", *, photometric=1, bits=None, fmt=1, compression=1, samples=1):  # noqa: PLR0913 - tags
    """A TIFF in one strip."""
    bits, raw = bits or values.dtype.itemsize * 8, values.astype(values.dtype.newbyteorder(order)).tobytes()
    if compression == 8:
        raw = zlib.compress(raw)
    height, width = values.shape[:2]
    entries = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, compression), (262, 3, photometric)]
    entries += [(273, 4, 0), (277, 3, samples), (278, 3, height), (279, 4, len(raw)), (339, 3, fmt)]
    entries = [(t, k, v) for t, k, v in entries if v is not None and not (t == 262 and photometric == -1)]
    many = b"".join(struct.pack(f"{order}{samples}H", *[v] * samples) for t, _, v in entries if t in (258, 339))
    start = 8 + 2 + 12 * len(entries) + 4
    table, extra = b"", start
    for tag, kind, value in entries:
        if tag in (258, 339) and samples > 2:
            table += struct.pack(order + "HHII", tag, kind, samples, extra)
            extra += 2 * samples
        else:
            value = start + len(many) if tag == 273 else value
            table += struct.pack(order + ("HHIHH" if kind == 3 else "HHII"), tag, kind, 1, value, *[0] * (kind == 3))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + table + bytes(4) + many + raw


def shown(raw):
    return np.asarray(decode(raw))[..., 0].astype(int)


def refusal(raw):
    with pytest.raises(ImageError) as caught:
        decode(raw)
    return caught.value.reason


# what is in the file, its sample format, and the grey it stands for where zero is black
GREY = {
    "8 bits": ((RAMP * 255).astype(np.uint8), 1, (RAMP * 255).astype(np.uint8)),
    "16 bits": (np.rint(RAMP * 65535).astype(np.uint16), 1, RAMP * 255),
    "16 bits, dark": (np.rint(RAMP * 4095).astype(np.uint16), 1, RAMP * 4095 / 257),
    "16 bits, signed": (np.rint(RAMP * 2000 - 1000).astype(np.int16), 2, RAMP * 255),
    "32 bits": (np.rint(RAMP * 4_000_000_000).astype(np.uint32), 1, RAMP * 255),
    "32 bits in the range of 16": (np.rint(RAMP * 65535).astype(np.uint32), 1, RAMP * 255),
    "32 bits, signed": (np.rint(RAMP * 3e9 - 1.5e9).astype(np.int32), 2, RAMP * 255),
    "floats to 1": ((RAMP / 2).astype(np.float32), 3, RAMP * 127.5),
    "floats": ((RAMP * 700 - 300).astype(np.float32), 3, RAMP * 255),
}


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white", [0, 1])
@pytest.mark.parametrize("name", GREY)
def test_grey_is_turned_over_where_zero_is_white(name, white, order, compression):
    values, fmt, grey = GREY[name]
    found = shown(tiff(values, order, photometric=1 - white, fmt=fmt, compression=compression))
    expected = 255 - grey if white else grey
    assert np.abs(found - expected).max() <= 1, (found[0], expected[0])
    assert found[0, 0] != found[0, -1]


@pytest.mark.parametrize("white", [0, 1])
def test_white_is_4095_in_twelve_bits(white):
    values = np.rint(RAMP * 4095).astype(int)
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    raw = bytearray(tiff(packed.astype(np.uint8).reshape(8, 48), bits=12, photometric=1 - white))
    at = raw.index(struct.pack("<HHI", 256, 3, 1)) + 8
    raw[at : at + 2] = struct.pack("<H", 32)
    found = shown(bytes(raw))
    assert np.abs(found - (255 - RAMP * 255 if white else RAMP * 255)).max() <= 1


def test_what_is_not_a_number_is_black_in_both_polarities():
    values = RAMP.astype(np.float32).copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    for photometric in (0, 1):
        assert shown(tiff(values, photometric=photometric, fmt=3))[0, :3].tolist() == [0, 0, 0]


def test_a_file_that_says_nothing_of_white_is_read_as_it_was():
    found = shown(tiff(np.rint(RAMP * 65535).astype(np.uint16), photometric=-1))
    assert found[0, 0] == 0
    assert found[0, -1] == 255


def rgb(dtype):
    return np.zeros((8, 8, 3), dtype)


UNREAD = {
    "64-bit floats": tiff(np.zeros((8, 8)), fmt=3),
    "16-bit floats": tiff(np.zeros((8, 8), np.float16), fmt=3),
    "64-bit integers": tiff(np.zeros((8, 8), np.uint64)),
    "64-bit signed integers": tiff(np.zeros((8, 8), np.int64), fmt=2),
    "64-bit complex": tiff(np.zeros((8, 8), np.uint64), fmt=6),
    "32-bit complex": tiff(np.zeros((8, 8), np.uint32), fmt=5),
    "32-bit floats, RGB": tiff(rgb(np.float32), photometric=2, fmt=3, samples=3),
    "64-bit floats, RGB": tiff(rgb(np.float64), photometric=2, fmt=3, samples=3),
    "32-bit integers, RGB": tiff(rgb(np.uint32), photometric=2, samples=3),
    "16-bit signed integers, RGB": tiff(rgb(np.int16), photometric=2, fmt=2, samples=3),
    "16-bit integers, Lab": tiff(rgb(np.uint16), photometric=8, samples=3),
    "16-bit integers, YCbCr": tiff(rgb(np.uint16), photometric=6, samples=3),
    "32-bit integers, CMYK": tiff(np.zeros((8, 8, 4), np.uint32), photometric=5, samples=4),
    "16-bit integers, a camera's raw pixels": tiff(np.zeros((8, 8), np.uint16), photometric=32803),
    "16-bit integers, colours of a palette": tiff(np.zeros((8, 8), np.uint16), photometric=3),
    "24-bit integers": tiff(np.zeros((8, 24), np.uint8), bits=24),
    "14-bit integers": tiff(np.zeros((8, 16), np.uint8), bits=14),
    "12-bit integers": tiff(np.zeros((8, 16), np.uint8), ">", bits=12),
    "8-bit integers, 9 values a pixel": tiff(np.zeros((8, 8, 9), np.uint8), samples=9),
    "8-bit integers, 3 values a pixel": tiff(rgb(np.uint8), samples=3),
    "compression 34887": tiff(np.zeros((8, 8), np.uint8), compression=34887),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_a_kind_that_cannot_be_read_is_named_and_not_called_corrupt(kind):
    assert refusal(UNREAD[kind]) == f"of a kind that cannot be read ({kind})"


def test_of_hundreds_of_kinds_in_one_header_a_few_are_told():
    told = tiff_module._in_words({258: tuple(range(1, 300)), 339: tuple(range(7, 300))})
    assert told == "1-, 2-, 3-, 4-bit format 7 and format 8 and format 9 and format 10"


def test_other_formats_name_their_kinds_too():
    with_rle = bytearray(_saved(Image.new("RGB", (8, 8)), "BMP"))
    with_rle[30] = 4
    assert refusal(bytes(with_rle)) == "of a kind that cannot be read (BMP compression (4))"
    deep = bytearray(_saved(Image.new("RGB", (8, 8)), "JPEG"))
    deep[deep.index(b"\xff\xc0") + 4] = 12
    assert refusal(bytes(deep)) == "of a kind that cannot be read (12-bit layers)"


def test_a_broken_tiff_is_still_corrupt():
    raw = bytearray(tiff(np.zeros((8, 8), np.uint8)))
    raw[4:8] = struct.pack("<I", 5_000_000)
    assert not refusal(bytes(raw)).startswith("of a kind")


def _saved(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


# --- PNG --------------------------------------------------------------------------------------------------------------


def chunk(name, data, wrong=0):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ wrong)


EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
COMMENTS = {
    b"tEXt": b"Comment\0hello",
    b"zTXt": b"Comment\0\0" + zlib.compress(b"hello"),
    b"iTXt": b"Comment\0\0\0en\0x\0hello",
    b"eXIf": EXIF,
    b"pHYs": struct.pack(">IIB", 1, 1, 1),
    b"tIME": struct.pack(">HBBBBB", 2020, 1, 1, 0, 0, 0),
    b"iCCP": b"p\0\0" + zlib.compress(b"profile"),
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", *range(8)),
    b"sRGB": b"\0",
    b"sBIT": b"\x08\x08\x08",
    b"bKGD": bytes(6),
    b"hIST": bytes(4),
    b"sPLT": b"p\0\x08",
    b"cICP": bytes(4),
    b"oFFs": bytes(9),
    b"prVt": b"private",
    b"vpAg": bytes(9),
    b"acTL": struct.pack(">II", 1, 0),
    b"fcTL": struct.pack(">IIIIIHHBB", 0, 4, 4, 0, 0, 1, 1, 0, 0),
}
NOISE = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def png(before=b"", after=b"", wrong=b""):
    """NOISE as a PNG with other chunks; the checksum of the chunk ``wrong`` is."""
    rows = b"".join(b"\0" + row.tobytes() for row in NOISE)
    parts = {b"IHDR": struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(rows), b"IEND": b""}
    header, data, end = (chunk(name, content, wrong=name == wrong) for name, content in parts.items())
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + end


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", COMMENTS)
def test_a_wrong_checksum_in_a_comment_does_not_cost_the_pixels(name, place):
    for damaged in (chunk(name, COMMENTS[name], wrong=1), chunk(name, bytes(len(COMMENTS[name])), wrong=1)):
        assert np.array_equal(np.asarray(decode(png(**{place: damaged}))), NOISE)


def test_several_damaged_comments_and_whole_ones():
    many = b"".join(chunk(name, data, wrong=i % 2) for i, (name, data) in enumerate(COMMENTS.items()))
    assert np.array_equal(np.asarray(decode(png(many, chunk(b"tEXt", b"a\0b", wrong=9)))), NOISE)
    turned = np.rot90(NOISE, -1)
    assert np.array_equal(np.asarray(decode(png(chunk(b"gAMA", bytes(4), wrong=1) + chunk(b"eXIf", EXIF)))), turned)


def test_a_damaged_animation_is_its_first_image():
    control = COMMENTS[b"fcTL"]
    data = struct.pack(">I", 2) + zlib.compress(bytes(52))
    for wrong in range(3):
        before = chunk(b"acTL", struct.pack(">II", 2, 0), wrong=wrong == 0) + chunk(b"fcTL", control)
        after = chunk(b"fcTL", b"\0\0\0\1" + control[4:], wrong=wrong == 1) + chunk(b"fdAT", data, wrong=wrong == 2)
        assert np.array_equal(np.asarray(decode(png(before, after))), NOISE)


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"pLTE", b"TrNS", b"iDAT", b"ABCD"])
def test_a_wrong_checksum_where_pixels_need_it_still_refuses(name):
    contents = {b"PLTE": bytes(6), b"tRNS": bytes(6), b"pLTE": bytes(6), b"TrNS": bytes(6), b"iDAT": b"", b"ABCD": b""}
    raw = png(chunk(name, contents[name], wrong=1)) if name in contents else png(wrong=name)
    assert refusal(raw).startswith("corrupt: ")
