"""Epochs that a training keeps: they change nothing of it, are compared with each other, and are gone on from."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import convscope
from convscope.classifying.classifier import Classifier
from convscope.classifying.prediction import logits
from convscope.datasets.registry import load_dataset
from convscope.errors import InterruptedRun, UnknownName, UsageError
from convscope.storage import file_hash
from convscope.training.command import finish_training, prepare_training
from convscope.training.kept_epochs import classifier_at, kept_epochs
from convscope.training.looking import FILTERS, Probes, choose_probes
from convscope.training.rerunning import rerun_command
from convscope.training.runs import Run
from convscope.training.stepped import Stepped
from convscope.training.then_and_now import then_and_now

OPTIONS: dict[str, Any] = {"width": 4, "limit": 200, "convolution": "direct"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run "kept" with three epochs, all of them kept, and "usual", the same without keeping."""
    folder = tmp_path_factory.mktemp("runs")
    convscope.train("digits", runs=folder, name="kept", epochs=3, keep_epochs=1, **OPTIONS)
    convscope.train("digits", runs=folder, name="usual", epochs=3, **OPTIONS)
    return folder


@pytest.fixture(scope="module")
def probes() -> Probes:
    return choose_probes(load_dataset("digits"), torch.device("cpu"))


def content(run: Path) -> dict[str, str]:
    return {p.relative_to(run).as_posix(): file_hash(p) for p in sorted(run.rglob("*")) if p.is_file()}


def test_keeping_changes_no_bit_of_a_training(folder: Path) -> None:
    kept, usual = (Run(folder / name) for name in ("kept", "usual"))
    assert kept.log() == usual.log()
    for name in ("kept", "usual"):
        assert len(list((folder / name / "checkpoints").iterdir())) == 2
    one, other = kept.classifier().network.state_dict(), usual.classifier().network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert list(kept_epochs(kept)) == [0, 1, 2, 3]
    assert not (folder / "usual" / "epochs").exists()


def test_each_kept_epoch_is_the_network_that_was_validated(folder: Path) -> None:
    run, data = Run(folder / "kept"), load_dataset("digits", limit=200)
    for row in run.log():
        found = classifier_at(run, row["epoch"])
        scores = logits(found.network, data.images, found.preprocess, data.parts["val"])
        right = scores.argmax(1).numpy() == data.labels[data.parts["val"]]
        assert right.mean() == pytest.approx(row["val_top1"])
        assert found.provenance["val_top1"] == row["val_top1"]
    fresh = prepare_training("digits", runs=folder, name="fresh", epochs=3, **OPTIONS)
    next(fresh.events())
    seed = classifier_at(run, 0).network.state_dict()
    built = fresh.architecture.build(10, seed=0).state_dict()
    assert {n for n in seed if not torch.equal(seed[n], built[n])} <= {n for n in seed if "whiten" in n or "conv1" in n}


def test_only_some_are_kept_and_the_best_is_there_in_any_run(folder: Path, tmp_path: Path) -> None:
    run = convscope.train("digits", runs=tmp_path, name="r", epochs=3, keep_epochs=2, **OPTIONS).run
    assert {path.name for path in (run.folder / "epochs").glob("*.safetensors")} == {
        "epoch-0000.safetensors",
        "epoch-0002.safetensors",
        "epoch-0003.safetensors",
    }
    usual = Run(folder / "usual")
    best = usual.classifier().provenance["epoch"]
    assert list(kept_epochs(usual)) == [best]
    assert classifier_at(usual, best).provenance == usual.classifier().provenance
    with pytest.raises(UsageError, match=rf"no network of epoch 9: there are {best}\. .*--keep-epochs"):
        classifier_at(usual, 9)
    assert kept_epochs(Run(tmp_path / "none")) == {}


def test_what_was_kept_outlives_a_stop(tmp_path: Path) -> None:
    session = prepare_training("digits", runs=tmp_path, name="r", epochs=2, keep_epochs=1, **OPTIONS)
    inbox: Any = queue.SimpleQueue()
    inbox.put(None)
    with pytest.raises(InterruptedRun, match=r"--resume .*--keep-epochs 1"):
        for _ in Stepped(session, inbox, lambda told: None, paused=True).events():
            pass
    assert list(kept_epochs(session.run)) == [0]
    convscope.train("digits", runs=tmp_path, name="r", resume=True)  # without saying it again: no more are kept
    assert 0 in kept_epochs(session.run)
    assert len(list((session.run.folder / "epochs").glob("*.safetensors"))) == 1


# ------------------------------------------------------------------------------------------------------ then and now


def test_then_and_now_show_the_same_filters_on_one_scale(folder: Path, probes: Probes) -> None:
    """Against the maps of both networks, recorded by hand."""
    run = Run(folder / "kept")
    then, now = classifier_at(run, 0), classifier_at(run, 3)
    found = then_and_now(then, now, "conv2", probes)
    maps = []
    for classifier in (then, now):
        seen: list[torch.Tensor] = []
        hook = classifier.network.get_submodule("conv2").register_forward_hook(lambda m, i, o, s=seen: s.append(o))
        with torch.no_grad():
            answers = classifier.network(probes.images).softmax(1).max(1)
        hook.remove()
        maps.append(seen[0].detach())
    assert [name for name, _ in found.answers_now] == [now.class_names[i] for i in answers.indices]
    assert found.of == maps[1].shape[1]
    assert len(found.filters) == min(FILTERS, found.of)
    chosen = torch.stack(maps)[:, :, list(found.filters)].transpose(1, 2).numpy()
    assert found.largest == pytest.approx(np.abs(chosen).max(), rel=1e-5)
    for grid, truth in zip((found.then, found.now), chosen, strict=True):
        assert np.abs(grid * (found.largest / 127) - truth).max() <= 0.51 * found.largest / 127
    before, after = (c.network.get_submodule("conv2").weight.detach()[list(found.filters)] for c in (then, now))
    lengths = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    assert found.moved == pytest.approx(lengths.tolist(), rel=1e-4)
    assert found.kernels is None


def test_the_first_layers_filters_are_shown_as_images(folder: Path, probes: Probes) -> None:
    run = Run(folder / "kept")
    found = then_and_now(classifier_at(run, 3), classifier_at(run, 3), "conv1", probes)
    assert found.kernels is not None
    assert found.moved == pytest.approx([0.0] * len(found.filters))
    assert found.cosine == pytest.approx([1.0] * len(found.filters), abs=1e-5)
    assert np.array_equal(*found.kernels)
    assert np.array_equal(found.then, found.now)
    assert found.kernels.shape[0::4] == (2, 3)
    weights = classifier_at(run, 3).network.get_submodule("conv1").weight.detach()[list(found.filters)].numpy()
    strongest = np.abs(weights).max()
    wanted = np.round(127.5 + 127.5 * weights / strongest).transpose(0, 2, 3, 1)
    assert np.abs(found.kernels[0].astype(int) - wanted).max() <= 1
    with pytest.raises(UnknownName):
        then_and_now(classifier_at(run, 3), classifier_at(run, 3), "conv9", probes)


# ------------------------------------------------------------------------------------------------------ going on


def test_a_new_run_goes_on_from_an_epoch_and_the_first_is_not_changed(folder: Path) -> None:
    before = content(folder / "kept")
    session = prepare_training("digits", runs=folder, name="on", continue_from="kept", from_epoch=1, epochs=1)
    begun = classifier_at(Run(folder / "kept"), 1).network.state_dict()
    assert session.initial is not None
    assert all(torch.equal(begun[name], tensor) for name, tensor in session.initial.state_dict().items())
    for _ in session.events():
        pass
    finish_training(session)
    assert session.run.openings() == []  # a try among others: the test images stay closed
    said = Run(folder / "on").description()
    assert (said["continued"]["run"], said["continued"]["epoch"]) == (str((folder / "kept").resolve()), 1)
    assert "--continue-from" in (words := rerun_command(Run(folder / "on")))
    assert "--from-epoch 1" in words
    assert content(folder / "kept") == before
    assert any("weights are those of run 'kept' after epoch 1" in note for note in session.notes)


def test_a_stopped_one_goes_on_from_the_same_epoch(folder: Path, tmp_path: Path) -> None:
    asked = {"continue_from": str(folder / "kept"), "from_epoch": 1, "epochs": 1, "name": "r"}
    prepare_training("digits", runs=tmp_path, **asked)
    session = prepare_training("digits", runs=tmp_path, name="r", resume=True)
    assert session.before is not None
    begun = Classifier.load(folder / "kept" / "epochs" / "epoch-0001.safetensors").network.state_dict()
    assert session.initial is not None
    assert all(torch.equal(begun[name], tensor) for name, tensor in session.initial.state_dict().items())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"continue_from": "kept", "from_epoch": 7}, "no network of epoch 7: there are 0, 1, 2, 3"),
        ({"from_epoch": 1}, "`continue_from` names: give that too"),
        ({"keep_epochs": 0}, "`keep_epochs` 0 is no number of epochs"),
        ({"resume": True, "name": "kept", "from_epoch": 1}, "leave out `from_epoch`"),
    ],
)
def test_what_makes_no_sense_is_refused_and_what_is_advised_works(
    folder: Path, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        convscope.train("digits", runs=folder, **asked)
    assert prepare_training("digits", runs=folder, continue_from="kept", from_epoch=1, epochs=1, keep_epochs=5)
