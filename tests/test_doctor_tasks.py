"""The doctor on masks, labels and numbers: every planted fault is found and named, and nothing in clean data is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import cli
from convscope.datasets.asked import find_asked
from convscope.datasets.options import DatasetOptions
from convscope.errors import DataError
from convscope.inspection.command import doctor
from convscope.inspection.findings import Finding
from convscope.inspection.mask_survey import MaskSurvey
from convscope.inspection.report import DoctorReport
from planted_folders import pattern
from planted_targets import CLEAN, COUNT, TARGET_FAULTS, masked, numbered


def place(kind: str, root: Path) -> Path:
    return root if kind == "masks" else root / "table.csv"


def examined(kind: str, root: Path, tmp_path: Path, **options: object) -> DoctorReport:
    return doctor(place(kind, root), runs=tmp_path / "runs", **options)


def planted(fault: str, tmp_path: Path) -> Path:
    kind, plant, _, _ = TARGET_FAULTS[fault]
    root = CLEAN[kind](tmp_path / "data")
    plant(root)
    return root


def of(report: DoctorReport, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


@pytest.mark.parametrize("fault", TARGET_FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    kind, _, called, grade = TARGET_FAULTS[fault]
    root = planted(fault, tmp_path)
    found = of(examined(kind, root, tmp_path), called)
    assert [finding.grade for finding in found] == [grade]
    assert found[0].count > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", CLEAN)
def test_nothing_in_clean_data_is_a_fault_or_a_doubt(kind: str, seed: int, tmp_path: Path) -> None:
    report = examined(kind, CLEAN[kind](tmp_path / "data", seed), tmp_path)
    assert [f.sentence for f in report.findings if f.grade != "note"] == []
    assert report.summary["verdict"].startswith("sound")
    assert report.corrections is None


@pytest.mark.parametrize("fault", [f for f, (_, _, _, grade) in TARGET_FAULTS.items() if grade == "fault"])
def test_what_is_a_fault_of_itself_stops_a_training_or_is_a_contradiction(fault: str, tmp_path: Path) -> None:
    """Where the doctor says that training stops, it does; and where masks cannot be used, so it does."""
    kind, _, called, _ = TARGET_FAULTS[fault]
    root = planted(fault, tmp_path)
    if called in ("refused", "mask-shape", "mask-values", "unreadable-masks", "missing-files"):
        with pytest.raises(DataError):
            find_asked(str(place(kind, root)), DatasetOptions(), None, None)


# ------------------------------------------------------------------------------------------- what the advice says helps


def _of_images_again(root: Path) -> None:
    """Each mask as large as its image, whatever it was."""
    for path in sorted((root / "masks").iterdir()):
        Image.open(path).resize((64, 64), Image.Resampling.NEAREST).save(path)


def _cell(old: str, new: str):
    def change(root: Path) -> None:
        text = (root / "table.csv").read_text(encoding="utf-8")
        assert old in text
        (root / "table.csv").write_text(text.replace(old, new), encoding="utf-8")

    return change


def _relabelled(root: Path) -> None:
    lines = (root / "table.csv").read_text(encoding="utf-8").splitlines()
    rows = [f"{line.split(',')[0]},{i % 2},{i // 2 % 2},{1 - i % 2}" for i, line in enumerate(lines[1:])]
    (root / "table.csv").write_text("\n".join([lines[0], *rows]), encoding="utf-8")


def _without_column(root: Path) -> None:
    lines = (root / "table.csv").read_text(encoding="utf-8").splitlines()
    (root / "table.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines), encoding="utf-8")


def _drawn(root: Path) -> None:
    for i in range(COUNT):
        mask = np.zeros((64, 64), np.uint8)
        mask[i % 20 : 30 + i % 20, 10:30], mask[40:60, 40:60] = 1, 2
        Image.fromarray(mask).save(root / "masks" / f"{i:02}.png")


def _as_png(root: Path) -> None:
    for path in (root / "masks").glob("*.jpg"):
        path.unlink()
    _drawn(root)


def _more_images(root: Path) -> None:
    for i in range(20):
        pattern(7000 + i, 64).save(root / "images" / f"more{i}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[:20, :20], mask[40:, 40:], mask[:10, 50:] = 1, 2, 3
        Image.fromarray(mask).save(root / "masks" / f"more{i}.png")


MENDED = {
    "image-alone": _drawn,
    "mask-alone": lambda root: pattern(900, 64).save(root / "images" / "03.png"),
    "other-size": _of_images_again,
    "other-shape": _of_images_again,
    "unnamed-value": lambda root: (root / "classes.txt").write_text("background\nant\nbee\na\nb\nc\nd\nwasp\n"),
    "no-such-class": lambda root: (root / "classes.txt").write_text("background\nant\nbee\n"),
    "class-once": _more_images,
    "rare-class": _more_images,
    "void-mask": _drawn,
    "mostly-empty": _drawn,
    "broken-mask": _drawn,
    "grey-jpegs": _as_png,
    "label-of-none": _without_column,
    "label-of-all": _without_column,
    "labels-together": _without_column,
    "no-labels": _relabelled,
    "rare-label": _without_column,
    "no-number": _cell("n/a", ""),
    "outlier": _cell("2004.5", "20.045"),
    "minus-one-for-none": _cell(",-1\n", ",\n"),
}


@pytest.mark.parametrize("fault", MENDED)
def test_what_the_advice_says_mends_it(fault: str, tmp_path: Path) -> None:
    root = planted(fault, tmp_path)
    MENDED[fault](root)
    assert not of(examined(TARGET_FAULTS[fault][0], root, tmp_path), TARGET_FAULTS[fault][2])


@pytest.mark.parametrize("fault", ["other-shape", "broken-mask"])
def test_masks_that_cannot_be_used_are_left_out_by_an_option(fault: str, tmp_path: Path) -> None:
    root = planted(fault, tmp_path)
    found = find_asked(str(root), DatasetOptions(bad_images="skip"), None, None)
    assert found is not None
    assert len(found.labels) == COUNT - 1


@pytest.mark.parametrize(
    "fault",
    [
        "copy-with-another-mask",
        "near-copy-with-another-mask",
        "copy-with-other-labels",
        "copy-with-another-number",
        "near-copy-with-another-number",
    ],
)
def test_the_corrections_file_leaves_contradictions_out(fault: str, tmp_path: Path) -> None:
    kind, _, called, _ = TARGET_FAULTS[fault]
    root = planted(fault, tmp_path)
    report = examined(kind, root, tmp_path)
    assert report.corrections is not None
    kept = shutil.copy(report.corrections, tmp_path / "corrections.csv")
    assert not of(examined(kind, root, tmp_path, corrections=kept), called)


def test_a_list_of_classes_of_which_one_is_drawn(tmp_path: Path) -> None:
    root = masked(tmp_path / "data")
    for path in (root / "masks").iterdir():
        Image.new("L", (64, 64)).save(path)
    (finding,) = of(examined("masks", root, tmp_path), "balance")
    assert finding.grade == "fault"
    _drawn(root)
    assert [f.grade for f in of(examined("masks", root, tmp_path), "balance")] == ["note"]


def test_one_label_an_image_is_a_class(tmp_path: Path) -> None:
    root = planted("one-label", tmp_path)
    (finding,) = of(examined("labels", root, tmp_path), "one-label")
    assert finding.advice == "use --task classification."


def test_a_constant_is_left_for_another_column(tmp_path: Path) -> None:
    root = planted("constant", tmp_path)
    lines = (root / "table.csv").read_text().splitlines()
    rows = [f"{line},{'height' if not i else 3.5 + i / 7}" for i, line in enumerate(lines)]
    (root / "table.csv").write_text("\n".join(rows))
    report = examined("numbers", root, tmp_path, task="regression", label_column="height")
    assert not of(report, "constant")
    assert of(examined("numbers", root, tmp_path, task="regression", label_column="size"), "constant")


# ------------------------------------------------------------------------------------------------------ what is told


def test_a_copy_that_is_mirrored_with_its_mask_is_no_contradiction(tmp_path: Path) -> None:
    report = examined("masks", planted("mirrored-copy", tmp_path), tmp_path)
    assert not of(report, "near-copies-across-masks")
    assert isinstance(report.found.masks, MaskSurvey)
    assert report.found.masks.overlap(3, COUNT, exact=False) > 0.95
    assert report.found.masks.overlap(3, COUNT, exact=True) < 0.95


def test_the_table_of_classes_counts_pixels_and_images(tmp_path: Path) -> None:
    root = masked(tmp_path / "data")
    truths = [np.array(Image.open(path)) for path in sorted((root / "masks").iterdir())]
    report = examined("masks", root, tmp_path)
    rows = report.summary["targets"]
    for k, row in enumerate(rows):
        assert row["pixels"] == sum(int((mask == k).sum()) for mask in truths)
        assert row["images"] == sum(bool((mask == k).any()) for mask in truths)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-5)
    page = (report.folder / "index.html").read_text()
    assert all(f"<td>{row['name']}</td>" in page and f"{row['pixels']:,}" in page for row in rows)


def test_what_is_asked_is_told_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = masked(tmp_path / "data")
    shutil.move(root / "masks", tmp_path / "drawn")
    words = ["doctor", str(root), "--runs", str(tmp_path / "runs"), "--json"]
    assert cli.run([*words, "--masks", str(tmp_path / "drawn")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["task"] == "segmentation"
    assert told["classes"] == 3
    numbers = numbered(tmp_path / "numbers")
    assert cli.run(["doctor", str(numbers / "table.csv"), "--runs", str(tmp_path / "runs"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["task"] == "regression"
    assert told["targets"][0]["least"] <= told["targets"][0]["middle"] <= told["targets"][0]["most"]
    assert cli.run(["doctor", str(root), "--runs", str(tmp_path / "runs"), "--task", "segmentation"]) != 0


def test_frames_of_a_video_are_told_of_masks_too(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for video in range(3):
        start, end = pattern(100 + video, 64), pattern(200 + video, 64)
        for frame in range(14):
            name = f"clip{'abc'[video]}_{frame:03}.png"
            Image.blend(start, end, frame * 0.02).save(root / "images" / name)
            mask = np.zeros((64, 64), np.uint8)
            mask[10 + frame : 40 + frame, 10:40] = 255
            Image.fromarray(mask).save(root / "masks" / name)
    report = examined("masks", root, tmp_path)
    (finding,) = of(report, "frames-of-video")
    assert not of(report, "near-copies-across-masks")
    assert not of(examined("masks", root, tmp_path, group=finding.advice.split("'")[1]), "frames-of-video")


def test_masks_with_one_value_and_those_of_too_many_are_still_examined(tmp_path: Path) -> None:
    root = masked(tmp_path / "data")
    (root / "classes.txt").unlink()
    for path in (root / "masks").iterdir():
        Image.new("L", (64, 64)).save(path)
    report = examined("masks", root, tmp_path)
    (finding,) = of(report, "refused")
    assert "one value only" in finding.sentence
    assert report.summary["images"] == COUNT
    assert report.summary["targets"] == []
