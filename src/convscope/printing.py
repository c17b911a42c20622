"""What a person sees in the terminal: notes, lines, tables and progress bars. Given results, it prints them."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .session import Session

STEPS_BEFORE_ESTIMATE = 20


def data_line(session: Session) -> str:
    data, recipe = session.dataset, session.recipe
    parts = " / ".join(f"{len(index):,} {part}" for part, index in data.parts.items())
    return (
        f"{data.name}: {len(data):,} pictures of {len(data.class_names)} classes at {data.preprocess.size} x "
        f"{data.preprocess.size} ({data.preprocess.fit}), {parts}; {recipe.model.name} in {recipe.loop.precision} on "
        f"{session.device}, batches of {recipe.loop.batch_size}, augmentation {recipe.augment.name}, "
        f"run {session.run.name}"
    )


def epoch_line(row: dict[str, Any], timing: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  train {100 * row['train_top1']:5.1f} %  "
        f"val {percent(row, 'val')}  val loss {row['val_loss']:.3f}  "
        f"{timing['seconds']:.1f} s  {timing['pictures_per_second']:,.0f} pictures/s"
    )


def percent(row: dict[str, Any], prefix: str) -> str:
    value = row[f"{prefix}_top1"] if prefix else row["top1"]
    low, high = (row[f"{prefix}_{end}"] if prefix else row[f"top1_{end}"] for end in ("low", "high"))
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def print_evaluation(summary: dict[str, Any], folder: Path) -> None:
    print_notes(summary["notes"])
    print(f"{summary['data']} {summary['part']}: {summary['n']:,} pictures")
    low, high = 100 * summary["top5_low"], 100 * summary["top5_high"]
    print(
        f"top-1 {percent(summary, '')}, "
        f"top-{summary['top5_k']} {100 * summary['top5']:.1f} % [{low:.1f}, {high:.1f}]\n"
        f"loss {summary['loss']:.4f}, balanced accuracy {100 * summary['balanced_accuracy']:.1f} %, "
        f"calibration error {100 * summary['ece']:.1f} %"
    )
    if summary["views_top1"] is not None:
        print(
            f"with test-time views ({summary['views']}): top-1 {percent(summary, 'views')}, "
            f"loss {summary['views_loss']:.4f}"
        )
    table = Table("class", "pictures", "precision", "recall [95 %]", "F1", box=None, header_style="bold")
    for c in summary["classes"][:100]:
        table.add_row(Text(c["name"]), str(c["n"]), _cell(c["precision"]), _recall(c), _cell(c["f1"]))
    Console().print(table)
    if len(summary["classes"]) > 100:
        print(f"... and {len(summary['classes']) - 100} more classes in evaluation.json")
    if summary["test_openings"]:
        times = summary["test_openings"]
        print(f"the test pictures of this run have been looked at {times} {'time' if times == 1 else 'times'}")
    print(f"written: {folder} (evaluation.json, confusion.png, mistakes.png, calibration.png)")


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _recall(row: dict[str, Any]) -> str:
    if row["recall"] is None:
        return "-"
    return f"{100 * row['recall']:.1f} % [{100 * row['recall_low']:.1f}, {100 * row['recall_high']:.1f}]"


def layer_line(page: Path, found: Any) -> None:
    """Say that a layer's page is there, in one line."""
    s = found.summary()
    if s["pictures"] < s["of"]:
        print(
            f"first cards, from {s['pictures']:,} of {s['of']:,} pictures: {page}#{found.cards[0].filter}", flush=True
        )
        return
    said = [f"{len(found.cards)} filters"]
    if s["dead"]:
        said.append(f"{len(s['dead'])} dead")
    if s["median_ratio"] is not None:
        said.append(f"maximized to {s['median_ratio']:.1f}x the best exemplar")
        said += [f"{len(s['unbelieved'])} below it"] if s["unbelieved"] else []
    if s["most_used"] is not None:
        said.append(f"most missed {s['most_used']} ({100 * s['most_lost']:.1f} % of answers)")
    print(f"{s['layer']}: {', '.join(said)}: {page}#{found.cards[0].filter}", flush=True)


def print_explanation(summary: dict[str, Any]) -> None:
    print_notes(summary["notes"])
    if summary["kept"]:
        print(f"kept from before: {', '.join(summary['kept'])}")
    page = Path(summary["folder"]) / "index.html"
    print(f"written in {summary['seconds']:.0f} s: {page} (overview.png, a page a layer)")


def print_picture(summary: dict[str, Any]) -> None:
    print_notes(summary["notes"])
    best = sorted(summary["logits"].items(), key=lambda pair: -pair[1])[:3]
    print(f"{summary['picture']}: " + ", ".join(f"{name} {value:.2f}" for name, value in best) + " (logits)")
    how = "exact" if summary["exact"] else "approximate"
    print(
        f"{summary['target']} leads {summary['against']} by {summary['lead']:.2f}; the filters of {summary['layer']} "
        f"explain {summary['explained']:.2f} of it, the rest {summary['rest']:.2f} ({how})"
    )
    table = Table("filter", "of the lead", box=None, header_style="bold")
    for term in summary["terms"][:8]:
        table.add_row(str(term["filter"]), f"{term['margin']:+.2f}")
    Console().print(table)
    for method, checks in summary["sanity"].items():
        last = checks[-1]["correlation"]
        print(f"sanity of {method}: with all weights random the map correlates {last:+.2f} with the true one")
    print("nearest training pictures: " + ", ".join(f"{n['label']} {n['cosine']:.2f}" for n in summary["nearest"]))
    print(f"written: {summary['folder']} (evidence.png, {'looks.png, ' if summary['methods'] else ''}maps.png)")


def print_claims(claims: list[Any], size: str) -> None:
    """What claims there are, what each needs, and its budget at a size."""
    for claim in claims:
        row = claim.to_json()
        needs = ", ".join(row["needs"]) if size == "small" else "cifar10"
        print(f"{row['name']:<26}{row['size_minutes'][size]:>7,g} min  {needs}\n    {row['sentence']}")
    print(budget_line(claims, size))


def budget_line(claims: list[Any], size: str) -> str:
    """What claims will take; those that share trainings take less."""
    total = sum(claim.minutes[size] for claim in claims)
    return f"{_claims(len(claims))} at size {size}: about {total:,g} minutes on two cores"


def print_outcome(outcome: Any) -> None:
    """A claim's verdict, and the numbers it rests on."""
    print(f"{outcome.claim.name}: {outcome.verdict}")
    for part in outcome.judgement.parts:
        print(f"    {part.sentence()}")
    for note in outcome.judgement.notes:
        print(f"    {note}")
    sys.stdout.flush()


def print_study(report: Any, page: Path | None) -> None:
    """How many of each verdict, and where it lies."""
    lies = f"{report.folder} (one JSON file a claim)" if page is None else page
    print(f"{_claims(len(report.outcomes))}: {report.sentence()}; written: {lies}")


def _claims(count: int) -> str:
    return "1 claim" if count == 1 else f"{count} claims"


def print_diagnosis(result: Any) -> None:
    """The verdict first, then what happens to the gradient, and where the evidence lies."""
    s = result.summary
    print_notes(s["notes"])
    print(result.sentence())
    for finding in s["findings"][1:]:
        print(f"also {finding['fault']}: {finding['sentence']}")
    for when, state in s["states"].items():
        bound = ""
        if state["norm_bound"] is not None:
            bound = f"; its norm is {state['norm_end_to_end']:.2g}, the product of the norms {state['norm_bound']:.2g}"
        shrink, reach, factors = state["typical_shrink"], state["reach"], len(state["factors"])
        print(
            f"{when + ':':<6} the loss's gradient changes x{shrink:.2f} a factor; {reach:.2g} of it reaches the "
            f"pictures through {factors} factors{bound}"
        )
    if s["norm"] is not None:
        n = s["norm"]
        noise = ", ".join(f"{b['size']}: {b['noise']:.2g}" for b in n["batches"])
        print(
            "{layer}:{channel}: mu {mean:.3g}, sigma {scale:.3g} (running {running_mean:.3g}, {running_scale:.3g}), "
            "gamma {gamma:.3g}, delta {delta:.3g}; noise, in sigmas, by pictures in a batch: ".format(**n)
            + noise
        )
    print(f"written in {s['seconds']:.0f} s: {Path(s['folder']) / 'index.html'} (factors.png, diagnose.json)")


def print_export(s: dict[str, Any]) -> None:
    """What was written, and that it answers as the network does."""
    print(
        f"{s['classes']} classes at {s['image_size']} x {s['image_size']}; the sealed pictures agree to "
        f"{s['max_difference']:.1g} ({s['tolerance']:.1g} are allowed)"
    )
    for path in s["files"]:
        print(f"written: {path}")


def print_features(result: Any) -> None:
    """What was recorded, how fast, and where."""
    print_notes(result.summary["notes"])
    print(f"{result.extraction.roofline()}\n{result.summary['folder']}")


def rung_line(rung: Any) -> str:
    """One way of the ladder in one line."""
    low, top, high = (100 * v for v in (rung.top1.low, rung.top1.value, rung.top1.high))
    return (
        f"{rung.name:<10}  {top:5.1f} % [{low:.1f}, {high:.1f}] of {rung.top1.n:,}  {rung.seconds:6.1f} s  "
        f"{rung.parameters:>11,} parameters  {rung.chosen}"
    )


def print_transfer(result: Any) -> None:
    """The answer: notes, the sentence, the test pictures, what to do next."""
    s = result.summary
    print_notes(s["notes"])
    print(result.extraction.roofline())
    print(result.sentence())
    if s["test_top1"] is not None:
        print(f"on {s['test_n']:,} test pictures, opened once: {percent(s, 'test')} right")
    words = " ".join(f"--filter {f['filters'][0]}" for f in s["filters"][:3])
    layer = f" --layer {s['filters'][0]['layer']}" if s["filters"] and s["filters"][0]["layer"] else ""
    print(f"run: {s['run']} (report.html, classifier.safetensors), {s['seconds']:.0f} s in all")
    print(f"next: convscope predict {s['run']} PICTURE; convscope explain {s['run']}{layer} {words}")


def print_similar(result: Any) -> None:
    """The nearest pictures."""
    s = result.summary
    table = Table("picture", "class", "cosine", box=None, header_style="bold")
    for row in s["nearest"]:
        table.add_row(Text(row["origin"]), Text(row["label"]), f"{row['cosine']:.3f}")
    Console(soft_wrap=True).print(table)
    print(f"of {s['searched']:,} pictures; written: {result.folder / 'similar.png'}")


def print_pretrained(rows: list[dict[str, Any]]) -> None:
    """Pretrained networks with size, input, licence and whether they are here."""
    table = Table("pretrained network", "parameters", "pictures", "licence", "here", box=None, header_style="bold")
    for row in rows:
        licence = Text(row["licence"] or "unknown", "yellow" if row["note"] else "")
        size = f"{row['image_size']} x {row['image_size']}"
        table.add_row(row["name"], f"{row['parameters']:,}", size, licence, "yes" if row["here"] else "no")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(
        "every other one of timm's works by its name: convscope models NAME --pretrained lists those that contain NAME"
    )


def print_csv(rows: list[dict[str, Any]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "probability", "error"])
    for row in rows:
        writer.writerow([row["path"], row.get("label", ""), row.get("probability", ""), row.get("error", "")])


def print_predictions(rows: list[dict[str, Any]]) -> None:
    table = Table("picture", "label", "probability", "then", box=None, header_style="bold")
    for row in rows:
        if "error" in row:
            table.add_row(Text(row["path"]), Text(f"cannot be read: {row['error']}", "red"), "", "")
            continue
        one = row["one_view"]
        seen = f"{100 * row['probability']:.1f} %"
        if one is not None:
            seen += f" (one view: {one['label']} {100 * one['probability']:.1f} %)"
        then = ", ".join(f"{t['label']} {100 * t['probability']:.1f} %" for t in row["top"][1:3])
        table.add_row(Text(row["path"]), Text(row["label"], "bold"), Text(seen), Text(then))
    Console(soft_wrap=True).print(table)


def print_models(rows: list[dict[str, Any]]) -> None:
    table = Table("model", "parameters", "multiply-adds", "best measured", "options", box=None, header_style="bold")
    for row in rows:
        best = f"{100 * row['top1']:.1f} % in {row['minutes']:.0f} min" if row["top1"] is not None else "-"
        sizes = (f"{row['parameters']:,}", f"{row['multiply_adds']:,}")
        table.add_row(row["name"], *sizes, best, ", ".join(row["options"]))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(
        "at 32 x 32 for 10 classes; measured: validation accuracy on cifar10, one run on 2 cores (docs/results.md)\n"
        "the layers of one: convscope models NAME; torchvision's and timm's networks go by their names there"
    )


def print_ledger(book: Any, rules: tuple[str, ...], json: bool) -> None:
    from dataclasses import asdict

    from .models.ledger import LECTURE_COLUMNS, lecture_cells, lecture_rows

    if json:
        print(json_module.dumps({**asdict(book), "rules": list(rules)}))
        return
    table = Table(LECTURE_COLUMNS[0], box=None, header_style="bold")
    for column in LECTURE_COLUMNS[1:]:
        table.add_column(column, justify="right")
    for row in lecture_rows(book):
        table.add_row(*(f"{int(c):,}" if c.isdecimal() else c for c in lecture_cells(row)))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(
        f"{book.parameters:,} parameters, {book.multiply_adds:,} multiply-adds and "
        f"{book.activation_bytes / 2**20:.2f} MiB of activations a picture"
    )
    for rule in rules:
        print(f"rule: {rule}")


def print_notes(notes: Any) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


@contextmanager
def progress_bar(json: bool) -> Iterator[Any]:
    """A with-block with a function (what, done, total) that moves a bar, or None when nobody watches."""
    console = Console(stderr=True)
    if json or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, left="")
        first: dict[str, tuple[int, float]] = {}

        def move(what: str, done: int, total: int) -> None:
            start = first.setdefault(what.split(",")[0], (done, bars.get_time()))
            left = ""
            if done - start[0] >= STEPS_BEFORE_ESTIMATE and total:
                seconds = (bars.get_time() - start[1]) / (done - start[0]) * (total - done)
                left = f"{seconds // 60:.0f}:{seconds % 60:02.0f} left"
            bars.update(task, description=what, completed=done, total=total or None, left=left)

        yield move
