"""Watching a training: every number against an obvious one, the weights as if nobody looked, no hook left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convscope
from convscope.errors import UsageError
from convscope.models.registry import build
from convscope.models.taps import count_hooks
from convscope.recipes import Recipe
from convscope.tensor_files import read_tensors
from convscope.training import watching as watch
from convscope.training.session import WATCHED
from convscope.training.watched import BINS, LOWEST, Watched, up_to
from convscope.training.watching import dead_share
from convscope.training.watching import watching as watch_training


def small_net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5), nn.Sigmoid(),
        nn.Linear(5, 3),
    )  # fmt: skip


def batch(seed: int = 0, side: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 3, side, side, generator=generator), torch.randint(0, 3, (6,), generator=generator)


def steps(network: nn.Module, count: int, after: Callable[[Tensor], None], scale: float = 1.0) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for number in range(count):
        images, labels = batch(number)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        (loss * scale).backward()
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.grad /= scale
        optimizer.step()
        after(loss)


def watched(network: nn.Module, count: int = 1, every: int = 1, scale: float = 1.0) -> Watched:
    with watch_training(network, every, scale=lambda: scale) as watch:
        steps(network, count, lambda loss: watch.step(loss.item(), 0.1), scale)
    return watch.watched()


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_every_number_is_the_obvious_one(scale: float):
    seen = watched(small_net(), scale=scale)
    network = small_net()
    images, labels = batch()
    tensors = [images]
    for layer in network:
        tensors.append(layer(tensors[-1]))
        tensors[-1].retain_grad()
    F.cross_entropy(tensors[-1], labels).backward()
    value = {(layer, q): seen.values[q][0, i] for i, layer in enumerate(seen.layers) for q in seen.values}
    for name in "01246":
        if name == "2":
            assert value[name, "zeros"] == pytest.approx(float((tensors[3] == 0).float().mean()))
            assert value[name, "dead"] == float((tensors[3].amax((0, 2, 3)) == 0).float().mean())
        out = tensors[int(name) + 1].detach()
        assert value[name, "mean"] == pytest.approx(float(out.mean()), abs=1e-6)
        assert value[name, "scale"] == pytest.approx(float(out.std(correction=0)), rel=1e-5)
    for name in "046":
        gradient = tensors[int(name) + 1].grad
        assert gradient is not None
        layer = network[int(name)]
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        assert layer.weight.grad is not None
        assert value[name, "gradient"] == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-5)
        assert value[name, "weight_gradient"] == pytest.approx(float(layer.weight.grad.norm()), rel=1e-5)
        assert value[name, "weight"] == pytest.approx(float(layer.weight.detach().norm()), rel=1e-6)
        moved = 0.1 * float(layer.weight.grad.norm() / layer.weight.detach().norm())
        assert value[name, "update"] == pytest.approx(moved, rel=1e-4)
    assert value["1", "before_scale"] == pytest.approx(float(tensors[1].detach().std(correction=0)), rel=1e-5)
    slopes = 4 * tensors[6].detach() * (1 - tensors[6].detach())
    assert value["5", "saturated"] == pytest.approx(float((slopes < 0.05).float().mean()))
    assert value["1", "training"] == 1
    assert np.isnan(value["2", "gradient"])
    assert np.isnan(value["0", "dead"])


def test_bins_count_the_powers_of_two():
    network = nn.Sequential(nn.Linear(8, 8, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(8))
    with watch_training(network, 1) as watch:
        images = torch.tensor([[0.0, 1.0, 1.5, 2.0, -0.75, 1e-30, 1e30, 0.0]])
        network(images).sum().backward()
        watch.step()
    counts = watch.watched().bins[0, 0, 0]
    expected = np.zeros(BINS, int)
    expected[0] = 2  # zeros
    for exponent in (1, 1, 2, 0):  # x = m 2^e with m in [1/2, 1)
        expected[exponent - LOWEST + 1] += 1
    expected[1] += 1  # far below the first bin
    expected[-1] += 1  # and above the last
    np.testing.assert_array_equal(counts, expected)


def test_a_sample_is_near_the_whole():
    values = torch.randn(16, 8, 32, 32, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)[:, None, None]
    for tensor in (values, values.contiguous(memory_format=torch.channels_last)):
        sample = watch._sample(tensor)
        assert len(sample) <= watch.SAMPLE
        assert float(sample.std()) == pytest.approx(float(values.std()), rel=0.1)  # all channels are among it


@pytest.mark.parametrize("name", ["alexnet", "resnet20", "plain20"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_watching_changes_no_bit(name: str, precision: torch.dtype):
    def trained(every: int) -> dict[str, Tensor]:
        network = build(name, 3, 32, {"width": 4}, seed=0)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        with watch_training(network, every or 10**6) as watch:
            for number in range(4):
                images, labels = batch(number, 32)
                torch.manual_seed(number)
                with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                    loss = F.cross_entropy(network(images).float(), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.step(loss.item())
        assert count_hooks(network) == 0
        return network.state_dict()

    plain, seen = trained(0), trained(2)
    assert all(torch.equal(plain[key], seen[key]) for key in plain)


def test_only_the_chosen_steps_are_looked_at():
    network = small_net()
    hooks = []
    with watch_training(network, 3) as watch:
        steps(network, 7, lambda _: (watch.step(), hooks.append(count_hooks(network) > 1)))
    assert watch.watched().steps.tolist() == [0, 3, 6]
    assert hooks == [False, False, True, False, False, True, False]  # but for one, at the network's ends
    assert count_hooks(network) == 0


def test_a_module_used_twice_is_two_layers():
    layer = nn.Linear(3, 3)
    network = nn.Sequential(layer, nn.Tanh(), layer)
    with watch_training(network, 1) as watch:
        network(torch.randn(2, 3)).sum().backward()
        watch.step()
    seen = watch.watched()
    assert seen.layers == ("0", "1", "0 (call 2)")
    assert not np.isnan(seen.of("gradient")[1]).any()


def test_hooks_go_after_an_error():
    network = small_net()
    with pytest.raises(RuntimeError), watch_training(network, 1):
        network(torch.randn(2, 1, 4, 4))
    assert count_hooks(network) == 0


def test_evaluation_between_steps_is_not_looked_at():
    network = small_net()
    with watch_training(network, 1) as watch:
        images, labels = batch()
        F.cross_entropy(network(images), labels).backward()
        with torch.no_grad():
            network.eval()(100 * images)
        watch.step()
    assert watch.watched().of("mean")[1][0, 0] == watched(small_net()).of("mean")[1][0, 0]


def test_dead_channels():
    output = torch.zeros(2, 4, 3, 3)
    output[1, 2, 0, 0] = 1
    assert dead_share(output) == 0.75


def test_saved_and_loaded_and_cut(tmp_path: Path):
    seen = watched(small_net(), 6, 2)
    seen.save(tmp_path / "w.safetensors")
    again = Watched.load(tmp_path / "w.safetensors")
    assert (again.layers, again.every) == (seen.layers, 2)
    np.testing.assert_array_equal(again.bins, seen.bins)
    np.testing.assert_array_equal(up_to(again, 3).steps, [0, 2])
    assert len(up_to(again, 3).losses) == 3
    assert seen.losses[0] > 0


def test_every_below_one_is_refused():
    with pytest.raises(UsageError, match="not every 0"), watch_training(small_net(), 0):
        pass


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"every": "x"}, "every takes a whole number, not 'x'"),
        ({"every": 1.5}, "every takes a whole number, not 1.5"),
        ({"scale": 2}, "scale takes a function, not 2"),
        ({"before": 3}, "before takes Watched, not 3"),
        ({"evry": 3}, "no option named 'evry'. Did you mean 'every'"),
        ({"network": None}, "network takes Module, not None"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], told: str):
    with pytest.raises(UsageError, match=told), watch_training(**{"network": small_net()} | given):
        pass


def test_a_loss_is_a_number():
    with watch_training(small_net()) as watch, pytest.raises(UsageError, match="a step's loss is a number, not 'a'"):
        watch.step("a")  # pyrefly: ignore - as people do


@pytest.mark.parametrize(
    "callback", [convscope.lightning_callback, convscope.trainer_callback, convscope.keras_callback]
)
@pytest.mark.parametrize("every", [0, "x", 2.5])
def test_callbacks_take_a_number_of_steps(callback: Callable[..., Any], every: Any):
    library = {"lightning_callback": "lightning", "trainer_callback": "transformers", "keras_callback": "keras"}
    pytest.importorskip(library[callback.__name__])
    with pytest.raises(UsageError, match="every"):
        callback(every)


OPTIONS = {"model": "alexnet", "width": 4, "epochs": 2, "batch_size": 16, "limit": 120, "image_size": 8}


def test_a_run_that_is_watched_and_resumed_saw_what_an_undisturbed_one_saw(tmp_path: Path):
    whole = convscope.train("shapes", name="whole", runs=tmp_path, watch=True, **OPTIONS).run.folder
    plain = convscope.train("shapes", name="plain", runs=tmp_path, **OPTIONS).run.folder
    assert (whole / "log.jsonl").read_bytes() == (plain / "log.jsonl").read_bytes()
    assert not (plain / WATCHED).exists()
    session = convscope.prepare_training("shapes", name="cut", runs=tmp_path, watch=True, **OPTIONS)
    for event in session.events():
        if isinstance(event, dict):
            break
    convscope.train("shapes", name="cut", resume=True, runs=tmp_path)
    ours, theirs = (read_tensors(tmp_path / name / WATCHED)[0] for name in ("cut", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key].nan_to_num(-1), theirs[key].nan_to_num(-1)) for key in ours)
    assert ours["steps"].tolist() == list(range(0, len(ours["losses"]), 10))


def test_watching_a_compiled_network_is_refused(tmp_path: Path):
    assert Recipe().loop.compile is False
    with pytest.raises(UsageError, match="`compile` or `watch`"):
        convscope.train("shapes", **OPTIONS | {"compile": True}, runs=tmp_path, watch=True)
