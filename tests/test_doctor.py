"""The doctor: every planted fault is found and named, nothing in a clean folder is, and what it advises mends it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
import planted_folders
from convscope import cli
from convscope.datasets.corrections import RELABEL, read_corrections, write_corrections
from convscope.datasets.registry import load_dataset
from convscope.errors import ConvscopeError, DataError, StorageError, UsageError
from convscope.inspection.command import doctor
from convscope.inspection.report import DoctorReport
from convscope.inspection.wrong_labels import out_of_fold
from planted_folders import CLASSES, FAULTS, clean, in_parts, pattern


def examined(root: Path, tmp_path: Path, **options: object) -> DoctorReport:
    return doctor(root, labels=False, runs=tmp_path / "runs", **options)


def planted(fault: str, tmp_path: Path) -> Path:
    plant, _, parts = FAULTS[fault]
    root = (in_parts if parts else clean)(tmp_path / "data")
    plant(root)
    return root


def kinds(report: DoctorReport) -> set[str]:
    return {finding.kind for finding in report.findings}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    report = examined(planted(fault, tmp_path), tmp_path)
    assert FAULTS[fault][1] in kinds(report)
    assert report.summary["verdict"].startswith("sound") == all(f.grade == "note" for f in report.findings)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_in_a_clean_folder_is_a_fault_or_a_doubt(seed: int, tmp_path: Path) -> None:
    for make in (clean, in_parts):
        report = examined(make(tmp_path / make.__name__, 100 + seed), tmp_path)
        assert [f for f in report.findings if f.grade != "note"] == []
        assert report.summary["verdict"].startswith("sound")
        assert report.corrections is None


def test_images_are_looked_at_and_not_touched(tmp_path: Path) -> None:
    root = planted("near-across-labels", tmp_path)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()}
    examined(root, tmp_path)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()} == before


# ----------------------------------------------------------------------------------------- what the advice says helps


def _add_class(root: Path) -> None:
    clean(root / "test", 400, 12, ("wasps",))


def _one_format(root: Path) -> None:
    for path in sorted(root.rglob("*.jpg")):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()


def _move(pattern_: str) -> Callable[[Path], None]:
    def move(root: Path) -> None:
        for path in sorted(root.rglob(pattern_)):
            shutil.move(path, root.parent / f"moved-{path.name}")

    return move


def _copy_what_it_points_to(root: Path) -> None:
    for path in sorted(root.rglob("*.png")):
        if path.is_symlink():
            target = path.resolve()
            path.unlink()
            shutil.copy(target, path)


def _rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: (root / old).rename(root / new)


def _into_the_class(root: Path) -> None:
    (root / "lost.png").rename(root / "ants" / "lost.png")


def _merge(root: Path) -> None:
    for path in sorted((root / "train" / "ants ").iterdir()):
        path.rename(root / "train" / "ants" / path.name)
    (root / "train" / "ants ").rmdir()


MENDED: dict[str, Callable[[Path], None]] = {
    "truncated": lambda root: [pattern(5000 + i).save(p) for i, p in enumerate(sorted((root / "ants").iterdir())[:3])],
    "upload-leftover": _move("*.part"),
    "stray-image": _into_the_class,
    "link-outside": _copy_what_it_points_to,
    "broken-link": lambda root: (root / "bees" / "gone.png").unlink(),
    "pipe": lambda root: (root / "ants" / "pipe.png").unlink(),
    "unread-kind": lambda root: [pattern(6).save(root / "ants" / "phone.png"), (root / "ants" / "phone.psd").unlink()],
    "wrong-ending": lambda root: [p.rename(p.with_suffix(".png")) for p in sorted((root / "ants").glob("*.jpg"))],
    "blank": _move("nothing.png"),
    "masks-beside": _move("*_masks"),
    "masks-within": _move("*_mask.png"),
    "trailing-blank": _merge,
    "other-case": _rename("test/Ants", "test/ants"),
    "missing-from-test": _add_class,
    "exact-copies": _move("copy_*"),
    "exact-across-parts": _move("again_*"),
    "exact-across-labels": lambda root: [
        (root / "bees" / p.name).unlink() for p in sorted((root / "bees").glob("ants*"))
    ],
    "one-class-as-jpeg": _one_format,
    "one-class-larger": lambda root: [
        Image.open(p).resize((64, 64)).save(p) for n in CLASSES for p in sorted((root / n).glob("*.png"))
    ],
    "one-class-brighter": lambda root: [planted_folders.one_class_brighter(root, name) for name in CLASSES[1:]],
}


@pytest.mark.parametrize("fault", MENDED)
def test_what_the_advice_says_mends_it(fault: str, tmp_path: Path) -> None:
    root = planted(fault, tmp_path)
    MENDED[fault](root)
    assert FAULTS[fault][1] not in kinds(examined(root, tmp_path))


MENDED_BY_CORRECTIONS = (
    "truncated",
    "masks-within",
    "exact-across-labels",
    "near-across-parts",
    "near-across-labels",
    "saved-again",
)


@pytest.mark.parametrize("fault", MENDED_BY_CORRECTIONS)
def test_the_corrections_file_mends_what_it_says(fault: str, tmp_path: Path) -> None:
    root = planted(fault, tmp_path)
    report = examined(root, tmp_path)
    assert report.corrections is not None
    kept = shutil.copy(report.corrections, tmp_path / "corrections.csv")
    after = examined(root, tmp_path, corrections=kept)
    assert FAULTS[fault][1] not in kinds(after)
    assert any(note.startswith("corrections: ") for note in after.notes)


def test_classes_in_names_are_taken_from_there(tmp_path: Path) -> None:
    root = planted("classes-in-names", tmp_path)
    with pytest.raises(DataError, match="holds one class"):
        load_dataset(root)
    (finding,) = [f for f in examined(root, tmp_path).findings if f.kind == "classes-in-names"]
    regex = finding.advice.split("'")[1]
    assert load_dataset(root, label_from=regex).class_names == CLASSES


def test_frames_are_kept_on_one_side(tmp_path: Path) -> None:
    root = planted("frames-of-videos", tmp_path)
    (finding,) = [f for f in examined(root, tmp_path).findings if f.kind == "frames-of-video"]
    dataset = load_dataset(root, group=finding.advice.split("'")[1])
    side = {}
    for part, index in dataset.parts.items():
        for i in index:
            assert side.setdefault(dataset.origins(i).split("_")[0], part) == part


def test_photographs_that_a_camera_counted_are_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their near copies lie anywhere among the numbers, and those of a video beside one another."""
    root = planted("frames-of-videos", tmp_path)
    paths = sorted(root.rglob("*.png"))
    numbers = np.random.default_rng(0).permutation(100 * len(paths))[: len(paths)]
    for i, path in enumerate(paths):
        path.rename(path.with_name(f"{('IMG_', 'DSC', 'P')[i % 3]}{numbers[i]:05}.png"))
    assert "frames-of-video" not in kinds(examined(root, tmp_path))
    monkeypatch.setattr("convscope.inspection.copy_findings.NEIGHBOURS", 10_000)  # then any two are neighbours
    assert "frames-of-video" in kinds(examined(root, tmp_path))


def test_a_video_longer_than_all_others_is_split_by_hand(tmp_path: Path) -> None:
    root = planted("frames-of-videos", tmp_path)
    for path in sorted((root / CLASSES[2]).glob("*.png")) + sorted((root / CLASSES[1]).glob(f"{CLASSES[1]}clip1*.png")):
        path.unlink()
    for number, path in enumerate(sorted((root / CLASSES[1]).glob("*.png"))):
        path.rename(path.with_name(f"{CLASSES[0]}clip0_{900 + number}.png"))
    (finding,) = [f for f in examined(root, tmp_path).findings if f.kind == "frames-of-video"]
    assert finding.advice == "split by hand, into folders train, val and test, so that neighbours stay on one side."


def test_labels_are_judged_by_as_many_folds_as_there_are_groups(tmp_path: Path) -> None:
    chance = out_of_fold(np.random.default_rng(0).normal(size=(20, 8)), np.arange(20) % 2, np.arange(20) % 2)
    assert chance.shape == (20, 2)
    assert (out_of_fold(np.zeros((4, 3)), np.array([0, 1, 0, 1]), np.zeros(4, int)) == 0.5).all()


def test_what_shows_nothing_is_left_out_by_the_corrections(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    Image.new("RGB", (32, 32), (9, 9, 9)).save(root / "ants" / "black.png")
    found = examined(root, tmp_path)
    assert "blank" in kinds(found)
    assert found.corrections is not None
    assert "a single grey or colour" in found.corrections.read_text(encoding="utf-8")
    mended = load_dataset(root, corrections=found.corrections)
    assert not any("black" in mended.origins(i) for i in range(len(mended)))


def test_a_users_word_on_an_image_stays(tmp_path: Path) -> None:
    """An examination with corrections adds none of an image that they speak of."""
    root = planted("near-across-labels", tmp_path)
    first = examined(root, tmp_path)
    assert first.corrections is not None
    word = replace(read_corrections(first.corrections)[0], action=RELABEL, label="ants")
    own = tmp_path / "own.csv"
    write_corrections(own, [word])
    second = examined(root, tmp_path, corrections=own)
    assert second.corrections is not None
    load_dataset(root, corrections=second.corrections)


def test_a_blank_at_the_end_of_a_name_is_told_and_gone_when_renamed(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    (root / "ants").rename(root / "ants ")
    assert "names-alike" in kinds(examined(root, tmp_path))
    (root / "ants ").rename(root / "ants")
    assert "names-alike" not in kinds(examined(root, tmp_path))


def test_groups_are_named_in_a_table_and_kept_on_one_side(tmp_path: Path) -> None:
    root = planted("groups-as-classes", tmp_path)
    rows = [f"{p.relative_to(root)},{CLASSES[i % 2]}" for i, p in enumerate(sorted(root.rglob("*.png")))]
    (tmp_path / "classes.csv").write_text("\n".join(["path,label", *rows]))
    dataset = load_dataset(tmp_path / "classes.csv", images=root, group="(patient_[0-9]+)/")
    assert dataset.class_names == CLASSES[:2]
    assert len(np.unique(dataset.together)) == 12
    report = examined(tmp_path / "classes.csv", tmp_path, images=root)
    assert "groups-as-classes" not in kinds(report)


def test_a_class_of_few_images_is_filled(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=6)
    assert "few-images" in kinds(examined(root, tmp_path))
    clean(root, 7, 50)
    assert "few-images" not in kinds(examined(root, tmp_path))


def test_classes_that_are_not_balanced_are_trained_with_balance(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=40)
    for path in sorted((root / "ants").iterdir())[3:]:
        path.unlink()
    (finding,) = [f for f in examined(root, tmp_path).findings if f.kind == "balance"]
    assert "train with --balance" in finding.advice
    words = ["--epochs", "1", "--model", "alexnet", "--width", "4", "--image-size", "16", "--balance"]
    assert cli.run(["train", str(root), *words, "--runs", str(tmp_path / "runs")]) == 0


def test_files_without_an_ending_are_images_with_one(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    path = (root / "ants" / "ants000.png").rename(root / "ants" / "ants000")
    assert "no-ending" in kinds(examined(root, tmp_path))
    path.rename(path.with_suffix(".jpg"))
    assert "no-ending" not in kinds(examined(root, tmp_path))


def test_a_linked_folder_is_copied(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    os.symlink(root / "bees", root / "ants" / "more", target_is_directory=True)
    assert "links-inside" in kinds(examined(root, tmp_path))
    (root / "ants" / "more").unlink()
    clean(root / "ants", 8, 3, ("more",))
    assert "links-inside" not in kinds(examined(root, tmp_path))


def test_an_empty_folder_is_removed(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    (root / "ants" / "none").mkdir()
    assert "empty-folders" in kinds(examined(root, tmp_path))
    (root / "ants" / "none").rmdir()
    assert "empty-folders" not in kinds(examined(root, tmp_path))


def test_tiny_images_are_told(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    pattern(1).resize((9, 9)).save(root / "ants" / "tiny.png")
    (finding,) = [f for f in examined(root, tmp_path).findings if f.kind == "tiny"]
    assert finding.where == ("ants/tiny.png",)


# ---------------------------------------------------------------------------------------------------- how it is told


def test_the_page_and_the_json_tell_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted("near-across-labels", tmp_path)
    (root / "bees" / "<script>alert(1)<").mkdir()
    Image.open(root / "wasps" / "wasps000.png").save(root / "bees" / "<script>alert(1)<" / "x.png")
    assert cli.run(["doctor", str(root), "--no-labels", "--runs", str(tmp_path / "runs"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    folder = Path(told["folder"])
    page = (folder / "index.html").read_text()
    assert "<script" not in page
    assert page.count('class="card') >= 4
    written = json.loads((folder / "doctor.json").read_text())
    assert written["findings"] == told["findings"]
    assert (folder / "corrections.csv").read_text().splitlines()[0] == "hash,action,label,reason,image,check"
    assert cli.run(["doctor", str(root), "--no-labels", "--runs", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(told["verdict"])
    assert all(f"{f['grade']:<5} {f['kind']}: " in out for f in told["findings"])


def test_corrections_of_before_do_not_stay(tmp_path: Path) -> None:
    root = planted("saved-again", tmp_path)
    assert examined(root, tmp_path).corrections is not None
    for path in sorted((root / "ants").glob("near_*")):
        path.unlink()
    report = examined(root, tmp_path)
    assert report.corrections is None
    assert not (report.folder / "corrections.csv").exists()


def test_corrections_of_before_stay_where_new_ones_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = planted("saved-again", tmp_path)
    before = examined(root, tmp_path).corrections
    assert before is not None
    held = before.read_text()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"doctor.json: the disk is full. What was there before is untouched"):
        examined(root, tmp_path)
    assert before.read_text() == held


def test_what_cannot_be_examined_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for data, error in (("empty", DataError), ("none", ConvscopeError)):
        with pytest.raises(error):
            examined(tmp_path / data, tmp_path)
    with pytest.raises(UsageError, match="limit"):
        examined(clean(tmp_path / "data", each=3), tmp_path, limit=0)


def test_a_folder_of_nothing_but_bad_files_is_examined(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=3)
    for path in root.rglob("*.png"):
        path.write_bytes(planted_folders.LFS)
    report = examined(root, tmp_path)
    assert "9 images cannot be read, a pointer of Git LFS" in report.findings[0].sentence
    with pytest.raises(DataError, match=r"none of the 9 images can be read.*git lfs pull"):
        load_dataset(root)


def test_a_named_dataset_and_a_table_are_examined(tmp_path: Path) -> None:
    assert examined(Path("shapes"), tmp_path, limit=200).summary["images"] == 200
    root = clean(tmp_path / "data")
    rows = [f"{p.relative_to(root)},{p.parent.name}" for p in sorted(root.rglob("*.png"))]
    (root / "table.csv").write_text("\n".join(["path,label", *rows, "ants/none.png,ants"]))
    report = examined(root / "table.csv", tmp_path)
    assert any(f.kind == "missing-files" for f in report.findings)


@pytest.mark.slow
def test_labels_are_judged_by_a_network_that_has_not_seen_the_image(tmp_path: Path) -> None:
    """Three kinds of plain drawings, two of them under a wrong name: those two are told, and relabelled by the file."""
    data = load_dataset("shapes", limit=240)
    names = data.class_names[:3]
    for i in np.flatnonzero(data.labels < 3):
        folder = tmp_path / "data" / names[data.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[i]).save(folder / f"{i}.png")
    wrong = sorted((tmp_path / "data" / names[0]).iterdir())[:2]
    moved = [path.rename(tmp_path / "data" / names[1] / f"moved{path.name}") for path in wrong]
    report = doctor(tmp_path / "data", labels=True, runs=tmp_path / "runs")
    check = report.found.labels
    assert check is not None
    assert report.summary["label_accuracy"] == check.accuracy > 0.8
    names_judged = report.found.survey.names(check.index)
    ranks = np.argsort(np.argsort(check.own))
    assert all(ranks[names_judged.index(f"{names[1]}/{path.name}")] < 0.2 * len(ranks) for path in moved)


# --------------------------------------------------------------------------------------- what was wrong here once


def test_a_corrections_file_in_use_or_edited_is_never_written_over(tmp_path: Path) -> None:
    root = planted("saved-again", tmp_path)
    first = examined(root, tmp_path).corrections
    assert first is not None
    lines = first.read_text().splitlines(keepends=True)
    assert examined(root, tmp_path, corrections=first).corrections is None
    assert first.read_text() == "".join(lines)
    first.write_text("".join(lines[:3]))  # all but two were struck out
    again = examined(root, tmp_path)
    assert again.corrections == first.with_name("corrections-2.csv")
    assert first.read_text() == "".join(lines[:3])
    assert examined(root, tmp_path).corrections == again.corrections  # its own is written over


def test_a_corrections_file_of_a_run_is_kept(tmp_path: Path) -> None:
    root = planted("saved-again", tmp_path)
    first = examined(root, tmp_path).corrections
    assert first is not None
    small = {"epochs": 1, "width": 8, "image_size": 16, "device": "cpu", "runs": first.parent.parent.parent}
    convscope.train(root, name="r", corrections=first, **small)
    before = first.read_bytes()
    next((root / "ants").iterdir()).unlink()
    assert examined(root, tmp_path).corrections != first
    assert first.read_bytes() == before


def test_new_corrections_stand_beside_those_in_use(tmp_path: Path) -> None:
    root = planted("truncated", tmp_path)
    first = examined(root, tmp_path).corrections
    assert first is not None
    next((root / "bees").iterdir()).write_bytes(b"no image")
    again = examined(root, tmp_path, corrections=first)
    assert again.corrections == first.with_name("corrections-2.csv")
    assert read_corrections(again.corrections)[:-1] == read_corrections(first)
    assert not examined(root, tmp_path, corrections=again.corrections).found.survey.reasons


def test_a_place_that_cannot_be_written_is_told_before_images_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = clean(tmp_path / "data", each=4)
    monkeypatch.setattr("convscope.inspection.command.examine", lambda *_: pytest.fail("images were read"))
    (tmp_path / "runs").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        doctor(root, runs=tmp_path / "runs")


@pytest.mark.parametrize(("classes", "each"), [(30, 3), (2, 2), (3, 12)])
def test_few_images_a_class_or_few_groups_end_in_no_error(classes: int, each: int, tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=each, classes=tuple(f"kind {chr(97 + i)}x" for i in range(classes)))
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(path.with_name(f"clip{i % 3}_{i}.png"))
    one = root / "kind ax"
    for path in sorted(one.iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
    examined(root, tmp_path, group="^(clip[0-9])")
    report = doctor(root, labels=True, runs=tmp_path / "runs", limit=classes * 2) if classes == 2 else None
    assert report is None or not report.summary["labels_checked"]


def test_folders_within_classes_are_told_and_moved_up_or_grouped(tmp_path: Path) -> None:
    root = planted("folders-in-classes", tmp_path)
    (finding,) = [f for f in examined(root, tmp_path).findings if f.kind == "folders-in-classes"]
    assert finding.count == 2 * len(CLASSES)
    grouped = examined(root, tmp_path, group=finding.advice.split("'")[1])
    assert "folders-in-classes" not in kinds(grouped)
    groups = grouped.found.survey.unsplit.groups
    assert groups is not None
    assert set(groups) == {f"{name} {i}" for name in CLASSES for i in range(2)}
    for inner in sorted(root.glob("*/*")):
        inner.rename(root / inner.name)
    for name in CLASSES:
        (root / name).rmdir()
    after = examined(root, tmp_path)
    assert "folders-in-classes" not in kinds(after)
    assert after.summary["classes"] == 2 * len(CLASSES)


def test_files_that_a_table_names_and_that_are_missing(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    rows = [f"{p.relative_to(root)},{p.parent.name}" for p in sorted(root.rglob("*.png"))]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    report = examined(tmp_path / "t.csv", tmp_path)
    assert "missing-files" in kinds(report)
    assert report.corrections is None  # a training would miss them all the same
    assert "missing-files" not in kinds(examined(tmp_path / "t.csv", tmp_path, images=root))


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    packed = shutil.make_archive(str(tmp_path / "photos"), "zip", root)
    with pytest.raises(DataError, match="unpack it"):
        doctor(packed, runs=tmp_path / "runs")


def test_a_table_is_not_judged_by_what_lies_beside_it(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    (root / "other").mkdir()
    rows = []
    for path in sorted(root.rglob("*.png")):
        rows.append(f"{path.name},{path.parent.name}")
        path.rename(root / path.name)
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert [f for f in examined(root / "labels.csv", tmp_path).findings if f.grade == "fault"] == []
    assert "strays" not in kinds(examined(root, tmp_path, label_from="^([a-z]+)"))


def test_images_loose_in_a_part_are_told(tmp_path: Path) -> None:
    root = in_parts(tmp_path / "data")
    pattern(9).save(root / "train" / "loose.png")
    (finding,) = [f for f in examined(root, tmp_path).findings if f.kind == "strays"]
    assert finding.where == ("train/loose.png",)


def test_masks_are_looked_at_as_classes_where_that_is_said(tmp_path: Path) -> None:
    root = planted("masks-beside", tmp_path)
    found = {}
    for task in (None, "classification"):
        report = examined(root, tmp_path, task=task)
        (found[task], *_) = [f for f in report.findings if f.kind == "masks"]
        assert report.summary["task"] == (task or "segmentation")
    assert found[None].grade == "note"
    assert "--task classification" in found[None].advice
    assert found["classification"].grade == "fault"


def test_scans_and_photographs_of_the_same_numbers_may_be_classes(tmp_path: Path) -> None:
    for i in range(20):
        for name, image in (
            ("scan", pattern(i).convert("L").point(lambda v: 255 * (v > 128))),
            ("photo", pattern(500 + i)),
        ):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "data" / name / f"{i:04}.png")
    (finding,) = [f for f in examined(tmp_path / "data", tmp_path).findings if f.kind == "masks"]
    assert finding.grade == "doubt"


def test_narrow_images_of_16_bits_are_not_blank(tmp_path: Path) -> None:
    for i in range(20):
        grey = np.asarray(pattern(i).convert("L")).astype(np.uint16) * 4
        (tmp_path / "data" / ("ants", "bees")[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(tmp_path / "data" / ("ants", "bees")[i % 2] / f"{i}.png")
    assert "blank" not in kinds(examined(tmp_path / "data", tmp_path))


def test_letters_in_two_cases_are_a_doubt_and_words_with_an_s_no_groups(tmp_path: Path) -> None:
    root = clean(tmp_path / "letters", each=12, classes=("A", "a", "B", "b"))
    assert [f.grade for f in examined(root, tmp_path).findings if f.kind == "names-alike"] == ["doubt", "doubt"]
    root = clean(tmp_path / "numbers", each=12, classes=tuple(f"class{i}" for i in range(6)))
    assert "groups-as-classes" not in kinds(examined(root, tmp_path))


def test_with_their_groups_frames_are_no_fault(tmp_path: Path) -> None:
    root = planted("frames-of-videos", tmp_path)
    report = examined(root, tmp_path, group=r"^(.*?)\d+\D*$")
    assert not {"frames-of-video", "shortcut"} & kinds(report)
    assert report.corrections is None


@pytest.mark.skipif(os.name == "nt", reason="no such links")
def test_a_link_to_itself_in_the_root_ends(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    os.symlink("round", root / "round")
    assert "links-broken" in kinds(examined(root, tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="no such links")
def test_a_linked_class_folder_is_read_and_not_said_to_be_left_out(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    (root / "wasps").rename(root / ".store")
    os.symlink(".store", root / "wasps")
    report = examined(root, tmp_path)
    assert report.summary["classes"] == 3
    assert "links-inside" not in kinds(report)


@pytest.mark.skipif(os.name == "nt", reason="no such links")
def test_a_link_to_itself_ends(tmp_path: Path) -> None:
    root = clean(tmp_path / "data")
    os.symlink(root, root / "ants" / "again")
    assert "links-inside" in kinds(examined(root, tmp_path))
