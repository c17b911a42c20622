"""The report of `diagnose`: the verdict, the numbers it rests on, and its images. Reads results, computes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing
from ..canvas.pages import page, uri
from ..noted import Noted
from ..storage import commit_json, finite, make_folder, write_derived
from ..training.watched import Watched
from . import drawing
from .batch_norms import NormView
from .curves import LEAST, Curve, levels
from .gradients import Gradients
from .jacobian import FactorJacobian, Jacobians
from .rules.rule import ENOUGH
from .verdict import Verdict

TEMPLATE = Path(__file__).with_name("report.html")

NAMES = {"start": "before the first step", "now": "now"}


@dataclass(frozen=True)
class State:
    """A network at one time: the gradients of its loss and, where they were measured, its Jacobians."""

    gradients: Gradients
    jacobians: Jacobians | None = None


@dataclass(frozen=True)
class DiagnoseReport(Noted):
    """A diagnosis, written to ``folder``: the ``verdict`` in words, the network at its "start" and "now", what was seen
    of its training, and a batch norm, where one was asked for. A notebook shows the gradient's way."""

    TOLD = ("name", "data", "sentence")
    folder: Path
    verdict: Verdict
    states: Mapping[str, State]
    summary: dict[str, Any]
    watched: Watched | None = None
    norm: NormView | None = None
    course: Curve | None = None

    @cached_property
    def factors(self) -> Drawing | None:
        """The gradient by depth, and what each factor does to it; None where nothing could be measured."""
        if not self.states:
            return None
        return drawing.factors([(NAMES[when], way(state)) for when, state in self.states.items()])

    def sentence(self) -> str:
        """The verdict in one sentence, with one next step."""
        return verdict_sentence(self.verdict, self.states)

    def files(self) -> list[str]:
        """What lies beside the page."""
        shown = {"factors": self.factors, "losses": self.losses}
        return [*(f"{name}.png" for name, image in shown.items() if image is not None), "diagnose.json"]

    def fix(self) -> str:
        """Lines of torch that take the next step; empty where nothing is wrong. No file is changed."""
        return self.verdict.findings[0].fix if self.verdict.findings else ""

    @cached_property
    def losses(self) -> Drawing | None:
        """The told losses by step, with the steps at which something happened; None where there are too few."""
        return None if self.course is None else _course(self.course, self.verdict)

    def _repr_png_(self) -> bytes | None:
        shown = self.factors or self.losses
        return shown.png if shown is not None else None


def verdict_sentence(verdict: Verdict, states: Mapping[str, State]) -> str:
    """The first finding with its next step; of a healthy network what its gradient does; or that it is too early."""
    if verdict.findings:
        first = verdict.findings[0]
        return f"{first.fault}: {first.sentence} Next: {first.then}"
    if verdict.evidence.updates <= ENOUGH.threshold:
        return f"healthy so far: {verdict.evidence.updates:.0f} steps are too few to say whether it learns."
    if not states:
        if verdict.evidence.early == 1:
            return f"too early to tell: {verdict.evidence.names['told']}, and nothing is out of the way."
        alone = verdict.evidence.curve_alone > 0
        return "healthy: nothing in this curve is out of the way." if alone else "healthy."
    last = list(states.values())[-1].gradients
    return f"healthy: {flow_sentence(last)}."


def flow_sentence(found: Gradients) -> str:
    """Say in words how the gradient changes on its way back."""
    count = len(found.names)
    if not math.isfinite(found.reach):
        return f"the gradient grows beyond what its numbers can hold on its way through {count} factors"
    return (
        f"the gradient changes x{found.typical:.2f} a factor; what reaches the images through {count} factors is "
        f"{found.reach:.2g} of what left the logits"
    )


def way(state: State) -> drawing.Way:
    """A state as it is drawn."""
    found = state.gradients
    if state.jacobians is None:
        return drawing.Way(found.names, found.norms)
    factors = state.jacobians.factors
    least = [math.nan if f.total is None else f.total.least for f in factors]
    return drawing.Way(
        found.names, found.norms, [f.whole.gain for f in factors], [f.whole.norm for f in factors], least
    )


def factor_json(jacobian: FactorJacobian) -> dict[str, Any]:
    """A factor's Jacobian as JSON values; null where a block has no identity skip."""
    whole, branch, total = jacobian.whole, jacobian.branch, jacobian.total
    return {
        "name": jacobian.name,
        "spectral_norm": whole.norm,
        "singular_values": list(whole.largest),
        "frobenius": whole.frobenius,
        "frobenius_error": whole.error,
        "gain": whole.gain,
        "inputs": whole.inputs,
        "outputs": whole.outputs,
        "branch_norm": branch.norm if branch else None,
        "total_norm": total.norm if total else None,
        "total_least": total.least if total else None,
    }


def state_json(state: State) -> dict[str, Any]:
    """A state as JSON values; what is beyond all numbers is null."""
    found, jacobians = state.gradients, state.jacobians
    values = {
        "loss": found.loss,
        "factors": list(found.names),
        "gradient_norms": list(found.norms),
        "shrink": list(found.shrink),
        "typical_shrink": found.typical,
        "reach": found.reach,
        "reach_measured": found.measured,
        "reach_difference": found.off,
        "weights": [asdict(w) | {"relative": w.relative} for w in found.weights],
        "jacobians": None if jacobians is None else [factor_json(f) for f in jacobians.factors],
        "norm_bound": None if jacobians is None else jacobians.bound,
        "norm_end_to_end": None if jacobians is None else jacobians.end_to_end.norm,
    }
    return finite(values)


def norm_json(view: NormView | None) -> dict[str, Any] | None:
    """A batch norm's channel as JSON values."""
    if view is None:
        return None
    names = "layer channel channels mean scale running_mean running_scale gamma delta eps off".split()
    return finite({name: getattr(view, name) for name in names} | {"batches": [asdict(b) for b in view.batches]})


def write(report: DiagnoseReport) -> DiagnoseReport:
    """Write JSON, images and the page; returns the report."""
    images: dict[str, Drawing] = {}
    if report.factors is not None:
        images["factors"] = report.factors
    if report.losses is not None:
        images["losses"] = report.losses
    if report.watched is not None and len(report.watched.steps):
        images["watched"] = _watched(report.watched)
    if report.norm is not None:
        images["norm"] = _norm(report.norm)
    make_folder(report.folder)
    for name, image in images.items():
        write_derived(report.folder / f"{name}.png", image.png)
    commit_json(report.folder / "diagnose.json", report.summary)
    left_out: list[str] = []
    shown = {name: uri(report.folder / f"{name}.png", left_out) for name in images}
    flows = {NAMES[when]: flow_sentence(state.gradients) for when, state in report.states.items()}
    told = {"summary": report.summary, "sentence": report.sentence(), "images": shown, "left_out": left_out}
    html = page(TEMPLATE, flows=flows, **told)
    write_derived(report.folder / "index.html", html)
    return report


def _course(course: Curve, verdict: Verdict) -> Drawing | None:
    """The curve with a mark at each step that a finding speaks of."""
    told = np.flatnonzero(~np.isnan(course.losses))
    if len(told) < LEAST:
        return None
    evidence, found = verdict.evidence, {finding.fault for finding in verdict.findings}
    events = {"ran-away": evidence.ran_from, "schedule-ended": evidence.idle_from, "odd-batch": evidence.odd_step}
    marks = [(step, fault) for fault, step in events.items() if fault in found and math.isfinite(step)]
    losses = course.losses[told]
    return drawing.course([course.step(int(row)) for row in told], losses, levels(losses), marks)


def _watched(seen: Watched) -> Drawing:
    layers: dict[str, Any] = {}
    values: dict[str, np.ndarray] = {}
    for quantity, having in (("scale", "gradient"), ("gradient", None), ("update", None), ("dead", None)):
        layers[quantity], values[quantity] = seen.of(quantity, having)
    return drawing.watched(seen.steps.tolist(), layers, values)


def _norm(view: NormView) -> Drawing:
    title = (
        f"{view.layer}, channel {view.channel} of {view.channels}: mu {view.mean:.3g}, sigma {view.scale:.3g} "
        f"(running: {view.running_mean:.3g}, {view.running_scale:.3g}), gamma {view.gamma:.3g}, delta {view.delta:.3g}"
    )
    return drawing.norm(
        drawing.NormImage(
            title,
            view.before.numpy(),
            view.after.numpy(),
            view.tested.numpy(),
            [b.size for b in view.batches],
            [b.noise for b in view.batches],
            [b.mean_spread for b in view.batches],
        )
    )
