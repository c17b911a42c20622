"""What the verdict says to do next, done: a fault is planted, found, mended as is said, gone, and the loss lower."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convscope
import planted
from convscope.diagnosis.evidence import Observations, collect
from convscope.diagnosis.rules.rule import Finding
from convscope.diagnosis.verdict import judge
from convscope.models.registry import build
from convscope.training.runs import find_run, runs_folder
from following import TINY, ask, option, photos, works
from planted import Training, stack

FAULTS = planted.family("test")
SEED = 3000
SHORT = {"steps": 60, "batch_size": 32, "seed": SEED}
BASE = replace(FAULTS["exploding"][0], spoil=lambda network: None, **SHORT)  # a sound training
DIVERGED = 1e9


def short(fault: str, number: int = 0) -> Training:
    return replace(FAULTS[fault][number], **SHORT)


def found(seen: Observations, fault: str) -> Finding | None:
    """The finding of that fault, if it is there."""
    return next((f for f in judge(collect(seen)).findings if f.fault == fault), None)


def last_loss(seen: Observations) -> float:
    return DIVERGED if seen.diverged else float(np.mean(list(seen.losses)[-10:]))


class Skip(nn.Module):
    """A convolution with its activation, around which the signal goes too."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(width, width, 3, padding=1), activation()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.conv(x))


def residual(depth: int, width: int, classes: int, activation: type[nn.Module]) -> Callable[[int], nn.Module]:
    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        blocks = [Skip(width, activation) for _ in range(depth - 1)]
        ends = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes)
        return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), *blocks, *ends)

    return made


def frozen_body(network: nn.Module) -> None:
    """Leave all but the last layer out of the training."""
    for parameter in [*network.parameters()][:-2]:
        parameter.requires_grad_(False)


def ending(last: type[nn.Module], **options: int) -> Callable[[int], nn.Module]:
    return lambda seed: nn.Sequential(BASE.network(seed), last(**options))


SIGMOID = short("vanishing")
TANH = replace(BASE, network=stack(4, 16, 6, nn.Tanh), rate=0.02, spoil=planted.scaled(30.0))
DEEP = replace(BASE, network=planted.net("plain56", 6, width=4), rate=0.02, steps=120, batch_size=16)
TOO_HIGH, TOO_LOW = short("rate-too-high"), short("rate-too-low")
LOUD = replace(BASE, rate=0.9, clip=10.0)

# The fault, the words of its next step that are followed, a training that has it, and the same as these words say.
FOLLOWED: dict[str, tuple[str, str, Training, Training]] = {
    "exploding, He": ("exploding", "initialise by He's rule", short("exploding"), BASE),
    "exploding, norms": (
        "exploding",
        "or put a batch norm behind each convolution",
        short("exploding"),
        replace(short("exploding"), network=stack(6, 16, 6, nn.ReLU, norm=True)),
    ),
    "vanishing, norms": (
        "vanishing",
        "put a batch norm behind each convolution",
        SIGMOID,
        replace(SIGMOID, network=stack(8, 16, 6, nn.Sigmoid, norm=True)),
    ),
    "vanishing, ReLUs": (
        "vanishing",
        "or take ReLUs with He's initialisation",
        SIGMOID,
        replace(SIGMOID, network=stack(8, 16, 6, nn.ReLU)),
    ),
    "vanishing, residual": (
        "vanishing",
        "or residual blocks",
        SIGMOID,
        replace(SIGMOID, network=residual(8, 16, 6, nn.Sigmoid)),
    ),
    "saturated, smaller": (
        "saturated",
        "start with smaller weights",
        TANH,
        replace(TANH, spoil=lambda network: None),
    ),
    "saturated, norms": (
        "saturated",
        "put a batch norm before it",
        TANH,
        replace(TANH, network=stack(4, 16, 6, nn.Tanh, norm=True)),
    ),
    "saturated, ReLUs": (
        "saturated",
        "or take ReLUs",
        TANH,
        replace(TANH, network=stack(4, 16, 6, nn.ReLU), spoil=lambda network: None),
    ),
    "no logits": (
        "no-logits",
        "take the last softmax, sigmoid, tanh or ReLU away",
        replace(BASE, network=ending(nn.Softmax, dim=1)),
        BASE,
    ),
    "norms in evaluation mode": (
        "norm-mode",
        "call network.train() before each epoch",
        short("norm-mode"),
        replace(short("norm-mode"), training_mode=True),
    ),
    "frozen": (
        "frozen",
        "give it to the optimizer with requires_grad=True",
        replace(short("frozen"), spoil=lambda network: frozen_body(network)),
        replace(short("frozen"), spoil=lambda network: None),
    ),
    "dead units": (
        "dead-units",
        "take a third of the learning rate, with --warmup 0.2",
        short("dead-units"),
        replace(short("dead-units"), rate=FAULTS["dead-units"][0].rate / 3, warmup=0.2),
    ),
    "rate too low": (
        "rate-too-low",
        "take ten times the learning rate",
        TOO_LOW,
        replace(TOO_LOW, rate=10 * TOO_LOW.rate),
    ),
    "plain and deep, residual": (
        "exploding",
        "take residual blocks",
        DEEP,
        replace(DEEP, network=planted.net("resnet56", 6, width=4)),
    ),
    "plain and deep, fewer": (
        "exploding",
        "or fewer layers",
        DEEP,
        replace(DEEP, network=planted.net("plain20", 6, width=4)),
    ),
}
SEEN: dict[int, Observations] = {}


def trained(training: Training) -> Observations:
    """Each training is done once, whatever hangs on it."""
    if id(training) not in SEEN:
        SEEN[id(training)] = planted.train(training)
    return SEEN[id(training)]


@pytest.mark.parametrize("case", FOLLOWED)
def test_the_next_step_removes_the_fault_and_lowers_the_loss(case: str) -> None:
    fault, words, spoiled, mended = FOLLOWED[case]
    before, after = trained(spoiled), trained(mended)
    finding = found(before, fault)
    assert finding is not None, judge(collect(before)).findings
    assert words in finding.then
    assert found(after, fault) is None
    assert last_loss(after) < last_loss(before) - 0.01


@pytest.mark.parametrize("training", [TOO_HIGH, LOUD], ids=["ran away", "thrown about"])
def test_a_third_of_the_rate_again_until_the_loss_falls(training: Training) -> None:
    seen = first = trained(training)
    times = 0
    while (finding := found(seen, "rate-too-high")) is not None:
        assert "take a third of the learning rate, again until the loss falls" in finding.then
        training, times = replace(training, rate=training.rate / 3), times + 1
        seen = planted.train(training)
        assert times < 8
    assert times
    assert last_loss(seen) < last_loss(first)


@pytest.mark.parametrize("rate", ["1e8", "1e-7"])
def test_or_the_rate_that_is_found(rate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.training.estimates.RANGE_UPDATES", 30)
    common = ["train", photos(tmp_path / "photos", each=30), "--model", "alexnet", *TINY[2:6], *TINY[8:]]
    common += ["--epochs", "4", "--batch-size", "16", "--watch"]
    assert ask(*common, "--lr", rate, "--name", "before").code in (0, 76)
    before = convscope.diagnose("before").verdict
    fault = {"1e8": "rate-too-high", "1e-7": "rate-too-low"}[rate]
    (finding,) = [f for f in before.findings if f.fault == fault]
    works(*common, *option(finding.then, "lr"), "--name", "after")
    after = convscope.diagnose("after").verdict
    assert fault not in [f.fault for f in after.findings]
    assert find_run("after", runs_folder()).log()[-1]["train_loss"] < 0.6


# ----------------------------------------------------------------------------------- what is no number; running means


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    ends = nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *ends)


IMAGES = (
    torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + torch.arange(96)[:, None, None, None] % 3
)
LABELS = torch.arange(96) % 3


def steps(network: nn.Module, rate: float, count: int, images: Tensor = IMAGES, size: int = 24) -> list[float]:
    """Train in a plain loop; the losses."""
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    losses = []
    for number in range(count):
        index = torch.arange(number * size, (number + 1) * size) % len(images)
        loss = nn.functional.cross_entropy(network.train()(images[index]), LABELS[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def seen_of(network: nn.Module, **known: object) -> Observations:
    return Observations(network, IMAGES, LABELS, 3, **known)  # type: ignore[arg-type]


def he(network: nn.Module) -> nn.Module:
    """By the rule that is written there: a deviation of sqrt(2 / inputs)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return network


def poisoned(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(network.parameters())[0] = torch.nan
    return network


def test_a_fresh_network_that_holds_no_numbers_is_initialised_by_the_rule() -> None:
    network = poisoned(small())
    finding = found(seen_of(network, trained=False), "not-a-number")
    assert finding is not None
    assert "initialise by He's rule (a deviation of sqrt(2 / inputs))" in finding.then
    assert judge(collect(seen_of(he(network), trained=False))).findings == ()
    assert steps(network, 0.05, 30)[-1] < 0.5


def test_a_training_that_broke_goes_back_to_its_checkpoint() -> None:
    start = small()
    network = deepcopy(start)
    losses = steps(network, 0.3, 10)
    checkpoint = deepcopy(network.state_dict())
    finding = found(seen_of(poisoned(network), start=start, losses=losses), "not-a-number")
    assert finding is not None
    assert "go back to the last checkpoint, with a third of the learning rate" in finding.then
    network.load_state_dict(checkpoint)
    losses += steps(network, 0.1, 20)
    assert found(seen_of(network, start=start, losses=losses), "not-a-number") is None
    assert losses[-1] < losses[9]


def test_or_its_gradients_are_clipped(tmp_path: Path) -> None:
    """A rate at which the weights run away does no harm to clipped steps."""
    common = ["train", photos(tmp_path / "photos"), *TINY, "--batch-size", "4", "--lr", "3"]
    finding = "go back to the last checkpoint, with a third of the learning rate, or with --clip."
    assert ask(*common[:-1], "1e8").code == 76
    works(*common[:-1], "1", *option(finding, "clip"), "1")


def test_large_weights_of_who_knows_when() -> None:
    """A network that is handed over may be fresh, or trained: both halves of the advice."""
    large = small()
    planted.scaled(100.0)(large[0])
    planted.scaled(100.0)(large)
    finding = found(seen_of(large, trained=None), "exploding")
    assert finding is not None
    assert "if it was not trained yet, initialise it by He's rule" in finding.then
    assert "if it was, give its first weights as start=" in finding.then
    told = judge(collect(seen_of(large, start=small(), losses=[1.1, 30.0, 80.0]))).findings
    assert [f for f in told if f.then != finding.then]
    assert finding.then not in [f.then for f in told]
    assert found(seen_of(he(large), trained=None), "exploding") is None


def test_running_statistics_settle_in_a_hundred_batches() -> None:
    network = small()
    steps(network, 0.05, 20)
    assert isinstance(network[1], nn.BatchNorm2d)
    network[1].running_mean -= 100  # type: ignore[operator]
    finding = found(seen_of(network), "norm-mode")
    assert finding is not None
    (count,) = re.findall(r"settle for (\d+) batches", finding.then)
    network.train()
    for number in range(int(count)):
        network(IMAGES[24 * (number % 4) :][:24])
    assert found(seen_of(network.eval()), "norm-mode") is None


# ------------------------------------------------------------------------------------------- images, labels, too few


def stripes(root: Path, kind: str) -> Path:
    """Level and upright stripes, whose files use a part of the values that they could hold."""
    random = np.random.default_rng(0)
    for name in ("level", "upright"):
        (root / name).mkdir(parents=True)
        for i in range(40):
            rows = np.repeat((np.arange(16) + random.integers(8)) // 2 % 2, 16).reshape(16, 16)
            shape = rows if name == "level" else rows.T
            pixels = 30_000 + 16 * shape if kind == "16 bits" else 100 + 12 * shape
            pixels = pixels + random.integers(0, 4, (16, 16))
            Image.fromarray(pixels.astype(np.uint16 if kind == "16 bits" else np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("kind", ["16 bits", "8 bits"])
def test_images_that_hold_little_are_stretched(kind: str, tmp_path: Path) -> None:
    words = ["train", stripes(tmp_path / "data", kind), *TINY, "--batch-size", "8"]
    works(*words, "--name", "before")
    verdict = convscope.diagnose("before").verdict
    assert verdict.fault == "empty-images"
    assert "train with --stretch" in verdict.findings[0].then
    works(*words, *option(verdict.findings[0].then, "stretch")[:1], "--name", "after")
    assert "empty-images" not in [f.fault for f in convscope.diagnose("after").verdict.findings]
    loss = {name: convscope.evaluate(name, part="train").summary["loss"] for name in ("before", "after")}
    assert loss["after"] < loss["before"]


def test_labels_in_another_order_than_the_images_are_put_into_the_same() -> None:
    """Learned by heart, and no help with other images: with both in one order it is."""
    inputs, labels, held_out = planted.images_of("shapes")

    def judged(order: Tensor) -> tuple[Finding | None, float]:
        torch.manual_seed(0)
        network = build("alexnet", 6, planted.SIDE, {"width": 8}, seed=0)
        few, optimizer = order[:96], torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        losses = []
        for number in range(60):
            index = torch.arange(32 * number, 32 * number + 32) % 96
            loss = nn.functional.cross_entropy(network.train()(inputs[:96][index]), labels[few][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        seen = Observations(
            network.eval(), inputs[:96], labels[few], 6, held_out=held_out, losses=losses, batch_size=32
        )
        with torch.no_grad():
            other = float(nn.functional.cross_entropy(network(held_out[0]), held_out[1]))
        return found(seen, "labels"), other

    finding, before = judged(torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)))
    assert finding is not None
    assert "check that both are shuffled in the same order" in finding.then
    finding, after = judged(torch.arange(len(labels)))
    assert finding is None
    assert after < before


@pytest.mark.parametrize("bug", [False, True])
def test_twenty_images_tell_a_bug_from_labels_of_noise(bug: bool) -> None:
    """Labels of noise on twenty images are learned by heart; a network that does not see its images learns none."""
    spoiled = replace(short("labels"), network=lambda seed: Blind(seed) if bug else FAULTS["labels"][0].network(seed))
    finding = found(trained(spoiled), "labels")
    assert finding is not None
    (count,) = re.findall(r"train on (\w+) images only", finding.then)
    assert count == "twenty"
    inputs, labels, _ = planted.images_of("shapes")
    network = spoiled.network(SEED)
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SEED))[:20]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network.train()(inputs[:20]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (float(loss.detach()) < 0.3) != bug


class Blind(nn.Module):
    """A bug: what the images hold is lost on the way."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = FAULTS["labels"][0].network(seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(0 * x)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["augment", "dropout", "images"])
def test_overfitting_is_less_with_augmentation_dropout_or_more_images(way: str, tmp_path: Path) -> None:
    common = ["train", "shapes", "--model", "alexnet", "--width", "16", "--image-size", "16", "--epochs", "40"]
    few = ["--limit", "240", "--batch-size", "16"]
    works(*common, *few, "--augment", "none", "--flip", "none", "--name", "before")
    verdict = convscope.diagnose("before").verdict
    (finding,) = [f for f in verdict.findings if f.fault == "overfitting"]
    assert "then dropout or more images" in finding.then
    more = {
        "augment": [*few, *option(finding.then, "augment")],
        "dropout": [*few, "--augment", "none", "--flip", "none", "--dropout", "0.5"],
        "images": ["--limit", "1200", "--batch-size", "16", "--augment", "none", "--flip", "none"],
    }[way]
    works(*common, *more, "--name", "after")
    after = convscope.diagnose("after").verdict
    assert after.evidence.gap < verdict.evidence.gap
    loss = {name: convscope.evaluate(name, part="val").summary["loss"] for name in ("before", "after")}
    assert loss["after"] < loss["before"]
