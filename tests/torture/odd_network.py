"""No connection unless one is asked for: every command in a process without a network, which notes each try."""

from __future__ import annotations

import shutil

from torture.odd_child import Ended
from torture.odd_ground import COMMANDS, Ground, sentence_wrong

# What is asked about, for the commands that take it: no part of a line below needs another machine.
SILENT = {
    **COMMANDS,
    "doctor of a table": "doctor table.csv",
    "doctor of built-in data": "doctor digits --no-labels --limit 60",
    "train on shapes": "train shapes --limit 60 --name s --width 4 --epochs 1 --image-size 16",
    "train and choose a rate": "train images --name a --lr auto --width 4 --image-size 16 --epochs 1",
    "go on": "train images --name half --resume",
    "watch": "train images --name w --watch --width 4 --image-size 16 --epochs 1",
    "predict by lite0": "predict pretrained:lite0 images/test/checks/0.png",
    "export of lite0": "export pretrained:lite0 --format safetensors --output out",
    "export as ONNX": "export r",
    "report as a site": "report r --site site",
    "page of runs": "serve --get /",
    "page of filters": "serve --get /runs/r/network",
    "models of timm": "models timm:resnet18",
    "models of torchvision": "models torchvision:resnet18",
    "pretrained networks": "models --pretrained",
    "study, listed": "study --list",
    "evaluate others": "evaluate r images/test",
    "explain an image": "explain r --image images/test/checks/0.png",
    "help": "--help",
    "version": "--version",
    "transfer, all of it": "transfer images --name t --image-size 64 --engine torch --budget 5",
    "diagnose a model": "diagnose resnet20 images",
}
CIFAR, HUB, WEIGHTS = "CIFAR-10 is not on this machine", "cannot be fetched", "are not on this machine"
ASKING = {
    "train cifar10": ("train cifar10 --epochs 1", CIFAR),
    "doctor cifar10": ("doctor cifar10", CIFAR),
    "features cifar10": ("features cifar10", CIFAR),
    "transfer cifar10": ("transfer cifar10", CIFAR),
    "evaluate on cifar10": ("evaluate r cifar10", CIFAR),
    "explain on cifar10": ("explain r cifar10", CIFAR),
    "localize on cifar10": ("localize r cifar10", CIFAR),
    "similar in cifar10": ("similar r images/test/checks/0.png cifar10", CIFAR),
    "train hf:NAME": ("train hf:someone/something --epochs 1", HUB),
    "doctor hf:NAME": ("doctor hf:someone/something", HUB),
    "features hf:NAME": ("features hf:someone/something", HUB),
    "features by resnet18": ("features images --backbone resnet18 --engine torch", WEIGHTS),
    "transfer by resnet50": ("transfer images --backbone resnet50", WEIGHTS),
    "predict by resnet18": ("predict pretrained:resnet18 images/test/checks/0.png", WEIGHTS),
    "evaluate resnet18": ("evaluate pretrained:resnet18 images", WEIGHTS),
    "export of convnext": ("export pretrained:convnext_tiny.fb_in22k_ft_in1k", WEIGHTS),
    "explain resnet34": ("explain pretrained:resnet34 images", WEIGHTS),
}
LONGEST = 20.0  # seconds until it is said that nothing can be reached


def silent(ground: Ground, name: str) -> str:
    """What is wrong after a command that is to ask no other machine."""
    if "explain" in name:
        ground.compile()
    folder = ground.copy(SILENT[name])
    ended = ground.machine.one(folder, SILENT[name].split(), no_network=None, hub_cache="hub")
    shutil.rmtree(folder)
    if ended.code:
        return f"exit code {ended.code} without a network: {ended.err.strip()[-300:]}"
    return _tries(ended)


def _tries(ended: Ended) -> str:
    told = ended.told["no network"]
    if told["tries"]:
        return f"it tried to connect: {told['tries'][0]}"
    return f"{told['unrouted']} connections of a C library were tried" if told["unrouted"] else ""


def asking(ground: Ground, name: str) -> str:
    """What is wrong after a command that asks for a download where there is no network."""
    line, words = ASKING[name]
    folder = ground.copy()
    ended = ground.machine.one(folder, line.split(), no_network=None, hub_cache="hub")
    shutil.rmtree(folder)
    wrong = sentence_wrong(ended, {69})
    if wrong:
        return wrong
    if not ended.told["no network"]["tries"]:
        return "it did not try to connect"
    if words not in ended.err:
        return f"it does not say {words!r}: {ended.err.strip()[-200:]}"
    return f"it took {ended.seconds:.0f} s to say so" if ended.seconds > LONGEST else ""
