"""What heads answered to images that they had not seen, and what goes by it: temperature, familiarity, and words."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.classifying.classifier import Classifier
from convscope.classifying.prediction import logits
from convscope.datasets.named_before import remember
from convscope.datasets.registry import load_dataset
from convscope.errors import DamagedFile
from convscope.storage import read_json
from convscope.training.held_out import ALL_FAIR, FairAnswers, fair_answers, save_held_out
from convscope.training.runs import Run, find_run
from convscope.training.seen import HELD_OUT, count_seen
from convscope.transfer_learning.ladder_command import Transfer
from two_kinds import write_photos

KEYS = np.array([3, 7, 9], np.uint64)
LOGITS = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def test_held_out_logits_stand_for_those_of_a_head_that_saw_the_image() -> None:
    answers = FairAnswers(np.array([3, 7, 9, 11], np.uint64), KEYS, LOGITS)
    asked = np.array([9, 8, 3, 11, 2**63], np.uint64)
    given = torch.zeros(5, 2)
    assert answers.put(asked, given).tolist() == [[5, 6], [0, 0], [1, 2], [0, 0], [0, 0]]
    energies = answers.energies(asked, np.zeros(5))
    assert energies == pytest.approx([np.logaddexp(5, 6), 0, np.logaddexp(1, 2), 0, 0])
    assert answers.are_fair(asked).tolist() == [True, True, True, False, True]


def test_without_a_record_all_is_taken_as_it_is() -> None:
    asked, given = np.array([1, 2], np.uint64), torch.ones(2, 2)
    assert ALL_FAIR.put(asked, given) is given
    assert ALL_FAIR.energies(asked, np.ones(2)).tolist() == [1, 1]
    assert ALL_FAIR.are_fair(asked).all()


@pytest.fixture(scope="module")
def transferred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A quick transfer of photos of two kinds, of which some are hard to tell."""
    place = tmp_path_factory.mktemp("transferred")
    write_photos(place / "photos", 60)
    convscope.transfer(place / "photos", quick=True, image_size=64, name="t", runs=place / "runs")
    return find_run("t", place / "runs"), place / "photos"


@pytest.fixture(autouse=True)
def _named_before(transferred: tuple[Run, Path]) -> None:
    """The photos were named on this machine, whose cache each test has of its own."""
    remember(transferred[1])


def fair(run: Run) -> tuple[FairAnswers, Classifier]:
    classifier = run.classifier()
    return fair_answers(run.folder, classifier), classifier


def test_a_transfer_keeps_an_answer_for_each_image_that_it_was_trained_on(transferred: tuple[Run, Path]) -> None:
    run, photos = transferred
    answers, classifier = fair(run)
    dataset = load_dataset(photos, preprocess=classifier.preprocess)
    index = np.concatenate([dataset.parts["train"], dataset.parts["val"]])
    assert set(answers.keys.tolist()) == set(dataset.keys[index].tolist()) == set(answers.trained.tolist())
    assert answers.are_fair(dataset.keys).all()
    choices = read_json(run.folder / "transfer" / "transfer.json")["choices"]
    told = next(row for row in choices if row["what"] == "the weights of the head")
    assert (told["by"], told["n"]) == ("training and validation images", len(index))


def test_its_validation_images_are_told_as_trained_on(transferred: tuple[Run, Path]) -> None:
    run, photos = transferred
    dataset = load_dataset(photos, preprocess=run.classifier().preprocess)
    seen = count_seen(run.folder, dataset, dataset.parts["val"])
    assert seen is not None
    assert (seen.train, seen.val) == (len(dataset.parts["val"]), 0)
    found = convscope.evaluate(run.folder, part="val")
    assert "among these are the images that it was trained on." in found.summary["notes"]


def test_what_rotted_is_a_note_and_the_rest_goes_on(transferred: tuple[Run, Path], tmp_path: Path) -> None:
    run, _ = transferred
    folder = shutil.copytree(run.folder, tmp_path / "t")
    data = bytearray((folder / HELD_OUT).read_bytes())
    data[-3] ^= 1
    (folder / HELD_OUT).write_bytes(data)
    with pytest.raises(DamagedFile):
        fair_answers(folder, run.classifier())
    found = convscope.evaluate(folder)
    assert [note for note in found.summary["notes"] if "nothing tells the images apart that it was trained on" in note]


def test_answers_of_another_head_are_not_taken(transferred: tuple[Run, Path]) -> None:
    run, _ = transferred
    classifier = run.classifier()
    with torch.no_grad():
        next(p for p in reversed(list(classifier.network.parameters()))).add_(1.0)
    assert not len(fair_answers(run.folder, classifier).keys)


def test_of_a_head_on_one_fold_only_the_images_outside_are_fair(transferred: tuple[Run, Path], tmp_path: Path) -> None:
    """It was trained on most validation images."""
    run, _ = transferred
    folder, classifier = shutil.copytree(run.folder, tmp_path / "t"), run.classifier()
    whole = fair_answers(folder, classifier)
    outside = whole.keys[::5]
    save_held_out(folder, classifier, outside, whole.logits[::5])
    answers = fair_answers(folder, classifier)
    assert set(answers.trained.tolist()) == set(whole.trained.tolist())
    assert set(whole.keys[answers.are_fair(whole.keys)].tolist()) == set(outside.tolist())


def test_fine_tuning_begins_with_a_head_that_saw_no_validation_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of noise with labels by lot a head knows what it was trained on, and nothing else."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for i in range(150):
            pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "noise" / name / f"{i}.png")
    begun: list[Classifier] = []
    monkeypatch.setattr(Transfer, "_costly", lambda self, run, start: begun.append(start) or iter(()))
    convscope.transfer(tmp_path / "noise", image_size=64, budget=1.0, fcnn="none", name="n", runs=tmp_path / "runs")
    kept = find_run("n", tmp_path / "runs").classifier()
    dataset = load_dataset(tmp_path / "noise", preprocess=kept.preprocess)
    index = dataset.parts["val"]
    known = [
        float(
            (
                logits(one.network, dataset.images, one.preprocess, index).argmax(1).numpy() == dataset.labels[index]
            ).mean()
        )
        for one in (kept, begun[0])
    ]
    assert known[0] > 0.8 > known[1]


def test_a_transfer_of_an_earlier_version_says_that_its_answers_are_too_sure(
    transferred: tuple[Run, Path], tmp_path: Path
) -> None:
    run, _ = transferred
    folder = shutil.copytree(run.folder, tmp_path / "t")
    (folder / HELD_OUT).unlink()
    found = convscope.evaluate(folder)
    assert any("an earlier version made this transfer" in note for note in found.summary["notes"])
