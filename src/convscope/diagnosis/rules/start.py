"""Faults of the beginning: what layers output and what comes back, before the first step."""

from __future__ import annotations

from dataclasses import replace

from .rule import AGAIN, HE, NOT_LEARNING, VerdictRule, above, below

_BIASES = "for module in network.modules():\n    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:\n        nn.init.zeros_(module.bias)"  # noqa: E501

RULES = (
    VerdictRule(
        fault="dead-start",
        conditions=(
            above("dead_before", 0.6, "sound networks began with up to half of a layer's channels at zero"),
            above("biases_kill", 0.5, "with its biases at zero the same network has far fewer"),
            below("bias", -0.3, "the mean of a layer's biases as torch draws them is near 0"),
            NOT_LEARNING,
        ),
        says="before the first step {dead_before:.0%} of the channels of {names[dead_before]} were zero for every "
        "image, "
        "and with its biases at zero {dead_without:.0%} would be: biases of {bias:.2g} switch them off.",
        then="start with biases of zero.",
        seen_by="the first network, as it was and with its biases at zero",
        where="{names[dead_before]}",
        tries="count channels that are zero for every image before the first step: under half of any layer",
        fix=_BIASES,
        set_by=("biases-minus-5",),
        tested_by=("biases-minus-10", "biases-minus-2"),
    ),
    VerdictRule(
        fault="dead-start",
        conditions=(
            above("zeros_before", 0.9, "86 sound networks began with 0.47 to 0.69"),
            above("biases_kill", 0.5, "with its biases at zero the same network has far fewer"),
            below("bias", -0.3, "the mean of a layer's biases as torch draws them is near 0"),
        ),
        says="before the first step {zeros_before:.0%} of what {names[zeros_before]} output was zero, and with its "
        "biases "
        "at zero {zeros_without:.0%} would be: biases of {bias:.2g} switch most of it off.",
        then="start with biases of zero.",
        seen_by="the first network, as it was and with its biases at zero",
        where="{names[zeros_before]}",
        tries="count zeros that rectifiers output before the first step: about half",
        fix=_BIASES,
        set_by=("biases-minus-5",),
        tested_by=("biases-minus-10", "biases-minus-2"),
    ),
    VerdictRule(
        fault="dropout",
        conditions=(above("dropped", 0.8, "of what is usual half is the most"), NOT_LEARNING),
        says="{names[dropped]} drops {dropped:.0%} of what it is given in each step: next to nothing comes through.",
        then="drop half of it at most, and that before the last layers only.",
        seen_by="the network's dropouts",
        where="{names[dropped]}",
        tries=AGAIN,
        fix="for module in network.modules():\n    if isinstance(module, nn.Dropout):\n        module.p = "
        "min(module.p, 0.5)",
        set_by=("dropout of 90 %",),
        tested_by=("dropout-of-all",),
    ),
    VerdictRule(
        fault="exploding",
        conditions=(
            above("start_loss", 5.0, "a fresh network should guess; sound ones began at up to 1.6 times that loss"),
            NOT_LEARNING,
        ),
        says="{names[when]} the loss was {start_loss:.3g} times that of guessing: what layers output grows "
        "x{signal:.2g} a layer, to a scale of {logits:.3g} at the logits.",
        then="initialise by He's rule (a deviation of sqrt(2 / inputs)), or put a batch norm behind each convolution.",
        seen_by="the first network's loss and outputs",
        where="from the first layer on",
        tries="the loss before the first step should be near log K, {guess:.2f}",
        fix=HE,
        set_by=("exploding",),
        tested_by=("exploding", "exploding-start"),
    ),
    VerdictRule(
        fault="exploding",
        conditions=(
            above("trained", 0.25, "of a network known to be fresh its first loss is known"),
            below("trained", 0.75, "in a trained one it may be the training that went wrong"),
            above("last_loss", 5.0, "a fresh network should guess; sound ones began at up to 1.6 times that loss"),
            NOT_LEARNING,
        ),
        says="the loss is {last_loss:.3g} times that of guessing: what layers output grows x{signal:.2g} a layer, to a "
        "scale of {logits:.3g} at the logits.",
        then="if it was not trained yet, initialise it by He's rule; if it was, give its first weights as start=.",
        seen_by="the network's loss and outputs",
        where="from the first layer on",
        tries="the loss before the first step should be near log K, {guess:.2f}",
        fix=HE,
        set_by=("exploding",),
        tested_by=("exploding", "exploding-start"),
    ),
)

_NORMS = (
    "layers = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())"
)

_VANISHING = VerdictRule(
    fault="vanishing",
    conditions=(below("reach", 1e-4, "sound networks had 0.07 to 12"), NOT_LEARNING),
    says="{names[when]} the gradient shrank x{shrink:.2g} a factor: what reaches {names[first]} is {reach:.1g} "
    "of what left the top.",
    then="put a batch norm behind each convolution, or take ReLUs with He's initialisation, or residual blocks.",
    seen_by="the loss's gradient at each factor of the network",
    where="{names[first]}",
    tries="the gradient that reaches the first layer should be a hundredth of that at the top, or more",
    fix=_NORMS,
    set_by=("vanishing",),
    tested_by=("vanishing", "vanishing-sigmoids", "tiny-init"),
)

# What the first network is known to do explains what the present one does.
VANISHING = (
    replace(
        _VANISHING,
        conditions=(*_VANISHING.conditions, below("dead_before", 2.0, "the first network is known, and this is of it")),
    ),
)

DEPTH = (
    _VANISHING,
    VerdictRule(
        fault="saturated",
        conditions=(above("saturated", 0.5, "half of a layer's values pass next to no gradient"), NOT_LEARNING),
        says="{saturated:.0%} of the values of {names[saturated]} are at the ends of its curve: they pass no gradient.",
        then="start with smaller weights, put a batch norm before it, or take ReLUs.",
        seen_by="the slopes of sigmoids and tanhs at their values",
        where="{names[saturated]}",
        tries="under a quarter of its values should have a slope under a twentieth of the greatest",
        fix=_NORMS,
        set_by=("saturated",),
        tested_by=("saturated",),
    ),
)

GROWING = (
    VerdictRule(
        fault="exploding",
        conditions=(
            above("reach", 100.0, "sound networks had 0.07 to 12; plain56 has 500 to 2000, and hardly learns"),
            NOT_LEARNING,
        ),
        says="{names[when]} the gradient grew x{shrink:.2g} a factor on its way back: what reaches "
        "{names[first]} is {reach:.2g} times what left the top, so no one rate suits all layers.",
        then="take residual blocks, or fewer layers.",
        seen_by="the loss's gradient at each factor of the network",
        where="{names[first]}",
        tries=AGAIN,
        fix="def forward(self, x):\n    return x + self.layers(x)  # of each block",
        set_by=("exploding",),
        tested_by=("plain56",),
    ),
)
