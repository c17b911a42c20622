"""Every page by its address, with the view that finds what it shows and the template that shows it.

A view takes the pieces of the address, and of the query those named here alone; it returns JSON values. Each page has a
twin, its address with ``.json`` behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .asking import Asker
from .compared import compare_page
from .data_pages import data_list, data_page
from .epochs_view import Epochs
from .explained import filter_page, layer_page
from .jobs import Jobs
from .left_out import with_problems
from .live import Live
from .network_view import network_page
from .run_data import RunData
from .run_list import RunRows, runs_page
from .run_view import ask_page, mistakes_page, run_page
from .served import Served
from .stepping import Trainings, train_page
from .study_view import study_page
from .watched_view import gradients_page, transfer_page
from .worst_view import worst_page


@dataclass
class Page:
    """What the views read from: the runs, and what is kept between two requests."""

    served: Served
    rows: RunRows = field(default_factory=RunRows)
    live: Live = field(default_factory=Live)
    data_root: Path | None = None  # where cifar10 lies, for trainings
    alone: bool = True  # whether nobody but this machine can ask

    @cached_property
    def data(self) -> RunData:
        """The images that runs were trained on."""
        return RunData(self.data_root)

    @cached_property
    def epochs(self) -> Epochs:
        """Who compares a run's kept epochs."""
        return Epochs(self.served, self.data)

    @cached_property
    def asker(self) -> Asker:
        """Who answers about images; made when the first one comes."""
        return Asker(self.served, self.data)

    @cached_property
    def jobs(self) -> Jobs:
        """The commands that buttons run."""
        return Jobs(self.served, self.data_root)

    @cached_property
    def trainings(self) -> Trainings:
        """The trainings that were started here."""
        return Trainings(self.served, self.data_root)

    def close(self) -> None:
        """End what runs beside the page."""
        for name in ("trainings", "jobs", "asker"):
            if name in self.__dict__:
                getattr(self, name).close()


@dataclass(frozen=True)
class Route:
    """A page: its template, its view, and the names of its query."""

    template: str
    view: Callable[..., dict[str, Any]]
    query: tuple[str, ...] = ()

    def values(self, page: Page, **asked: Any) -> dict[str, Any]:
        """What the template shows, with the ``problems`` of damaged files that are left out."""
        return with_problems(self.view, page, **asked)


ROUTES: dict[str, Route] = {
    "/": Route("runs.html", lambda p, **q: runs_page(p.served, p.rows, **q), ("sort", "order", "find")),
    "/compare": Route("compare.html", lambda p, **q: compare_page(p.served, **q), ("run",)),
    "/study": Route("study.html", lambda p: study_page(p.served)),
    "/data": Route("data_list.html", lambda p: data_list(p.served)),
    "/data/{data}": Route("data.html", lambda p, **q: data_page(p.served, **q)),
    "/train": Route("train.html", lambda p: train_page(p.served, p.trainings)),
    "/train/{name}": Route("training.html", lambda p, name, **q: p.trainings.find(name).shown(**q), ("after", "look")),
    "/runs/{run}": Route("run.html", lambda p, run: run_page(p.served, run)),
    "/runs/{run}/network": Route("network.html", lambda p, run: network_page(p.served, run)),
    "/runs/{run}/gradients": Route("gradients.html", lambda p, run: gradients_page(p.served, run)),
    "/runs/{run}/epochs": Route("epochs.html", lambda p, **q: p.epochs.page(**q), ("layer", "then", "now", "image")),
    "/runs/{run}/transfer": Route("transfer.html", lambda p, run: transfer_page(p.served, run)),
    "/runs/{run}/ask": Route("ask.html", lambda p, run: ask_page(p.served, run)),
    "/runs/{run}/mistakes/{evaluation}": Route(
        "mistakes.html", lambda p, **q: mistakes_page(p.served, **q), ("truth", "guess")
    ),
    "/runs/{run}/worst/{evaluation}": Route("worst.html", lambda p, **q: worst_page(p.served, **q)),
    "/runs/{run}/{layer}": Route("layer.html", lambda p, **q: layer_page(p.served, **q), ("sort", "find")),
    "/runs/{run}/{layer}/{number}": Route("filter.html", lambda p, **q: filter_page(p.served, **q)),
}


def addresses(page: Page) -> Iterator[tuple[str, ...]]:
    """The pieces of the address of every page that there is now: what a static site holds."""
    yield from ((), ("study",), ("data",))
    for name in data_list(page.served)["data"]:
        yield ("data", name["name"])
    for run in page.served.runs():
        shown = run_page(page.served, run)
        yield ("runs", run)
        yield ("runs", run, "network")
        yield ("runs", run, "gradients")
        for found in shown["evaluations"]:
            yield ("runs", run, "mistakes", found["name"])
        for found in shown["scores"]:
            yield ("runs", run, "worst", found["name"])
        if shown["kind"] == "transfer":
            yield ("runs", run, "transfer")
        for layer in shown["layers"]:
            yield ("runs", run, layer["address"])
            for row in layer_page(page.served, run, layer["address"])["filters"]:
                yield ("runs", run, layer["address"], str(row["filter"]))
