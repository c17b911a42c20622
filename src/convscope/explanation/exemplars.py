"""Exemplars: the images that excite each filter most, for all filters of all layers in one streaming pass.

Approach 1 of the lecture (Zeiler and Fergus 2014, arXiv:1311.2901, show such images for each filter). The lists are
exact, and memory does not grow with the data: what a batch outputs is compared with the running k-th best, and only
the few that beat it are looked at more closely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.prediction import logits
from ..convolution.normalised import fits
from ..convolution.peaks import MOST_PLACES, peaks
from ..convolution.timing import is_possible
from ..errors import DamagedFile
from ..images.preprocess import Preprocess
from ..models.taps import tapping
from .layers import Layer

_WORST = -(2**63)  # the key of a place in the list that no image has taken
_LOW_WORD = 2**32 - 1
MANY = 2  # candidates a filter in a batch, from which on the best of the batch are taken instead
WAITING = 16  # batches whose tops or candidates wait to be merged together
Places = Callable[[Tensor, Tensor], Tensor]  # of the numbers of images and of filters, the places of their tops
CACHED = 2**19  # numbers of a layer's output that are looked at together: 2 MB


@dataclass(frozen=True)
class Exemplars:
    """What a pass found of one layer: C filters, the k most exciting images of each, the strongest first.

    ``values`` float32 (C, k) is the highest value before the activation in the image; ``index`` int64 (C, k) the
    image, ``places`` int64 (C, k, 2) the row and column of the map where it is reached (the first, if several). Of
    equal values the image with the lower index comes first. ``k`` is less than asked for where there are fewer
    images. ``firing`` float64 (C,) is the share of all places above 0, and ``images`` how many were seen.
    ``least_values`` and ``least_index`` are the same for the images that excite least, None unless asked for.
    """

    layer: Layer
    values: Tensor
    index: Tensor
    places: Tensor
    firing: Tensor
    images: int
    least_values: Tensor | None = None
    least_index: Tensor | None = None

    @property
    def dead(self) -> Tensor:
        """bool (C,): never above 0 on any of the images."""
        return self.values[:, 0] <= 0


def exemplars(  # noqa: PLR0913 - what a pass over images needs
    network: nn.Module,
    images: np.ndarray,
    preprocess: Preprocess,
    layers: Sequence[Layer],
    index: np.ndarray | None = None,
    count: int = 9,
    least: bool = False,
) -> tuple[Exemplars, ...]:
    """The exemplars of every filter of these layers among uint8 images (M, H, W, 3), those at ``index`` or all.

    One pass in float32, on the network's device. The index is best below 2**32, as any number of images is.
    """
    index = np.arange(len(images)) if index is None else index
    stream = Stream(layers, count, least)
    with stream.watching(network, index):
        logits(network, images, preprocess, index)
    return stream.results()


class Stream:
    """The running lists of a pass; it can be stopped between two calls, stored and restored."""

    def __init__(self, layers: Sequence[Layer], count: int = 9, least: bool = False) -> None:
        self.layers, self.count = tuple(layers), count
        self.best = [_Best(layer, count) for layer in layers]
        self.least = [_Best(layer, count) for layer in layers] if least else []
        self.above = [torch.zeros(layer.filters, dtype=torch.float64) for layer in layers]
        self.images = 0
        self._buffer = self._ones = torch.empty(0)
        self._waiting: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in layers]

    @contextmanager
    def watching(self, network: nn.Module, index: np.ndarray) -> Iterator[None]:
        """A with-block in which the images at ``index`` pass through the network, in that order."""
        numbers, seen = torch.from_numpy(np.asarray(index, np.int64)), [0] * len(self.layers)

        def look(number: int, maps_BCHW: Tensor) -> None:
            batch = numbers[seen[number] : seen[number] + len(maps_BCHW)]
            seen[number] += len(maps_BCHW)
            self._take(number, maps_BCHW.detach(), batch)

        with tapping(network, [layer.tap for layer in self.layers], look):
            yield
        self.images += len(index)

    def _take(self, number: int, maps_BCHW: Tensor, index_B: Tensor) -> None:
        if is_possible() and fits(maps_BCHW) and maps_BCHW[0, 0].numel() <= MOST_PLACES:
            highest_BC, places_BC, above_C = peaks(maps_BCHW)
            self.above[number] += above_C
            self._waiting[number].append((highest_BC, index_B, places_BC))
            if len(self._waiting[number]) >= WAITING:
                self._merge(number)
            return
        self._merge(number)  # what waits came before
        highest_BC = self._look_over(number, maps_BCHW)

        def places(images: Tensor, filters: Tensor) -> Tensor:
            device = maps_BCHW.device
            return maps_BCHW[images.to(device), filters.to(device)].flatten(1).argmax(1).cpu()

        self._merge_in(number, highest_BC, index_B, places)

    def _merge(self, number: int) -> None:
        """Merge what waits of a layer: the tops of many batches cost no more than those of one."""
        if self._waiting[number]:
            highest_BC, index_B, places_BC = (torch.cat(parts) for parts in zip(*self._waiting[number], strict=True))
            self._waiting[number].clear()
            self._merge_in(number, highest_BC, index_B, lambda images, filters: places_BC[images, filters])

    def _merge_in(self, number: int, highest_BC: Tensor, index_B: Tensor, places: Places) -> None:
        self.best[number].merge(highest_BC, index_B, places)
        if self.least:
            self.least[number].merge(-highest_BC, index_B, None)

    def _look_over(self, number: int, maps_BCHW: Tensor) -> Tensor:
        """Count what is above 0, and return the highest value of each map, (B, C), without compiled loops.

        A few images at a time, which stay in the cache while both are done. A matrix product is the fastest sum over
        places that torch has, and exact: whole numbers below 2**24.
        """
        batch, channels, height, width = maps_BCHW.shape
        rows_BHW = _by_rows(maps_BCHW)
        group = max(1, CACHED // (channels * height * width))
        most = min(group, batch) * channels * height * width
        if self._buffer.numel() < most or self._buffer.device != rows_BHW.device:
            with torch.inference_mode(False):  # they may be used outside of it later
                self._buffer = torch.empty(most, device=rows_BHW.device)
                self._ones = torch.ones(1, most, device=rows_BHW.device)
        highest_parts, counts_1C = [], rows_BHW.new_zeros(1, channels, dtype=torch.float32)
        for part in rows_BHW.split(group):
            highest_parts.append(part.amax(1))
            above = torch.gt(part, 0, out=self._buffer[: part.numel()].view_as(part)).view(-1, channels)
            torch.addmm(counts_1C, self._ones[:, : len(above)], above, out=counts_1C)
        self.above[number] += counts_1C[0].cpu()
        highest = highest_parts[0] if len(highest_parts) == 1 else torch.cat(highest_parts)
        return highest.view(batch, width, channels).amax(1)

    def results(self) -> tuple[Exemplars, ...]:
        """Tell what was found so far."""
        self._merge_all()
        found = []
        for number, layer in enumerate(self.layers):
            values, index, places = self.best[number].sorted(self.images)
            least = self.least[number].sorted(self.images) if self.least else None
            found.append(
                Exemplars(
                    layer=layer,
                    values=values,
                    index=index,
                    places=torch.stack([places // layer.places[1], places % layer.places[1]], dim=-1),
                    firing=self.above[number] / max(1, self.images * layer.places[0] * layer.places[1]),
                    images=self.images,
                    least_values=None if least is None else -least[0],
                    least_index=None if least is None else least[1],
                )
            )
        return tuple(found)

    def _merge_all(self) -> None:
        for number in range(len(self.layers)):
            self._merge(number)

    def state(self) -> dict[str, Tensor]:
        """Everything that ``restore`` needs, as named tensors."""
        self._merge_all()
        tensors = {"images": torch.tensor(self.images)}
        for number, layer in enumerate(self.layers):
            name = f"{number}/{layer.name}"
            tensors[f"{name}/above"] = self.above[number].clone()
            for kind, lists in (("best", self.best), ("least", self.least)):
                if lists:
                    keys, places = lists[number].state()
                    tensors[f"{name}/{kind}/keys"], tensors[f"{name}/{kind}/places"] = keys.clone(), places.clone()
        return tensors

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Take in the ``state`` of a pass over other images by the same layers: the lists are as of one pass over all.

        Counts are whole numbers, and keys are unique and settle ties, so nothing depends on who saw which images.
        """
        self._merge_all()
        self.images += int(tensors["images"])
        for number, layer in enumerate(self.layers):
            name = f"{number}/{layer.name}"
            self.above[number] += tensors[f"{name}/above"]
            for kind, lists in (("best", self.best), ("least", self.least)):
                if lists:
                    lists[number].add(tensors[f"{name}/{kind}/keys"], tensors[f"{name}/{kind}/places"])

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what ``state`` gave for the same layers; DamagedFile for anything else."""
        wanted = {name: (t.shape, t.dtype) for name, t in self.state().items()}
        if {name: (t.shape, t.dtype) for name, t in tensors.items()} != wanted:
            raise DamagedFile("the exemplars that were kept are of other layers.")
        self.images = int(tensors["images"])
        for number, layer in enumerate(self.layers):
            name = f"{number}/{layer.name}"
            self.above[number] = tensors[f"{name}/above"].clone()
            for kind, lists in (("best", self.best), ("least", self.least)):
                if lists:
                    keys, places = (tensors[f"{name}/{kind}/{part}"] for part in ("keys", "places"))
                    lists[number].restore(keys.clone(), places.clone())


class _Best:
    """The k highest of each filter so far, as keys: one int64 holds the value above and the image below.

    Keys are unique and ordered by value, then by the lower index, so one exact top-k settles ties too. The few that may
    enter wait until there are enough of them to be merged together.
    """

    def __init__(self, layer: Layer, count: int) -> None:
        self._keys = torch.full((layer.filters, count), _WORST, dtype=torch.int64)
        self._places = torch.zeros(layer.filters, count, dtype=torch.int64)
        self._threshold = torch.full((layer.filters,), -torch.inf)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # filters, keys, places, each (n,)

    def merge(self, highest_BC: Tensor, index_B: Tensor, places_of: Places | None) -> None:
        """Take in a batch; where a value is reached is looked up for the few that may enter."""
        highest_BC = highest_BC.float()
        images, filters = (highest_BC.cpu() >= self._threshold).nonzero(as_tuple=True)
        if not len(filters):
            return
        if len(filters) > MANY * len(self._threshold):  # as in the first batches: the best of the batch are enough
            best = _key(highest_BC.T.cpu(), index_B).topk(min(self._keys.shape[1], len(index_B)), dim=1)
            filters = torch.arange(len(self._threshold)).repeat_interleave(best.indices.shape[1])
            images, keys = best.indices.flatten(), best.values.flatten()
        else:
            keys = _key(highest_BC.cpu()[images, filters], index_B[images])
        places = torch.zeros_like(keys)
        if places_of is not None:
            places = places_of(images, filters)
        self._waiting.append((filters, keys, places))
        if len(self._waiting) >= WAITING or len(filters) > len(self._threshold):
            self._settle()

    def _settle(self) -> None:
        """Merge what waits into the lists."""
        if not self._waiting:
            return
        filters, keys, places = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        order = filters.argsort(stable=True)
        filters, keys, places = filters[order], keys[order], places[order]
        chosen, row, counts = filters.unique_consecutive(return_inverse=True, return_counts=True)
        column = torch.arange(len(filters)) - (counts.cumsum(0) - counts)[row]
        k = self._keys.shape[1]
        both_keys = torch.full((len(chosen), k + int(counts.max())), _WORST, dtype=torch.int64)
        both_places = torch.zeros_like(both_keys)
        both_keys[:, :k], both_places[:, :k] = self._keys[chosen], self._places[chosen]
        both_keys[row, k + column], both_places[row, k + column] = keys, places
        best, where = both_keys.topk(k, dim=1)
        self._keys[chosen], self._places[chosen] = best, both_places.gather(1, where)
        self._threshold[chosen] = _value(best[:, -1])

    def add(self, keys: Tensor, places: Tensor) -> None:
        """Merge the lists of other images, as ``state`` gave them."""
        self._settle()
        both_keys, both_places = torch.cat([self._keys, keys], 1), torch.cat([self._places, places], 1)
        self._keys, where = both_keys.topk(self._keys.shape[1], dim=1)
        self._places = both_places.gather(1, where)
        self._threshold = _value(self._keys[:, -1])

    def state(self) -> tuple[Tensor, Tensor]:
        """Keys and places, each int64 (C, k), the best first."""
        self._settle()
        return self._keys, self._places

    def restore(self, keys: Tensor, places: Tensor) -> None:
        """Go on from what ``state`` gave."""
        self._keys, self._places, self._threshold = keys, places, _value(keys[:, -1])
        self._waiting.clear()

    def sorted(self, images: int) -> tuple[Tensor, Tensor, Tensor]:
        """Values, indices and places, the best first; as many as there were images, k at most."""
        keys, places = (tensor[:, :images].clone() for tensor in self.state())
        return _value(keys), _LOW_WORD - (keys & _LOW_WORD), places


def highest(maps_BCHW: Tensor) -> Tensor:
    """The highest value of each map, (B, C)."""
    return _by_rows(maps_BCHW).amax(1).unflatten(1, (maps_BCHW.shape[3], -1)).amax(1)


def average(maps_BCHW: Tensor) -> Tensor:
    """The mean value of each map, (B, C)."""
    return _by_rows(maps_BCHW).mean(1).unflatten(1, (maps_BCHW.shape[3], -1)).mean(1)


def _by_rows(maps_BCHW: Tensor) -> Tensor:
    """(B, H, W * C): reduced over rows first, each step works on long rows of channels-last memory, 4 to 10 times as
    fast as torch's reduction over both."""
    return maps_BCHW.permute(0, 2, 3, 1).flatten(2)


def _key(values: Tensor, index_B: Tensor) -> Tensor:
    """An int64 that orders as (value, -index) does: the float's bits, turned where negative, above 32 bits of index."""
    bits = (values.float() + 0.0).contiguous().view(torch.int32)  # + 0.0: there is one zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (_LOW_WORD - index_B)


def _value(keys: Tensor) -> Tensor:
    """The value in a key; minus infinity for a place that is not taken."""
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return torch.where(keys == _WORST, -torch.inf, bits.contiguous().view(torch.float32))
