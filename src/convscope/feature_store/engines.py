"""Engines: a network's features of uint8 images, by torch always and by onnxruntime where it is installed.

An image's features are the same bits in whatever batch it stands, which the tests hold for both engines. Between the
two they agree to TOLERANCE, which is checked each time onnxruntime's is made.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from ..cache import cache_folder
from ..classifying.classifier import Classifier
from ..errors import DamagedFile, UnknownName, UsageError
from ..exporting.formats import NEEDED, onnx_refusals, to_onnx
from ..images.preprocess import Preprocess, to_tensor
from ..models.architecture import weights_hash
from ..models.heads import head_place
from ..models.memory_format import laid_out
from ..models.pixel_network import FlatMaps, backbone_maps, load_backbone
from ..models.taps import Tap, observe, reach
from ..storage import commit_bytes

TOLERANCE = 1e-4  # of the largest value, between engines
WITHOUT = "--engine torch does without"
ENGINES = ("auto", "torch", "onnxruntime")
FeatureFunction = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FeatureRequest:
    """What is recorded of each image. ``layer`` None: what the last linear layer is given, a vector; with ``maps``
    the last feature map, (C, h, w). A layer's name: the mean of its map over places, or with ``maps`` the whole map.
    With ``strides`` the maps at these, in one row, as ``FlatMaps`` puts them."""

    layer: str | None = None
    maps: bool = False
    strides: tuple[int, ...] = ()

    def words(self) -> str:
        """In words, as a part of a key."""
        if self.strides:
            return f"maps at strides {' '.join(map(str, self.strides))}"
        return f"{self.layer or 'last'} {'maps' if self.maps else 'pooled'}"


@dataclass(frozen=True)
class Engine:
    """``run`` maps uint8 (B, S, S, 3) to float32 features (B, *shape) in one thread; ``gflop`` is of one image."""

    run: FeatureFunction
    shape: tuple[int, ...]
    gflop: float


def pick_engine(name: str, wanted: FeatureRequest, device: torch.device) -> str:
    """ "torch" or "onnxruntime"; "auto" is onnxruntime where it is installed and the features are the usual vector.

    Raises UnknownName or UsageError.
    """
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    usual = wanted == FeatureRequest() and device.type == "cpu"
    missing = [library for library in NEEDED if not importlib.util.find_spec(library)]
    if name == "onnxruntime" and not usual:
        raise UsageError("onnxruntime gives the pooled features on the CPU only: leave out --layer and --maps, or it.")
    if name == "onnxruntime" and missing:
        raise UsageError(f"{missing[0]} is not installed: pip install 'convscope[export]', or use --engine torch.")
    if name == "auto":
        return "onnxruntime" if usual and not missing else "torch"
    return name


def computing(engine: str) -> str:
    """What computes, of an engine that says where too: of "ray-torch" torch; of "ray" and "local" whatever is best."""
    where, _, what = engine.partition("-")
    return (what or "auto") if where in ("ray", "local") else engine


def body_hash(classifier: Classifier, wanted: FeatureRequest) -> str:
    """The hash of the weights that features depend on: a head that is left out is not among them."""
    return weights_hash(classifier.network, head_place(classifier.network)[0] if wanted.layer is None else None)


def engine_identity(name: str, wanted: FeatureRequest, device: torch.device) -> str:
    """Engine and version in words: features are bitwise reproducible within it. Raises as ``pick_engine`` does."""
    if pick_engine(name, wanted, device) == "torch":
        return f"torch {torch.__version__} {device.type} {torch.backends.cpu.get_cpu_capability()}"
    return f"onnxruntime {importlib.metadata.version('onnxruntime')} cpu"


def make_engine(name: str, classifier: Classifier, wanted: FeatureRequest, device: torch.device) -> Engine:
    """The engine for a classifier's network. Raises UnknownName("layer", ...) or UsageError."""
    torch_engine = _torch_engine(classifier, wanted, device)
    if pick_engine(name, wanted, device) == "torch":
        return torch_engine
    return _onnx_engine(classifier, torch_engine)


# ------------------------------------------------------------------------------------------------------- torch


def _torch_engine(classifier: Classifier, wanted: FeatureRequest, device: torch.device) -> Engine:
    network = deepcopy(classifier.network).cpu().eval().requires_grad_(False)
    size = classifier.preprocess.size
    if wanted.strides:
        network = flat_maps(classifier, wanted.strides).requires_grad_(False)
        fold(network, size)
    elif wanted.layer is None:
        place, _ = head_place(network)
        network.set_submodule(place, nn.Identity())
        fold(network, size)
    network = network.to(device)
    tap = None
    if wanted.layer is not None:
        tap = Tap(wanted.layer)
    elif wanted.maps:
        tap = Tap(last_map(network, size))

    own = threading.local()  # a copy a thread: hooks on a shared one would see the other threads' images

    def features(images_BCHW: torch.Tensor) -> torch.Tensor:
        if tap is None:
            return network(images_BCHW).flatten(1)
        if not hasattr(own, "network"):
            own.network = deepcopy(network)
        maps = reach(own.network, images_BCHW, [tap])[0]
        return maps if wanted.maps or maps.ndim < 4 else maps.mean((2, 3))

    def run(images_BHWC: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = classifier.preprocess.normalise(to_tensor(images_BHWC).to(device))
            return features(images).float().cpu().contiguous().numpy()

    blank = np.zeros((1, size, size, 3), np.uint8)
    with FlopCounterMode(display=False) as counter:
        shape = run(blank).shape[1:]
    return Engine(run, shape, counter.get_total_flops() / 1e9)


def flat_maps(classifier: Classifier, strides: tuple[int, ...]) -> FlatMaps:
    """A classifier's backbone, giving its maps at these strides in one row. UsageError where it has none."""
    body = backbone_maps(classifier.architecture.name, strides)
    load_backbone(body, classifier.network.state_dict())
    return FlatMaps(body).eval()


def last_map(network: nn.Module, size: int) -> str:
    """The module that outputs the last feature map: (B, C, h, w) with more than one place. UsageError where none."""
    found: list[str] = []

    def note(name: str, _module: nn.Module, _inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found.append(name)

    with torch.inference_mode(), observe(network, note, leaves_only=True):
        network(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    if not found:
        raise UsageError("the network has no feature map of more than one place: take larger images, or no --maps.")
    return found[-1]


def fold(network: nn.Module, size: int) -> int:
    """Fold each batch norm into the convolution that alone feeds it, in place; returns how many.

    A network whose answers are not the same afterwards, to TOLERANCE, is left as it was.
    """
    pairs = _conv_norm_pairs(network, size)
    before = deepcopy(network)
    for conv_name, norm_name in pairs:
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        network.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        network.set_submodule(norm_name, _after_norm(norm))
    network = laid_out(network, size)
    if pairs:
        images = torch.linspace(-2, 2, 2 * 3 * size * size).view(2, 3, size, size)
        images = images.roll(size // 3, 3).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            old, new = before(images), network(images)
        if not torch.isfinite(new).all() or (old - new).abs().max() > TOLERANCE * max(1.0, float(old.abs().max())):
            for name, module in before.named_children():
                setattr(network, name, module)
            return 0
    return len(pairs)


def _after_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """Tell what is left of a batch norm once it is folded: timm's carry a dropout and an activation with them."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    return nn.Sequential(*(m for m in (getattr(norm, "drop", None), getattr(norm, "act", None)) if m is not None))


def _conv_norm_pairs(network: nn.Module, size: int) -> list[tuple[str, str]]:
    """The names of convolutions and batch norms, each called once, of which the second is given the first's output."""
    outputs: dict[int, str] = {}
    kept: list[object] = []  # alive, so that no id is used again
    calls: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []

    def note(name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        calls[name] = calls.get(name, 0) + 1
        kept.append(output)
        if type(module) is nn.Conv2d:
            outputs[id(output)] = name
        folds = isinstance(module, nn.BatchNorm2d) and (type(module) is nn.BatchNorm2d or hasattr(module, "act"))
        if folds and id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])], name))

    with torch.inference_mode(), observe(network, note):
        network(torch.zeros(1, 3, size, size))
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]


# ------------------------------------------------------------------------------------------------- onnxruntime


def _onnx_engine(classifier: Classifier, plain: Engine) -> Engine:
    runtime = importlib.import_module("onnxruntime")
    preprocess = classifier.preprocess
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # the threads of the extraction call it, each with images of its own
    options.log_severity_level = 4  # what it says is in its error
    with onnx_refusals(WITHOUT):
        session = runtime.InferenceSession(_onnx_bytes(classifier), options, providers=["CPUExecutionProvider"])

    def run(images_BHWC: np.ndarray) -> np.ndarray:
        images = preprocess.normalise(to_tensor(images_BHWC)).contiguous().numpy()
        return session.run(None, {"images": images})[0]

    with onnx_refusals(WITHOUT):
        _check_equal(plain.run, run, preprocess)
    return Engine(run, plain.shape, plain.gflop)


def _onnx_bytes(classifier: Classifier) -> bytes:
    """The network without its last layer as ONNX, kept in the cache under what it depends on and its own hash."""
    versions = [importlib.import_module(m).__version__ for m in ("torch", "onnx", "onnxscript")]
    parts = [
        classifier.architecture.name,
        classifier.preprocess.size,
        body_hash(classifier, FeatureRequest()),
        versions,
    ]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    folder = cache_folder() / "engines"
    for path in folder.glob(f"{key}-*.onnx"):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:16] == path.stem.split("-")[1]:
            return data
    network = deepcopy(classifier.network).cpu().eval().requires_grad_(False)
    place, _ = head_place(network)
    network.set_submodule(place, nn.Identity())
    data = to_onnx(network, classifier.preprocess.size, "features", otherwise=WITHOUT)
    commit_bytes(Path(folder) / f"{key}-{hashlib.sha256(data).hexdigest()[:16]}.onnx", data)
    return data


def _check_equal(one: FeatureFunction, other: FeatureFunction, preprocess: Preprocess) -> None:
    """Compare two engines on generated images: DamagedFile where they differ by more than TOLERANCE."""
    size = preprocess.size
    ramp = np.arange(4 * size * size * 3, dtype=np.uint64).reshape(4, size, size, 3)
    noise = (ramp * 2654435761 >> 7) % 256
    images = (noise // np.array([1, 2, 4, 8], np.uint64)[:, None, None, None]).astype(np.uint8)
    a, b = one(images), other(images)
    difference, most = float(np.abs(a - b).max()), float(np.abs(a).max())
    if not difference <= TOLERANCE * max(1.0, most):
        raise DamagedFile(
            f"onnxruntime's features differ from torch's by {difference:.2g} (of {most:.2g}); use --engine torch."
        )
