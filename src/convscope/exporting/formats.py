"""Export: a classifier as one file that predicts the same elsewhere, with a parity seal that shows it does.

The seal is the logits of 16 generated images. It is compared when a file is written, each time one is loaded, and by
the plain script that is written beside an ONNX file, which needs NumPy, Pillow and onnxruntime and nothing of ours.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.classifier import CLASSES, Classifier
from ..classifying.seal import allowed_difference, check_seal, seal_images, sealed_logits, sealed_part
from ..errors import ConvscopeError, UnknownName, UsageError
from ..models.box_network import scored_boxes
from ..models.taps import evaluating
from ..models.user_network import is_own
from ..storage import FORMAT, check_free, commit_bytes, commit_text, sha256, to_json
from . import predict_onnx

NEEDED = ("onnx", "onnxscript", "onnxruntime")
KEPT = "export --format safetensors keeps it"  # what to do about a network that ONNX cannot take
SCRIPT = Path(predict_onnx.__file__)  # what is written beside an ONNX file


@dataclass(frozen=True)
class Exported:
    """What was written: its files, and how far its logits are from the network's own on the sealed images."""

    format: str
    files: tuple[Path, ...]
    max_difference: float
    tolerance: float

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(path.stat().st_size for path in self.files)


def export_classifier(classifier: Classifier, folder: Path, name: str, format: str) -> Exported:
    """Write a classifier in a format of EXPORTS as ``folder/name.*``; nothing is written that does not agree.

    Raises UnknownName, UsageError where libraries are missing, ConvscopeError where the logits differ, StorageError.
    """
    if format not in EXPORTS:
        raise UnknownName("export format", format, EXPORTS)
    tensors = classifier.network.state_dict().values()
    check_free(folder, sum(t.numel() * t.element_size() for t in tensors), "the export")
    return EXPORTS[format](classifier, folder, name)


# ------------------------------------------------------------------------------------------------------- formats


def _safetensors(classifier: Classifier, folder: Path, name: str) -> Exported:
    path = folder / f"{name}.safetensors"
    wanted = sealed_logits(classifier)
    sealed = replace(classifier, provenance={**classifier.provenance, "seal": {"logits": wanted.tolist()}})
    sealed.save(path)
    difference = check_seal(replace(sealed, network=Classifier.load(path, classifier.architecture.name).network))
    assert difference is not None
    return Exported("safetensors", (path, path.with_suffix(".json")), difference, allowed_difference(wanted))


def _onnx(classifier: Classifier, folder: Path, name: str) -> Exported:
    wanted = sealed_logits(classifier)
    with onnx_refusals():
        whole = _Whole(classifier)
    size = classifier.preprocess.size
    model = to_onnx(whole, size, "boxes" if whole.boxes else "logits", pixels=True)
    data = _with_description(model, _description(classifier, wanted))
    difference = float(np.abs(sealed_part(_run(data, seal_images(size)), size) - wanted).max())
    if not difference <= allowed_difference(wanted):
        raise ConvscopeError(
            f"{name} is not written: as ONNX its logits differ by {difference:.2g}, "
            f"and {allowed_difference(wanted):.2g} are allowed."
        )
    files = (folder / f"{name}.onnx", folder / f"{name}.predict.py")
    commit_bytes(files[0], data)
    commit_text(files[1], _script())
    return Exported("onnx", files, difference, allowed_difference(wanted))


def _script() -> str:
    return SCRIPT.read_text(encoding="utf-8")


# Each takes (classifier, folder, name).
EXPORTS: dict[str, Callable[[Classifier, Path, str], Exported]] = {"onnx": _onnx, "safetensors": _safetensors}


class _Whole(nn.Module):
    """A network with its normalisation before it: uint8 (B, S, S, 3) to logits, or to ``scored_boxes``."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = deepcopy(classifier.network).cpu().eval().requires_grad_(False)
        self.preprocess = classifier.preprocess
        self.boxes = classifier.task == "detection"

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.network(self.preprocess.normalise(images.permute(0, 3, 1, 2)))
        return scored_boxes(outputs) if self.boxes else outputs


def _description(classifier: Classifier, wanted: np.ndarray) -> dict[str, Any]:
    provenance, name = classifier.provenance, classifier.architecture.name
    told = ("run", "val_top1", "val_n", "licence", "pretrained")
    return {
        "format": FORMAT,
        "classes": list(classifier.class_names),
        "preprocess": classifier.preprocess.to_dict(),
        "architecture": Path(name).name if is_own(name) else name,  # not the folder it lies in on this machine
        "provenance": {k: provenance[k] for k in told if k in provenance},
        "seal": {"logits": wanted.tolist(), "tolerance": allowed_difference(wanted)},
        "script": sha256(_script().encode()),
        **({} if classifier.task == CLASSES else {"task": classifier.task, "settings": classifier.settings}),
    }


def to_onnx(
    network: nn.Module, image_size: int, output: str = "logits", pixels: bool = False, otherwise: str = KEPT
) -> bytes:
    """A module that maps float32 (N, 3, S, S), or with ``pixels`` uint8 (N, S, S, 3), to one tensor, as ONNX.

    The input is called ``images`` and its batch is free. UsageError where the libraries of the extra are missing, and
    where a network cannot be written, with ``otherwise`` as the way out.
    """
    for name in NEEDED:
        _check_importable(name)
    images = torch.zeros(2, 3, image_size, image_size)
    if pixels:
        images = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with evaluating(network), onnx_refusals(otherwise), _quiet(), _written_as_maxima(network):
        program = torch.onnx.export(
            network, (images,), dynamo=True, verbose=False, input_names=["images"], output_names=[output],
            dynamic_shapes=({0: "batch"},),
        )  # fmt: skip
        assert program is not None  # dynamo gives one
        model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in whose source it was traced: paths of this machine
    return model.SerializeToString()


class _Maximum(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.amax((-2, -1), keepdim=True)


@contextlib.contextmanager
def _written_as_maxima(network: nn.Module) -> Iterator[None]:
    """A with-block in which pools over whole maps are plain maxima: torch 2.10 and 2.11 write no ONNX for the pools."""
    pools = [
        (whole, name, part)
        for whole in network.modules()
        for name, part in whole.named_children()
        if isinstance(part, nn.AdaptiveMaxPool2d) and part.output_size in (1, (1, 1)) and not part.return_indices
    ]
    try:
        for whole, name, _ in pools:
            setattr(whole, name, _Maximum())
        yield
    finally:
        for whole, name, part in pools:
            setattr(whole, name, part)


def _check_importable(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise _lacking(error) from error


def _lacking(error: ImportError) -> UsageError:
    """Say which library is missing, or which one that is there cannot be imported, and how to get it."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return UsageError(f"ONNX needs {error.name}, which is not installed: pip install 'convscope[export]'.")
    reason = " ".join(str(error).split()).rstrip(".")[:200]
    return UsageError(f"ONNX needs a library that cannot be imported ({reason}): pip install -U 'convscope[export]'.")


@contextlib.contextmanager
def onnx_refusals(otherwise: str = KEPT) -> Iterator[None]:
    """A with-block in which what torch or onnxruntime cannot take is a UsageError with the reason, and a way out."""
    try:
        yield
    except (ConvscopeError, MemoryError):
        raise
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:  # the exporter wraps what happened, and says only that something did
            first = first.__cause__
        if isinstance(first, ImportError):
            raise _lacking(first) from error
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(first))
        reason = next((line.strip() for line in plain.splitlines() if line.strip()), type(first).__name__)
        raise UsageError(f"this network cannot be written as ONNX: {reason.rstrip('.')[:300]}. {otherwise}.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A with-block without what torch's exporter, and the network itself, print, log and warn of: its reason is told.

    Of a failure that would be pages, and on standard output it would stand in the middle of JSON.
    """
    before, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _with_description(data: bytes, description: dict[str, Any]) -> bytes:
    onnx = importlib.import_module("onnx")
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, {"convscope": to_json(description), "convscope_sha256": predict_onnx.UNSEALED})
    unsealed = model.SerializeToString()
    seal = sha256(unsealed)  # of the whole file, with zeros in its own place
    return unsealed.replace(predict_onnx.UNSEALED.encode(), seal.encode())


def _run(data: bytes, images: np.ndarray) -> np.ndarray:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    with onnx_refusals():
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images})[0].astype(np.float64)
