"""Every loss against its formula, number by number in float64, and its gradients against differences of itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from convscope.datasets.mask_coding import VOID
from convscope.tasks.detection import CROWD, NOBODY
from convscope.tasks.registry import TASKS
from convscope.training.batches import Batch
from convscope.training.loop import loss_of
from slow_boxes import of_boxes, places, soft
from torture.numbers_compare import Check, Random, apart, drawn, first, size, usual

Loss = Callable[[Tensor, Tensor], Tensor]


def judged(name: str, loss: Loss, outputs: Tensor, targets: Tensor, right: float) -> str:
    """The value in float32 and float64 against what is right, and the gradient against differences."""
    exact = outputs.double().requires_grad_()
    aims = targets.double() if targets.is_floating_point() else targets
    flaw = first(
        apart(loss(outputs, targets), right, f"the loss of {name}"),
        apart(loss(exact, aims), right, f"the loss of {name} in float64"),
    )
    if flaw:
        return flaw
    spread = float(outputs.abs().max())
    differ = 1e-3 < spread < 200 and (not targets.is_floating_point() or float(targets.abs().max()) < 1000)
    if differ and not torch.autograd.gradcheck(
        lambda x: loss(x, aims), (exact,), raise_exception=False, fast_mode=True
    ):
        return f"the gradient of the loss of {name} is not that of differences"
    (slow,) = torch.autograd.grad(loss(exact, aims), exact)
    given = outputs.clone().requires_grad_()
    (quick,) = torch.autograd.grad(loss(given, targets), given)
    return apart(quick, slow, f"the gradient of the loss of {name} in float32")


def logs(row: np.ndarray) -> np.ndarray:
    """The logarithms of softmax probabilities."""
    top = row.max()
    return row - top - math.log(math.fsum(np.exp(row - top)))


def classification(random: Random) -> str:
    n, classes = size(random, 1, 9), size(random, 1, 7)
    logits, labels = drawn(random, n, classes), torch.from_numpy(random.integers(0, classes, n))
    each = [-logs(row)[label] for row, label in zip(logits.double().numpy(), labels.tolist(), strict=True)]
    return judged("classification", TASKS["classification"].loss, logits, labels, math.fsum(each) / n)


def of_labels(random: Random) -> str:
    """Cross-entropy with label smoothing, weights of classes, and mixed labels, each on or off."""
    n, classes = size(random, 1, 8), size(random, 2, 6)
    logits, smoothing = drawn(random, n, classes), float(random.choice([0.0, 0.1, 0.5]))
    labels, others = (torch.from_numpy(random.integers(0, classes, n)) for _ in range(2))
    share = torch.from_numpy(random.random(n).astype(np.float32)) if random.integers(2) else None
    weights = torch.from_numpy(random.uniform(0.2, 2, classes).astype(np.float32)) if random.integers(2) else None
    batch = Batch(torch.zeros(n), labels, np.arange(n), None if share is None else others, share)
    weigh = np.ones(classes) if weights is None else weights.double().numpy()
    total = weight = 0.0
    for b, row in enumerate(logits.double().numpy()):
        own = 1.0 if share is None else float(share[b])
        for label, part in ((int(labels[b]), own), (int(others[b]), 1 - own)):
            aims = (1 - smoothing) * (np.arange(classes) == label) + smoothing / classes
            total += part * float(-(aims * weigh * logs(row)).sum())
            weight += part * weigh[label]

    def loss(logits: Tensor, _: Tensor) -> Tensor:
        return loss_of(logits, batch, smoothing, None if weights is None else weights.to(logits.dtype))

    return judged(f"labels (smoothing {smoothing})", loss, logits, labels, total / weight)


def multi_label(random: Random) -> str:
    n, classes = size(random, 1, 8), size(random, 1, 6)
    logits, labels = drawn(random, n, classes), torch.from_numpy(random.integers(0, 2, (n, classes))).float()
    pairs = zip(logits.double().flatten().tolist(), labels.flatten().tolist(), strict=True)
    each = [soft(-p if y else p) for p, y in pairs]
    return judged("several labels", TASKS["multi_label"].loss, logits, labels, math.fsum(each) / len(each))


def regression(random: Random) -> str:
    n = size(random, 1, 20)
    outputs, numbers = drawn(random, n, 1), drawn(random, n, 1)
    each = [(a - b) ** 2 for a, b in zip(outputs.double().flatten(), numbers.double().flatten(), strict=True)]
    return judged("numbers", TASKS["regression"].loss, outputs, numbers, math.fsum(each) / n)


def segmentation(random: Random) -> str:
    n, classes, step = size(random, 1, 3), size(random, 1, 5), size(random, 1, 4)
    sides = size(random, 1, 6)
    logits = drawn(random, n, classes, sides, sides)
    masks = random.integers(0, classes, (n, step * sides, step * sides))
    masks[random.random(masks.shape) < random.choice([0.0, 0.3, 1.0])] = VOID
    each = []
    for b in range(n):
        for i in range(sides):
            for j in range(sides):
                label = masks[b, i * step + step // 2, j * step + step // 2]
                if label != VOID:
                    each.append(-logs(logits[b, :, i, j].double().numpy())[label])
    right = math.fsum(each) / max(1, len(each))
    return judged("pixels", TASKS["segmentation"].loss, logits, torch.from_numpy(masks), right)


def random_boxes(random: Random, n: int, classes: int, side: int) -> Tensor:
    """Rows as the task gives them: the image's corners first; boxes of all sizes, crowds, and rows that are none."""
    rows = np.full((n, 1 + size(random, 0, 6), 5), float(NOBODY))
    for image in rows:
        image[0, :4] = 0, 0, side, side
        for row in image[1:]:
            if random.random() < 0.15:
                continue
            corner, span = random.uniform(-8, side - 8, 2), random.uniform(4, side, 2)
            row[:4] = *corner, *(corner + span)
            row[4] = random.integers(classes) if random.random() < 0.85 else CROWD - random.integers(classes)
    return torch.from_numpy(rows).float()


def detection(random: Random) -> str:
    n, classes, side = size(random, 1, 2), size(random, 1, 3), 32 * size(random, 1, 3)
    boxes = random_boxes(random, n, classes, side)
    outputs = usual(random, n, len(places(side)), classes + 5)
    outputs[..., : classes + 1] *= float(random.choice([0.1, 1, 30]))  # sure of itself, or not
    outputs[..., -4:] = (outputs[..., -4:] + 2.5).exp()
    right = of_boxes(outputs.double().numpy(), boxes.double().numpy(), side)
    return judged("boxes", TASKS["detection"].loss, outputs, boxes, right)


# By the name of the task.
LOSSES: dict[str, Check] = {
    "classification": classification,
    "multi_label": multi_label,
    "regression": regression,
    "segmentation": segmentation,
    "detection": detection,
}

ENTRIES: dict[str, Check] = {
    **{f"loss {name}": check for name, check in LOSSES.items()},
    "loss, labels that are mixed, smoothed and weighed": of_labels,
}
