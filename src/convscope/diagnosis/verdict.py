"""The verdict: rules that look at the evidence, each with its thresholds, why they are where they are, and what to do.

A rule is data. The first that holds names the fault; the others that hold are told after it. Thresholds were set on
trainings that the tests do not use: docs/diagnose.md says how well they do on others.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from ..storage import finite
from .evidence import Evidence


@dataclass(frozen=True)
class Condition:
    """``field`` of the evidence is above or below ``threshold``, and why there. NaN, what nobody could measure, is
    neither, unless ``or_unknown``."""

    field: str
    above: bool
    threshold: float
    reason: str
    or_unknown: bool = False

    def holds(self, evidence: Evidence) -> bool:
        """Say whether it is so."""
        value = getattr(evidence, self.field)
        if math.isnan(value):
            return self.or_unknown
        return value > self.threshold if self.above else value < self.threshold


@dataclass(frozen=True)
class VerdictRule:
    """A fault, the conditions that must all hold, what is said with the numbers filled in, and one next step."""

    fault: str
    conditions: tuple[Condition, ...]
    says: str
    then: str


@dataclass(frozen=True)
class Finding:
    """A rule that holds, in words."""

    fault: str
    sentence: str
    then: str


@dataclass(frozen=True)
class Verdict:
    """The first finding is the verdict; ``fault`` is "healthy" where no rule holds."""

    findings: tuple[Finding, ...]
    evidence: Evidence

    @property
    def fault(self) -> str:
        return self.findings[0].fault if self.findings else HEALTHY

    def to_json(self) -> dict[str, object]:
        """The stable JSON form; what could not be measured is null."""
        return finite(
            {"fault": self.fault, "findings": [asdict(f) for f in self.findings], "evidence": asdict(self.evidence)}
        )


HEALTHY = "healthy"


def _above(field: str, threshold: float, reason: str) -> Condition:
    return Condition(field, True, threshold, reason)


def _below(field: str, threshold: float, reason: str, or_unknown: bool = False) -> Condition:
    return Condition(field, False, threshold, reason, or_unknown)


_NOT_LEARNING = _below("progress", 0.35, "a network that has taken away a third of the loss of guessing is learning")
_TRAINED = _above("trained", 0.75, "before the first step there is nothing to tell of labels")
_HARDLY = _below("progress", 0.12, "an eighth of the loss of guessing is little for any labels that mean something")

RULES: tuple[VerdictRule, ...] = (
    VerdictRule(
        "empty-images",
        (_above("blank", 0.5, "of the images of sound trainings none was of one colour"), _NOT_LEARNING),
        "{blank:.0%} of the images are of one colour each: there is nothing in them to learn, whatever the network.",
        "look at twenty images as they are fitted; train with --stretch, which brings out what a narrow range holds.",
    ),
    VerdictRule(
        "empty-images",
        (
            _below("span", 32, "sound trainings had 190 and more; 16 values cost a network a seventh of its accuracy"),
            _NOT_LEARNING,
        ),
        "most images span {span:.0f} of 255 values or fewer: a network sees little of them.",
        "train with --stretch, which spreads each image's range over all of it.",
    ),
    VerdictRule(
        "exploding",
        (
            _above("start_loss", 5.0, "a fresh network should guess; sound ones began at up to 1.6 times that loss"),
            _NOT_LEARNING,
        ),
        "{names[when]} the loss was {start_loss:.3g} times that of guessing: what layers output grows "
        "x{signal:.2g} a layer, to a scale of {logits:.3g} at the logits.",
        "initialise by He's rule (a deviation of sqrt(2 / inputs)), or put a batch norm behind each convolution.",
    ),
    VerdictRule(
        "exploding",
        (
            _above("trained", 0.25, "of a network known to be fresh its first loss is known"),
            _below("trained", 0.75, "in a trained one it may be the training that went wrong"),
            _above("last_loss", 5.0, "a fresh network should guess; sound ones began at up to 1.6 times that loss"),
            _NOT_LEARNING,
        ),
        "the loss is {last_loss:.3g} times that of guessing: what layers output grows x{signal:.2g} a layer, to a "
        "scale of {logits:.3g} at the logits.",
        "if it was not trained yet, initialise it by He's rule; if it was, give its first weights as start=.",
    ),
    VerdictRule(
        "rate-too-high",
        (_above("diverged", 0, "the loss ran away, from a start that was sound"),),
        "the loss ran away, {names[ran]}.",
        "take a third of the learning rate, again until the loss falls, or let convscope train find one with --lr "
        "auto.",
    ),
    VerdictRule(
        "rate-too-high",
        (_above("worst_loss", 50.0, "so far from guessing no sound training went; they stayed under 7"), _NOT_LEARNING),
        "the loss ran away, to {worst_loss:.2g} times that of guessing, and stayed at {last_loss:.2g}.",
        "take a third of the learning rate, again until the loss falls, or let convscope train find one with --lr "
        "auto.",
    ),
    VerdictRule(
        "not-a-number",
        (
            _above("not_numbers", 0, "one is enough: it spreads to all"),
            _below("trained", 0.75, "without a training there is none to go back in"),
        ),
        "{names[not_numbers]} holds what is no number, so every answer is none.",
        "initialise by He's rule (a deviation of sqrt(2 / inputs)), and look at how the weights were made or loaded.",
    ),
    VerdictRule(
        "not-a-number",
        (_above("not_numbers", 0, "one is enough: it spreads to all"),),
        "{names[not_numbers]} holds what is no number, so every answer is none{names[moved]}.",
        "go back to the last checkpoint, with a third of the learning rate, or with --clip.",
    ),
    VerdictRule(
        "no-logits",
        (_above("no_logits", 0.5, "bounded for images a thousand times as bright, where logits grow"),),
        "its outputs are {names[no_logits]}, and the loss wants logits: it flattens them once more, so little of its "
        "gradient arrives.",
        "take the last softmax, sigmoid, tanh or ReLU away; probabilities are made of logits afterwards.",
    ),
    VerdictRule(
        "norm-mode",
        (
            _above("norms_frozen", 0.5, "in training every batch norm uses its batch, unless it is kept on purpose"),
            _above("norms_unset", 0.5, "and nobody keeps statistics of nothing"),
        ),
        "{names[norms_frozen]} used its running statistics while it trained, and they are of no images yet: the "
        "network was in evaluation mode.",
        "call network.train() before each epoch, and after each validation.",
    ),
    VerdictRule(
        "norm-mode",
        (_above("norms_frozen", 0.5, "in training every batch norm uses its batch"), _NOT_LEARNING),
        "{names[norms_frozen]} used its running statistics while it trained: the network was in evaluation mode.",
        "call network.train() before each epoch, and after each validation.",
    ),
    VerdictRule(
        "frozen",
        (_above("unlearned", 0, "weights to which a gradient comes, and that move by no bit, were left out"),),
        "{names[unlearned]} {names[how]}: not a bit of it moved in the training.",
        "give it to the optimizer with requires_grad=True, unless you left it out on purpose.",
    ),
    VerdictRule(
        "norm-batch",
        (
            _below("batch_size", 8, "the mean of under 8 images is a poor estimate"),
            _above("mode_gap", 0.25, "sound trainings had under 0.06"),
        ),
        "with its running statistics the loss is {mode_gap:.2f} log K above that with a batch's own: batches of "
        "{batch_size:.0f} are too small for batch norm.",
        "use a --batch-size of 16 or more.",
    ),
    VerdictRule(
        "norm-mode",
        (_above("mode_gap", 0.5, "sound trainings had under 0.06; so much is no lag of an average"),),
        "with its running statistics the loss is {mode_gap:.2f} log K above that with a batch's own: they are not "
        "those of its data.",
        "train with network.train(), evaluate with network.eval(), and let the statistics settle for 100 batches.",
    ),
    VerdictRule(
        "dead-units",
        (
            _above("dead", 0.6, "sound trainings had up to half of a layer's channels at zero"),
            _below("dead_before", 0.6, "else it is the initialisation, and not the training, that killed them", True),
            _below("varies", 1e-3, "with noise for labels layers die too, but answers go on to vary with the image"),
            _NOT_LEARNING,
        ),
        "{dead:.0%} of the channels of {names[dead]} are zero for every image, and get no gradient any "
        "more{names[before]}.",
        "take a third of the learning rate, with --warmup 0.2; dead units do not come back: start anew.",
    ),
    VerdictRule(
        "vanishing",
        (
            _below("reach", 1e-4, "sound networks had 0.07 to 12"),
            _NOT_LEARNING,
        ),
        "{names[when]} the gradient shrank x{shrink:.2g} a factor: what reaches {names[first]} is {reach:.1g} "
        "of what left the top.",
        "put a batch norm behind each convolution, or take ReLUs with He's initialisation, or residual blocks.",
    ),
    VerdictRule(
        "saturated",
        (
            _above("saturated", 0.5, "half of a layer's values pass next to no gradient"),
            _NOT_LEARNING,
        ),
        "{saturated:.0%} of the values of {names[saturated]} are at the ends of its curve: they pass no gradient.",
        "start with smaller weights, put a batch norm before it, or take ReLUs.",
    ),
    VerdictRule(
        "rate-too-high",
        (
            _above("largest_update", 0.1, "sound trainings moved a layer by up to 0.013 a step"),
            _NOT_LEARNING,
        ),
        "an update moves a layer by {largest_update:.2g} of its weight, and the loss is at {last_loss:.2f} of that of "
        "guessing.",
        "take a third of the learning rate, again until the loss falls, or let convscope train find one with --lr "
        "auto.",
    ),
    VerdictRule(
        "exploding",
        (
            _above("reach", 100.0, "sound networks had 0.07 to 12; plain56 has 500 to 2000, and hardly learns"),
            _NOT_LEARNING,
        ),
        "{names[when]} the gradient grew x{shrink:.2g} a factor on its way back: what reaches "
        "{names[first]} is {reach:.2g} times what left the top, so no one rate suits all layers.",
        "take residual blocks, or fewer layers.",
    ),
    VerdictRule(
        "rate-too-low",
        (
            _below("largest_update", 4.5e-4, "sound trainings and noise for labels moved a layer by 0.001 and more"),
            _NOT_LEARNING,
        ),
        "an update moves a layer by {largest_update:.1g} of its weight at most; after {steps:.0f} steps the loss is "
        "still {last_loss:.2f} of that of guessing.",
        "take ten times the learning rate, or let convscope train find one with --lr auto.",
    ),
    VerdictRule(
        "labels",
        (
            _above("gap", 0.2, "sound trainings had up to 0.1: it learns its training images by heart"),
            _below("above_chance", 0.05, "and others no better than by guessing"),
        ),
        "it has learned {top1:.0%} of its training images, and guesses others ({held_out_top1:.0%}): the labels have "
        "nothing to do with the images.",
        "look at twenty images with their labels; check that both are shuffled in the same order.",
    ),
    VerdictRule(
        "labels",
        (_HARDLY, _TRAINED),
        "the loss stays at {last_loss:.2f} of that of guessing though gradients arrive and weights move: the labels "
        "are noise, or images and labels do not belong together.",
        "train on twenty images only: if these cannot be learned by heart it is a bug, else look at their labels.",
    ),
    VerdictRule(
        "overfitting",
        (
            _above("gap", 0.2, "sound trainings had up to 0.1"),
            _above("top1", 0.8, "before that there is more to learn"),
        ),
        "it is right on {top1:.0%} of its training images and on {held_out_top1:.0%} of others.",
        "add --augment standard, then dropout or more images.",
    ),
)


def judge(evidence: Evidence) -> Verdict:
    """Find the rules that hold, in their order, each fault once."""
    findings: dict[str, Finding] = {}
    for rule in RULES:
        if rule.fault not in findings and all(c.holds(evidence) for c in rule.conditions):
            values = asdict(evidence)
            findings[rule.fault] = Finding(rule.fault, rule.says.format(**values), rule.then)
    return Verdict(tuple(findings.values()), evidence)
