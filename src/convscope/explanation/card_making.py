"""The making of cards: one pass for all exemplars, two small ones, and then the cards layer by layer.

``CardMaker.events`` is a generator, as the training loop is: whoever iterates it draws, saves and stops as it pleases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..classifying.prediction import BATCH, logits
from ..errors import DataError
from ..images.preprocess import to_tensor
from ..kept_memory import keeping_memory
from ..machine import device_of
from ..models.taps import computing_by, evaluating, reach
from ..progress import counted
from ..randomness import order, seed_of
from ..workers import hired
from .ablation import Ablated, ablate
from .card_material import CardMaterial
from .cards import Belief, Card, ClassImages, Exemplar, LayerCards, crops_of, parts_of, twins_of, usage_of, verdicts
from .crops import Box, Crops, crop_box, effective_field
from .descriptions import Rule, Seen, class_mix, dominant_colours, find_rules, first_layer, sights
from .evidence import find_head
from .exemplars import Exemplars, Stream, highest
from .layers import Layer, find_layers
from .maps import filter_images, pixel_weights
from .maximize import Maximized, maximize
from .objectives import logit, neuron
from .options import ExplainOptions
from .passes import ExemplarWork
from .presets import Palette, palette
from .probe import Probes, probe
from .responses import Responses, affordable, built_from, correlations, responses

BLOCK = 4 * BATCH  # images between two looks at the stream: of a slow network too the first cards come soon
FIELD_IMAGES = 16  # to measure an effective field on
NOISE_IMAGES = 64
PALETTE_IMAGES = 1_000
MOST_CLASSES = 100  # that get an image each


@dataclass(frozen=True)
class Stage:
    """So much of something is done."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Streamed:
    """The exemplars after another block of images: ``stream`` can be stored, or shown as it is."""

    stream: Stream
    done: int
    total: int
    what: str = "exemplars"


CardEvent = Stage | Streamed | Probes | ClassImages | LayerCards


class CardMaker:
    """The cards of a network in the making. ``layers`` are those asked for, ``every`` is every layer of the network.

    Behind a skip the maps that a head pools are no single layer's filters, and count as a layer of their own. ``most``
    bounds the held-out images, which words are scored on.
    """

    def __init__(self, material: CardMaterial, options: ExplainOptions, most: int | None = None) -> None:
        self.material, self.options = material, options
        dataset = material.dataset
        train, held_out = dataset.parts["train"], dataset.parts["val"]
        if not len(train):
            train = np.arange(len(dataset))
        if not len(held_out):  # a tenth, chosen by content
            shuffled = train[order(0, 0, dataset.keys[train])]
            held_out, train = np.split(shuffled, [max(1, len(shuffled) // 10)])
        if not len(train):
            raise DataError(f"{dataset.name} has only one image; explaining needs some.")
        if options.limit is not None:
            train = train[order(1, 0, dataset.keys[train])][: options.limit]
        # Shuffled by content, so that what was seen half way through is a fair sample.
        self.index = train[order(options.seed, 0, dataset.keys[train])]
        self._shares = np.bincount(dataset.labels[self.index], minlength=len(dataset.class_names)) / len(self.index)
        image = material.images(held_out[:1])
        every, head = find_layers(material.network, image), find_head(material.network, image)
        if head is not None and head.owner is None:  # behind a skip: no single layer's filters
            (features,) = find_layers(material.network, image, [head.features.module])
            every = (*every, replace(features, tap=head.features))
        asked = every if options.layer is None else find_layers(material.network, image, options.layer)
        self.layers = tuple(layer for layer in asked if self._filters(layer)) or asked  # those that have any
        self.without = tuple(layer.name for layer in asked if layer not in self.layers)
        self.every = (*every, *(layer for layer in self.layers if layer.name not in {other.name for other in every}))
        self._sights: dict[int | None, tuple[Tensor, Tensor]] = {}
        kept = affordable(self.layers, len(dataset))
        self.sample = np.sort(self.index[:kept])
        self.held_out = np.sort(held_out[order(options.seed, 1, dataset.keys[held_out])][:kept][:most])

    def events(
        self, kept: dict[str, Tensor] | None = None, skip: Sequence[str] = (), whole: bool = True
    ) -> Iterator[CardEvent]:
        """Do everything, and yield what is done.

        ``kept`` is the state of a stream to go on from, ``skip`` names the layers that are not made again. With
        ``whole``, what concerns the network as a whole is made too: probes and class images.
        """
        with keeping_memory(), evaluating(self.material.network), computing_by(self.material.faster):
            stream = Stream(self.layers, self.options.count, self.options.least)
            if kept is not None:
                stream.restore(kept)
            yield from self._passes(stream)
            found = stream.results()
            if not whole and all(layer.name in skip for layer in self.layers):
                return
            dataset = self.material.dataset
            yield Stage("answers", 0, 2)
            train, _ = self._responses(self.sample)
            yield Stage("answers", 1, 2)
            held_out, _ = self._responses(self.held_out)
            if whole and self.probed:
                labels = torch.from_numpy(dataset.labels)
                yield probe(train, labels[self.sample], held_out, labels[self.held_out], len(dataset.class_names))
            colours = palette(dataset.images[self.sample[:PALETTE_IMAGES]])
            if whole and self.pictured:
                yield Stage("class images", 0, 1)
                yield self._classes(colours)
            for number, layer in enumerate(self.layers):
                if layer.name not in skip:
                    yield from self._layer(found[number], train[number], held_out[number], colours)

    def one_layer(self, kept: Callable[[], dict[str, Tensor] | None], name: str) -> LayerCards:
        """Make the cards of one layer alone, from the state of a stream that is ``kept``."""
        others = [layer.name for layer in self.layers if layer.name != name]
        (made,) = (event for event in self.events(kept(), others, whole=False) if isinstance(event, LayerCards))
        return made

    @property
    def probed(self) -> bool:
        """Whether layers are probed: some layers alone do not show at which depth."""
        return len(self.layers) == len(self.every)

    @property
    def pictured(self) -> bool:
        """Whether each class gets an image: not where some filters alone are asked for, which do not show in it."""
        few = len(self.material.class_names) <= MOST_CLASSES
        return bool(self.options.seeds) and few and not self.options.filter

    def so_far(self, stream: Stream) -> Iterator[LayerCards]:
        """Make cards of exemplars alone, from a pass that goes on."""
        for found in stream.results():
            cards, crops = self._cards(found)
            yield LayerCards(found.layer, cards, stream.images, len(self.index), crops=crops)

    def _passes(self, stream: Stream) -> Iterator[Streamed]:
        """Go on with a stream to the end of the images, here or by the workers that the options name."""
        options, every = self.options, len(self.index)
        parts = [self.index[start : start + BLOCK] for start in range(stream.images, every, BLOCK)]
        with hired(options.engine, options, options.progress) if parts else nullcontext() as workers:
            states = (None for _ in parts) if workers is None else workers.each(self._work(), parts)
            for part, state in zip(parts, states, strict=True):
                self._pass(stream, part) if state is None else stream.add(state)
                yield Streamed(stream, stream.images, every)

    def _work(self) -> ExemplarWork:
        return self.material.exemplar_work(self.layers, self.options.count, self.options.least)

    def _pass(self, stream: Stream, index: np.ndarray) -> None:
        material = self.material
        with stream.watching(material.network, index):
            logits(material.network, material.dataset.images, material.preprocess, index)

    def _responses(self, index: np.ndarray) -> tuple[tuple[Responses, ...], Tensor]:
        material = self.material
        return responses(material.network, material.dataset.images, material.preprocess, self.layers, index)

    def _filters(self, layer: Layer) -> list[int]:
        return [k for k in (self.options.filter or range(layer.filters)) if k < layer.filters]

    def _layer(
        self, found: Exemplars, train: Responses, held_out: Responses, colours: Palette
    ) -> Iterator[Stage | LayerCards]:
        """Find out all that there is to one layer: words, twins, ablation, maximization."""
        layer, filters = found.layer, self._filters(found.layer)
        yield Stage(f"{layer.name}: words", 0, 1)
        rules = self._rules(layer, train, held_out)
        twins = correlations(held_out.highest)
        parts = None if layer.below is None else built_from(self.material.network, held_out)
        usage = None
        if self.options.ablate and self.material.labels is not None:
            yield Stage(f"{layer.name}: ablation", 0, 1)
            usage = self._ablate(layer, filters)
        images, box, believed = None, None, None
        if self.options.seeds:
            yield Stage(f"{layer.name}: maximization", 0, 1)
            images, box, believed = self._maximize(found, filters, colours)
        by_weights = pixel_weights(self.material.network, layer, self.material.preprocess, colours.grey)
        plain, crops = self._cards(found)
        cards = tuple(
            replace(
                card,
                rule=rules[card.filter],
                weights=None if by_weights is None else first_layer(by_weights[card.filter]),
                built_from=() if parts is None else parts_of(parts[card.filter], str(layer.below)),
                twins=twins_of(twins, card.filter),
                usage=None if usage is None else usage_of(usage, row, self.material.class_names),
                maximized=None if believed is None else believed[row],
            )
            for row, card in enumerate(plain)
        )
        near = self.material.images(self.sample[:FIELD_IMAGES])
        yield LayerCards(
            layer=layer,
            cards=cards,
            images=found.images,
            of=len(self.index),
            effective_field=effective_field(self.material.network, layer, near),
            maximized=images,
            box=box,
            filters=None if by_weights is None else filter_images(by_weights),
            crops=crops,
        )

    def _rules(self, layer: Layer, train: Responses, held_out: Responses) -> list[Rule]:
        dataset, indices = self.material.dataset, (self.sample, self.held_out)
        field = None if layer.field is None else min(max(layer.field.size), self.material.preprocess.size)
        if field not in self._sights:  # the deep layers of a network all see the whole image
            first, second = (sights(dataset.images[index], field) for index in indices)
            self._sights[field] = first, second
        train_seen, held_seen = (
            Seen(seen, torch.from_numpy(dataset.labels[index]), answers.highest)
            for seen, index, answers in zip(self._sights[field], indices, (train, held_out), strict=True)
        )
        return find_rules(train_seen, held_seen, dataset.class_names)

    def _ablate(self, layer: Layer, filters: list[int]) -> Ablated:
        material = self.material
        assert material.labels is not None  # asked before
        index = self.held_out[order(self.options.seed, 2, material.dataset.keys[self.held_out])]
        index = np.sort(index[: self.options.ablate])
        return ablate(
            material.network, material.dataset.images, material.labels, material.preprocess, layer, index, filters,
            counted(self.options.progress, f"{layer.name}: ablation"),
        )  # fmt: skip

    def _maximize(
        self, found: Exemplars, filters: list[int], colours: Palette
    ) -> tuple[np.ndarray, tuple[int, int, int, int], list[Belief]]:
        """The images (C, seeds, S, S, 3), the part of them that the filter sees, and whether to believe them."""
        layer, material = found.layer, self.material
        objectives = [neuron(layer, k) for k in filters]
        starts = material.dataset.images[found.index[filters, 0].numpy()] if self.options.from_exemplar else None
        climbed: list[Maximized] = [
            maximize(
                material.network,
                objectives,
                material.preprocess,
                colours,
                seed=seed_of(self.options.seed, s),
                keys=filters,
                starts_NHWC=starts,
                progress=counted(self.options.progress, f"{layer.name}: maximization, step"),
            )
            for s in range(self.options.seeds)
        ]
        answers = torch.stack([self._answers(layer, m.images) for m in climbed])
        generator = np.random.default_rng(self.options.seed)
        shape = (NOISE_IMAGES, material.preprocess.size, material.preprocess.size, 1 if colours.grey else 3)
        pixels = generator.integers(0, 256, shape, np.uint8)
        noise = self._answers(layer, np.ascontiguousarray(np.broadcast_to(pixels, (*shape[:3], 3)))).amax(0)
        gains = torch.stack([m.gains for m in climbed])
        images = np.stack([m.images for m in climbed], 1)
        return images, climbed[0].box, verdicts(found, answers, noise, gains, filters)

    def _classes(self, colours: Palette) -> ClassImages:
        """An image of each class, by its logit."""
        material, k = self.material, len(self.material.class_names)
        goals = [logit(k, c) for c in range(k)]
        told = counted(self.options.progress, "class images, step")
        made = maximize(material.network, goals, material.preprocess, colours, seed=self.options.seed, progress=told)
        scores = logits(material.network, made.images, material.preprocess).double()
        return ClassImages(made.images, tuple(torch.softmax(scores, 1).diagonal().tolist()))

    def _answers(self, layer: Layer, images_NHWC: np.ndarray) -> Tensor:
        """The highest value of every filter of a layer in images, through the network's own preprocess: (N, C)."""
        network, parts = self.material.network, []
        device = device_of(network)
        with torch.inference_mode():
            for start in range(0, len(images_NHWC), BATCH):
                block = to_tensor(images_NHWC[start : start + BATCH]).to(device)
                maps = reach(network, self.material.preprocess.normalise(block), [layer.tap])[0]
                parts.append(highest(maps).float().cpu())
        return torch.cat(parts)

    def _cards(self, found: Exemplars) -> tuple[tuple[Card, ...], tuple[Crops, ...]]:
        """Make the cards of a layer that hold exemplars alone, and cut the crops that they show."""
        dataset, made = self.material.dataset, []
        for k in self._filters(found.layer):
            exemplars = self._exemplars(found, k)
            crops = crops_of(dataset, exemplars)
            card = Card(
                layer=found.layer.name,
                filter=k,
                dead=bool(found.dead[k]),
                firing=float(found.firing[k]),
                exemplars=exemplars,
                least=self._least(found, k),
                classes=class_mix(dataset.labels[found.index[k].numpy()], self._shares, dataset.class_names),
                colours=dominant_colours(crops),
            )
            made.append((card, crops))
        return tuple(card for card, _ in made), tuple(crops for _, crops in made)

    def _exemplars(self, found: Exemplars, k: int) -> tuple[Exemplar, ...]:
        rows = zip(found.index[k].tolist(), found.values[k].tolist(), found.places[k].tolist(), strict=True)
        side = self.material.preprocess.size
        return tuple(
            self._exemplar(i, value, (row, column), crop_box(found.layer, (row, column), side))
            for i, value, (row, column) in rows
        )

    def _least(self, found: Exemplars, k: int) -> tuple[Exemplar, ...]:
        if found.least_index is None or found.least_values is None:
            return ()
        side = self.material.preprocess.size
        rows = zip(found.least_index[k].tolist(), found.least_values[k].tolist(), strict=True)
        return tuple(self._exemplar(i, value, (0, 0), (0, 0, side, side)) for i, value in rows)

    def _exemplar(self, i: int, value: float, place: tuple[int, int], box: Box) -> Exemplar:
        dataset = self.material.dataset
        return Exemplar(i, dataset.origins(i), dataset.class_names[dataset.labels[i]], value, place, box)
