"""The files that cost more to make: of explanations, transfers, exports, studies, and what else the cache holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import convscope
from convscope.cache import cache_folder
from convscope.canvas.pages import uri
from convscope.classifying.classifier import FILE_NAME, Classifier
from convscope.classifying.seal import check_seal
from convscope.convolution import timing
from convscope.explanation import presets
from convscope.explanation.card_store import LAST, STREAM, CardStore
from convscope.explanation.report import CELLS
from convscope.exporting import predict_onnx
from convscope.feature_store import engines
from convscope.models import pickled_weights
from convscope.models.pickled_weights import read_weight_groups
from convscope.models.pretrained import find_pretrained, pretrained_weights
from convscope.page.explained import layers_of, strip_of
from convscope.page.served import Served
from convscope.storage import read_json, sha256
from convscope.studies.hand_ins import read_hand_ins
from convscope.studies.registry import CLAIMS
from convscope.training.page_report import TOLD, write_page
from convscope.training.runs import Run
from convscope.transfer_learning import fcnn
from torture.rotting import Sound, Viewed, plainly, sealed_json, timeless
from torture.rotting_trained import NAME, data_of
from toyclaim import CLAIM

SHORT = {"width": 4, "image_size": 16, "augment": "none", "convolution": "direct"}


def paged(kind: str, page: Viewed, *paths: Path) -> list[Sound]:
    """Files that a page reads."""
    return [Sound(kind, path, page.read) for path in paths]


def explanation(folder: Path) -> list[Sound]:
    """Cards, their sheets, and the pass that they are made of, which a call that was cut off goes on with."""
    runs, place = folder / "runs", folder / "runs" / NAME / "explain"
    short = {side: replace(preset, steps=8) for side, preset in presets.PRESETS.items()}
    with mock.patch.dict(presets.PRESETS, short), mock.patch.dict(presets.WHOLE, short):
        convscope.explain(NAME, layer="layer1.0.conv1", seeds=1, ablate=4, count=2)
    (about,) = layers_of(Served(runs), Run(runs / NAME))
    address, stem = about["address"], about["file"]
    store = CardStore(place, read_json(place / LAST)["key"])
    stream = store.stream()
    told = (place / f"{stem}.json", place / LAST)
    found = paged("explanation", Viewed(runs, "/runs/{run}/{layer}", run=NAME, layer=address), *told)
    found += paged("explanation", Viewed(runs, "/runs/{run}", run=NAME), *told)
    others = {
        "sheets of cards": (place / CELLS / f"{stem}-1.jpg", lambda: strip_of(Served(runs), NAME, address, "0")),
        "drawings": (place / f"{stem}.png", lambda: uri(place / f"{stem}.png")),
    }
    found += [Sound(kind, path, plainly(read)) for kind, (path, read) in others.items()]
    again = plainly(lambda: store.stream() or stream)  # what is none is made anew, by the pass that made it
    return [*found, Sound("pass of an explanation", place / STREAM, again, made_again=True)]


def diagnosis(folder: Path) -> list[Sound]:
    """What `diagnose` found, as the page tells it."""
    runs = folder / "runs"
    convscope.diagnose(NAME, images=2)
    path = runs / NAME / "diagnose" / "diagnose.json"
    found = paged(
        "diagnosis", Viewed(runs, "/runs/{run}/gradients", run=NAME), path, path.with_name("watched.safetensors")
    )
    return found + paged("diagnosis", Viewed(runs, "/runs/{run}", run=NAME), path)


def transfer(folder: Path) -> list[Sound]:
    """The run of a transfer: its classifier, its ladder, and the page of it."""
    runs = folder / "runs"
    run = Run(runs / "t")
    with mock.patch.multiple(fcnn, MOST_EPOCHS=1, LEAST_EPOCHS=1):
        convscope.transfer(data_of(folder), image_size=64, engine="torch", name="t", quick=True)
    told = run.folder / "transfer" / "transfer.json"
    found = paged("transfer", Viewed(runs, "/runs/{run}/transfer", run="t"), told, run.folder / "recipe.json")
    found += paged("transfer", Viewed(runs, "/runs/{run}/ask", run="t"), told)
    found += paged("transfer", Viewed(runs, "/runs/{run}", run="t"), told, run.folder / TOLD)
    found += [Sound("transfer", run.folder / TOLD, plainly(lambda: write_page(run).read_bytes()))]
    found += sealed_json("transfer", *(run.folder / "transfer").glob("*.json"))
    return [*found, Sound("transfer's classifier", run.folder / FILE_NAME, plainly(lambda: run.classifier().network))]


def exports(folder: Path) -> list[Sound]:
    """An exported classifier as convscope reads it, and as the script beside it does, which looks at itself too."""
    place = folder / "exported"
    for format in ("safetensors", "onnx"):
        convscope.export(NAME, format=format, output=place)
    kept, graph, script = (place / f"{NAME}{end}" for end in (".safetensors", ".onnx", ".predict.py"))

    def opened() -> Any:
        return predict_onnx.open_model(graph)[1]

    def scripted() -> Any:
        with mock.patch.object(predict_onnx, "HERE", script):
            return opened(), script.read_bytes()

    def loaded() -> Any:
        classifier = Classifier.load(kept)
        check_seal(classifier)
        return classifier.network, classifier.class_names, classifier.provenance

    return [
        Sound("exported safetensors", kept, plainly(loaded)),
        Sound("exported ONNX", graph, plainly(opened)),
        Sound("exported script", script, plainly(scripted)),
        *sealed_json("exported safetensors", kept.with_suffix(".json")),
    ]


def study(folder: Path) -> list[Sound]:
    """A claim's outcome, on the page and handed in, and its trainings, which are made again where they rot."""
    place = folder / "runs" / "study"

    def studied() -> Any:
        before = outcome.read_bytes() if outcome.exists() else None
        with mock.patch.dict(CLAIMS, toy=CLAIM):
            convscope.study("toy")
        told = timeless(read_json(outcome))
        if before is not None:  # seconds stand in it, and it is damaged itself
            outcome.write_bytes(before)
        return told

    def handed_in() -> Any:
        found, refused = read_hand_ins([outcome])
        return [one.said.model_dump() for one in found], " ".join(why for _, why in refused)

    outcome = place / "toy-small.json"
    studied()
    trainings = sorted((place / "trainings").glob("*.safetensors"))
    found = [Sound("trainings of a study", path, plainly(studied), made_again=True) for path in trainings]
    return [
        *found,
        *paged("outcome of a claim", Viewed(folder / "runs", "/study"), outcome),
        Sound("outcome of a claim", outcome, handed_in),
    ]


def comparison(folder: Path) -> list[Sound]:
    """Two runs beside each other."""
    runs = folder / "runs"
    convscope.train(data_of(folder), model="resnet20", epochs=1, name="s", seed=1, **SHORT)
    convscope.compare([NAME, "s"])
    return paged("comparison", Viewed(runs, "/compare", run=[NAME, "s"]), *runs.glob("compare/*/comparison.json"))


def examination(folder: Path) -> list[Sound]:
    """What the doctor found."""
    runs, root = folder / "runs", data_of(folder)
    place = convscope.doctor(root, limit=30).folder
    found = paged("doctor", Viewed(runs, "/data/{data}", data=root.name), *place.glob("*.json"))
    return found + paged("doctor", Viewed(runs, "/data"), place / "doctor.json")


# ----------------------------------------------------------------------------------------------------- the cache


def added(x, first, last):
    """A loop for Numba."""
    for i in range(first, last):
        x[i] += i


def loops(folder: Path) -> list[Sound]:
    """Machine code that Numba keeps: a wrong bit of it would be run."""
    from convscope.convolution.compiled import Compiled

    def run() -> Any:
        x = np.ones(8, np.float32)
        Compiled(added)(x, 2, 8)
        return x

    run()
    paths = [path for path in (cache_folder() / "compiled").rglob("*") if "added" in path.name]
    return [Sound("compiled loops", path, plainly(run), made_again=True) for path in paths]


def times(folder: Path) -> list[Sound]:
    """What was measured of this machine once."""

    def remembered() -> Any:
        return timing._remembered({n: str(n) for n in range(9)}, lambda n: n * n, lambda v: isinstance(v, int), None)

    remembered()
    return [Sound("timings", cache_folder() / timing.FILE, plainly(remembered), made_again=True)]


def graphs(folder: Path) -> list[Sound]:
    """The network as onnxruntime takes it; it is written anew by nobody but the first, which takes seconds."""
    classifier = Run(folder / "runs" / NAME).classifier()
    whole = engines._onnx_bytes(classifier)

    def read() -> bytes:
        with mock.patch.object(engines, "to_onnx", return_value=whole):
            return engines._onnx_bytes(classifier)

    (path,) = cache_folder().glob(f"engines/*-{sha256(whole)[:16]}.onnx")
    return [Sound("engines", path, plainly(read), made_again=True)]


def weights(folder: Path) -> list[Sound]:
    """Weights that were converted once; they are converted anew by nobody but the first, which takes seconds."""
    torch.save(Run(folder / "runs" / NAME).classifier().network.state_dict(), folder / "weights.pt")
    lite0 = lambda: pretrained_weights(find_pretrained("lite0"), None)  # noqa: E731
    read_weight_groups(folder / "weights.pt"), lite0()
    (path,) = (cache_folder() / "weights").glob("converted*.safetensors")
    whole = path.read_bytes()

    def read() -> Any:
        with mock.patch.object(pickled_weights, "_convert", lambda _, kept, __: kept.write_bytes(whole)):
            return read_weight_groups(folder / "weights.pt")

    (other,) = (cache_folder() / "weights").glob("lite0*.safetensors")
    readers = {path: read, other: lite0}
    return [Sound("converted weights", one, plainly(reader), made_again=True) for one, reader in readers.items()]


LATER: dict[str, Callable[[Path], list[Sound]]] = {
    "explanation": explanation,
    "diagnosis": diagnosis,
    "transfer": transfer,
    "exports": exports,
    "study": study,
    "comparison": comparison,
    "examination": examination,
    "loops": loops,
    "times": times,
    "graphs": graphs,
    "weights": weights,
}
