"""The lecture's last step: a small fully connected network trained on recorded features, by the one training loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ..machine import one_thread
from ..models.heads import fcnn
from ..progress import Progress
from ..randomness import distinct, order
from ..recipes import Recipe
from ..training.batches import Batch, balanced
from ..training.loop import TrainState, make_optimizer, train
from .head import Standard

UPDATES = 600  # about: fewer epochs where there are many images
MOST_EPOCHS, LEAST_EPOCHS = 60, 4


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of features (N, C) instead of images, in the order that a training of images would have."""

    features: Tensor
    labels: Tensor
    keys: np.ndarray
    classes: int
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    @cached_property
    def class_weights(self) -> Tensor:
        """Float32 (K,): as of ``Batches``."""
        return balanced(self.labels.numpy(), self.classes)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on."""
        shuffled = order(self.seed, epoch, distinct(self.keys))
        for chosen in np.array_split(shuffled, len(self))[start:]:
            yield Batch(self.features[chosen], self.labels[chosen], chosen)


def fcnn_recipe(images: int, seed: int, balance: bool, least: int = LEAST_EPOCHS) -> Recipe:
    """AdamW, batches of 64, as many epochs as make about UPDATES updates, ``least`` at least."""
    batch = 64 if images >= 640 else 16
    epochs = min(MOST_EPOCHS, max(least, round(UPDATES * batch / images)))
    options = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "batch_size": batch, "epochs": epochs}
    return Recipe().with_options({**options, "seed": seed, "balance": balance, "precision": "float32"})


def train_fcnn(  # noqa: PLR0913 - what a head is trained on, and its options
    features_NC: Tensor,
    labels_N: Tensor,
    classes: int,
    keys_N: np.ndarray,
    *,
    seed: int = 0,
    balance: bool = False,
    least: int = LEAST_EPOCHS,
    progress: Progress | None = None,
) -> nn.Module:
    """The network trained on raw features (N, C): standardising is folded into its first layer. It ends in logits."""
    standard = Standard.of(features_NC)
    recipe = fcnn_recipe(len(labels_N), seed, balance, least)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = fcnn(features_NC.shape[1], classes)
    assert recipe.loop.batch_size is not None
    batches = FeatureBatches(standard(features_NC), labels_N, keys_N, classes, recipe.loop.batch_size, seed)
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    # A step is so small that two threads wait for each other, far longer than it takes on a busy machine.
    with one_thread():
        for step in train(state, batches, recipe):
            if progress:
                progress("FCNN head", (step.epoch - 1) * step.steps + step.step, recipe.loop.epochs * step.steps)
    first = next(m for m in network.modules() if isinstance(m, nn.Linear))
    weight, bias = standard.undone(first.weight.detach(), first.bias.detach())
    first.load_state_dict({"weight": weight, "bias": bias})
    return network.eval()
