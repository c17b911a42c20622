"""A run's page and model card: what they say is in the run, and the command they show trains it again."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import convscope
from convscope import cli
from convscope.classifying.classifier import Classifier
from convscope.errors import UsageError
from convscope.training.model_card import plain
from convscope.training.options import TrainOptions
from convscope.training.page_report import choices, doctors_word, read_evaluations
from convscope.training.request import wanted_recipe
from convscope.training.rerunning import rerun_command, rerun_options, set_in_python
from convscope.training.runs import Run, find_run
from two_kinds import write_photos

TINY: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "limit": 300}


@pytest.fixture
def run(tmp_path: Path, shapes_folder: Path) -> Run:
    return convscope.train(shapes_folder, name="r", runs=tmp_path / "runs", **TINY).run


def adopted(run: Run) -> Run:
    network = Classifier.load(run.folder / "classifier.safetensors").network
    weights = run.folder.parent.parent / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)
    given: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "classes": ["circle", "cross", "ring"]}
    made = convscope.adopt("resnet20", width=4, input_size=16, weights=weights, runs=run.folder.parent, **given)
    assert made.run is not None
    return made.run


def test_an_image_that_rots_is_left_out_of_the_page_and_named(run: Run) -> None:
    runs = str(run.folder.parent)
    assert cli.run(["evaluate", "r", "--part", "val", "--runs", runs]) == 0
    (path,) = run.folder.glob("evaluate/*-val/confusion.png")
    data = path.read_bytes()
    path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    for number in (1, 2):
        assert cli.run(["evaluate", "r", "--runs", runs]) == 0
        page = (run.folder / "report.html").read_text(encoding="utf-8")
        assert page.count(f"{path} is damaged") == 1
        assert f'data-looks="{number}"' in page
    path.write_bytes(data)
    assert cli.run(["report", "r", "--runs", runs]) == 0
    assert "is damaged" not in (run.folder / "report.html").read_text(encoding="utf-8")


def test_an_evaluation_that_rotted_keeps_no_other_from_its_page(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    runs = str(run.folder.parent)
    convscope.evaluate("r", part="val", runs=runs)
    (answer,) = run.folder.glob("evaluate/*/evaluation.json")
    answer.write_text(answer.read_text().replace('"n"', '"m"', 1))
    assert cli.run(["evaluate", "r", "--runs", runs]) == 0
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert f"Left out: {answer} is damaged" in page
    assert "Evaluate again on these images" in page
    assert len(read_evaluations(run, [])) == 1
    assert cli.run(["evaluate", "r", "--part", "val", "--runs", runs]) == 0
    assert "is damaged" not in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_look_that_a_page_of_an_older_version_tells_of_was_told(run: Run) -> None:
    page = run.folder / "report.html"
    assert 'data-looks="0"' in page.read_text(encoding="utf-8")

    def look(told: str) -> int:
        page.write_text(re.sub(r' data-looks="\d+"', told, page.read_text(encoding="utf-8")), encoding="utf-8")
        return convscope.evaluate("r", runs=run.folder.parent).summary["test_openings"]

    assert look(' data-looks="0"') == 1
    assert look("") == 2
    assert look(' data-looks="1"') == 2  # cut short before its page was written
    page.unlink()
    assert convscope.evaluate("r", runs=run.folder.parent).summary["test_openings"] == 2


def test_what_a_page_lacks_is_named_and_then_there(
    run: Run, shapes_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(run.folder.parent)
    first = convscope.report("r", runs=run.folder.parent)
    page = first.page.read_text()
    assert "convscope doctor" in page
    assert "have not been looked at" in page
    for note in first.notes:
        words = shlex.split(note.partition(": ")[2].removesuffix(" does it."))
        assert cli.run([*words[1:], "--runs", runs]) in (0, 1)
    capsys.readouterr()
    assert cli.run(["report", "r", "--runs", runs]) == 0
    assert "note" not in capsys.readouterr().out
    page = first.page.read_text()
    assert "have been looked at 1 time" in page
    assert "of 60 images" in page
    assert "Nobody has looked through" not in page


def test_data_of_one_name_have_a_doctor_each(run: Run, tmp_path: Path) -> None:
    """And the page of a run tells what was said of its own."""
    runs = run.folder.parent
    other = tmp_path / "elsewhere" / Path(run.recipe().data.name).name
    write_photos(other, 30)
    assert doctors_word(run) is None
    first = convscope.doctor(other, runs=runs)
    assert first.summary["read_from"] == str(other)
    assert doctors_word(run) is None
    own = convscope.doctor(run.recipe().data.name, runs=runs, limit=40)
    assert own.folder == runs / f"{other.name}-2" / "doctor"
    assert convscope.doctor(other, runs=runs).folder == first.folder == runs / other.name / "doctor"
    told = doctors_word(run)
    assert told is not None
    assert told["images"] == own.summary["images"] != first.summary["images"]


def test_the_page_says_which_images_chose_what(run: Run) -> None:
    convscope.evaluate(run)
    found = {row.what: (row.by, row.n) for row in choices(run, read_evaluations(run))}
    counts = {part: sum(by.values()) for part, by in run.description()["data"]["counts"].items()}
    assert found["the weights"] == ("training images", counts["train"])
    assert found["the epoch that is kept, of 1"] == ("validation images", counts["val"])
    assert found["nothing"] == ("test images", counts["test"])
    assert not any("range test" in by for by, _ in found.values())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.01, "augment": "strong", "seed": 3, "patience": 4, "label_smoothing": 0.0},
        {"optimizer": "muon", "schedule": "cosine", "clip": 2.0},
        {"optimizer": "adamw", "weight_decay": 0.1, "flip": "none", "balance": True, "mixup": 0.2},
        {"model": "vgg", "depth": 11, "dropout": 0.2, "batch_norm": True, "stretch": True, "fit": "pad"},
        {"merge": ("circle,ring=round", "cross,plus=lines"), "rename": (r"square=box\, old",)},
        {"group": "^(a|b)", "corrections": Path("a b.csv"), "limit": 7, "bad_images": "skip"},
    ],
)
def test_the_command_trains_by_the_same_recipe(options: dict[str, Any]) -> None:
    asked = {name: value for name, value in options.items() if name != "bad_images"}
    recipe = wanted_recipe("shapes", TrainOptions(**asked))
    again = wanted_recipe("shapes", TrainOptions(**rerun_options(recipe)))
    assert again == recipe
    assert set_in_python(recipe) == {}


def test_the_command_is_one_line_that_is_taken(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(rerun_command(run))
    assert words[:2] == ["convscope", "train"]
    assert cli.run([*words[1:], "--name", "again", "--runs", str(run.folder.parent)]) == 0
    again = find_run("again", run.folder.parent)
    assert again.recipe() == run.recipe()
    assert again.log() == run.log()


def test_a_run_that_went_on_goes_on_again(run: Run, tmp_path: Path) -> None:
    more = convscope.train(run.recipe().data.name, continue_from="r", name="more", epochs=2, runs=tmp_path / "runs").run
    words = shlex.split(rerun_command(more))
    assert cli.run([*words[1:], "--name", "again", "--runs", str(tmp_path / "runs")]) == 0
    assert find_run("again", tmp_path / "runs").log() == more.log()


def test_amounts_that_only_python_takes_are_told(tmp_path: Path, shapes_folder: Path) -> None:
    more = convscope.train(shapes_folder, name="a", runs=tmp_path / "runs", amounts={"rotate": 5}, **TINY)
    assert set_in_python(more.run.recipe()) == {"rotate": 5}
    assert "&#39;rotate&#39;: 5" in (more.folder / "report.html").read_text()


def test_a_network_from_elsewhere_has_a_page_without_curves(run: Run, shapes_folder: Path) -> None:
    other = adopted(run)
    first = convscope.report(other)
    assert "Nothing was measured yet" in first.page.read_text()
    evaluated = convscope.evaluate(other, shapes_folder)
    page = first.page.read_text()
    assert f"{100 * evaluated.summary['top1']:.1f} %" in page
    assert "trained elsewhere" in page
    assert "Recipe" not in page
    assert [row.what for row in choices(other, [])] == ["the weights, and all about them"]


def test_a_run_without_an_epoch_has_no_page(run: Run) -> None:
    (run.folder / "log.jsonl").unlink()
    (run.folder / "timing.jsonl").unlink()
    (run.folder / "report.html").unlink()
    with pytest.raises(UsageError, match="first epoch is not over"):
        convscope.report(run)


def test_the_card_is_read_by_the_hubs_own_reader(run: Run) -> None:
    hub = pytest.importorskip("huggingface_hub")
    score = convscope.evaluate(run)
    card = hub.ModelCard((run.folder / "README.md").read_text())
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", score.summary["top1"])
    assert (card.data.library_name, card.data.pipeline_tag) == ("convscope", "image-classification")
    assert f"{100 * score.summary['top1']:.1f} %" in card.text
    assert rerun_command(run) in card.text


def test_names_are_no_marks_in_a_card() -> None:
    assert plain("<b>*a*_[b](c)`d`") == r"\<b\>\*a\*\_\[b\]\(c\)\`d\`"
    assert torch.__version__.replace("+", "") in plain(torch.__version__).replace("\\+", "")
