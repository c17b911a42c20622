"""Jacobians and gradients by products, against whole matrices in float64; and what a maximized image is climbed by."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from convscope.diagnosis.chain import find_chain, segments
from convscope.diagnosis.gradients import gradients
from convscope.diagnosis.jacobian import _Map, jacobians
from convscope.explanation.layers import Layer, find_layers
from convscope.explanation.maximize import _Ascent, _falloff, _unit
from convscope.explanation.objectives import Objective, Values, channel, direction, logit, neuron
from convscope.explanation.presets import LINEAR, Preset, palette, total_variation
from convscope.explanation.window import window_of
from convscope.images.preprocess import Preprocess
from torture.numbers_compare import Check, Random, apart, drawn, first, lively, size, usual

CPU = torch.device("cpu")
STANDS_STILL = 1e-2  # of float32's singular values: they end when they change by less than 3e-3 in two steps


def network_of(random: Random) -> tuple[nn.Sequential, Tensor]:
    """Smooth layers, so that float32 and float64 are on the same side of every corner; images for them."""
    channels = size(random, 1, 4)
    layers = [
        nn.Conv2d(3, channels, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(channels, 3, 3, stride=2, padding=1),
        nn.SiLU(),
    ]
    layers += [nn.Flatten(), nn.Linear(12, size(random, 1, 4))]
    return lively(nn.Sequential(*layers), random).eval(), usual(random, size(random, 1, 2), 3, 4, 4)


def spectra(random: Random) -> str:
    """All singular values that are told, in float64 to 6 digits, in float32 to two, of each factor and end to end."""
    network, images = network_of(random)
    exact = deepcopy(network).double()
    for twin, x, near in ((exact, images.double(), 1e-6), (network, images, STANDS_STILL)):
        found = jacobians(twin, find_chain(twin, x), x, seed=size(random, 0, 99))
        wholes = [jacobian(exact, one[None]).reshape(-1, images[0].numel()) for one in images.double()]
        values = torch.stack([torch.linalg.svdvals(whole) for whole in wholes])
        told = min(values.shape[1], len(found.end_to_end.largest)) if twin is exact else 1
        right = values[:, :told].median(0).values
        flaw = apart(found.end_to_end.largest[:told], right, "the singular values from end to end", near)
        size_of = torch.stack([whole.norm() for whole in wholes]).median()
        off = abs(found.end_to_end.frobenius - float(size_of))
        if flaw or off > 8 * found.end_to_end.error + 0.6 * float(size_of):
            return flaw or f"the Frobenius norm is {found.end_to_end.frobenius} and not {float(size_of)}"
        if found.end_to_end.norm > found.bound * 1.01:
            return f"the whole stretches by {found.end_to_end.norm}, more than its factors together, {found.bound}"
    return ""


def products(random: Random) -> str:
    """J v and J^T u of a factor in float32, against the whole matrix in float64."""
    network, images = network_of(random)
    twin = deepcopy(network).double()
    chain = find_chain(network, images)
    cuts, exact = segments(network, chain, images), segments(twin, chain, images.double())
    number = size(random, 0, len(cuts) - 1)
    cut, other = cuts[number], exact[number]
    linear = _Map(cut.x, cut.y, 1, "a factor")
    v, u = usual(random, *cut.x.shape), usual(random, *cut.y.shape)
    rows = [
        torch.autograd.grad(other.y.flatten()[i], other.x, retain_graph=True)[0].flatten()
        for i in range(other.y.numel())
    ]
    whole = torch.stack(rows)
    scale = float(whole.abs().sum(1).max())
    return first(
        apart(linear.forward(v).flatten(), whole @ v.double().flatten(), "J v", scale=scale),
        apart(linear.backward(u).flatten(), whole.T @ u.double().flatten(), "J^T u", scale=scale),
    )


def chained(random: Random) -> str:
    """The gradient that reaches each factor multiplies to the undivided one; its norms are those of float64."""
    network, images = network_of(random)
    labels = torch.arange(len(images)) % network[5].out_features
    if network[5].out_features < 2:
        return ""
    found = gradients(network, find_chain(network, images), images, labels)
    twin = deepcopy(network).double()
    right = gradients(twin, find_chain(twin, images.double()), images.double(), labels)
    rows = [(w.gradient, w.norm) for w in found.weights], [(w.gradient, w.norm) for w in right.weights]
    return first(
        "" if found.off < 1e-5 else f"factors multiply to {found.reach} and not {found.measured}",
        apart(found.norms, right.norms, "the gradients at factors"),
        apart(rows[0], rows[1], "the gradients and norms of weights"),
        apart(found.loss, right.loss, "the loss", scale=1.0),
    )


# ------------------------------------------------------------------------------------------------------- climbing


def layers_of(random: Random, side: int) -> tuple[nn.Sequential, tuple[Layer, ...]]:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip
    network = lively(network, random).eval()
    return network, find_layers(network, torch.zeros(1, 3, side, side))


def values(random: Random) -> str:
    """A sum of weighed terms, each by hand: a place, a mean over places, or a logit."""
    _, (one, other) = layers_of(random, 8)
    outputs = {one: drawn(random, 3, 4, 8, 8), other: drawn(random, 3, 3, 8, 8), None: drawn(random, 3, 2)}
    rows, rights = [], []
    for b in range(3):
        terms, right = [], 0.0
        for _ in range(size(random, 1, 3)):
            weight, kind = float(random.normal()), size(random, 0, 3)
            vector = random.normal(size=4)
            term: Objective = [neuron(one, 1), channel(other, 2), direction(one, vector), logit(2, 1)][kind]
            maps = outputs[[one, other, one, None][kind]][b].double()
            by_hand = [
                lambda maps: maps[1, 4, 4],
                lambda maps: maps[2].mean(),
                lambda maps, vector=vector: maps[:, 4, 4] @ torch.from_numpy(vector),
                lambda maps: maps[1],
            ]
            right += weight * float(by_hand[kind](maps))
            terms.append(weight * term)
        objective = terms[0]
        for term in terms[1:]:
            objective = objective + term
        rows.append(objective)
        rights.append(right)
    made = Values(rows)
    given = [outputs[layer] for layer in made.layers]
    scale = 10 * max(float(one.abs().max()) for one in given)
    return apart(made.of(given, made.rows, [(4, 4)] * len(given)), rights, "the values of objectives", scale=scale)


def climb_of(random: Random, preset: Preset) -> tuple[_Ascent, nn.Sequential, int]:
    side = size(random, 5, 12)
    network, layers = layers_of(random, side)
    preprocess = Preprocess(side, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    colours = palette(random.integers(0, 256, (4, 9, 9, 3), np.uint8))
    layer = layers[0 if preset.pixels else 1]
    objective = [neuron(layer, size(random, 0, layer.filters - 1))]
    window = window_of(layer, side, 0)
    return _Ascent(network, Values(objective), preprocess, colours, preset, window, CPU), network, side


def parametrised(random: Random) -> str:
    """An image's Fourier components in other colours are painted as the image again, and as numpy's transform."""
    climb, _, _ = climb_of(random, Preset(4, 0.1, shift=0.0))
    height, width = climb.window.size
    x = torch.from_numpy(random.random((2, 3, height, width)).astype(np.float32))
    z = climb._coordinates(x)
    spectrum = z.double().numpy()[..., 0] + 1j * z.double().numpy()[..., 1]
    waves = np.fft.irfft2(spectrum * _falloff(height, width, 1.2).double().numpy(), (height, width), norm="ortho")
    colours = np.einsum("ij,bjhw->bihw", climb.mixing.double().numpy(), waves) + climb.centre.double().numpy()
    amplitudes = np.hypot(*np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height)))
    amplitudes = np.maximum(amplitudes, 1 / max(height, width)) ** -1.2
    amplitudes /= np.sqrt((amplitudes**2).mean())
    return first(
        apart(climb._paint(z), x, "a painted image", scale=1.0),
        apart(climb._paint(z), colours, "an image painted by numpy", scale=1.0),
        apart(_falloff(height, width, 1.2), amplitudes, "amplitudes by frequency"),
    )


def ascent(random: Random) -> str:
    """The direction that is climbed is the gradient of the value, by differences; in pixels that of the filter."""
    pixels = bool(random.integers(2))
    preset = LINEAR if pixels else Preset(4, 0.1, shift=0.0)
    climb, network, _ = climb_of(random, preset)
    climb.most_variation = 1e9  # no image varies more, so nothing is mixed in
    x = torch.from_numpy(random.uniform(0.3, 0.7, (1, 3, *climb.window.size)).astype(np.float32))
    z, rows, moves = climb._coordinates(x), torch.tensor([0]), np.full((1, 4), 0.5)
    value, found = climb._ascent(z, rows, moves, 0.0)
    twin = deepcopy(network).double()[: 1 if pixels else 3]
    scale = 1 if pixels else _falloff(*climb.window.size, preset.falloff).double()

    def value_of(z: Tensor) -> Tensor:
        painted = z
        if not pixels:
            waves = torch.fft.irfft2(torch.view_as_complex(z) * scale, s=climb.window.size, norm="ortho")
            painted = torch.einsum("ij,bjhw->bihw", climb.mixing.double(), waves) + climb.centre.double()
        maps = twin((painted - climb.mean.double()) / climb.std.double())
        row, column = climb.places[0]
        (vectors,) = climb.values._vectors.values()
        return (maps[:, :, row, column] * vectors.double()).sum()

    exact = z.double().requires_grad_()
    out = value_of(exact)
    (slope,) = torch.autograd.grad(out, exact)
    if pixels and climb.grey:
        slope = slope.mean(1, keepdim=True).expand_as(slope)
    if not torch.autograd.gradcheck(value_of, (exact,), raise_exception=False, fast_mode=True):
        return "the value of an image does not have the gradient of differences"
    return first(
        apart(value, out[None], "the value that is climbed", scale=1.0),
        apart(found, slope / slope.square().mean().sqrt(), "the direction that is climbed"),
    )


def units(random: Random) -> str:
    """A direction of any size has the root mean square 1; zeros stay."""
    x = drawn(random, size(random, 1, 3), 3, size(random, 1, 6), but="denormal")
    x = x * float(random.choice([1.0, 1e-25, 1e25]))
    exact = x.double()
    root = exact.flatten(1).square().mean(1).sqrt()[:, None, None]
    flaw = apart(_unit(x), torch.where(root > 0, exact / root, 0.0), "a direction of unit size")
    images = torch.from_numpy(random.random((2, 3, size(random, 1, 6), size(random, 1, 6))).astype(np.float32))
    slow = []
    for image in images.double().numpy():
        down, across = np.abs(np.diff(image, axis=1)), np.abs(np.diff(image, axis=2))
        slow.append(sum(part.mean() if part.size else 0.0 for part in (down, across)))
    return flaw or apart(total_variation(images), slow, "the variation of images")


ENTRIES: dict[str, Check] = {
    "explainer, Jacobians' spectra": spectra,
    "explainer, products with Jacobians": products,
    "explainer, gradients of factors": chained,
    "explainer, values of objectives": values,
    "explainer, parametrisation": parametrised,
    "explainer, ascent": ascent,
    "explainer, units": units,
}
