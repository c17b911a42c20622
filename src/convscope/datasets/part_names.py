"""What a folder or a cell of a table says of the part its images belong to: "Training", "seg_test", "ValSet"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

# The words that name a part, by the part. "eval" is either: validation where there is a test part beside it, else test.
TRAIN = ("train", "training", "trn", "learning")
VALIDATION = ("val", "valid", "validation", "validate", "validating", "dev", "devel", "development")
TEST = ("test", "testing", "tst", "holdout", "heldout", "unseen")
EITHER = ("eval", "evaluation", "evaluate", "evaluating")
_WORDS = (("train", TRAIN), ("val", VALIDATION), ("test", TEST), ("test", EITHER))
_PART_OF = {word: part for part, words in _WORDS for word in words}
# Words that say nothing beside one of those.
_FILLING = "set sets data dataset images image imgs img pictures pics photos split folder final all the part".split()
_GLUED = re.compile(rf"({'|'.join(sorted(_PART_OF, key=len, reverse=True))})({'|'.join(_FILLING)}|s)")


def words_of(name: str) -> list[str]:
    """The words of a name in small letters, apart at signs, digits and inner capitals: "TrainingSet_2" is two."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W\d_]+", apart.casefold())
    joined = " ".join(words).replace("hold out", "holdout").replace("held out", "heldout").split()
    return [glued[1] if (glued := _GLUED.fullmatch(word)) else word for word in joined]


def plain_part(name: str) -> str | None:
    """The part that a name is, nothing but filling words beside it; None for any other name."""
    told = [word for word in words_of(name) if word not in _FILLING]
    return _PART_OF.get(told[0]) if len(told) == 1 else None


def likely_part(name: str) -> str | None:
    """The part that one word of a name says, whatever the others: "asl_alphabet_train"; None without or with two."""
    parts = {_PART_OF[word] for word in words_of(name) if word in _PART_OF}
    return parts.pop() if len(parts) == 1 else None


def with_eval_told(names: Iterable[str], parts: dict[str, str]) -> dict[str, str]:
    """The parts by name, "eval" made validation where another folder is the test part."""
    tests = [n for n in names if parts[n] == "test"]
    either = [n for n in tests if set(words_of(n)) & set(EITHER)]
    return parts | dict.fromkeys(either, "val") if len(either) < len(tests) else parts


def parts_of_folders(images: Sequence[Path], root: Path) -> np.ndarray:
    """The part that a folder above each image names; none where all have the same: "Training_Images" is no part."""
    inside = [image.relative_to(root).parts[:-1] if image.is_relative_to(root) else () for image in images]
    told = [next(filter(None, map(plain_part, parts)), "") for parts in inside]
    return np.array(told if len(set(told)) > 1 else [""] * len(told), "U5")
