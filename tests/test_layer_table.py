"""The ledger against torch's own operation counter, and its receptive fields against the gradient's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from convscope.errors import UsageError
from convscope.models.layer_table import LECTURE_COLUMNS, LayerRow, lecture_cells, lecture_rows, ledger
from convscope.models.receptive_fields import Field, union
from convscope.models.registry import MODELS, build, options_of
from convscope.models.taps import count_hooks, record


class Residual(nn.Module):
    """Skips, functional activations, a shared convolution and a projection: nothing a chain could follow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.project = nn.Conv2d(4, 8, 1, stride=2)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = x + self.twice(functional.relu(self.twice(x)))
        x = functional.relu(self.down(x)) + self.project(x)
        return self.out(functional.relu(self.last(x)).mean((2, 3)))


class UNet(nn.Module):
    """What is upsampled between two modules cannot be followed, and must not be taken for its encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(3, 3, 3, padding=1)
        self.up = nn.Conv2d(3, 3, 3, padding=1)
        self.out = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        small = self.deep(self.down(x))
        return self.out(functional.relu(self.up(functional.interpolate(small, scale_factor=2) + x)))


def rows_of(network: nn.Module, image_size: int) -> dict[str, LayerRow]:
    return {row.name: row for row in ledger(network, image_size).rows}


def narrow(name: str) -> nn.Module:
    return build(name, 10, 32, {key: 8 for key in options_of(name) if key == "width"}, seed=0)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: narrow(name) for name in MODELS},
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "residual": Residual,
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(weights=None),
    "transposed": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_counts_are_torchs_own(name: str) -> None:
    network = NETWORKS[name]()
    book = ledger(network, 32)
    assert book.parameters == sum(p.numel() for p in network.parameters()) == sum(r.parameters for r in book.rows)
    network.eval()
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert 2 * book.multiply_adds == flops.get_total_flops()
    folded = lecture_rows(book)
    for column in ("parameters", "multiply_adds", "activation_bytes"):
        assert sum(getattr(row, column) for row in folded) == getattr(book, column)


def test_alexnet_reads_like_the_lectures_table() -> None:
    rows = lecture_rows(ledger(build("alexnet", 10, 32, seed=0), 32))
    table = [lecture_cells(row)[:9] for row in rows]
    assert len(LECTURE_COLUMNS) == len(lecture_cells(rows[0]))
    assert table == [
        ("conv1", "3", "32", "64", "7", "1", "same", "64", "32"),
        ("pool1", "64", "32", "", "2", "2", "0", "64", "16"),
        ("conv2", "64", "16", "128", "5", "1", "same", "128", "16"),
        ("pool2", "128", "16", "", "2", "2", "0", "128", "8"),
        ("conv3", "128", "8", "256", "3", "1", "same", "256", "8"),
        ("pool3", "256", "8", "", "2", "2", "0", "256", "4"),
        ("flatten", "256", "4", "", "", "", "", "4096", ""),
        ("fc4", "4096", "", "", "", "", "", "512", ""),
        ("fc5", "512", "", "", "", "", "", "512", ""),
        ("fc6", "512", "", "", "", "", "", "10", ""),
    ]
    assert [row.receptive_field for row in rows] == [7, 8, 16, 18, 26, 30, 30, 54, 54, 54]
    conv1, pool1, *_, flatten, fc4, _, _ = rows
    assert conv1.parameters == 64 * 147 + 128
    assert conv1.multiply_adds == 64 * 147 * 32 * 32
    assert conv1.activation_bytes == 3 * 4 * 64 * 32 * 32, "what the convolution, the norm and the ReLU output"
    assert pool1.activation_bytes == 4 * 64 * 16 * 16
    assert flatten.activation_bytes == 0
    assert fc4.multiply_adds == 4096 * 512
    assert fc4.parameters == 4096 * 512 + 512


def test_kinds_and_geometry() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, (1, 7), padding=(0, 3)),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2),
        nn.Conv2d(4, 4, 5, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    rows = ledger(network, 32).rows
    kinds = ["Conv", "Conv", "Conv", "BatchNorm", "ReLU", "AvgPool", "AdaptiveAvgPool2d", "Flatten"]
    assert [row.kind for row in rows] == kinds
    assert (rows[0].filter_size, rows[0].pad, rows[0].receptive_field) == ((1, 7), "same", (1, 7))
    assert (rows[1].pad, rows[1].receptive_field) == ("same", (5, 11))
    assert (rows[2].stride, rows[2].pad, rows[2].out_size) == (2, 1, 15)
    assert lecture_cells(rows[0])[4] == "1 x 7"
    assert rows[4].activation_bytes == 0, "in place"
    assert len(lecture_rows(ledger(network, 32))) == 6


def reached(image: Tensor, output: Tensor, place: int) -> tuple[int, int]:
    """First and last row of the image that a place of a layer's map sees, by the gradient of its sum of channels."""
    (gradient,) = torch.autograd.grad(output[..., place, place].sum(), image, retain_graph=True)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows[0]), int(rows[-1])


def transparent(network: nn.Module) -> nn.Module:
    """The network with positive weights and average pools: nothing it sees can fail to show in the gradient."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    return network.double().eval()


@pytest.mark.parametrize("name", [*MODELS, "resnet18", "residual"])
def test_receptive_fields_are_the_gradients(name: str) -> None:
    network = transparent(NETWORKS[name]())
    image_size = 32 if name in ("alexnet", "vgg") else 64
    image = torch.rand(1, 3, image_size, image_size, dtype=torch.float64, requires_grad=True)
    with record(network, None) as taps:
        network(image)
    checked = 0
    for layer, row in rows_of(network, image_size).items():
        if not isinstance(row.out_size, int) or row.receptive_field is None or row.receptive_field > image_size:
            continue
        first, last = reached(image, taps.outputs[layer], row.out_size // 2)
        if first > 0 and last < image_size - 1:  # not cut by a border
            assert last - first + 1 == row.receptive_field, layer
            checked += 1
    assert checked >= 4


def test_skips_and_functional_activations_are_followed() -> None:
    sizes = [row.receptive_field for row in ledger(Residual(), 32).rows]
    assert sizes == [3, 5, 7, 9, 7, 13, None], "the mean between two modules cannot be seen"
    assert rows_of(torchvision.models.resnet18(weights=None), 224)["layer4.1.conv2"].receptive_field == 435


def test_a_sum_in_place_is_followed() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow, self.last = (nn.Conv2d(3, 3, k, padding=k // 2) for k in (7, 1, 3))

        def forward(self, x: Tensor) -> Tensor:
            wide, narrow = self.wide(x), self.narrow(x)
            narrow += wide
            return self.last(narrow)

    assert [row.receptive_field for row in ledger(InPlace(), 32).rows] == [7, 1, 9]


def test_what_cannot_be_followed_is_none() -> None:
    assert [row.receptive_field for row in ledger(UNet(), 32).rows] == [3, 7, None, None]
    first, moved = Field((3, 3), (1, 1), (-1, -1), (8, 8)), Field((5, 5), (1, 1), (0, 0), (8, 8))
    assert union([first, moved]) == Field((6, 6), (1, 1), (-1, -1), (8, 8))
    assert union([first, None]) is None
    assert union([first, Field((3, 3), (2, 2), (0, 0), (8, 8))]) is None


def test_the_network_is_left_as_it_was() -> None:
    network = torchvision.models.resnet18(weights=None).train()
    network.layer1.eval()
    modes = [module.training for module in network.modules()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        ledger(network, 32)
    assert [module.training for module in network.modules()] == modes
    assert count_hooks(network) == 0
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_shared_module_has_a_row_a_call_and_counts_once() -> None:
    rows = [row for row in ledger(Residual(), 32).rows if row.name == "twice"]
    assert [row.parameters for row in rows] == [4 * 4 * 9 + 4, 0]
    assert rows[0].multiply_adds == rows[1].multiply_adds == 4 * 4 * 9 * 32 * 32


def test_an_image_that_does_not_fit_is_one_sentence() -> None:
    network = build("alexnet", 10, 32, {"width": 8}, seed=0).train()
    sentence = "an image of 3 x 16 x 16: layer 'fc4' was given 128 and raised RuntimeError"
    with pytest.raises(UsageError, match=sentence) as caught:
        ledger(network, 16)
    assert "\n" not in str(caught.value)
    assert network.training
    assert count_hooks(network) == 0


@pytest.mark.parametrize("name", ["densenet121", "convnext_tiny", "vit_b_16", "shufflenet_v2_x0_5", "googlenet"])
def test_any_network_has_a_ledger(name: str) -> None:
    with torch.device("meta"):  # sizes are all that matters, and torch computes none of these networks here
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        network = torchvision.models.get_model(name, weights=None, **options)
    book = ledger(network, 224)
    assert book.multiply_adds > 0
    if name == "vit_b_16":  # torch's attention uses the weights of its output layer without calling it
        assert sum(row.parameters for row in book.rows) == book.parameters - 12 * (768 * 768 + 768)
    else:
        assert sum(row.parameters for row in book.rows) == book.parameters
