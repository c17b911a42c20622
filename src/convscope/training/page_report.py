"""A run's page, ``report.html``, and its model card: what was trained on what, how good it is, and how that is known.

Both are made of what lies in the run's folder; nothing is computed with images, and no other file is needed to read
them. A network from elsewhere has a page too, without curves and recipe, and a transfer one with its ladder.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from ..canvas.figures import drawn_names
from ..canvas.pages import page, uri
from ..errors import DamagedFile, UsageError
from ..portable import folder_name
from ..storage import read_json, write_derived
from .continuing import CONTINUED
from .model_card import CARD, card_of
from .rerunning import own_code, rerun_command, set_in_python
from .runs import Run
from .task_page import task_page
from .told_evaluations import told_evaluations

TEMPLATE = Path(__file__).with_name("report.html")
TRANSFERRED = Path(__file__).with_name("transferred.html")
PAGE = "report.html"
SHEET = "augment.png"
PAIRS = 6  # confusions that are named
CLASSES = 200  # whose scores are shown
TOLD = "transfer/page.json"  # in a transfer's run: what its page says of the ladder
MEASURED = "transfer/transfer.json"  # there, once all of a transfer is written
DOCTOR = "doctor/doctor.json"  # in a folder that has the data's name, and a number where several have


@dataclass(frozen=True)
class Choice:
    """Something that was chosen, on which images, and how many of them; ``n`` is None where no image was looked at."""

    what: str
    by: str
    n: int | None


def train_summary(run: Run) -> dict[str, Any]:
    """The figures of a run so far: rates are fractions of 1, ``percent_of_peak`` is 0 to 100 (docs/json.md)."""
    log, timing = run.log(), run.timing()
    if not log or not timing:
        raise UsageError(f"run {run.name!r} has no finished epoch yet.")
    best = max(log, key=lambda row: (row["val_top1"], -row["epoch"]))
    total = {key: sum(row[key] for row in timing) for key in timing[0] if key.endswith("seconds") or key == "gflop"}
    images = sum(row["images"] for row in timing)
    peak = sum(row["peak_gflop_per_second"] * row["compute_seconds"] for row in timing) / total["compute_seconds"]
    rate = total["gflop"] / total["compute_seconds"]
    return {
        "run": str(run.folder),
        "epochs": log[-1]["epoch"],
        "best_epoch": best["epoch"],
        **{key: best[key] for key in ("val_top1", "val_low", "val_high", "val_n", "val_loss")},
        "images_per_second": images / (total["data_seconds"] + total["compute_seconds"]),
        **total,
        "gflop_per_second": rate,
        "peak_gflop_per_second": peak,
        "percent_of_peak": 100 * rate / peak,
        "winograd": len(run.recipe().convolution.tiles),
        "continued": read_json(run.folder / CONTINUED) if (run.folder / CONTINUED).exists() else None,
    }


def roofline(summary: dict[str, Any]) -> str:
    """The roofline line: what was computed, how close to the peak of this machine, and where the time went."""
    shares = ("data", "compute", "evaluation", "saving", "compile")
    spent = ", ".join(f"{'forward-backward' if s == 'compute' else s} {summary[f'{s}_seconds']:.1f} s" for s in shares)
    rest = max(0.0, summary["seconds"] - sum(summary[f"{s}_seconds"] for s in shares))
    fewer = f", of {summary['winograd']} convolutions as if they were direct," if summary["winograd"] else ""
    return (
        f"roofline: {summary['gflop'] / 1000:.2f} TFLOP{fewer} at {summary['gflop_per_second']:.0f} GFLOP/s, "
        f"{summary['percent_of_peak']:.0f} % of the {summary['peak_gflop_per_second']:.0f} GFLOP/s that a matrix "
        f"product reached in this run; {spent}, the rest {rest:.1f} s"
    )


def has_page(run: Run) -> bool:
    """Whether there is what a page is written from: an epoch, a network from elsewhere, or what a transfer told."""
    return lacks(run) is None


def lacks(run: Run) -> str | None:
    """What keeps a run's page from being written, in words; None where it can be."""
    if run.is_adopted():
        return None
    if (run.folder / TOLD).exists() if run.is_transferred() else run.log() and run.timing():
        return None
    if (run.folder / MEASURED).exists():
        return f"its transfer left its page, {run.folder / PAGE}, and not what that was written from"
    return run.unfinished()


def write_page(run: Run) -> Path:
    """Write the model card and ``report.html`` from what the run's folder holds; returns the page.

    The page comes last: by it a look at the test images is known to be told of (evaluation.opening).
    """
    left_out: list[str] = []
    if run.is_transferred() and "asks" in (told := read_json(run.folder / TOLD)):
        evaluated = [figures for _, figures in told_evaluations(run, left_out)]
        html = task_page(run, told, evaluated, left_out)
        write_derived(run.folder / CARD, card_of(run, evaluated))
        write_derived(run.folder / PAGE, html)
        return run.folder / PAGE
    description, evaluations = run.description(), read_evaluations(run, left_out)
    names = _class_names(description, evaluations)
    shared: dict[str, Any] = {
        "choices": choices(run, evaluations),
        "evaluations": evaluations,
        "openings": run.openings(),
        "left_out": left_out,
    }
    shared |= {"names": names, "numbers": drawn_names(names)[1]}
    if run.is_transferred():
        html = page(TRANSFERRED, name=run.name, **_transferring(run, left_out), **shared)
    else:
        trained = None if run.is_adopted() else _training(run, left_out)
        html = page(TEMPLATE, run=run, description=description, trained=trained, doctor=doctors_word(run), **shared)
    write_derived(run.folder / CARD, card_of(run, [e["figures"] for e in evaluations]))
    write_derived(run.folder / PAGE, html)
    return run.folder / PAGE


def _transferring(run: Run, left_out: list[str]) -> dict[str, Any]:
    """What only a transfer has: its summary, and the images of its ladder."""
    told = read_json(run.folder / TOLD)
    images = {path.stem: uri(path, left_out) for path in sorted((run.folder / TOLD).parent.glob("*.png"))}
    return {"images": images, **{name: told[name] for name in ("summary", "leading", "roofline")}}


def _training(run: Run, left_out: list[str]) -> dict[str, Any]:
    """What only a run that was trained here has."""
    summary, own = train_summary(run), own_code(run)
    return {
        "options": run.recipe().flat(),
        "summary": summary,
        "roofline": roofline(summary),
        "curves": uri(run.folder / "curves.png", left_out),
        "augmentation": uri(run.folder / SHEET, left_out),
        "command": rerun_command(run),
        "amounts": set_in_python(run.recipe()),
        "own_code": None if own is None else own.name,
    }


def read_evaluations(run: Run, left_out: list[str] | None = None) -> list[dict[str, Any]]:
    """The evaluations of a run: their names, figures, images, and the classes that are mistaken most.

    What rotted is told to what is ``left_out``; DamagedFile without that.
    """
    found = []
    for path, figures in told_evaluations(run, left_out):
        kinds = ("confusion", "mistakes", "calibration", "calibrated")
        images = {name: uri(path.with_name(f"{name}.png"), left_out) for name in kinds}
        told = {"pairs": _confused(figures), "classes": _shown(figures["classes"])}
        found.append({"name": path.parent.name, "figures": figures, "images": images, **told})
    return found


def _shown(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scores of classes that a page has room for: of very many those least and most often found."""
    if len(classes) <= CLASSES:
        return classes
    imaged = sorted((row for row in classes if row["n"]), key=lambda row: (row["recall"], row["f1"]))
    return imaged if len(imaged) <= CLASSES else [*imaged[: CLASSES // 2], *imaged[-CLASSES // 2 :]]


def _confused(figures: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    """(truth, taken for, how often, of how many): the commonest mistakes."""
    names = [row["name"] for row in figures["classes"]]
    if figures["confusion"] is None:
        rows = figures.get("confused", ())
        return [(names[row["truth"]], names[row["guess"]], row["n"], row["of"]) for row in rows[:PAIRS]]
    pairs = [
        (names[truth], names[guess], count, sum(row))
        for truth, row in enumerate(figures["confusion"] or ())
        for guess, count in enumerate(row)
        if truth != guess and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:PAIRS]


def choices(run: Run, evaluations: list[dict[str, Any]]) -> list[Choice]:
    """Which images chose what: weights, rate, epoch, temperature and bounds; the test images chose nothing."""
    rows = []
    if run.is_adopted():
        rows.append(Choice("the weights, and all about them", "whoever trained it: nothing here says", None))
        counts: dict[str, int] = {}
    else:
        counts = {part: sum(found.values()) for part, found in run.description()["data"]["counts"].items()}
    if run.is_transferred():
        rows += [Choice(**row) for row in read_json(run.folder / TOLD)["choices"]] if has_page(run) else []
    elif not run.is_adopted():
        rows.append(Choice("the weights", "training images", counts["train"]))
        if (run.folder / "lr.json").exists():
            rows.append(Choice("the learning rate", "a range test on training images", counts["train"]))
        epochs = len(run.log())
        rows.append(Choice(f"the epoch that is kept, of {epochs}", "validation images", counts["val"]))
    for found in evaluations:
        if found["figures"].get("temperature") is not None:
            told = f"the temperature {found['figures']['temperature']:.2f}, which no accuracy depends on"
            rows.append(Choice(told, "validation images", found["figures"]["temperature_n"]))
            break
    if (run.folder / "known.safetensors").exists():
        rows.append(Choice("the bounds of “none of these”", "training and validation images", None))
    if counts.get("test"):
        rows.append(Choice("nothing", "test images", counts["test"]))
    return rows


def doctors_word(run: Run) -> dict[str, Any] | None:
    """What `convscope doctor` last said of the run's data, beside its runs; None where nobody has asked."""
    described = run.description()
    data = (described.get("data") or {}).get("name")
    if data is None:
        return None
    read_from = (described.get("recipe") or {}).get("data", {}).get("name")
    for path in sorted(run.folder.parent.glob(f"{escape(folder_name(data))}*/{DOCTOR}")):
        with suppress(DamagedFile):
            found = read_json(path)
            if found["data"] == data and found.get("read_from", read_from) == read_from:
                return {
                    "verdict": str(found["verdict"]),
                    "images": int(found["images"]),
                    "findings": [(str(row["grade"]), str(row["sentence"])) for row in found["findings"]],
                }
    return None


def _class_names(description: dict[str, Any], evaluations: list[dict[str, Any]]) -> list[str]:
    counts = (description.get("data") or {}).get("counts")
    if counts:
        return list(next(iter(counts.values()), ()))
    return [row["name"] for row in evaluations[0]["figures"]["classes"]] if evaluations else []
