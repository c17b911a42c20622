"""What is left when nothing in images, loss, loop, beginning and course was found: labels, and what was learned."""

from __future__ import annotations

from dataclasses import replace

from .rule import ENOUGH, EYES, HARDLY, HERE, NOT_LEARNING, SEEN, TRAINED, VerdictRule, above, below

_SMALL = "few, theirs = images[:20], labels[:20]\n...  # train on these alone: the loss should come near 0"

_BY_HEART = VerdictRule(
    fault="labels",
    conditions=(
        above("gap", 0.2, "sound trainings had up to 0.1: it learns its training images by heart"),
        below("above_chance", 0.05, "and others no better than by guessing"),
    ),
    says="it has learned {top1:.0%} of its training images, and guesses others ({held_out_top1:.0%}): the labels "
    "have nothing to do with the images.",
    then="look at twenty images with their labels; check that both are shuffled in the same order.",
    seen_by="accuracy on training images and on others",
    where="the labels",
    tries=f"{EYES}: they should fit",
    fix=_SMALL,
    set_by=("labels",),
    tested_by=("labels", "labels-shuffled", "loss-of-other-batch"),
)

_OTHERWISE = VerdictRule(
    fault="told-otherwise",
    conditions=(
        above("told_below", 0.4, "of 86 sound trainings 85 had under 0.03"),
        above("told_progress", 0.5, "and what was told is of a network that has learned"),
        below("told_off", 0.33, "and it began as a cross-entropy in nats does: other losses are other numbers"),
    ),
    says="the loop told a loss of {told:.2g} nats, and on the images given here it is {measured:.2g}: these are not "
    "the images, the labels or the loss that it trained with.",
    then="look at one batch of the loop beside the same images as they are given here: range, order of channels, "
    "labels.",
    seen_by="the told loss, beside that of the network as it is now",
    where="between the loop and what was given here",
    tries="the loss of a batch should be the same in both",
    fix="print(F.cross_entropy(network.eval()(images), labels))  # of one batch, in both places",
    set_by=("other-images",),
    tested_by=("other images",),
)

RULES = (
    _OTHERWISE,
    replace(
        _OTHERWISE,
        conditions=(
            *_OTHERWISE.conditions[:2],
            above("first_loss", 0.7, "and it began near guessing, as a cross-entropy in nats does"),
            below("top1", 0.6, "and so many wrong answers have no such loss"),
        ),
    ),
    _BY_HEART,
    replace(
        _BY_HEART,
        conditions=(
            above("gap", 0.1, "it learns its training images by heart; sound ones had up to 0.14, and answered others"),
            below("better", 2.0, "and others no better than by guessing, at one chance in a hundred"),
        ),
    ),
    VerdictRule(
        fault="labels",
        conditions=(
            HARDLY,
            TRAINED,
            HERE,
            SEEN,
            ENOUGH,
            below("better", 4.0, "answers that are no luck are of something learned", True),
        ),
        says="the loss stays at {last_loss:.2f} of that of guessing{names[arrive]}: the labels "
        "are noise, or images and labels do not belong together.",
        then="train on twenty images only: if these cannot be learned by heart it is a bug, else look at their labels.",
        seen_by="the loss, where nothing else was found",
        where="the labels",
        tries=f"{EYES}: they should fit",
        fix=_SMALL,
        set_by=("labels",),
        tested_by=("labels", "labels-shuffled", "loss-of-other-batch"),
    ),
    VerdictRule(
        fault="unsuited",
        conditions=(
            above("elsewhere", 0.5, "of a training here the images and the labels are known"),
            HARDLY,
            TRAINED,
            below("renamed", 0.15, "else its classes are in another order, and that is told", True),
        ),
        says="it was trained elsewhere, and of the images given here it is right on {top1:.0%}, with a loss of "
        "{last_loss:.2f} of that of guessing: they are prepared otherwise than in its training, its classes are in "
        "another order, or its weights belong to other code.",
        then="set --mean, --std, --input-size and the order of --classes beside those of its training.",
        seen_by="its answers for the images given",
        where="between its training and what was given here",
        tries="on images of its own training it should be as right as it was there",
        fix="print(F.cross_entropy(network.eval()(images), labels))  # of one batch, here and where it was trained",
        set_by=("other-images",),
        tested_by=("adopted",),
    ),
    VerdictRule(
        fault="plateau",
        conditions=(
            HARDLY,
            above("curve_alone", 0.5, "with a network more is seen"),
            below("early", 0.5, "under 20 steps, 3 epochs or 3 losses it is too early to tell"),
        ),
        says="the loss has stood still from the beginning: after {steps:.0f} {names[unit]} it is {last_loss:.2f} of "
        "what it was.",
        then="give the network and its images as well: a curve alone does not say why it stands still.",
        seen_by="the told losses",
        tries="watch 50 steps with convscope.watching, and diagnose the network with what was seen",
        fix="with convscope.watching(network) as watch:\n    ...  # watch.step(loss.item()) after each update",
        set_by=("plateau",),
        tested_by=("plateau",),
    ),
    VerdictRule(
        fault="overfitting",
        conditions=(
            above("gap", 0.2, "sound trainings had up to 0.1"),
            above("top1", 0.8, "before that there is more to learn"),
        ),
        says="it is right on {top1:.0%} of its training images and on {held_out_top1:.0%} of others.",
        then="add --augment standard, then dropout or more images.",
        seen_by="accuracy on training images and on others",
        tries="the two accuracies should come nearer",
        fix="images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)",
        set_by=("overfitting",),
        tested_by=("overfitting",),
    ),
    VerdictRule(
        fault="not-used",
        conditions=(
            above("unused", 0, "no answer depends on these weights, which no optimizer can move then"),
            NOT_LEARNING,
            TRAINED,
            ENOUGH,
        ),
        says="{names[unused]} is not used: no answer depends on it, and not a bit of it moved in the training.",
        then="call its layer in forward, or remove it where you have no use for it.",
        seen_by="which weights get a gradient from one backward pass",
        where="{names[unused]}",
        tries="after loss.backward() no weight's gradient should be None",
        fix="def forward(self, x):\n    return self.head(self.layer(x))  # each layer is called",
        set_by=("layer-not-called",),
        tested_by=("layer-not-called",),
    ),
)
