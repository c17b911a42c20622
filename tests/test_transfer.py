"""`convscope transfer` from a folder to a classifier that every other command takes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope import cli
from convscope.classifying.classifier import Classifier
from convscope.classifying.intervals import wilson
from convscope.datasets.corrections import Correction, write_corrections
from convscope.datasets.named_before import remember
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, DivergedError, LockedError, Untrained, UsageError
from convscope.feature_store.options import BackboneOptions
from convscope.feature_store.recording import backbone_of
from convscope.page.compared import compare_page
from convscope.page.network_view import network_page
from convscope.page.run_view import run_page
from convscope.page.served import Served
from convscope.storage import file_hash
from convscope.training.diverging import Diverged
from convscope.training.runs import Run
from convscope.transfer_learning.ladder import CHEAP, COSTLY, FCNN, HeadTask, Rung, best_of, compare, fcnn_rung
from convscope.transfer_learning.ladder_command import Transfer

SMALL = {"image_size": 64, "engine": "torch"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that a pretrained network tells apart, with an own test folder."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 16), ("test", 6)):
        for name in ("checks", "noise", "stripes"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                y, x = np.mgrid[:48, :48] + int(rng.integers(0, 40))
                width = int(rng.integers(4, 9))
                image = {
                    "checks": (x // width + y // width) % 2 * 200,
                    "noise": rng.integers(0, 200, (48, 48)),
                    "stripes": x // width % 2 * 200,
                }[name]
                colour = rng.uniform(0.3, 1, 3)
                Image.fromarray((image[..., None] * colour).astype(np.uint8)).save(root / part / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def report(images: Path, tmp_path_factory: pytest.TempPathFactory):
    runs = tmp_path_factory.mktemp("runs")
    return convscope.transfer(images, name="t", runs=runs, **SMALL)


def test_the_summary_answers_what_was_asked(report):
    s = report.summary
    assert {"run", "best", "val_top1", "test_top1", "test_low", "test_high", "seconds", "rungs"} <= set(s)
    assert [r["name"] for r in s["rungs"]] == list(CHEAP)
    assert all({"name", "val_top1", "low", "high", "seconds", "parameters"} <= set(r) for r in s["rungs"])
    assert s["val_top1"] > 0.8
    assert s["test_top1"] > 0.7
    assert json.loads(json.dumps(s))["best"] == s["best"]
    assert "twice the images" in s["sentence"]
    assert {f["name"] for f in s["filters"]} == {"checks", "noise", "stripes"}
    assert s["filters"][0]["layer"] == "conv_head"


def test_the_summarys_shares_are_counted_again(report, images: Path):
    s = report.summary
    answers = convscope.predict(report.run, images / "test")
    right = [Path(answer["path"]).parent.name == answer["label"] for answer in (one.to_json() for one in answers)]
    wanted = wilson(sum(right), 18)
    assert (s["test_top1"], s["test_low"], s["test_high"], s["test_n"]) == (*vars(wanted).values(),)[:4]
    best = next(rung for rung in report.rungs if rung.name == s["best"])
    wanted = wilson(sum(best.correct.tolist()), len(best.correct))
    assert (s["val_top1"], s["val_low"], s["val_high"], s["val_n"]) == (*vars(wanted).values(),)[:4]
    wide = len(report.features[np.arange(1)][0])
    counts = {rung["name"]: rung["parameters"] for rung in s["rungs"]}
    assert (counts["k-NN"], counts["head"]) == (0, 3 * (wide + 1))


def test_every_second_is_said(report):
    spent = report.summary["spent_seconds"]
    assert sum(spent.values()) == pytest.approx(report.summary["seconds"])
    assert {"reading and engine", "features", *CHEAP, "learning curve", "report"} <= set(spent)
    for rung in report.rungs:
        assert rung.seconds <= spent[rung.name] <= rung.seconds + 2


def test_the_fcnn_head_costs_one_training_and_six_on_request(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(120, 8, generator=generator) + torch.cat([labels, labels])[:, None]
    keys, index = np.tile(np.arange(60, dtype=np.uint64), 2), np.arange(100, 160)
    task = HeadTask(features, torch.cat([labels, labels]), keys, 3, scored=60)
    rows: list[int] = []

    def trained(features: torch.Tensor, *_args: object, **_options: object) -> torch.nn.Module:
        rows.append(len(features))
        return torch.nn.Linear(8, 3)

    monkeypatch.setattr("convscope.transfer_learning.ladder.train_fcnn", trained)
    quick = fcnn_rung(task, index)
    assert len(rows) == 1
    assert rows[0] < 120
    assert 0 < len(quick.index) == len(quick.correct) < 60
    assert set(quick.index) <= set(index)
    assert "--fcnn full" in quick.chosen
    assert quick.measured_by == "one fold"
    rows.clear()
    full = fcnn_rung(replace(task, thorough=True), index)
    assert rows[-1] == 120
    assert len(rows) == int(task.folds.max()) + 2
    assert full.index.tolist() == index.tolist()


@pytest.fixture(scope="module")
def quick(images: Path, tmp_path_factory: pytest.TempPathFactory):
    return convscope.transfer(
        images, name="q", runs=tmp_path_factory.mktemp("runs"), quick=True, image_size=64, merge="noise,stripes=other"
    )


def test_a_quick_answer_says_what_it_left_out(quick):
    s = quick.summary
    assert [r["name"] for r in s["rungs"]] == ["k-NN", "head"]
    assert s["curve"] is None
    assert s["left_out"] == [FCNN, *COSTLY, "learning curve"]
    assert s["sentence"].endswith(f"; left out: {FCNN}, last stage, full, scratch, learning curve.")
    assert "learning curve" not in s["spent_seconds"]
    assert s["features"]["engine"].startswith("torch")
    assert s["test_top1"] > 0.7


def test_an_answer_of_all_cheap_ways_left_out_the_costly_ones(report):
    assert report.summary["left_out"] == list(COSTLY)
    assert "left out" not in report.summary["sentence"]


@pytest.mark.parametrize(
    ("asked", "named"), [({"budget": 1}, "`budget`"), ({"fcnn": "full"}, "`fcnn` full"), ({"cards": True}, "`cards`")]
)
def test_what_a_quick_answer_leaves_out_cannot_be_asked_of_it(asked: dict, named: str, images: Path):
    with pytest.raises(UsageError, match=f"`quick` leaves out what {named} asks for"):
        convscope.transfer(images, quick=True, **asked)


def test_a_transfer_remembers_how_its_labels_were_read(quick, images: Path):
    remember(images)
    assert quick.run.recipe().source.renamed == {"noise": "other", "stripes": "other"}
    found = convscope.evaluate(str(quick.run.folder))
    assert found.evaluated.scores.classes == ("checks", "other")
    assert found.summary["top1"] == quick.summary["test_top1"]


@pytest.mark.parametrize(("fcnn", "there"), [("none", False), ("full", True)])
def test_the_fcnn_head_is_there_as_asked(fcnn: str, there: bool, images: Path, tmp_path: Path, report):
    monkeyed = convscope.transfer(images, name=fcnn, runs=tmp_path, fcnn=fcnn, **SMALL)
    rungs = {rung.name: rung for rung in monkeyed.rungs}
    assert (FCNN in rungs) is there
    if there:
        assert rungs[FCNN].top1.n == rungs["head"].top1.n


def test_the_run_holds_what_it_says(report):
    folder = report.run.folder
    for name in ("report.html", "classifier.safetensors", "transfer/transfer.json", "transfer/ladder.png"):
        assert (folder / name).exists()
    assert [row["place"] for row in report.run.openings()].count("transfer") == 1
    assert "<img" in (folder / "report.html").read_text(encoding="utf-8")
    with pytest.raises(LockedError, match="exists already"):
        convscope.transfer("anything", name="t", runs=folder.parent)


def test_the_test_images_score_the_same_by_the_one_evaluation_pass(report, images: Path):
    remember(images)  # by the transfer of the fixture, in its own cache
    before = len(report.run.openings())
    again = convscope.evaluate(str(report.run.folder), runs=report.run.folder.parent)
    assert again.summary["top1"] == report.summary["test_top1"]
    assert again.summary["loss"] == pytest.approx(report.test.loss, abs=1e-3)
    assert len(report.run.openings()) == before + 1


def test_its_page_shows_an_evaluation_as_that_of_a_training_does(report, images: Path, tmp_path: Path):
    shutil.copytree(report.run.folder, tmp_path / "t", ignore=shutil.ignore_patterns("evaluate"))
    convscope.evaluate("t", images, runs=tmp_path)
    page, card = ((tmp_path / "t" / name).read_text(encoding="utf-8") for name in ("report.html", "README.md"))
    for shown in ("The ladder", "confusion matrix", "reliability diagram of the", "Answer only the surest images"):
        assert shown in page
    assert ("The most confident mistakes" in page) == (report.summary["test_top1"] < 1)
    assert "How far its probabilities can be believed" not in page, "that is for a run nobody has evaluated"
    assert "the way that is kept" in page
    assert "epoch that is kept" not in page
    assert "convscope train" not in card
    served = run_page(Served(tmp_path), "t")
    assert [found["figures"]["part"] for found in served["evaluations"]] == ["test"]
    assert "calibration" in served["evaluations"][0]["drawings"]
    assert served["recipe"] is None
    assert compare_page(Served(tmp_path), ["t"])["runs"][0]["way"]["val_top1"] == report.best.top1.value
    assert next(row["what"] for row in served["choices"]) == "the weights of the backbone"
    before = (tmp_path / "t" / "report.html").read_bytes()
    assert convscope.report("t", runs=tmp_path).page.read_bytes() == before


def test_why_a_transfers_page_cannot_be_written_is_said(report, tmp_path: Path):
    run = Run(shutil.copytree(report.run.folder, tmp_path / "t"))
    (run.folder / "transfer" / "page.json").unlink()
    with pytest.raises(UsageError, match=r"left its page, .*report\.html, and not what that was written from"):
        convscope.report(run.folder)
    served = run_page(Served(tmp_path), "t")
    assert served["recipe"] is None
    assert next(row["what"] for row in served["choices"]) == "the weights of the backbone"
    (run.folder / "transfer" / "transfer.json").unlink()
    with pytest.raises(UsageError, match="and the same command on the same images goes on with it"):
        convscope.report(run.folder)
    (run.folder / "classifier.safetensors").unlink()
    with pytest.raises(Untrained, match="its transfer is not finished"):
        run.classifier()
    assert "its transfer is not finished" in network_page(Served(tmp_path), "t")["problem"]


def test_every_other_command_takes_it(report, images: Path, tmp_path: Path):
    remember(images)
    run, runs = str(report.run.folder), report.run.folder.parent
    image = images / "test" / "checks" / "0.png"
    (answer,) = convscope.predict(run, [str(image)])
    assert answer.to_json()["label"] in ("checks", "noise", "stripes")
    explained = convscope.explain(run, layer=["conv_head"], filter=[5], seeds=0, ablate=0, runs=runs)
    assert (explained.folder / "index.html").exists()
    near = convscope.similar(run, image, runs=runs, engine="torch", count=3)
    assert "the image itself is among them and is left out: test/checks/0.png." in near.notes
    assert [row["label"] for row in near.summary["nearest"]] == ["checks"] * 3
    assert all(0.5 < row["cosine"] < 1 and row["origin"] != "test/checks/0.png" for row in near.summary["nearest"])
    assert (near.folder / "similar.png").exists()
    sealed = convscope.export(run, format="safetensors", output=tmp_path)
    assert Classifier.load(sealed.exported.files[0]).class_names == ("checks", "noise", "stripes")
    with pytest.raises(UsageError, match="`count` 0"):
        convscope.similar(run, image, count=0)
    with pytest.raises(UsageError, match="name the data"):
        convscope.similar("pretrained:lite0", image)


def test_how_its_data_were_read_is_remembered(images: Path, tmp_path: Path):
    """Corrections, and a table's folder and endings: the run opens its own test images without being told again."""
    rows = [f"{p.parent.name}/{p.stem},{p.parent.name},{p.parent.parent.name}" for p in sorted(images.rglob("*.png"))]
    for part in ("train", "test"):
        shutil.copytree(images / part, tmp_path / "all" / part)
    (tmp_path / "t.csv").write_text("id,label,split\n" + "".join(f"{r.rsplit(',', 1)[1]}/{r}\n" for r in rows))
    write_corrections(tmp_path / "c.csv", [Correction(file_hash(images / "test" / "noise" / "0.png"), "leave-out")])
    how = {"images": tmp_path / "all", "suffix": ".png", "corrections": tmp_path / "c.csv"}
    made = convscope.transfer(tmp_path / "t.csv", name="t", runs=tmp_path / "runs", **how, **SMALL)
    again = convscope.evaluate("t", runs=tmp_path / "runs").summary
    assert again["n"] == made.test.top1.n == 17


@pytest.mark.parametrize("name", CHEAP)
def test_every_cheap_rung_can_be_kept(report, images: Path, name: str):
    from convscope.transfer_learning.costly_rungs import with_head

    rung = next(r for r in report.rungs if r.name == name)
    assert rung.module is not None
    backbone = backbone_of(BackboneOptions(image_size=64))
    classifier = with_head(backbone, rung, report.dataset.class_names, {})
    classifier.save(report.run.folder.parent / "kept.safetensors")
    again = Classifier.load(report.run.folder.parent / "kept.safetensors")
    index = report.dataset.parts["test"]
    inputs = again.preprocess.normalise(torch.from_numpy(report.dataset.images[index]).permute(0, 3, 1, 2))
    with torch.inference_mode():
        whole = again.network(inputs)
        parts = rung.module(torch.from_numpy(report.features[index]))
    assert torch.allclose(whole, parts, atol=2e-3 * max(1, float(parts.abs().max())))


def test_a_costlier_way_is_kept_only_when_it_is_better_beyond_chance():
    index = np.arange(100)

    def rung(name: str, right: int, offset: int = 0) -> Rung:
        correct = np.zeros(100, bool)
        correct[offset : offset + right] = True
        return Rung(name, index, correct, 1.0, 1)

    assert best_of([rung("k-NN", 90), rung("head", 90)]).name == "head"
    assert best_of([rung("k-NN", 92), rung("head", 90)]).name == "k-NN"
    assert best_of([rung("k-NN", 80), rung("head", 90), rung("full", 93)]).name == "head"
    assert best_of([rung("k-NN", 80), rung("head", 85), rung("full", 99)]).name == "full"
    part = Rung("full", index[50:], np.ones(50, bool), 1.0, 1)
    assert compare(part, rung("head", 90)).n == 50


def test_fine_tuning_leaves_frozen_norms_and_says_so(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    epochs = dict.fromkeys(COSTLY, 2)  # as short as any costly way may be
    monkeypatch.setattr("convscope.transfer_learning.ladder_command.EPOCHS", epochs)
    report = convscope.transfer(images, name="f", runs=tmp_path, budget=2, **SMALL)
    names = [r.name for r in report.rungs]
    assert names[3:] == ["last stage", "full", "scratch"]
    said = " ".join(report.notes)
    assert "running statistics of 49 batch norms stay those of the pretrained network" in said
    backbone = backbone_of(BackboneOptions(image_size=64)).network.state_dict()
    for rung in ("last-stage", "full"):
        tuned = Run(tmp_path / "f" / "transfer" / rung).classifier().network.state_dict()
        for name, tensor in tuned.items():
            if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
                assert torch.equal(tensor, backbone[name]), name
    stem = Run(tmp_path / "f" / "transfer" / "last-stage").classifier().network.state_dict()["conv_stem.weight"]
    assert torch.equal(stem, backbone["conv_stem.weight"])
    assert not torch.equal(tuned["blocks.6.0.conv_pw.weight"], backbone["blocks.6.0.conv_pw.weight"])
    assert "fine-tuning adds" in report.sentence()


def test_augmented_copies_train_and_are_not_scored(images: Path, tmp_path: Path):
    report = convscope.transfer(images, name="a", runs=tmp_path, augment=1, **SMALL)
    assert report.best.top1.n == 48
    assert report.extraction.images == 2 * 66


def test_awkward_folders(images: Path, tmp_path: Path, shapes_folder: Path):
    lone = tmp_path / "lone"
    for name, count in (("many", 12), ("one", 1)):
        (lone / name).mkdir(parents=True)
        for i in range(count):
            image = np.random.default_rng(i + 50 * count).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(image).save(lone / name / f"{i}.png")
    report = convscope.transfer(lone, name="lone", runs=tmp_path / "runs", **SMALL)
    assert any("'one' has one image to train on" in note for note in report.notes)
    (tmp_path / "tiny" / "a").mkdir(parents=True)
    (tmp_path / "tiny" / "b").mkdir()
    for name in "ab":
        Image.fromarray(np.full((9, 9, 3), ord(name), np.uint8)).save(tmp_path / "tiny" / name / "1.png")
    with pytest.raises(DataError, match="needs two classes and a few images"):
        convscope.transfer(tmp_path / "tiny", **SMALL)
    with pytest.raises(UsageError, match="`budget`"):
        convscope.transfer(lone, budget=0)


def test_small_images_are_told(shapes_folder: Path):
    found = convscope.features(shapes_folder, limit=6, engine="torch")
    assert "lite0 takes 224: they are enlarged; --image-size 64" in found.summary["notes"][-1]


def test_the_command_line(images: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    options = ["--image-size", "64", "--engine", "torch"]
    assert cli.run(["features", str(images), *options]) == 0
    assert "images" in capsys.readouterr().out
    assert cli.run(["transfer", str(images), *options, "--json", "--runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines[:-1]] == list(CHEAP)
    last = json.loads(lines[-1])
    assert cli.run(["transfer", str(images), *options, "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "next: convscope predict" in said
    assert "time: " in said  # the start-up is among it where it takes a tenth of a second, which it does not here
    assert " in all" in said
    assert cli.run(["similar", last["run"], str(images / "test" / "noise" / "1.png"), "--engine", "torch"]) == 0
    assert cli.run(["models", "--pretrained"]) == 0
    assert "apache-2.0" in capsys.readouterr().out
    assert cli.run(["transfer", str(images), "--backbone", "resnet125"]) == 2
    assert "resnet152" in capsys.readouterr().err


@pytest.fixture
def flowers(shared_data: Path) -> Path:
    path = shared_data / "flowers12"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


@pytest.mark.slow
def test_flowers_reach_95_percent(flowers: Path, tmp_path: Path):
    report = convscope.transfer(flowers, name="flowers", runs=tmp_path)
    assert report.best.name == "head"
    assert report.summary["test_top1"] >= 0.95
    assert load_dataset(flowers, image_size=32).fingerprint == report.dataset.fingerprint


def test_where_a_classifier_comes_from_names_nothing_that_was_not_used(report):
    """A head knows no optimizer, rate or epochs: they are not told of it."""
    told = report.run.classifier().provenance
    assert set(told["recipe"]) == {"model", "data", "source", "augment", "labels"}
    assert told["transfer"]["rung"] == report.best.name


class Climb:
    """A rung whose training runs away, at its first update or when an epoch of it is timed."""

    name = "last stage"

    def seconds_an_epoch(self) -> float:
        raise Diverged(1, 1, 0.1, math.inf, np.arange(3))

    def steps(self, epochs: int) -> Iterator[Rung]:
        yield from ()
        raise DivergedError("the loss became inf")


def test_a_rung_that_runs_away_is_left_out_and_said_so() -> None:
    asking = SimpleNamespace(notes=[], options=SimpleNamespace(progress=None), _tell=lambda what: None)
    climb: Any = Climb()
    assert Transfer._climbed(cast(Transfer, asking), climb, 3) is None
    assert Transfer._affordable(cast(Transfer, asking), climb, 600.0) is None
    assert [note.split(":")[0] for note in asking.notes] == ["last stage is left out"] * 2
    assert "inf" in asking.notes[0]
    assert "epoch 1, step 1" in asking.notes[1]
