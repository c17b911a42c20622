"""Ablation: silencing a filter by replay gives what a whole pass with the filter at 0 gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.classifying.prediction import logits
from convscope.explanation import ablation
from convscope.explanation.ablation import _Replay, ablate
from convscope.explanation.layers import find_layers
from convscope.images.preprocess import Preprocess
from convscope.models.registry import build
from convscope.models.taps import count_hooks
from convscope.models.tracing import tracing
from lively import lively
from slow_explaining import without_filter

CLASSES = 4


class InPlace(nn.Module):
    """Functional operations in place, a module used twice, and channels that are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.drop = nn.Conv2d(6, 6, 3, padding=1), nn.Dropout(0.5, inplace=True)
        self.conv3, self.fc = nn.Conv2d(12, 5, 3, padding=1, groups=1), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.norm1(self.conv1(x)))
        y = self.drop(self.conv2(x))
        y += x
        y = F.relu_(self.conv2(y))
        y = self.conv3(torch.cat([x, y], 1))
        return self.fc(y.relu().mean((2, 3)))


def network_of(name: str, side: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = InPlace() if name == "in place" else build(name, CLASSES, side, seed=0)
    network = network.eval().to(memory_format=torch.channels_last)
    return lively(network)


def data(side: int, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (n, side, side, 3), np.uint8), np.arange(n) % CLASSES


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("alexnet", 16),
        ("resnet20", 16),
        ("speednet", 16),
        ("in place", 12),
        ("torchvision:resnet18", 32),
        ("torchvision:densenet121", 32),
        ("torchvision:vgg11_bn", 32),
        ("timm:mobilenetv3_small_100", 32),
    ],
)
def test_a_replay_equals_a_whole_pass(name: str, side: int) -> None:
    network, preprocess = network_of(name, side), Preprocess(side)
    images, labels = data(side)
    layers = find_layers(network, torch.zeros(1, 3, side, side))
    whole = logits(network, images, preprocess)
    for layer in {layers[i].name: layers[i] for i in (0, 1, len(layers) // 2, -1)}.values():
        filters = [layer.filters - 1, 0, layer.filters // 2]
        found = ablate(network, images, labels, preprocess, layer, np.arange(len(images)), filters)
        for row, k in enumerate(filters):
            without = without_filter(network, layer, images, preprocess, k)
            scale = float(whole.abs().max())
            assert torch.allclose(found.logit_lost[row], (whole - without).mean(0), atol=1e-5 * scale), (layer.name, k)
            right, still = (scores.argmax(1) == torch.from_numpy(labels) for scores in (whole, without))
            assert int(found.broken[row]) == int((right & ~still).sum())
            assert int(found.mended[row]) == int((~right & still).sum())
            lost = [float((right & ~still)[labels == c].sum() - (~right & still)[labels == c].sum()) for c in range(4)]
            assert found.recall_lost[row].tolist() == pytest.approx([x / (len(labels) / 4) for x in lost])
        assert found.accuracy == pytest.approx(float((whole.argmax(1) == torch.from_numpy(labels)).double().mean()))


@pytest.mark.parametrize("name", ["resnet20", "torchvision:densenet121", "timm:mobilenetv3_small_100", "in place"])
def test_blocks_of_images_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 12 if name == "in place" else 32
    network, preprocess = network_of(name, side), Preprocess(side)
    images, labels = data(side)
    layers = find_layers(network, torch.zeros(1, 3, side, side))
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        whole = ablate(network, images, labels, preprocess, layer, np.arange(len(images)), [0, 1])
        with monkeypatch.context() as patch:
            patch.setattr(ablation, "MOST_IN_BLOCK", 7)
            parts = ablate(network, images, labels, preprocess, layer, np.arange(len(images)), [0, 1])
        assert torch.allclose(whole.logit_lost, parts.logit_lost, atol=1e-5)
        assert torch.equal(whole.broken, parts.broken)


class Moody(nn.Module):
    """A network that calls one more module where images are bright."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.extra, self.b = (nn.Conv2d(n, 4, 3, padding=1) for n in (3, 4, 4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        if x.mean() > 0:
            y = self.extra(y)
        return self.head(self.b(y).relu().mean((2, 3)))


def test_a_network_whose_calls_differ_between_images_is_replayed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, preprocess = Moody().eval(), Preprocess(8)
    images = np.full((6, 8, 8, 3), 250, np.uint8)
    images[0] = 3
    monkeypatch.setattr(ablation, "MOST_IN_BLOCK", 1)
    layer = next(x for x in find_layers(network, torch.zeros(1, 3, 8, 8)) if x.name == "b")
    found = ablate(network, images, np.arange(6) % CLASSES, preprocess, layer, np.arange(6), [2])
    rows = [logits(network, images[i : i + 1], preprocess) for i in range(6)]
    without = [without_filter(network, layer, images[i : i + 1], preprocess, 2) for i in range(6)]
    assert torch.allclose(found.logit_lost[0], (torch.cat(rows) - torch.cat(without)).mean(0), atol=1e-6)


def test_only_outputs_that_are_asked_for_are_kept() -> None:
    """Of a late layer those of whole stages: what lies within one would be most of the memory."""
    network = network_of("torchvision:resnet18", 32)
    layer = next(x for x in find_layers(network, torch.zeros(1, 3, 32, 32)) if x.name.startswith("layer4.1"))
    images_BCHW = torch.zeros(6, 3, 32, 32)
    with torch.no_grad(), _Replay(network, layer, images_BCHW[:1]) as trial:
        needed = trial.needed()
    with torch.no_grad(), tracing(network) as calls:
        network(images_BCHW)
    names = {call.name for call in calls if call.number in needed}
    assert {"conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4.0"} <= names
    assert not [name for name in names if name.startswith(("layer1.", "layer2.", "layer3.", "layer4.0."))]
    kept = sum(call.output.nbytes for call in calls if call.number in needed)
    assert kept < 0.4 * sum(call.output.nbytes for call in calls)


def test_blocks_are_smaller_the_larger_the_largest_output(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of("alexnet", 16)
    layer = find_layers(network, torch.zeros(1, 3, 16, 16))[-1]
    with torch.no_grad():
        largest = network.conv1(torch.zeros(1, 3, 16, 16)).nbytes
    with torch.no_grad(), _Replay(network, layer, torch.zeros(2, 3, 16, 16)) as replay:
        monkeypatch.setattr(ablation, "LARGEST_BYTES", 5 * largest)
        assert replay.most_images() == 5
        monkeypatch.setattr(ablation, "LARGEST_BYTES", 1)
        assert replay.most_images() == 1


def test_the_order_of_the_filters_changes_nothing() -> None:
    network, preprocess = network_of("resnet20", 16), Preprocess(16)
    images, labels = data(16)
    layer = find_layers(network, torch.zeros(1, 3, 16, 16))[4]
    index = np.arange(len(images))
    one = ablate(network, images, labels, preprocess, layer, index)
    other = ablate(network, images, labels, preprocess, layer, index, list(range(layer.filters))[::-1])
    assert torch.equal(one.logit_lost, other.logit_lost.flip(0))


def test_a_class_without_images_has_no_recall() -> None:
    network, preprocess = network_of("alexnet", 16), Preprocess(16)
    images, labels = data(16)
    layer = find_layers(network, torch.zeros(1, 3, 16, 16))[-1]
    found = ablate(network, images, np.minimum(labels, 2), preprocess, layer, np.arange(len(images)), [0])
    assert [math.isnan(x) for x in found.recall_lost[0].tolist()] == [False, False, False, True]


def test_the_network_is_as_it_was_after_success_and_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    network, preprocess = network_of("torchvision:resnet18", 32).train(), Preprocess(32)
    images, labels = data(32)
    layer = find_layers(network, torch.zeros(1, 3, 32, 32))[2]
    before = {name: t.clone() for name, t in network.state_dict().items()}
    own = network.layer4.forward
    network.layer4.__dict__["forward"] = own  # a user's own
    ablate(network, images, labels, preprocess, layer, np.arange(4), [0, 1])
    with pytest.raises(IndexError):
        ablate(network, images, labels, preprocess, layer, np.arange(4), [layer.filters + 5])
    assert network.layer4.__dict__["forward"] is own
    assert [name for name, m in network.named_modules() if "forward" in m.__dict__] == ["layer4"]
    assert count_hooks(network) == 0
    assert all(module.training for module in network.modules())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
