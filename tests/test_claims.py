"""What the claims build and measure, against answers known on paper and slow, obvious ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convscope.datasets.dataset import Dataset
from convscope.images.preprocess import to_tensor
from convscope.models.registry import build
from convscope.studies.claims import (
    batch_norm_speed,
    general_to_specific,
    global_pooling,
    identity_layers,
    location,
    overfitting,
    two_3x3,
    vanishing_gradients,
)
from convscope.studies.plan import Plan, StudyData
from convscope.studies.results import Results, Trained
from convscope.studies.study_data import load_study_data


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_study_data(StudyData("shapes", 16, train=48, val=24, test=48))


def images_of(data: Dataset, part: str) -> torch.Tensor:
    return data.preprocess.normalise(to_tensor(np.asarray(data.images[data.parts[part]])))


def test_the_fully_connected_network_is_as_large_as_the_convolutional_one() -> None:
    for size, width in ((16, 8), (32, 64)):
        conv = sum(p.numel() for p in build("alexnet", 6, size, {"width": width}, seed=0).parameters())
        dense = sum(p.numel() for p in location.dense(6, size, width=width).parameters())
        assert 0.99 < dense / conv <= 1.0


def test_added_identity_layers_change_no_logit_and_the_rest_begins_alike(data: Dataset) -> None:
    networks = {}
    for name, options in (("shallow", {}), ("added", {"extra": 5, "identity": True}), ("scratch", {"extra": 5})):
        torch.manual_seed(3)
        networks[name] = identity_layers.tower(6, 16, width=4, **options).eval()
    images = images_of(data, "test")
    with torch.no_grad():
        outputs = {name: network(images) for name, network in networks.items()}
    assert torch.equal(outputs["shallow"], outputs["added"])
    assert not torch.allclose(outputs["shallow"], outputs["scratch"])
    for name, tensor in networks["shallow"].state_dict().items():
        assert torch.equal(tensor, networks["scratch"].state_dict()[name])
    shapes = [[tuple(p.shape) for p in networks[name].parameters()] for name in ("added", "scratch")]
    assert shapes[0] == shapes[1]


def test_two_small_filters_see_what_a_large_one_sees_with_fewer_weights(data: Dataset) -> None:
    one, two = (two_3x3.measure(two_3x3.stages(6, 16, width=8, twice=t), data, data) for t in (False, True))
    assert float(one["sees"]) == float(two["sees"]) == 5 + 1 + 2 * 4 + 2 + 4 * 4
    by_hand = 25 * (3 * 8 + 8 * 16 + 16 * 32), 9 * (3 * 8 + 8 * 8 + 8 * 8 + 8 * 16 + 16 * 16 + 16 * 32)
    assert (float(one["weights"]), float(two["weights"])) == by_hand


def test_gradients_relative_to_weights_by_the_obvious_way(data: Dataset) -> None:
    network = build("plain20", 6, 16, {"width": 2}, seed=0).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = vanishing_gradients.measure(network, data, data)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert all(p.grad is None for p in network.parameters())
    network.train()
    index = data.subset("train", vanishing_gradients.IMAGES)
    images = data.preprocess.normalise(to_tensor(np.asarray(data.images[index])))
    nn.functional.cross_entropy(network(images), torch.from_numpy(data.labels[index])).backward()
    wanted = [m.weight.grad.norm() / m.weight.norm() for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert torch.allclose(found["relative"], torch.stack(wanted).detach(), rtol=1e-4)
    ends = found["relative"].double().log10()
    assert float(found["decades"]) == pytest.approx(float(ends[:8].mean() - ends[-8:].mean()), abs=1e-5)


def test_gradients_of_the_usual_start_vanish_and_of_his_start_do_not(data: Dataset) -> None:
    """A small check of the sign: the first convolutions are those that lose."""
    torch.manual_seed(0)
    plain = vanishing_gradients.measure(vanishing_gradients.usual_start(6, 16, width=4), data, data)
    he = build("plain56", 6, 16, {"width": 4, "batch_norm": False}, seed=0)
    assert float(plain["decades"]) < float(vanishing_gradients.measure(he, data, data)["decades"]) - 1


def test_the_maps_that_a_logit_rests_on_are_counted(data: Dataset) -> None:
    torch.manual_seed(0)
    network = global_pooling.pooled(6, 16, width=4, depth=4).eval()
    found = global_pooling.measure(network, data, data)
    images = images_of(data, "test")
    with torch.no_grad():
        maps = network[:-2](images).flatten(1)
        linear = network.get_submodule("linear")
        counts, of_sum = [], []
        for values, winner in zip(maps, network(images).argmax(1), strict=True):
            terms = sorted((values * linear.weight[winner]).tolist(), reverse=True)
            sums = np.cumsum(terms)
            for whole, kept in ((sum(t for t in terms if t > 0), counts), (sums[-1], of_sum)):
                enough = np.flatnonzero(sums >= 0.9 * whole - 1e-7)
                kept.append((enough[0] + 1 if whole > 0 else len(terms)) / len(terms))
    assert float(found["few"]) == pytest.approx(float(np.mean(counts)), abs=0.01)
    assert float(found["few_of_sum"]) == pytest.approx(float(np.mean(of_sum)), abs=0.01)
    assert float(found["few_of_sum"]) < float(found["few"])
    assert global_pooling.measure(build("vgg", 6, 16, {"width": 2, "depth": 3}, seed=0), data, data) == {}


def test_small_changes_and_the_filter_that_is_missed_most(data: Dataset) -> None:
    network = build("vgg", 6, 16, {"width": 2, "depth": 3}, seed=0).eval()
    found = overfitting.measure(network, data, data)

    def right(part: str) -> torch.Tensor:
        return network(images_of(data, part)).argmax(1) == torch.from_numpy(data.labels[data.parts[part]])

    index, last = data.parts["test"], [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    plain, of_val, of_test = right("test"), [], []
    with torch.no_grad():
        for k in range(last.num_features):
            kept = last.weight[k].item(), last.bias[k].item()
            last.weight[k] = last.bias[k] = 0
            of_val.append(int(right("val").sum()))
            of_test.append(right("test"))
            last.weight[k], last.bias[k] = kept
    assert torch.equal(found["silenced"], of_test[int(np.argmin(of_val))])
    mean = torch.stack([found[kind].float() for kind in overfitting.CHANGES]).mean(0)
    assert torch.allclose(found["drop"], plain.float() - mean)
    assert all(found[kind].shape == (len(index),) for kind in overfitting.CHANGES)


def test_probes_tell_the_second_half_at_every_layer(data: Dataset) -> None:
    network = build("vgg", 3, 16, {"width": 8, "depth": 6}, seed=0)
    found = general_to_specific.measure(network, general_to_specific.half(data, 0, second=False), data)
    second = int((data.labels[data.parts["test"]] >= 3).sum())
    assert {name: len(t) for name, t in found.items()} == {f"layer {n}": second for n in range(1, 7)}
    assert max(float(t.double().mean()) for t in found.values()) > 0.5  # guessing: a third


def test_the_highest_rate_that_is_borne() -> None:
    def trained(rate: float, accuracy: float, diverged: str | None = None) -> Trained:
        return Trained("", 1, rate, 1, 0.0, torch.zeros(1), train_accuracy=accuracy, diverged=diverged)

    low, middle, high = batch_norm_speed.LADDER
    rows = [trained(low, 0.9), trained(middle, 0.8), trained(high, float("nan"), "ran away")]
    table = {f"{batch_norm_speed.WITH}, rate {t.rate}": (t,) for t in rows}
    plan = Plan(StudyData(), (), 1, (0.1,))
    assert batch_norm_speed._borne(Results(plan, table, {}, 2), batch_norm_speed.WITH) == {1: middle}
    none = {name: (trained(0.1, 0.5),) for name in table}
    assert batch_norm_speed._borne(Results(plan, none, {}, 2), batch_norm_speed.WITH) == {1: batch_norm_speed.RATES[0]}
