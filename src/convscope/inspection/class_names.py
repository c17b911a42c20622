"""What names of classes, folders and files say: names that should be one, classes that a part lacks, hidden groups."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..datasets.splits import PARTS
from ..datasets.unsplit import Unsplit
from .findings import Finding, are, counted, first, some

UNEVEN = 10  # times more images in the largest class than in the smallest
FEW = 10  # images of a class, under which nobody can say how well it is known
MANY_GROUPS = 5  # folders named alike but for a number
COVERED = 0.9  # of the file names that a pattern must fit
_NUMBERED = re.compile(r"(?P<word>.*?)[\s_.-]*\(?\d+\)?$")
# Ways in which two names can be the same to a reader, from what hides best.
_SAME = (
    ("a sign that cannot be seen", lambda name: "".join(c for c in name if unicodedata.category(c) != "Cf")),
    ("a blank at the end or within", lambda name: " ".join(name.split())),
    ("how an accent is written", lambda name: unicodedata.normalize("NFC", name)),
    ("letter case", str.casefold),
    ("signs between words", lambda name: re.sub(r"[\s_.-]+", " ", name).strip()),
)
MAY_BE_MEANT = ("letter case", "signs between words")
_GROUP_WORDS = re.compile(
    r"(?:^|[^a-z])(?:patients?|subj(?:ect)?s?|subs?|person|participants?|case|slide|scan|study|series|session|video|vid|clip|seq"
    r"(?:uence)?|scene|frames?|take|day|date|batch|camera|cam|folder|dir|p|s|id)$",
    re.IGNORECASE,
)


def name_findings(unsplit: Unsplit) -> Iterator[Finding]:
    """Names of classes, or of what else is told of an image, that a reader takes for one."""
    targets = unsplit.targets
    names = sorted(unsplit.class_names if targets is None else targets.names)
    pairs = pairs_alike(names)
    for one, other, why in pairs:
        yield Finding(
            "names-alike",
            "doubt" if why in MAY_BE_MEANT and (targets or _side_by_side(unsplit, one, other)) else "fault",
            f"classes {one!r} and {other!r} differ in {why} alone, and count as two.",
            2,
            "give both one name if they are one class.",
            (one, other),
            {"differ_in": why},
        )
    told = {name for pair in pairs for name in pair[:2]}
    for name in names:
        if name != name.strip() and name not in told:
            sentence = f"the class {name!r} has a blank at an end of its name."
            yield Finding("names-alike", "doubt", sentence, 1, "rename it, or tables will not find it.", (name,))


def pairs_alike(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Two different names and all in which they differ, where a reader would not see it."""
    found: dict[tuple[str, str], str] = {}
    for count, (why, _) in enumerate(_SAME, 1):
        first: dict[str, str] = {}
        for name in names:
            read = name
            for _, rule in _SAME[:count]:
                read = rule(read)
            one = first.setdefault(read, name)
            if one != name and (one, name) not in found:
                found[one, name] = " and ".join(_differences(one, name, count)) or why
    return [(one, other, why) for (one, other), why in sorted(found.items())]


def _differences(one: str, other: str, count: int) -> list[str]:
    """In which of the first ``count`` ways two names differ that are the same by all of them together."""
    needed = []
    for number in range(count):
        a, b = one, other
        for rule_number, (_, rule) in enumerate(_SAME[:count]):
            if rule_number != number:
                a, b = rule(a), rule(b)
        if a != b:
            needed.append(_SAME[number][0])
    return needed


def _side_by_side(unsplit: Unsplit, one: str, other: str) -> bool:
    """Whether both classes have images in one part of the data, as two classes have that are meant."""
    parts = [set(unsplit.given[unsplit.labels == unsplit.class_names.index(name)].tolist()) for name in (one, other)]
    return bool(parts[0] & parts[1])


def part_findings(unsplit: Unsplit, parts: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Classes that a part lacks, and how evenly classes are filled."""
    names = unsplit.class_names
    shown = np.zeros((len(unsplit.labels), len(names)), bool)
    shown[np.arange(len(shown)), unsplit.labels] = True
    yield from lacking_findings(unsplit, parts, names, shown)
    yield from _balance(unsplit, shown.sum(0))


def lacking_findings(
    unsplit: Unsplit, parts: Mapping[str, np.ndarray], names: Sequence[str], shown_NK: np.ndarray
) -> Iterator[Finding]:
    """Classes that a part lacks: ``shown_NK`` says which images show which class."""
    given = set(unsplit.given.tolist()) - {""}
    counts = {p: shown_NK[parts[p]].sum(0) for p in PARTS}
    whole = shown_NK.sum(0)
    for part in PARTS:
        lacking = [names[int(c)] for c in np.flatnonzero((counts[part] == 0) & (whole > 0))]
        if not lacking or not counts[part].sum():
            continue
        told = f"{counted(len(lacking), 'class', 'classes')} {are(len(lacking))} without an image in {part}: "
        grade = "fault" if part == "train" else "doubt" if part in given or len(parts[part]) else "note"
        advice = {
            "train": "a network cannot learn what it is never shown: add images, or remove the class.",
            "val": "add some, or no validation speaks of that class.",
            "test": "add some, or no test speaks of that class.",
        }[part]
        yield Finding(
            "missing-class",
            grade,
            f"{told}{some([*map(repr, lacking)])}.",
            len(lacking),
            advice,
            first(lacking),
            {"part": part},
        )


def times_fewer(ratio: float) -> str:
    """How many times fewer the least are, behind their number; nothing where it is hardly a difference."""
    return f": {ratio:.1f} times fewer" if ratio >= 1.05 else ""


def _balance(unsplit: Unsplit, whole: np.ndarray) -> Iterator[Finding]:
    filled = np.flatnonzero(whole)
    if len(filled) < 2:
        return
    most, least = filled[whole[filled].argmax()], filled[whole[filled].argmin()]
    ratio = whole[most] / whole[least]
    names = unsplit.class_names
    told = (
        f"every class has {counted(int(whole[most]), 'image')}."
        if ratio == 1
        else f"the largest class, {names[most]!r}, has {whole[most]:,} images, the smallest, {names[least]!r}, "
        f"{whole[least]:,}{times_fewer(ratio)}."
    )
    advice = "train with --balance, and read accuracy by class." if ratio >= UNEVEN else ""
    grade = "doubt" if ratio >= UNEVEN else "note"
    yield Finding("balance", grade, told, len(filled), advice, (), {"ratio": round(float(ratio), 2)})
    few = [names[c] for c in filled if whole[c] < FEW]
    if few:
        told = f"{counted(len(few), 'class', 'classes')} with fewer than {FEW} images: {some([*map(repr, few)])}."
        yield Finding("few-images", "doubt", told, len(few), "add images: fifty a class are a beginning.", first(few))


def group_findings(unsplit: Unsplit) -> Iterator[Finding]:
    """Class folders that are named like groups (patients, videos), and classes that stand in file names only."""
    words = Counter(_NUMBERED.sub(r"\g<word>", name).strip() for name in unsplit.class_names)
    word, count = words.most_common(1)[0]
    numbered = [name for name in unsplit.class_names if _NUMBERED.fullmatch(name)]
    if (
        len(numbered) >= MANY_GROUPS
        and count >= COVERED * len(unsplit.class_names)
        and _GROUP_WORDS.search(word or "-")
    ):
        names = sorted(numbered)
        told = f"{len(names)} class folders are named {word!r} and a number ({some(names)}): they look like groups."
        advice = (
            "if they are patients, videos or days, name the classes in a table, and keep each on one side by --group."
        )
        yield Finding("groups-as-classes", "doubt", told, len(names), advice, first(names))
    if not unsplit.files:
        return
    by_word = words_in_names([path.stem for path in unsplit.files])
    if by_word and len(unsplit.class_names) == 1:
        told = f"the file names begin with {len(by_word)} words ({some(sorted(by_word))}): they look like classes."
        advice = f"take the classes from there: --label-from '{LABEL_PATTERN}'"
        yield Finding("classes-in-names", "fault", told, len(by_word), advice, first(sorted(by_word)))


def folder_findings(unsplit: Unsplit) -> Iterator[Finding]:
    """Classes whose images lie in several folders of their own, which may be the classes that are meant."""
    if unsplit.root is None or not unsplit.files or unsplit.groups is not None:
        return
    depth = 2 if (unsplit.given != "").any() else 1  # of the class folder under the root
    inner: dict[str, set[str]] = defaultdict(set)
    for path, label in zip(unsplit.files, unsplit.labels, strict=True):
        folders = path.parent.relative_to(unsplit.root).parts if path.is_relative_to(unsplit.root) else ()
        name = unsplit.class_names[label]
        if len(folders) > depth and folders[depth - 1] == name:
            inner[name].add("/".join(folders[depth - 1 :]))
    found = sorted(folder for folders in inner.values() if len(folders) > 1 for folder in folders)
    if not found:
        return
    told = (
        f"{counted(len(found), 'folder')} within class folders ({some(found)}): their images count as the outer class."
    )
    pattern = "^" + "[^/]+/" * depth + "(.+)/[^/]+$"
    advice = f"if the inner ones are the classes, move them up; if patients, days or videos: --group '{pattern}'"
    yield Finding("folders-in-classes", "doubt", told, len(found), advice, first(found))


LABEL_PATTERN = r"^([^\W\d]+)"


def words_in_names(stems: Sequence[str]) -> dict[str, int]:
    """How often each first word of numbered file names stands there; empty where they do not look like classes.

    "cat.1", "cat.2", "dog_17" have two; "IMG_1", "IMG_2" have one, and "sunset", "paris" a word each.
    """
    pattern = re.compile(LABEL_PATTERN)
    found: dict[str, int] = defaultdict(int)
    for stem in stems:
        match = pattern.match(stem)
        if match and len(match[1]) > 1 and re.search(r"\d", stem[match.end() :]):
            found[match[1]] += 1
    covered = sum(found.values()) >= COVERED * len(stems)
    several = 2 <= len(found) <= max(2, len(stems) // 5)
    return dict(found) if covered and several and min(found.values()) > 1 else {}
