"""How a sentence names an option: --batch-size where a command was typed, `batch_size` where Python called; and how it
writes a command that can be typed as it stands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import ConvscopeError
from .visible import visible

_WORD = r"(?:'[^']*'|\"[^\"]*\"|,(?=\S)|[^\s'\",;)])+"  # of a command, as a shell takes it
_COMMAND = rf"\b(?:torchrun (?:{_WORD} )*?-m )?convscope [a-z]+(?: {_WORD})*"  # to be typed as it stands
_TYPED = re.compile(rf"{_COMMAND}|(?<![\w-])--([a-z][a-z-]*)|\b(DATA)\b")
NAMES = {"method": "methods", "DATA": "data"}  # of what Python calls otherwise


@dataclass
class _Asked:
    """How this process was asked for what it does."""

    typed: bool = False


_asked = _Asked()


@contextmanager
def typed() -> Iterator[None]:
    """In here a command that was typed is carried out, by all threads: errors name options as they are typed."""
    before, _asked.typed = _asked.typed, True
    try:
        yield
    finally:
        _asked.typed = before


@contextmanager
def called() -> Iterator[None]:
    """In here Python called one of our functions: errors name options as its arguments, unless a command is run."""
    try:
        yield
    except ConvscopeError as error:
        if not _asked.typed and error.args:
            error.args = (as_arguments(str(error.args[0])), *error.args[1:])
        raise


def quoted(word: object) -> str:
    """A word of a command as a shell takes it, and as it can be shown: of a path with blanks, in quotes."""
    return shlex.quote(visible(str(word)))


def option_name(argument: str) -> str:
    """How to name an option, by its argument in Python."""
    return f"--{argument.replace('_', '-')}" if _asked.typed else f"`{argument}`"


def as_arguments(sentence: str) -> str:
    """A sentence with options as Python's arguments; commands to be typed stay as they are."""
    return _TYPED.sub(lambda found: _argument(found[1] or found[2]) if found[1] or found[2] else found[0], sentence)


def _argument(option: str) -> str:
    return f"`{NAMES.get(option, option.replace('-', '_'))}`"
