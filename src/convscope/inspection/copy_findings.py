"""What copies mean: leaks between parts, one image under two labels, images that count twice, frames of one video."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.splits import PARTS
from ..progress import Progress
from .copies import Pair, exact_pairs, groups_of, near_pairs
from .findings import Finding, counted, first
from .survey import Survey

SURELY = 0.98  # the finer cosine from which near copies count where many images are alike
TOO_MANY = 10  # times more pairs below `SURELY` than above: these images are of a kind that looks alike
ENOUGH = 20  # pairs, from which that is judged
LEAKED = 0.01  # of a part's images that have a near copy in training
FRAMES = 0.05  # of the images that have a near copy beside them, from which file names are looked at
SAME_CLIP_IMAGES = 10  # of a video, on average, at least
SAME_CLIP = 0.8  # of the images with a near copy, those that have one among their neighbours by number
NEIGHBOURS = 2  # places between two frames that are alike because nothing moved
_COUNTER = re.compile(r"\d+(?=\D*$)")


ADVICE = {
    ("labels", True): "decide which label is right; the corrections file leaves both out.",
    ("labels", False): "decide which label is right; the corrections file leaves one of each out.",
    ("masks", True): "decide which mask is right; the corrections file leaves both out.",
    ("masks", False): "decide which mask is right; the corrections file leaves one of each out.",
    ("boxes", True): "decide which boxes are right; the corrections file leaves both out.",
    ("boxes", False): "decide which boxes are right; the corrections file leaves one of each out.",
    ("numbers", True): "decide which number is right; the corrections file leaves both out.",
    ("numbers", False): "decide which number is right; the corrections file leaves one of each out.",
    ("parts", True): "here they are left out of training by themselves; remove them for other programs.",
    ("parts", False): "what is tested was trained on: the corrections file leaves them out of training.",
}
TWICE = {"masks": "masks", "boxes": "different sets of boxes", "numbers": "numbers"}


@dataclass(frozen=True)
class Clash:
    """When two copies contradict each other, in ``kind``: labels, masks, boxes, numbers; ``words`` says so."""

    kind: str
    words: str
    differ: Callable[[Pair], bool]
    of: Callable[[Pair], dict[str, float]] = lambda _: {}  # what is measured of a pair, for its JSON


def class_clash(survey: Survey) -> Clash:
    """Copies of which each is in another class."""
    labels = survey.unsplit.labels
    return Clash("labels", "under two labels", lambda p: bool(labels[p.first] != labels[p.second]))


@dataclass(frozen=True)
class Copies:
    """Pairs of images with the same bytes, and pairs that look alike; ``alike_anyway`` says that many always do."""

    exact: list[Pair]
    near: list[Pair]
    alike_anyway: int = 0

    @property
    def all(self) -> list[Pair]:
        return [*self.exact, *self.near]

    def numbered(self, count: int, together: Sequence[Pair] = ()) -> np.ndarray:
        """A number for each of ``count`` images, the same for copies and for pairs that belong together, int64."""
        numbers = np.arange(count)
        for members in groups_of([*self.all, *together]):
            numbers[members] = members[0]
        return numbers


def same_group(groups_N: np.ndarray) -> list[Pair]:
    """Each image of a group with the group's first."""
    seen: dict[str, int] = {}
    firsts = [seen.setdefault(group, i) if group else i for i, group in enumerate(groups_N.tolist())]
    return [Pair(first, i, 0.0) for i, first in enumerate(firsts) if first != i]


def find_copies(survey: Survey, progress: Progress | None = None) -> Copies:
    """Find all copies. Where images of a kind look alike by nature, such as digits, only the surest count."""
    exact = exact_pairs(survey.digests[survey.good])
    good = survey.good
    exact = [Pair(int(good[p.first]), int(good[p.second]), 1.0) for p in exact]
    same = {survey.digests[i].tobytes(): int(i) for i in reversed(good)}
    first_of = {int(i): same[survey.digests[i].tobytes()] for i in good}
    seen: dict[tuple[int, int], Pair] = {}
    for pair in near_pairs(survey.thumbnails, progress):
        a, b = sorted((first_of[pair.first], first_of[pair.second]))
        if a != b:  # one pair for all that have the same bytes
            seen.setdefault((a, b), Pair(a, b, pair.alike))
    near = [seen[key] for key in sorted(seen)]
    sure = [pair for pair in near if pair.alike >= SURELY]
    if len(near) >= ENOUGH and len(near) > TOO_MANY * max(1, len(sure)):
        return Copies(exact, sure, len(near) - len(sure))
    return Copies(exact, near)


def copy_findings(survey: Survey, copies: Copies, parts: Mapping[str, np.ndarray], clash: Clash) -> Iterator[Finding]:
    """Sentences about copies, the gravest first."""
    part_of = np.full(len(survey), "", "U5")
    for part in PARTS:
        part_of[parts[part]] = part
    unsplit = survey.unsplit
    given = unsplit.given
    yield from _across(survey, copies, clash)
    known = (given != "").any()

    def leaks(pair: Pair) -> bool:
        return bool(given[pair.first] != given[pair.second])

    if known:
        yield from _across(survey, copies, Clash("parts", "in two parts of the data", leaks))
    groups = groups_of(copies.exact)
    if groups:
        extra = sum(len(members) - 1 for members in groups)
        sentence = (
            f"{counted(extra, 'extra copy', 'extra copies')} of {counted(len(groups), 'image')}, byte for byte; all of "
            f"one "
            "content train, validate or test together, and count several times."
        )
        listed = [" = ".join(survey.names(members)) for members in groups]
        details = {"extra": extra, "groups": [survey.names(members) for members in groups]}
        yield Finding("copies", "doubt", sentence, extra, "remove the extra ones.", first(listed), details)
    yield from _near(survey, copies, part_of)
    yield from _frames(survey, copies)


def _across(survey: Survey, copies: Copies, clash: Clash) -> Iterator[Finding]:
    """Copies where there should be none: exact ones are faults, near ones too where they are many or sure."""
    for name, pairs in (("the same image", copies.exact), ("nearly the same image", copies.near)):
        found = [pair for pair in pairs if clash.differ(pair)]
        if not found:
            continue
        share = len({pair.second for pair in found}) / len(survey)
        grave = pairs is copies.exact or share > LEAKED
        told = [_pair_words(survey, pair) for pair in found]
        sentence = (
            f"{counted(len(found), 'pair')} of {name} {clash.words}: "
            f"{', '.join(told[:2])}{', ...' if len(told) > 2 else ''}."
        )
        advice = ADVICE[clash.kind, pairs is copies.exact]
        details = {"pairs": [_pair_json(survey, pair) | clash.of(pair) for pair in found]}
        grade = "fault" if grave else "doubt"
        exactly = "exact" if pairs is copies.exact else "near"
        yield Finding(
            f"{exactly}-copies-across-{clash.kind}", grade, sentence, len(found), advice, first(told), details
        )


def _near(survey: Survey, copies: Copies, part_of: np.ndarray) -> Iterator[Finding]:
    if copies.alike_anyway:
        yield Finding(
            "alike",
            "note",
            f"{copies.alike_anyway:,} pairs of images look alike without being copies, as digits or scans do; "
            "only the surest are told.",
            copies.alike_anyway,
        )
    if not copies.near:
        return
    straddling = sum(part_of[p.first] != part_of[p.second] for p in copies.near)
    sentence = (
        f"{counted(len(copies.near), 'pair')} of near copies (saved again, resized, bordered, brighter or turned)"
    )
    sentence += f", {straddling:,} of them between training, validation and test." if straddling else "."
    told = [_pair_words(survey, pair) for pair in copies.near]
    details = {"pairs": [_pair_json(survey, pair) for pair in copies.near], "between_parts": int(straddling)}
    advice = "look at the pairs in the page; the corrections file leaves one of each out."
    yield Finding("near-copies", "doubt", sentence, len(copies.near), advice, first(told), details)


def _frames(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Near copies whose names are neighbours, counted by a number: frames of a video, that belong on one side.

    A camera counts its photographs too: of these few are like the next, and copies lie anywhere.
    """
    files = survey.unsplit.files
    if not files or not copies.near or survey.unsplit.groups is not None:
        return
    clip = [_COUNTER.sub("#", path.stem) for path in files]
    rank, within, alike = _ranks(clip, files), set[int](), 0
    for group in groups_of(copies.near):
        alike += len(group)
        places = {(clip[i], rank[i]) for i in group}
        steps = [step for step in range(-NEIGHBOURS, NEIGHBOURS + 1) if step]
        within |= {i for i in group if any((clip[i], rank[i] + step) in places for step in steps)}
    if len(within) < FRAMES * len(files) or len(within) < SAME_CLIP * alike:
        return
    clips = Counter(clip)
    if not 2 <= len(clips) <= len(files) // SAME_CLIP_IMAGES:
        return
    sentence = (
        f"{len(within):,} images look like their neighbours by name ({next(iter(clips))} ...): they are frames of "
        f"{counted(len(clips), 'video')}, and a split by image puts near copies on both sides."
    )
    advice = r"keep each video on one side: --group '^(.*?)\d+\D*$'"
    if 2 * max(clips.values()) > len(files):  # kept on one side it would leave little for the others
        advice = "split by hand, into folders train, val and test, so that neighbours stay on one side."
    yield Finding("frames-of-video", "fault", sentence, len(within), advice, first(sorted(clips)))


def _ranks(clip: Sequence[str], files: Sequence[Path]) -> list[int]:
    """The place of each file among those of its clip, by the number in their names; equal numbers have one place."""
    numbers: dict[str, set[int]] = {}
    own = [int(found[0]) if (found := _COUNTER.search(path.stem)) else 0 for path in files]
    for name, number in zip(clip, own, strict=True):
        numbers.setdefault(name, set()).add(number)
    places = {name: {n: i for i, n in enumerate(sorted(found))} for name, found in numbers.items()}
    return [places[name][number] for name, number in zip(clip, own, strict=True)]


def _pair_words(survey: Survey, pair: Pair) -> str:
    return " = ".join(survey.names((pair.first, pair.second)))


def _pair_json(survey: Survey, pair: Pair) -> dict[str, object]:
    one, other = survey.names((pair.first, pair.second))
    labels = [survey.label(pair.first), survey.label(pair.second)]
    return {"images": [one, other], "labels": labels, "alike": round(pair.alike, 4)}


def extra_copies(survey: Survey, copies: Copies, given: Sequence[str], clash: Clash) -> list[tuple[int, str]]:
    """Images to leave out, each with the reason: all copies under two labels, and of near copies the one that trains.

    Of exact copies with one label none is left out here: a correction goes by content, and would take them all.
    """
    found: dict[int, str] = {}
    for pair in copies.exact:
        if clash.differ(pair):
            told = f"the same image is under {survey.label(pair.first)} and {survey.label(pair.second)}"
            found.setdefault(
                pair.first, told if clash.kind == "labels" else f"the same image has two {TWICE[clash.kind]}"
            )
    order = {"test": 0, "val": 1, "": 2, "train": 2}
    groups = survey.unsplit.groups
    for pair in copies.near:
        if groups is not None and groups[pair.first] == groups[pair.second] != "":
            continue  # they stay on one side
        keep, leave = sorted((pair.first, pair.second), key=lambda i: (order[given[i]], i))
        if keep not in found:
            found.setdefault(leave, f"a near copy of {survey.unsplit.origin(keep)}")
    return sorted(found.items())
