"""The commands, by name, in the order that the help lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..diagnosis.cli import diagnose
from ..evaluation.cli import adopt, evaluate, predict
from ..explanation.cli import explain, localize
from ..exporting.cli import export
from ..feature_store.cli import features, similar
from ..inspection.cli import doctor
from ..models.cli import models
from ..page.cli import serve
from ..studies.cli import study
from ..training.cli import train
from ..transfer_learning.cli import transfer
from .comparing import compare
from .demo import demo
from .reporting import report

COMMANDS: dict[str, Callable[..., Any]] = {
    "doctor": doctor,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "localize": localize,
    "diagnose": diagnose,
    "features": features,
    "transfer": transfer,
    "study": study,
    "similar": similar,
    "compare": compare,
    "adopt": adopt,
    "report": report,
    "serve": serve,
    "export": export,
    "models": models,
    "demo": demo,
}
