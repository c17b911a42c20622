"""Maps of a class, silenced filters, exemplars and fields, each the slow way: a pixel or a pass at a time."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn

from convscope.explanation import attribution
from convscope.explanation.ablation import ablate
from convscope.explanation.crops import OUTSIDE, cut
from convscope.explanation.exemplars import Stream, average, highest
from convscope.explanation.layers import find_layers
from convscope.explanation.maps import feature_maps, upsampled
from convscope.explanation.responses import correlations
from convscope.feature_store.nearest import most_similar
from convscope.images.preprocess import Preprocess
from convscope.models.registry import build
from slow_explaining import brute_force, without_filter
from torture.numbers_compare import Check, Random, apart, drawn, first, lively, size, usual
from torture.numbers_layers import bilinear

SMOOTH = (nn.ReLU, nn.SiLU, nn.Tanh)


def network_of(random: Random) -> tuple[nn.Sequential, Tensor, int]:
    """Two convolutions, a global pool and a linear layer; an image for it, and one of its classes."""
    channels, classes = (size(random, 1, 5), size(random, 1, 5)), size(random, 1, 4)
    layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 3, stride=size(random, 1, 2), padding=1)]
    layers += [
        nn.BatchNorm2d(channels[0]),
        SMOOTH[size(random, 0, 2)](),
        nn.Conv2d(channels[0], channels[1], 3, padding=1),
    ]
    layers += [SMOOTH[size(random, 0, 2)](), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[1], classes)]
    network = lively(nn.Sequential(*layers), random)
    image = drawn(random, 1, 3, size(random, 5, 12), size(random, 5, 12), but="large, denormal, tiny, constant")
    return network.eval(), image, size(random, 0, classes - 1)


def exact(network: nn.Sequential, image: Tensor) -> tuple[nn.Sequential, Tensor]:
    return deepcopy(network).double(), image.double()


def shown(name: str, found: attribution.Attribution, coarse: Tensor, image: Tensor, scale: float = 0.0) -> str:
    """The coarse map, and the one of the image's size."""
    wanted = bilinear(coarse[None, None], tuple(image.shape[2:]))[0, 0]
    return first(
        apart(found.coarse_hw, coarse, f"the coarse map of {name}", scale=scale),
        apart(found.map_HW, wanted, f"the map of {name}", scale=scale),
    )


def cam(random: Random) -> str:
    network, image, target = network_of(random)
    twin, x = exact(network, image)
    with torch.no_grad():
        features = twin[:5](x)[0]
    if features[0].numel() < 2:
        return ""
    parts = twin[7].weight.detach()[target][:, None, None] * features
    scale = float(parts.abs().sum(0).max())
    return shown("cam", attribution.cam(network, image, target), parts.sum(0), image, scale)


def grad_cam(random: Random) -> str:
    network, image, target = network_of(random)
    twin, x = exact(network, image)
    features = twin[:4](x).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(twin[4:](features)[0, target], features)
    parts = slopes.mean((2, 3), keepdim=True) * features.detach()
    scale = float(parts.abs().sum(1).max())
    return shown("grad-cam", attribution.grad_cam(network, image, target), parts.sum(1)[0].clamp(min=0), image, scale)


def integrated_gradients(random: Random) -> str:
    network, image, target = network_of(random)
    for number in (2, 4):
        network[number] = nn.Tanh()  # of a rectifier the gradient jumps, and a point of the way may lie on the corner
    steps, twin, x = size(random, 1, 40), *exact(network, image)
    baseline = usual(random, *image.shape) if random.integers(2) else None
    start = torch.zeros_like(x) if baseline is None else baseline.double()
    total, largest = torch.zeros_like(x), 0.0
    for place, weight in zip(*leggauss(steps), strict=True):
        point = (start + (place + 1) / 2 * (x - start)).requires_grad_()
        (slope,) = torch.autograd.grad(twin(point)[0, target], point)
        total += weight / 2 * slope
        largest = max(largest, float(slope.abs().max()))
    right = ((x - start) * total).sum(1)[0]
    found = attribution.integrated_gradients(network, image, target, baseline_1CHW=baseline, steps=steps)
    scale = float((x - start).abs().max()) * largest
    ends = (twin(x) - twin(start)).detach()[0, target]
    gap = float(right.sum() - ends)
    return first(
        apart(found.map_HW, right, "the map of integrated gradients", scale=scale),
        apart(found.gap, gap, "their gap", scale=scale * right.numel() + float(twin(x).detach().abs().max())),
    )


def occlusion(random: Random) -> str:
    network, image, target = network_of(random)
    twin, x = exact(network, image)
    side = size(random, 1, min(image.shape[2:]))
    stride, baseline = size(random, 1, side), float(random.normal())
    total, count = torch.zeros(image.shape[2:], dtype=torch.float64), torch.zeros(image.shape[2:])
    starts = [[n * stride for n in range(-(-(s - side) // stride) + 1)] for s in image.shape[2:]]
    with torch.no_grad():
        logit = twin(x)[0, target]
        for top in starts[0]:
            for left in starts[1]:
                covered = x.clone()
                covered[:, :, top : top + side, left : left + side] = baseline
                total[top : top + side, left : left + side] += logit - twin(covered)[0, target]
                count[top : top + side, left : left + side] += 1
    found = attribution.occlusion(network, image, target, side=side, stride=stride, baseline=baseline)
    scale = 3 * float(x.abs().max()) + float(logit.abs())
    return apart(found.map_HW, total / count, "the map of occlusion", scale=scale)


def enlarged(random: Random) -> str:
    coarse = drawn(random, size(random, 1, 7), size(random, 1, 7))
    shape = size(random, 1, 20), size(random, 1, 20)
    return apart(upsampled(coarse, shape), bilinear(coarse[None, None], shape)[0, 0], "a map upsampled")


def bytes_of(random: Random, n: int, side: int) -> np.ndarray:
    """Noise, with copies among it now and then, so that there are ties."""
    images = random.integers(0, 256, (n, side, side, 3), np.uint8)
    if n > 3 and random.integers(2):
        images[1] = images[n - 1] = images[0]
    return images


def silenced(random: Random) -> str:
    """What a filter is for: a whole pass with the filter at 0, in float32 as well."""
    name, side = str(random.choice(["alexnet", "resnet20", "speednet", "plain20"])), 16
    network = lively(build(name, 3, side, {"width": 3}, seed=size(random, 0, 99)), random).eval()
    network = network.to(memory_format=torch.channels_last)
    layers, preprocess = find_layers(network, torch.zeros(1, 3, side, side)), Preprocess(side)
    layer, images = layers[size(random, 0, len(layers) - 1)], bytes_of(random, size(random, 1, 9), side)
    labels, k = random.integers(0, 3, len(images)), size(random, 0, layer.filters - 1)
    found = ablate(network, images, labels, preprocess, layer, np.arange(len(images)), [k])
    from convscope.classifying.prediction import logits

    whole, without = logits(network, images, preprocess), without_filter(network, layer, images, preprocess, k)
    answers = [one.argmax(1).numpy() == labels for one in (whole, without)]
    counts = [int((answers[0] & ~answers[1]).sum()), int((~answers[0] & answers[1]).sum())]
    scale = float(torch.maximum(whole.abs(), without.abs()).max())
    flaw = apart(found.logit_lost[0], (whole - without).mean(0), f"what {layer.name} feeds logits", 3e-5, scale)
    margins = [one.topk(2).values.diff().abs().min() for one in (whole, without)]
    if flaw or min(map(float, margins)) < 1e-4 * scale:
        return flaw
    return apart([int(found.broken), int(found.mended)], counts, f"answers that {layer.name} changes", 0)


def exemplars(random: Random) -> str:
    """The lists of a pass in batches, against sorting everything; equal, not near."""
    network = build("alexnet", 2, 8, {"width": 2}, seed=0).eval()
    (layer, *_) = find_layers(network, torch.zeros(1, 3, 8, 8))
    n, count, side = size(random, 1, 60), size(random, 1, 9), size(random, 1, 4)
    maps = drawn(random, n, layer.filters, side, side)
    maps = maps.round() if random.integers(2) else maps
    if random.integers(2):
        maps = maps.contiguous(memory_format=torch.channels_last)  # by compiled loops; else by torch
    index = np.sort(random.choice(1000, n, replace=False)).astype(np.int64)
    stream = Stream([layer], count, least=True)
    start = 0
    while start < n:
        batch = size(random, 1, 20)
        stream._take(0, maps[start : start + batch], torch.from_numpy(index[start : start + batch]))
        start += batch
    stream.images = n
    wide = layer.places[1]
    (found,) = stream.results()
    values, chosen, places = brute_force(maps, count, index)
    flat = [[row * wide + column for row, column in one] for one in found.places.tolist()]
    right = [[row * side + column for row, column in one] for one in places]
    least = brute_force(-maps.amax((2, 3), keepdim=True), count, index)
    return first(
        apart(found.values, values, "the highest values", 0),
        apart(found.index, chosen, "the images of the highest values", 0),
        apart(flat, right, "the places of the highest values", 0),
        apart(found.least_values, -np.array(least[0]), "the lowest values", 0),
        apart(found.least_index, least[1], "the images of the lowest values", 0),
        apart(stream.above[0], (maps > 0).sum((0, 2, 3)), "how many are above 0", 0),
    )


def reductions(random: Random) -> str:
    shape = size(random, 1, 4), size(random, 1, 9), size(random, 1, 9), size(random, 1, 9)
    maps = drawn(random, *shape)
    return first(
        apart(highest(maps), maps.flatten(2).double().amax(2), "the highest of maps", 0),
        apart(average(maps), maps.double().mean((2, 3)), "the mean of maps", scale=float(maps.abs().max())),
    )


def fields(random: Random) -> str:
    """A place sees the pixels that change it, and no others: found by changing one pixel after the other."""
    side, layers, channels = size(random, 9, 16), [], 3
    for _ in range(size(random, 1, 4)):
        kernel, stride = size(random, 1, 4), size(random, 1, 2)
        if random.random() < 0.6:
            dilation = size(random, 1, 2)
            same = stride == 1 and kernel % 2 and random.integers(2)
            padding: int | str = "same" if same else size(random, 0, kernel)
            layers.append(nn.Conv2d(channels, 2, kernel, stride, padding, dilation))
            channels = 2
        else:
            layers.append(nn.AvgPool2d(kernel, stride, size(random, 0, kernel // 2)))
    layers.append(nn.Conv2d(channels, 2, 1))
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        for p in network.parameters():
            p.abs_().add_(0.1)  # nothing cancels
    image = torch.zeros(1, 3, side, side, dtype=torch.float64)
    try:
        network(image)
    except RuntimeError:
        return ""  # the maps have become too small
    layer = find_layers(network, image, [str(len(layers) - 1)])[0]
    row, column = (size(random, 0, n - 1) for n in layer.places)
    image.requires_grad_()
    (slope,) = torch.autograd.grad(network(image)[0, 0, row, column], image)
    seen = slope[0, 0] != 0
    if layer.field is None:
        return "the field of a plain chain is not known"
    ends = []
    for axis, place in ((0, row), (1, column)):
        start = layer.field.start[axis] + place * layer.field.step[axis]
        own = seen.any(1 - axis).nonzero().flatten().tolist()
        low, high = max(0, start), min(side, start + layer.field.size[axis])
        # With a stride or dilation there are gaps, also at the border: what is seen lies within, and reaches an end
        # wherever that lies in the image.
        if own and (own[0] < low or own[-1] >= high):
            return f"place {place} sees pixels {own[0]} to {own[-1]}, and its field is {low} to {high}"
        inside = start >= 0 and start + layer.field.size[axis] <= side
        ends.append(not inside or not seen.any() or (own[0], own[-1] + 1) == (low, high))
    return "" if all(ends) else f"place {row, column} does not see all of its field {layer.field}"


def crops(random: Random) -> str:
    image = random.integers(0, 256, (size(random, 1, 8), size(random, 1, 8), 3), np.uint8)
    top, left = size(random, -5, 7), size(random, -5, 7)
    box = top, left, top + size(random, 1, 9), left + size(random, 1, 9)
    right = np.full((box[2] - top, box[3] - left, 3), OUTSIDE, np.uint8)
    for i, j in np.ndindex(right.shape[:2]):
        if 0 <= top + i < image.shape[0] and 0 <= left + j < image.shape[1]:
            right[i, j] = image[top + i, left + j]
    return apart(cut(image, box), right, f"the crop {box}", 0)


def features(random: Random) -> str:
    """Maps, the correlations of answers, and the nearest images."""
    network, image, _ = network_of(random)
    (found, *_) = feature_maps(network, image, find_layers(network, image))
    with torch.no_grad():
        right = exact(network, image)[0][:2](image.double())[0]
    answers, rows = usual(random, size(random, 3, 30), 4), usual(random, size(random, 1, 20), 5)
    rows = rows * float(random.choice([1.0, 1e-14, 1e12]))
    wanted = np.corrcoef(answers.double().numpy().T)
    near = most_similar(rows.numpy(), rows[0].numpy(), 3)
    exact_rows = rows.double().numpy()
    lengths = np.linalg.norm(exact_rows, axis=1)
    cosines = np.sort(exact_rows @ exact_rows[0] / lengths / lengths[0])[::-1][:3]
    return first(
        apart(found.maps, right, "the maps of a layer", scale=float(image.abs().max())),
        apart(correlations(answers), wanted, "correlations of answers", 1e-7, 1.0),
        apart([c for _, c in near], cosines, "the cosines of the nearest"),
    )


# By the name of the method.
MAPS: dict[str, Check] = {
    "cam": cam,
    "grad-cam": grad_cam,
    "integrated-gradients": integrated_gradients,
    "occlusion": occlusion,
}

ENTRIES: dict[str, Check] = {
    **{f"method {name}": check for name, check in MAPS.items()},
    "explainer, a map enlarged": enlarged,
    "explainer, silenced filters": silenced,
    "explainer, exemplars": exemplars,
    "explainer, reductions": reductions,
    "explainer, fields": fields,
    "explainer, crops": crops,
    "explainer, features": features,
}
