"""Find the classifier that a user names, with its run and its data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..classifying.classifier import CLASSES, Classifier
from ..classifying.seal import check_seal
from ..datasets.dataset import Dataset
from ..datasets.named_before import check_named, remember
from ..datasets.registry import DATASETS, load_dataset
from ..errors import DamagedFile, UsageError
from ..folders import check_own_files
from ..given import takes_what_is_meant
from ..machine import pick_device
from ..models.user_network import check_needed, is_own
from ..options import Corrections, SourceOptions, SubjectOptions
from ..portable import folder_name, shortened
from ..storage import expanded, read_json
from ..training.held_out import ALL_FAIR, FairAnswers, fair_answers
from ..training.page_report import PAGE, has_page
from ..training.request import data_name
from ..training.runs import Run, data_description, data_difference, find_run, runs_folder
from ..training.seen import count_seen
from .options import EvaluateOptions

# ------------------------------------------------------------------------------------------- evaluate and predict

PRETRAINED = "pretrained:"
ANSWER = "evaluation.json"  # in the folder of an evaluation
COMPARISON = "comparison.json"  # in that of a comparison
OF_ALL_IMAGES = ("head", "k-NN", "FCNN head")  # rungs of a transfer that are trained on validation images too
EARLIER = (
    "an earlier version made this transfer: how sure it is of its validation images, which trained it, is taken for "
    "how sure it is of others. The same transfer again mends it."
)


@takes_what_is_meant
def open_classifier(  # noqa: PLR0913 - where it lies, what it may need, and where it is to be
    run: str | Classifier,
    runs: str | Path | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    any_task: bool = False,
    device: str = "cpu",
    code_for_others: bool = False,
) -> tuple[Classifier, Run | None]:
    """The classifier of a RUN on a device, and the run it lies in: a run's name or path, ``last``, a classifier file,
    or ``pretrained:NAME``, whose weights may come from the safetensors file ``weights``; or a classifier itself, which
    stays on its own device.

    UsageError for one of another task than one class an image, unless ``any_task`` will do, and for a ``model`` that
    it does not need, unless the code is ``code_for_others`` as well."""
    classifier, home = _open(run, runs, model, weights)
    if not code_for_others:
        check_needed(model, classifier.architecture.name, home.name if home else home_of(run))
    if not isinstance(run, Classifier):
        classifier.network.to(pick_device(device))
    if not any_task:
        check_classes(classifier, home.name if home else home_of(run))
    return classifier, home


def check_classes(classifier: Classifier, name: str) -> None:
    """UsageError for a network that is asked another thing than the one class of an image."""
    if classifier.task != CLASSES:
        raise UsageError(
            f"{name} was trained for the task {classifier.task}, and this is for the task classification, one class an "
            f"image; convscope evaluate, predict, compare and export take {name}."
        )


def _open(
    run: str | Classifier, runs: str | Path | None, model: str | None, weights: str | Path | None
) -> tuple[Classifier, Run | None]:
    if isinstance(run, Classifier):
        return run, None
    if run.startswith(PRETRAINED):
        return Classifier.pretrained(run.removeprefix(PRETRAINED), weights), None
    if weights is not None:
        raise UsageError(f"--weights is for pretrained:NAME, and {run} has weights of its own.")
    path = expanded(run)
    if path.suffix == ".safetensors" and os.path.isfile(path):
        home = Run(path.parent) if (path.parent / "recipe.json").exists() else None
        if home is not None:
            check_own_files(home.folder)
        classifier = Classifier.load(path, model)
        check_seal(classifier)
        return classifier, home
    found = find_run(run, runs_folder(expanded(runs) if runs else None))
    return found.classifier(model), found


def source_of(
    options: Corrections,
    recorded: Mapping[str, Any] | None,
    record: str,
    data: str | None,
    masks: Path | None = None,
) -> dict[str, Any]:
    """How images and labels are read: as the options say, and else as the record of a training does.

    Files that only the record names are read if a user has named them here before, as ``data`` and ``masks`` are: those
    that nobody named now. UsageError that tells all that were not.
    """
    said = SourceOptions(corrections=options.corrections).reading()  # `images` may mean something else
    if isinstance(options, SourceOptions):
        said = options.reading()
    recorded = recorded or {}
    places: dict[str, str | Path | None] = {"DATA": None if data in DATASETS else data, "--masks": masks}
    for name in ("images", "corrections"):
        if said[name] is not None:
            remember(Path(said[name]))
        else:
            places[f"--{name}"] = recorded.get(name)
    check_named(places, record)
    return {name: value if value is not None else recorded.get(name) for name, value in said.items()}


def data_asked(
    classifier: Classifier, run: str, data: str | Path | None, purpose: str
) -> tuple[str, Mapping[str, Any], bool]:
    """The name of the data, those given or a classifier's own; what its recipe says of its own; whether they are these.

    UsageError where none is known.
    """
    own = classifier.provenance.get("recipe", {}).get("data", {})
    if data is None and not own:
        raise UsageError(f"{run} does not say what it was trained on; name a dataset to {purpose} it on.")
    name = own["name"] if data is None else data_name(str(data))
    return name, own, name == own.get("name")


def read_data(
    classifier: Classifier,
    run: str,
    data: str | Path | None,
    purpose: str,
    options: EvaluateOptions | SubjectOptions,
) -> tuple[Dataset, bool, str | None]:
    """The data named, or a classifier's own, as it takes its images: the dataset, whether it is its own, and in
    words how that has changed since the training (None where it has not). UsageError where none is known.

    Its own are those with the same content, under whatever path, and those under the path it was trained on.
    """
    name, own, same = data_asked(classifier, run, data, purpose)
    before, recipe = (classifier.provenance.get(key, {}) for key in ("data", "recipe"))
    source = source_of(options, recipe.get("source") if same else None, run, name if data is None else None)

    def load(limit: int | None) -> Dataset:
        return load_dataset(
            name,
            data_root=options.data_root,
            preprocess=classifier.preprocess,
            limit=limit,
            bad_images=own.get("bad_images", "error"),
            fold=own.get("fold") if same else None,
            progress=options.progress,
            recorded_in=run if data is None else None,
            need="classes",
            sides=own.get("sides"),
            **source,
        )

    limit = own.get("limit")
    dataset = load(limit if same else None)
    if not same and limit is not None and len(dataset) > limit:  # some of them may be the very images
        limited = load(limit)
        dataset = limited if limited.fingerprint == before.get("fingerprint") else dataset
    if dataset.fingerprint == before.get("fingerprint"):
        return dataset, True, None
    return dataset, same, data_difference(before, data_description(dataset)) if same else None


def place_of(home: Path, dataset: Dataset, part: str, n: int) -> str:
    """The folder of an evaluation of ``n`` images in a run's: by the data's name, with its fingerprint where another
    has that name. Some images of a part have a folder of their own, so that those of all of it stay."""
    name = shortened(dataset.name)
    whole = len(dataset) if part == "all" else len(dataset.parts[part])
    part = part if n == whole else f"{part}-{n}-images"
    place = f"evaluate/{name}-{part}"
    try:
        taken = read_json(home / place / ANSWER).get("fingerprint") not in (None, dataset.fingerprint)
    except DamagedFile:
        return place
    return f"evaluate/{name}-{dataset.fingerprint[:6]}-{part}" if taken else place


def seen_notes(run: Run, dataset: Dataset, index: np.ndarray) -> list[str]:
    """A note of the images at ``index`` that a run was trained on or chosen by, where there are some. DamagedFile."""
    seen = count_seen(run.folder, dataset, index)
    note = None if seen is None else seen.note(dataset.name)
    return [note] if note else []


def answers_of(run: Run | None, classifier: Classifier) -> tuple[FairAnswers, list[str]]:
    """Of which images a run's answers are fair, and a note where what says so rotted."""
    if run is None:
        return ALL_FAIR, []
    try:
        answers = fair_answers(run.folder, classifier)
        rung = classifier.provenance.get("transfer", {}).get("rung")
        earlier = rung in OF_ALL_IMAGES and not len(answers.keys)
        return answers, [EARLIER] if earlier else []
    except DamagedFile as error:
        return ALL_FAIR, [f"{error} So nothing tells the images apart that it was trained on."]


def log_look(run: Run, part: str, n: int, place: str, answer: str = ANSWER) -> int:
    """Note that a part's images are looked at for what is written to ``place``; returns how often that has happened.

    A look that was cut short before all of it was written, the file ``answer`` last, is the same look when it is made
    again.
    """
    return _taken_up(
        run, {"part": part, "n": n, "place": place}, lambda number: _told(run, f"{place}/{answer}", number)
    )


@dataclass
class Looks:
    """The looks at runs' own test images that a comparison of ``names`` takes, by the runs' folders as seen from its
    own ``folder``, as a comparison there tells of them when it is written: until then they are the same looks when it
    is made again."""

    names: Sequence[str]
    folder: Path
    taken: dict[str, int] = field(default_factory=dict)

    def log(self, run: Run, part: str, n: int) -> None:
        """Note that a part's images are looked at."""
        asked = {"part": part, "n": n, "place": f"compare {' '.join(self.names)}"}
        told = {
            number
            for path in self.folder.glob(f"*/{COMPARISON}")
            for place, number in _looks_told(path).items()
            if self._may_be(place, run)
        }
        self.taken[self._place(run)] = _taken_up(run, asked, told.__contains__)

    def _place(self, run: Run) -> str:
        """A run's folder from this one, so that both can be moved together."""
        folder = run.folder.resolve()
        with suppress(ValueError):  # on another drive of Windows
            return Path(os.path.relpath(folder, self.folder.resolve())).as_posix()
        return folder.as_posix()

    def _may_be(self, place: str, run: Run) -> bool:
        """Whether a look at a run there may be one at this: of its name, and not of one that lies elsewhere still."""
        there = self.folder.resolve() / place
        return there.name == run.name and (place == self._place(run) or not there.is_dir())

    def with_earlier(self, path: Path) -> dict[str, int]:
        """The last look at each run that is told of when a comparison is written to ``path``."""
        return {**_looks_told(path), **self.taken}


def _looks_told(path: Path) -> dict[str, int]:
    with suppress(DamagedFile):
        return dict(read_json(path).get("looks") or {})
    return {}


def _taken_up(run: Run, asked: dict[str, Any], told: Callable[[int], bool]) -> int:
    """The number of the last look of this place, where it was ``told`` nobody yet, or of a new one."""
    rows = run.openings()
    number = next((i for i in range(len(rows), 0, -1) if rows[i - 1].get("place") == asked["place"]), None)
    if number and asked.items() <= rows[number - 1].items() and not told(number):
        return number
    return run.log_opening(asked)


def _told(run: Run, file: str, number: int) -> bool:
    """Whether the answer of a look was written, and after it the run's page, which tells of it."""
    answer, page = run.folder / file, run.folder / PAGE
    try:
        if read_json(answer)["test_openings"] != number:
            return False
    except (DamagedFile, KeyError):
        return False
    if not has_page(run):
        return True
    try:  # not by the files' times: clocks are set, and copies get new ones
        looks = re.search(r'data-looks="(\d{1,9})"', page.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False
    return looks is None or int(looks[1]) >= number  # a page of an older version says it in words alone


def home_of(run: str | Classifier) -> str:
    """The name of the folder for what is found out about a classifier that lies in no run."""
    if isinstance(run, Classifier):
        name = run.architecture.name
        name = run.provenance.get("run", name) if is_own(name) else name
        return shortened(name.replace(":", "-").replace("/", "-"))
    return shortened(run.replace(":", "-").replace("/", "-")) if run.startswith(PRETRAINED) else folder_name(run)
