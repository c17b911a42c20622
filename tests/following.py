"""Following advice: what a command says, and the commands, options and values that are taken out of its words."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convscope import cli

TINY = "--model resnet20 --width 4 --image-size 16 --epochs 1 --device cpu --flip none --augment none".split()
COLOURS = {"ant": (200, 30, 30), "bee": (30, 200, 30), "cat": (30, 30, 200)}


class Answer(NamedTuple):
    """What a command did and said."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line that it complained with, its notes, or what it printed."""
        return (self.err.strip() or self.out.strip()).splitlines()[-1]


def ask(*words: object) -> Answer:
    """Run a command as the command line does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([str(word) for word in words])
    return Answer(code, out.getvalue(), err.getvalue())


def refused(*words: object) -> str:
    """The one sentence of a command that refuses."""
    answer = ask(*words)
    assert answer.code not in (0, 1), answer
    line = answer.err.strip().splitlines()[-1]
    assert line.startswith("convscope: "), answer
    return line.removeprefix("convscope: ")


def works(*words: object) -> Answer:
    """What a command says that does what it was asked."""
    answer = ask(*words)
    assert answer.code == 0, answer.err
    return answer


def command(sentence: str) -> list[str]:
    """The words of the first command that a sentence names, without the program's."""
    (found,) = re.findall(r"\bconvscope ([a-z]+ .*?)(?=, or |; |\)$|$)", sentence)[:1]
    return shlex.split(found)


def options_of(command: str) -> set[str]:
    """The options that a command takes, as its parser has them."""
    found = cli.app[command].assemble_argument_collection(parse_docstring=True)
    return {name for argument in found if argument.parse and argument.show for name in argument.names}


def option(sentence: str, name: str) -> list[str]:
    """An option that a sentence names, with the value behind it where there is one: ["--batch-size", "8"]."""
    found = re.search(rf"(--{name})(?: (?:of )?([\w./-]*\w))?", sentence)
    assert found is not None, sentence
    return [part for part in found.groups() if part]


def photos(root: Path, classes: str = "ant bee", each: int = 12, seed: int = 0, side: int = 16) -> Path:
    """A folder with one folder a class of images of about one colour."""
    random = np.random.default_rng(seed)
    for name in classes.split():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = np.array(COLOURS[name.split("/")[-1]]) + random.integers(-30, 30, (side, side, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{seed}-{i}.png")
    return root
