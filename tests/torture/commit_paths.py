"""Every way of convscope to a file or folder that lasts, as something to be cut off: an old content, then a new one.

A path writes edition 0, then edition 1 over it, by the very function that a command calls. What is computed is as small
as it can be; how it reaches the disk is the room's own.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from convscope.canvas.figures import Drawing
from convscope.classifying.classifier import Classifier
from convscope.classifying.prediction import Prediction
from convscope.datasets import packing
from convscope.datasets.corrections import Correction, write_corrections
from convscope.datasets.mask_pack import MaskPack
from convscope.datasets.pack import Packer
from convscope.datasets.unsplit import Unsplit
from convscope.evaluation.sorting import sort_into
from convscope.exporting import formats
from convscope.feature_store.report import SimilarReport, write_similar
from convscope.feature_store.store import KEY_BYTES, Store
from convscope.folders import fresh_folder
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture
from convscope.storage import commit, commit_json, commit_lines, write_derived
from convscope.tensor_files import commit_tensors
from convscope.training import runs
from convscope.training.loop import TrainState

SIDE = 8  # pixels


@dataclass(frozen=True)
class CommitPath:
    """``write(folder, edition)`` writes edition 0 or 1 of a content into a folder.

    ``synced``: it waits for the disk; what can be made again does not. ``refused`` are system calls that this system
    is to be without.
    """

    write: Callable[[Path, int], object]
    synced: bool = True
    refused: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------- files, folders of files


def _json(folder: Path, edition: int) -> None:
    commit_json(folder / "answers.json", {"edition": edition, "rows": list(range(3000))})


def _first_json(folder: Path, edition: int) -> None:
    if edition:  # the folders that it lies in are made for it
        commit_json(folder / "pets" / "doctor" / "doctor.json", {"edition": edition})


def _lines(folder: Path, edition: int) -> None:
    commit_lines(folder / "log.jsonl", [{"epoch": n, "edition": edition} for n in range(20)])


def _corrections(folder: Path, edition: int) -> None:
    rows = [Correction(f"{n:064x}", "leave-out", reason=f"edition {edition}") for n in range(40)]
    write_corrections(folder / "corrections.csv", rows)


def _derived(folder: Path, edition: int) -> None:
    write_derived(folder / "pages" / "index.html", f"<p>{edition}</p>" * 5000)


def _first_folder(folder: Path, edition: int) -> None:
    if edition:  # of the name there was nothing before
        _answers(folder, edition)


def _answers(folder: Path, edition: int) -> None:
    image, drawn = np.zeros((1, SIDE, SIDE, 3), np.uint8), Drawing(b"\x89PNG" + bytes([edition]) * 5000)
    report = SimilarReport(folder / "similar", image[0], image, {"edition": edition})
    with mock.patch.object(SimilarReport, "sheet", drawn):
        write_similar(report)


def _site(folder: Path, edition: int) -> None:
    """As the page's files are written: folders within the folder."""
    with fresh_folder(folder / "site") as made:
        for name in ("index.html", "runs/a/index.html"):
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            write_derived(made / name, f"<p>{edition}</p>" * 500)
        commit_json(made / "convscope-site.json", {"pages": 2, "edition": edition})


# ------------------------------------------------------------------------------------------------------------- a run


def _run(folder: Path, name: str = "run") -> runs.Run:
    if (folder / name / "recipe.json").exists():
        return runs.Run(folder / name)
    return runs.create_run(folder, name, {"adopted": {"model": "small"}, "machine": {}})


def _begun(folder: Path, edition: int) -> None:
    runs.point_last(_run(folder, f"run-{edition}"))


def _opening(folder: Path, edition: int) -> None:
    now = SimpleNamespace(now=lambda zone: datetime.datetime(2026, 1, 1 + edition, tzinfo=zone))
    run = _run(folder)
    with mock.patch.object(runs, "datetime", now):
        if len(run.openings()) <= edition:
            run.log_opening({"part": "test", "n": 10})


def _checkpoint(folder: Path, edition: int) -> None:
    run, network = _run(folder), _network(edition)
    state = TrainState(network, torch.optim.SGD(network.parameters(), 0.1))
    for updates in (3,) if edition else (1, 2):
        runs.save_checkpoint(run, state, runs.RunProgress(), updates)


# ------------------------------------------------------------------------------------------------------- classifiers

_ARCHITECTURE = Architecture("alexnet", SIDE, {"width": 1})


@cache
def _network(edition: int) -> torch.nn.Module:
    return _ARCHITECTURE.build(2, seed=edition).eval()


def _classifier(edition: int) -> Classifier:
    return Classifier(_network(edition), ("cat", "dog"), Preprocess(size=SIDE), _ARCHITECTURE, {"edition": edition})


def _saved(folder: Path, edition: int) -> None:
    _classifier(edition).save(folder / "classifier.safetensors")


def _exported(folder: Path, edition: int) -> None:
    formats.export_classifier(_classifier(edition), folder, "pets", "safetensors")


def _exported_onnx(folder: Path, edition: int) -> None:
    """What the network becomes as ONNX, and what that answers, is given: writing it is what counts here."""
    classifier = _classifier(edition)
    wanted = formats.sealed_logits(classifier)
    with (
        mock.patch.object(formats, "to_onnx"),
        mock.patch.object(formats, "_with_description", lambda model, told: repr(told).encode() * 40),
        mock.patch.object(formats, "_run", return_value=wanted),
        mock.patch.object(formats, "SCRIPT", _script(folder, edition)),
    ):
        formats.export_classifier(classifier, folder, "pets", "onnx")


def _script(folder: Path, edition: int) -> Any:
    """The script beside it, of an earlier version of convscope first."""
    text = formats.SCRIPT.read_text(encoding="utf-8") if edition else "print('of an earlier version')\n"
    return SimpleNamespace(read_text=lambda encoding: text)


# --------------------------------------------------------------------------------------------------- images, features


def _images(folder: Path) -> list[Path]:
    """Three images, made where they are not there yet."""
    files = [folder / "pets" / f"{number}.png" for number in range(3)]
    if not files[0].parent.exists():
        files[0].parent.mkdir()
        for number, path in enumerate(files):
            Image.new("RGB", (SIDE, SIDE), (number, 9, 9)).save(path)
    return files


def _pack(folder: Path, edition: int) -> None:
    """First an image could not be read, for the disk failed; now all can."""
    unsplit = Unsplit("pets", ("cat",), np.zeros(3, int), np.array([""] * 3), SIDE, files=tuple(_images(folder)))
    preprocess, digests = Preprocess(size=SIDE), packing.digests(unsplit)
    with mock.patch.dict(os.environ, {"CONVSCOPE_CACHE": str(folder)}):
        if edition:
            packing.fitted_images(unsplit, digests, preprocess, "fail", None)
            return
        with mock.patch.object(packing, "commit", _commit_without_one):
            packing.fitted_images(unsplit, digests, preprocess, "skip", None)


def _commit_without_one(path: Path, write: Callable[[Any], str]) -> None:
    def fewer(handle: Any) -> str:
        packer = Packer(SIDE)
        packer.leave_out(0, "Input/output error")
        for number in (1, 2):
            packer.put(np.full((SIDE, SIDE, 3), number, np.uint8), handle)
        return packer.end(handle)

    commit(path, fewer)


def _masks(folder: Path, edition: int) -> None:
    """First the file there held masks of another size."""

    class Masks:
        def __len__(self) -> int:
            return 3

        def digests(self) -> np.ndarray:
            return np.zeros((3, 32), np.uint8)

        def all_fitted(self, index: range, preprocess: Preprocess) -> np.ndarray:
            return np.full((len(index), SIDE, SIDE), 7, np.uint8)

    with mock.patch.dict(os.environ, {"CONVSCOPE_CACHE": str(folder)}):
        pack = MaskPack(Masks(), Preprocess(size=SIDE))  # pyrefly: ignore[bad-argument-type] - what it asks of them
        if not edition:
            small = {"masks": torch.zeros(3, 2, 2, dtype=torch.uint8)}
            commit_tensors(pack.folder / "0.safetensors", small, {"masks": 3})


def _shard(folder: Path, edition: int) -> None:
    """The same images, with other features."""
    keys = [bytes([n]) * KEY_BYTES for n in range(20)]
    Store(folder, "float32").append(keys, [np.full(50, edition, np.float32)] * 20)


def _sorted(folder: Path, edition: int) -> None:
    images = _images(folder)[edition:] if edition else _images(folder)[:1]
    answers = [Prediction(str(path), "cat", 1.0, (("cat", 1.0),)) for path in images]
    sort_into(folder / "sorted", [(path.name, path) for path in images], answers, False)


PATHS: dict[str, CommitPath] = {
    "JSON": CommitPath(_json),
    "JSON in new folders": CommitPath(_first_json),
    "lines of JSON": CommitPath(_lines),
    "corrections": CommitPath(_corrections),
    "a page": CommitPath(_derived, synced=False),
    "answers": CommitPath(_answers, synced=False),
    "answers, no exchange": CommitPath(_answers, synced=False, refused=("renameat2",)),
    "the first answers": CommitPath(_first_folder, synced=False),
    "a site": CommitPath(_site, synced=False),
    "a run begun": CommitPath(_begun),
    "an opening": CommitPath(_opening),
    "a checkpoint": CommitPath(_checkpoint),
    "a classifier": CommitPath(_saved),
    "an export": CommitPath(_exported),
    "an export as ONNX": CommitPath(_exported_onnx),
    "packed images": CommitPath(_pack),
    "packed masks": CommitPath(_masks),
    "a shard": CommitPath(_shard),
    "sorted images": CommitPath(_sorted),
}
