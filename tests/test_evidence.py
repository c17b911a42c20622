"""Evidence and probes: terms that add up to the logit, and features that are readable where they are planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from convscope.errors import UsageError
from convscope.explanation.evidence import evidence, find_head, head_input, head_inputs
from convscope.explanation.layers import find_layers
from convscope.explanation.maps import feature_maps
from convscope.explanation.probe import RIDGE, _solve, probe
from convscope.explanation.responses import Responses
from convscope.feature_store.nearest import most_similar
from convscope.images.preprocess import Preprocess
from convscope.models.registry import build
from convscope.models.taps import count_hooks
from lively import lively


def network_of(name: str, side: int, classes: int = 5) -> nn.Module:
    network = build(name, classes, side, seed=0).eval()
    return lively(network)


def random_image(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3))


POOLED = [
    ("resnet20", 32, "mean", "layer3.2.relu2", None),
    ("speednet", 32, "max", "act3_2", "conv3_2"),
    ("timm:resnet18", 64, "mean", "layer4.1.act2", None),
    ("torchvision:resnet18", 64, "mean", "layer4.1.relu", None),
]


@pytest.mark.parametrize(("name", "side", "pool", "features", "owner"), POOLED)
def test_terms_and_bias_add_up_to_the_logit(name: str, side: int, pool: str, features: str, owner: str | None) -> None:
    network, image = network_of(name, side), random_image(side)
    head = find_head(network, image)
    assert head is not None
    assert (head.pool, head.features.module, head.owner) == (pool, features, owner)
    found = evidence(network, image)
    assert found.exact
    assert found.layer == (owner or features)
    size = found.terms.abs().sum(1) + found.rest.abs()
    assert ((found.terms.sum(1) + found.rest - found.logits).abs() <= 1e-5 * size).all()
    assert float(found.margin.sum() + found.rest[found.target] - found.rest[found.against]) == pytest.approx(found.lead)
    with torch.no_grad():
        assert found.logits.tolist() == network(image)[0].double().tolist()


def test_a_term_is_what_the_logit_loses_without_the_filter() -> None:
    network, image = network_of("resnet20", 16), random_image(16)
    found = evidence(network, image)
    with torch.no_grad():
        before = network(image)[0]
        network.linear.weight[:, 7] = 0.0  # the pooled filter no longer counts
        lost = before - network(image)[0]
    assert torch.allclose(lost.double(), found.terms[:, 7], atol=1e-5)


def test_for_another_head_the_rest_is_told() -> None:
    network, image = network_of("alexnet", 16), random_image(16)
    assert find_head(network, image) is None
    found = evidence(network, image, target=2)
    assert not found.exact
    assert (found.layer, found.target) == ("conv3", 2)
    assert found.against == int(found.logits.argmax()) != 2
    assert torch.allclose(found.terms.sum(1) + found.rest, found.logits)
    slow = []
    for k in range(5):  # value times gradient, by autograd on the whole network
        kept: list[Tensor] = []
        handle = network.norm3.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))
        (gradient,) = torch.autograd.grad(network(image)[0, k], kept[0])
        handle.remove()
        slow.append((gradient * kept[0]).sum((0, 2, 3)).detach().double())
    assert torch.allclose(torch.stack(slow), found.terms, atol=1e-5)


def test_a_class_that_does_not_exist_is_refused_and_nothing_is_left_behind() -> None:
    network, image = network_of("resnet20", 16).train(), random_image(16)
    with pytest.raises(UsageError, match="no class numbered 9: they go from 0 to 4"):
        evidence(network, image, target=9)
    evidence(network, image)
    feature_maps(network, image, find_layers(network, image))
    assert count_hooks(network) == 0
    assert all(module.training for module in network.modules())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_the_nearest_image_to_an_image_is_itself() -> None:
    network, preprocess = network_of("resnet20", 16), Preprocess(16)
    images = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), np.uint8)
    image = preprocess.normalise(torch.from_numpy(images[33:34]).permute(0, 3, 1, 2))
    tap, wanted = head_input(network, image)
    given = head_inputs(network, images, preprocess, np.arange(20, 80), tap)
    found = most_similar(given, wanted, 4)
    assert found[0] == (33 - 20, pytest.approx(1.0, abs=1e-5))
    assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)


def test_maps_are_what_passes_and_are_ordered_by_their_peak() -> None:
    network, image = network_of("alexnet", 16), random_image(16)
    layers = find_layers(network, image)
    found = feature_maps(network, image, layers)[0]
    with torch.no_grad():
        expected = network.norm1(network.conv1(image))[0]
    assert torch.allclose(found.maps, expected, atol=1e-6)
    peaks = expected.amax((1, 2))
    assert peaks[found.order].tolist() == sorted(peaks.tolist(), reverse=True)
    assert found.firing == pytest.approx(float((expected > 0).double().mean()))


# ---------------------------------------------------------------------------------------------------------- probes


def answers(layer, features: Tensor) -> Responses:
    return Responses(layer, features, features, torch.empty(0))


def test_a_probe_is_ridge_regression_on_standardised_features() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, other = torch.randn(90, 7, generator=generator), torch.arange(90) % 3, torch.randn(20, 7, generator=generator)
    standard = ((x - x.mean(0)) / x.std(0)).numpy()
    oracle = Ridge(alpha=RIDGE * len(x)).fit(standard, np.eye(3)[y])
    expected = oracle.predict(((other - x.mean(0)) / x.std(0)).numpy())
    assert np.allclose(_solve(x, y, other, 3).numpy(), expected, atol=1e-6)


def test_a_class_is_readable_from_the_layer_where_it_is_planted() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = find_layers(build("alexnet", 4, 16, {"width": 4}, seed=0), torch.zeros(1, 3, 16, 16))[:2]
    labels, held = torch.arange(400) % 3, torch.arange(200) % 3

    def features(y: Tensor, classes: list[int]) -> Tensor:
        x = torch.randn(len(y), 5, generator=generator)
        for column, c in enumerate(classes):
            x[:, column] += 6 * (y == c)
        return x

    train = [answers(layers[0], features(labels, [0])), answers(layers[1], features(labels, [0, 1, 2]))]
    test = [answers(layers[0], features(held, [0])), answers(layers[1], features(held, [0, 1, 2]))]
    found = probe(train, labels, test, held, 3)
    assert found.readable[0] == "conv1"
    assert found.readable[1:].count("conv2") >= 1
    assert found.probes[1].accuracy.value > 0.95
    assert found.probes[0].accuracy.value < 0.8
    assert found.probes[0].accuracy.n == 200
