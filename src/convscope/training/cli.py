"""`convscope train`: the options of a training, and its epochs line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..options import Flag, Flat
from ..progress import Laps, time_line
from ..spoken import quoted
from ..terminal import command_seconds, percent, print_json, print_notes, progress_bar
from ..visible import visible
from .options import TrainOptions

if TYPE_CHECKING:
    from .report import TrainReport
    from .session import Session


def train(
    data: str,
    /,
    *,
    options: Flat[TrainOptions] = TrainOptions(),
    preview: Path | None = None,
    dry_run: int | None = None,
    hardware: str | None = None,
    price_per_hour: float | None = None,
    json: Flag = False,
) -> int | None:
    """Train a classifier on DATA: cifar10, digits, shapes, a folder (one folder a class), a table or shards.

    Reports validation accuracy; the test images stay closed until `convscope evaluate`.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, a table, or shards.
    preview
        Write the sheet of augmented images to this PNG file, and train nothing.
    dry_run
        Time so many steps on made-up images, tell what the whole training would take, and train nothing.
    hardware
        Of another machine, for a dry run: TFLOP/s and GB/s at their peaks, such as 989,3350.
    price_per_hour
        What an hour costs, for a dry run.
    json
        Print JSON lines: one an epoch, and last the summary.
    """
    from . import command, together

    for option, given in (("--hardware", hardware), ("--price-per-hour", price_per_hour)):
        if given is not None and dry_run is None:
            raise UsageError(f"{option} is for a --dry-run, and this is a training.")
    laps = Laps(command_seconds() or 0.0)
    laps.lap("start-up")
    with progress_bar(json) as progress:
        options = replace(options, progress=progress)
        if preview is not None:
            print(command.preview(data, options, preview))
            return None
        if dry_run is not None:
            found = command.dry_run(data, options, dry_run, hardware, price_per_hour)
            print_json(found.summary()) if json else print("\n".join(found.lines()))
            return None
    if options.seeds is not None or options.folds is not None:
        _train_repeatedly(data, options, json)
        return None
    launch = together.launch_of(options)
    if launch is not None and launch.follows:
        return together.follow_quietly(data, options, launch)
    with progress_bar(json) as progress:
        session = command.prepare_launched(data, replace(options, progress=progress), launch)
    laps.lap("reading and planning")
    show_training(session, json, laps)
    return None


def _train_repeatedly(data: str, options: TrainOptions, json: bool) -> None:
    """Train one after the other, each shown as a training is, and print what they say together."""
    from . import command, report
    from .repeated import repetitions

    reports = []
    asked = repetitions(data, options)
    for number, each in enumerate(asked, 1):
        if not json:
            print(f"\ntraining {number} of {len(asked)}: {each.name}")
        with progress_bar(json) as progress:
            session = command.prepare_training(data, **vars(replace(each, progress=progress)))
        reports.append(show_training(session, json, turn=(number, len(asked))))
    result = report.write_repeated(reports, options.folds is not None)
    if json:
        print_json(result.summary)
        return
    print(f"\n{result.summary['sentence']}\nwritten: {visible(result.summary['written'])}")


def show_training(
    session: Session, json: bool, laps: Laps | None = None, turn: tuple[int, int] = (1, 1)
) -> TrainReport:
    """Iterate a training, show it, write its report, print the summary, and where the time went since ``laps``.

    ``turn`` is which of how many trainings it is: the bar tells how far all of them are.
    """
    from . import command, page_report

    laps = laps or Laps()
    if not json:
        print(data_line(session))
    print_notes(session.notes)
    shown = len(session.notes)
    for row in _epochs(session, json, turn):
        print_notes(session.notes[shown:])
        shown = len(session.notes)
        timing = session.timing[-1]
        print_json(row) if json else print(epoch_line(row, timing, session.recipe.loop.epochs), flush=True)
    laps.lap("training")
    result = command.finish_training(session)
    laps.lap("report")
    if json:
        print_json(result.summary)
        return result
    from ..models.user_network import model_words

    folder, best = visible(str(session.run.folder)), result.summary
    print(f"{page_report.roofline(best)}\n{time_line(laps.seconds)}")
    if best["continued"] is not None:
        print(best["continued"]["sentence"])
    print(
        f"best: epoch {best['best_epoch']}, {percent(best, 'val')} of {best['val_n']} validation images right\n"
        f"run: {folder} (report.html, curves.png, augment.png, classifier.safetensors)\n"
        f"next: convscope evaluate {quoted(session.run.folder)}"
        f"{'' if len(session.dataset.parts['test']) else ' --part val'}{model_words(session.recipe.model.name)}"
    )
    return result


def _epochs(session: Session, json: bool, turn: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """The epoch rows of a training; steps move a progress bar when someone watches."""
    number, trainings = turn
    epochs = session.recipe.loop.epochs
    up_to = "up to " if session.recipe.loop.patience else ""
    upon = f"{up_to}{epochs} {'epoch' if epochs == 1 else 'epochs'}"
    what = f"training {upon}" if trainings == 1 else f"{trainings} trainings of {upon}, number {number}"
    with progress_bar(json) as progress:
        for event in session.events():
            if isinstance(event, dict):
                yield event
            elif progress:
                done = ((number - 1) * epochs + event.epoch - 1) * event.steps + event.step
                total = trainings * epochs * event.steps
                progress(f"{what}, epoch {event.epoch}, loss {event.loss:.3f}", done, total)


def data_line(session: Session) -> str:
    data, recipe = session.dataset, session.recipe
    parts = " / ".join(f"{len(index):,} {part}" for part, index in data.parts.items())
    return (
        f"{data.name}: {len(data):,} images of {len(data.class_names)} classes at {data.preprocess.size} x "
        f"{data.preprocess.size} ({data.preprocess.fit}), {parts}; {recipe.model.name} in {recipe.loop.precision} on "
        f"{session.device}, batches of {recipe.loop.batch_size}, augmentation {recipe.augment.name}, "
        f"run {session.run.name}"
    )


def epoch_line(row: dict[str, Any], timing: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  train {100 * row['train_top1']:5.1f} %  "
        f"val {percent(row, 'val')}  val loss {row['val_loss']:.3f}  "
        f"{timing['seconds']:.1f} s  {timing['images_per_second']:,.0f} images/s"
    )
