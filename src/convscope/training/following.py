"""What every process but the first does of a training: its share of each batch, and of each validation.

It is told by the first one what is trained, reads the data itself, and writes nothing. ``python -m`` starts it, with
the data and where they lie as one argument of JSON.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..datasets.dataset import Dataset
from ..errors import ConvscopeError, DataError, InterruptedRun
from ..images.preprocess import Preprocess
from ..models.architecture import Architecture
from ..models.fast_convolutions import convolving
from ..options import SourceOptions
from ..recipes import Recipe
from .launching import Launch, find_launch, local_device
from .loop import TrainState, make_optimizer, train
from .ranks import Board, Team, joined, telling
from .request import data_name, named_places, read_dataset, starting_architecture
from .runs import data_description, data_difference
from .session import training_batches
from .shared_state import take_over
from .sharing import check_shares, shared_logits
from .stopping import noting_signals

LOOK = 0.1  # seconds between two looks at what the first process says
TOLD_EVERY = 1.0  # seconds between two signs that this one still reads
PLACES = ("data_root", "images", "corrections", "device")


@dataclass
class Asked:
    """Where this process finds the data, and what it computes on."""

    data: str
    data_root: Path | None = None
    images: Path | None = None
    corrections: Path | None = None
    device: str = "auto"


def asked_of(data: str, options: Any) -> dict[str, Any]:
    """The same as JSON values, of a training's options."""
    said = {name: getattr(options, name) for name in PLACES}
    return {"data": data} | {k: str(v) if isinstance(v, Path) else v for k, v in said.items()}


def follow(asked: Asked, launch: Launch) -> dict[str, Any] | None:
    """Train as the first process says; returns what came of it where that was written already, else None.

    Raises what ends it: LostRank, InterruptedRun, DivergedError, or what is wrong with the data here.
    """
    board = launch.board
    assert board is not None
    place = _met(board, launch.call)
    if place is None:
        return board.said(f"over/{launch.call}")
    with telling(board, place):
        told = board.said(f"{place}/told")
        follower = Follower(asked, told, board, place, launch)
        board.say(f"{place}/ready/{board.rank}", True)
        board.wait({0: f"{place}/begin"}, place)
        with joined(board, place, follower.device, loopback=told["loopback"]) as team:
            follower.train(team)
    return None


def _met(board: Board, call: int) -> str | None:
    """The place on the board where the first process and this one have found each other; None where all is over."""
    nonce, place = secrets.token_hex(8), ""
    while True:
        if board.said(f"over/{call}") is not None:
            return None
        now = board.said("place") or ""
        if now != place:  # the first process may be another one than that which left its place here
            place = now
            board.say(f"{place}/here/{board.rank}", nonce)
        if place and board.said(f"{place}/welcome/{nonce}"):
            return place
        time.sleep(LOOK)


@dataclass
class Follower:
    """The data, the network and the state of a process that follows; what it is ``told`` are JSON values."""

    asked: Asked
    told: Mapping[str, Any]
    board: Board
    place: str
    launch: Launch
    stopping: list[int] = field(default_factory=list)  # signals that came

    def __post_init__(self) -> None:
        self._moved = 0.0
        self.device = local_device(self.asked.device, self.launch)
        self.recipe = Recipe.from_dict(self.told["recipe"])
        self.dataset = self._read()
        architecture, _ = starting_architecture(self.recipe, self.dataset, begun=True)
        self.state = self._state(architecture)

    def _read(self) -> Dataset:
        """The data as they are here; DataError where they are not those of the first process."""
        places = named_places(SourceOptions(images=self.asked.images, corrections=self.asked.corrections))
        recipe = self.recipe.with_options({"data": data_name(self.asked.data), **places})
        given = self.told["preprocess"]
        preprocess = None if given is None else Preprocess.from_dict(given)
        dataset = read_dataset(recipe, self.asked.data_root, self._move, preprocess=preprocess)
        difference = data_difference(self.told["data"], data_description(dataset))
        if difference:
            raise DataError(
                f"the data of rank {self.board.rank} are not those of rank 0: {difference}. Give every process the "
                "same data."
            )
        return dataset

    def _move(self, what: str, done: int, total: int) -> None:
        """Show that this process is at work."""
        if time.monotonic() - self._moved > TOLD_EVERY:
            self._moved = time.monotonic()
            self.board.count(f"{self.place}/moves/{self.board.rank}")

    def _state(self, architecture: Architecture) -> TrainState:
        loop = self.recipe.loop
        network = architecture.build(len(self.dataset.class_names), seed=loop.seed).to(self.device)
        optimizer = make_optimizer(network, self.recipe.optimizer, self.told["scales"])
        return TrainState(network, optimizer, frozen=tuple(self.told["frozen"]))

    def train(self, team: Team) -> None:
        """Train to the end, step by step with the others."""
        take_over(self.state, team, self.told["state"])
        self.state.team = team
        with noting_signals(self.stopping):
            team.asked = lambda: bool(self.stopping)
            batches = replace(training_batches(self.dataset, self.recipe, self.device), share=(team.rank, team.size))
            check_shares(len(batches.index), len(batches), team.size, self.recipe.parts.accumulate)
            validation = self.dataset.subset("val")
            for step in train(self.state, batches, self.recipe, keep_memory=self.told["keep_memory"]):
                if step.summary is not None:
                    self._validate(validation, team)
                    if team.agree():
                        return
                if team.stops:
                    raise InterruptedRun(f"rank {team.rank} was asked to stop.", (self.stopping or [15])[0])

    def _validate(self, validation: Any, team: Team) -> None:
        chosen, network = self.recipe.convolution, self.state.best_network
        with convolving(network, chosen.by_layer, chosen.fused):
            shared_logits(network, self.dataset, validation, self.device, team)


def main(said: str) -> int:
    """Follow as one argument says; returns the exit code. Its last words are for the first process."""
    try:
        launch = find_launch(None)
        assert launch is not None
        follow(Asked(**json.loads(said)), launch)
    except ConvscopeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
