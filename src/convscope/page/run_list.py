"""The table of runs: what each is, how good, whether it trains now, and what was computed about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..errors import ConvscopeError
from ..locks import holder
from ..storage import read_json
from ..training.page_report import MEASURED
from ..training.runs import Run
from ..training.task_page import as_written, shown
from .served import Served
from .stamps import Stamp, stamp

COLUMNS = {
    "name": "run",
    "kind": "kind",
    "model": "network",
    "data": "data",
    "epochs": "epochs",
    "val_top1": "validation",
    "test_top1": "test",
    "seconds": "seconds",
    "changed": "changed",
}  # by which the table is sorted; each row has them
EVALUATIONS = "evaluate/*/evaluation.json"
TASKS = ("val_task", "test_task")  # the figures of a run of masks, boxes, labels or numbers, by which no run is sorted
INTERVALS = ("val_low", "val_high", "val_n", "test_low", "test_high", "test_n")
NUMBERS = ("epochs", "val_top1", "test_top1", "seconds")  # sorted from the highest down, unless asked otherwise


class RunRows:
    """A row a run, kept until one of the run's files changes."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[Stamp, ...], dict[str, Any]]] = {}

    def of(self, name: str, run: Run) -> dict[str, Any]:
        """The run's row; of one that cannot be read, why."""
        now = tuple(stamp(path) for path in (run.folder / "recipe.json", run.folder / "log.jsonl", run.folder))
        now += tuple(stamp(path) for path in run.folder.glob(EVALUATIONS))
        kept = self._kept.get(name)
        if kept is None or kept[0] != now:
            self._kept[name] = kept = (now, _row(name, run))
        return {**kept[1], "training": holder(run.folder) is not None}


def runs_page(served: Served, rows: RunRows, sort: str = "changed", order: str = "", find: str = "") -> dict[str, Any]:
    """The runs whose name, network or data hold the words to ``find``, sorted by one of COLUMNS."""
    sort = sort if sort in COLUMNS else "changed"
    every = [rows.of(name, run) for name, run in served.runs().items()]
    words = find.lower().split()
    shown = [row for row in every if all(word in _words(row) for word in words)]
    down = order == "down" if order in ("up", "down") else sort in (*NUMBERS, "changed")
    there = sorted((row for row in shown if row[sort] is not None), key=lambda row: row[sort], reverse=down)
    missing = [row for row in shown if row[sort] is None]
    return {
        "folder": str(served.folder),
        "runs": there + missing,
        "of": len(every),
        "sort": sort,
        "order": "down" if down else "up",
        "find": find,
        "columns": COLUMNS,
    }


def _words(row: dict[str, Any]) -> str:
    return " ".join(str(row[key]) for key in ("name", "kind", "model", "data")).lower()


def _row(name: str, run: Run) -> dict[str, Any]:
    changed = datetime.fromtimestamp((stamp(run.folder) or (0,))[0] / 1e9, UTC).isoformat(timespec="seconds")
    row: dict[str, Any] = {
        **dict.fromkeys((*COLUMNS, *INTERVALS, *TASKS)),
        "name": name,
        "changed": changed,
        "problem": None,
        "of": None,
    }
    row["has"] = _has(run)
    try:
        _read(run, row)
    except ConvscopeError as error:
        row["problem"] = str(error)
    except (KeyError, TypeError, AttributeError):
        row["problem"] = "its record lacks what the table shows."
    return row


def _read(run: Run, row: dict[str, Any]) -> None:
    said = run.description()
    data = said.get("data") or {}
    row["data"] = data.get("name")
    if said.get("adopted") is not None:
        row |= {"kind": "adopted", "model": said["adopted"].get("network")}
    else:
        model, loop = said["recipe"].get("model", {}), said["recipe"].get("loop", {})
        row |= {"kind": "trained", "model": model.get("name"), "of": loop.get("epochs")}
        if (run.folder / MEASURED).exists():
            row |= {"kind": "transfer", "of": None, **_kept(run, read_json(run.folder / MEASURED))}
            return
    log, timing = run.log(), run.timing()
    if log:
        best = max(log, key=lambda found: found["val_top1"])
        row |= {"epochs": log[-1]["epoch"]} | {key: best[key] for key in ("val_top1", "val_low", "val_high", "val_n")}
    if timing:
        row["seconds"] = sum(found["seconds"] for found in timing)
    row |= _tested(run)


def _kept(run: Run, found: dict[str, Any]) -> dict[str, Any]:
    """What the transfer that a run keeps ``found``; where it left test images alone, what they were asked since."""
    told = {key: found.get(key) for key in ("seconds", "val_top1", "test_top1", *INTERVALS)}
    if "metric" not in found:
        return told if told["test_top1"] is not None else told | _tested(run)
    metric = found["metric"]
    told = {"seconds": found.get("seconds")}
    told |= {"val_task": as_written(metric, *(found[key] for key in ("val_value", "val_low", "val_high")))}
    if found[metric] is None:
        return told | _tested(run)
    return told | {"test_task": as_written(metric, *(found[key] for key in (metric, "low", "high")))}


def _tested(run: Run) -> dict[str, Any]:
    """The first evaluation on its own test images: that of all of them, where there is one."""
    for path in sorted(run.folder.glob(EVALUATIONS)):
        figures = read_json(path)
        if figures.get("part") != "test" or figures.get("test_openings") is None:
            continue
        if "metric" in figures:
            return {"test_task": shown(figures)}
        told = {f"test_{key}": figures[f"top1_{key}"] for key in ("low", "high")}
        return {"test_top1": figures["top1"], "test_n": figures["n"], **told}
    return {}


def _has(run: Run) -> list[str]:
    """What was computed about a run, in words."""
    places = {
        "evaluated": EVALUATIONS,
        "explained": "explain/**/explain.json",
        "diagnosed": "diagnose/**/diagnose.json",
        "transferred": "transfer/**/*.json",
    }
    return [word for word, place in places.items() if next(iter(run.folder.glob(place)), None) is not None]
