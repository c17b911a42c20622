"""Networks of people's own, tried for one step before a run is made, and outputs that are no logits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convscope import cli
from convscope.diagnosis.verdict import RULES
from convscope.models.registry import MODELS, build
from convscope.models.trial import output_fault

NETS = """
import torch
import torch.nn.functional as F
from torch import nn

class Base(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.c, self.f = nn.Conv2d(3, 8, 3), nn.Linear(8, k)
    def forward(self, x):
        return self.f(F.relu(self.c(x)).mean((2, 3)))

class Aux(Base):
    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y

class Named(Base):
    def forward(self, x):
        y = super().forward(x)
        return {"out": y} if self.training else y

class Wide(Base):
    def forward(self, x):
        y = super().forward(x)
        return torch.cat([y, y], 1) if self.training else y

class Classes(Base):
    def forward(self, x):
        y = super().forward(x)
        return y.argmax(1, keepdim=True).expand(-1, y.shape[1]) if self.training else y

class Detached(Base):
    def forward(self, x):
        return super().forward(x).detach()

class NoGrad(Base):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)

class Raises(Base):
    def forward(self, x):
        if self.training:
            raise ValueError("not\\nin training")
        return super().forward(x)

class Numpy(Base):
    def forward(self, x):
        return torch.from_numpy(super().forward(x).numpy()) if self.training else super().forward(x)

class Half(Base):
    def forward(self, x):
        return super().forward(x.half()) if self.training else super().forward(x)

class Fourier(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.w, self.f = nn.Parameter(torch.randn(8, 3, dtype=torch.complex64)), nn.Linear(8, k)
    def forward(self, x):
        y = torch.einsum("oc,bchw->bohw", self.w, torch.fft.fft2(x))
        return self.f(torch.fft.ifft2(y).abs().mean((2, 3)))

class Norm1(Base):
    def __init__(self, k):
        super().__init__(k)
        self.n = nn.BatchNorm1d(8)
    def forward(self, x):
        return self.f(self.n(self.c(x).mean((2, 3))))

class Empty(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))[:, :2]

def aux(num_classes): return Aux(num_classes)
def named(num_classes): return Named(num_classes)
def wide(num_classes): return Wide(num_classes)
def classes(num_classes): return Classes(num_classes)
def detached(num_classes): return Detached(num_classes)
def nograd(num_classes): return NoGrad(num_classes)
def raises(num_classes): return Raises(num_classes)
def numpy(num_classes): return Numpy(num_classes)
def half(num_classes): return Half(num_classes)
def fourier(num_classes): return Fourier(num_classes)
def norm1(num_classes): return Norm1(num_classes)
def empty(num_classes): return Empty()
def frozen(num_classes): return Base(num_classes).requires_grad_(False)

class Lazy(Base):
    def __init__(self, k):
        super().__init__(k)
        self.f = nn.LazyLinear(k)

class LazyAll(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.net = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(k))
    def forward(self, x):
        return self.net(x)

class Cube(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.c, self.f = nn.Conv3d(1, 4, 3, padding=1), nn.Linear(12, k)
    def forward(self, x):
        return self.f(F.relu(self.c(x[:, None])).mean((3, 4)).flatten(1))

class View(Base):
    def __init__(self, k):
        super().__init__(k)
        self.f = nn.Linear(8 * 14 * 14, k)
    def forward(self, x):
        return self.f(self.c(x).view(-1, 8 * 14 * 14))

class ViewFirst(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.f = nn.Linear(3 * 16 * 16, k)
    def forward(self, x):
        return self.f(x.view(x.shape[0], -1))

class Strided(Base):
    def forward(self, x):
        y = self.c(x)
        return self.f(torch.as_strided(y, (y.shape[0], 8), (y.shape[1] * 14 * 14, 14 * 14)).contiguous().view(-1, 8))

class Part(Base):
    def __init__(self, k):
        super().__init__(k)
        self.c.requires_grad_(False)

class Signal(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.c, self.f = nn.Conv1d(3, 4, 5), nn.Linear(4, k)
    def forward(self, x):
        return self.f(F.relu(self.c(x.flatten(2))).mean(2))

class Recurrent(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.r, self.f = nn.GRU(48, 8, batch_first=True), nn.Linear(8, k)
    def forward(self, x):
        return self.f(self.r(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])

class Attention(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.a, self.f = nn.TransformerEncoderLayer(48, 4, 32, batch_first=True), nn.Linear(48, k)
    def forward(self, x):
        return self.f(self.a(x.permute(0, 2, 1, 3).flatten(2)).mean(1))

class Tied(Base):
    def __init__(self, k):
        super().__init__(k)
        self.d = self.c

def lazy(num_classes): return Lazy(num_classes)
def lazy_all(num_classes): return LazyAll(num_classes)
def cube(num_classes): return Cube(num_classes)
def view(num_classes): return View(num_classes)
def view_first(num_classes): return ViewFirst(num_classes)
def strided(num_classes): return Strided(num_classes)
def part(num_classes): return Part(num_classes)
def signal(num_classes): return Signal(num_classes)
def recurrent(num_classes): return Recurrent(num_classes)
def attention(num_classes): return Attention(num_classes)
def tied(num_classes): return Tied(num_classes)
"""
REFUSED = {
    "aux": "outputs a tuple while it trains",
    "named": "outputs a dict while it trains",
    "wide": r"outputs (2, 4) while it trains, and must output (2, 2)",
    "classes": "outputs torch.int64 while it trains",
    "detached": "no gradient reaches",
    "nograd": "no gradient reaches",
    "raises": "cannot be trained: not in training",
    "numpy": "cannot be trained",
    "half": "cannot be trained",
    "fourier": "has complex weights (w)",
    "norm1": "use a --batch-size of 3 or more",
    "empty": "has nothing to train: it has no weights",
    "frozen": "has nothing to train: all its weights are frozen",
}
TRAINED = "lazy lazy_all cube view view_first strided part signal recurrent attention tied".split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the nets and 24 images of two colours."""
    random = np.random.default_rng(0)
    for k, name in enumerate(("ant", "bee")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            colour = np.array([(200, 30, 30), (30, 200, 30)][k]) + random.integers(-30, 30, (16, 16, 3))
            Image.fromarray(colour.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(name: str, *more: str) -> int:
    """Train a net of the file for one epoch; the exit code."""
    words = [
        "train",
        "photos",
        "--model",
        f"nets.py:{name}",
        "--image-size",
        "16",
        "--epochs",
        "1",
        "--name",
        f"of-{name}",
    ]
    return cli.run([*words, *more])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_told_and_leaves_no_run(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert train(name, *(["--batch-size", "1"] if name == "norm1" else [])) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("convscope: ")]
    assert REFUSED[name] in line
    assert not (Path(os.environ["CONVSCOPE_RUNS"]) / f"of-{name}").exists()


@pytest.mark.parametrize("name", TRAINED)
def test_what_works_in_torch_trains_and_is_found_again(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert train(name) == 0, capsys.readouterr().err
    assert cli.run(["predict", f"of-{name}", "photos/ant/0.png", "--model", f"nets.py:{name}"]) == 0, (
        capsys.readouterr().err
    )


def test_batches_of_one_with_a_batch_norm_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "photos", "--image-size", "32", "--epochs", "1", "--batch-size", "1"]
    assert cli.run([*words, "--model", "timm:test_efficientnet"]) == 2
    assert "use a --batch-size of 3 or more" in capsys.readouterr().err


def test_what_a_recipe_says_of_another_network_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of the digits sets a width, which a net of one's own does not take."""
    words = ["train", "digits", "--model", "nets.py:lazy", "--image-size", "16", "--epochs", "1", "--limit", "60"]
    assert cli.run(words) == 0
    assert "what it says of that network (width 32) is left out" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ no logits


def small(*last: nn.Module) -> nn.Module:
    """A small network that ends so."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(*body, *last)


class Ends(nn.Module):
    """A small network whose logits go through a function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.body, self.function = small(), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.body(x))


BOUNDED = {
    "nn.Softmax": (small(nn.Softmax(1)), "softmax"),
    "softmax": (Ends(lambda y: y.softmax(1)), "softmax"),
    "softmax of half": (Ends(lambda y: (y / 2).softmax(1)), "softmax"),
    "sharper softmax": (Ends(lambda y: (3 * y).softmax(1)), "softmax"),
    "nn.Sigmoid": (small(nn.Sigmoid()), "sigmoid"),
    "sigmoid": (Ends(torch.sigmoid), "sigmoid"),
    "nn.Hardsigmoid": (small(nn.Hardsigmoid()), "sigmoid"),
    "clamp": (Ends(lambda y: y.clamp(0, 1)), "sigmoid"),
    "half a tanh": (Ends(lambda y: (y.tanh() + 1) / 2), "sigmoid"),
    "nn.Tanh": (small(nn.Tanh()), "tanh"),
    "softsign": (Ends(lambda y: y / (1e-3 + y.abs())), "tanh"),
    "nn.Hardtanh": (small(nn.Hardtanh()), "tanh"),
    "nn.ReLU": (small(nn.ReLU()), "ReLU"),
    "relu": (Ends(torch.relu), "ReLU"),
    "clamp at 0": (Ends(lambda y: y.clamp_min(0)), "ReLU"),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_outputs_that_are_no_logits(name: str) -> None:
    network, word = BOUNDED[name]
    assert word in str(output_fault(network, torch.randn(8, 3, 16, 16)))


SOUND = {
    "plain": small(),
    "log softmax": small(nn.LogSoftmax(1)),
    "scaled": Ends(lambda y: y / 30),
    "shifted": Ends(lambda y: y + 40),
    "leaky": small(nn.LeakyReLU(0.1)),
    "dropout": small(nn.Dropout(0.5)),
    "doubled": Ends(lambda y: y.double()),
}


@pytest.mark.parametrize("name", SOUND)
def test_logits_are_left_alone(name: str) -> None:
    assert output_fault(SOUND[name], torch.randn(8, 3, 16, 16)) is None


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [2, 10])
def test_fresh_networks_output_logits(name: str, classes: int) -> None:
    assert output_fault(build(name, classes, 32, seed=0), torch.randn(8, 3, 32, 32)) is None


def test_diagnose_says_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "nets.py").write_text(
        NETS + "\ndef soft(num_classes): return nn.Sequential(Base(num_classes), nn.Softmax(1))\n"
    )
    assert train("soft") == 0
    assert "add up to 1, as of a softmax, and the loss wants logits" in capsys.readouterr().err
    assert cli.run(["diagnose", "of-soft", "--model", "nets.py:soft"]) == 0
    assert capsys.readouterr().out.startswith("no-logits: ")
    assert any(rule.fault == "no-logits" for rule in RULES)
