"""Faults of the loss: what it is computed of, and whether its gradient comes back."""

from __future__ import annotations

from dataclasses import replace

from .rule import AGAIN, NOT_LEARNING, VerdictRule, above, below

_PROBABLE = "logits = network(images)  # no softmax\nloss = F.cross_entropy(logits, labels)\nprobabilities = logits.softmax(1)  # afterwards, to look at"  # noqa: E501
_REACHED = (
    "loss.backward()\nprint([name for name, p in network.named_parameters() if p.grad is None])  # should be none"
)

_BOUNDED = above("no_logits", 0.5, "bounded for images a thousand times as bright, where logits grow")
_CROSSED = below("crossed", 0.05, "the loss is a cross-entropy of these outputs, and not one for probabilities")

_NO_LOGITS = VerdictRule(
    fault="no-logits",
    conditions=(_BOUNDED, _CROSSED),
    says="its outputs are {names[no_logits]}, and the loss wants logits: it flattens them once more, so little of "
    "its "
    "gradient arrives.",
    then="take the last softmax, sigmoid, tanh or ReLU away; probabilities are made of logits afterwards.",
    seen_by="outputs for images up to a thousand times as bright",
    where="the network's last operation",
    tries="outputs should have rows that do not add up to 1, and values of both signs",
    fix=_PROBABLE,
    set_by=("softmax-last",),
    tested_by=("softmax-last-layer", "softmax-in-function"),
)

RULES = (
    _NO_LOGITS,
    replace(
        _NO_LOGITS,
        conditions=(
            _BOUNDED,
            above("unseen", 0.5, "of which loss the gradient is was not seen, and there are losses for probabilities"),
            NOT_LEARNING,
        ),
        says="its outputs are {names[no_logits]}: if the loss is a cross-entropy of logits, it flattens them once "
        "more, and little of its gradient arrives.",
        then="if it is, take the last softmax, sigmoid, tanh or ReLU away; else watch 50 steps, which tells.",
    ),
    VerdictRule(
        fault="no-logits",
        conditions=(above("probabilities", 0.5, "no logits add up to 1 in every row, at every look"), _CROSSED),
        says="its outputs are probabilities that add up to 1, as of a softmax, and the loss wants logits: it flattens "
        "them "
        "once more, so little of its gradient arrives.",
        then="take the last softmax away; probabilities are made of logits afterwards.",
        seen_by="the sums of its outputs while it trained",
        where="the network's last operation",
        tries="the rows of its outputs should not add up to 1",
        fix=_PROBABLE,
        set_by=("softmax-last",),
        tested_by=("softmax-last-layer", "softmax-in-function"),
    ),
    VerdictRule(
        fault="second-softmax",
        conditions=(
            below("second_softmax", 0.05, "where cross-entropy fits better it is 1, as in all of 86 sound trainings"),
        ),
        says="the gradient that came back to its outputs is that of a softmax before the cross-entropy (to "
        "{second_softmax:.1g}), which makes one itself: the loss cannot fall below {floor:.2f}, however right it is.",
        then="give the loss the network's outputs as they are, without a softmax of your own.",
        seen_by="the gradient at the outputs, beside what each loss would give",
        where="between the network's output and the loss",
        tries="the loss of images that are learned by heart should come near 0",
        fix=_PROBABLE,
        set_by=("softmax-before-loss",),
        tested_by=("softmax-before-loss",),
    ),
    VerdictRule(
        fault="second-softmax",
        conditions=(
            below("second_softmax", 0.05, "the gradient itself was not seen", or_unknown=True),
            below("softmaxed_off", 0.05, "the told loss is that of outputs put through a softmax"),
            above("told_above", 0.3, "and far above that of the outputs, which smoothing hardly is"),
            above("top1", 0.8, "before that the two losses are near each other"),
        ),
        says="it is right on {top1:.0%} of its images at a loss of {measured:.2g} nats, but the loop told {told:.2g}: "
        "that "
        "of a softmax before the cross-entropy, which makes one itself and so cannot fall below {floor:.2f}.",
        then="give the loss the network's outputs as they are, without a softmax of your own.",
        seen_by="the told loss, beside that of the outputs with and without a softmax",
        where="between the network's output and the loss",
        tries="the loss of images that are learned by heart should come near 0",
        fix=_PROBABLE,
        set_by=("softmax-before-loss",),
        tested_by=("softmax-before-loss",),
    ),
    VerdictRule(
        fault="loss-sign",
        conditions=(
            below("negated", 0.05, "where cross-entropy fits better it is 1, as in all of 86 sound trainings"),
        ),
        says="the gradient that came back to its outputs is that of a cross-entropy with its sign turned around: each "
        "step "
        "makes the loss larger.",
        then="take the minus before the loss away: an optimizer makes smaller what it is given.",
        seen_by="the gradient at the outputs, beside what each loss would give",
        where="the loss",
        tries=AGAIN,
        fix="loss = F.cross_entropy(network(images), labels)  # no minus before it",
        set_by=("loss-negated",),
        tested_by=("loss-negated",),
    ),
    VerdictRule(
        fault="loss-cut",
        conditions=(below("arrived", 0.05, "in every loop that trains, it comes back at every step"),),
        says="the loss's gradient never came back to what the network had output: the loss is cut off from "
        "it{names[still]}.",
        then="take the loss of the network's output itself, without .detach(), .data, .numpy(), .item(), or a new "
        "tensor in between.",
        seen_by="whether a backward pass came to the outputs",
        where="between the network's output and the loss",
        tries="after loss.backward() no weight's gradient should be None",
        fix=_REACHED,
        set_by=("logits-detached",),
        tested_by=("logits-detached",),
    ),
    VerdictRule(
        fault="gradient-cut",
        conditions=(above("cut", 0, "one layer that gets no gradient, with all before it, is enough"),),
        says="the gradient reaches {names[cut_above]} and nothing below it: what {names[cut_below]} outputs goes on "
        "without its history.",
        then="look between the two for .detach(), .data, torch.no_grad() or numpy; if it is meant so, freeze what is "
        "below "
        "with requires_grad_(False).",
        seen_by="which weights get a gradient from one backward pass",
        where="between {names[cut_below]} and {names[cut_above]}",
        tries="after loss.backward() no weight's gradient should be None",
        fix=_REACHED,
        set_by=("features-detached",),
        tested_by=("features-detached",),
    ),
)
