"""A command killed between two writes goes on by being typed again, to the bytes of one that nothing disturbed."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kill_points import Ended, Killer, killing, remains
from small_targets import discs

KILLED = -9
TRAIN = "--width 4 --image-size 16 --epochs 2"
TRANSFER = "transfer IMAGES --image-size 64 --engine torch"
A_RUN = f"train IMAGES --name r {TRAIN}"

# By name: what has to be there before, the command, and of how many turns the slow test takes one.
COMMANDS: dict[str, tuple[str, str, int]] = {
    "train": ("", f"train IMAGES --name r --watch --lr auto {TRAIN}", 1),
    "evaluate": (A_RUN, "evaluate r", 1),
    "diagnose": (A_RUN, "diagnose r --images 2", 1),
    "export": (A_RUN, "export r --format safetensors", 1),
    "export onnx": (A_RUN, "export r", 1),
    "explain": (A_RUN, "explain r --seeds 1 --ablate 4 --count 2", 1),
    "explain an image": (A_RUN, "explain r --image IMAGES/test/checks/0.png", 1),
    "features": ("", "features IMAGES --image-size 64 --engine torch", 1),
    "study": ("", "study toy --html", 1),
    "transfer": ("", f"{TRANSFER} --name t", 1),
    "transfer without a name": ("", TRANSFER, 2),
    "transfer with cards": ("", f"{TRANSFER} --name t --cards", 2),
    "transfer with a budget": ("", f"{TRANSFER} --name t --budget 5", 5),
    "transfer to masks": ("", "transfer MASKED --image-size 64 --engine torch --name t --budget 5", 5),
}


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with killing() as made:
        yield made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small images of two classes, with an own test folder; beside them as many with masks."""
    root, rng = tmp_path_factory.mktemp("data") / "images", np.random.default_rng(0)
    discs(root.parent / "masked", 24)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("checks", "stripes"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                y, x = np.mgrid[:24, :24] + int(rng.integers(0, 40))
                width = int(rng.integers(3, 6))
                lit = (x // width + y // width) % 2 if name == "checks" else x // width % 2
                image = (200 * lit[..., None] * rng.uniform(0.3, 1, 3)).astype(np.uint8)
                Image.fromarray(image).save(root / part / name / f"{i}.png")
    return root


@dataclass(frozen=True)
class Undisturbed:
    """A command that nothing disturbed: its words, the folder before it, what remained, and its turns."""

    words: list[str]
    before: Path
    remained: dict[str, str]
    turns: list[int]


@pytest.fixture(scope="module")
def undisturbed(killer: Killer, images: Path, tmp_path_factory: pytest.TempPathFactory):
    made: dict[str, Undisturbed] = {}

    def of(name: str) -> Undisturbed:
        if name not in made:
            first, words = _words(name, images)
            before = tmp_path_factory.mktemp("before")
            if first:
                assert killer.run(before, first).code == 0
            whole = tmp_path_factory.mktemp("whole") / "whole"
            shutil.copytree(before, whole)
            ended = killer.run(whole, words)
            assert ended.code == 0, ended.said
            made[name] = Undisturbed(words, before, remains(whole), ended.turns)
        return made[name]

    return of


def _words(name: str, images: Path) -> list[list[str]]:
    places = {"IMAGES": str(images), "MASKED": str(images.parent / "masked")}
    lines = [line.split() for line in COMMANDS[name][:2]]
    return [[next((w.replace(k, p) for k, p in places.items() if k in w), w) for w in line] for line in lines]


def kill_and_go_on(killer: Killer, whole: Undisturbed, folder: Path, last: int | str) -> Ended:
    """Kill a command, type it again, and compare; a training is gone on with as its refusal says."""
    shutil.copytree(whole.before, folder)
    killed = killer.run(folder, whole.words, last)
    assert killed.code == KILLED, f"{last}: {killed.said}"
    ended = killer.run(folder, whole.words)
    if whole.words[0] == "train" and ended.code == 73:
        told = re.search(r"go on with it by (convscope .*), or choose", ended.said)
        assert told, ended.said
        ended = killer.run(folder, shlex.split(told[1])[1:])
    assert ended.code == 0, f"killed at {last}: {ended.said}"
    found = remains(folder)
    paths = sorted(found.keys() | whole.remained.keys())
    others = [path for path in paths if found.get(path) != whole.remained.get(path)]
    assert not others, f"killed at {last}: {others}"
    shutil.rmtree(folder)
    return ended


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("train", "r/lr.png"),
        ("train", "r/recipe.json"),
        ("train", "step-00000002.safetensors"),
        ("train", "r/curves.png"),
        ("evaluate", "r/openings.jsonl"),
        ("evaluate", "-test"),
        ("explain", "explain/conv3.json"),
        ("transfer", "t/classifier.safetensors"),
        ("transfer", "t/transfer/test.json"),
        ("transfer to masks", "transfer/last-stage.safetensors x2"),  # after its first epoch
        ("transfer to masks", "transfer/full.safetensors x2"),
        ("transfer to masks", "t/transfer/test.json"),
    ],
)
def test_killed_after_a_file_it_goes_on(killer: Killer, undisturbed, tmp_path: Path, name: str, file: str) -> None:
    kill_and_go_on(killer, undisturbed(name), tmp_path / "killed", file)


def test_a_transfer_without_a_name_goes_on_with_its_own(killer: Killer, undisturbed, images: Path, tmp_path: Path):
    whole = undisturbed("transfer without a name")
    ended = kill_and_go_on(killer, whole, tmp_path / "killed", "-1/classifier.safetensors")
    assert f"goes on with run '{images.name}-lite0-1', which was stopped" in ended.said


def test_a_stopped_transfer_that_asked_for_something_else_is_left_alone(killer: Killer, images: Path, tmp_path: Path):
    words = [w.replace("IMAGES", str(images)) for w in TRANSFER.split()]
    assert killer.run(tmp_path, words, "-1/recipe.json").code == KILLED
    assert killer.run(tmp_path, [*words, "--seed", "1"], "-2/recipe.json").code == KILLED
    refused = killer.run(tmp_path, [*words, "--seed", "1", "--name", f"{images.name}-lite0-1"])
    assert refused.code == 73
    assert "was stopped: it was begun with seed 0 and not 1" in refused.said


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_turn_it_goes_on(killer: Killer, undisturbed, tmp_path: Path, name: str) -> None:
    """All turns but the last, after which nothing was left to do."""
    whole = undisturbed(name)
    aimed = whole.turns[: -1 : COMMANDS[name][2]]
    for turn in aimed:
        kill_and_go_on(killer, whole, tmp_path / f"killed-{turn}", turn)
    print(f"{name}: {len(aimed)} kills of {len(whole.turns) - 1} turns")  # noqa: T201 - with -s, for the log
