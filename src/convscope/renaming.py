"""Classes merged and renamed: what ``--merge`` and ``--rename`` say, as one table from old names to new ones.

A class that keeps its name while others join it stands in the table too, so that the table alone says what was meant:
one old name to a new one renames, several to the same merge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from .errors import UsageError

_SIGNS = re.compile(r"\\(.)|([,=])")  # a backslash takes the meaning off the sign behind it
KEPT_BLANK = "\x00"
SPELLING = r"a comma, = or \ within a name is written with a \ before it"


def table_of(merge: Iterable[str] | None, rename: Iterable[str] | None) -> dict[str, str]:
    """The table of old names to new ones. UsageError for what is written otherwise, or names a class twice."""
    table: dict[str, str] = {}
    made: set[str] = set()
    for option, texts in (("--merge", merge or ()), ("--rename", rename or ())):
        for text in texts:
            old, new = _read(option, text)
            for name in old:
                if name in table:
                    raise UsageError(f"{option} {text}: class {name!r} is named twice; each class may be named once.")
            if new in made:
                raise UsageError(f"{option} {text}: {new!r} is made twice; name all its classes in one --merge.")
            made.add(new)
            table |= dict.fromkeys(old, new)
    return table


def _read(option: str, text: str) -> tuple[list[str], str]:
    """The old names that one option gives, and the new one. A single class that joins another brings it along."""
    words = list(_words(text))
    signs = [sign for _, sign in words[:-1]]
    names = [name for name, _ in words]
    form = "A,B=C, the classes to merge and their new name" if option == "--merge" else "A=B, the old and the new name"
    if signs[-1:] != ["="] or signs.count("=") > 1 or not all(names):
        raise UsageError(f"{option} {text!r} is not of the form {form}; {SPELLING}.")
    *old, new = names
    twice = next((name for name in old if old.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{option} {text}: class {twice!r} is named twice; each class may be named once.")
    if option == "--rename" and len(old) > 1:
        raise UsageError(f"--rename {text} names {len(old)} classes: --merge {text} makes one of them.")
    if old == [new]:
        raise UsageError(f"{option} {text} changes nothing: {new!r} is the only class it names.")
    return [*old, new] if option == "--merge" and len(old) == 1 else old, new


def _words(text: str) -> Iterator[tuple[str, str]]:
    """The names in a text, each with the sign behind it ("" behind the last)."""
    name, at = "", 0
    for found in _SIGNS.finditer(text):
        name += text[at : found.start()] + (KEPT_BLANK if found[1] == " " else found[1] or "")
        at = found.end()
        if found[2]:
            yield _stripped(name), found[2]
            name = ""
    yield _stripped(name + text[at:]), ""


def _stripped(name: str) -> str:
    r"""The name without the blanks around it, but for those that were written with a \ before them."""
    return name.strip().replace(KEPT_BLANK, " ")


def spelled(table: Mapping[str, str] | None) -> str:
    """The table as options that say the same, or words for an empty one."""
    said = [f"--{option} {text}" for option, texts in options_of(table).items() for text in texts]
    return " ".join(said) or "all classes as they are"


def options_of(table: Mapping[str, str] | None) -> dict[str, tuple[str, ...]]:
    """The options that say the same as a table: what is typed behind each --merge and --rename."""
    groups: dict[str, list[str]] = {}
    for old, new in (table or {}).items():
        groups.setdefault(new, []).append(old)
    said = {
        "merge": tuple(as_typed(old, new) for new, old in groups.items() if len(old) > 1),
        "rename": tuple(as_typed(old, new) for new, old in groups.items() if len(old) == 1),
    }
    return {option: texts for option, texts in said.items() if texts}


def as_typed(old: Iterable[str], new: str) -> str:
    """What is typed behind an option that makes ``new`` of the classes ``old``."""
    return f"{','.join(map(_escaped, old))}={_escaped(new)}"


def _escaped(name: str) -> str:
    return re.sub(r"([\\,=]|^ +| +$)", lambda found: "".join(f"\\{sign}" for sign in found[0]), name)
