"""A network is copied, saved, resized or not made yet while it is watched: the watch does not stand in the way."""

from __future__ import annotations

import io
import pickle
import weakref
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import UsageError
from convscope.models.taps import count_hooks
from convscope.training.watching import watching


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def batch(step: int, count: int = 12) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return torch.randn(count, 3, 8, 8, generator=draw), torch.randint(5, (count,), generator=draw)


def step(network: nn.Module, number: int) -> Tensor:
    images, labels = batch(number)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    optimizer.zero_grad()
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.filterwarnings("error")
def test_a_copy_made_within_the_block_is_a_network_like_any_other():
    """Of the best so far, or of a moving mean; saved whole, it needs no convscope where it is loaded."""
    network = net()
    with watching(network, 2) as watch:
        watch.step(step(network, 0))  # the first step is looked at, the second is not, and so on
        copies = [deepcopy(network)]
        watch.step(step(network, 1))
        file = io.BytesIO()
        torch.save(network, file)
        assert b"convscope" not in pickle.dumps(network)
        copies += [torch.load(io.BytesIO(file.getvalue()), weights_only=False), deepcopy(copies[0])]
        network(batch(2)[0])
        for copy in copies:
            copy(batch(3)[0]).sum().backward()  # the pass that a copy makes is none of the network's
        watch.step(1.0)
    assert np.array_equal(watch.watched().signs["arrived"], [1, 1, 0])
    assert count_hooks(network) == 0
    for copy in copies:
        held = [hook for module in copy.modules() for hook in module._forward_hooks.values()]
        assert {type(hook).__module__ for hook in held} <= {"builtins"}
        pickle.dumps(copy)
        copy(batch(4)[0])


def test_no_graph_is_kept_after_its_step():
    class Token:
        pass

    network, tokens = net(), []
    with watching(network, 1) as watch:
        for number in range(4):
            images, labels = batch(number)
            outputs = network(images)
            token = Token()
            outputs.grad_fn.metadata["token"] = token  # type: ignore[union-attr]
            tokens.append(weakref.ref(token))
            loss = F.cross_entropy(outputs, labels)
            loss.backward()
            watch.step(loss)
            del outputs, loss, token
            assert [kept() for kept in tokens] == [None] * (number + 1)


def test_layers_that_are_made_by_their_first_images():
    torch.manual_seed(0)
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    with watching(network, 2) as watch:
        for number in range(4):
            images, labels = batch(number)
            loss = F.cross_entropy(network(images), labels)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    assert watch.watched().signs["moved"].tolist() == [1, 1, 1, 1]
    assert watch.watched().signs["arrived"].tolist() == [1, 1, 1, 1]
    assert np.isfinite(watch.watched().values["update"][1]).any()


def test_a_head_that_gets_another_size_in_place_counts_as_moved():
    network = net()
    head = network[4]
    assert isinstance(head, nn.Linear)
    with watching(network, 3) as watch:
        for number in range(8):
            if number == 4:
                head.weight.data, head.bias.data = torch.randn(7, 4 * 36) * 0.1, torch.zeros(7)
                head.weight.grad = head.bias.grad = None
            watch.step(step(network, number))
    assert watch.watched().signs["moved"].tolist() == [1] * 8


def test_a_batch_of_no_images():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    with watching(network, 1) as watch:
        for count in (0, 12):
            images, labels = batch(0, count)
            F.cross_entropy(network(images), labels, reduction="sum").backward()
            watch.step(0.0)
    assert watch.watched().signs["batch"].tolist() == [0, 12]


def test_a_loss_is_one_number():
    with watching(net(), 1) as watch:
        with pytest.raises(UsageError, match="a step's loss is one number, not 12: its mean, perhaps"):
            watch.step(torch.zeros(12))  # type: ignore[arg-type]
        watch.step(torch.tensor([0.5], requires_grad=True), torch.tensor(0.1))  # type: ignore[arg-type]
        watch.tell(torch.tensor(0.25))  # type: ignore[arg-type]
    seen = watch.watched()
    assert seen.losses.tolist() == [0.25]
    assert seen.rates.tolist() == pytest.approx([0.1])


def test_records_with_fewer_signs_are_read(tmp_path):
    network = net()
    with watching(network, 2) as watch:
        watch.step(step(network, 0))
    seen = watch.watched()
    del seen.signs["nats"]
    seen.save(tmp_path / "older")
    again = type(seen).load(tmp_path / "older")
    assert "nats" not in again.signs
    assert np.isnan(again.all_signs()["nats"]).all()


def test_outputs_that_the_loop_changed_in_place_are_not_compared():
    """The gradient is that of what the network output, which is there no more."""
    network = net()
    with watching(network, 1) as watch:
        images, labels = batch(0)
        logits = network(images)
        loss = F.cross_entropy(logits.mul_(3), labels)
        loss.backward()
        watch.step(loss)
    assert watch.watched().signs["arrived"][0] == 1
    assert np.isnan(watch.watched().signs["right"][0])
