"""The weights in a file found again in a network whose names they bear but for what stands before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import filterfalse
from math import isqrt
from pathlib import Path

import torch
from torch import nn

from ..errors import DamagedFile
from .fitting_weights import is_counter
from .pickled_weights import Groups

WRAPPERS = ("module", "_orig_mod")  # that data-parallel training, averaging and torch.compile put into names
AUXILIARY = ("aux", "AuxLogits", "aux1", "aux2", "aux_classifier", "n_averaged")  # of training alone
MOST_OF_A_HEAD = 4  # tensors that have a row for each class: weights and biases, of two heads at most
MOST_TOKENS = 8  # of a transformer that stand beside those of the image: of the class, of its teacher, registers
ASKED = 5  # names by which what stands before all of them is told
USUAL_PLACES = ("", "state_dict", "model_state_dict", "model", "net", "network")  # before averaged ones


@dataclass(frozen=True)
class Matched:
    """The tensors of a network by its own names, and sentences on how they were found."""

    tensors: dict[str, torch.Tensor]
    notes: tuple[str, ...]


def match_weights(network: nn.Module, groups: Groups, path: Path, name: str, image_size: int) -> Matched:
    """The weights of ``network`` among the groups of a file. DamagedFile says which half fits where not all does.

    The network was made for images of ``image_size`` pixels. Names may be behind another prefix, or lack the network's;
    "module." is taken off wherever it stands.
    """
    wanted = {n: tuple(t.shape) for n, t in network.state_dict().items()}
    tries = [_try(place, tensors, wanted) for place, tensors in _in_order(groups)]
    best = max(tries, key=lambda one: one.fitting)
    outputs = best.outputs()
    if outputs is not None:
        has, should = outputs
        raise DamagedFile(
            f"the weights in {path} answer for {has} classes, and {should} are named: name those that it was trained "
            "on, in their order, with --classes."
        )
    pixels = best.other_size(image_size)
    if pixels is not None:
        raise DamagedFile(
            f"the weights in {path} are for images of {pixels} pixels, by the positions that they know: "
            f"--input-size {pixels}."
        )
    if best.missing or best.misshapen or best.strange:
        raise DamagedFile(f"{path} holds the weights of another network than {name}: {best.told(wanted)}")
    notes = best.notes()
    more = [one.place for one in tries if one is not best and one.fitting == best.fitting]
    if more:
        notes += (
            f"the weights at {best.place or 'the top'!r} are taken; those at {', '.join(map(repr, more))} fit too.",
        )
    return Matched(best.tensors, notes)


def _in_order(groups: Groups) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """The groups, those at the usual places first: of equals the first is taken."""
    places = [p for p in USUAL_PLACES if p in groups] + [p for p in groups if p not in USUAL_PLACES]
    return [(place, groups[place]) for place in places]


@dataclass(frozen=True)
class _Try:
    """A group of tensors under the network's names, as far as they go."""

    place: str
    taken_off: str
    put_before: str
    wrapped: bool
    tensors: dict[str, torch.Tensor]
    missing: list[str]
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    strange: list[str]  # under the network's prefix, and not in it
    beside: list[str]

    @property
    def fitting(self) -> int:
        return len(self.tensors) - len(self.misshapen)

    def outputs(self) -> tuple[int, int] | None:
        """The outputs the weights have and should have, where nothing else differs; None otherwise."""
        pairs = {(has[:1], should[:1]) for _, has, should in self.misshapen if has[1:] == should[1:]}
        alone = not self.missing and not self.strange and len(self.misshapen) <= MOST_OF_A_HEAD
        if not alone or len(pairs) != 1 or any(has[1:] != should[1:] for _, has, should in self.misshapen):
            return None
        (has, should), *_ = pairs
        return (has[0], should[0]) if has and should else None  # one number alone has no outputs

    def other_size(self, image_size: int) -> int | None:
        """The side of the images that a transformer's positions (1, tokens, width) are of, where these alone differ."""
        if self.missing or self.strange or len(self.misshapen) != 1:
            return None
        name, has, should = self.misshapen[0]
        if "pos" not in name or len(has) != 3 or has[::2] != should[::2]:
            return None
        sides = ((isqrt(max(0, has[1] - more)), isqrt(max(0, should[1] - more)), more) for more in range(MOST_TOKENS))
        square = ((a, b) for a, b, more in sides if (a * a + more, b * b + more) == (has[1], should[1]) and a and b)
        return next((image_size * a // b for a, b in square), None)

    def notes(self) -> tuple[str, ...]:
        found = []
        if self.place:
            found.append(f"the weights are those at {self.place!r} in the file.")
        if self.wrapped:
            found.append("their names stood behind 'module.' or '_orig_mod.', which was taken off.")
        if self.taken_off:
            found.append(f"their names stood behind {self.taken_off!r}, which was taken off.")
        if self.put_before:
            found.append(f"their names lacked {self.put_before!r}, which was put before them.")
        if self.beside:
            more = ", ..." if len(self.beside) > 3 else ""
            told = ", ".join(self.beside[:3]) + more
            found.append(f"{len(self.beside)} tensors that belong to no layer of the network are left out: {told}.")
        return tuple(found)

    def told(self, wanted: Mapping[str, tuple[int, ...]]) -> str:
        """Which part fits and which does not."""
        bad = {*self.missing, *(n for n, _, _ in self.misshapen)}
        parts: dict[str, list[bool]] = {}
        for name in filterfalse(is_counter, wanted):
            parts.setdefault(_part(name, wanted), []).append(name not in bad)
        whole = [part for part, fits in parts.items() if all(fits)]
        gone = {part for part in parts if all(n in self.missing for n in wanted if _part(n, wanted) == part)}
        none = [part for part, fits in parts.items() if not any(fits) and part not in gone]
        some = [part for part, fits in parts.items() if any(fits) and not all(fits)]
        count = sum(map(len, parts.values()))
        sentences = [f"{count - len(bad)} of its {count} tensors fit"]
        for words, names in (("whole", whole), ("in part", some), ("not at all", none), ("not in the file", [*gone])):
            if names:
                sentences.append(f"{words}: {_few(names)}")
        if self.misshapen:
            name, has, should = self.misshapen[0]
            sentences.append(f"{name} is {has} in the file and {should} in the network")
        if self.strange:
            sentences.append(f"the file has besides {_few(self.strange)}")
        return "; ".join(sentences) + "."


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _part(name: str, wanted: Mapping[str, tuple[int, ...]]) -> str:
    """The piece of the network a tensor belongs to: its first module, or the second where all are in one."""
    first = name.split(".")[0]
    if all(other.split(".")[0] == first for other in wanted):
        return ".".join(name.split(".")[:2])
    return first


def _try(place: str, given: Mapping[str, torch.Tensor], wanted: Mapping[str, tuple[int, ...]]) -> _Try:
    plain = {_unwrapped(name, wanted): tensor for name, tensor in given.items()}
    best = max(_prefixes(plain, wanted), key=lambda ends: _count(plain, wanted, *ends))
    off, before = best
    renamed = {before + name.removeprefix(off): t for name, t in plain.items() if name.startswith(off)}
    tensors = {name: renamed[name] for name in wanted if name in renamed}
    beside = [name for name in plain if not name.startswith(off)]
    strange = []
    for name in renamed:
        if name not in wanted:
            known = any(part in AUXILIARY for part in name.split("."))
            (beside if known else strange).append(name)
    shapes = [(n, tuple(t.shape), wanted[n]) for n, t in tensors.items() if tuple(t.shape) != wanted[n]]
    missing = [n for n in wanted if n not in tensors and not is_counter(n)]
    return _Try(place, off, before, list(plain) != list(given), tensors, missing, shapes, strange, beside)


def _unwrapped(name: str, wanted: Mapping[str, tuple[int, ...]]) -> str:
    """The name without what wrappers put into it; as it is where the network has it so."""
    if name in wanted:
        return name
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _prefixes(given: Mapping[str, torch.Tensor], wanted: Mapping[str, tuple[int, ...]]) -> list[tuple[str, str]]:
    """What may have to be taken off the names, and put before them; neither comes first."""
    found = {("", ""): None}
    for name in sorted(wanted, key=len, reverse=True)[:ASKED]:
        for other in given:
            if other.endswith("." + name):
                found[other.removesuffix(name), ""] = None
    for name in sorted(given, key=len, reverse=True)[:ASKED]:
        for other in wanted:
            if other.endswith("." + name):
                found["", other.removesuffix(name)] = None
    return list(found)


def _count(given: Mapping[str, torch.Tensor], wanted: Mapping[str, tuple[int, ...]], off: str, before: str) -> int:
    """How many tensors fit by name and shape."""
    names = (before + name.removeprefix(off) if name.startswith(off) else "" for name in given)
    return sum(wanted.get(name) == tuple(t.shape) for name, t in zip(names, given.values(), strict=True))
