"""A run's own page: its curves, results, mistakes, and what was or can be computed about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..classifying.classifier import CLASSES, FILE_NAME
from ..errors import ConvscopeError, DamagedFile, UnknownName
from ..evaluation.opening import ANSWER as EVALUATION
from ..evaluation.task_sheet import LISTED
from ..locks import holder
from ..spoken import quoted
from ..storage import read_json
from ..training.page_report import MEASURED, choices, doctors_word, roofline, train_summary
from ..training.rerunning import rerun_command
from ..training.runs import Run
from .answers import answer_folder
from .explained import layers_of
from .left_out import left_out
from .served import Served

DIAGNOSIS = "diagnose.json"
DRAWINGS = (".png", ".jpg")
LARGEST = 64 << 20  # bytes of a drawing that is shown; ours are a hundredth of it
FOLDERS = ("", "evaluate", "explain", "diagnose", "transfer")  # of a run, in which drawings lie
KEPT_WAY = (
    "best",
    "measured_by",
    "val_top1",
    "val_low",
    "val_high",
    "val_n",
    "test_top1",
    "test_low",
    "test_high",
    "test_n",
)
CURVES = ("epoch", "train_loss", "train_top1", "val_loss", "val_top1", "val_low", "val_high", "lr")
TIMES = ("seconds", "images_per_second")
TITLES = {
    "confusion": "Confusion: rows are the truth, columns the answers",
    "mistakes": "The surest mistakes",
    "calibration": "How often it is right, by how sure it is",
    "calibrated": "The same once the temperature is fitted",
    "classes": "A figure of each class, with its interval",
    "thresholds": "Precision and recall by the score from which on a box counts",
    "numbers": "What was answered against what is true",
    "worst": "The images that were answered worst",
}


def head_of(served: Served, name: str) -> dict[str, Any]:
    """What all pages of a run begin with: its name, whether it can be read, and which pages there are."""
    run = served.run(name)
    head: dict[str, Any] = {"run": name, "folder": str(run.folder), "training": holder(run.folder), "problem": None}
    try:
        said = run.description()
        kind = "transfer" if run.is_transferred() else "trained"
        head["kind"] = "adopted" if said.get("adopted") is not None else kind
    except ConvscopeError as error:
        head |= {"kind": None, "problem": str(error)}
    return head


def run_page(served: Served, name: str) -> dict[str, Any]:
    """All that is known of a run; of what is not there, the command that makes it."""
    run, head = served.run(name), head_of(served, name)
    shown: dict[str, Any] = {**head, "problems": [head["problem"]] if head["problem"] else []}
    shown |= dict.fromkeys(
        ("recipe", "data", "machine", "summary", "roofline", "command", "doctor", "diverged", "way", "drawn", "asked")
    )
    shown |= {"curves": [], "evaluations": [], "scores": [], "choices": [], "openings": [], "layers": []}
    for read in (_said, _curves, _trained, _evaluated):
        _into(shown, read, run)
    _into(shown, _around, run, shown["evaluations"])
    shown["layers"] = layers_of(served, run)
    shown["diagnosis"] = _sentence(answer_folder(run, "diagnose", DIAGNOSIS) / DIAGNOSIS)
    shown["transfer"] = _sentence(run.folder / MEASURED)
    shown["unfinished"] = None
    if not (run.folder / FILE_NAME).exists() and not head["problem"]:
        _into(shown, lambda run: {"unfinished": run.unfinished()}, run)
    counts = ((shown["data"] or {}).get("counts") or {}).get("test")
    shown["untested"] = counts is not None and not sum(counts.values())
    _into(shown, _transferred, run)
    return shown


def _into(shown: dict[str, Any], read: Callable[..., dict[str, Any]], *given: Any) -> None:
    """Add what can be read; what is damaged is told, and what is not there yet, or another version's, left out."""
    try:
        shown |= read(*given)
    except DamagedFile as error:
        shown["problems"].append(str(error))
    except (ConvscopeError, KeyError, TypeError, ValueError):
        pass


def ask_page(served: Served, name: str) -> dict[str, Any]:
    """What the page for asking needs to know of a run."""
    run = served.run(name)
    task = CLASSES
    with left_out(run.folder / MEASURED, KeyError):
        task = read_json(run.folder / MEASURED)["task"]
    return {**head_of(served, name), "layers": layers_of(served, run), "task": task}


def mistakes_page(
    served: Served, run: str, evaluation: str, truth: str | None = None, guess: str | None = None
) -> dict[str, Any]:
    """The surest mistakes of an evaluation: all that are kept, or those of one cell of the confusion matrix."""
    place, figures = evaluation_of(served, run, evaluation)
    names = [row["name"] for row in figures["classes"]]
    kept = place.with_name("wrong.json")
    if not kept.exists():
        raise DamagedFile(
            f"the images of these mistakes are not there: convscope evaluate {quoted(run)} looks at them again."
        )
    box = read_json(kept)
    cell = [int(n) if n is not None and n.isdecimal() and int(n) < len(names) else None for n in (truth, guess)]
    rows = [
        {**row, "truth": names[row["truth"]], "guess": names[row["guess"]], "row": number}
        for number, row in enumerate(box["mistakes"])
        if None in cell or [row["truth"], row["guess"]] == cell
    ]
    asked = [None if None in cell or n is None else names[n] for n in cell]
    shown = {"evaluation": evaluation, "mistakes": rows, "of": len(box["mistakes"]), "across": box["across"]}
    return {
        **head_of(served, run),
        "layers": layers_of(served, served.run(run)),
        **shown,
        "truth": asked[0],
        "guess": asked[1],
    }


def evaluation_of(served: Served, run: str, name: str, *, of_task: bool = False) -> tuple[Path, dict[str, Any]]:
    """Where an evaluation lies, and what it says. UnknownName without one, and for one of what another page shows."""
    there = {path.parent.name: path for path in served.run(run).folder.glob(f"evaluate/*/{EVALUATION}")}
    figures = read_json(there[name]) if name in there else {}
    if name not in there or is_of_task(figures) != of_task:
        raise UnknownName("evaluation", name, [one for one in there if one != name])
    return there[name], figures


def again(run: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The command that evaluates anew, and whether it looks at the run's own test images: then a button can give it."""
    own = figures.get("test_openings") is not None and figures["part"] == "test"
    return {
        "own": own,
        "again": f"convscope evaluate {quoted(run)}" + ("" if own else f" DATA --part {figures['part']}"),
    }


def drawings_of(run: Run) -> dict[str, Path]:
    """The drawings of a run by the name that their address has: those alone are shown, whatever is asked for."""
    found = {}
    for folder in FOLDERS:
        place = run.folder / folder
        for path in place.rglob("*") if folder else place.glob("*"):
            if path.suffix in DRAWINGS and path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST:
                found[path.relative_to(run.folder).as_posix()] = path
    return found


def _said(run: Run) -> dict[str, Any]:
    said = run.description()
    recipe = None if run.is_adopted() or run.is_transferred() else run.recipe().flat()
    return {"recipe": recipe, "data": said.get("data"), "machine": said["machine"], "adopted": said.get("adopted")}


def curves_of(run: Run) -> list[dict[str, Any]]:
    """A row an epoch: accuracy, loss and rate, with the seconds where they are known."""
    timing = {row["epoch"]: row for row in run.timing()}
    rows = []
    for row in run.log():
        beside = timing.get(row["epoch"], {})
        rows.append({key: row[key] for key in CURVES} | {key: beside.get(key) for key in TIMES})
    return rows


def _curves(run: Run) -> dict[str, Any]:
    return {"curves": curves_of(run), "diverged": run.diverged(), "drawn": (run.folder / "curves.png").exists()}


def _trained(run: Run) -> dict[str, Any]:
    summary = train_summary(run)
    return {"summary": summary, "roofline": roofline(summary), "command": rerun_command(run)}


def _evaluated(run: Run) -> dict[str, Any]:
    found, scores = [], []
    for path in sorted(run.folder.glob(f"evaluate/*/{EVALUATION}")):
        figures = read_json(path)
        drawn = {
            name: f"evaluate/{path.parent.name}/{name}.png" for name in TITLES if path.with_name(f"{name}.png").exists()
        }
        row = {"name": path.parent.name, "figures": figures, "drawings": drawn}
        if is_of_task(figures):
            scores.append({**row, "listed": path.with_name(LISTED).exists(), **again(run.name, figures)})
        else:
            found.append(row)
    return {"evaluations": found, "scores": scores, "titles": TITLES}


def _around(run: Run, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = [vars(choice) for choice in choices(run, evaluations)]
    return {"choices": chosen, "openings": run.openings(), "doctor": doctors_word(run)}


def _transferred(run: Run) -> dict[str, Any]:
    """The figures of the way that a transfer kept, and which images chose it: no epoch of ours did."""
    if not (run.folder / MEASURED).exists():
        return {}
    found = read_json(run.folder / MEASURED)
    if is_of_task(found):
        return {"asked": {**found, "value": found[found["metric"]]}, "choices": found.get("choices", [])}
    return {"way": {key: found.get(key) for key in KEPT_WAY}, "choices": found.get("choices", [])}


def is_of_task(found: dict[str, Any]) -> bool:
    """Whether a transfer, or an evaluation, is of another task than one class an image."""
    return found.get("task", CLASSES) != CLASSES


def _sentence(path: Path) -> str | None:
    with left_out(path):
        return str(read_json(path)["sentence"])
    return None
