"""Sound loops that are written in a way of their own are called healthy, and mistakes in such loops are still named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convscope
from convscope.diagnosis.evidence import Observations, collect, frozen_parameters
from convscope.diagnosis.verdict import HEALTHY, Verdict, judge
from convscope.errors import UsageError
from convscope.models.taps import logits_in
from convscope.training.watching import Watch, watching
from loop_parts import Data, batches, data_of, observed


def net(classes: int = 5) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place in range(3):
        layers += [nn.Conv2d(8 if place else 3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes))


Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Step:
    """What a loop has in its hands: the network, its optimizer, the watch, a loss, and how many steps are done."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    watch: Watch
    loss: Loss
    done: int = 0
    kept: dict[str, Any] = field(default_factory=dict)

    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        loss = self.loss(self.network(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def usual(s: Step, images: Tensor, labels: Tensor) -> None:
    s.optimizer.zero_grad()
    s.watch.step(s.update(images, labels).item())


@dataclass(frozen=True)
class Sound:
    """A training that is sound as it stands."""

    loop: Callable[[Step, Tensor, Tensor], None] = usual
    network: Callable[[], nn.Module] = net
    loss: Loss = F.cross_entropy
    rate: float = 0.05
    steps: int = 100
    data: Callable[[], Data] = lambda: data_of("discs")


def train(t: Sound, watched: bool = True) -> Observations:
    torch.manual_seed(0)
    data = t.data()
    network = t.network()
    start = deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=t.rate, momentum=0.9)
    with watching(network) as watch:
        s = Step(network, optimizer, watch, t.loss)
        for s.done, (images, labels) in zip(range(t.steps), batches(data, 64), strict=False):
            t.loop(s, images, labels)
    seen = watch.watched()
    losses = seen.losses[~np.isnan(seen.losses)].tolist()
    found = observed(data, network, start, seen if watched else None, (losses, 64, True))
    return replace(found, designed=frozen_parameters(start))


def judged(t: Sound, watched: bool = True) -> Verdict:
    return judge(collect(train(t, watched)))


# ------------------------------------------------------------------------------------------------------------ loops


def accuracy(mode: bool) -> Callable[[Step, Tensor, Tensor], None]:
    """A second pass with its graph, for the accuracy, between update and watch."""

    def loop(s: Step, images: Tensor, labels: Tensor) -> None:
        s.optimizer.zero_grad()
        loss = s.update(images, labels)
        s.network.train(mode)
        assert float((s.network(images).argmax(1) == labels).float().mean()) >= 0
        s.network.train()
        s.watch.step(loss.item())

    return loop


def attacked(s: Step, images: Tensor, labels: Tensor, backward: bool = False) -> Tensor:
    """Images a little worse for the network."""
    worse = images.clone().requires_grad_()
    s.network.eval()
    loss = F.cross_entropy(s.network(worse), labels)
    if backward:
        loss.backward()
    gradient = worse.grad if backward else torch.autograd.grad(loss, worse)[0]
    s.network.train()
    assert gradient is not None
    return (worse + 0.01 * gradient.sign()).detach()


def adversarial(backward: bool) -> Callable[[Step, Tensor, Tensor], None]:
    def loop(s: Step, images: Tensor, labels: Tensor) -> None:
        worse = attacked(s, images, labels, backward)
        s.optimizer.zero_grad()
        s.watch.step(s.update(worse, labels).item())

    return loop


def penalty(s: Step) -> None:
    (1e-4 * torch.stack([p.square().sum() for p in s.network.parameters()]).sum()).backward()


def penalised(s: Step, images: Tensor, labels: Tensor) -> None:
    s.optimizer.zero_grad()
    penalty(s)
    s.watch.step(s.update(images, labels).item())


def head_every_second_step(s: Step, images: Tensor, labels: Tensor) -> None:
    """Two optimizers: the head's gradients are added up over two steps on purpose."""
    network = s.network
    assert isinstance(network, nn.Sequential)
    if "head" not in s.kept:
        s.kept = {
            "body": torch.optim.SGD(network[:-1].parameters(), lr=0.05, momentum=0.9),
            "head": torch.optim.SGD(network[-1].parameters(), lr=0.02),
        }
    s.kept["body"].zero_grad()
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    s.kept["body"].step()
    if s.done % 2 == 0:
        s.kept["head"].step()
        s.kept["head"].zero_grad()
    s.watch.step(loss.item())


def tensor_told(s: Step, images: Tensor, labels: Tensor) -> None:
    s.optimizer.zero_grad()
    loss = s.loss(s.network(images), labels)
    loss.backward()
    s.optimizer.step()
    s.watch.step(loss)


# ------------------------------------------------------------------------------------------------ networks and data


def ending(layer: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(net(), layer)


class Beside(nn.Module):
    """A network with weights that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.mask_token, self.pooler = nn.Parameter(torch.zeros(1, 1, 8)), nn.Linear(8, 8)
        self.body = net()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


class Features(nn.Module):
    """A network that outputs its features as well, and before its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = net(9), nn.Linear(9, 5)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.body(images)
        return {"features": features, "logits": self.head(features)}


def one_ground() -> Data:
    """A mark on a ground that is the same in all images: they differ in a hundredth of their places."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (600,), generator=draw)
    images = torch.randn(1, 3, 32, 32, generator=draw).repeat(600, 1, 1, 1)
    images[:, :, 10:12, 10:12] += 2 * (labels[:, None, None, None] * 2 - 1)
    return Data(images[:500], labels[:500], (images[500:], labels[500:]), 2, False)


def one_hot(loss: Loss) -> Loss:
    return lambda outputs, labels: loss(outputs, F.one_hot(labels, outputs.shape[1]).float())


def nll_of_log(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.nll_loss(torch.log(outputs + 1e-8), labels)


def nll_of_shares(outputs: Tensor, labels: Tensor) -> Tensor:
    """As Keras has it: probabilities are divided by their sum first."""
    return F.nll_loss((outputs / outputs.sum(1, keepdim=True)).clamp(1e-7, 1 - 1e-7).log(), labels)


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    entropy = F.cross_entropy(outputs, labels, reduction="none")
    return ((1 - torch.exp(-entropy)) ** 2 * entropy).mean()


def mixed(outputs: Tensor, labels: Tensor) -> Tensor:
    return 0.7 * F.cross_entropy(outputs, labels) + 0.3 * F.cross_entropy(outputs, labels.flip(0))


SOUND: dict[str, Sound] = {
    "accuracy by a second pass": Sound(accuracy(True)),
    "accuracy by a second pass in evaluation mode": Sound(accuracy(False)),
    "adversarial": Sound(adversarial(False)),
    "adversarial by a backward pass": Sound(adversarial(True)),
    "a penalty with a backward pass of its own": Sound(penalised),
    "a head that is updated every second step": Sound(head_every_second_step),
    "losses told as tensors": Sound(tensor_told),
    "softmax and the logarithm of it": Sound(network=ending(nn.Softmax(1)), loss=nll_of_log),
    "softmax and the logarithm of its shares": Sound(network=ending(nn.Softmax(1)), loss=nll_of_shares),
    "log-softmax": Sound(network=ending(nn.LogSoftmax(1)), loss=F.nll_loss),
    "softmax and squares": Sound(network=ending(nn.Softmax(1)), loss=one_hot(F.mse_loss), rate=0.3),
    "sigmoid": Sound(network=ending(nn.Sigmoid()), loss=one_hot(F.binary_cross_entropy)),
    "squares": Sound(loss=one_hot(F.mse_loss)),
    "binary cross-entropy": Sound(loss=one_hot(F.binary_cross_entropy_with_logits)),
    "a sum": Sound(loss=lambda o, y: F.cross_entropy(o, y, reduction="sum"), rate=0.05 / 64),
    "focal loss": Sound(loss=focal),
    "weights that are not used": Sound(network=Beside),
    "features before logits": Sound(network=Features, loss=lambda o, y: F.cross_entropy(o["logits"], y)),  # type: ignore[index]
    "a ground that is the same": Sound(data=one_ground, network=lambda: net(2)),
}


@pytest.mark.parametrize("way", SOUND)
def test_a_sound_loop_is_called_healthy(way: str):
    found = judged(SOUND[way])
    assert found.fault == HEALTHY, found.findings[0].sentence
    assert found.evidence.top1 > 0.8


@pytest.mark.parametrize("way", ["softmax and the logarithm of it", "softmax and squares", "sigmoid", "squares"])
def test_and_so_it_is_where_nobody_watched(way: str):
    assert judged(SOUND[way], watched=False).fault == HEALTHY


# ------------------------------------------------------------------------------------------------------- mistakes


def never_zeroed(first: Callable[[Step, Tensor, Tensor], object]) -> Callable[[Step, Tensor, Tensor], None]:
    def loop(s: Step, images: Tensor, labels: Tensor) -> None:
        first(s, images, labels)
        s.watch.step(s.update(images, labels).item())

    return loop


MISTAKES: dict[str, tuple[str, Sound]] = {
    "never zeroed, with a penalty": ("not-zeroed", Sound(never_zeroed(lambda s, x, y: penalty(s)), rate=0.005)),
    "never zeroed, with an attack": ("not-zeroed", Sound(never_zeroed(attacked), rate=0.005)),
    "softmax, smoothed": (
        "no-logits",
        Sound(network=ending(nn.Softmax(1)), loss=lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1)),
    ),
    "softmax, mixed": ("no-logits", Sound(network=ending(nn.Softmax(1)), loss=mixed)),
    "sigmoid": ("no-logits", Sound(network=ending(nn.Sigmoid()))),
    "cut, and another pass for the accuracy": (
        "loss-cut",
        Sound(accuracy(True), loss=lambda o, y: F.cross_entropy(o.detach().requires_grad_(), y), steps=40),
    ),
}


@pytest.mark.parametrize("way", MISTAKES)
def test_a_mistake_in_such_a_loop_is_named(way: str):
    fault, training = MISTAKES[way]
    assert judged(training).fault == fault


def test_outputs_that_nobody_saw_the_loss_of_are_told_with_an_if():
    network = nn.Sequential(net(), nn.Softmax(1))
    data = data_of("discs")
    seen = Observations(network, data.images[:128], data.labels[:128], data.classes, trained=None)
    finding = judge(collect(seen)).findings[0]
    assert finding.fault == "no-logits"
    assert "if the loss is a cross-entropy of logits" in finding.sentence
    ours = judge(collect(replace(seen, cross_entropy=True))).findings[0]
    assert "and the loss wants logits" in ours.sentence


# --------------------------------------------------------------------------------------------------- what is told


def digits(steps: int, network: nn.Module | None = None) -> Iterator[tuple[nn.Module, nn.Module, Watch]]:
    """A watched training on digits: the network, as it was, and the watch within its block."""
    torch.manual_seed(0)
    found = convscope.load_dataset("digits", image_size=16)
    index = found.subset("train", 64 * max(steps, 1))
    images = torch.from_numpy(np.asarray(found.images[index])).permute(0, 3, 1, 2).float() / 128 - 1
    labels = torch.from_numpy(found.labels[index])
    network = net(10) if network is None else network
    start = deepcopy(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    with watching(network) as watch:
        for number in range(steps):
            chosen = torch.arange(64 * number, 64 * number + 64) % len(labels)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
            watch.step(loss)
        yield network, start, watch


def told(steps: int, runs: Path, network: nn.Module | None = None, known: bool = True) -> Any:
    for trained, start, watch in digits(steps, network):
        return convscope.diagnose(trained, "digits", start=start if known else None, watched=watch, runs=runs, images=1)


def test_few_steps_are_too_few_to_say(tmp_path: Path):
    found = told(5, tmp_path)
    assert found.verdict.fault == HEALTHY
    assert found.sentence() == "healthy so far: 5 steps are too few to say whether it learns."


@pytest.mark.parametrize("known", [True, False])
def test_a_watch_that_was_told_of_no_step_says_so(known: bool, tmp_path: Path):
    found = told(0, tmp_path, known=known)
    assert found.verdict.fault == HEALTHY
    assert "the watch was told of no step: call watch.step(loss.item()) after each update." in found.summary["notes"]
    told_of_some = told(5, tmp_path, known=known)
    assert not [note for note in told_of_some.summary["notes"] if "no step" in note]


def test_what_is_frozen_in_a_compiled_start_is_meant_so(tmp_path: Path):
    network = net(10)
    network[:3].requires_grad_(False)
    found = told(40, tmp_path, torch.compile(network, backend="eager"))  # type: ignore[arg-type]
    assert "frozen" not in [finding.fault for finding in found.verdict.findings]
    assert any("frozen from the start" in note for note in found.summary["notes"])


class Aside(nn.Module):
    """A layer is there, and ``called`` or not."""

    def __init__(self, called: bool) -> None:
        super().__init__()
        self.layer, self.head, self.called = nn.Conv2d(3, 8, 3), nn.Linear(8 if called else 3, 5), called

    def forward(self, images: Tensor) -> Tensor:
        return self.head((F.relu(self.layer(images)) if self.called else images).mean((2, 3)))


def test_a_layer_that_is_not_used_is_called_or_removed():
    """Means over an image show hardly anything of a disc: what learns little is told of the layer it does not use."""

    def found(network: nn.Module) -> list[str]:
        seen = train(Sound(network=lambda: network, steps=40, rate=0.02))
        return [f.fault for f in judge(collect(seen)).findings]

    assert "not-used" in found(Aside(called=False))
    assert "not-used" not in found(Aside(called=True))
    removed = Aside(called=False)
    del removed.layer
    assert "not-used" not in found(removed)


def test_what_is_not_used_is_a_note_where_it_learns(tmp_path: Path):
    class Digits(Beside):
        def __init__(self) -> None:
            super().__init__()
            self.body = net(10)

    found = told(60, tmp_path, Digits())
    assert found.verdict.evidence.unused == 2
    assert found.verdict.evidence.progress > 0.35
    assert "not-used" not in [finding.fault for finding in found.verdict.findings]
    assert "mask_token, with 1 more, is not used: no answer depends on it." in found.summary["notes"]


def test_losses_of_another_kind_tell_of_no_progress():
    """Squares begin far below the logarithm of the classes: that is no progress of the network's."""
    found = collect(train(Sound(loss=one_hot(F.mse_loss), rate=1e-4, steps=40)))
    assert found.told_off > 0.33
    assert found.another_loss == 1
    assert found.progress < 0.2
    plain = collect(train(Sound(steps=40)))
    assert plain.told_off < 0.1
    assert np.isnan(plain.another_loss)


def test_a_watch_is_as_good_as_its_record_and_nothing_else_is(tmp_path: Path):
    with pytest.raises(UsageError, match=r"watched is what .* saw, not an object of type dict"):
        convscope.diagnose(net(10), "digits", watched={}, runs=tmp_path)


def test_the_logits_are_the_same_tensor_for_all_who_ask():
    first, second = torch.zeros(2, 3), torch.ones(2, 5)

    class Named:
        logits = second

    for output in (second, (second, first), {"features": first, "logits": second}, Named()):
        assert logits_in(output) is second
    assert logits_in({"features": first}) is first
    assert logits_in(None) is None
