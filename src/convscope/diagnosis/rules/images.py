"""Faults of the images: what is not in them, nothing behind them can find."""

from __future__ import annotations

from dataclasses import replace

from .rule import AGAIN, EYES, NOT_LEARNING, VerdictRule, above, below

_FINITE = "bad = ~torch.isfinite(images).flatten(1).all(1)\nprint(bad.nonzero().flatten())  # look at these, then leave them out\nimages, labels = images[~bad], labels[~bad]"  # noqa: E501
_SAME = "batch = next(iter(loader))[0]\nprint(batch.min(), batch.max(), batch.mean((0, 2, 3)), batch.std((0, 2, 3)))  # in training, and in the test"  # noqa: E501

_OTHER_SCALE = VerdictRule(
    fault="image-scale",
    conditions=(
        above("rescaled", 3.0, "augmentation and mixing changed the deviation by 1.28 times at most"),
        above("told_below", 0.2, "what learned all the same on the images given here has no fault"),
    ),
    says="the images that came to the network have a deviation of {arriving:.2g}, those given here {given:.2g}; "
    "the loop told a loss of {told:.2g} nats, and here it is {measured:.2g}: these are not the images it trained with.",
    then="prepare images by one function, in training, evaluation and use.",
    seen_by="the deviation of what came to the network, beside that of the images given",
    where="the network's input",
    tries="print range and deviation of a batch in training and in evaluation: they should be the same",
    fix=_SAME,
    set_by=("images-times-255",),
    tested_by=("images-times-255",),
)

_ALIKE = VerdictRule(
    fault="images-alike",
    conditions=(below("variety", 1e-5, "86 sound trainings had 0.54 and more; less than this is lost in rounding"),),
    says="the images do not differ: between them is {variety:.1g} of the deviation of their pixels, so no answer "
    "can depend on them.",
    then="look at twenty images as they come to the network, and at the line that picks or makes them.",
    seen_by="the deviation of each pixel over the images",
    where="{names[alike]}",
    tries="the deviation over images, images.std(0).mean(), should be near that of all pixels",
    fix="print(images.std(0).mean(), images.std())  # the first should be near the second",
    set_by=("images-alike",),
    tested_by=("images-all-alike",),
)

RULES = (
    VerdictRule(
        fault="image-not-a-number",
        conditions=(above("bad_images", 0, "one pixel is enough: it spreads to every weight"),),
        says="{names[bad_image]} holds what is no number, so its loss and every weight after it are none.",
        then="find what made it (a division by a deviation of 0, a logarithm of 0), and leave out what cannot be "
        "mended.",
        seen_by="the images that came to the network",
        where="{names[bad_image]}",
        tries="count images that are not finite before training: there should be none",
        fix=_FINITE,
        set_by=("nan-pixel",),
        tested_by=("nan-pixel",),
    ),
    VerdictRule(
        fault="empty-images",
        conditions=(
            below("span", 32, "sound trainings had 190 and more; 16 values cost a network a seventh of its accuracy"),
            NOT_LEARNING,
        ),
        says="most images span {span:.0f} of 255 values or fewer: a network sees little of them.",
        then="train with --stretch, which spreads each image's range over all of it.",
        seen_by="the range of values of each image",
        tries=f"{EYES}: most should show something",
        fix="low, high = (f(images.flatten(1), 1).values[:, None, None, None] for f in (torch.min, torch.max))\nimages = (images - low) / (high - low).clamp_min(1e-6)",  # noqa: E501
        set_by=("narrow",),
        tested_by=("12-bit images",),
    ),
    _ALIKE,
    replace(
        _ALIKE,
        conditions=(
            below("variety", 0.01, "86 sound trainings had 0.54 and more; small marks on one ground may be learned"),
            NOT_LEARNING,
        ),
        says="the images hardly differ: between them is {variety:.1g} of the deviation of their pixels, so an answer "
        "has next to nothing to depend on.",
    ),
    VerdictRule(
        fault="empty-images",
        conditions=(above("blank", 0.5, "of the images of sound trainings none was of one colour"), NOT_LEARNING),
        says="{blank:.0%} of the images are of one colour each: there is nothing in them to learn, whatever the "
        "network.",
        then="look at twenty images as they are fitted; train with --stretch, which brings out what a narrow range "
        "holds.",
        seen_by="the range of values of each image",
        tries=f"{EYES}: most should show something",
        fix="flat = images.flatten(1).std(1) == 0\nprint(flat.float().mean())  # should be near 0",
        set_by=("blank",),
        tested_by=("black images",),
    ),
    _OTHER_SCALE,
    replace(
        _OTHER_SCALE,
        conditions=(
            above("rescaled", 3.0, "augmentation and mixing changed the deviation by 1.28 times at most"),
            above("mode_gap", 0.3, "its batch norms' running statistics are of other images than those given here"),
        ),
    ),
    VerdictRule(
        fault="image-scale",
        conditions=(below("arriving", 0.02, "86 sound trainings had 0.79 to 1.02"), NOT_LEARNING),
        says="the images come to the network with a deviation of {arriving:.1g}: they were made so small that there is "
        "next to nothing in them.",
        then="scale images once: divide by 255, then take the mean away and divide by the deviation.",
        seen_by="the deviation of what came to the network",
        where="the network's input",
        tries="the deviation of a batch should be near 1",
        fix=_SAME,
        set_by=("images-scaled-to-zero",),
        tested_by=("images-scaled-to-zero",),
    ),
    VerdictRule(
        fault="image-scale",
        conditions=(above("arriving", 20.0, "86 sound trainings had 0.79 to 1.02"), NOT_LEARNING),
        says="the images come to the network with a deviation of {arriving:.2g}, and it does not learn: weights are "
        "made "
        "for values near 1.",
        then="scale images once: divide by 255, then take the mean away and divide by the deviation.",
        seen_by="the deviation of what came to the network",
        where="the network's input",
        tries=AGAIN,
        fix=_SAME,
        set_by=("images-times-255",),
        tested_by=("images-times-255",),
    ),
    VerdictRule(
        fault="renamed-classes",
        conditions=(
            above("renamed", 0.15, "of 86 sound trainings none gained more than 0.06"),
            above("renamed_right", 0.6, "else it is a network that guesses, and any renaming may be right by chance"),
        ),
        says="it is right on {top1:.0%} of the images, and on {renamed_right:.0%} once classes are renamed: "
        "{names[renamed]}: the labels of the training are not those given here.",
        then="make labels from names by one table that is kept with the network, in training and in use.",
        seen_by="the class that is mostly answered for each class",
        where="{names[renamed]}",
        tries="the answers for twenty training images should be their labels",
        fix="classes = sorted(set(names))  # once, and kept\nlabels = torch.tensor([classes.index(n) for n in names])",
        set_by=("labels-plus-one", "two-swapped"),
        tested_by=("labels-plus-one",),
    ),
)
