"""The options of export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..options import OwnCode, PretrainedWeights, Runs

Format = Literal["onnx", "safetensors"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions(OwnCode, PretrainedWeights, Runs):
    """An export as it is asked for."""

    format: Format = "onnx"
    """onnx (with a plain script that predicts), or safetensors."""
    output: Path | None = None
    """The folder to write into (default: export in the run)."""
