"""A whole explanation: cards with the right words, files that are whole, and what an interruption leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope import cli
from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.unsplit import Unsplit
from convscope.errors import UnknownName, UsageError
from convscope.explanation import card_making, card_store, command, report
from convscope.explanation.card_making import CardMaker, CardMaterial, Streamed
from convscope.explanation.card_store import CardStore
from convscope.explanation.cards import LayerCards
from convscope.explanation.options import ExplainOptions
from convscope.explanation.presets import palette, total_variation
from convscope.explanation.report import write_layer
from convscope.images.preprocess import to_tensor
from convscope.models.taps import count_hooks

RED, EDGE, DEAD = 0, 1, 2


def planted() -> nn.Sequential:
    """A first layer set by hand: a red detector, a vertical edge detector, and a filter that never fires."""
    network = nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(3, 2))
    with torch.no_grad():
        weight, bias = network[0].weight.zero_(), network[0].bias.zero_()
        weight[RED, 0], weight[RED, 1:] = 0.1, -0.1
        weight[EDGE, :, :, :2], weight[EDGE, :, :, 3:] = -0.1, 0.1
        bias[DEAD] = -1.0
        network[4].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
        network[4].bias.zero_()
    return network


def patches(n: int = 900) -> Dataset:
    """Grey noise with a patch in it: red ones are of class "red", black and white stripes of class "striped"."""
    generator = np.random.default_rng(0)
    images = generator.integers(110, 140, (n, 20, 20, 1)).repeat(3, 3).astype(np.uint8)
    labels = np.arange(n) % 2
    for image, label, (top, left) in zip(images, labels, generator.integers(0, 12, (n, 2)), strict=True):
        spot = image[top : top + 8, left : left + 8]
        size = generator.uniform(0.5, 1.0)
        if label == 0:
            spot[...] = spot * (1 - size) + np.array([250, 20, 20]) * size
        else:
            spot[:, 4:] = spot[:, 4:] * (1 - size) + 250 * size
            spot[:, :4] = spot[:, :4] * (1 - size) + 5 * size
    names = ("red", "striped")
    return assemble(Unsplit("patches", names, labels, np.full(n, "", "U5"), 20, arrays=images))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return patches()


@pytest.fixture(scope="module")
def cards(data: Dataset) -> LayerCards:
    material = CardMaterial(planted().eval(), data.preprocess, data.class_names, data, data.labels)
    making = CardMaker(material, ExplainOptions(count=4, seeds=2, ablate=100, least=True))
    (found,) = [event for event in making.events() if isinstance(event, LayerCards)]
    assert count_hooks(material.network) == 0
    return found


def test_a_planted_colour_detector_gets_the_right_card(cards: LayerCards, data: Dataset) -> None:
    card = cards.cards[RED]
    assert (card.rule.words, card.rule.kind) in (("red", "sight"), ("red", "class"))
    assert card.rule.auroc >= 0.7
    assert card.weights.words == "colour: red rather than cyan"
    assert [e.label for e in card.exemplars] == ["red"] * 4
    assert (card.classes[0].name, card.classes[0].count, card.classes[0].of) == ("red", 4, 4)
    assert card.classes[0].lift == pytest.approx(2, rel=0.2)
    assert "red" in [name for name, _ in card.colours]
    assert card.usage.feeds[0][0] == "red"
    assert card.usage.broken > 0
    best = card.exemplars[0]
    image = np.asarray(data.images[best.index], float)
    red, others = image[..., 0], image[..., 1:]
    top, left, bottom, right = best.box
    assert (red - others.mean(2))[max(0, top) : bottom, max(0, left) : right].mean() > 50


def test_a_planted_edge_detector_gets_the_right_card(cards: LayerCards) -> None:
    card = cards.cards[EDGE]
    assert card.rule.words in ("vertical edges", "fine vertical edges", "strong contrast", "striped")
    assert "vertical stripes" in card.weights.words
    assert "black and white" in card.weights.words
    assert {e.label for e in card.exemplars} == {"striped"}
    assert card.usage.feeds[0][0] == "striped"


def test_both_reach_the_known_optimum_and_say_so(cards: LayerCards, data: Dataset) -> None:
    weight, std = planted()[0].weight.detach(), torch.tensor(data.preprocess.std).view(3, 1, 1)
    mean = torch.tensor(data.preprocess.mean).view(3, 1, 1)
    for k in (RED, EDGE):
        by_pixel = weight[k] / std
        optimum = float((by_pixel * ((by_pixel > 0).float() - mean)).sum())
        verdict = cards.cards[k].maximized
        assert verdict.reached == pytest.approx(optimum, rel=0.01)
        assert verdict.ratio > 1
        assert verdict.noise < verdict.best_real
        assert f"reaches {verdict.ratio:.1f} times the best real one" in verdict.words
        assert "2 of 2 seeds agree" in verdict.words


def test_a_dead_filter_says_so_and_nothing_else(cards: LayerCards) -> None:
    assert cards.dead == (DEAD,)
    assert cards.cards[DEAD].sentences() == ["Dead: it was never above 0 on any of the images."]
    assert cards.cards[DEAD].maximized.ratio is None
    assert cards.unbelieved == ()


def test_a_card_is_json_and_the_least_exciting_are_there(cards: LayerCards) -> None:
    stored = json.loads(json.dumps(cards.to_json(), allow_nan=False))
    assert stored["cards"][RED]["rule"]["words"] == "red"
    assert [e["label"] for e in stored["cards"][EDGE]["least"]].count("red") >= 3
    assert stored["dead"] == [DEAD]


# ------------------------------------------------------------------------------------------------ the whole command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    options = {"epochs": 3, "width": 8, "limit": 600}
    return convscope.train("shapes", name="r", runs=runs, **options).run.folder


def test_the_command_writes_cards_that_stand_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", str(run), "--count", "3", "--ablate", "30", "--seeds", "2", "--least"]
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert f"{run / 'explain' / 'conv1.html'}#0" in said
    assert "index.html" in said
    for layer, filters in (("conv1", 8), ("conv2", 16), ("conv3", 32)):
        page = (run / "explain" / f"{layer}.html").read_text(encoding="utf-8")
        assert all(f'id="{k}"' in page for k in range(filters))
        assert "http" not in page.replace("http-equiv", "")
        assert 'src="/' not in page
        cards = json.loads((run / "explain" / f"{layer}.json").read_text())["cards"]
        assert [c["filter"] for c in cards] == list(range(filters))
        assert all(len(c["exemplars"]) == 3 for c in cards)
    for name in ("index.html", "overview.png", "classes.png", "probes.png", "probes.json", "explain.json"):
        assert (run / "explain" / name).stat().st_size > 500, name
    before = (run / "explain" / "conv2.json").read_bytes()
    assert cli.run(words) == 0  # nothing is left to do
    assert "kept from before: conv1, conv2, conv3" in capsys.readouterr().out
    assert (run / "explain" / "conv2.json").read_bytes() == before


def test_what_is_interrupted_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write, seen = write_layer, []

    def killed(found: LayerCards, *rest: object) -> None:
        write(found, *rest)
        seen.append(found.layer.name)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_layer", killed)
    words = ["explain", str(run), "--count", "2", "--ablate", "0", "--seeds", "1"]
    assert cli.run(words) == 130  # and it says that the same command goes on
    assert seen == ["conv1", "conv2"]
    monkeypatch.setattr(report, "write_layer", write)
    cut = convscope.explain(str(run), count=2, ablate=0, seeds=1)
    assert cut.summary["kept"] == ["conv1", "conv2"]
    assert cut.summary["made"] == ["conv3"]
    assert [s["layer"] for s in cut.summary["layers"]] == ["conv1", "conv2", "conv3"]
    resumed_overview = (run / "explain" / "overview.png").read_bytes()
    resumed = {n: (run / "explain" / f"{n}.json").read_bytes() for n in ("conv1", "conv2", "conv3")}
    for path in filter(Path.is_file, (run / "explain").rglob("*")):
        path.unlink()
    convscope.explain(str(run), count=2, ablate=0, seeds=1)
    assert {n: (run / "explain" / f"{n}.json").read_bytes() for n in resumed} == resumed
    assert (run / "explain" / "overview.png").read_bytes() == resumed_overview  # of all layers, whoever made them


def test_some_filters_leave_the_pages_of_all_as_they_are(run: Path) -> None:
    convscope.explain(str(run), count=2, ablate=0, seeds=0)
    page = (run / "explain" / "conv2.html").read_bytes()
    some = convscope.explain(str(run), layer=["conv2"], filter=[3], count=2, ablate=0, seeds=0)
    assert some.folder == run / "explain" / "filters" / "conv2-filter-3"
    others = convscope.explain(str(run), layer=["conv2"], filter=[1, 0], count=2, ablate=0, seeds=0)
    assert others.folder == run / "explain" / "filters" / "conv2-filter-0-1"
    assert (some.folder / "conv2.html").exists()  # what led there leads there still
    assert (run / "explain" / "conv2.html").read_bytes() == page
    quick = convscope.explain(str(run), layer=["conv2"], filter=[3], limit=20, count=2, ablate=0, seeds=0)
    assert quick.folder == run / "explain" / "20-images" / "filters" / "conv2-filter-3"
    assert convscope.explain(str(run), limit=20, count=2, ablate=0, seeds=0).folder == run / "explain" / "20-images"
    assert (run / "explain" / "conv2.html").read_bytes() == page
    assert convscope.explain(str(run), count=2, ablate=0, seeds=0).summary["made"] == []  # nothing was lost
    one = convscope.explain(str(run), layer=["conv2"], count=3, ablate=0, seeds=0)
    assert one.folder == run / "explain"
    assert [s["layer"] for s in one.summary["layers"]] == ["conv1", "conv2", "conv3"]
    assert one.probes is None  # of one layer alone they say little
    assert 'href="conv1.html"' in (run / "explain" / "conv2.html").read_text(encoding="utf-8")


def test_a_pass_that_is_interrupted_goes_on_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_making, "BLOCK", 64)
    monkeypatch.setattr(card_store, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(command, "FIRST_CARDS", 0.0)
    keep, shown = CardStore.keep, []

    def killed(store: CardStore, event: Streamed) -> None:
        keep(store, event)
        if event.done >= 192:
            raise KeyboardInterrupt

    monkeypatch.setattr(CardStore, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        shown.extend(event.cards.images for event in command.explaining(str(run), count=3, ablate=0, seeds=0))
    assert shown == [64, 64, 64]  # the first cards, while the pass goes on
    assert "so far" in (run / "explain" / "conv1.html").read_text(encoding="utf-8")
    monkeypatch.setattr(CardStore, "keep", keep)
    starts = []
    monkeypatch.setattr(CardMaker, "_pass", _noting(CardMaker._pass, starts))
    made = convscope.explain(str(run), count=3, ablate=0, seeds=0)
    assert starts[0] == 192
    assert made.summary["layers"][0]["images"] == made.summary["layers"][0]["of"]
    assert "so far" not in (run / "explain" / "conv1.html").read_text(encoding="utf-8")


def _noting(original, starts: list[int]):
    def noting(self, stream, part) -> None:
        starts.append(stream.images)
        original(self, stream, part)

    return noting


def test_some_layers_and_filters_and_a_card_in_a_notebook(run: Path) -> None:
    report = convscope.explain(str(run), layer=["conv2"], filter=[3, 5], count=2, ablate=0, seeds=1)
    assert [card.filter for card in report.layers["conv2"].cards] == [3, 5]
    assert report.card("conv2", 5)._repr_png_()[:4] == b"\x89PNG"
    assert report._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(UsageError, match="conv2 has no card of filter 4"):
        report.card("conv2", 4)


def test_a_card_of_a_layer_that_was_kept_is_made_again_as_it_was(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "again")
    asked: dict[str, Any] = {"layer": ["conv1"], "ablate": 20, "count": 3, "runs": tmp_path}
    first = convscope.explain(str(tmp_path / "again"), **asked)
    second = convscope.explain(str(tmp_path / "again"), **asked)
    assert second.summary["kept"] == ["conv1"]
    one, other = first.card("conv1", 2), second.card("conv1", 2)
    assert other.card.to_json() == one.card.to_json()
    assert other.drawing.png == one.drawing.png
    with pytest.raises(UnknownName, match="Known: conv1"):
        second.card("conv9", 0)


def test_layers_without_a_filter_of_that_number_are_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "again")
    found = convscope.explain(str(tmp_path / "again"), filter=[9], seeds=0, ablate=0, runs=tmp_path)
    lacking = [note for note in found.summary["notes"] if note.endswith("no filter there has such a number.")]
    assert len(lacking) == (0 if len(found.layers) == len(convscope.explain(str(run), seeds=0, ablate=0).layers) else 1)


def test_fewer_images_than_exemplars(run: Path) -> None:
    report = convscope.explain(str(run), layer=["conv1"], limit=4, count=9, ablate=0, seeds=0)
    assert {len(card.exemplars) for card in report.layers["conv1"].cards} == {4}


def test_a_maximization_can_begin_at_an_exemplar(run: Path) -> None:
    report = convscope.explain(str(run), layer=["conv3"], filter=[0], ablate=0, from_exemplar=True)
    assert report.layers["conv3"].cards[0].maximized is not None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--layer", "conv4"], "no layer named 'conv4'. Did you mean 'conv"),
        (["--layer", "fc4"], "fc4 outputs (1, 512), and a layer outputs maps (N, C, h, w)"),
        (["--layer", "conv1", "--filter", "8"], "there is no filter 8 in conv1: they go from 0 to 7"),
        (["--filter", "-1"], "there is no filter -1 in any of the layers: they go from 0 to 31"),
        (["--count", "0"], "--count must be 1 or more, and is 0"),
        (["--limit", "0"], "--limit must be 1 or more"),
        (["--seeds", "-1"], "--seeds must be 0 or more"),
        (["--weights", "w.safetensors"], "--weights is for a model's name"),
        (["--image", "x.png", "--target", "circl"], "no class named 'circl'. Did you mean 'circle'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["explain", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_data_of_other_classes_is_explained_with_a_note(run: Path, shapes_folder: Path) -> None:
    for old in list(shapes_folder.iterdir()):
        old.rename(old.with_name(f"my-{old.name}"))
    report = convscope.explain(str(run), shapes_folder, layer=["conv1"], count=2, seeds=0)
    (note,) = [n for n in report.summary["notes"] if "does not know" in n]
    assert "'my-circle'" in note
    assert report.layers["conv1"].cards[0].usage is None
    assert report.layers["conv1"].cards[0].classes[0].name.startswith("my-")
    assert report.folder == run / "explain" / "images"


def test_a_models_name_is_explained_with_random_weights_and_a_note(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the model resnet20 does not say what it was trained on: name a dataset"):
        convscope.explain("resnet20", runs=tmp_path)
    report = convscope.explain("resnet20", "digits", layer=["conv1"], limit=40, count=2, seeds=0, runs=tmp_path)
    assert any("weights of resnet20 are random" in note for note in report.summary["notes"])
    assert report.folder == tmp_path / "resnet20" / "explain" / "digits" / "40-images"


def test_any_module_is_explained(data: Dataset, tmp_path: Path) -> None:
    network = planted().train()
    report = convscope.explain(network, data, count=2, seeds=0, ablate=50, runs=tmp_path)
    assert list(report.layers) == ["0"]
    assert report.layers["0"].cards[RED].usage.feeds[0][0] == "red"
    assert network.training
    with pytest.raises(UsageError, match="name a dataset"):
        convscope.explain(network)
    with pytest.raises(UsageError, match="cannot take images of 20 pixels"):
        convscope.explain(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), data, runs=tmp_path)


def plain_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


def test_an_image_is_taken_apart(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    image = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(image)
    assert cli.run(["explain", str(run), "--image", str(image), "--sanity"]) == 0
    said = capsys.readouterr()
    assert "the filters of conv3 explain" in said.out
    assert "(approximate)" in said.out
    assert "sanity of occlusion" in said.out
    assert "cam needs a network that ends in global average pooling" in said.err
    folder = run / "explain" / "image-p"
    assert {p.name for p in folder.iterdir()} >= {"evidence.png", "looks.png", "maps.png", "maps-conv1.jpg"}
    summary = json.loads((folder / "image.json").read_text())
    assert summary["methods"] == ["grad-cam", "integrated-gradients", "occlusion"]
    assert sum(n["label"] in summary["logits"] for n in summary["nearest"]) == 8
    other = tmp_path / "other" / "p.png"
    other.parent.mkdir()
    Image.new("RGB", (40, 50), "teal").save(other)
    beside = convscope.explain_image(str(run), other, methods=["grad-cam"])
    assert beside.folder == run / "explain" / "image-p-2"  # another image of that name
    with Image.open(image) as held:
        again = convscope.explain_image(str(run), held.copy(), methods=["grad-cam"])
    assert again.summary["logits"] == summary["logits"]
    assert again.folder == run / "explain" / "image-image"
    assert convscope.explain_image(str(run), str(image), methods=["grad-cam"]).folder == folder
    own = convscope.explain_image(plain_network(), image, "digits", methods=["grad-cam"], runs=tmp_path)
    assert own.folder.parent == tmp_path / "Sequential" / "explain" / "digits"
    with pytest.raises(UsageError, match="name a dataset"):
        convscope.explain_image(plain_network(), image, runs=tmp_path)
    with pytest.raises(UsageError, match="Sequential has other outputs than shapes has classes"):
        convscope.explain_image(plain_network(), image, "shapes", runs=tmp_path)
    with pytest.raises(UsageError, match="a batch of 2 is given"):
        convscope.explain_image(str(run), np.zeros((2, 8, 8, 3), np.uint8))
    assert cli.run(["explain", str(run), "--image", str(image), "--method", "cam"]) == 2
    assert cli.run(["explain", str(run), "--image", str(image), "--method", "gradcam"]) == 2
    assert "Did you mean 'grad-cam'" in capsys.readouterr().err
    assert cli.run(["explain", str(run), "--image", "no-such.png"]) == 65


def test_maximized_images_vary_no_more_than_real_ones(run: Path) -> None:
    report = convscope.explain(str(run), layer=["conv3"], count=2, ablate=0)
    found = report.layers["conv3"]
    assert found.maximized is not None
    real = palette(report.dataset.images[report.dataset.subset("train", 300)])
    variation = total_variation(to_tensor(found.maximized[:, 0]).float() / 255)
    assert float((variation <= 1.05 * real.variation[2]).float().mean()) > 0.9
