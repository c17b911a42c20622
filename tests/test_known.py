"""Answering "none of these": ranks by counting, distances by scipy, and what is kept in a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from torch import nn

import convscope
from convscope.classifying.known import Known, centre_and_precision, distances, looking, refuses
from convscope.classifying.prediction import Unreadable
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UsageError
from convscope.evaluation.knowing import KNOWN, noise_images
from convscope.training.runs import find_run

TINY: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 2, "limit": 400}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    convscope.train("digits", name="r", runs=runs, **TINY)
    return runs


def known_of(energies: np.ndarray, distances_V: np.ndarray) -> Known:
    nothing = np.zeros((0, 1), np.float32)
    return Known(energies, distances_V, np.zeros(1), np.eye(1), nothing, (), ())


def test_familiarity_is_the_worse_of_two_ranks_among_validation_images():
    random = np.random.default_rng(0)
    energies, edges = random.normal(size=40), random.normal(size=(40, 1))
    known = known_of(energies, edges[:, 0] ** 2)
    asked, asked_edges = random.normal(size=30), random.normal(size=(30, 1))

    def worse(energy: float, distance: float) -> float:
        return min(np.mean(energies <= energy), np.mean(edges[:, 0] ** 2 >= distance))

    own = [worse(e, d) for e, d in zip(energies, edges[:, 0] ** 2, strict=True)]
    wanted = [np.mean(own <= worse(e, d)) for e, d in zip(asked, asked_edges[:, 0] ** 2, strict=True)]
    assert known.familiarity(asked, asked_edges).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95, 0.99, 1.0])
def test_of_the_validation_images_the_coverage_is_kept(coverage: float):
    random = np.random.default_rng(1)
    energies, edges = random.normal(size=200), random.normal(size=(200, 1))
    known = known_of(energies, edges[:, 0] ** 2)
    kept = sum(not refuses(share, coverage) for share in known.familiarity(energies, edges))
    assert coverage * 200 <= kept <= coverage * 200 + 5  # ranks are shared by some
    assert refuses(0.0, coverage)


def test_what_is_no_number_is_not_familiar():
    known = known_of(np.arange(30.0), np.arange(30.0))
    assert known.familiarity(np.array([np.nan, np.inf, 15.0]), np.array([[0.0], [0.0], [np.nan]])).tolist() == [0, 0, 0]


def test_distances_are_those_of_scipy():
    edges = np.random.default_rng(2).normal(size=(50, 6))
    centre, precision = centre_and_precision(edges)
    assert precision == pytest.approx(np.linalg.inv(LedoitWolf().fit(edges).covariance_))
    wanted = [mahalanobis(row, centre, precision) ** 2 for row in edges]
    assert distances(edges, centre, precision) == pytest.approx(np.array(wanted))


def test_looks_are_those_of_the_layers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    network.eval()
    images = torch.rand(6, 3, 8, 8)
    with looking(network, 8) as looks, torch.no_grad():
        network(images[:4])
        network(images[:4].flip(3))  # a second view
        network(images[4:])
        network(images[4:].flip(3))
    energies, edges, features = looks.every(2)
    maps = network[0](images).detach().double().flatten(2)
    assert energies == pytest.approx(torch.logsumexp(network(images).detach().double(), 1).numpy(), abs=1e-6)
    assert edges == pytest.approx(torch.cat([maps.mean(2), maps.std(2, unbiased=False)], 1).numpy(), abs=1e-5)
    pooled = network[:4](images).detach()
    assert features == pytest.approx((pooled / pooled.norm(dim=1, keepdim=True)).numpy(), abs=1e-5)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_without_convolution_goes_by_its_logits():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5)).eval()
    with looking(network, 4) as looks, torch.no_grad():
        network(torch.rand(7, 3, 4, 4))
    energies, edges, _ = looks.every(1)
    assert edges.shape == (7, 0)
    centre, precision = centre_and_precision(edges)
    known = Known(energies, distances(edges, centre, precision), centre, precision, np.zeros((0, 1)), (), ())
    assert known.familiarity(energies, edges).max() == 1.0


def test_noise_is_refused_and_digits_are_not(runs: Path, tmp_path: Path):
    for i, image in enumerate(noise_images(16)[::20]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "z.png").write_bytes(b"no image")
    plain = convscope.predict("r", tmp_path, runs=runs)
    asked = convscope.predict("r", tmp_path, runs=runs, unknown="stranger", views="shift")
    *answers, last = asked
    assert isinstance(last, Unreadable)
    assert all(a.refused and a.label == "stranger" and len(a.familiar.nearest) == 3 for a in answers)
    assert asked.notes[-1].startswith("at a coverage of 95 %")
    assert "200 of 200" in asked.notes[-1]
    digits = load_dataset("digits", preprocess=find_run("r", runs).classifier().preprocess)
    images = [digits.images[i] for i in digits.parts["test"][:100]]
    again = convscope.predict("r", images, runs=runs, coverage=0.95)
    assert sum(a.refused for a in again) <= 15
    assert [a.top for a in again] == [a.top for a in convscope.predict("r", images, runs=runs)]
    assert [a.top for a in convscope.predict("r", tmp_path, runs=runs, coverage=0.9)[:-1]] == [
        a.top for a in plain[:-1]
    ]


def test_a_nearest_image_is_the_image_itself_when_it_was_trained_on(runs: Path):
    classifier = find_run("r", runs).classifier()
    digits = load_dataset("digits", preprocess=classifier.preprocess, limit=400)
    i = int(digits.parts["train"][3])
    answer = convscope.predict("r", digits.images[i], runs=runs, coverage=0.95)[0]
    origin, label, cosine = answer.familiar.nearest[0]
    assert (origin, label) == (digits.origins(i), digits.class_names[digits.labels[i]])
    assert cosine == pytest.approx(1, abs=1e-4)


def test_what_is_known_is_kept_and_made_again_when_it_is_damaged_or_of_other_weights(runs: Path, tmp_path: Path):
    runs = shutil.copytree(runs, tmp_path / "runs")
    image = noise_images(16)[:1]
    first = convscope.predict("r", image[0], runs=runs, coverage=0.95)
    path = runs / "r" / KNOWN
    before = path.read_bytes()
    assert convscope.predict("r", image[0], runs=runs, coverage=0.95) == first
    assert path.read_bytes() == before
    path.write_bytes(before[:-5])
    told = convscope.predict("r", image[0], runs=runs, coverage=0.95)
    assert "made again" in told.notes[0]
    assert path.read_bytes() == before
    run, classifier = find_run("r", runs), find_run("r", runs).classifier()
    with torch.no_grad():
        next(classifier.network.parameters()).add_(1.0)
    classifier.save(run.folder / "classifier.safetensors")
    convscope.predict("r", image[0], runs=runs, coverage=0.95)
    assert path.read_bytes() != before


@pytest.mark.parametrize("coverage", [0.0, -1, 1.5, float("nan")])
def test_a_coverage_is_a_share(runs: Path, coverage: float):
    with pytest.raises(UsageError, match="share of the validation images"):
        convscope.predict("r", noise_images(16)[0], runs=runs, coverage=coverage)


def test_what_is_familiar_may_be_named(runs: Path):
    """A network from elsewhere does not say what it was trained on."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    names = [str(i) for i in range(10)]
    adopted = convscope.adopt(network, classes=names, preprocess=convscope.Preprocess(16))
    noise = noise_images(16)[0]
    with pytest.raises(UsageError, match="does not say what it was trained on"):
        convscope.predict(adopted.classifier, noise, unknown="x")
    with pytest.raises(UsageError, match="`coverage` how much"):
        convscope.predict(adopted.classifier, noise, min_probability=0.5, known="digits")
    (answer,) = convscope.predict(adopted.classifier, noise, unknown="x", known="digits", runs=runs)
    assert answer.refused


def test_the_least_probability_that_is_told_keeps_the_surer_half(runs: Path):
    found = convscope.evaluate("r", runs=runs, part="val")
    rows = found.summary["coverage"]
    probabilities = found.evaluated.logits.double().softmax(1).max(1).values.numpy()
    right = (found.evaluated.logits.argmax(1) == found.evaluated.labels).numpy()
    for row in rows:
        kept = np.argsort(-probabilities, kind="stable")[: row["n"]]
        assert row["n"] == int(np.ceil(row["share"] * len(right)))
        assert row["top1"] == pytest.approx(right[kept].mean())
        assert (probabilities >= row["least"] - 1e-12).sum() == row["n"]
    assert (rows[0]["top1"], rows[0]["share"], rows[-1]["share"]) == (found.summary["top1"], 1, 0.5)


def test_few_validation_images_tell_nothing(tmp_path: Path, shapes_folder: Path):
    convscope.train(shapes_folder, name="few", runs=tmp_path / "runs", **{**TINY, "limit": 30})
    with pytest.raises(DataError, match="20 or more, as about 100 images would give") as told:
        convscope.predict("few", noise_images(16)[0], runs=tmp_path / "runs", unknown="x")
    assert "6 validation images (of 30 images in all)" in str(told.value)
