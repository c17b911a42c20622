"""What every page's twin holds of one run, by its heading on the JSON page."""

from __future__ import annotations

import json
import queue
from pathlib import Path
from typing import Any

from convscope.page.routes import ROUTES, Page
from convscope.page.served import Served
from convscope.page.stepping import Training
from convscope.storage import finite
from convscope.training.command import prepare_training
from convscope.training.stepped import Inbox, Stepped


def twins(runs: Path, run: str, image: bytes) -> dict[str, list[Any]]:
    """The twins of the pages of a run whose layer conv1 was explained."""
    page = Page(Served(runs))
    pages = {
        "The page of runs": ("/", {}),
        "The page that compares": ("/compare", {"run": [run]}),
        "The page of claims": ("/study", {}),
        "The list of data": ("/data", {}),
        "Trainings": ("/train", {}),
        "The page of a run": ("/runs/{run}", {"run": run}),
        "The page of a network": ("/runs/{run}/network", {"run": run}),
        "The page of epochs": ("/runs/{run}/epochs", {"run": run}),
        "The page of gradients": ("/runs/{run}/gradients", {"run": run}),
        "The page of a transfer": ("/runs/{run}/transfer", {"run": run}),
        "The page for asking": ("/runs/{run}/ask", {"run": run}),
        "The page of a layer": ("/runs/{run}/{layer}", {"run": run, "layer": "conv1"}),
        "The page of a filter": ("/runs/{run}/{layer}/{number}", {"run": run, "layer": "conv1", "number": "0"}),
    }
    try:
        found = {heading: [finite(ROUTES[at].view(page, **asked))] for heading, (at, asked) in pages.items()}
        evidence = page.asker.evidence(run, page.asker.take(run, image))
    finally:
        page.close()
    stepped = _stepped(runs)
    return found | {
        "The evidence for an answer": [finite(evidence)],
        "A stepped training": [stepped],
        "A look": [stepped["look"]],
    }


def worst_twins(runs: Path, names: list[str]) -> dict[str, list[Any]]:
    """The twins of the pages of the images that the evaluated runs of a task answered worst."""
    page, found = Page(Served(runs)), []
    for run in names:
        (scored,) = ROUTES["/runs/{run}"].view(page, run=run)["scores"]
        found.append(finite(ROUTES["/runs/{run}/worst/{evaluation}"].view(page, run=run, evaluation=scored["name"])))
    return {"The page of what was answered worst": found}


def _stepped(runs: Path) -> dict[str, Any]:
    """A training of one epoch, as the page shows it when it is over, that was looked into and refused a command."""
    process: Any = None
    training = Training("stepped", "digits", "speednet", 1, process)
    inbox: Inbox = queue.SimpleQueue()

    def tell(told: dict[str, Any]) -> None:
        training._take(json.loads(json.dumps(told)))
        if told.get("state") == "paused":
            for said in ({"command": "rm"}, {"command": "look", "layer": "conv1"}, {"command": "resume"}):
                inbox.put(json.dumps(said).encode())

    session = prepare_training("digits", runs=runs, name="stepped", epochs=1, width=4, limit=100)
    tell({"run": session.run.name, "epochs": 1, "notes": session.notes})
    for _ in Stepped(session, inbox, tell, paused=True).events():
        pass
    tell({"state": "finished", "said": "everything is saved."})
    return training.shown()
