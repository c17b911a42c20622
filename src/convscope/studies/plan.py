"""The plan of a claim: arms, images and measures. Records only; nothing is trained here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..datasets.dataset import Dataset
WIDTHS = {"small": 8, "medium": 32, "large": 64}  # filters of a network's first layer; the lecture's have 64

Builder = Callable[..., "torch.nn.Module"]  # (classes, image size, options by name) -> fresh weights
Change = Callable[["Dataset", int], "Dataset"]  # (the plan's data, seed) -> the arm's data
Measurements = dict[str, "torch.Tensor"]
Measure = Callable[["torch.nn.Module", "Dataset", "Dataset"], Measurements]  # (network, the arm's data, the plan's)
Fit = Callable[["Dataset", int], "Fitted"]  # (the arm's data, seed) -> what answers


@dataclass(frozen=True)
class Fitted:
    """A classifier that was not trained by steps: ``answer(index)`` gives logits (M, K) of the data's images."""

    answer: Callable[[np.ndarray], torch.Tensor]
    parameters: int


@dataclass(frozen=True)
class StudyData:
    """The images of a plan: a dataset's name, pixels a side, and how many train, validate and test (None: all).

    Of digits and shapes those that neither train nor validate are the test; shapes makes as many as are asked for.
    """

    data: str = "shapes"
    image_size: int = 32
    train: int | None = None
    val: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Arm:
    """One way to train: equal to another arm of its plan in all but one thing.

    ``model`` is a name of MODELS, with ``options``, or a function of the claim's file; ``recipe`` are options of
    ``Recipe.with_options``. ``rates`` None are the plan's; ``change`` is done to the images. An arm with ``fit`` is
    not trained by steps: the function returns what answers.
    """

    name: str
    model: str | Builder = "alexnet"
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None
    rates: tuple[float, ...] | None = None
    fit: Fit | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the arm as plain values; functions by name."""
        return {
            "model": self.model if isinstance(self.model, str) else words_of(self.model),
            "options": dict(self.options),
            "recipe": dict(self.recipe),
            "change": words_of(self.change),
            "rates": None if self.rates is None else list(self.rates),
            "fit": words_of(self.fit),
        }


@dataclass(frozen=True)
class Plan:
    """The trainings of a claim: arms, the seeds that are judged, updates, and what is measured of each trained network.

    ``rates`` are those that every arm chooses from, on validation, with the ``trial_seeds``, none of which is judged.
    The choice costs ``trial_share`` of the updates for each rate and seed. ``recipe`` are options that all arms share;
    ``precision`` is that of a recipe's loop, "auto" what the machine is fastest in. ``by_place`` says what a measured
    vector is, and from where to where it goes.
    """

    data: StudyData
    arms: tuple[Arm, ...]
    steps: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    batch_size: int = 32
    recipe: Mapping[str, Any] = field(default_factory=dict)
    measure: Measure | None = None
    measure_start: bool = False
    trial_share: float = 0.5
    trial_seeds: tuple[int, ...] = (0, 101, 102)
    precision: str = "float32"
    by_place: tuple[str, str] = ("", "")

    def tiny(self) -> Plan:
        """The same arms with two updates, one seed and one rate: to see that a plan runs."""
        arms = tuple(replace(arm, rates=None if arm.rates is None else arm.rates[:1]) for arm in self.arms)
        images = replace(self.data, train=60, val=20, test=40)
        return replace(
            self, data=images, arms=arms, steps=2, rates=self.rates[:1], seeds=(1,), batch_size=8, trial_seeds=(0,)
        )


def on_cifar(  # noqa: PLR0913 - each is a field of the plan, set by name
    size: str,
    arms: tuple[Arm, ...],
    rates: tuple[float, ...],
    *,
    updates: tuple[int, int] = (1_000, 8_000),
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5),
    train: int | None = None,
    **options: Any,
) -> Plan:
    """The plan of size medium or large, on CIFAR-10, in the machine's fastest arithmetic.

    Medium takes the first number of ``updates`` at batch 64 and trains on ``train`` images, or all; large the second
    at batch 128, on all, with three of the ``seeds``. ``options`` are other fields of the plan.
    """
    if size == "medium":
        images, batch_size, steps = StudyData("cifar10", 32, train=train, val=1_000), 64, updates[0]
    else:
        images, batch_size, steps, seeds = StudyData("cifar10", 32), 128, updates[1], seeds[:3]
    return Plan(images, arms, steps, rates, seeds, batch_size, precision="auto", trial_share=0.3, **options)


def words_of(function: Any) -> str | None:
    """The name of a function, and what is bound to it; None for none."""
    if function is None:
        return None
    if isinstance(function, functools.partial):
        bound = [*map(repr, function.args), *(f"{k}={v!r}" for k, v in function.keywords.items())]
        return f"{words_of(function.func)}({', '.join(bound)})"
    return f"{function.__module__.removeprefix('convscope.')}.{function.__qualname__}"
