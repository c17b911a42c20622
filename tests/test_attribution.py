"""Attribution: the four methods against captum, a slow twin and paper, what they leave behind, and the sanity check."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import captum.attr
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from convscope.errors import UnknownName, UsageError
from convscope.explanation import attribution
from convscope.explanation.attribution import (
    METHODS,
    Attribution,
    Layerwise,
    cam,
    grad_cam,
    integrated_gradients,
    occlusion,
    passes,
    sanity_check,
)
from convscope.models.alexnet import alexnet
from convscope.models.resnet import cifar_resnet, resnet
from convscope.models.speednet import speednet
from convscope.models.taps import count_hooks, record


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics as a training leaves them: no norm is the identity and no bias is 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.copy_(0.5 + torch.rand(values.shape, generator=generator))
                for values in (module.bias, module.running_mean):
                    values.copy_(0.3 * torch.randn(values.shape, generator=generator))
            elif isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
    return network


def same(ours: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest number. Captum sums up occlusion in float32, so the kinds may differ."""
    scale = float(expected.detach().abs().max())
    assert scale > 1e-4, "there is something to compare"
    torch.testing.assert_close(ours, expected.to(ours), rtol=1e-5, atol=1e-6 * scale)


def a_torchvision_resnet18() -> nn.Module:
    return torchvision.models.resnet18(weights=None, num_classes=10)


def a_timm_resnet18() -> nn.Module:
    import timm

    return timm.create_model("resnet18", num_classes=10)


# name: build, side of the image, the last convolution that is called, side and stride of the occluding square
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, str, tuple[int, int]]] = {
    "alexnet": (lambda: alexnet(10, 16, width=4), 16, "conv3", (4, 2)),
    "resnet20": (lambda: cifar_resnet(20, 10, 16, width=4), 16, "layer3.2.conv2", (5, 3)),  # cut at the border
    "resnet18": (a_torchvision_resnet18, 64, "layer4.1.conv2", (32, 32)),
    "timm": (a_timm_resnet18, 64, "layer4.1.conv2", (32, 32)),
}


@cache
def built(name: str) -> tuple[nn.Module, Tensor]:
    """A network in float64 and evaluation mode, and an image for it."""
    build, side, *_ = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = lively(build()).double().eval()
        return network, torch.randn(1, 3, side, side, dtype=torch.float64)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x**2


class Breakable(nn.Module):
    """Passes on what it is given until it is broken."""

    broken = False

    def forward(self, x: Tensor) -> Tensor:
        if self.broken:
            raise ValueError("on purpose")
        return x


class Awkward(nn.Module):
    """In-place activations, one activation used in two places, a skip, dropout, and a pooling that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.breakable = Breakable()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv1(x)))
        out = self.conv2(x)
        out += x
        out = self.relu(out)
        return self.fc(self.breakable(self.drop(out.mean(dim=(2, 3)))))


def awkward() -> Awkward:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Awkward()
        lively(network)
        return network


def random_image(side: int = 12) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(5))


def two_channels() -> nn.Sequential:
    """One grey channel goes into the features (x, -x); logits are 3 mean(x) - mean(-x) + 0.5, and 2 mean(-x) - 1."""
    layers = OrderedDict(
        conv=nn.Conv2d(1, 2, 1, bias=False), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(2, 2)
    )
    network = nn.Sequential(layers)
    with torch.no_grad():
        layers["conv"].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        layers["fc"].weight.copy_(torch.tensor([[3.0, -1.0], [0.0, 2.0]]))
        layers["fc"].bias.copy_(torch.tensor([0.5, -1.0]))
    return network


GREY = torch.tensor([[[[1.0, -2.0], [0.5, 4.0]]]])


# Against captum, in float64


@pytest.mark.parametrize("name", ["alexnet", "resnet20", "resnet18"])
def test_grad_cam_is_captums(name: str) -> None:
    network, image = built(name)
    layer = NETWORKS[name][2]
    ours = grad_cam(network, image, 7)
    theirs = captum.attr.LayerGradCam(network, network.get_submodule(layer))
    expected = theirs.attribute(image, target=7, relu_attributions=True)[0, 0]
    assert (ours.method, ours.target, ours.layer) == ("grad-cam", 7, layer)
    same(ours.coarse_hw, expected)
    upsampled = torch.nn.functional.interpolate(expected[None, None], image.shape[2:], mode="bilinear")[0, 0]
    same(ours.map_HW, upsampled)


@pytest.mark.parametrize("name", ["alexnet", "resnet20", "resnet18"])
def test_integrated_gradients_are_captums(name: str) -> None:
    network, image = built(name)
    steps = 6 if name == "resnet18" else 37  # 37: more than one batch, the last one not full
    ours = integrated_gradients(network, image, 7, steps=steps)
    theirs = captum.attr.IntegratedGradients(network)
    expected, delta = theirs.attribute(image, 0, target=7, n_steps=steps, return_convergence_delta=True)
    same(ours.map_HW, expected.sum(dim=1)[0])
    assert ours.gap == pytest.approx(delta.item(), rel=1e-5, abs=1e-9)


def test_integrated_gradients_from_another_baseline_are_captums() -> None:
    network, image = built("resnet20")
    baseline = torch.full_like(image, 0.7)
    ours = integrated_gradients(network, image, 2, baseline_1CHW=baseline, steps=5)
    expected = captum.attr.IntegratedGradients(network).attribute(image, baseline, target=2, n_steps=5)
    same(ours.map_HW, expected.sum(dim=1)[0])


@pytest.mark.parametrize("name", ["alexnet", "resnet20", "resnet18"])
def test_occlusion_is_captums(name: str) -> None:
    network, image = built(name)
    side, stride = NETWORKS[name][3]
    ours = occlusion(network, image, 7, side=side, stride=stride)
    theirs = captum.attr.Occlusion(network)
    expected = theirs.attribute(
        image, (3, side, side), (3, stride, stride), baselines=0, target=7, perturbations_per_eval=16
    )
    same(ours.map_HW, expected[0, 0])


@pytest.mark.parametrize(
    ("side", "stride", "size"), [(4, 3, (11, 8)), (1, 1, (9, 10)), (5, 5, (13, 5)), (6, 4, (6, 9))]
)
def test_occlusion_cuts_the_last_square_where_captum_does(side: int, stride: int, size: tuple[int, int]) -> None:
    network, image = awkward().double().eval(), torch.randn(1, 3, *size, dtype=torch.float64)
    ours = occlusion(network, image, 1, side=side, stride=stride, baseline=0.3)
    expected = captum.attr.Occlusion(network).attribute(
        image, (3, side, side), (3, stride, stride), baselines=0.3, target=1, perturbations_per_eval=16
    )
    same(ours.map_HW, expected[0, 2])


def test_the_default_square_is_a_quarter_of_the_side() -> None:
    network = awkward()
    default, named = occlusion(network, random_image(17), 0), occlusion(network, random_image(17), 0, side=4, stride=2)
    assert torch.equal(default.map_HW, named.map_HW)


# CAM, exact


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet20", "layer3.2.relu2"), ("resnet18", "layer4.1.relu"), ("timm", "layer4.1.act2")]
)
def test_cam_is_its_slow_twin_and_adds_up_to_the_logit(name: str, layer: str) -> None:
    network, image = built(name)
    ours = cam(network, image, 7)
    with record(network, [layer], clone=True) as taps:
        logits = network(image)
    features = taps.outputs[layer]
    slopes = torch.autograd.grad(logits[0, 7], features)[0]
    slow = (slopes * features[0, 0].numel() * features).sum(dim=1)[0]
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    assert ours.layer == layer
    assert ours.coarse_hw.shape == features.shape[2:]
    same(ours.coarse_hw, slow.detach())
    torch.testing.assert_close(ours.coarse_hw.mean() + head.bias[7], logits[0, 7])


def test_cam_counts_the_constant_by_which_logits_are_scaled() -> None:
    network = two_channels()
    scaled = nn.Sequential(network, nn.Identity(), _Times(0.25))
    torch.testing.assert_close(cam(scaled, GREY, 0).coarse_hw, cam(network, GREY, 0).coarse_hw / 4)


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_cam_finds_features_that_no_module_outputs() -> None:
    network = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(3, 2)))
    image = random_image(4)
    ours = cam(network, image, 1)
    assert ours.layer == "pool", "which is given the image"
    torch.testing.assert_close(ours.coarse_hw, (network.fc.weight[1, :, None, None] * image[0]).sum(dim=0).detach())


def test_cam_of_a_named_layer() -> None:
    network, image = built("resnet20")
    found = cam(network, image, 3)
    assert torch.equal(cam(network, image, 3, "layer3").map_HW, found.map_HW), "a container that outputs the same"
    assert cam(network, image, 3, "layer3").layer == "layer3"
    with pytest.raises(UsageError, match=r"right after layer 'layer2'"):
        cam(network, image, 3, "layer2")


def test_cam_refuses_what_it_is_not_exact_for() -> None:
    reasons = "global average pooling and one linear layer.* grad-cam, integrated-gradients and occlusion work"
    refused: list[nn.Module] = [
        speednet(10, 12, width=4),  # global max pooling
        alexnet(10, 16, width=4),  # no global pooling
        alexnet(10, 8, width=4),  # one place is left, but more than one linear layer
        resnet(10, 24, width=4),  # one place is left to pool
        nn.Sequential(two_channels(), nn.Linear(2, 2)),
        nn.Sequential(two_channels(), nn.Softmax(dim=1)),
        nn.Sequential(two_channels(), nn.Tanh()),
    ]
    for network, side in zip(refused, (12, 16, 8, 24, 16, 16, 16), strict=True):
        channels = next(network.parameters()).shape[1]
        image = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
        with pytest.raises(UsageError, match=reasons):
            cam(network, image, 1)
        assert grad_cam(network, image, 1).map_HW.shape == image.shape[2:]


# On paper


def test_cam_on_paper() -> None:
    ours = cam(two_channels(), GREY, 0)
    torch.testing.assert_close(ours.coarse_hw, 4 * GREY[0, 0])  # 3 x - 1 (-x)
    assert torch.equal(ours.coarse_hw, ours.map_HW), "nothing to upsample"
    assert ours.layer == "conv"
    torch.testing.assert_close(cam(two_channels(), GREY, 1).coarse_hw, -2 * GREY[0, 0])


def test_grad_cam_on_paper() -> None:
    ours = grad_cam(two_channels(), GREY, 0)  # channel weights 3/4 and -1/4 of features x and -x
    torch.testing.assert_close(ours.coarse_hw, GREY[0, 0].clamp(min=0))
    torch.testing.assert_close(grad_cam(two_channels(), GREY, 1).coarse_hw, (-GREY[0, 0] / 2).clamp(min=0))


def test_upsampling_is_bilinear_between_centres() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), *two_channels())
    image = torch.tensor([[0.0, 4.0], [0.0, 4.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    ours = cam(network, image, 0)
    assert ours.coarse_hw.tolist() == [[0.0, 16.0], [0.0, 16.0]]
    assert ours.map_HW.tolist() == [[0.0, 4.0, 12.0, 16.0]] * 4


def test_integrated_gradients_on_paper() -> None:
    # The logit is the mean of 4 x^2: of each pixel x^2, and from a baseline b the integral x^2 - b^2. The gradient at
    # the image alone would give twice that.
    network = nn.Sequential(Square(), *two_channels())
    ours = integrated_gradients(network, GREY, 0, steps=2)  # two points are exact for a polynomial of degree 3
    torch.testing.assert_close(ours.map_HW, GREY[0, 0] ** 2)
    assert ours.gap == pytest.approx(0, abs=1e-5)
    assert (ours.layer, ours.coarse_hw) == (None, None)
    other = integrated_gradients(network, GREY, 0, baseline_1CHW=torch.full_like(GREY, 3.0), steps=2)
    torch.testing.assert_close(other.map_HW, GREY[0, 0] ** 2 - 9)


def test_the_gap_tells_of_too_few_steps() -> None:
    network = nn.Sequential(Square(), Square(), *two_channels())
    gaps = [integrated_gradients(network, GREY, 0, steps=steps).gap for steps in (1, 2)]
    # One point takes 4 x (x/2)^3 = x^4 / 2 instead of x^4 for the integral.
    assert gaps[0] == pytest.approx(-float((GREY**4).sum()) / 2)
    assert gaps[1] == pytest.approx(0, abs=1e-3)


def test_occlusion_on_paper() -> None:
    ours = occlusion(two_channels(), GREY, 0, side=1, stride=1)  # the logit is the sum of the pixels, plus 0.5
    torch.testing.assert_close(ours.map_HW, GREY[0, 0])
    whole = occlusion(two_channels(), GREY, 0, side=2, stride=1, baseline=1.0)
    torch.testing.assert_close(whole.map_HW, torch.full((2, 2), 3.5 - 4))
    strip = torch.tensor([[[[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]]])  # 4 times the mean: 2/3 of the sum
    covered = occlusion(two_channels(), strip, 0, side=2, stride=1)  # squares lose 3 and 6; the middle has both
    torch.testing.assert_close(covered.map_HW, torch.tensor([[3.0, 4.5, 6.0]]).expand(2, 3) * 2 / 3)


# What every method promises


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(12, 12), (9, 14)])
def test_a_method_gives_a_finite_map_of_the_images_size(method: str, size: tuple[int, int]) -> None:
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    answer = METHODS[method](awkward(), image, 3, None)
    assert isinstance(answer, Attribution)
    assert (answer.method, answer.target) == (method, 3)
    assert answer.map_HW.shape == size
    assert answer.map_HW.dtype == torch.float32
    assert not answer.map_HW.requires_grad
    assert answer.map_HW.isfinite().all()
    assert answer.map_HW.std() > 0
    assert (answer.coarse_hw is None) == (answer.layer is None) == (method not in ("cam", "grad-cam"))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_works_for_each_of_our_networks_or_says_why_not(method: str) -> None:
    networks = [resnet(5, 40, width=4), cifar_resnet(8, 5, 12, width=4), speednet(5, 12, width=4)]
    for network, side in zip(networks, (40, 12, 12), strict=True):
        if method == "cam" and network is networks[-1]:
            continue  # above
        answer = METHODS[method](network, random_image(side), 4, None)
        assert answer.map_HW.isfinite().all()
        assert answer.map_HW.shape == (side, side)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_method_works_inside_a_callers_no_grad(method: str, mode: Callable[[], torch.no_grad]) -> None:
    network, image = awkward(), random_image()
    expected = METHODS[method](network, image, 0, None).map_HW
    with mode():
        answer = METHODS[method](network, image.clone(), 0, None).map_HW
        checks = sanity_check(network, image.clone(), 0, method)
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(answer, expected)
    assert len(checks) == 4


@pytest.mark.parametrize("method", METHODS)
def test_frozen_weights_change_nothing(method: str) -> None:
    network, image = awkward(), random_image()
    expected = METHODS[method](network, image, 0, None).map_HW
    torch.testing.assert_close(METHODS[method](network.requires_grad_(False), image, 0, None).map_HW, expected)


def state_of(network: nn.Module, image: Tensor) -> dict[str, object]:
    """Everything that a method could leave changed, as values that can be compared."""
    tensors = {**network.state_dict(), "image": image}
    return {
        "tensors": {name: t.detach().clone().numpy().tobytes() for name, t in tensors.items()},
        "versions": {name: t._version for name, t in tensors.items()},
        "modes": [module.training for module in network.modules()],
        "requires_grad": [p.requires_grad for p in (*network.parameters(), image)],
        "grads": [None if p.grad is None else p.grad.tolist() for p in (*network.parameters(), image)],
        "random": (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()),
        "hooks": count_hooks(network),
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(method: str, broken: bool, checked: bool) -> None:
    network, image = awkward().train(), random_image()
    network.norm.eval()
    network.conv2.weight.requires_grad_(False)
    network.fc.bias.grad = torch.ones(4)
    network.breakable.broken = broken
    handle = network.conv1.register_forward_hook(lambda *_: None)  # a caller's own, which must stay
    before = state_of(network, image)
    with pytest.raises(ValueError, match="on purpose") if broken else nullcontext():
        answer = sanity_check(network, image, 2, method) if checked else METHODS[method](network, image, 2, None)
        assert answer
    assert state_of(network, image) == before
    handle.remove()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [-1, 4])
def test_a_class_that_does_not_exist(method: str, target: int) -> None:
    network = awkward()
    with pytest.raises(UsageError, match=rf"^the network has 4 classes, counted from 0, and class {target} is not one"):
        METHODS[method](network, random_image(), target, None)
    assert count_hooks(network) == 0


@pytest.mark.parametrize("method", METHODS)
def test_an_image_or_a_network_that_does_not_fit(method: str) -> None:
    for image in (random_image()[0], random_image().repeat(2, 1, 1, 1), random_image().to(torch.uint8)):
        with pytest.raises(UsageError, match=r"needs one image \(1, C, H, W\) of floating-point"):
            METHODS[method](awkward(), image, 0, None)
    with pytest.raises(UsageError, match=r"outputs \(B, K\) logits, and this one outputs \(1, 3, 12, 12\)"):
        METHODS[method](nn.Conv2d(3, 3, 1), random_image(), 0, None)


@pytest.mark.parametrize("method", ["cam", "grad-cam"])
def test_an_unknown_layer_offers_the_nearest(method: str) -> None:
    with pytest.raises(UnknownName, match=r"no layer named 'conv3'\. Did you mean"):
        METHODS[method](awkward(), random_image(), 0, "conv3")


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
def test_a_method_that_looks_at_the_image_takes_no_layer(method: str) -> None:
    with pytest.raises(UsageError, match=rf"^{method} looks at the image itself and takes no layer, and got 'conv1'"):
        METHODS[method](awkward(), random_image(), 0, "conv1")


def test_grad_cam_of_a_named_layer() -> None:
    network, image = built("resnet20")
    ours = grad_cam(network, image, 6, "layer1.0")
    theirs = captum.attr.LayerGradCam(network, network.get_submodule("layer1.0"))
    expected = theirs.attribute(image, target=6, relu_attributions=True)[0, 0]
    assert ours.layer == "layer1.0"
    same(ours.coarse_hw, expected)


def test_grad_cam_says_what_a_layer_outputs() -> None:
    with pytest.raises(UsageError, match=r"outputs \(1, C, h, w\), and 'fc' outputs \(1, 4\)"):
        grad_cam(awkward(), random_image(), 0, "fc")
    unused = nn.Sequential(OrderedDict(first=nn.Conv2d(3, 4, 3), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))
    unused.first.spare = nn.Conv2d(3, 3, 1)  # never called
    with pytest.raises(UsageError, match=r"'first\.spare' is not called"):
        grad_cam(unused, random_image(), 0, "first.spare")
    with pytest.raises(UsageError, match="no 2-D convolution"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2)), random_image(), 0)


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


@pytest.mark.parametrize("method", ["grad-cam", "integrated-gradients"])
def test_a_network_that_cuts_the_gradient(method: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Cut(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="no gradient leads from the logit back"):
        METHODS[method](network, random_image(), 0, None)


def test_options_that_cannot_be() -> None:
    network, image = awkward(), random_image()
    with pytest.raises(UsageError, match="at least 1 step, and got 0"):
        integrated_gradients(network, image, 0, steps=0)
    with pytest.raises(UsageError, match=r"shape \(1, 3, 12, 12\), and got \(1, 3, 6, 6\)"):
        integrated_gradients(network, image, 0, baseline_1CHW=random_image(6))
    for side, stride in ((13, 1), (0, 1), (4, 5), (4, 0)):
        with pytest.raises(UsageError, match=rf"got stride {stride}, side {side} and an image of 12 x 12 pixels"):
            occlusion(network, image, 0, side=side, stride=stride)


# The sanity check


def test_randomising_goes_from_the_output_down_and_the_maps_change() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = lively(cifar_resnet(8, 10, 32, width=8))
    image = random_image(32)
    checks = sanity_check(network, image, 2, "grad-cam")
    named = [name for name, module in network.named_modules() if list(module.parameters(recurse=False))]
    assert [check.layer for check in checks] == named[::-1]
    assert all(-1 <= check.correlation <= 1 for check in checks)
    assert all(check.correlation < 0.95 for check in checks), "even of the first stage"
    assert passes(checks)
    assert sanity_check(network, image, 2, "grad-cam") == checks, "the same seed"
    assert sanity_check(network, image, 2, "grad-cam", seed=1) != checks


def test_randomising_cascades_and_keeps_the_mean_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []

    def spy(network: nn.Module, image_1CHW: Tensor, target: int, _layer: str | None) -> Attribution:
        seen.append(copy.deepcopy(network.state_dict()))
        return Attribution("spy", target, image_1CHW[0, 0])

    monkeypatch.setitem(METHODS, "spy", spy)
    network = alexnet(10, 16, width=4)
    checks = sanity_check(network, random_image(16), 0, "spy")
    weights = [f"{check.layer}.weight" for check in checks]
    assert weights[0] == "fc6.weight"
    for stage, state in enumerate(seen):
        changed = [name for name in weights if not torch.equal(state[name], seen[0][name])]
        # The scale of a fresh norm is 1 everywhere: no spread, and so nothing to draw.
        assert changed == [name for name in weights[:stage] if "norm" not in name]
    before, after = seen[0]["fc4.weight"], seen[-1]["fc4.weight"]  # 32768 numbers
    torch.testing.assert_close(after.std(), before.std(), rtol=0.02, atol=0.0)
    assert abs(float(after.mean() - before.mean())) < 4 * float(before.std()) / before.numel() ** 0.5


def test_a_method_that_looks_at_the_input_only_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def contrast(_network: nn.Module, image_1CHW: Tensor, target: int, _layer: str | None) -> Attribution:
        return Attribution("contrast", target, image_1CHW.abs().sum(dim=1)[0])

    monkeypatch.setitem(METHODS, "contrast", contrast)
    checks = sanity_check(awkward(), random_image(), 0, "contrast")
    assert [check.correlation for check in checks] == pytest.approx([1.0] * 4)
    assert not passes(checks)


def test_what_passes() -> None:
    def stages(*correlations: float) -> tuple[Layerwise, ...]:
        return tuple(Layerwise("layer", c) for c in correlations)

    assert passes(stages(1.0, 1.0, 0.4, -0.4))
    assert not passes(stages(0.0, 0.0, 0.6, -0.6)), "a map turned over is the same map"
    assert not passes(stages(0.0, 0.5))
    assert passes(stages(1.0, 0.0, 0.9)), "of three stages the last two count"
    assert not passes(())


def test_a_map_without_ranks_counts_as_zero() -> None:
    ramp = torch.arange(6.0).reshape(2, 3)
    of = attribution._rank_correlation
    assert of(ramp, ramp**3) == pytest.approx(1.0)
    assert of(ramp, -ramp) == pytest.approx(-1.0)
    assert of(ramp, torch.ones(2, 3)) == 0.0
    assert of(torch.zeros(2, 3), torch.zeros(2, 3)) == 0.0
    assert of(ramp, torch.full((2, 3), float("nan"))) == 0.0


def test_an_unknown_method_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no method named 'gradcam'\. Did you mean 'grad-cam'"):
        sanity_check(awkward(), random_image(), 0, "gradcam")
