"""Going on from a run with more images: what is new, who stays on which side, and whether it helped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import convscope
from convscope import cli
from convscope.datasets.dataset import Dataset
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UsageError
from convscope.storage import commit_json, read_json
from convscope.tensor_files import commit_tensors
from convscope.training.continuing import Before, Helped, growth, helped, open_before, sides_of
from convscope.training.runs import Run, runs_folder
from convscope.training.seen import FILE, RunImages, read_run_images
from planted_folders import CLASSES, clean, grown_copy

TINY = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "batch_size": 16, "augment": "none"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and the folder of runs with the run "old" on it."""
    place = tmp_path_factory.mktemp("going-on")
    root = clean(place / "data", each=20)
    convscope.train(root, name="old", runs=place / "runs", **TINY)
    return root, place / "runs"


@pytest.fixture
def grown(trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder: 5 images more of the ants, one gone, one relabelled, and a new class."""
    monkeypatch.setenv("CONVSCOPE_RUNS", str(tmp_path / "runs"))
    root = grown_copy(trained, tmp_path)
    (root / "bees" / "bees001.png").rename(root / "wasps" / "moved.png")
    return root


def before() -> Before:
    return open_before("old", runs_folder(), None)


def test_a_run_knows_its_images_their_parts_and_labels(trained: tuple[Path, Path]) -> None:
    root, runs = trained
    data, known = load_dataset(root, image_size=16), read_run_images(runs / "old")
    assert known is not None
    assert known.labels is not None
    for number, part in enumerate(("train", "val", "test")):
        index = data.parts[part]
        assert known.keys[known.part == number].tolist() == data.keys[index].tolist()
        assert known.labels[known.part == number].tolist() == data.labels[index].tolist()


def test_what_is_new_is_counted_by_content(grown: Path) -> None:
    found = growth(before(), load_dataset(grown, image_size=16))
    assert sum(found.new.values()) == 17
    assert (found.gone, found.relabelled) == (1, 1)
    assert (found.new_classes, found.gone_classes) == (("moths",), ())
    assert found.new_by_class == {"moths": 12, "ants": 5}
    assert "17 new images (" in found.sentence()
    assert "; 12 of 'moths', 5 of 'ants'), 1 gone" in found.sentence()
    assert "1 relabelled, new class 'moths'; the others stay in their parts" in found.sentence()


def test_images_stay_on_their_side_and_bring_their_group_along(trained: tuple[Path, Path]) -> None:
    data = load_dataset(trained[0], image_size=16)
    now = {int(data.keys[i]): part for part, index in data.parts.items() for i in index}
    trains = data.keys[data.parts["train"]]
    known = RunImages(trains[:2], np.array([2, 1], np.uint8), np.zeros(2, np.int64))
    assert sides_of(known, data) == {f"{trains[0]:016x}": "test", f"{trains[1]:016x}": "val"}
    read = load_dataset(trained[0], image_size=16, sides=sides_of(known, data))
    moved = {int(read.keys[i]): part for part, index in read.parts.items() for i in index}
    assert moved == now | {int(trains[0]): "test", int(trains[1]): "val"}
    assert read.fingerprint != data.fingerprint
    paired = np.arange(len(data), dtype=np.uint64)
    first, second = np.flatnonzero(np.isin(data.keys, trains[:2]))
    paired[second] = paired[first]
    one = RunImages(data.keys[[first]], np.array([2], np.uint8), np.zeros(1, np.int64))
    grouped = Dataset(**{**vars(data), "groups": paired})
    assert sides_of(one, grouped) == {f"{data.keys[i]:016x}": "test" for i in (first, second)}


def test_the_head_grows_by_name(trained: tuple[Path, Path]) -> None:
    old = open_before("old", trained[1], None)
    names = ("aphids", "wasps", "ants")
    network = old.grown(old.classifier.architecture, names, seed=3)
    fresh = old.classifier.architecture.build(3, seed=3)
    was, now = old.classifier.network.state_dict(), network.state_dict()
    head = [name for name in now if len(now[name].shape) == 2][-1].removesuffix(".weight")
    for name, tensor in now.items():
        if not name.startswith(head):
            assert torch.equal(tensor, was[name])
            continue
        assert torch.equal(tensor[1], was[name][CLASSES.index("wasps")])
        assert torch.equal(tensor[2], was[name][CLASSES.index("ants")])
        assert torch.equal(tensor[0], fresh.state_dict()[name][0])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            60,
            90,
            r"^on the test images of run 'old': the new network is better than the old one by 30\.0 points \[.*\] "
            r"\(p under 0\.001, n = 100\)\.$",
        ),
        (90, 60, r"the old one is better than the new network by 30\.0 points \[\d.*, \d.*\] \(p under 0\.001"),
        (60, 61, r"do not differ \(p = 1, n = 100\): \+1\.0 points \[-.*, \+.*\]"),
    ],
)
def test_one_sentence_says_whether_it_helped(old: int, new: int, said: str, trained: tuple[Path, Path]) -> None:
    earlier, data = open_before("old", trained[1], None), load_dataset(trained[0], image_size=16)
    found = helped(earlier, data, np.arange(100) < old, np.arange(100) < new)
    assert isinstance(found, Helped)
    assert re.search(said, found.sentence())
    assert "both know" not in found.sentence()


def test_a_training_goes_on_and_is_compared(grown: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["train", str(grown), "--continue-from", "old", "--name", "new", "--epochs", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    old, new = (Run(runs_folder() / name) for name in ("old", "new"))
    data = load_dataset(grown, image_size=16)
    found = summary["continued"]
    known = before().images
    tested = set(known.keys[known.part == 2].tolist())
    assert found["n"] == len(tested & set(data.keys.tolist()))
    assert found["only_new_knows"] == ["moths"]
    assert "seal" not in found
    assert found["sentence"].startswith("on the test images of run 'old', of the classes that both know: ")
    assert any("17 new images" in note for note in summary["notes"])
    assert new.classifier().class_names == ("ants", "bees", "moths", "wasps")
    assert new.classifier().preprocess == old.classifier().preprocess
    assert [run.openings()[-1]["n"] for run in (old, new)] == [found["n"]] * 2
    assert convscope.evaluate("new").summary["part"] == "test"
    assert "the new network" in (new.folder / "report.html").read_text()
    assert cli.run(["train", str(grown), "--name", "new", "--resume", "--json"]) == 0
    assert len(old.openings()) == 1


def test_a_side_that_would_change_is_kept_by_every_command(grown: Path) -> None:
    path = runs_folder() / "old" / FILE
    earlier = before()
    data = load_dataset(grown, image_size=16)
    image = data.keys[data.parts["train"]][0]
    part = np.where(earlier.images.keys == image, 2, earlier.images.part).astype(np.uint8)
    tensors = {"keys": torch.from_numpy(earlier.images.keys.view(np.int64)), "part": torch.from_numpy(part)}
    commit_tensors(path, tensors | {"label": torch.from_numpy(earlier.images.labels)}, {"kind": "seen"})
    convscope.train(grown, name="new", continue_from="old", epochs=1)
    assert Run(runs_folder() / "new").recipe().data.sides == {f"{image:016x}": "test"}
    found = convscope.evaluate("new").evaluated
    assert image in found.dataset.keys[found.index]
    assert not any("changed" in note for note in found.notes)


def test_a_training_that_was_stopped_before_its_first_epoch_begins_with_the_same_weights(grown: Path) -> None:
    session = convscope.prepare_training(grown, name="new", continue_from="old", epochs=1)
    again = convscope.prepare_training(grown, name="new", resume=True)
    assert session.initial is not None
    assert again.initial is not None
    assert again.dataset.preprocess == session.dataset.preprocess
    for one, other in zip(session.initial.parameters(), again.initial.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "vgg"}, "has model resnet20 and not vgg"),
        ({"width": 8}, "has width 4 and not 8; what goes on from it keeps network and preprocess"),
        ({"image_size": 32}, "has image-size 16 and not 32"),
        ({"fit": "pad"}, "has fit crop and not pad"),
        ({"recipe": "lecture-6"}, "leave out `recipe`"),
        ({"size": "small"}, "leave out `size`"),
        ({"minutes": 1}, "leave out `minutes`"),
        ({"memory": 1}, "leave out `memory`"),
        ({"lr": "auto"}, "give `lr` a number"),
        ({"resume": True, "name": "old"}, "leave out `continue_from`"),
    ],
)
def test_what_contradicts_the_run_is_refused(asked: dict, said: str, grown: Path) -> None:
    with pytest.raises(UsageError, match=said):
        convscope.train(grown, continue_from="old", **asked)
    assert convscope.prepare_training(grown, continue_from="old", epochs=1)  # with the option left out


def test_what_the_run_has_already_may_be_said_again(grown: Path) -> None:
    assert convscope.prepare_training(grown, continue_from="old", width=4, model="resnet20", epochs=1, lr=0.01)


def test_a_run_without_a_record_of_its_images_is_refused(grown: Path) -> None:
    (runs_folder() / "old" / FILE).unlink()
    with pytest.raises(DataError, match="train it again, without `continue_from`"):
        convscope.train(grown, continue_from="old")
    convscope.train(grown, name="again", **TINY)
    assert convscope.prepare_training(grown, continue_from="again", epochs=1)


def test_without_any_test_image_nobody_knows_whether_it_helped(grown: Path) -> None:
    known = before().images
    data = load_dataset(grown, image_size=16)
    for i in np.flatnonzero(np.isin(data.keys, known.keys[known.part == 2])):
        (grown / data.origins(int(i))).unlink()
    made = convscope.train(grown, continue_from="old", epochs=1)
    assert made.summary["continued"] is None
    assert any("nobody knows whether it helped" in note for note in made.notes)


def test_transfers_and_adopted_networks_are_told_apart(grown: Path) -> None:
    old = Run(runs_folder() / "old").classifier()
    replace(old, provenance={**old.provenance, "transfer": {}}).save(runs_folder() / "old" / "classifier.safetensors")
    with pytest.raises(UsageError, match="made by transfer: convscope transfer DATA --continue-from"):
        convscope.train(grown, continue_from="old")
    old.save(runs_folder() / "old" / "classifier.safetensors")
    assert convscope.prepare_training(grown, continue_from="old", epochs=1)
    path = runs_folder() / "old" / "recipe.json"
    box = {k: v for k, v in read_json(path).items() if k not in ("seal", "recipe", "data")}
    commit_json(path, box | {"adopted": {"network": "elsewhere"}})
    with pytest.raises(UsageError, match="trained elsewhere, on images that are not known here"):
        convscope.train(grown, continue_from="old")
