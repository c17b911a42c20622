"""What Windows and macOS do otherwise, tried on Linux: missing modules, no fork, line ends, names that merge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kill_points import _timeless as without_times
from torture.odd_child import Ended, OddMachine
from torture.odd_ground import COMMANDS, TINY, Ground
from torture.odd_names import Named, tried

LINES = {**COMMANDS, "export as ONNX": "export r", "report as a site": "report r --site site"}
LINES["predict a heap"] = "predict r images --json"


def elsewhere(ground: Ground, machine: OddMachine, name: str, way: str) -> str:
    """What is wrong after a command on a system that lacks something."""
    if "explain" in name:
        ground.compile()
    folder = ground.copy(LINES[name])
    ended = machine.one(folder, LINES[name].split(), **{way.replace(" ", "_"): None})
    shutil.rmtree(folder)
    return f"exit code {ended.code}: {ended.err.strip()[-300:]}" if ended.code else ""


# -------------------------------------------------------------------------------------------------------- line ends

NET = COMMANDS["adopt"].replace("classes.txt", "{}") + " --json"


def _table(folder: Path) -> tuple[str, list[str]]:
    return "evaluate r table.csv --part all --json", ["table.csv"]


def _corrections(folder: Path) -> tuple[str, list[str]]:
    from convscope.datasets.corrections import Correction, write_corrections
    from convscope.storage import file_hash

    images = sorted((folder / "images" / "train" / "checks").iterdir())[:3]
    asked = [Correction(file_hash(images[0]), "leave-out"), Correction(file_hash(images[1]), "relabel", "stripes")]
    write_corrections(folder / "corrections.csv", asked)
    return f"train images --name new --corrections corrections.csv {TINY} --json", ["corrections.csv"]


def _classes(folder: Path) -> tuple[str, list[str]]:
    return NET.format("classes.txt"), ["classes.txt"]


def _classes_json(folder: Path) -> tuple[str, list[str]]:
    (folder / "classes.json").write_text('[\n "checks",\n "stripes"\n]\n', encoding="utf-8")
    return NET.format("classes.json"), ["classes.json"]


def _curve(folder: Path) -> tuple[str, list[str]]:
    rows = "\n".join(f"{i},{2.3 / (i + 1):.4f},{2.4 / (i + 1):.4f}" for i in range(12))
    (folder / "curve.csv").write_text(f"epoch,train_loss,val_loss\n{rows}\n", encoding="utf-8")
    return "diagnose curve.csv --json", ["curve.csv"]


def _curve_lines(folder: Path) -> tuple[str, list[str]]:
    rows = [json.dumps({"epoch": i, "loss": 2.3 / (i + 1), "val_loss": 2.4 / (i + 1)}) for i in range(12)]
    (folder / "curve.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return "diagnose curve.jsonl --json", ["curve.jsonl"]


def _yolo(folder: Path) -> tuple[str, list[str]]:
    root = folder / "boxes"
    (root / "labels").mkdir(parents=True)
    shutil.copytree(folder / "images" / "train" / "checks", root / "images")
    for path in (root / "images").iterdir():
        (root / "labels" / f"{path.stem}.txt").write_text("0 0.5 0.5 0.4 0.4\n1 0.3 0.3 0.2 0.2\n", encoding="utf-8")
    (root / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n", encoding="utf-8")
    (root / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    names = [p.relative_to(folder).as_posix() for p in (*root.glob("labels/*.txt"), *root.glob("*.*"))]
    return "doctor boxes --task detection --json", names


def _coco(folder: Path) -> tuple[str, list[str]]:
    root = folder / "coco"
    shutil.copytree(folder / "images" / "train" / "checks", root / "images")
    images = [
        {"id": i, "file_name": p.name, "width": 24, "height": 24}
        for i, p in enumerate(sorted((root / "images").iterdir()))
    ]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [2, 3, 9, 8], "area": 72, "iscrowd": 0}
        for i in range(len(images))
    ]
    told = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (root / "boxes.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    return "doctor coco --task detection --json", ["coco/boxes.json"]


def _records(folder: Path) -> tuple[str, list[str]]:
    """A run that was copied by a tool that changed the line ends of its text files."""
    return "evaluate r --json", [p.relative_to(folder).as_posix() for p in (folder / "runs" / "r").rglob("*.json*")]


FILES: dict[str, Callable[[Path], tuple[str, list[str]]]] = {
    "a table": _table,
    "corrections": _corrections,
    "classes.txt": _classes,
    "a list of classes": _classes_json,
    "a curve": _curve,
    "a curve of lines": _curve_lines,
    "YOLO's labels": _yolo,
    "COCO's JSON": _coco,
    "a run's records": _records,
}
ENDS: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "no end of the last line": lambda data: data.rstrip(b"\n"),
    "CRLF, and none at the end": lambda data: data.rstrip(b"\n").replace(b"\n", b"\r\n"),
    "CRLF and blank lines": lambda data: data.replace(b"\n", b"\r\n") + b"\r\n\r\n",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
}
OURS = {("a run's records", "a byte order mark"), ("a list of classes", "a byte order mark")}  # no tool does that


def other_ends(ground: Ground, file: str, ends: str) -> str:
    """What is wrong where a text file has another system's line ends: the answer is to be the same."""
    answers: list[Ended] = []
    for change in (lambda data: data, ENDS[ends]):
        folder = ground.copy()
        line, names = FILES[file](folder)
        for name in names:
            (folder / name).write_bytes(change((folder / name).read_bytes()))
        ended = ground.machine.one(folder, line.split())
        answers.append(replace(ended, out=ended.out.replace(folder.name, "here")))
        shutil.rmtree(folder)
    plain, changed = answers
    if plain.code not in (0, 65):
        return f"as it is: exit code {plain.code}: {plain.err.strip()[-300:]}"
    if changed.code != plain.code:
        return f"exit code {changed.code}: {changed.err.strip()[-300:]}"
    return "" if _timeless(plain.out) == _timeless(changed.out) else "the answer is another"


def _timeless(text: str) -> object:
    """What is printed as JSON, without times."""
    return [without_times(json.loads(line)) for line in text.splitlines() if line.startswith(("{", "["))] or text


# ------------------------------------------------------------------------------------------------ names that merge

TWINS = {
    "letter case": ["Cat", "cat"],
    "letter case in German": ["strasse", "stra\u00dfe"],
    "accents": ["caf\u00e9", "cafe\u0301"],
    "Korean": ["\ud55c", "\u1112\u1161\u11ab"],
    "a full stop": ["a", "a."],
    "a blank": ["a", "a "],
    "a device": ["con", "CON"],
    "a device with an ending": ["nul", "nul.txt"],
    "a sign that Windows lacks": ["a:b", "a?b"],
    "a backslash": ["a\\b", "a_b"],
    "a Turkish i": ["\u0130x", "ix"],
    "ligatures": ["\ufb01n", "fin"],
}


def twins(ground: Ground, kind: str) -> Named:
    """A run of two classes whose names are one elsewhere, of images that are called alike too."""
    return Named(ground, (TWINS[kind], [f"{name[:20]}-{i}" for i, name in enumerate(TWINS[kind])], "data"))


def merged(named: Named, command: str) -> str:
    """What is wrong after a command on such names."""
    return tried(named, command)
