"""What is known of a training, and the numbers about it that rules look at."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from dataclasses import field as data_field

import numpy as np
from torch import Tensor, nn

from ..errors import UsageError
from ..models.followed import uncompiled
from ..training.watched import Watched


@dataclass(frozen=True)
class Observations:
    """A network with its images, and its training as far as it is known.

    ``start`` is the network before its first step, ``watched`` its training; either may be None. ``images``
    (B, 3, H, W) and ``labels`` (B,) are training images, ``held_out`` the same of others, or None.
    ``losses`` are those of the steps, or of the epochs, in order. ``trained`` is None where nobody knows whether the
    network was trained. ``designed`` names parameters that are frozen on purpose, which is no fault.
    ``cross_entropy`` says that its loss is known to be that, of logits; ``elsewhere`` that it was trained elsewhere, so
    that these are not the images of its training.
    ``widths`` (B,) is how many of 256 values each image spans, None where only the tensors are known.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    classes: int
    start: nn.Module | None = None
    watched: Watched | None = None
    held_out: tuple[Tensor, Tensor] | None = None
    losses: Sequence[float] = ()
    batch_size: int | None = None
    diverged: bool = False
    trained: bool | None = True
    designed: frozenset[str] = frozenset()
    widths: np.ndarray | None = None
    cross_entropy: bool = False
    elsewhere: bool = False


@dataclass(frozen=True)
class Evidence:
    """The numbers that the rules look at, NaN where one could not be measured; ``names`` say where.

    Shares are fractions, losses in units of log K, the loss of guessing, which is ``guess`` nats. ``progress`` is the
    part of it that training has taken away. ``shrink`` (a factor) and ``reach`` (all) are what is left of the gradient
    on its way back through the network at its start, the first factor left out; ``signal`` how the scale of what layers
    output changes a layer; ``balance`` the least relative gradient of a weight over the median one. ``update`` is the
    median of ||dW|| / ||W|| over layers and steps, ``largest_update`` the largest median of a layer. ``dead`` is the
    largest share of dead channels in a layer now, ``dead_before`` at the start; ``varies`` the standard deviation of a
    logit over images. ``mode_gap`` is the loss with running statistics above that with a batch's own; of the batch
    norms ``norms_frozen`` used running statistics in training, and in ``norms_unset`` these are as they were made.
    ``blank`` is the share of images of one colour, and the middle one of all spans ``span`` of 256 values.
    ``trained`` is 1, 0, or 0.5 where nobody knows; ``elsewhere`` is 1 of a training elsewhere; ``start_loss`` is
    measured where the first network is known.

    Of the images: ``bad_images`` that hold what is no number, the ``variety`` between them, the deviation ``arriving``
    at the network and of those ``given``, ``rescaled`` times larger or smaller. ``renamed`` is what accuracy gains if
    classes are renamed, to ``renamed_right``. In nats: the ``told`` loss at the end, that ``measured`` on the images
    given, the ``best``, and the ``floor`` under a softmax of its own; ``told_below``, ``told_above`` and
    ``told_progress`` are in log K again. ``second_softmax`` and ``negated`` are how far the gradient at the outputs is
    from that of such a loss, ``crossed`` how far from one of cross-entropy, ``unseen`` 1 where no gradient was seen
    there, ``told_off`` how far told losses began from cross-entropy; ``another_loss`` is 1 where they are another, or
    may be. ``arrived`` is the share of steps in which a gradient came there; ``cut`` counts layers it does not reach.
    ``left_over`` is the share of updates that began with a gradient, ``still`` 1 where no weight moved, ``unused``
    counts weights on which no answer depends, ``gradients_came`` is the share of weights that had a gradient; ``idle``
    the share of steps at the end, from ``idle_from``,
    without a move. The loss ``fell`` and then ``rose``, from step ``ran_from``, after ``ran_share`` of the steps, where
    the rate or an update was ``jumped`` times larger, and ``update_before`` moved a layer at most; ``worst_update`` is
    the largest of all. ``swing`` is how much neighbouring losses differ at the end over the beginning. ``odd`` is the
    -log10 of the chance that the batch of step ``odd_step`` is like others; of its labels ``odd_right`` were what the
    network answers, ``odd_share`` times what they ``usually_right`` are. ``dead_without`` is ``dead_before`` with the
    first biases at zero, ``zeros_before`` and ``zeros_without`` the shares of zeros that a rectifier output, and
    ``biases_kill`` is 1 where biases made the difference. ``dropped`` is the largest share that a dropout drops,
    ``better`` the -log10 of the chance that guessing the commonest class is right so often, on held-out images where
    there are any. ``curve_alone`` is 1 where there is no network, ``early`` where it had too few steps to tell;
    ``updates`` counts the steps that were watched.
    """

    guess: float
    first_loss: float = math.nan
    last_loss: float = math.nan
    worst_loss: float = math.nan
    start_loss: float = math.nan
    progress: float = math.nan
    top1: float = math.nan
    held_out_top1: float = math.nan
    gap: float = math.nan
    above_chance: float = math.nan
    shrink: float = math.nan
    reach: float = math.nan
    balance: float = math.nan
    signal: float = math.nan
    logits: float = math.nan
    update: float = math.nan
    largest_update: float = math.nan
    dead: float = math.nan
    dead_before: float = math.nan
    varies: float = math.nan
    saturated: float = math.nan
    mode_gap: float = math.nan
    norms_frozen: float = math.nan
    norms_unset: float = math.nan
    batch_size: float = math.nan
    steps: float = math.nan
    updates: float = math.nan
    diverged: float = 0.0
    trained: float = 1.0
    elsewhere: float = 0.0
    unlearned: float = 0.0
    unused: float = math.nan
    not_numbers: float = 0.0
    no_logits: float = 0.0
    blank: float = math.nan
    span: float = math.nan
    bad_images: float = 0.0
    variety: float = math.nan
    arriving: float = math.nan
    given: float = math.nan
    rescaled: float = math.nan
    renamed: float = math.nan
    renamed_right: float = math.nan
    told: float = math.nan
    measured: float = math.nan
    best: float = math.nan
    floor: float = math.nan
    told_below: float = math.nan
    told_above: float = math.nan
    told_progress: float = math.nan
    softmaxed_off: float = math.nan
    probabilities: float = math.nan
    second_softmax: float = math.nan
    negated: float = math.nan
    crossed: float = math.nan
    unseen: float = math.nan
    told_off: float = math.nan
    another_loss: float = math.nan
    arrived: float = math.nan
    cut: float = 0.0
    left_over: float = math.nan
    still: float = math.nan
    gradients_came: float = math.nan
    idle: float = math.nan
    idle_from: float = math.nan
    fell: float = math.nan
    rose: float = math.nan
    ran_from: float = math.nan
    ran_share: float = math.nan
    swing: float = math.nan
    early: float = math.nan
    odd: float = math.nan
    odd_step: float = math.nan
    odd_before: float = math.nan
    odd_loss: float = math.nan
    odd_right: float = math.nan
    odd_share: float = math.nan
    usually_right: float = math.nan
    odd_jump: float = math.nan
    zeros_before: float = math.nan
    zeros_without: float = math.nan
    dropped: float = math.nan
    update_before: float = math.nan
    worst_update: float = math.nan
    better: float = math.nan
    jumped: float = math.nan
    dead_without: float = math.nan
    biases_kill: float = math.nan
    bias: float = math.nan
    curve_alone: float = 0.0
    names: dict[str, str] = data_field(default_factory=dict)


def network_before(start: object, network: nn.Module) -> nn.Module:
    """The ``network`` before its first step, from what is given of it then: a copy, or its state dict.

    UsageError for what is neither, and for weights that are those of the network still.
    """
    if isinstance(start, nn.Module):
        begun, given = deepcopy(uncompiled(start)), dict(start.named_parameters())
    elif isinstance(start, Mapping):
        begun = deepcopy(uncompiled(network))
        given = {re.sub(r"^(_orig_mod\.|module\.)+", "", str(name)): value for name, value in start.items()}
        try:
            begun.load_state_dict(given)
        except (RuntimeError, AttributeError, TypeError) as error:
            told = " ".join(str(error).split())[:200]
            raise UsageError(f"start is no state dict of this network: {told}") from None
    else:
        raise UsageError(
            f"start is the network before its first step, or its state dict, not a {type(start).__name__}."
        )
    own = {p.data_ptr() for p in network.parameters() if p.numel() and p.requires_grad}
    if any(isinstance(tensor, Tensor) and tensor.data_ptr() in own for tensor in given.values()):
        raise UsageError(
            "start holds the weights of the network itself, which training changed: keep copy.deepcopy(network) before "
            "the first step."
        )
    return begun.cpu()
