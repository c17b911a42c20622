"""Engines: the same bits in any batch, folding that changes nothing, and two engines that agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from convscope.classifying.classifier import Classifier
from convscope.errors import UnknownName, UsageError
from convscope.feature_store import engines
from convscope.feature_store.engines import (
    TOLERANCE,
    FeatureRequest,
    body_hash,
    fold,
    last_map,
    make_engine,
    pick_engine,
)
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture
from convscope.models.heads import head_place
from convscope.models.registry import build
from lively import lively

CPU = torch.device("cpu")
SIZE = 64


def classifier_of(name: str, size: int = SIZE, classes: int = 5) -> Classifier:
    architecture = Architecture(name, size)
    network = lively(architecture.build(classes, seed=0))
    names = tuple(f"class {i}" for i in range(classes))
    return Classifier(network.eval(), names, Preprocess(size), architecture)


@pytest.fixture(scope="module")
def lite() -> Classifier:
    return classifier_of("timm:tf_efficientnet_lite0")


def random_images(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def features_by(run, images: np.ndarray, batch: int) -> np.ndarray:
    return np.concatenate([run(images[i : i + batch]) for i in range(0, len(images), batch)])


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_an_image_has_the_same_bits_in_any_batch_and_place(lite: Classifier, engine: str):
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    run = make_engine(engine, lite, FeatureRequest(), CPU).run
    images = random_images(12)
    alone = features_by(run, images, 1)
    for batch in (2, 5, 12):
        assert np.array_equal(features_by(run, images, batch), alone)
    order = np.random.default_rng(1).permutation(12)
    assert np.array_equal(features_by(run, images[order], 4), alone[order])


def test_the_engines_agree_and_features_are_what_the_last_layer_is_given(lite: Classifier):
    pytest.importorskip("onnxruntime")
    images = random_images(4)
    one, other = (make_engine(name, lite, FeatureRequest(), CPU).run(images) for name in ("torch", "onnxruntime"))
    assert np.abs(one - other).max() <= TOLERANCE * max(1.0, np.abs(one).max())
    place, channels = head_place(lite.network)
    assert one.shape == (4, channels)
    with torch.inference_mode():
        inputs = lite.preprocess.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        logits = lite.network(inputs)
        ours = lite.network.get_submodule(place)(torch.from_numpy(one))
    assert torch.allclose(logits, ours, atol=1e-4)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18", "resnet20", "alexnet", "vgg", "speednet"])
def test_folding_changes_no_answer(name: str):
    size = 64 if ":" in name else 32
    network = classifier_of(name, size).network
    images = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        before = network(images)
        count = fold(network, size)
        after = network(images)
    assert torch.allclose(before, after, atol=1e-4 * max(1.0, float(before.abs().max())))
    if name != "speednet":  # it pools between convolution and norm
        assert count > 0


def test_a_norm_that_is_not_alone_fed_is_left_as_it_is():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.conv(x)
            return self.head((x + self.norm(x)).mean((2, 3)))  # the convolution's own output is used too

    network = lively(Shared()).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        before = network(images)
        assert fold(network, 16) == 0
        assert torch.equal(network(images), before)


def test_maps_and_other_layers(lite: Classifier):
    images = random_images(2)
    maps = make_engine("torch", lite, FeatureRequest(maps=True), CPU).run(images)
    pooled = make_engine("torch", lite, FeatureRequest(), CPU).run(images)
    assert maps.shape == (2, 1280, 2, 2)
    assert np.allclose(maps.mean((2, 3)), pooled, atol=1e-4)
    middle = make_engine("torch", lite, FeatureRequest("blocks.3"), CPU).run(images)
    whole = make_engine("torch", lite, FeatureRequest("blocks.3", maps=True), CPU).run(images)
    assert np.allclose(whole.mean((2, 3)), middle, atol=1e-5)
    with pytest.raises(UnknownName, match=r"blocks\.9"):
        make_engine("torch", lite, FeatureRequest("blocks.9"), CPU)
    assert last_map(lite.network, SIZE)


def test_what_is_chosen_and_refused(lite: Classifier, monkeypatch: pytest.MonkeyPatch):
    assert pick_engine("torch", FeatureRequest(), CPU) == "torch"
    assert pick_engine("auto", FeatureRequest("blocks.3"), CPU) == "torch"
    with pytest.raises(UnknownName, match="onnxruntime"):
        pick_engine("onnxruntim", FeatureRequest(), CPU)
    with pytest.raises(UsageError, match="--layer"):
        pick_engine("onnxruntime", FeatureRequest(maps=True), CPU)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert pick_engine("auto", FeatureRequest(), CPU) == "torch"
    with pytest.raises(UsageError, match=r"convscope\[export\]"):
        pick_engine("onnxruntime", FeatureRequest(), CPU)


def test_a_head_is_no_part_of_what_features_depend_on(lite: Classifier):
    other = build("timm:tf_efficientnet_lite0", 3, SIZE, {"head": "fcnn"}, seed=1)
    body = {n: t for n, t in lite.network.state_dict().items() if not n.startswith("classifier.")}
    other.load_state_dict({**other.state_dict(), **body})
    twin = replace(lite, network=other)
    assert body_hash(twin, FeatureRequest()) == body_hash(lite, FeatureRequest())
    assert body_hash(twin, FeatureRequest("blocks.3")) != body_hash(lite, FeatureRequest("blocks.3"))
    assert body_hash(twin, FeatureRequest()) != body_hash(classifier_of("timm:resnet18"), FeatureRequest())
