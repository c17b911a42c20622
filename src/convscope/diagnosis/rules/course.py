"""Faults that show in the course of a training: rates that suit it not, and what happened at one step."""

from __future__ import annotations

from dataclasses import replace

from .rule import AGAIN, HARDLY, HE, LOWER, LOWER_FIX, NOT_LEARNING, VerdictRule, above, below

_CLIP = "nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # between backward() and step()"
_DIVERGED = {"seen_by": "the told losses", "tries": AGAIN, "fix": LOWER_FIX}

_RAN_AWAY = VerdictRule(
    fault="ran-away",
    conditions=(
        above("fell", 0.25, "a quarter of the loss of guessing was taken away, so it was learning"),
        below("update_before", 0.1, "86 sound trainings moved a layer by up to 0.042 a step", or_unknown=True),
        above("ran_share", 0.05, "what runs away at once had no time to learn"),
        below("ran_share", 0.95, "what is above its best in the last few steps only may come back"),
        above("rose", 0.25, "and as much came back and stayed; of 86 sound trainings two rose by more than 0.22"),
    ),
    says="it was learning until step {ran_from:.0f}, down to a loss of {best:.2g} nats; then it ran away, to "
    "{names[ran_to]}, and did not come back{names[changed]}.",
    then="go back to a checkpoint before step {ran_from:.0f}, and look at what changed there: the rate, the data, "
    "the loss.",
    seen_by="the told losses",
    where="step {ran_from:.0f}",
    tries="the loss should go on from {best:.2g} nats",
    fix=f"{LOWER_FIX}\n{_CLIP}",
    set_by=("rate-jump",),
    tested_by=("rate-jump-at-100",),
)

RAN_AWAY = (
    _RAN_AWAY,
    replace(
        _RAN_AWAY,
        conditions=(
            above("fell", 0.05, "it had begun to learn"),
            above("rose", 0.05, "and that came back and stayed"),
            above("jumped", 5.0, "no schedule of a sound training grows so much in a few steps"),
            below("update_before", 0.1, "86 sound trainings moved a layer by up to 0.042 a step", or_unknown=True),
            above("ran_share", 0.05, "what runs away at once had no time to learn"),
            below("ran_share", 0.95, "what is above its best in the last few steps only may come back"),
        ),
    ),
)

DIVERGED = (
    VerdictRule(
        fault="rate-too-high",
        conditions=(above("diverged", 0, "the loss ran away, from a start that was sound"),),
        says="the loss ran away, {names[ran]}.",
        then=LOWER,
        set_by=("rate-too-high",),
        tested_by=("rate-too-high",),
        **_DIVERGED,
    ),
    VerdictRule(
        fault="rate-too-high",
        conditions=(
            above("worst_loss", 50.0, "so far from guessing no sound training went; they stayed under 7"),
            NOT_LEARNING,
        ),
        says="the loss ran away, to {worst_loss:.2g} times that of guessing, and stayed at {last_loss:.2g}.",
        then=LOWER,
        set_by=("rate-too-high",),
        tested_by=("rate-too-high",),
        **_DIVERGED,
    ),
    VerdictRule(
        fault="not-a-number",
        conditions=(
            above("not_numbers", 0, "one is enough: it spreads to all"),
            below("trained", 0.75, "without a training there is none to go back in"),
        ),
        says="{names[not_numbers]} holds what is no number, so every answer is none.",
        then="initialise by He's rule (a deviation of sqrt(2 / inputs)), and look at how the weights were made or "
        "loaded.",
        seen_by="the network's weights and statistics",
        where="{names[not_numbers]}",
        tries="every tensor of network.state_dict() should be finite",
        fix=HE,
        set_by=("nan-weight",),
        tested_by=("nan weight",),
    ),
    VerdictRule(
        fault="not-a-number",
        conditions=(above("not_numbers", 0, "one is enough: it spreads to all"),),
        says="{names[not_numbers]} holds what is no number, so every answer is none{names[moved]}.",
        then="go back to the last checkpoint, with a third of the learning rate, or with --clip.",
        seen_by="the network's weights and statistics",
        where="{names[not_numbers]}",
        tries="every tensor of network.state_dict() should be finite",
        fix=f"{LOWER_FIX}\n{_CLIP}",
        set_by=("nan-weight",),
        tested_by=("nan weight",),
    ),
)

DEAD = (
    VerdictRule(
        fault="dead-units",
        conditions=(
            above("dead", 0.6, "sound trainings had up to half of a layer's channels at zero"),
            below("dead_before", 0.6, "else it is the initialisation, and not the training, that killed them", True),
            below("varies", 1e-3, "with noise for labels layers die too, but answers go on to vary with the image"),
            NOT_LEARNING,
        ),
        says="{dead:.0%} of the channels of {names[dead]} are zero for every image, and get no gradient any "
        "more{names[before]}.",
        then="take a third of the learning rate, with --warmup 0.2; dead units do not come back: start anew.",
        seen_by="what rectifiers output for the images, now and at the start",
        where="{names[dead]}",
        tries="under half of a layer's channels should be zero for every image after 50 steps",
        fix=LOWER_FIX,
        set_by=("dead-units",),
        tested_by=("dead-units", "dead-after-rate"),
    ),
)

RATES = (
    VerdictRule(
        fault="rate-too-high",
        conditions=(
            above("worst_update", 1.0, "86 sound trainings moved a layer by up to 0.43"),
            NOT_LEARNING,
        ),
        says="one update moved a layer by {worst_update:.2g} of its weight, and the loss is at {last_loss:.2f} of that "
        "of guessing.",
        then=LOWER,
        seen_by="how far weights move in a step",
        tries=AGAIN,
        fix=LOWER_FIX,
        set_by=("rate-too-high",),
        tested_by=("rate-too-high",),
    ),
    VerdictRule(
        fault="rate-too-high",
        conditions=(
            above("largest_update", 0.1, "sound trainings moved a layer by up to 0.013 a step"),
            NOT_LEARNING,
        ),
        says="an update moves a layer by {largest_update:.2g} of its weight, and the loss is at {last_loss:.2f} of "
        "that of "
        "guessing.",
        then=LOWER,
        seen_by="how far weights move in a step",
        tries=AGAIN,
        fix=LOWER_FIX,
        set_by=("rate-too-high",),
        tested_by=("rate-too-high",),
    ),
    VerdictRule(
        fault="rate-too-high",
        conditions=(
            above("swing", 4.0, "three of 86 sound trainings had more than 6, and learned"),
            above("rose", 0.1, "and it is farther from its aim than it was"),
            HARDLY,
        ),
        says="the losses of neighbouring steps differ x{swing:.2g} as much at the end as at the beginning: the loss "
        "swings, "
        "and more and more.",
        then=LOWER,
        seen_by="the told losses",
        tries=AGAIN,
        fix=LOWER_FIX,
        set_by=("swinging",),
        tested_by=("swinging",),
    ),
)

STEPS = (
    VerdictRule(
        fault="rate-too-low",
        conditions=(
            below("largest_update", 4.5e-4, "sound trainings moved a layer by 0.001 and more, noise mostly too"),
            NOT_LEARNING,
        ),
        says="an update moves a layer by {largest_update:.1g} of its weight at most; after {steps:.0f} steps the loss "
        "is "
        "still {last_loss:.2f} of that of guessing.",
        then="take ten times the learning rate, or let convscope train find one with --lr auto.",
        seen_by="how far weights move in a step",
        tries=AGAIN,
        fix='for group in optimizer.param_groups:\n    group["lr"] *= 10',
        set_by=("rate-too-low",),
        tested_by=("rate-too-low",),
    ),
    VerdictRule(
        fault="odd-batch",
        conditions=(
            above("odd", 12.0, "of 86 sound trainings none had more than 5, of 300 one had 10"),
            below("odd_share", 0.5, "a step that set the network back left it more than half of its answers"),
        ),
        says="one batch is unlike the others: at step {odd_step:.0f} the loss jumped from {odd_before:.2g} to "
        "{odd_loss:.2g} "
        "nats and came back; {odd_right:.0%} of its labels were what the network answers, {usually_right:.0%} in "
        "others.",
        then="look at the images and labels of that batch.",
        seen_by="the told losses, and the labels that the gradient at the outputs speaks of",
        where="step {odd_step:.0f}",
        tries="without these images no step's loss should jump so",
        fix="for step, (images, labels) in enumerate(loader):\n    ...  # save both where the loss jumps",
        set_by=("one-bad-batch",),
        tested_by=("one-bad-batch",),
    ),
    VerdictRule(
        fault="odd-batch",
        conditions=(
            above("odd", 1000.0, "what the network answers was not seen", or_unknown=True),
            above("odd_jump", 50.0, "86 sound trainings jumped by up to 41"),
        ),
        says="one batch is unlike the others: at step {odd_step:.0f} the loss jumped from {odd_before:.2g} to "
        "{odd_loss:.2g} "
        "nats, {odd_jump:.0f} times what neighbours differ by, and came back.",
        then="look at the images and labels of that batch.",
        seen_by="the told losses",
        where="step {odd_step:.0f}",
        tries="without these images no step's loss should jump so",
        fix="for step, (images, labels) in enumerate(loader):\n    ...  # save both where the loss jumps",
        set_by=("one-bad-batch",),
        tested_by=("one-bad-batch",),
    ),
)
