"""The options of a transfer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..feature_store.options import BackboneOptions
from ..options import Flag, Runs


@dataclass(frozen=True, kw_only=True)
class TransferOptions(BackboneOptions, Runs):
    """A transfer as it is asked for."""

    budget: float | None = None
    """Minutes for fine-tuning and training from scratch; without it only the cheap ways are tried."""
    fcnn: Literal["quick", "full", "none"] = "quick"
    """The small fully connected network: measured on one fold, full (on every fold, six times as long), or none."""
    quick: Flag = False
    """A first answer: k-NN and a head on recorded features only; what is left out is said."""
    balance: Flag = False
    """Weigh the classes so that rare ones count as much as frequent ones."""
    cards: Flag = False
    """Write the card of each class's most used filter too."""
    task: Literal["classification", "multi_label", "regression", "segmentation", "detection"] | None = None
    """What is asked of an image: told from the data unless you say so."""
    masks: Path | None = None
    """Segmentation: the folder of masks, or a COCO file, where it cannot be told from the data."""
    name: str | None = None
    """The run's name."""
    continue_from: str | None = None
    """An earlier transfer of fewer images: its split stays, and at the end both are compared on its test images."""
