"""A batch that is computed in parts: one after the other (``--accumulate``), or by several processes together.

Whatever the parts, loss and gradient are those of the whole batch: each part's mean counts by its weight, which is its
images, or the weights of their classes, and by the whole weight it is divided once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..classifying.prediction import images_a_pass, logits
from ..datasets.dataset import Dataset
from ..errors import UsageError
from ..models.synced_norms import is_synced
from .batches import Batch
from .ranks import Team


@dataclass(frozen=True)
class Tally:
    """Of a batch: the sum of its loss by weight, the weight, and how many images there were and were answered right."""

    loss: Tensor
    weight: Tensor
    correct: Tensor
    images: Tensor


def check_shares(images: int, updates: int, processes: int, parts: int) -> None:
    """UsageError where the smallest batch has no image for some part."""
    smallest = images // updates
    if smallest < processes * parts:
        ways = [f"{processes} processes"] * (processes > 1) + [f"--accumulate {parts}"] * (parts > 1)
        raise UsageError(
            f"{images:,} images make {updates:,} batches, of {smallest} images the smallest, which cannot be shared by "
            f"{' and '.join(ways)}: take a larger --batch-size, or less of these."
        )


def parts_of(batch: Batch, count: int) -> Iterator[Batch]:
    """The batch in so many parts, which differ in size by one at most."""
    if count == 1:
        yield batch
        return
    index = np.array_split(batch.index, count)
    optional = [batch.others, batch.share]
    split = [
        [None] * count if tensor is None else torch.tensor_split(tensor, count)
        for tensor in (batch.images, batch.labels, *optional)
    ]
    for images, labels, others, share, own in zip(*split, index, strict=True):
        assert images is not None
        assert labels is not None
        yield Batch(images, labels, own, others, share)


def backward_by_parts(
    batch: Batch,
    count: int,
    outputs_of: Callable[[Tensor], Tensor],
    loss_of: Callable[[Tensor, Batch], Tensor],
    weight_of: Callable[[Batch], Tensor],
) -> Tally:
    """Forward and backward of each part. Gradients are left as sums by weight: ``settle`` makes the mean of them."""
    sums = torch.zeros(4, device=batch.images.device)
    for part in parts_of(batch, count):
        outputs = outputs_of(part.images).float()
        weight = weight_of(part)
        loss = loss_of(outputs, part) * weight
        loss.backward()
        right = weight.new_zeros(())
        if part.labels.ndim == 1:  # of what has no class a share cannot be right
            right = (outputs.detach().argmax(1) == part.main_labels).sum()
        images = weight.new_full((), len(part.images))
        sums += torch.stack([loss.detach(), weight, right.to(sums.dtype), images])
    return Tally(*sums.unbind())


@torch.no_grad()
def settle(network: nn.Module, tally: Tally, team: Team | None) -> Tally:
    """Make the gradients those of the whole batch's mean, over all processes of the team, and tell its tally.

    Running statistics of batch norms that each process moved by its own share become their mean, so that after every
    update each process holds the same network.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if team is not None:
        tally = _summed(network, parameters, tally, team)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        torch._foreach_div_(gradients, tally.weight)
    return tally


def _summed(network: nn.Module, parameters: Sequence[nn.Parameter], tally: Tally, team: Team) -> Tally:
    """Sum gradients and tallies over the team, and average running statistics by images."""
    device = tally.weight.device
    has = [p.grad is not None for p in parameters]
    for parameter in (p for p in parameters if p.grad is None):
        parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    statistics = running_statistics(network)
    for tensor in statistics:
        tensor.mul_(tally.images)
    sums = torch.stack([tally.loss, tally.weight, tally.correct, tally.images])
    flags = torch.tensor([float(team.asked()), *map(float, has)], device=device)
    team.add([*gradients, *statistics, sums, flags])
    for tensor in statistics:
        tensor.div_(sums[3])
    if not all(has):  # a layer that no process used keeps no gradient, as in one process
        for parameter, used in zip(parameters, flags[1:].tolist(), strict=True):
            parameter.grad = parameter.grad if used else None
    team.stops = bool(flags[0].item())
    return Tally(*sums.unbind())


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances of norms that each process moves by itself in training."""
    norms = [m for m in network.modules() if isinstance(m, _NormBase) and m.training and not is_synced(m)]
    return [s for m in norms for s in (m.running_mean, m.running_var) if s is not None]


def shared_logits(
    network: nn.Module,
    dataset: Dataset,
    index: np.ndarray,
    device: torch.device,
    team: Team | None,
) -> Tensor:
    """Logits float32 (N, K) on the CPU of the images at ``index``: each process computes a part, and all have all.

    Parts are whole passes of the network, so that the bits are those of one process; no image is computed twice.
    """
    images, preprocess = dataset.images, dataset.preprocess
    if team is None:
        return logits(network, images, preprocess, index, device)
    step = images_a_pass(network, preprocess.size)
    starts = np.arange(0, len(index), step)
    shares = np.array_split(starts, team.size)
    ends = [int(part[-1]) + step if len(part) else 0 for part in shares]
    mine = [index[int(part[0]) : end] if len(part) else index[:0] for part, end in zip(shares, ends, strict=True)]
    classes = len(dataset.class_names)
    found = []
    for rank, part in enumerate(mine):
        own = rank == team.rank and len(part) > 0
        found.append(logits(network, images, preprocess, part, device) if own else torch.empty(len(part), classes))
    at = [scores.to(device) for scores in found]
    for rank, scores in enumerate(at):
        if len(scores):
            team.share([scores], rank)
    return torch.cat(at).cpu()
