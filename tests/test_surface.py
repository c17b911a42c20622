"""The public names, frozen: adding, renaming or removing one is a decision, and it is taken here."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import convscope

PUBLIC = [
    "__version__",
    "AUGMENTS",
    "AdoptReport",
    "CompareReport",
    "Classifier",
    "ConvscopeError",
    "DATASETS",
    "Dataset",
    "DiagnoseReport",
    "EvaluationReport",
    "ExplainReport",
    "ExportReport",
    "FeaturesReport",
    "MODELS",
    "Prediction",
    "Preprocess",
    "RECIPES",
    "Recipe",
    "DoctorReport",
    "PageReport",
    "SimilarReport",
    "StudyReport",
    "Labels",
    "Box",
    "BoxAnswer",
    "Mask",
    "Number",
    "TaskEvaluationReport",
    "TaskReport",
    "TrainReport",
    "TransferReport",
    "adopt",
    "report",
    "compare",
    "compare_hand_ins",
    "HandInReport",
    "diagnose",
    "doctor",
    "evaluate",
    "explain",
    "explain_image",
    "export",
    "features",
    "keras_callback",
    "lightning_callback",
    "load_dataset",
    "localize",
    "LocalizeReport",
    "model_table",
    "open_classifier",
    "predict",
    "prepare_training",
    "save_example",
    "similar",
    "study",
    "train",
    "train_repeatedly",
    "RepeatedReport",
    "trainer_callback",
    "transfer",
    "watching",
    "write_site",
]


def test_the_public_names_are_these():
    assert sorted(convscope.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_resolves(name: str):
    # Not to a module: `convscope.predict` would be the function or the module, whichever was imported first.
    assert not isinstance(getattr(convscope, name), ModuleType)


def test_commands_begin_without_what_is_slow_to_import():
    # Before it knows what it is asked, a command takes no second for what it may not need.
    commands = "train evaluate predict explain diagnose transfer doctor compare report export adopt study localize"
    slow = {"torchvision", "timm", "sklearn", "pandas", "scipy.stats", "scipy.optimize", "torch._dynamo", "sympy"}
    code = f"import sys, convscope; [getattr(convscope, name) for name in {commands.split()}]; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "torch" in answer.stdout.split()
    assert slow.intersection(answer.stdout.split()) == set()


def test_importing_convscope_does_not_import_torch():
    # Torch takes seconds; `convscope --help` answers in half of one.
    code = "import sys, convscope; print(*sys.modules.keys() & {'torch', 'numpy', 'matplotlib', 'sklearn'})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.split() == []
