"""Dropout trains an ensemble of thinned networks, which the whole network stands for at test time.

Hinton et al. 2012 (arXiv:1207.0580); Srivastava et al. 2014, JMLR 15, section 7.5, compare so too.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ...datasets.dataset import Dataset
from ...images.preprocess import to_tensor
from ...machine import device_of
from ...models.taps import evaluating
from ..claim import Claim
from ..judging import Judgement, alike, greater, together
from ..plan import Measurements, Plan
from ..results import Results
from .overfitting import DROPOUT, overfitting_plan

SAMPLES = 30
BLOCK = 250  # images in a pass
MARGIN = 0.02


def plan(size: str) -> Plan:
    """A network with dropout, as the other claims on it train it."""
    return replace(overfitting_plan(size, DROPOUT), measure=measure)


def measure(network: nn.Module, data: Dataset, _plan: Dataset) -> Measurements:
    """Right or not on test images, bool (N,): "averaged" by the mean of 30 thinned networks, "thinned" by the first.

    Dropout layers are left on and all else is in evaluation mode; what is averaged are probabilities.
    """
    index = data.subset("test")
    labels = torch.from_numpy(data.labels[index])
    generator = torch.random.get_rng_state()
    averaged, thinned = [], []
    with evaluating(network), torch.no_grad():
        torch.manual_seed(0)
        for layer in network.modules():
            layer.training = isinstance(layer, nn.Dropout)
        for start in range(0, len(index), BLOCK):
            images = to_tensor(data.images[index[start : start + BLOCK]]).to(device_of(network))
            answers = _answers(network, data.preprocess.normalise(images))
            averaged.append(answers.mean(0).argmax(1))
            thinned.append(answers[0].argmax(1))
    torch.random.set_rng_state(generator)
    return {"averaged": torch.cat(averaged).cpu() == labels, "thinned": torch.cat(thinned).cpu() == labels}


def _answers(network: nn.Module, images_BCHW: Tensor) -> Tensor:
    """Probabilities (samples, B, K), each of another thinned network."""
    return torch.stack([torch.softmax(network(images_BCHW).float(), 1) for _ in range(SAMPLES)])


def judge(results: Results) -> Judgement:
    """The average against one thinned network, and against the whole network, whose outputs are scaled instead."""
    gained = results.accuracy_between({DROPOUT: 1.0}, "averaged", "thinned")
    whole = results.accuracy_between({DROPOUT: 1.0}, "averaged", "test")
    return together(
        [
            greater(f"test accuracy of {SAMPLES} averaged minus that of one", gained, least=0.01, unit="accuracy"),
            alike("test accuracy of the average minus that of the whole", whole, margin=MARGIN, unit="accuracy"),
        ]
    )


CLAIM = Claim(
    name="dropout-ensemble",
    sentence="it forces the procedure to learn an ensemble of bad networks",
    question="Is one network thinned by dropout worse than the average of 30, and is the whole network, scaled, as "
    "good as that average, within 2 points?",
    expected="holds: both",
    needs=("shapes",),
    minutes={"small": 2, "medium": 15, "large": 250},
    plans=plan,
    judge=judge,
)
