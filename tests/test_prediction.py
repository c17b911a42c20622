"""The one pass, and test-time views: against slow copies of each image, and honest about both answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

import convscope
from convscope.classifying.classifier import Classifier
from convscope.classifying.intervals import wilson
from convscope.classifying.prediction import (
    PIXEL_BATCH,
    UNMIRRORED,
    VIEWS,
    each_pass,
    find_views,
    logits,
    predict,
    view_logits,
)
from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.errors import UnknownName
from convscope.evaluation.scoring import evaluate
from convscope.images.preprocess import Preprocess, to_tensor
from convscope.models.architecture import Architecture
from convscope.models.pixel_network import PixelNetwork

PREPROCESS = Preprocess(32, "crop", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Recorder(nn.Module):
    """Outputs what it was given, flattened, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return x.flatten(1)[:, :6]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", VIEWS)
def test_views_begin_with_the_image_itself_and_their_weights_add_up(name: str) -> None:
    views = find_views(name)
    assert (views[0].mirrored, views[0].moved) == (False, (0, 0))
    assert sum(view.weight for view in views) == pytest.approx(1.0)
    assert not any(view.mirrored for view in VIEWS[UNMIRRORED[name]])


def test_each_view_is_the_image_mirrored_and_moved(images: np.ndarray) -> None:
    recorder = Recorder()
    view_logits(recorder, images, PREPROCESS, VIEWS["flip-shift"])
    plain = PREPROCESS.normalise(to_tensor(images)).numpy()
    assert len(recorder.seen) == 6
    for view, seen in zip(VIEWS["flip-shift"], recorder.seen, strict=True):
        expected = plain[..., ::-1] if view.mirrored else plain
        right, down = view.moved
        padded = np.pad(expected, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        np.testing.assert_array_equal(seen.numpy(), padded[:, :, 1 - down : 33 - down, 1 - right : 33 - right])


def test_the_mean_is_the_weighted_sum_and_the_plain_answer_stays(images: np.ndarray) -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(6, 3072, generator=generator))
    recorder = Recorder()
    plain, mean = view_logits(network, images, PREPROCESS, VIEWS["flip-shift"])
    view_logits(recorder, images, PREPROCESS, VIEWS["flip-shift"])
    by_hand = sum(v.weight * network(x) for v, x in zip(VIEWS["flip-shift"], recorder.seen, strict=True))
    torch.testing.assert_close(mean, by_hand, rtol=1e-4, atol=1e-4)
    assert torch.equal(plain, logits(network, images, PREPROCESS))
    once, same = view_logits(network, images, PREPROCESS, VIEWS["none"])
    assert torch.equal(once, same)


def test_a_move_grows_with_the_image() -> None:
    recorder = Recorder()
    large = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    view_logits(recorder, large, Preprocess(96, "crop", (0.5,) * 3, (0.25,) * 3), VIEWS["shift"])
    torch.testing.assert_close(recorder.seen[1][:, :, 3:, 3:], recorder.seen[0][:, :, :-3, :-3])


def test_both_numbers_are_told() -> None:
    data = assemble(load_shapes(60))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))
    classifier = Classifier(network, data.class_names, data.preprocess, Architecture("x", 32))
    plain, both = evaluate(classifier, data, "all"), evaluate(classifier, data, "all", views="flip")
    assert plain.view_scores is None
    assert both.view_scores is not None
    assert both.scores == plain.scores, "the first number does not depend on the views"
    images = data.preprocess.normalise(torch.from_numpy(data.images[both.index]).permute(0, 3, 1, 2))
    with torch.no_grad():
        mean = (network(images) + network(images.flip(3))) / 2
    labels = both.labels.numpy()
    assert both.view_scores.loss == pytest.approx(log_loss(labels, mean.double().softmax(1), labels=range(6)), rel=1e-5)
    right = round(accuracy_score(labels, mean.argmax(1)) * len(labels))
    assert both.view_scores.top1 == wilson(right, len(labels))
    assert both.view_scores.loss != both.scores.loss
    with pytest.raises(UnknownName, match=r"no views named 'flop'\. Did you mean 'flip'"):
        evaluate(classifier, data, "all", views="flop")


def test_a_prediction_tells_the_answer_to_one_view_too(tmp_path: Path, images: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "p.png")
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    classifier = Classifier(network, ("a", "b", "c"), PREPROCESS, Architecture("x", 32))
    source = [("p", tmp_path / "p.png")]
    (plain,), (viewed,) = predict(classifier, source), predict(classifier, source, views="flip")
    told: list[tuple[int, int]] = []
    predict(classifier, 70 * source, progress=lambda *at: told.append(at))
    assert told == [(64, 70), (70, 70)]
    assert plain.to_json()["one_view"] is None
    assert viewed.to_json()["one_view"] == {"label": plain.label, "probability": plain.probability}
    assert viewed.probability != plain.probability


def test_a_network_that_saw_no_mirrored_images_is_shown_none(tmp_path: Path) -> None:
    options = {"limit": 120, "width": 4, "epochs": 1}
    run = convscope.train("digits", runs=tmp_path, **options).run
    told: list[tuple[str, int, int]] = []
    made = convscope.evaluate(str(run.folder), views="flip-shift", progress=lambda *at: told.append(at))
    summary = made.summary
    assert ("evaluating", summary["n"], summary["n"]) in told
    assert summary["views"] == "shift"
    assert any("trained without mirrored images" in note for note in summary["notes"])
    assert summary["views_low"] <= summary["views_top1"] <= summary["views_high"]
    assert convscope.evaluate(str(run.folder)).summary["views_top1"] is None


def test_a_network_that_answers_for_pixels_sees_fewer_images_at_once():
    images, seen = np.zeros((40, 32, 32, 3), np.uint8), []

    def act(here: np.ndarray, inputs: torch.Tensor) -> None:
        seen.append((here.tolist(), len(inputs)))

    each_pass(PixelNetwork(nn.Identity(), nn.Identity()), images, PREPROCESS, np.arange(40), act)
    assert [count for _, count in seen] == [PIXEL_BATCH, PIXEL_BATCH, 40 - 2 * PIXEL_BATCH]
    assert [i for here, _ in seen for i in here] == list(range(40))
    seen.clear()
    each_pass(nn.Identity(), images, PREPROCESS, np.arange(40), act)
    assert [count for _, count in seen] == [40]
