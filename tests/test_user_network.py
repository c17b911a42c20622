"""A network from the user's own file: what it is given, and one sentence for whatever goes wrong there."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from convscope.errors import UnknownName, UsageError
from convscope.models.registry import build
from convscope.models.user_network import is_own, load_own, source_hash

NET = """
import sys
from dataclasses import dataclass
from torch import nn
import beside

@dataclass
class Sizes:
    hidden: "int" = beside.HIDDEN

network = nn.Linear(2, 2)

class Net(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(Sizes().hidden, num_classes)

def both(num_classes, image_size):
    return nn.Linear(3 * image_size**2, num_classes)

def one(num_classes, width=3):
    return nn.Linear(width, num_classes)

def anything(**options):
    return nn.Linear(options["image_size"], options["num_classes"])

def demanding(num_classes, width):
    return nn.Linear(width, num_classes)

def failing(num_classes):
    return nn.Linear(3,
        "many")

def leaving():
    sys.exit("enough")

def a_class():
    return nn.Linear

def a_number():
    return 3
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("HIDDEN = 5\n")
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.mark.parametrize(("function", "inputs"), [("both", 192), ("one", 3), ("anything", 8), ("Net", 5)])
def test_a_function_gets_the_arguments_it_takes(net: Path, function: str, inputs: int) -> None:
    path_before, modules_before = list(sys.path), set(sys.modules)
    network = load_own(f"{net}:{function}", num_classes=10, image_size=8)
    assert isinstance(network, nn.Linear)
    assert network.weight.shape == (10, inputs)
    assert sys.path == path_before
    new = {name for name in set(sys.modules) - modules_before if not name.startswith("torch")}
    assert all(name.startswith("_convscope_own_") for name in new - {"beside"}), "no name of ours is taken"


def test_an_edited_file_is_read_anew(net: Path) -> None:
    before = source_hash(f"{net}:one")
    assert before == hashlib.sha256(net.read_bytes()).hexdigest()
    net.write_text(NET.replace("width=3", "width=4"))
    assert load_own(f"{net}:one", 10, 8).in_features == 4
    assert source_hash(f"{net}:one") != before
    assert not [p for p in net.parent.glob("__pycache__/*") if p.name.startswith("net")]


def test_build_takes_it_by_name_and_seeds_it(net: Path) -> None:
    first, again, other = (build(f"{net}:one", 10, 8, {"width": None}, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    with pytest.raises(UsageError, match="has no option 'width'; it takes none"):
        build(f"{net}:one", 10, 8, {"width": 3})


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("demanding", "needs 'width', and is only given num_classes and image_size by name"),
        ("failing", r"raised TypeError: .*net\.py, line \d+"),
        ("leaving", r"raised SystemExit: enough \(.*net.py, line 34\)"),
        ("a_class", "returned the class Linear, and must return a torch.nn.Module"),
        ("a_number", "returned a int, and must return a torch.nn.Module"),
        ("network", "is a network already"),
    ],
)
def test_what_goes_wrong_is_one_sentence(net: Path, function: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        load_own(f"{net}:{function}", 10, 8)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_misspelt_function_offers_the_nearest(net: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'both'"):
        load_own(f"{net}:boht", 10, 8)


def test_the_last_line_of_the_users_own_file_is_named(net: Path) -> None:
    line = NET.splitlines().index("    return nn.Linear(3,") + 1
    with pytest.raises(UsageError, match=rf"net\.py, line {line}\)"):
        load_own(f"{net}:failing", 10, 8)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def make(:", r"raised SyntaxError: .*line 1\)"),
        ("import no_such_module_anywhere", r"raised ModuleNotFoundError: .*broken\.py, line 1\)"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        load_own(f"{path}:make", 10, 8)
    assert not [name for name in sys.modules if name.endswith(source_hash(f"{path}:make")[:16])]


@pytest.mark.parametrize("spec", ["nowhere.py:make", "nowhere.py:", "nowhere.py"])
def test_a_missing_file_or_function_name(tmp_path: Path, spec: str) -> None:
    with pytest.raises(UsageError, match=r"cannot read|not of the form module\.py:function"):
        source_hash(str(tmp_path / spec))


def test_only_a_file_and_a_function_are_the_users_own() -> None:
    assert is_own("folder/net.py:make")
    assert is_own("C:\\net.py:make")
    assert not is_own("alexnet")
    assert not is_own("net.py")
