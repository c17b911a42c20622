"""`convscope evaluate`, `predict` and `adopt`: how good a classifier is, what it answers, and one from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from ..options import STANDARD_INPUT, Flag, Flat
from ..spoken import quoted
from ..storage import expanded
from ..terminal import cell, console, new_table, percent, print_json, print_notes, progress_bar
from ..visible import visible
from .options import AdoptOptions, EvaluateOptions, PredictOptions

if TYPE_CHECKING:
    from .report import Predictions

SHOWN = 20  # answers that are printed although they are written to a file


def evaluate(
    run: str = "last",
    data: str | None = None,
    /,
    *,
    options: Flat[EvaluateOptions] = EvaluateOptions(),
    json: Flag = False,
) -> None:
    """Evaluate RUN on its own test images, or on DATA: accuracy with intervals, per class, confusion, calibration.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    data
        Another dataset, folder or table; its classes are matched by name.
    json
        Print one JSON object.
    """
    from . import command

    with progress_bar(json) as progress:
        result = command.evaluate(run, data, **vars(replace(options, progress=progress)))
    if json:
        print_json(result.summary)
    elif "task" in result.summary:
        print_task_evaluation(result.summary, result.folder)
    else:
        print_evaluation(result.summary, result.folder)


def print_task_evaluation(s: Mapping[str, Any], folder: Path) -> None:
    """The figures of another task than one class an image."""
    print_notes(s["notes"])
    print(f"{s['data']} {s['part']}: {s['n']:,} images, task {s['task']}")
    scale, unit = (1, "") if s["metric"] == "mae" else (100, " %")
    figures = " ".join(f"{scale * s[key]:.4g}{unit}" for key in (s["metric"],))
    print(f"{s['metric']} {figures} [{scale * s['low']:.4g}, {scale * s['high']:.4g}]")
    if "boxes" in s:
        print(_told_boxes(s))
    for name in ("pixel_accuracy", "exact_match", "hamming_loss", "coverage"):
        if s.get(name) is not None:
            print(f"{name.replace('_', ' ')} {100 * s[name]:.1f} %")
    for name in ("r2", "rmse", "mean_mae"):
        if s.get(name) is not None:
            print(f"{name.replace('_', ' ')} {s[name]:.4g}")
    rows = s.get("classes") or s.get("labels") or []
    if rows:
        key = next(key for key in ("iou", "ap50", "ap") if key in rows[0])
        table = new_table("label" if "labels" in s else "class", f"{key} [95 %]", "precision", "recall")
        for row in rows[:100]:
            ends = "-" if row[key] is None else f"{100 * row[key]:.1f} % " + _ends(row, key)
            table.add_row(cell(row["name"]), ends, _cell(row["precision"]), _cell(row["recall"]))
        console().print(table)
    print(f"written: {visible(str(folder))} (evaluation.json, worst.png)")


def _told_boxes(s: Mapping[str, Any]) -> str:
    """What the figures of boxes say beyond the first."""
    told = f"of {s['boxes']:,} boxes; AP50:95 {100 * s['ap']:.1f} % {_ends(s, 'ap')}; from a score of "
    right, found = _cell(s["precision"]), _cell(s["recall"])
    return told + f"{s['threshold']:.2f} on {right} of the boxes are right, and {found} of the true ones are found"


def _ends(row: Mapping[str, Any], key: str) -> str:
    return f"[{100 * row[f'{key}_low']:.1f}, {100 * row[f'{key}_high']:.1f}]"


def _doubled(summary: Mapping[str, Any]) -> str:
    count = summary["known_duplicates"]
    return f", {count:,} of which copies, or nearly, were seen in training" if count else ""


def print_evaluation(summary: Mapping[str, Any], folder: Path) -> None:
    print_notes(summary["notes"])
    print(f"{summary['data']} {summary['part']}: {summary['n']:,} images{_doubled(summary)}")
    low, high = 100 * summary["top5_low"], 100 * summary["top5_high"]
    print(
        f"top-1 {percent(summary, '')}, "
        f"top-{summary['top5_k']} {100 * summary['top5']:.1f} % [{low:.1f}, {high:.1f}]\n"
        f"loss {summary['loss']:.4f}, balanced accuracy {100 * summary['balanced_accuracy']:.1f} %, "
        f"calibration error {_calibration(summary)}"
    )
    kept = next((row for row in summary["coverage"] if row["share"] == 0.5), None)
    if kept is not None:
        print(f"of the surer half {percent(kept, '')} are right: a least probability of {kept['least']:.2f} keeps it")
    if summary["views_top1"] is not None:
        print(
            f"with test-time views ({summary['views']}): top-1 {percent(summary, 'views')}, "
            f"loss {summary['views_loss']:.4f}"
        )
    table = new_table("class", "images", "precision", "recall [95 %]", "F1")
    for c in summary["classes"][:100]:
        table.add_row(cell(c["name"]), str(c["n"]), _cell(c["precision"]), _recall(c), _cell(c["f1"]))
    console().print(table)
    if len(summary["classes"]) > 100:
        print(f"... and {len(summary['classes']) - 100} more classes in evaluation.json")
    if summary["test_openings"]:
        times = summary["test_openings"]
        print(f"the test images of this run have been looked at {times} {'time' if times == 1 else 'times'}")
    matrix = "confusion.png, " if summary["confusion"] is not None else ""
    mistakes = "mistakes.png, " if (folder / "mistakes.png").exists() else ""
    print(f"written: {visible(str(folder))} (evaluation.json, {matrix}{mistakes}calibration.png)")


def _calibration(summary: Mapping[str, Any]) -> str:
    """The calibration error, and what a temperature makes of it where one was fitted."""
    plain = f"{100 * summary['ece']:.1f} %"
    if summary["temperature"] is None:
        return plain
    names = ("ece_low", "ece_high", "calibrated_ece_low", "calibrated_ece_high", "calibrated_ece")
    low, high, new_low, new_high, new = (100 * summary[name] for name in names)
    return (
        f"{plain} [{low:.1f}, {high:.1f}]; at temperature {summary['temperature']:.2f}, fitted on "
        f"{summary['temperature_n']:,} validation images, {new:.1f} % [{new_low:.1f}, {new_high:.1f}]"
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _recall(row: dict[str, Any]) -> str:
    if row["recall"] is None:
        return "-"
    return f"{100 * row['recall']:.1f} % [{100 * row['recall_low']:.1f}, {100 * row['recall_high']:.1f}]"


def predict(
    run: str,
    /,
    *images: str,
    options: Flat[PredictOptions] = PredictOptions(),
    json: Flag = False,
) -> int:
    """Ask RUN what is on each IMAGE: files, folders, globs, or - for an image on standard input.

    An image that cannot be read is named with its reason, the rest go on, and the exit code is 65.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    images
        Files, folders, globs, or -.
    json
        Print one JSON list.
    """
    from . import command

    given = ["-" if p == STANDARD_INPUT else p for p in images or (STANDARD_INPUT,)]
    data = sys.stdin.buffer.read() if "-" in given else None
    printed = options.csv is not None and str(options.csv) == STANDARD_INPUT
    with progress_bar(json or printed) as progress:
        asked = replace(options, standard_input=data, csv=None if printed else options.csv, progress=progress)
        results = command.predict(run, given, **vars(asked))
    print_notes(results.notes)
    rows = [r.to_json() for r in results]
    if any("label" not in row and "error" not in row for row in rows) and not json and not printed:
        print_answers(results)
    elif json:
        print_json(rows)
    elif printed:
        print(results.csv(), end="")
    elif options.csv is not None:
        unread = [row for row in rows if "error" in row]
        shown = rows if len(rows) <= SHOWN else unread[:SHOWN]
        if shown:
            print_predictions(shown)
        told = f"{len(rows) - len(unread):,} of {len(rows):,} images are answered"
        print(f"{told}: {visible(str(expanded(options.csv)))}")
    else:
        print_predictions(rows)
    return ImageError.exit_code if any("error" in row for row in rows) else 0


def print_answers(results: Predictions) -> None:
    """The answers of another task than one class an image."""
    table = new_table("image", "answer")
    for path, words in results.told():
        table.add_row(cell(path), cell(words))
    console().print(table)


def print_predictions(rows: list[dict[str, Any]]) -> None:
    table = new_table("image", "label", "probability", "then")
    for row in rows:
        if "error" in row:
            table.add_row(cell(row["path"]), cell(f"cannot be read: {row['error']}", "red"), "", "")
            continue
        one = row["one_view"]
        seen = f"{100 * row['probability']:.1f} %" if not row["refused"] else "-"
        if one is not None:
            seen += f" (one view: {one['label']} {100 * one['probability']:.1f} %)"
        others = row["top"][0 if row["refused"] else 1 : 3]
        then = ", ".join(f"{t['label']} {100 * t['probability']:.1f} %" for t in others)
        if row["refused"] and row["familiarity"] is not None:
            then += f"; stranger than {100 * (1 - row['familiarity']):.1f} % of validation images; nearest: "
            then += ", ".join(f"{near['origin']} ({near['label']})" for near in row["nearest"])
        table.add_row(cell(row["path"]), cell(row["label"], "bold"), cell(seen), cell(then))
    console().print(table)


def adopt(network: str, /, *, options: Flat[AdoptOptions] = AdoptOptions(), json: Flag = False) -> None:
    """Make a run of NETWORK, which was trained elsewhere: it is then evaluated, explained and exported like any other.

    Parameters
    ----------
    network
        A name of ours, timm's or torchvision's, or module.py:function, whose code is run.
    json
        Print one JSON object.
    """
    from .adopt_command import adopt as adopt_network

    result = adopt_network(network, **vars(options))
    print_json(result.summary) if json else print_adopted(result.summary)


def print_adopted(s: dict[str, Any]) -> None:
    """What was taken for granted, and what the run is."""
    from ..models.user_network import model_words

    print_notes(s["notes"])
    print(f"{s['network']}: {s['parameters']:,} parameters, {s['classes']} classes at {s['image_size']} pixels")
    print(f"written: {visible(s['run'])}; next: convscope evaluate {quoted(s['run'])} DATA{model_words(s['network'])}")


def print_comparison(s: dict[str, Any], folder: Path) -> None:
    """The table, what each difference says, and what else differs."""
    print_notes(s["notes"])
    if "task" in s:
        print_task_comparison(s, folder)
        return
    print(f"{s['data']} {s['part']}: {s['n']:,} images{_doubled(s)}")
    table = new_table("run", "top-1 [95 %]", "loss", "calibration error", "parameters", "training")
    for row in s["runs"]:
        seconds = "-" if row["training_seconds"] is None else f"{row['training_seconds']:,.0f} s"
        figures = (percent(row, ""), f"{row['loss']:.3f}", f"{100 * row['ece']:.1f} %", f"{row['parameters']:,}")
        table.add_row(cell(row["name"], "bold"), *figures, seconds)
    console().print(table)
    for sentence in s["sentences"]:
        print(sentence)
    for rest in s["without_duplicates"] or ():
        figures = (100 * rest[key] for key in ("difference", "low", "high"))
        told = "without those copies {:+.1f} points [{:+.1f}, {:+.1f}]".format(*figures)
        print(f"{told} between {rest['a']} and {rest['b']}")
    for name, options in s["recipes"].items():
        print(_other_options(s["runs"][0]["name"], name, options))
    print(f"written: {visible(str(folder))} (comparison.json)")


def _other_options(first: str, name: str, options: dict[str, Any] | None) -> str:
    """In which options of their recipes two runs differ."""
    if options is None:
        return f"{name}: its training and that of {first} are not compared: one was elsewhere, or is a transfer"
    told = "; ".join(f"{option} {ours} and {theirs}" for option, (ours, theirs) in options.items())
    return f"{first} and {name} were trained with: {told}" if told else f"{name}: the same recipe"


def print_task_comparison(s: dict[str, Any], folder: Path) -> None:
    """The same of runs of another task than one class an image."""
    print(f"{s['data']} {s['part']}: {s['n']:,} images, task {s['task']}")
    table = new_table("run", f"{s['metric']} [95 %]", "parameters")
    for row in s["runs"]:
        figure = f"{row['value']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
        table.add_row(cell(row["name"], "bold"), figure, f"{row['parameters']:,}")
    console().print(table)
    for sentence in s["sentences"]:
        print(sentence)
    print(f"written: {visible(str(folder))} (comparison.json)")
