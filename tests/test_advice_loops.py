"""What a finding about a loop says to do next, done: the mistake is found, mended as is said, and gone."""

from __future__ import annotations

import ast
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope
import planted
from convscope.diagnosis.curves import from_losses
from convscope.diagnosis.evidence import Observations, collect, collect_curve
from convscope.diagnosis.rules.order import RULES
from convscope.diagnosis.rules.rule import Finding, VerdictRule
from convscope.diagnosis.verdict import judge
from planted import Loop, Training

MISTAKES = planted.mistakes()
LOWER = replace(MISTAKES["rate-jump"], rate=MISTAKES["rate-jump"].rate / 3)

# The mistake, its fault, the words that are followed, and the training as they say; the loop alone is another mostly.
MENDED: dict[str, tuple[str, str, Training]] = {
    key: (fault, words, replace(MISTAKES[key], loop=Loop(adam=MISTAKES[key].loop.adam), **changes))
    for key, fault, words, changes in (
        ("nan-pixel", "image-not-a-number", "leave out what cannot be mended", {}),
        ("images-alike", "images-alike", "the line that picks or makes them", {}),
        ("images-times-255", "image-scale", "prepare images by one function", {}),
        ("images-scaled-to-zero", "image-scale", "scale images once", {}),
        ("labels-plus-one", "renamed-classes", "by one table that is kept with the network", {}),
        ("softmax-last", "no-logits", "take the last softmax", {"network": planted.stack(5, 12, 10, nn.ReLU)}),
        ("softmax-before-loss", "second-softmax", "give the loss the network's outputs as they are", {}),
        ("loss-negated", "loss-sign", "take the minus before the loss away", {"rate": 0.05}),
        ("logits-detached", "loss-cut", "take the loss of the network's output itself", {}),
        ("features-detached", "gradient-cut", "look between the two", {"network": planted.stack(5, 12, 10, nn.ReLU)}),
        ("optimizer-of-another", "other-parameters", "from network.parameters() of the very network", {}),
        ("not-zeroed", "not-zeroed", "call optimizer.zero_grad() once for each update", {}),
        ("not-zeroed, Adam", "not-zeroed", "call optimizer.zero_grad() once for each update", {}),
        ("rate-zero", "schedule-ended", "as many steps as the training has", {}),
        ("rate-jump", "ran-away", "look at what changed there: the rate", {}),
        ("one-bad-batch", "odd-batch", "look at the images and labels of that batch", {}),
        ("biases-minus-5", "dead-start", "start with biases of zero", {"spoil": planted.biased(0.0)}),
    )
}
SLOW = {"rate-zero", "not-zeroed, Adam", "images-scaled-to-zero", "softmax-before-loss"}


def found(seen: Observations, fault: str) -> Finding | None:
    return next((f for f in judge(collect(seen)).findings if f.fault == fault), None)


@pytest.mark.parametrize("key", [pytest.param(key, marks=pytest.mark.slow) if key in SLOW else key for key in MENDED])
def test_the_next_step_removes_the_mistake(key: str) -> None:
    fault, words, mended = MENDED[key]
    before = planted.train(replace(MISTAKES[key], seed=3))
    verdict = judge(collect(before))
    assert verdict.fault == fault
    assert words in verdict.findings[0].then
    after = planted.train(replace(mended, seed=3))
    assert found(after, fault) is None
    assert np.mean(after.losses[-10:]) < 0.9  # half of the loss of guessing one of six


def test_dropout_that_lets_nothing_through_is_made_half() -> None:
    network = planted.stack(3, 8, 10, nn.ReLU)
    sound = Training(network, "digits", 0.03, steps=80)

    def spoiled(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers = [
            x for layer in network(seed) for x in ([layer, nn.Dropout(0.95)] if isinstance(layer, nn.ReLU) else [layer])
        ]
        return nn.Sequential(*layers)  # type: ignore[arg-type]

    before = planted.train(replace(sound, network=spoiled))
    finding = found(before, "dropout")
    assert finding is not None
    assert "drop half of it at most, and that before the last layers only" in finding.then

    def mended(seed: int) -> nn.Module:
        *body, head = network(seed)
        return nn.Sequential(*body, nn.Dropout(0.5), head)  # type: ignore[arg-type]

    after = planted.train(replace(sound, network=mended))
    assert found(after, "dropout") is None
    assert np.mean(after.losses[-10:]) < np.mean(list(before.losses)[-10:]) - 0.3


def test_a_batch_of_the_loop_is_compared_with_what_is_given() -> None:
    """Red and blue were swapped in the loop: told, and gone once the same images are given."""
    sound = planted.train(replace(MISTAKES["images-times-255"], data="shapes", loop=Loop()))
    swapped = replace(sound, images=-sound.images)
    finding = found(swapped, "told-otherwise") or found(swapped, "image-scale")
    assert finding is not None
    assert found(sound, "told-otherwise") is None


def test_a_curve_alone_says_to_give_the_network_as_well() -> None:
    noise = np.random.default_rng(0)
    verdict = judge(collect_curve(from_losses(list(2.3 + 0.02 * noise.standard_normal(80)))))
    assert verdict.fault == "plateau"
    assert "give the network and its images as well" in verdict.findings[0].then
    dead = planted.train(replace(MISTAKES["biases-minus-5"], seed=1))
    assert judge(collect(dead)).fault == "dead-start"


# ------------------------------------------------------------------------------------- the lines of torch of a finding

NOT_RUN = {"...", "def forward"}


@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.fault}-{number}" for number, rule in enumerate(RULES)])
def test_the_lines_that_take_the_next_step_run(rule: VerdictRule) -> None:
    ast.parse(rule.fix)
    assert rule.seen_by
    assert rule.tries
    assert not rule.tries.endswith(".")
    assert rule.set_by
    assert rule.tested_by
    if any(part in rule.fix for part in NOT_RUN):
        return
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.9), nn.Flatten(), nn.Linear(4 * 36, 3))
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    dataset = torch.utils.data.TensorDataset(images, labels)
    given = {
        "torch": torch, "nn": nn, "F": F, "network": network, "images": images, "labels": labels, "dataset": dataset,
        "DataLoader": torch.utils.data.DataLoader, "loader": torch.utils.data.DataLoader(dataset, 2), "epochs": 2,
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.3), "loss": F.cross_entropy(network(images), labels),
        "names": list("abcabc"), "inputs": 3, "outputs": 4, "convscope": convscope,
    }  # fmt: skip
    start = deepcopy(network.state_dict())
    exec(compile(rule.fix, "fix", "exec"), given)
    assert start.keys() == network.state_dict().keys()
