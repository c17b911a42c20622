"""Activation maximization: gradient ascent on the image, many filters in one batch.

Approach 2 of the lecture (Erhan et al. 2009; Olah, Mordvintsev and Schubert 2017,
https://doi.org/10.23915/distill.00007). The image is made of Fourier components in decorrelated colours, both with
the statistics of the user's own images; it is moved, scaled and turned a little before each step; it stays within the
box of legal images and below the total variation of real ones. Weights get no gradient, nothing behind the target
layer is computed, and the canvas is no larger than the receptive field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..images.preprocess import Preprocess, to_tensor
from ..kept_memory import keeping_memory
from ..machine import device_of, pick_precision
from ..models.taps import evaluating, frozen, reach, tapping
from ..progress import Counted
from ..randomness import seed_of, uniforms
from .layers import Layer
from .objectives import Objective, Values
from .presets import LINEAR, PRESETS, WHOLE, Palette, Preset, total_variation
from .window import Window, middle_of, takes, window_of

CHUNK = 64 * 32 * 32  # places of a batch of images: as many images at a time as fill the caches
LARGEST_CHUNK = 256
BLOCK = 16  # steps between two looks at what was gained
LEAST = torch.finfo(torch.float32).tiny
LEAST_GAIN = 0.01  # of the value, in a block: below it an image is done


@dataclass(frozen=True)
class Maximized:
    """One legal image for each objective: uint8 (N, S, S, 3), and what was climbed.

    ``box`` (top, left, bottom, right) is the part that the middle place sees; beyond it and a small margin the image
    is what it was at the start.
    ``gains`` float32 (N,) is the share of its value that each still gained in its last block, ``steps`` int64 (N,) how
    many it took.
    """

    images: np.ndarray
    box: tuple[int, int, int, int]
    gains: Tensor
    steps: Tensor


@keeping_memory()
def maximize(  # noqa: PLR0913 - each is a choice that a user makes by name
    network: nn.Module,
    objectives: Sequence[Objective],
    preprocess: Preprocess,
    colours: Palette,
    *,
    seed: int = 0,
    keys: Sequence[int] | None = None,
    preset: Preset | None = None,
    starts_NHWC: np.ndarray | None = None,
    diversity: float = 0.0,
    device: torch.device | None = None,
    progress: Counted | None = None,
) -> Maximized:
    """An image for each objective, all climbed together from noise, or from ``starts_NHWC`` uint8 (N, S, S, 3).

    The noise of an objective is a function of ``seed`` and its key (its number in the list unless given). ``preset``
    defaults to what suits the canvas. ``diversity`` above 0 pushes apart all images of a batch, by the cosines of
    their Gram matrices in the target layer, which is weighed against the objective. ``progress`` is told how many steps
    of how many were climbed: what is done early leaves some out. Raises UsageError for no objectives, and for starts or
    keys that are not one for each.
    """
    _check(objectives, keys, starts_NHWC, preprocess.size)
    values = Values(objectives)
    layer = values.local()
    device = device or device_of(network)
    with evaluating(network), frozen(network), torch.inference_mode(False), torch.enable_grad():
        preset = preset or pick_preset(network, layer, preprocess.size, device)
        window = window_of(layer, preprocess.size, 0 if preset.pixels else math.ceil(preset.shift))
        if layer is not None and not takes(network, layer, window, device):
            window = replace(window, start=(0, 0), size=(preprocess.size,) * 2, place=middle_of(layer))
        climb = _Ascent(network, values, preprocess, colours, preset, window, device)
        names = np.asarray(range(len(objectives)) if keys is None else keys, np.uint64)
        chunk = max(1, min(LARGEST_CHUNK, CHUNK // (window.size[0] * window.size[1])))
        parts, begins = [], range(0, len(objectives), chunk)
        for done, begin in enumerate(begins):
            rows = slice(begin, begin + chunk)
            given = None if starts_NHWC is None else starts_NHWC[rows]
            before, total = done * preset.steps, len(begins) * preset.steps
            climb.step_done = partial(_tell, progress, before, total) if progress else None
            parts.append(climb.run(torch.arange(len(objectives))[rows], seed, names[rows], given, diversity))
        if progress:
            progress(total, total)
    images, gains, steps = (torch.cat(part) for part in zip(*parts, strict=True))
    return Maximized(images.permute(0, 2, 3, 1).contiguous().numpy(), window.box, gains, steps)


def _tell(progress: Counted, before: int, total: int, step: int) -> None:
    progress(before + step, total)


def _check(objectives: Sequence[Objective], keys: Sequence[int] | None, starts: np.ndarray | None, side: int) -> None:
    n = len(objectives)
    if not n:
        raise UsageError("there is nothing to maximize: name at least one objective.")
    if keys is not None and len(keys) != n:
        raise UsageError(f"{n} objectives take {n} keys, and got {len(keys)}.")
    if starts is not None and starts.shape != (n, side, side, 3):
        raise UsageError(f"{n} objectives take starts of shape {(n, side, side, 3)}, and got {starts.shape}.")


def pick_preset(network: nn.Module, layer: Layer | None, side: int, device: torch.device) -> Preset:
    """The preset for a layer's canvas: ``LINEAR`` where the filter is linear in the image, else by size."""
    if layer is None or layer.field is None:
        table, canvas = WHOLE if layer is None else PRESETS, side
    else:
        table, canvas = PRESETS, min(side, max(layer.field.size))
        if _is_linear(network, layer, side, device):
            return LINEAR
    return next(preset for largest, preset in table.items() if canvas <= largest)


def _is_linear(network: nn.Module, layer: Layer, side: int, device: torch.device) -> bool:
    """Tell whether a layer's values at the middle of three images on a line are on a line too."""
    noise = uniforms(0, 0, np.arange(2, dtype=np.uint64), 3 * side * side) * 2 - 1
    a, b = torch.from_numpy(noise).float().view(2, 3, side, side).to(device)
    with torch.no_grad():
        maps = reach(network, torch.stack([a, b, (a + b) / 2]), [layer.tap])[0]
    values = maps[:, :, layer.places[0] // 2, layer.places[1] // 2].cpu().double()
    return bool(
        torch.allclose(values[2], (values[0] + values[1]) / 2, rtol=1e-3, atol=1e-4 * float(values.abs().max()))
    )


class _Ascent:
    """One way of climbing, shared by the batches."""

    def __init__(  # noqa: PLR0913 - what is the same for all batches
        self,
        network: nn.Module,
        values: Values,
        preprocess: Preprocess,
        colours: Palette,
        preset: Preset,
        window: Window,
        device: torch.device,
    ) -> None:
        self.network, self.values, self.preset, self.window, self.device = network, values, preset, window, device
        self.side = preprocess.size
        self.taps = [layer.tap for layer in values.layers if layer is not None]
        local = values.local() is not None
        self.places = [window.place if local else middle_of(layer) for layer in values.layers]
        self.mean, self.std = (
            torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std)
        )
        self.centre, self.mixing = (v.clone().to(device) for v in (colours.mean.view(1, 3, 1, 1), colours.mixing))
        self.grey = colours.grey
        self.step_done: Callable[[int], None] | None = None
        self.bfloat16 = pick_precision("auto", device) == "bfloat16" and not preset.pixels
        whole, part = self.side**2, window.size[0] * window.size[1]
        _, usual, high = colours.variation  # what lies outside the window varies as usual; the sum stays in range
        self.most_variation = 0.95 * max(high, (high * whole - usual * (whole - part)) / part)

    def run(
        self, rows: Tensor, seed: int, keys: np.ndarray, starts_NHWC: np.ndarray | None, diversity: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Climb the objectives ``rows``: legal images uint8 (B, 3, S, S), last gains (B,) and steps (B,)."""
        whole = self._begin(seed, keys, starts_NHWC)
        (top, left), (high, wide) = self.window.start, self.window.size
        z = self._coordinates(whole[:, :, top : top + high, left : left + wide])
        if starts_NHWC is None and not self.preset.pixels:
            z *= self.preset.start / 0.5
        final, gains = z.clone(), torch.full((len(rows),), math.inf)
        steps = torch.full((len(rows),), self.preset.steps)
        active = torch.arange(len(rows))
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        block, before = torch.zeros(len(rows)), torch.full((len(rows),), -math.inf)
        for step in range(self.preset.steps):
            rate = self.preset.rate * (1.02 - step / self.preset.steps)
            moves = uniforms(seed, step + 1, keys[active.numpy()], 4)
            value, ascent = self._ascent(z, rows[active], moves, diversity)
            if self.step_done:
                self.step_done(step)
            block += value
            first.lerp_(ascent, 0.1)
            second.mul_(0.99).addcmul_(ascent, ascent, value=0.01)
            size = (second / (1 - 0.99 ** (step + 1))).sqrt_().add_(1e-8)
            z = z + rate / (1 - 0.9 ** (step + 1)) * first / size
            z = z.clamp_(0, 1) if self.preset.pixels else z.mul_(1 - self.preset.decay * rate)
            if (step + 1) % BLOCK and step + 1 < self.preset.steps:
                continue
            block /= step % BLOCK + 1
            gain = (block - before) / block.abs().clamp(min=1e-9)
            final[active], gains[active], steps[active] = z, gain, step + 1
            going = gain >= LEAST_GAIN if step + 1 >= self.preset.steps / 2 else gain > -math.inf
            active, before, block = active[going], block[going], torch.zeros(int(going.sum()))
            z, first, second = z[going], first[going], second[going]
            if not len(active):
                break
        whole[:, :, top : top + high, left : left + wide] = self._paint(final).clamp(0, 1)
        return (255 * whole).round().to(torch.uint8).cpu(), gains, steps

    def _begin(self, seed: int, keys: np.ndarray, starts_NHWC: np.ndarray | None) -> Tensor:
        """The whole images to begin with, in 0..1: (B, 3, S, S)."""
        if starts_NHWC is not None:
            return (to_tensor(starts_NHWC).float() / 255).to(self.device)
        noise = [
            torch.randn(3, self.side, self.side, generator=torch.Generator().manual_seed(seed_of(seed, int(key))))
            for key in keys
        ]
        spectrum = torch.fft.rfft2(torch.stack(noise), norm="ortho") * _falloff(self.side, self.side, 1.5)
        waves = torch.fft.irfft2(spectrum, s=(self.side, self.side), norm="ortho")
        return self._colour(0.5 * waves.to(self.device)).clamp(0, 1)

    def _coordinates(self, x_BCHW: Tensor) -> Tensor:
        """Tell what is climbed for images: themselves, or their Fourier components in decorrelated colours."""
        if self.preset.pixels:
            return x_BCHW.clone()
        waves = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(self.mixing), x_BCHW - self.centre)
        scale = _falloff(*self.window.size, self.preset.falloff).to(self.device)
        spectrum = torch.fft.rfft2(waves, norm="ortho") / scale
        return torch.view_as_real(spectrum).contiguous()

    def _paint(self, z: Tensor) -> Tensor:
        """The image of what is climbed; its values may leave 0..1."""
        if self.preset.pixels:
            return z
        scale = _falloff(*self.window.size, self.preset.falloff).to(self.device)
        spectrum = torch.view_as_complex(z) * scale
        return self._colour(torch.fft.irfft2(spectrum, s=self.window.size, norm="ortho"))

    def _colour(self, waves_BCHW: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.mixing, waves_BCHW) + self.centre

    def _ascent(self, z: Tensor, rows: Tensor, moves: np.ndarray, diversity: float) -> tuple[Tensor, Tensor]:
        """The values (B,) and the directions in which they grow, of unit size an image.

        Where the variation exceeds that of real images, the way down from it is mixed in.
        """
        z = z.detach().requires_grad_(True)
        x = self._paint(z)
        legal = x + (x.clamp(0, 1) - x).detach()  # the gradient goes on as if nothing had been cut
        outputs = self._outputs(_move(legal, moves, self.preset))
        values = self.values.of(outputs, rows, self.places)
        goal = (
            values.sum() - diversity * values.detach().abs().mean() * _alikeness(outputs[0])
            if diversity
            else values.sum()
        )
        (ascent,) = torch.autograd.grad(goal, z, retain_graph=not self.preset.pixels)
        if self.preset.pixels and self.grey:
            ascent = ascent.mean(1, keepdim=True).expand_as(ascent)
        ascent = _unit(ascent)
        if not self.preset.pixels:
            variation = total_variation(legal)
            excess = variation.detach() / self.most_variation - 1
            (growth,) = torch.autograd.grad(variation.sum(), z)
            pressure = (20 * excess).clamp(0, 2)
            ascent = ascent - pressure.view(-1, 1, 1, 1, 1) * _unit(growth)
        return values.detach().cpu(), ascent

    def _outputs(self, x_BCHW: Tensor) -> list[Tensor]:
        images = ((x_BCHW - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            if None not in self.values.layers:
                return reach(self.network, images, self.taps)
            passing: dict[int, Tensor] = {}

            def keep(number: int, tensor: Tensor) -> Tensor:
                passing[number] = tensor
                return tensor.clone()  # what follows may work in place

            with tapping(self.network, self.taps, keep):
                scores = self.network(images)
        maps = iter(passing[number] for number in range(len(self.taps)))
        return [scores if layer is None else next(maps) for layer in self.values.layers]


def _falloff(height: int, width: int, exponent: float) -> Tensor:
    """Amplitudes (H, W // 2 + 1) that fall with frequency to the power of ``exponent``, of mean square 1."""
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    lowest = 1 / max(height, width)
    amplitude = (down**2 + across**2).sqrt().clamp(min=lowest) ** -exponent
    return amplitude / amplitude.square().mean().sqrt()


def _move(x_BCHW: Tensor, moves: np.ndarray, preset: Preset) -> Tensor:
    """The images, each turned, scaled and shifted by its row of four uniform numbers."""
    if not (preset.shift or preset.zoom or preset.turn):
        return x_BCHW
    along_x, along_y, turn, zoom = (torch.from_numpy(2 * moves.T - 1).float()).to(x_BCHW.device)
    angle, scale = preset.turn * turn, 1 + preset.zoom * zoom
    cos, sin = scale * angle.cos(), scale * angle.sin()
    across, down = (2 * preset.shift * v / n for v, n in zip((along_x, along_y), x_BCHW.shape[:1:-1], strict=True))
    theta = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = F.affine_grid(theta, list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, padding_mode="reflection", align_corners=False)


def _alikeness(maps: Tensor) -> Tensor:
    """The sum over pairs of images of the cosine between their Gram matrices."""
    if maps.dim() == 2:
        maps = maps[:, :, None]
    flat = maps.float().flatten(2)
    gram = F.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
    return ((gram @ gram.T).sum() - len(gram)) / 2


def _unit(direction: Tensor) -> Tensor:
    """Each image's direction with root mean square 1; zeros stay. Its largest goes first: no square is lost."""
    rows = direction.flatten(1).float()
    rows = F.normalize(rows / rows.abs().amax(1, keepdim=True).clamp(min=LEAST), dim=1) * rows.shape[1] ** 0.5
    return rows.view(direction.shape).to(direction.dtype)
