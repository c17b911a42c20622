"""A bit that flips in a file of a run: seen before anything of the file is used, or it changes nothing that is read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.errors import DamagedFile
from convscope.storage import commit_json, commit_lines, read_json, read_lines
from convscope.training.last import LAST
from convscope.training.runs import Run, find_run, point_last

FLIPS = 400


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two epochs, evaluated."""
    runs = tmp_path_factory.mktemp("runs")
    tiny = {"width": 4, "image_size": 16, "limit": 60, "augment": "none"}
    convscope.train("digits", model="resnet20", epochs=2, runs=runs, name="r", **tiny)
    convscope.evaluate("r", runs=runs)
    return Run(runs / "r")


@pytest.mark.parametrize(
    "name",
    "recipe.json log.jsonl timing.jsonl openings.jsonl summary.json evaluate/digits-test/evaluation.json".split(),
)
def test_every_flip_is_seen_or_changes_nothing(run: Run, tmp_path: Path, name: str) -> None:
    data = (run.folder / name).read_bytes()
    path = tmp_path / Path(name).name
    read = read_lines if path.suffix == ".jsonl" else read_json
    whole = read(run.folder / name)
    random, silent = np.random.default_rng(0), 0
    for place in (0, len(data) - 1, *random.integers(0, len(data), FLIPS - 2)):
        altered = bytearray(data)
        altered[place] ^= 1 << random.integers(8)
        path.write_bytes(altered)
        try:
            assert read(path) == whole, place  # a space that became another space
            silent += 1
        except DamagedFile:
            pass
    assert silent < FLIPS / 10


@pytest.mark.parametrize("name", ["log.jsonl", "timing.jsonl"])
def test_lines_that_are_lost_at_the_end_are_missed(run: Run, tmp_path: Path, name: str) -> None:
    text, path = (run.folder / name).read_text(), tmp_path / name
    for cut in ("", text.splitlines(keepends=True)[0], "\n"):
        path.write_text(cut)
        with pytest.raises(DamagedFile, match=f"{name} is damaged: its last lines are gone"):
            read_lines(path)
    path.write_text(text.rstrip("\n"))
    assert read_lines(path) == read_lines(run.folder / name)
    path.write_text(text.replace('+"}', '"}'))  # as earlier versions wrote it
    assert path.read_text() != text
    assert read_lines(path) == read_lines(run.folder / name)


def test_the_pointer_to_the_last_run_does_not_rot_into_another_name(run: Run, tmp_path: Path) -> None:
    for name in ("r", "s", "p"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").write_bytes((run.folder / "recipe.json").read_bytes())
    point_last(Run(tmp_path / "r"))
    assert find_run("last", tmp_path).name == "r"
    data = (tmp_path / LAST).read_bytes()
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1
        (tmp_path / LAST).write_bytes(altered)
        with contextlib.suppress(DamagedFile):
            assert find_run("last", tmp_path).name == "r"
    (tmp_path / LAST).write_text("s\n")  # as earlier versions wrote it
    assert find_run("last", tmp_path).name == "s"
    (tmp_path / LAST).write_text("")
    with pytest.raises(DamagedFile, match="last"):
        find_run("last", tmp_path)


def test_a_recipe_or_a_log_of_another_run_is_not_gone_on_with(run: Run) -> None:
    """Each whole in itself: the checkpoint knows which it was taken with."""
    for name in ("recipe.json", "log.jsonl"):
        path = run.folder / name
        before = path.read_bytes()
        if name == "recipe.json":
            box = read_json(path)
            box["recipe"]["optimizer"]["lr"] *= 2
            commit_json(path, box)
        else:
            rows = read_lines(path)
            rows[0]["val_top1"] = 1.0
            commit_lines(path, rows)
        with pytest.raises(DamagedFile, match=rf"{name} is not the one that the checkpoint"):
            convscope.train("digits", runs=run.folder.parent, name="r", resume=True)
        path.write_bytes(before)
    convscope.train("digits", runs=run.folder.parent, name="r", resume=True)


@pytest.mark.parametrize("text", ["{}", "null", "[]", "7", '{"recipe": null}', "", "{", '{"a": NaN}', '{"a": 1e999}'])
def test_what_is_no_file_of_ours_is_told(run: Run, tmp_path: Path, text: str) -> None:
    for name in ("recipe.json", "diverged.json"):
        copy = Run(tmp_path / "r")
        copy.folder.mkdir(exist_ok=True)
        for other in ("recipe.json", "log.jsonl"):
            (copy.folder / other).write_bytes((run.folder / other).read_bytes())
        (copy.folder / name).write_text(text)
        with pytest.raises(DamagedFile):
            copy.recipe()
            copy.diverged()


def test_a_sealed_record_with_wrong_types_is_told(run: Run, tmp_path: Path) -> None:
    copy = Run(tmp_path)
    (tmp_path / "log.jsonl").write_bytes((run.folder / "log.jsonl").read_bytes())
    sound = read_json(run.folder / "recipe.json")
    for part, value in (("recipe", None), ("recipe", []), ("data", {}), ("machine", 7), ("source", 7), ("data", None)):
        commit_json(tmp_path / "recipe.json", sound | {part: value})
        with pytest.raises(DamagedFile, match="is not a run's description"):
            copy.recipe()
    commit_json(tmp_path / "recipe.json", sound | {"recipe": {"model": {"width": "x"}}})
    with pytest.raises(DamagedFile, match="holds no recipe"):
        copy.recipe()
    for value in ({}, {"epoch": "1"}, {"epoch": 3, "step": 1, "lr": 1.0, "loss": 2.0, "images": []}):
        commit_json(tmp_path / "diverged.json", value)
        with pytest.raises(DamagedFile, match="where a training ran away"):
            copy.diverged()
    rows = [json.loads(json.dumps(row)) for row in run.log()]
    for key, value in (("epoch", "1"), ("val_top1", None), ("lr", [])):
        commit_lines(tmp_path / "log.jsonl", [rows[0] | {key: value}])
        with pytest.raises(DamagedFile, match="is not a log of this run"):
            copy.log()
