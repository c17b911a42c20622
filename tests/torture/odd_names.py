"""Names that surprise: of classes, images and folders, through every command, and back right in what is written."""

from __future__ import annotations

import csv
import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convscope.visible import of_cell
from torture.odd_child import Ended
from torture.odd_ground import TINY, Ground, draw

# By kind, what a name is made of; {} is where letters come that tell two names apart.
KINDS: dict[str, tuple[str, ...]] = {
    "blanks": (" {} b", "a  {}", "{} ", "\u00a0{}", "\u3000{}\u2003b"),
    "line ends and tabs": ("{}\nb", "{}\tb", "{}\r\nb", "{}\x0bb", "{}\x85b", "\u2028{}", "{}\u2029"),
    "control characters": ("{}\x1b[31m", "{}\x07", "\x7f{}", "{}\x9b2J", "\x01{}"),
    "quotes": ("'{}'", '"{}"', "`{}`", "{}'; DROP", '{}","b', "\u201c{}\u201d"),
    "markup": ("<b>{}</b>", "&lt;{}&amp;", "<script>{}()</script>", "{{{{ {} }}}}", "{{% {} %}}", "]]>{}", "<!--{}"),
    "emoji": ("\U0001f408{}", "\U0001f469\u200d\U0001f467{}", "{}\U0001f3f3\ufe0f\u200d\U0001f308", "{}\u2764\ufe0f"),
    "right to left": ("\u05d7\u05ea\u05d5\u05dc{}", "\u202e{}gnp", "\u200f{}", "{}\u2067b\u2069", "\u0642\u0637{}"),
    "combining": ("e\u0301{}", "\u00e9{}", "{}\u0327\u0301", "\u1e9b\u0323{}", "\uac01{}", "\u0041\u030a{}"),
    "like options": ("-{}", "--{}", "--name={}", "-", "@{}", "--", "+{}"),
    "255 bytes": ("{}" + "a" * 250, "{}" + "\u65e5" * 83, "{}" + "\U0001f408" * 62),
    "no UTF-8": ("{}\udce9", "\udcff{}\udcfe", "{}\udc80", "\udcc3{}"),
    "Windows reserves": ("CON", "nul", "Aux", "com1", "LPT9", "PRN", "{}.", "{}...", "con.{}", "{}:b", "{}*?", "a|{}"),
    "percent signs": ("%{}", "100%", "%s{}", "%00{}", "%2e%2e{}", "{}%d%n", "%USERPROFILE%{}"),
    "the shell's": ("$({})", "`{}`", "{};ls", "a&{}", "$HOME{}", "~{}", "{}|cat", "!{}", "*{}", "[{}]", "{}\\n", "#{}"),
    "a table's": ("=1+{}", "+{}", "@SUM({})", "{};b", "{},b", "\ufeff{}", "{}\tb"),
    "a path's": ("..{}", ".{}", "{}..", "a\\{}", "..\\..\\{}", "\u2215{}", "\uff0f{}"),
    "no letters": ("_", "0", "1e5", "nan", "None", "true", "null", "[]", "1_000", "last"),
}
RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))}
HOLDERS = {".lock", ".lock-holder", ".last"}


def drawn_names(kind: str, seed: int) -> tuple[list[str], list[str], str]:
    """Two names of classes, two of images and one of a folder, of one kind, drawn by a seed."""
    dice = np.random.default_rng([seed, 11])
    made: list[str] = []
    while len(made) < 5:
        pattern = KINDS[kind][int(dice.integers(len(KINDS[kind])))]
        letters = "".join("abcdefghijkmnopqrstuvwxyz"[i] for i in dice.integers(0, 25, int(dice.integers(1, 4))))
        name = _whole(pattern.replace("{}", letters).replace("{{", "{").replace("}}", "}"))
        if name in (".", "..", "") or "/" in name or (name.startswith(".") and len(made) < 2):
            continue
        while any(_same(name, other) for other in made):  # two folders of one name are one
            name = f"{letters}{len(made)}" + name if len(os.fsencode(name)) < 240 else f"{len(made)}" + name[2:]
        made.append(name)
    return made[:2], made[2:4], made[4]


def _whole(name: str) -> str:
    """No longer than 250 bytes, and no letter cut in two."""
    raw = os.fsencode(name)
    if len(raw) <= 250:
        return name
    raw = raw[:250]
    for cut in range(4):
        try:
            raw[: len(raw) - cut].decode()
            return os.fsdecode(raw[: len(raw) - cut])
        except UnicodeDecodeError:
            continue
    return name


def _same(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one).casefold() == unicodedata.normalize("NFC", other).casefold()


class Named:
    """Images of two classes with odd names, and a run that was trained on them."""

    def __init__(self, ground: Ground, names: tuple[list[str], list[str], str]) -> None:
        self.ground, self.folder = ground, ground.empty()
        self.classes, self.images, data = names
        self.data = self.folder / data
        draw(self.data, ("checks", "stripes"))
        for part in ("train", "test"):
            for plain, name in zip(("checks", "stripes"), self.classes, strict=True):
                place = self.data / part / name
                (self.data / part / plain).rename(place)
                for i, image in enumerate(self.images):
                    (place / f"{i}.png").rename(place / f"{image[: 200 if image.isascii() else 60]}.png")
        self.trained = self.run("train", *self.words(), "--name", "r", *TINY.split())

    def words(self) -> tuple[str, ...]:
        """The data as it is typed: a name like an option is typed with its folder."""
        return (f"./{self.data.name}" if self.data.name.startswith(("-", "@")) else self.data.name,)

    def run(self, *words: str) -> Ended:
        """Run a command beside the data."""
        return self.ground.machine.one(self.folder, words)


def tried(named: Named, command: str) -> str:
    """What is wrong after a command on these names; "" where nothing is."""
    if named.trained.code:
        return f"train: {named.trained.err.strip()[-300:]}"
    ended, wrong = TRIED[command](named)
    if wrong:
        return wrong
    if ended.code:
        return f"exit code {ended.code}: {ended.err.strip()[-300:]}"
    if any(
        (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in ended.out.replace("\r\n", "\n") + ended.err
    ):
        return "a control character is printed"
    return unportable(named.folder / "runs") or unportable(named.folder / "cache")


def unportable(folder: Path) -> str:
    """Why what lies in a folder could not lie on Windows or macOS, for its names; "" if it could."""
    for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        seen: dict[str, str] = {}
        for name in (p.name for p in place.iterdir() if p.name not in HOLDERS):
            plain = unicodedata.normalize("NFC", name).casefold()
            if plain in seen:
                return f"{place.name}/{name!r} and {seen[plain]!r} are one file on some systems"
            seen[plain] = name
            bad = any(c in '<>:"|?*\\' or ord(c) < 32 for c in name)
            if bad or name.endswith((".", " ")) or name.split(".")[0].strip().casefold() in RESERVED:
                return f"Windows cannot hold {place.name}/{name!r}"
    return ""


# ---------------------------------------------------------------------------------------------------- each command


def shown(names: Sequence[str]) -> list[str]:
    from convscope.visible import visible

    return sorted(visible(name) for name in names)


def _plain(*words: str) -> Callable[[Named], tuple[Ended, str]]:
    def run(named: Named) -> tuple[Ended, str]:
        return named.run(*(w for word in words for w in (named.words() if word == "DATA" else (word,)))), ""

    return run


def _answers(named: Named) -> list[str]:
    """The paths of the test images, as they are to be told."""
    return sorted(str(p.relative_to(named.folder)) for p in (named.data / "test").rglob("*.png"))


def _test(named: Named) -> str:
    return f"{named.words()[0]}/test"


def _predict_csv(named: Named) -> tuple[Ended, str]:
    ended = named.run("predict", "r", _test(named), "--csv", "answers.csv")
    if ended.code:
        return ended, ""
    with (named.folder / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {of_cell(row["label"]) for row in rows}  # "-x" stands there as "'-x", which a table is read back from
    if len(rows) != len(_answers(named)) or not labels <= set(shown(named.classes)):
        return ended, f"the table has {len(rows)} rows and the labels {sorted(labels)}"
    return ended, ""


def _predict_json(named: Named) -> tuple[Ended, str]:
    ended = named.run("predict", "r", _test(named), "--json")
    if ended.code:
        return ended, ""
    rows = json.loads(ended.out)
    paths = sorted(os.path.normpath(row["path"]) for row in rows)
    if paths != _answers(named):
        return ended, f"the paths came back as {paths[:2]} and not {_answers(named)[:2]}"
    return ended, ""


def _evaluate(named: Named) -> tuple[Ended, str]:
    ended = named.run("evaluate", "r", "--json")
    if ended.code:
        return ended, ""
    names = sorted(row["name"] for row in json.loads(ended.out)["classes"])
    return ended, "" if names == shown(named.classes) else f"the classes came back as {names}"


def _image(named: Named) -> str:
    return "./" + next(p for p in _answers(named) if not Path(p).stem.isdigit())


def _copy_to(named: Named) -> tuple[Ended, str]:
    ended = named.run("predict", "r", _test(named), "--copy-to", "sorted")
    found = list((named.folder / "sorted").rglob("*.png")) if not ended.code else []
    if not ended.code and len(found) != len(_answers(named)):
        return ended, f"{len(found)} images of {len(_answers(named))} were copied"
    for place in (named.folder / "sorted").iterdir() if found else ():  # the images keep the names that they have
        bad = unportable_name(place.name)
        if bad:
            return ended, f"a folder of answers is called {place.name!r}"
    return ended, ""


def unportable_name(name: str) -> bool:
    """Whether Windows could not hold a file or folder of this name."""
    odd = any(c in '<>:"|?*\\/' or ord(c) < 32 for c in name)
    return odd or name.endswith((".", " ")) or name.split(".")[0].strip().casefold() in RESERVED


def _pages(named: Named) -> tuple[Ended, str]:
    ended = named.run("serve", "--get", "/runs/r.json")
    if ended.code:
        return ended, ""
    json.loads(ended.out)
    page = named.run("serve", "--get", "/runs/r")
    if "<script>" in "".join(named.classes) and f"{named.classes[0]}" in page.out:
        return page, "a name stands in the page as markup"
    return page, ""


def _site(named: Named) -> tuple[Ended, str]:
    ended = named.run("report", "r", "--site", "site")
    return ended, unportable(named.folder / "site") if not ended.code else ""


def _table(named: Named) -> tuple[Ended, str]:
    """The same images by a table of paths and labels."""
    with (named.folder / "table.csv").open("w", encoding="utf-8", newline="", errors="surrogateescape") as file:
        rows = [(str(p.relative_to(named.folder)), p.parent.name) for p in sorted(named.data.rglob("*.png"))]
        csv.writer(file).writerows([("path", "label"), *rows])
    return named.run("evaluate", "r", "table.csv", "--part", "all"), ""


TRIED: dict[str, Callable[[Named], tuple[Ended, str]]] = {
    "doctor": _plain("doctor", "DATA"),
    "train": lambda named: (named.trained, ""),
    "predict": _predict_csv,
    "predict --json": _predict_json,
    "evaluate": _evaluate,
    "explain": _plain(*"explain r --seeds 0 --ablate 0 --count 2 --layer conv1 --filter 0".split()),
    "explain an image": lambda named: (named.run("explain", "r", "--image", _image(named)), ""),
    "export": _plain("export", "r", "--format", "safetensors"),
    "report": _plain("report", "r"),
    "serve": _pages,
    "similar": lambda named: (named.run("similar", "r", _image(named), "--engine", "torch"), ""),
    "diagnose": _plain("diagnose", "r", "--images", "2"),
    "localize": _plain("localize", "r", "DATA"),
    "copy to": _copy_to,
    "features": _plain("features", "DATA", "--image-size", "64", "--engine", "torch"),
    "transfer": _plain("transfer", "DATA", "--image-size", "64", "--engine", "torch", "--quick", "--name", "t"),
    "site": _site,
    "table": _table,
}


def clear(named: Any) -> None:
    """Remove what was made for some names."""
    shutil.rmtree(named.folder, ignore_errors=True)
