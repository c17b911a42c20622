"""The networks: one contract for every entry of the table, and the lecture's numbers."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

from convscope.classifying.classifier import Classifier
from convscope.errors import UnknownName, UsageError
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import architecture_of
from convscope.models.registry import MODELS, build, options_of
from convscope.models.vgg import stage_depths

CLASSES = 10
# The lecture's table, layer by layer, and what its convolutions, batch norms and connections hold.
LECTURE = {
    "conv1": (64 * 3 * 7 * 7, (64, 32, 32)),
    "norm1": (2 * 64, (64, 32, 32)),
    "pool1": (0, (64, 16, 16)),
    "conv2": (128 * 64 * 5 * 5, (128, 16, 16)),
    "norm2": (2 * 128, (128, 16, 16)),
    "pool2": (0, (128, 8, 8)),
    "conv3": (256 * 128 * 3 * 3, (256, 8, 8)),
    "norm3": (2 * 256, (256, 8, 8)),
    "pool3": (0, (256, 4, 4)),
    "flatten": (0, (4096,)),
    "fc4": (4096 * 512 + 512, (512,)),
    "fc5": (512 * 512 + 512, (512,)),
    "fc6": (512 * 10 + 10, (10,)),
}


def small(name: str, **options: object) -> dict[str, object]:
    """The options given that the model takes, narrow where it can be."""
    return {key: value for key, value in {"width": 8, **options}.items() if key in options_of(name)}


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("image_size", [8, 28, 32, 64])
@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str, image_size: int, batch_norm: bool) -> None:
    options = small(name, batch_norm=batch_norm)
    try:
        network = build(name, CLASSES, image_size, options, seed=3)
    except UsageError as refusal:
        if image_size < 28 and str(image_size) in str(refusal):
            return  # only small images may be refused, and with numbers
        raise
    logits_BK = network(torch.rand(4, 3, image_size, image_size))
    assert logits_BK.shape == (4, CLASSES)
    assert logits_BK.isfinite().all()
    logits_BK.square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            assert name == "speednet", "only its whitening and the scales of its norms are frozen"
            continue
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    state, again, other = (build(name, CLASSES, image_size, options, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(state[key], again[key]) for key in state)
    assert not all(torch.equal(state[key], other[key]) for key in state)


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_it_gives_equal_logits(name: str, tmp_path: Path) -> None:
    architecture, network = architecture_of(name, 32, small(name), CLASSES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(4, 3, 32, 32)
        network.train()(images)  # moves the running statistics, which must come back too
    classes = tuple(str(number) for number in range(CLASSES))
    mean = std = (0.5, 0.5, 0.5)
    classifier = Classifier(network.eval(), classes, Preprocess(32, "crop", mean, std), architecture)
    classifier.save(tmp_path / "c.safetensors")
    again = Classifier.load(tmp_path / "c.safetensors").network
    assert torch.equal(again(images), network(images))


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_leaves_the_global_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    build(name, CLASSES, 32, small(name), seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    build(name, CLASSES, 32, small(name))
    assert not torch.equal(torch.get_rng_state(), before), "without a seed the weights are drawn from it"


@pytest.mark.parametrize("name", MODELS)
def test_every_option_has_a_default_and_a_type(name: str) -> None:
    parameters = inspect.signature(MODELS[name]).parameters
    assert list(parameters)[:2] == ["num_classes", "image_size"]
    assert all(parameters[option].default is not inspect.Parameter.empty for option in options_of(name))
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    assert build(name, CLASSES, 32, dict.fromkeys(("width", "depth", "batch_norm", "dropout", "anything")), seed=0)


def test_alexnet_is_the_lectures_table() -> None:
    network = build("alexnet", CLASSES, 32, seed=0)
    x = torch.rand(2, 3, 32, 32)
    for name, layer in network.named_children():
        x = layer(x)
        if not name.startswith("relu"):
            parameters, shape = LECTURE[name]
            assert sum(p.numel() for p in layer.parameters()) == parameters, name
            assert tuple(x.shape[1:]) == shape, name
    assert {name for name, _ in network.named_children() if not name.startswith("relu")} == set(LECTURE)
    assert sum(p.numel() for p in network.parameters()) == sum(count for count, _ in LECTURE.values()) == 2_875_466


def test_alexnet_options() -> None:
    plain = build("alexnet", CLASSES, 32, {"batch_norm": False, "dropout": 0.5, "width": 4}, seed=0)
    assert plain.conv1.bias is not None
    assert plain.conv1.out_channels == 4
    assert plain.conv3.out_channels == 16
    assert build("alexnet", CLASSES, 32, {"width": 4}, seed=0).conv1.bias is None
    assert list(dict(plain.named_children()))[-7:] == ["fc4", "relu4", "drop5", "fc5", "relu5", "drop6", "fc6"]


def test_the_signal_keeps_its_size_without_batch_norm() -> None:
    network = build("alexnet", CLASSES, 32, {"batch_norm": False}, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits_BK = network(torch.randn(16, 3, 32, 32))
    assert 0.3 < logits_BK.std() < 3


@pytest.mark.parametrize(
    ("depth", "image_size", "expected"),
    [
        (6, 32, (2, 2, 2)),
        (7, 32, (2, 2, 3)),
        (8, 32, (2, 3, 3)),
        (3, 28, (1, 1, 1)),
        (8, 64, (2, 2, 2, 2)),
        (13, 224, (2, 2, 3, 3, 3)),
        (16, 512, (3, 3, 3, 3, 4)),
        (8, 8, (8,)),
    ],
)
def test_vgg_stages(depth: int, image_size: int, expected: tuple[int, ...]) -> None:
    assert stage_depths(depth, image_size) == expected


def test_vgg_keeps_the_lectures_three_rules() -> None:
    network = build("vgg", CLASSES, 64, {"width": 4, "depth": 9, "dropout": 0.5}, seed=0)
    width = 4
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
            assert layer.out_channels == width
        if isinstance(layer, nn.MaxPool2d):
            assert (layer.kernel_size, layer.stride) == (2, 2)
            width *= 2
    assert sum(isinstance(layer, nn.Conv2d) for layer in network) == 9
    assert list(dict(network.named_children()))[-6:] == ["flatten", "drop5", "fc5", "relu5", "drop6", "fc6"]


@pytest.mark.parametrize(
    ("name", "image_size", "options", "sentence"),
    [
        ("alexnet", 7, {}, "at least 8 pixels a side, and got 7"),
        ("vgg", 4, {}, "at least 8 pixels a side, and got 4"),
        ("vgg", 64, {"depth": 3}, "has 4 stages for images of 64 pixels and needs a depth of at least 4.*got 3"),
        ("alexnet", 32, {"depth": 4}, "alexnet has no option 'depth'; it takes width, batch_norm, dropout"),
        ("alexnet", 32, {"dropout": 1.0}, "dropout of alexnet is a probability from 0 to below 1, and got 1.0"),
        ("vgg", 32, {"width": 0}, "width of at least 1, and got 10 and 0"),
        ("resnet", 16, {}, "resnet needs images of at least 24 pixels a side, and got 16"),
        ("resnet", 7, {"stem": "small"}, "at least 8 pixels a side, and got 7"),
        ("resnet", 32, {"stem": 4}, "'small' or an odd filter size of 3 or more, and got 4"),
        ("resnet", 32, {"stem": "large"}, "'small' or an odd filter size of 3 or more, and got 'large'"),
        ("resnet20", 4, {}, "resnet20 needs images of at least 8 pixels a side, and got 4"),
        ("plain110", 32, {"width": 0}, "plain110 needs at least 1 class and a width of at least 1, and got 10 and 0"),
        ("resnet20", 32, {"shortcut": "none"}, "shortcut of resnet20 is 'pad' or 'projection', and got 'none'"),
        ("plain20", 32, {"shortcut": "pad"}, "plain20 has no option 'shortcut'; it takes width, batch_norm"),
        ("speednet", 8, {}, "speednet needs images of at least 12 pixels a side, and got 8"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(
    name: str, image_size: int, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        build(name, CLASSES, image_size, options)


def test_an_unknown_model_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no model named 'alexnt'\. Did you mean 'alexnet'"):
        build("alexnt", CLASSES, 32)
