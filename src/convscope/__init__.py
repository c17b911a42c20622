"""convscope: train convolutional image classifiers, see how good they are and what each filter learned.

The names below are the public ones; everything else may change. They are imported when first used, so that
``import convscope`` and the command line's help need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

_HOMES = {
    "AUGMENTS": "recipes",
    "Classifier": "classifier",
    "ConvscopeError": "errors",
    "DATASETS": "datasets",
    "Dataset": "datasets",
    "EvaluationReport": "report",
    "ExportReport": "commands",
    "FeaturesReport": "commands",
    "MODELS": "models",
    "ExplainReport": "explained",
    "Prediction": "prediction",
    "Preprocess": "images",
    "RECIPES": "recipes",
    "Recipe": "recipes",
    "SimilarReport": "transferred",
    "StudyReport": "studied",
    "TrainReport": "report",
    "TrainRequest": "preparing",
    "TransferReport": "transferred",
    "DiagnoseReport": "diagnosed",
    "diagnose": "commands",
    "evaluate": "commands",
    "explain": "commands",
    "explain_image": "commands",
    "export": "commands",
    "features": "commands",
    "load_dataset": "commands",
    "model_table": "commands",
    "open_classifier": "commands",
    "predict": "commands",
    "prepare_training": "preparing",
    "save_example": "commands",
    "similar": "commands",
    "study": "commands",
    "train": "commands",
    "transfer": "commands",
    "watching": "watch",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from .classifier import Classifier as Classifier
    from .commands import ExportReport as ExportReport
    from .commands import FeaturesReport as FeaturesReport
    from .commands import diagnose as diagnose
    from .commands import evaluate as evaluate
    from .commands import explain as explain
    from .commands import explain_image as explain_image
    from .commands import export as export
    from .commands import features as features
    from .commands import load_dataset as load_dataset
    from .commands import model_table as model_table
    from .commands import open_classifier as open_classifier
    from .commands import predict as predict
    from .commands import save_example as save_example
    from .commands import similar as similar
    from .commands import study as study
    from .commands import train as train
    from .commands import transfer as transfer
    from .datasets import DATASETS as DATASETS
    from .datasets import Dataset as Dataset
    from .diagnosed import DiagnoseReport as DiagnoseReport
    from .errors import ConvscopeError as ConvscopeError
    from .explained import ExplainReport as ExplainReport
    from .images import Preprocess as Preprocess
    from .models import MODELS as MODELS
    from .prediction import Prediction as Prediction
    from .preparing import TrainRequest as TrainRequest
    from .preparing import prepare_training as prepare_training
    from .recipes import AUGMENTS as AUGMENTS
    from .recipes import RECIPES as RECIPES
    from .recipes import Recipe as Recipe
    from .report import EvaluationReport as EvaluationReport
    from .report import TrainReport as TrainReport
    from .studied import StudyReport as StudyReport
    from .transferred import SimilarReport as SimilarReport
    from .transferred import TransferReport as TransferReport
    from .watch import watching as watching


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convscope' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
