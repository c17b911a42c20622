"""The verdict: rules are data with reasons, faults are found where they are planted, sound trainings left alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

import planted
from convscope.diagnosis.evidence import Evidence, Observations, collect
from convscope.diagnosis.rules.rule import VerdictRule
from convscope.diagnosis.verdict import HEALTHY, RULES, judge
from convscope.models.registry import build
from convscope.models.taps import count_hooks

NUMBERS = {f.name for f in fields(Evidence)} - {"names"}
FAULTS = planted.family("test")
FIRST_SEED = 2000  # thresholds were set with smaller ones, on other networks and data: docs/diagnose.md


@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.fault}-{number}" for number, rule in enumerate(RULES)])
def test_a_rule_is_data_with_its_reasons(rule: VerdictRule):
    assert rule.conditions
    for condition in rule.conditions:
        assert condition.field in NUMBERS
        assert len(condition.reason) > 15
    assert rule.says.endswith(".")
    assert rule.then.endswith(".")
    assert rule.then[0].islower()


@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.fault}-{number}" for number, rule in enumerate(RULES)])
def test_a_rule_holds_just_beyond_its_thresholds_and_not_before(rule: VerdictRule):
    names = dict.fromkeys(re.findall(r"names\[(\w+)\]", rule.says + "".join(r.says for r in RULES)), "x")
    beyond = {c.field: c.threshold + (1e-6 if c.above else -1e-6) for c in rule.conditions}
    found = judge(replace(Evidence(2.3, names=names), **beyond))
    assert rule.fault in [finding.fault for finding in found.findings]
    for condition in rule.conditions:
        short = beyond | {condition.field: condition.threshold}
        others = [f for f in judge(replace(Evidence(2.3, names=names), **short)).findings if f.fault == rule.fault]
        twins = [r for r in RULES if r.fault == rule.fault and r is not rule]
        assert not others or twins


def test_without_evidence_nothing_is_said():
    found = judge(Evidence(2.3))
    assert (found.findings, found.fault) == ((), HEALTHY)
    assert found.to_json()["evidence"] == dict.fromkeys(NUMBERS) | {
        "guess": 2.3, "diverged": 0.0, "trained": 1.0, "elsewhere": 0.0, "unlearned": 0.0, "not_numbers": 0.0,
        "no_logits": 0.0, "bad_images": 0.0, "cut": 0.0, "curve_alone": 0.0,
        "names": {},
    }  # fmt: skip


def judged(training: planted.Training, seed: int) -> str:
    material = planted.train(replace(training, seed=seed))
    verdict = judge(collect(material))
    assert count_hooks(material.network) == 0
    return verdict.fault


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != HEALTHY])
def test_a_planted_fault_is_named_first(fault: str):
    assert judged(FAULTS[fault][0], FIRST_SEED) == fault


@pytest.mark.parametrize("number", [0, 3])
def test_a_sound_training_is_left_alone(number: int):
    assert judged(FAULTS[HEALTHY][number], FIRST_SEED) == HEALTHY


def trainings(healthy: bool) -> Iterator[tuple[str, planted.Training, int]]:
    for fault, kinds in FAULTS.items():
        if healthy == (fault == HEALTHY):
            yield from ((fault, kind, FIRST_SEED + n) for kind in kinds for n in range(17 if healthy else 10))


@pytest.mark.slow
def test_ten_seeds_of_each_fault():
    told = [(fault, judged(kind, seed)) for fault, kind, seed in trainings(healthy=False)]
    assert sum(fault == said for fault, said in told) >= 0.95 * len(told), [pair for pair in told if pair[0] != pair[1]]


@pytest.mark.slow
def test_a_hundred_sound_trainings():
    told = Counter(judged(kind, seed) for _, kind, seed in trainings(healthy=True))
    assert told.total() >= 100
    assert set(told) == {HEALTHY}


def small(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(nn.Conv2d(3, 4, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def material(network: nn.Module, **known: object) -> Observations:
    images, labels = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(24) % 3
    return Observations(network, images, labels, 3, **known)  # type: ignore[arg-type]


def test_a_weight_that_is_no_number_is_named():
    network = small()
    with torch.no_grad():
        network[4].weight[0, 0] = torch.nan  # type: ignore[index]
    found = judge(collect(material(network, start=small())))
    assert found.fault == "not-a-number"
    assert "4.weight" in found.findings[0].sentence


def test_running_statistics_of_other_data_are_found():
    network = small()
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean -= 1000
    assert judge(collect(material(network))).fault == "norm-mode"
    assert judge(collect(material(network, batch_size=2))).fault == "norm-batch"


def test_a_weight_left_out_and_one_that_is_not_used_are_told_apart():
    def trained(change: int) -> tuple[nn.Sequential, nn.Sequential]:
        start, now = small(norm=False), small(norm=False)
        with torch.no_grad():
            now[change].weight.add_(0.1)  # type: ignore[operator]
        return start, now

    start, now = trained(0)
    assert "3.weight is not in the optimizer" in judge(collect(material(now, start=start))).findings[0].sentence
    start, now = trained(3)
    now[0].requires_grad_(False)
    assert "0.weight is frozen" in judge(collect(material(now, start=start))).findings[0].sentence


def test_what_the_networks_own_code_freezes_is_no_fault():
    start, now = small(norm=False), small(norm=False)
    with torch.no_grad():
        now[3].weight.add_(0.1)  # type: ignore[operator]
    now[0].requires_grad_(False)
    known = material(now, start=start)
    assert judge(collect(known)).fault == "frozen"
    assert judge(collect(replace(known, designed=frozenset({"0.weight"})))).fault != "frozen"


def test_a_fresh_network_is_told_what_will_happen():
    deep = planted.stack(12, 6, 3, nn.Sigmoid)(0)
    found = judge(collect(material(deep, trained=False)))
    assert found.fault == "vanishing"
    assert "what reaches" in found.findings[0].sentence
    for name in ("resnet56", "plain20", "alexnet"):  # their running statistics are of nothing yet
        assert judge(collect(material(build(name, 3, 8, {"width": 4}, seed=0), trained=False))).fault == HEALTHY
    large = small(norm=False)
    planted.scaled(30.0)(large)
    assert judge(collect(material(large, trained=False))).fault == "exploding"


def test_a_network_that_nobody_calls_trained_is_not_told_that_its_labels_are_noise():
    assert judge(collect(material(small(norm=False), trained=None))).fault == HEALTHY
    large = small(norm=False)
    planted.scaled(30.0)(large)
    found = judge(collect(material(large, trained=None))).findings[0]
    assert found.fault == "exploding"
    assert "if it was not trained yet" in found.then


def test_what_a_training_did_is_not_laid_to_the_start():
    """Its first network is not known, so how large its loss was at the start is not either."""
    large = small(norm=False)
    planted.scaled(30.0)(large)
    found = collect(material(large, losses=[1.1, 30.0, 40.0]))
    assert math.isnan(found.start_loss)
    assert judge(found).fault != "exploding"
    assert not math.isnan(collect(material(large, start=small(norm=False))).start_loss)


def test_one_activation_at_two_widths_is_two_layers():
    class Twice(nn.Module):
        def __init__(self, dead: int) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Linear(6, 3)
            self.relu = nn.ReLU()
            with torch.no_grad():
                self.b.bias[:dead] = -1e3

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.relu(self.b(self.relu(self.a(x)))).mean((2, 3)))

    torch.manual_seed(0)
    found = collect(material(Twice(3), trained=None))
    assert (found.dead, found.names["dead"]) == (0.5, "relu (call 2)")


def test_dead_units_are_found_without_the_first_network():
    network = small(norm=False)
    with torch.no_grad():
        network[0].bias -= 1e3  # type: ignore[operator]
    found = judge(collect(material(network, losses=[1.2, 1.1, 1.1])))
    assert found.fault == "dead-units"
    assert found.findings[0].sentence.endswith("get no gradient any more.")


def test_a_loss_that_was_no_number_is_told_as_that():
    start = small()
    planted.scaled(0.9)(start)
    known = {"losses": [1.1, 1.2, math.nan], "diverged": True, "start": start}
    found = judge(collect(material(small(), **known))).findings[0]
    assert found.sentence == "the loss ran away, until it was no number."


def test_batch_norms_kept_as_they_were_are_no_fault_where_it_learns():
    """Frozen on purpose, as fine-tuning does: their statistics are of images, and the network learns."""
    evidence = Evidence(2.3, norms_frozen=1.0, norms_unset=0.0, progress=0.9, names={"norms_frozen": "bn1"})
    assert judge(evidence).fault == HEALTHY
    assert judge(replace(evidence, norms_unset=1.0)).fault == "norm-mode"
    assert judge(replace(evidence, progress=0.2)).fault == "norm-mode"
