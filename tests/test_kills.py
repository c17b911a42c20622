"""A command killed between two writes goes on by being typed again, to the bytes of one that nothing disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kill_commands import COMMANDS, KILLED, TRANSFER, Undisturbed, Undisturbeds, flaw_of, make_images
from kill_points import Ended, Killer, killing


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with killing() as made:
        yield made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def undisturbed(killer: Killer, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbeds:
    return Undisturbeds(killer, images, tmp_path_factory.mktemp("commands"))


def kill_and_go_on(killer: Killer, whole: Undisturbed, last: int | str) -> Ended:
    ended, flaw = flaw_of(killer, whole, last)
    assert not flaw, f"killed at {last}: {flaw}"
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
def test_killed_after_a_file_it_goes_on(killer: Killer, undisturbed: Undisturbeds, name: str, file: str) -> None:
    kill_and_go_on(killer, undisturbed.of(name), file)


def test_a_transfer_without_a_name_goes_on_with_its_own(killer: Killer, undisturbed: Undisturbeds, images: Path):
    whole = undisturbed.of("transfer without a name")
    ended = kill_and_go_on(killer, whole, "-1/classifier.safetensors")
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
def test_killed_at_every_turn_it_goes_on(killer: Killer, undisturbed: Undisturbeds, name: str) -> None:
    """All turns but the last, after which nothing was left to do."""
    whole = undisturbed.of(name)
    aimed = whole.ended.turns[: -1 : COMMANDS[name].every]
    for turn in aimed:
        kill_and_go_on(killer, whole, turn)
    print(f"{name}: {len(aimed)} kills of {len(whole.ended.turns) - 1} turns")  # noqa: T201 - with -s, for the log
