"""The options of a training. All but the last group are fields of a recipe; None leaves them to the recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..options import ArchitectureOptions, Device, Fitting, Flag, Places, ProgressOption
from ..recipes import Recipe

Size = Literal["small", "medium", "large"]
Switch = Annotated[bool | None, Parameter(negative=())]  # on, or as the recipe says


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(ArchitectureOptions):
    """Which network."""

    model: str | None = None
    """A name of `convscope models`, torchvision or timm, or module.py:function for your own (which runs that code)."""
    weights: Path | None = None
    """A safetensors file to start from."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """The optimizer and its learning rate."""

    lr: float | Literal["auto"] | None = None
    """The highest learning rate of the schedule; auto: found by a range test first."""
    optimizer: str | None = None
    """sgd (with Nesterov momentum), adamw, or muon."""
    momentum: float | None = None
    """Of SGD and Muon; beta1 of AdamW."""
    weight_decay: float | None = None
    """On filters and matrices, not on norms and biases."""
    schedule: str | None = None
    """one-cycle, cosine or constant."""
    warmup: float | None = None
    """The share of the run in which the rate climbs."""
    label_smoothing: float | None = None
    """The share of each label spread over all classes."""
    clip: float | None = None
    """The largest norm of a gradient; 0 for no limit."""


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Variation of training images and labels."""

    augment: str | None = None
    """none, light, standard or strong."""
    amounts: Annotated[Mapping[str, float] | None, Parameter(parse=False)] = None
    """Amounts of single operations beside the level: {"rotate": 5}; see docs/augmentation.md."""
    flip: str | None = None
    """none, random or alternating, instead of the level's own: none where a mirror image means something else."""
    mixup: float | None = None
    """Alpha of mixup: each image is mixed with another one; 0 for none."""
    cutmix: float | None = None
    """Alpha of cutmix: a rectangle of another image is put in; 0 for none."""
    balance: Switch = None
    """Weigh the classes so that rare ones count as much as frequent ones."""


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Epochs, batches and arithmetic."""

    fold: str | None = None
    """Validate on one of so many folds of the training and validation images, such as 2/5, and train on the others."""
    stream: Switch = None
    """Decode images anew each epoch instead of packing them first: where their pixels would not fit the disk."""
    epochs: int | None = None
    """Passes over the training images."""
    batch_size: int | None = None
    """Images an update; 128 (muon: 512) when nothing is said, or fewer so that an epoch has 20 updates."""
    patience: int | None = None
    """Stop after so many epochs without a better validation accuracy."""
    ema: float | None = None
    """Decay of averaged weights, which are then validated and kept: 0.99 to 0.9999; 0 for none."""
    save_memory: Switch = None
    """Compute activations again in the backward pass instead of keeping them."""
    seed: int | None = None
    """Of initialisation, order, augmentation and dropout."""
    precision: str | None = None
    """auto, float32 or bfloat16."""
    convolution: str | None = None
    """auto, direct or winograd: fewer multiplications in float32 on a CPU, where that is faster."""
    compile: Switch = None
    """Compile the network (on CPUs it has not paid so far: see docs/log.md)."""
    accumulate: int | None = None
    """Compute each batch in so many parts, one after the other, and make one update by all: in less memory."""
    sync_batch_norm: Switch = None
    """Where processes share a batch: normalise by all of it, as one process does, and not each by its own share."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(
    LoopOptions, NetworkOptions, OptimizerOptions, AugmentOptions, Fitting, Device, Places, ProgressOption
):
    """A training as it is asked for."""

    recipe: str | None = None
    """A named recipe to start from; options given beside it win. See docs/recipes.md."""
    size: Size | None = None
    """small, medium or large: speednet's width, epochs and rate together, instead of --recipe."""
    minutes: float | None = None
    """Minutes to train: settles the epochs by the speed measured here, and the size where no model is named."""
    memory: float | None = None
    """GB that a training step may take: --save-memory where it is needed, and a plain no where that is not enough."""
    seeds: int | None = None
    """Train so many times, with seeds from --seed (0) on, and tell the mean and the spread."""
    folds: int | None = None
    """Train so many times, each validated on another fold, so that every image but the test images is asked once."""
    processes: int | None = None
    """Train in so many processes of this machine, which share each batch; torchrun starts them by itself."""
    watch: Flag = False
    """Look inside the network every 10th step: outputs of layers, gradients, updates, for `convscope diagnose`."""
    keep_epochs: int | None = None
    """Keep the network after every so many epochs, and as it began, to be looked at and gone on from."""
    name: str | None = None
    """The run's name; with --resume, the run to go on with (default: the last)."""
    continue_from: str | None = None
    """A run to go on from with more images: network, preprocess and split stay; at the end both are compared."""
    from_epoch: int | None = None
    """With --continue-from: the run as it was after this epoch, if that is kept, instead of its best."""
    resume: Flag = False
    """Go on with a run that was stopped, bit for bit."""

    def of_recipe(self) -> dict[str, Any]:
        """Those that were given and are fields of a recipe, by their flat names."""
        known = Recipe().flat().keys() & {field.name for field in fields(self)}
        given = {name: getattr(self, name) for name in known if getattr(self, name) is not None}
        table = self.reading()["renamed"]
        return given | dict(self.amounts or {}) | ({} if table is None else {"renamed": table})
