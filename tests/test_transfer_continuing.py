"""A transfer that goes on from an earlier one: what is new, what stays in its part, and whether it helped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import convscope
from convscope import cli
from convscope.classifying.classifier import Classifier
from convscope.datasets.registry import load_dataset
from convscope.errors import ConvscopeError, UsageError
from convscope.storage import commit_json, read_json
from convscope.tensor_files import commit_tensors
from convscope.training.runs import Run, runs_folder
from convscope.training.seen import FILE, read_run_images
from planted_folders import clean, grown_copy

ASKED = {"image_size": 64, "engine": "torch", "quick": True}
WORDS = ["--image-size", "64", "--engine", "torch", "--quick"]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and the folder of runs with the transfer "old" of it."""
    place = tmp_path_factory.mktemp("earlier")
    root = clean(place / "data", each=20)
    convscope.transfer(root, name="old", runs=place / "runs", **ASKED)
    return root, place / "runs"


@pytest.fixture
def grown(earlier: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both, with 5 images more of the ants, one of the bees gone, and a new class."""
    monkeypatch.setenv("CONVSCOPE_RUNS", str(tmp_path / "runs"))
    return grown_copy(earlier, tmp_path)


def test_it_tells_what_is_new_and_whether_that_helped(grown: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["transfer", str(grown), "--continue-from", "old", "--name", "new", "--json", *WORDS]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    old, new = (Run(runs_folder() / name) for name in ("old", "new"))
    before, after = read_run_images(old.folder), read_run_images(new.folder)
    assert before is not None
    assert after is not None
    parts = dict(zip(after.keys.tolist(), after.part.tolist(), strict=True))
    stay = {key: part for key, part in zip(before.keys.tolist(), before.part.tolist(), strict=True) if key in parts}
    assert len(stay) == len(before.keys) - 1
    assert {key: parts[key] for key in stay} == stay
    said = next(note for note in summary["notes"] if note.startswith("since run 'old': 17 new images ("))
    assert "12 of 'moths', 5 of 'ants'), 1 gone, 0 relabelled, new class 'moths'" in said
    found, data = summary["continued"], load_dataset(grown, preprocess=old.classifier().preprocess)
    index = np.flatnonzero(np.isin(data.keys, [key for key, part in stay.items() if part == 2]))
    for run, top1 in ((old, found["old_top1"]), (new, found["new_top1"])):
        answers = convscope.predict(run, [grown / data.origins(int(i)) for i in index])
        right = [a.to_json()["label"] == data.class_names[data.labels[i]] for a, i in zip(answers, index, strict=True)]
        assert np.mean(right) == pytest.approx(top1)
    assert found["n"] == len(index)
    assert found["difference"] == pytest.approx(found["new_top1"] - found["old_top1"])
    assert found["only_new_knows"] == ["moths"]
    assert found["sentence"].startswith("on the test images of run 'old', of the classes that both know: the ")
    assert "of the classes that both know" in (new.folder / "report.html").read_text()
    assert [row["place"] for row in old.openings()] == ["transfer", "continued in new"]
    assert convscope.evaluate("new").evaluated.dataset.fingerprint == new.description()["data"]["fingerprint"]


def test_an_image_that_would_change_its_part_is_kept_by_every_command(grown: Path) -> None:
    path, known, data = runs_folder() / "old" / FILE, read_run_images(runs_folder() / "old"), load_dataset(grown)
    assert known is not None
    assert known.labels is not None
    image = data.keys[data.parts["train"]][0]
    part = np.where(known.keys == image, 2, known.part).astype(np.uint8)
    tensors = {"keys": torch.from_numpy(known.keys.view(np.int64)), "part": torch.from_numpy(part)}
    commit_tensors(path, tensors | {"label": torch.from_numpy(known.labels)}, {"kind": "seen"})
    convscope.transfer(grown, name="new", continue_from="old", **ASKED)
    assert Run(runs_folder() / "new").recipe().data.sides == {f"{image:016x}": "test"}
    found = convscope.evaluate("new").evaluated
    assert image in found.dataset.keys[found.index]
    assert not any("changed" in note for note in found.notes)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"backbone": "lite0", "balance": True}, "was made without `balance`: ask for the same"),
        ({"image_size": 96}, "was made with `image_size` 64 and not 96"),
        ({"quick": False, "augment": 2}, "was made with `augment` 0 and not 2, with `quick`"),
    ],
)
def test_another_transfer_is_refused_before_anything_is_recorded(asked: dict, said: str, grown: Path) -> None:
    with pytest.raises(UsageError, match=said):
        convscope.transfer(grown, name="new", continue_from="old", **{**ASKED, **asked})
    assert not (runs_folder() / "new").exists()


def test_images_of_none_of_its_classes_are_refused(grown: Path, tmp_path: Path) -> None:
    other = clean(tmp_path / "other", classes=("cats", "dogs"), each=6)
    with pytest.raises(
        UsageError, match="classes of run 'old' are 'ants', 'bees', 'wasps', and these images are of none"
    ):
        convscope.transfer(other, continue_from="old", **ASKED)


def test_without_any_test_image_nobody_knows_whether_it_helped(grown: Path) -> None:
    data, known = load_dataset(grown, image_size=64), read_run_images(runs_folder() / "old")
    assert known is not None
    for i in np.flatnonzero(np.isin(data.keys, known.keys[known.part == 2])):
        (grown / data.origins(int(i))).unlink()
    made = convscope.transfer(grown, continue_from="old", **ASKED)
    assert made.summary["continued"] is None
    assert "no test image of run 'old' is there, so nobody knows whether it helped." in made.notes


def test_other_weights_are_told_apart(earlier: tuple[Path, Path], grown: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    state = {name: t.contiguous() for name, t in Classifier.pretrained("lite0").network.state_dict().items()}
    save_file(
        {name: tensor * 1.01 if name == "conv_head.weight" else tensor for name, tensor in state.items()}, weights
    )
    convscope.transfer(earlier[0], name="own", weights=weights, **ASKED)
    with pytest.raises(UsageError, match="run 'own' took other weights of its backbone: give the same `weights`"):
        convscope.transfer(grown, continue_from="own", **ASKED)
    assert convscope.transfer(grown, continue_from="own", weights=weights, **ASKED).summary["continued"]


def test_runs_of_another_kind_are_told_apart(earlier: tuple[Path, Path], grown: Path) -> None:
    convscope.train(grown, name="trained", model="resnet20", width=4, image_size=16, epochs=1, batch_size=16)
    assert convscope.prepare_training(grown, continue_from="trained", epochs=1)
    path = runs_folder() / "old" / "transfer" / "transfer.json"
    path.unlink()
    _refused(grown, "trained", "was made by train: convscope train DATA --continue-from goes on from it")
    _refused(grown, "old", "run 'old' was stopped: its own command again finishes it")
    convscope.transfer(earlier[0], name="old", **ASKED)
    assert convscope.transfer(grown, continue_from="old", **ASKED).summary["continued"]
    record = runs_folder() / "old" / "recipe.json"
    box = {k: v for k, v in read_json(record).items() if k not in ("seal", "recipe", "data")}
    commit_json(record, box | {"adopted": {"network": "elsewhere"}})
    _refused(grown, "old", "trained elsewhere, on images that are not known here")
    _refused(grown, "none", "no run named 'none'")


def _refused(data: Path, run: str, said: str) -> None:
    with pytest.raises(ConvscopeError, match=said):
        convscope.transfer(data, continue_from=run, **ASKED)
