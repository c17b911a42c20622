"""The judge of damaged images sees what is planted; mutations are the seed's; a child that dies costs one image."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")

from torture import mutated_images
from torture.image_mutations import MUTATIONS, Given
from torture.image_structure import numbers_of, parts_of, with_checksums
from torture.image_verdicts import OF_ALL, Seen, flaw_of
from torture.image_ways import SIZE, hashed, ways
from torture.mutated_images import CORPUS, Children, mutant
from torture.synthetic_images import KINDS, image, images, saved

PIXELS = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
ANSWERS = [["a", 0.75], ["b", 0.25]]


def read() -> Seen:
    """What comes of an image that is read."""
    decoded, fitted, header = ["0" * 64, 44, 36], [hashed(PIXELS), 44, 36], ["PNG", 1, 44, 36]
    page = {"pixels": base64.b64encode(PIXELS.tobytes()).decode(), "top": ANSWERS}
    found = {
        "decode": decoded,
        "decode its bytes": decoded,
        "training": fitted,
        "its bytes fitted": fitted,
        "the doctor": header,
        "the header": header,
        "as a mask": ["1" * 64, 44, 36, 44, 36],
        "its frames": False,
        "the doctor's pass": header,
        "packing": hashed(PIXELS),
        "predict": ANSWERS,
        "the page": page,
    }
    return Seen({way: {"ok": copy.deepcopy(one)} for way, one in found.items()}, 0.1, 10.0)


def refused(reason: str = "truncated") -> Seen:
    """What comes of an image that is refused."""
    found: dict[str, dict] = {way: {"no": reason, "passing": False} for way in OF_ALL}
    found["packing"] = {"no": None, "passing": False}
    return Seen(found | {"the header": {"ok": ["PNG", 1, 44, 36]}, "its frames": {"ok": False}}, 0.1, 10.0)


def test_one_verdict_is_no_flaw() -> None:
    assert flaw_of(read(), whole=True) == ""
    assert flaw_of(refused(), whole=False) == ""
    assert "whole image is refused" in flaw_of(refused(), whole=True)


def _set(way: str, **found: object) -> Callable[[Seen], object]:
    return lambda seen: seen.ways.__setitem__(way, found)


FAULTS: dict[str, tuple[Callable[[], Seen], Callable[[Seen], object], str]] = {
    "it dies": (read, lambda seen: setattr(seen, "died", "signal 11"), "signal 11"),
    "it is slow": (read, lambda seen: setattr(seen, "seconds", 2.1), "2.1 s"),
    "it is large": (read, lambda seen: setattr(seen, "megabytes", 513.0), "513 MB"),
    "it warns": (read, lambda seen: setattr(seen, "noise", "UserWarning: x"), "UserWarning"),
    "another error": (read, _set("its frames", broke="ValueError: x"), "its frames breaks down: ValueError"),
    "no RGB": (read, _set("decode", ok="mode L, info []"), "decode gives mode L"),
    "a way is left out": (read, lambda seen: seen.ways.pop("predict"), "not tried: predict"),
    "other pixels in bytes": (read, _set("decode its bytes", ok=["9" * 64, 44, 36]), "other pixels than its file"),
    "other pixels fitted": (read, _set("its bytes fitted", ok=["9" * 64, 44, 36]), "its bytes fitted gives other"),
    "other pixels packed": (read, _set("packing", ok="9" * 64), "packing gives other"),
    "another size fitted": (read, _set("training", ok=[hashed(PIXELS), 36, 44]), "36 x 44 once fitted"),
    "another size in the header": (read, _set("the header", ok=["PNG", 6, 36, 44]), "its header says 36 x 44"),
    "another size in the doctor": (read, _set("the doctor", ok=["PNG", 1, 36, 44]), "and the doctor"),
    "another size in the pass": (read, _set("the doctor's pass", ok=["PNG", 1, 36, 44]), "and the doctor's pass"),
    "another answer": (read, _set("predict", ok=[["a", 0.7], ["b", 0.3]]), "predict answers"),
    "another class": (read, _set("predict", ok=[["c", 0.75], ["d", 0.25]]), "predict answers"),
    "blamed on the machine": (refused, _set("decode", no="truncated", passing=True), "the machine is blamed"),
    "no reason": (lambda: refused("oops"), lambda seen: None, "without one of the reasons"),
    "another header": (refused, _set("the header", no="empty file"), "its header 'empty file'"),
    **{
        f"refused by {way} alone": (read, _set(way, no="truncated", passing=False), f"{way} says 'truncated'")
        for way in (*OF_ALL[1:], "the header")
    },
    **{f"read by {way} alone": (refused, _set(way, ok=1), f"{way} reads it") for way in OF_ALL[1:]},
    **{
        f"another reason in {way}": (refused, _set(way, no="empty file", passing=False), f"{way} 'empty file'")
        for way in OF_ALL[1:]
    },
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_judge_sees(name: str) -> None:
    sound, plant, told = FAULTS[name]
    seen = sound()
    plant(seen)
    assert told in flaw_of(seen, whole=False)


def test_mutants_are_those_of_the_seed() -> None:
    first, again, others = ([mutant(seed, i) for i in range(300)] for seed in (3, 3, 4))
    assert first == again
    assert sum(a.content == b.content for a, b in zip(first, others, strict=True)) < 3
    assert len({one.content for one in first}) > 280
    assert {one.group for one in first} == set(KINDS)
    sources = set(images(*KINDS).values())
    assert all((one.content in sources) for one in first if one.whole)


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_changes_files_of_each_format(name: str) -> None:
    for kind in KINDS:
        held = list(images(kind).values())
        changed = 0
        for i in range(12):
            raw = held[i % len(held)]
            given = Given(raw, kind, held[0], np.random.default_rng([1, i]))
            changed += MUTATIONS[name](given) != raw
        assert (changed == 0) if name.startswith("untouched") else (changed > 6), kind


def test_the_parts_of_a_file_are_found() -> None:
    raw = images("PNG")["PNG", "animated"]
    names = [raw[part.start + 4 : part.start + 8] for part in parts_of("PNG", raw)]
    assert names[0] == b"IHDR"
    assert names[-1] == b"IEND"
    assert names.count(b"fcTL") == 3
    assert with_checksums(raw) == raw
    for kind in KINDS.keys() - {"PPM"}:
        for (_, name), content in images(kind).items():
            assert parts_of(kind, content), (kind, name)
            assert len(numbers_of(kind, content)) >= 3, (kind, name)


def test_a_way_of_reading_that_breaks_down_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(saved(image(1), "PNG"))
    assert all("ok" in found for _, found in ways(path))

    def broken(*_: object, **__: object) -> bool:
        raise KeyError("planted")

    monkeypatch.setattr("convscope.images.decoding.has_frames", broken)
    assert [name for name, found in ways(path) if "broke" in found] == ["its frames"]
    path.write_bytes(path.read_bytes()[:100])
    assert {found["no"] for name, found in ways(path) if name != "its frames" and "no" in found} == {"truncated"}


PLANTED = """
import os, signal, sys, time, warnings
import torture.image_ways as w

def ways(path):
    what = path.read_bytes()
    if what == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == b"leave":
        raise SystemExit(3)
    if what == b"hang":
        time.sleep(60)
    if what == b"warn":
        warnings.warn("planted")
    if what == b"print":
        os.write(2, b"planted")
    if what == b"memory":
        len(bytearray(os.urandom(1 << 20) * 60))
    yield "decode", {"ok": what.decode()}

w.ways, w.warm, w.whole_folder = ways, lambda: None, lambda *_: {}
w.serve(sys.argv[1])
"""


def test_a_child_that_dies_or_hangs_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutated_images, "HANGS", 3.0)
    names = ["one", "crash", "two", "leave", "hang", "warn", "print", "memory", "three"]
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / "images" / name).write_bytes(name.encode())
    with Children(tmp_path, tmp_path, ("-c", PLANTED)) as children:
        seen = children.read(tmp_path / "images", names)
    assert list(seen) == names
    assert {name: one.died for name, one in seen.items() if one.died} == {
        "crash": "the process ends with signal 11",
        "leave": "the process ends with an error: SystemExit: 3",
        "hang": "it hangs",
    }
    assert {name: one.noise for name, one in seen.items() if one.noise} == {
        "warn": "UserWarning: planted",
        "print": "planted",
    }
    assert 50 < seen["memory"].megabytes < 200
    assert all(one.megabytes < 40 for name, one in seen.items() if name != "memory")


def test_a_corpus_is_tried_as_it_is_and_then_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.png", "two.jpg"):
        (tmp_path / name).write_bytes(saved(image(2), "PNG"))
    monkeypatch.setenv(CORPUS, str(tmp_path))
    found = [mutant(0, i) for i in range(8)]
    assert {one.what.split(": ")[1] for one in found[:2]} == {
        "PNG one.png, untouched, under another name",
        "JPEG two.jpg, untouched, under another name",
    }
    assert any(one.content != found[0].content for one in found[2:])
    assert not any(one.whole for one in found)
