"""Answering "none of these": where no class is likely enough, and where the image is unlike those of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..classifying.classifier import Classifier
from ..classifying.known import Known, refuses
from ..classifying.prediction import Prediction, Unreadable
from ..errors import DamagedFile, UsageError
from ..training.runs import Run
from .knowing import find_known, read_known, write_known
from .opening import answers_of, read_data
from .options import EvaluateOptions, PredictOptions

UNKNOWN = "none of these"
COVERAGE = 0.95  # of validation images, where only --unknown is given


@dataclass(frozen=True)
class Refusing:
    """When an image is refused, what is then answered, and what a user should read of it."""

    unknown: str
    least: float = 0.0
    coverage: float = 1.0
    known: Known | None = None
    notes: tuple[str, ...] = ()

    def applied(self, answers: Sequence[Prediction | Unreadable]) -> list[Prediction | Unreadable]:
        """The answers, with those to refused images replaced by the unknown."""
        return [a if isinstance(a, Unreadable) else self._applied(a) for a in answers]

    def _applied(self, answer: Prediction) -> Prediction:
        strange = answer.familiar is not None and refuses(answer.familiar.familiarity, self.coverage)
        if strange or answer.probability < self.least:
            return replace(answer, label=self.unknown, refused=True)
        return answer


def refusing(classifier: Classifier, run: Run | None, name: str, options: PredictOptions) -> Refusing:
    """What the options ask to refuse. UsageError for what is no probability, and an unknown called like a class.

    With a coverage, what the classifier knows is read from its run, or found once from its images and kept there.
    """
    coverage, least = options.coverage, options.min_probability
    if coverage is None and least is None and options.unknown is not None:
        coverage = COVERAGE
    if least is not None and not 0 <= least <= 1:
        raise UsageError(f"--min-probability {least:g} is no probability: it must be from 0 to 1.")
    if coverage is not None and not 0 < coverage <= 1:
        raise UsageError(f"--coverage {coverage:g} is no share of the validation images: it must be over 0, up to 1.")
    unknown = options.unknown or UNKNOWN
    if (least is not None or coverage is not None) and unknown in classifier.class_names:
        raise UsageError(f"{unknown!r} is a class of its own: call the --unknown something else.")
    if options.known is not None and coverage is None:
        raise UsageError("--known says what is familiar: say with --coverage how much of it to keep, such as 0.95.")
    if coverage is None:
        return Refusing(unknown, least or 0.0)
    known, noise, notes = _known(classifier, run, name, options)
    strange = sum(refuses(float(share), coverage) for share in noise)
    notes.append(
        f"at a coverage of {100 * coverage:g} % {strange} of {len(noise)} images of noise are refused; "
        "how many of other strangers depends on how strange they are."
    )
    return Refusing(unknown, least or 0.0, coverage, known, tuple(notes))


def _known(
    classifier: Classifier, run: Run | None, name: str, options: PredictOptions
) -> tuple[Known, np.ndarray, list[str]]:
    """What is known, how familiar images of noise are (N,), and notes; kept in the run, or found and kept there."""
    answers, told = answers_of(run, classifier)
    notes = [*told]
    if run is not None and options.known is None:
        try:
            kept = read_known(run, classifier)
        except DamagedFile as error:
            kept, notes = None, [*told, f"{error} It is made again."]
        if kept is not None:
            return *kept, notes
    if options.known is None and not classifier.provenance.get("recipe", {}).get("data"):
        raise UsageError(f"{name} does not say what it was trained on: name images of that kind with --known.")
    asked = EvaluateOptions(data_root=options.data_root, progress=options.progress)
    dataset, _, change = read_data(classifier, name, options.known, "know", asked)
    notes += [f"the data changed since {name} was trained: {change}."] if change else []
    known, noise = find_known(classifier, dataset, options.progress, answers)
    own = options.known is None or "recipe" not in classifier.provenance  # without any, those that were named
    if run is not None and own:
        write_known(run, classifier, known, noise)
    return known, noise, notes
