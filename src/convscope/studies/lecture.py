"""The lecture sentence by sentence, in our words: which are claims that a study decides, and what becomes of the rest.

``SENTENCES`` covers the lecture's text from its first line to its last. A test holds that, that each claim has its
sentence, and that what is pointed to is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["claim", "shown", "built", "way", "remark"]

KINDS: dict[Kind, str] = {
    "claim": "an experiment decides it: `convscope study NAME`",
    "shown": "a command shows it on any network",
    "built": "a network or a computation of the package is so, which tests hold",
    "way": "a way to do something, which a command goes",
    "remark": "a thought, an example, a heading or a fact about the world that no experiment here decides",
}


@dataclass(frozen=True)
class Sentence:
    """What the lines ``first`` to ``last`` of the lecture say, of which ``kind``, and what holds, shows or does it.

    ``by`` are names of claims, or of commands; none for a remark.
    """

    first: int
    last: int
    words: str
    kind: Kind
    by: tuple[str, ...] = ()


SENTENCES: tuple[Sentence, ...] = (
    Sentence(1, 2, "the date, and how formulas are written", "remark"),
    Sentence(
        3, 4, "an image is a structured input that many methods find hard: three channels of height by width", "remark"
    ),
    Sentence(5, 5, "location matters: an image is all about which values stand beside which", "claim", ("location",)),
    Sentence(6, 6, "an image of 32 by 32 pixels has 3,072 values", "built", ("models",)),
    Sentence(7, 8, "convolutions with learned filters over all channels solve it", "claim", ("location",)),
    Sentence(9, 10, "each filter learns a part of the image, and enough of them take it apart", "shown", ("explain",)),
    Sentence(11, 13, "CIFAR-10: 50,000 small colour images, harder than digits", "built", ("train",)),
    Sentence(14, 27, "a network like AlexNet, layer by layer", "built", ("models",)),
    Sentence(
        28,
        33,
        "how an image passes it: maps, pooling, maps of maps, three fully connected layers",
        "shown",
        ("explain", "models"),
    ),
    Sentence(34, 35, "each pooling makes maps smaller, and more filters make up for it", "built", ("models",)),
    Sentence(36, 36, "normalization comes next", "remark"),
    Sentence(
        37,
        39,
        "in deep networks gradients vanish, the more specific the filters the more",
        "claim",
        ("vanishing-gradients",),
    ),
    Sentence(40, 40, "batch normalization solves it, without much of a theory", "claim", ("batch-norm-speed",)),
    Sentence(41, 53, "what batch normalization computes, channel by channel", "built", ("models",)),
    Sentence(
        54,
        58,
        "it stands after a convolution, works otherwise at test time, and is tried on CIFAR-10",
        "built",
        ("models",),
    ),
    Sentence(59, 59, "AlexNet reaches about 75 % in validation", "claim", ("alexnet-75",)),
    Sentence(60, 61, "one wants to see what a filter stands for, which is hard in deep networks", "way", ("explain",)),
    Sentence(62, 63, "low layers are little pieces, higher ones put them together", "claim", ("general-to-specific",)),
    Sentence(64, 67, "exemplars: the images that excite a filter most", "way", ("explain",)),
    Sentence(
        68, 76, "activation maximization: climb from noise to an image that excites a filter", "way", ("explain",)
    ),
    Sentence(77, 77, "it is somewhat costly", "claim", ("maximization-costly",)),
    Sentence(78, 79, "AlexNet does well, and a deeper network does better", "claim", ("vgg-beats-alexnet",)),
    Sentence(80, 83, "the VGG rules: 3 by 3, pool by 2, twice the filters", "claim", ("two-3x3",)),
    Sentence(84, 85, "a little better than before, and not the state of the art", "claim", ("vgg-beats-alexnet",)),
    Sentence(86, 86, "the networks quickly overfit", "claim", ("vgg-overfits",)),
    Sentence(
        87, 89, "two ways to generalize better: dropout and augmentation", "claim", ("dropout-gap", "augmentation-gap")
    ),
    Sentence(90, 90, "dropout turns connections off at random", "built", ("models",)),
    Sentence(
        91, 91, "so it learns an ensemble of bad networks that work well when averaged", "claim", ("dropout-ensemble",)
    ),
    Sentence(92, 93, "no single filter or neuron is relied on as much", "claim", ("dropout-spreads",)),
    Sentence(
        94,
        100,
        "augmentation: a cat is a cat when mirrored, nearer or turned; new images are varied old ones",
        "way",
        ("train",),
    ),
    Sentence(101, 102, "augmentation slows training: more updates are needed", "claim", ("augmentation-slows",)),
    Sentence(
        103,
        104,
        "and makes a network robust to small changes, and better at new images",
        "claim",
        ("augmentation-robust", "augmentation-gap"),
    ),
    Sentence(
        105,
        111,
        "deeper networks came out worse, which is optimization, for one more layer could do nothing",
        "claim",
        ("depth-plain", "identity-layers"),
    ),
    Sentence(112, 114, "the residual block adds what it learned to what it was given", "built", ("models",)),
    Sentence(
        115, 116, "each block learns a small part, and enough of them complete the whole", "claim", ("depth-residual",)
    ),
    Sentence(
        117,
        120,
        "gradients flow straight to the early layers, and do not shrink with depth",
        "claim",
        ("vanishing-gradients",),
    ),
    Sentence(
        121,
        135,
        "products of Jacobians shrink in a plain network, and an identity in each factor holds them up",
        "shown",
        ("diagnose",),
    ),
    Sentence(136, 142, "a residual network layer by layer", "built", ("models",)),
    Sentence(143, 145, "global average pooling in place of fully connected layers", "built", ("models",)),
    Sentence(
        146, 146, "the maps at the top are so sparse that an image is a few of them", "claim", ("global-pooling",)
    ),
    Sentence(
        147, 149, "this network about matches VGG; why have skips then?", "claim", ("resnet-vgg", "depth-residual")
    ),
    Sentence(
        150,
        150,
        "a network of 50 layers is hard to train on one machine",
        "claim",
        ("fifty-layers",),
    ),
    Sentence(151, 157, "the ImageNet challenge: millions of labelled images, thousands of categories", "remark"),
    Sentence(158, 159, "top-5: it counts when the label is among the five likeliest", "built", ("evaluate",)),
    Sentence(160, 166, "a thousand classes, much computing, and networks that do it well", "remark"),
    Sentence(
        167,
        171,
        "many layers make many feature extractors, from whose parts new images are made up too",
        "claim",
        ("pretrained-beats-scratch",),
    ),
    Sentence(172, 175, "others have trained an extractor already: may it be used?", "way", ("transfer",)),
    Sentence(176, 177, "transfer is the norm, and works", "claim", ("pretrained-beats-scratch",)),
    Sentence(
        178,
        181,
        "edges first, then small blocks: the beginning does not depend on the subject",
        "claim",
        ("general-to-specific",),
    ),
    Sentence(
        182,
        188,
        "record the features of each image, and train a small network on them",
        "way",
        ("features", "transfer"),
    ),
    Sentence(189, 190, "recording takes much memory", "claim", ("features-memory",)),
    Sentence(191, 191, "augmentation helps a head a little", "claim", ("augmented-head",)),
    Sentence(192, 194, "images are images, and extractors break them into parts", "remark"),
    Sentence(
        195,
        195,
        "to do without a pretrained extractor is almost always a waste of time, if images are near its own",
        "claim",
        ("pretrained-beats-scratch", "nearer-images"),
    ),
    Sentence(196, 200, "transfer opens segmentation and detection, next time", "remark"),
)
