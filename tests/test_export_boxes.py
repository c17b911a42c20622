"""A network that finds boxes, exported: the file decodes them, and its script finds those that Python finds."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import batched_nms, box_iou

import convscope
from convscope.classifying.classifier import Classifier
from convscope.classifying.seal import allowed_difference, check_seal, seal_images, sealed_logits
from convscope.errors import ConvscopeError, DamagedFile
from convscope.evaluation import box_answers, tiles
from convscope.evaluation.task_answers import answer_images
from convscope.exporting import formats, predict_onnx
from convscope.exporting.formats import export_classifier
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture
from convscope.models.box_network import BOX_STRIDES, Fcos, scored_boxes
from convscope.tasks import detection
from exported_script import run_script
from lively import lively
from planted_boxes import stored

runtime = pytest.importorskip("onnxruntime")
NAMES = ("ant", "bee", "wasp")
SIDE = 96
FITS = ("pad", "squash")
EDGES = ("left", "top", "right", "bottom")


def made(fit: str = "pad", threshold: float = 0.4, **preprocess: Any) -> Classifier:
    """A small network with a lively head: it finds boxes of every class and size in any image."""
    architecture = Architecture("timm:test_efficientnet", SIDE, {"head": "fcos"})
    network = lively(architecture.build(len(NAMES), seed=0))
    head = network.head
    assert isinstance(head, Fcos)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        head.classes.weight.normal_(0, 0.12, generator=generator)
        head.boxes.weight.normal_(0, 0.03, generator=generator)
        head.classes.bias.copy_(torch.tensor([-1.0, -2.0, -2.0]))
    fitted = Preprocess(SIDE, fit, **preprocess)
    return Classifier(network, NAMES, fitted, architecture, {"run": "r"}, "detection", {"threshold": threshold})


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The ONNX file of ``made()``, which takes seconds to write."""
    folder = tmp_path_factory.mktemp("graph")
    export_classifier(made(), folder, "net", "onnx")
    return (folder / "net.onnx").read_bytes()


def write(folder: Path, graph: bytes, classifier: Classifier, sealed: np.ndarray) -> None:
    """The file and its script for a classifier of the same weights that is otherwise described."""
    described = formats._description(classifier, sealed)
    (folder / "net.onnx").write_bytes(formats._with_description(graph, described))
    (folder / "net.predict.py").write_bytes(formats.SCRIPT.read_bytes())


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Patches of colours."""
    small = np.random.default_rng(seed).integers(0, 256, (max(1, height // 9), max(1, width // 9), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height))


def write_images(folder: Path) -> list[Path]:
    """Of many shapes, two of them stored turned, one large enough that a JPEG is decoded smaller, one partly clear."""
    sizes = {"landscape": (150, 100), "portrait": (90, 170), "square": (SIDE, SIDE), "tiny": (7, 5), "thin": (200, 3)}
    for seed, (name, size) in enumerate(sizes.items()):
        noise(*size, seed).save(folder / f"{name}.png")
    for orientation in (3, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored(noise(140, 110, orientation), orientation).save(folder / f"turned-{orientation}.jpg", exif=exif)
    noise(430, 390, 8).save(folder / "large.jpg", quality=95)
    clear = noise(120, 130, 9).convert("RGBA")
    clear.putalpha(noise(120, 130, 10).convert("L"))
    clear.save(folder / "clear.png")
    Image.fromarray(np.asarray(noise(130, 90, 11).convert("L")).astype(np.uint16) * 200).save(folder / "deep.png")
    return sorted(folder.iterdir())


def pythons(classifier: Classifier, files: list[Path], tile: bool) -> list[dict[str, Any]]:
    return [one.to_json() for one in answer_images(classifier, [(str(f), f) for f in files], tile)]


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> int:
    """The same boxes in the same order, to 1e-3 px and 1e-4 of a score; how many there are."""
    for mine, other in zip(ours, theirs, strict=True):
        assert [mine[key] for key in ("path", "width", "height")] == [other[key] for key in ("path", "width", "height")]
        labels, others = ([box["label"] for box in one["boxes"]] for one in (mine, other))
        assert labels == others, mine["path"]
        for a, b in zip(mine["boxes"], other["boxes"], strict=True):
            assert a["score"] == pytest.approx(b["score"], rel=0, abs=1e-4)
            assert [a[edge] for edge in EDGES] == pytest.approx([b[edge] for edge in EDGES], rel=0, abs=1e-3)
    return sum(len(one["boxes"]) for one in ours)


# ------------------------------------------------------------------------------------------------- the script's answers


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("tile", [False, True])
def test_the_script_finds_the_boxes_that_python_finds(graph: bytes, tmp_path: Path, fit: str, tile: bool) -> None:
    classifier, folder = made(fit), tmp_path / "export"
    folder.mkdir()
    write(folder, graph, classifier, sealed_logits(classifier))
    (tmp_path / "images").mkdir()
    files = write_images(tmp_path / "images")
    said = run_script(folder, "--json", *(["--tile"] if tile else []), *map(str, files))
    assert said.returncode == 0, said.stderr
    ours, theirs = pythons(classifier, files, tile), json.loads(said.stdout)
    assert assert_same(ours, theirs) > 10 * len(files)
    assert {box["label"] for one in ours for box in one["boxes"]} == set(NAMES)
    assert all(set(box) == {"label", "score", *EDGES} for one in theirs for box in one["boxes"])
    whole = pythons(classifier, files, False)
    larger = [one["path"] for one in ours if max(one["width"], one["height"]) > SIDE]
    assert [one["path"] for one, other in zip(ours, whole, strict=True) if one != other] == (larger if tile else [])


@pytest.mark.parametrize("tile", [False, True])
def test_so_it_does_where_brightness_is_stretched(graph: bytes, tmp_path: Path, tile: bool) -> None:
    classifier = made(stretch=True)
    write(tmp_path, graph, classifier, sealed_logits(classifier))
    dull = tmp_path / "dull.png"
    Image.fromarray(np.asarray(noise(150, 120)) // 4 + 60).save(dull)
    session, about = predict_onnx.open_model(tmp_path / "net.onnx")
    theirs = [predict_onnx.answer(session, about, str(dull), 5, tile)]
    assert assert_same(pythons(classifier, [dull], tile), theirs) > 10


def test_the_script_says_how_many_of_each(graph: bytes, tmp_path: Path) -> None:
    classifier = made(threshold=0.55)
    write(tmp_path, graph, classifier, sealed_logits(classifier))
    (tmp_path / "images").mkdir()
    files = write_images(tmp_path / "images")
    (tmp_path / "none.png").write_bytes(b"no image")
    said = run_script(tmp_path, *map(str, files), str(tmp_path / "none.png"))
    assert said.returncode == 65
    answers = answer_images(classifier, [(str(f), f) for f in files])
    assert len({one.words() for one in answers if isinstance(one, box_answers.BoxAnswer)}) > 3
    *lines, last = said.stdout.splitlines()
    for path, one, line in zip(files, answers, lines, strict=True):
        assert isinstance(one, box_answers.BoxAnswer)
        assert line == f"{path}: {one.words()}"
    assert last.startswith(f"{tmp_path / 'none.png'}: cannot be read: ")
    assert predict_onnx.words({"boxes": []}) == "no box"


def test_what_decides_is_the_same_there() -> None:
    for name in ("LEAST", "CANDIDATES", "MOST", "OVERLAP"):
        assert getattr(predict_onnx, name) == getattr(detection, name)
    assert (predict_onnx.SEAM, predict_onnx.LAP) == (box_answers.SEAM, tiles.OVERLAP)
    for length in range(1, 300):
        for side in (1, 32, 96):
            assert predict_onnx.starts(max(length, side), side) == tiles._starts(max(length, side), side)


class Told:
    """A session that tells what it was given."""

    def __init__(self, told_LD: np.ndarray) -> None:
        self.told = told_LD

    def run(self, *_: object) -> list[np.ndarray]:
        return [self.told[None]]


@pytest.mark.parametrize("classes", [1, 3, 90])
@pytest.mark.parametrize(("side", "offset"), [(64, -1.0), (256, 2.0), (512, -3.0)])
def test_of_any_outputs_it_keeps_what_decoded_keeps(classes: int, side: int, offset: float) -> None:
    """Of few places, of so many that only the best are looked at, and of so many boxes that not all may stay."""
    places = sum((side // stride) ** 2 for stride in BOX_STRIDES)
    outputs = torch.randn(places, classes + 5, generator=torch.Generator().manual_seed(classes + side))
    outputs[:, :classes] += offset
    outputs[:, -4:] = (outputs[:, -4:] + 2.5).exp()
    found = detection.decoded(outputs)
    rows = predict_onnx.look(Told(scored_boxes(outputs[None])[0].numpy()), np.zeros(1))
    assert np.array_equal(rows, np.column_stack([found.corners, found.labels, found.scores]))
    assert len(rows) == detection.MOST or len(rows) > 10
    if side == 256:
        assert len(rows) == detection.MOST


def test_outputs_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    noise(20, 30).save(tmp_path / "one.png")
    told = np.full((189, 7), np.nan, np.float32)
    about = {"task": "detection", "classes": NAMES, "preprocess": made().preprocess.to_dict(), "settings": {}}
    said = predict_onnx.answer(Told(told), about, str(tmp_path / "one.png"), 5)
    assert said["error"] == "the network's outputs for it are no numbers"


# ------------------------------------------------------------------------------------------- which boxes are one box

whole_or_not = st.sampled_from([1.0, 1.0, 0.37])
a_box = st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 2), st.integers(0, 4))


@settings(max_examples=400)
@given(st.lists(a_box, max_size=40), whole_or_not)
def test_nms_is_torchvisions(rows: list[tuple[int, ...]], scale: float) -> None:
    """Of boxes in whole pixels too, whose overlap is often 0.6, of equal scores, and of some without an area."""
    values = np.array(rows, np.float32).reshape(-1, 6)
    corners = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], 1) * np.float32(scale)
    order = np.argsort(-values[:, 5], kind="stable")
    corners, labels, scores = corners[order], values[order, 4].astype(np.int64), values[order, 5] / 5
    wanted = batched_nms(*map(torch.from_numpy, (corners, scores, labels)), detection.OVERLAP)
    found = predict_onnx.distinct(corners, labels, np.zeros((len(labels), 2)))
    assert found == wanted.tolist()


def one_box(rows_N6: np.ndarray, look_N: np.ndarray, cut_N: np.ndarray) -> list[int]:
    """The rows that stay, by every pair: a row goes that is one box with one that stays before it."""
    corners = torch.from_numpy(rows_N6[:, :4])
    overlap = box_iou(corners, corners).numpy()
    areas = (corners[:, 2:] - corners[:, :2]).prod(1).numpy()
    kept: list[int] = []
    for n in range(len(rows_N6)):
        for k in kept:
            both = overlap[n, k] / (1 + overlap[n, k]) * (areas[n] + areas[k])
            within = cut_N[n] and look_N[n] != look_N[k] and both / min(areas[n], areas[k]) > 0.6
            if rows_N6[n, 4] == rows_N6[k, 4] and (overlap[n, k] > 0.6 or within):
                break
        else:
            kept.append(n)
    return kept


@settings(max_examples=400)
@given(st.lists(st.tuples(a_box, st.integers(0, 3)), max_size=40), st.integers(0, 2**32 - 1))
def test_what_two_looks_have_found_is_one_box_there_as_here(rows: list[tuple[tuple[int, ...], int]], seed: int) -> None:
    values = np.array([(*row, look) for row, look in rows], np.float64).reshape(-1, 7)
    sides = values[:, 2:4] + np.random.default_rng(seed).uniform(0.1, 1, (len(values), 2))  # no overlap is exactly 0.6
    boxes = np.concatenate([values[:, :2], values[:, :2] + sides, values[:, 4:6]], 1)
    cut = np.random.default_rng(seed).random(len(values)) < 0.5
    kept = one_box(boxes, values[:, 6], cut)
    looks = np.column_stack([cut, values[:, 6]])
    assert predict_onnx.distinct(boxes[:, :4], values[:, 4], looks) == kept
    assert np.array_equal(box_answers._merged(boxes, values[:, 6], cut), boxes[kept])


def test_thousands_of_boxes_are_merged_without_a_table_of_pairs() -> None:
    """Which would be 3 GB for one number a pair."""
    corner = np.random.default_rng(0).uniform(0, 4000, (20_000, 2))
    boxes = np.concatenate([corner, corner + 200, np.zeros((20_000, 2))], 1)
    looks = np.arange(20_000) % 80
    tracemalloc.start()
    cut = looks % 2 == 0
    merged = box_answers._merged(boxes, looks, cut)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert np.array_equal(
        boxes[predict_onnx.distinct(boxes[:, :4], boxes[:, 4], np.column_stack([cut, looks]))], merged
    )


# ------------------------------------------------------------------------------------------------------- what is sealed


def test_scores_and_corners_by_place_are_those_of_a_slow_loop() -> None:
    outputs = torch.randn(2, 21, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 9
    outputs[..., -4:] = outputs[..., -4:].abs()
    told = scored_boxes(outputs).numpy()
    place = 0
    for stride in BOX_STRIDES:
        for row in range(32 // stride):
            for column in range(32 // stride):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                for image in range(2):
                    a, b, centre, *sides = outputs[image, place].tolist()
                    scores = [(1 / (1 + np.exp(-one)) / (1 + np.exp(-centre))) ** 0.5 for one in (a, b)]
                    edges = [x - sides[0], y - sides[1], x + sides[2], y + sides[3]]
                    wanted = [*scores, *(min(max(edge, 0.0), 32.0) for edge in edges)]
                    assert told[image, place].tolist() == pytest.approx(wanted, abs=1e-12)
                place += 1
    assert place == 21


def test_the_file_gives_scores_and_corners_of_any_batch(graph: bytes) -> None:
    classifier = made()
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("boxes", ["batch", 189, 7])]
    images = seal_images(SIDE)[[3, 5, 9]]
    told = session.run(None, {"images": images})[0]
    with torch.no_grad():
        pixels = classifier.preprocess.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        wanted = scored_boxes(classifier.network(pixels)).numpy()
    assert np.abs(told - wanted)[..., :3].max() < 1e-5
    assert np.abs(told - wanted)[..., 3:].max() < 1e-3
    assert 0 <= told[..., :3].min() < told[..., :3].max() <= 1
    assert 0 <= told[..., 3:].min() < told[..., 3:].max() <= SIDE
    about = json.loads(session.get_modelmeta().custom_metadata_map["convscope"])
    assert (about["task"], about["settings"]) == ("detection", {"threshold": 0.4})


def test_the_seal_is_small_and_of_every_map() -> None:
    classifier = made()
    sealed = sealed_logits(classifier)
    assert sealed.shape == (16, 94, 7)
    assert len(json.dumps(sealed.tolist())) < 300_000
    assert allowed_difference(sealed) == 1e-4  # of a score, and of the side of the square
    places = np.arange(189)[1::2]
    for first, behind in ((0, 144), (144, 180), (180, 189)):
        assert np.count_nonzero((places >= first) & (places < behind)) >= 4


def test_the_safetensors_form_is_loaded_checked_and_finds_the_same(tmp_path: Path) -> None:
    classifier = made()
    found = export_classifier(classifier, tmp_path, "net", "safetensors")
    assert found.max_difference <= found.tolerance == 1e-4
    again = Classifier.load(tmp_path / "net.safetensors")
    assert check_seal(again) == pytest.approx(0, abs=1e-6)
    (tmp_path / "images").mkdir()
    files = write_images(tmp_path / "images")
    answers = [one.to_json() for one in convscope.predict(str(tmp_path / "net.safetensors"), files)]
    assert_same(pythons(classifier, files, False), answers)


Change = Callable[[Fcos], object]
CHANGES: dict[str, Change] = {
    "classes": lambda head: head.classes.bias.data.add_(0.01),
    "centre-ness": lambda head: head.boxes.bias.data[0].add_(0.01),
    "corners": lambda head: head.boxes.bias.data[1].add_(0.01),
    "the coarsest map's boxes": lambda head: head.scales.data[2].mul_(1.05),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_network_under_the_seal_is_refused(what: str, graph: bytes, tmp_path: Path) -> None:
    """By both forms, whether what was changed tells in scores or in corners."""
    changed = made()
    assert isinstance(changed.network.head, Fcos)
    CHANGES[what](changed.network.head)
    sealed = sealed_logits(changed)
    with pytest.raises(DamagedFile, match="otherwise than when it was exported"):
        check_seal(replace(made(), provenance={"seal": {"logits": sealed.tolist()}}))
    write(tmp_path, graph, made(), sealed)
    said = run_script(tmp_path, "--check")
    assert said.returncode == 1
    assert said.stderr.startswith("net.onnx is not what was exported: its classes, or the sealed images by ")


@pytest.mark.parametrize("damage", ["nothing", "a bit", "a half", "classes"])
def test_a_damaged_file_is_refused(graph: bytes, tmp_path: Path, damage: str) -> None:
    middle = len(graph) // 2
    names = NAMES[:2] if damage == "classes" else NAMES
    write(tmp_path, graph, replace(made(), class_names=names), sealed_logits(made()))
    if damage == "nothing":
        predict_onnx.open_model(tmp_path / "net.onnx")
        return
    if damage != "classes":
        rest = bytes([graph[middle] ^ 4]) + graph[middle + 1 :] if damage == "a bit" else b""
        (tmp_path / "net.onnx").write_bytes(graph[:middle] + rest)
    with pytest.raises(SystemExit, match=r"^net\.onnx (is not what was exported|cannot be opened)"):
        predict_onnx.open_model(tmp_path / "net.onnx")


@pytest.mark.parametrize(("column", "by"), [(0, 2e-4), (-1, 0.02)])
def test_boxes_that_do_not_agree_are_not_written(
    column: int, by: float, graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score by more than 1e-4, or an edge by more than that part of 96 px."""
    runs, moved = formats._run, 0.0

    def run(data: bytes, images: np.ndarray) -> np.ndarray:
        told = runs(data, images)
        told[..., column] += moved
        return told

    monkeypatch.setattr(formats, "_run", run)
    monkeypatch.setattr(formats, "to_onnx", lambda *_, **__: graph)
    moved = by / 4
    assert export_classifier(made(), tmp_path / "near", "net", "onnx").max_difference <= 1e-4
    moved = by
    with pytest.raises(ConvscopeError, match=r"is not written: as ONNX its logits differ by 0\.0002"):
        export_classifier(made(), tmp_path / "far", "net", "onnx")
    assert not (tmp_path / "far").exists()


def test_the_command_says_what_is_left_to_the_script(tmp_path: Path) -> None:
    made().save(tmp_path / "net.safetensors")
    for form, told in (("onnx", True), ("safetensors", False)):
        report = convscope.export(str(tmp_path / "net.safetensors"), format=form, output=tmp_path / form)
        assert any("drops those that overlap" in note for note in report.summary["notes"]) == told
        assert all(Path(path).exists() for path in report.summary["files"])
    assert runtime.InferenceSession(str(tmp_path / "onnx" / "net.onnx")).get_outputs()[0].name == "boxes"
