"""What `convscope doctor` found in data: its verdict, and pairs and labels to judge, which a corrections file keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..datasets.corrections import LEAVE_OUT, RELABEL, Correction, read_corrections, write_corrections
from ..errors import DataError, UnknownName, UsageError
from ..inspection.report import NAME, SEEN
from ..locks import lock
from ..storage import read_json
from .left_out import left_out
from .served import Served
from .stepping import offered

DOCTOR = "doctor.json"
KEEP = "keep"  # beside the actions of corrections: the image stays as it is


def data_list(served: Served) -> dict[str, Any]:
    """The data that the doctor has looked through, and what else can be trained on here, which it has not."""
    found = _looked_through(served)
    seen = {str(row["data"]) for row in found.values()} | found.keys()
    unseen = [{"name": name, "data": path} for name, path in offered(served).items() if name not in seen]
    return {"data": list(found.values()), "unseen": unseen, "folder": str(served.folder)}


def _looked_through(served: Served) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(served.folder.glob(f"*/doctor/{DOCTOR}")):
        with left_out(path):
            box = served.json.read(path)
            name = path.parent.parent.name
            found[name] = {"name": name, **{key: box.get(key) for key in ("data", "images", "classes", "verdict")}}
    return found


def data_page(served: Served, data: str) -> dict[str, Any]:
    """The doctor's findings about one dataset, and what was decided of each image shown."""
    folder = _folder(served, data)
    found, seen = read_json(folder / DOCTOR), _seen(folder)
    path, problem, marked = _corrections(folder), None, {}
    try:
        marked = {c.digest: {"action": c.action, "label": c.label} for c in _read(path)}
    except DataError as error:
        problem = str(error)
    return {
        "name": data,
        "found": found,
        "pairs": seen["pairs"],
        "labels": seen["labels"],
        "classes": seen["classes"],
        "marked": marked,
        "corrections": str(path),
        "problem": problem,
    }


def mark(served: Served, data: str, digest: str, action: str, label: str = "") -> dict[str, Any]:
    """Write into the corrections file what is to be done with an image; ``keep`` takes it out of the file again.

    No image and no folder of images is touched. UsageError for an image that is not shown, or another action.
    """
    folder = _folder(served, data)
    seen = _seen(folder)
    shown = {row["digest"]: row["name"] for pair in seen["pairs"] for row in pair["images"]}
    shown |= {row["digest"]: row["name"] for row in seen["labels"]}
    if digest not in shown:
        raise UsageError("there is no such image among those that are shown.")
    if action not in (KEEP, LEAVE_OUT, RELABEL):
        raise UnknownName("action", action, (KEEP, LEAVE_OUT, RELABEL))
    if action == RELABEL and label not in seen["classes"]:
        raise UnknownName("class", label, seen["classes"])
    with lock(folder, f"the corrections of {data}"):
        path = _corrections(folder)
        rows = [c for c in _read(path) if c.digest != digest]
        if action != KEEP:
            wanted = label if action == RELABEL else ""
            rows.append(Correction(digest, action, wanted, "marked on the page", shown[digest]))
        write_corrections(path, rows)
    return {"digest": digest, "action": action, "label": label, "corrections": str(path), "lines": len(rows)}


def _folder(served: Served, data: str) -> Path:
    there = [path.parent.parent.name for path in sorted(served.folder.glob(f"*/doctor/{DOCTOR}"))]
    if data not in there:
        raise UnknownName("examined data", data, there)
    return served.folder / data / "doctor"


def _seen(folder: Path) -> dict[str, Any]:
    with left_out(folder / SEEN):
        return {"pairs": [], "labels": [], "classes": [], **read_json(folder / SEEN)}
    return {"pairs": [], "labels": [], "classes": []}


def _corrections(folder: Path) -> Path:
    """The corrections file that the doctor wrote; where it wrote none, the one it would have."""
    name = str(read_json(folder / DOCTOR).get("corrections_file") or NAME)
    return folder / Path(name).name


def _read(path: Path) -> list[Correction]:
    return read_corrections(path) if path.exists() else []
