"""The files of a training, of the images it is trained on and of their recorded features, with who reads them."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import convscope
from convscope.cache import cache_folder
from convscope.classifying.classifier import FILE_NAME, Classifier
from convscope.datasets.cifar import ARCHIVE, FOLDER, TRAIN_FILES
from convscope.datasets.corrections import LEAVE_OUT, RELABEL, Correction, read_corrections, write_corrections
from convscope.datasets.mask_folders import find_pairing
from convscope.datasets.mask_loading import load_masked
from convscope.datasets.mask_pack import MaskPack
from convscope.datasets.registry import list_images, load_dataset
from convscope.errors import DamagedFile
from convscope.evaluation import knowing
from convscope.evaluation.knowing import KNOWN, find_known, read_known, write_known
from convscope.feature_store.extraction import extract
from convscope.feature_store.store import FeatureOptions, Store
from convscope.images.preprocess import Preprocess
from convscope.page.run_view import mistakes_page
from convscope.page.served import Served
from convscope.storage import file_hash
from convscope.training.kept_epochs import kept_epochs
from convscope.training.last import LAST
from convscope.training.loop import TrainState, make_optimizer
from convscope.training.page_report import read_evaluations
from convscope.training.runs import Run, checkpoints, find_run, load_checkpoint, state_tensors
from convscope.training.seen import read_run_images
from convscope.training.session import WATCHED
from convscope.training.watched import Watched
from planted_folders import clean, pattern
from small_targets import discs
from torture.rotting import Sound, Told, Viewed, plainly, sealed_json

NAME = "r"
EACH = 12  # images of a class
CPU = torch.device("cpu")


def data_of(folder: Path) -> Path:
    """The folder of images that all is made from."""
    root = folder / "images"
    return root if root.exists() else clean(root, each=EACH)


def training(folder: Path) -> list[Sound]:
    """A run of two epochs, evaluated, with what it knows."""
    root, runs = data_of(folder), folder / "runs"
    options = {"width": 4, "image_size": 16, "augment": "none", "convolution": "direct"}
    convscope.train(root, model="resnet20", epochs=2, name=NAME, keep_epochs=1, watch=True, **options)
    convscope.evaluate(NAME)
    run = Run(runs / NAME)
    _knowing(run, root)
    place, answer = run.folder, next(run.folder.glob("evaluate/*-test"))
    page = Viewed(runs, "/runs/{run}", run=NAME)
    told: dict[str, tuple[str, Callable[[], Any]]] = {
        "recipe": ("recipe.json", lambda: (run.description(), run.recipe().flat())),
        "log": ("log.jsonl", run.log),
        "timing": ("timing.jsonl", run.timing),
        "openings": ("openings.jsonl", run.openings),
        "classifier": (FILE_NAME, lambda: _used(run.classifier())),
        "evaluation": (f"evaluate/{answer.name}/evaluation.json", lambda: read_evaluations(run)),
        "mistakes": (f"evaluate/{answer.name}/wrong.json", lambda: mistakes_page(Served(runs), NAME, answer.name)),
        "images of a run": ("seen.safetensors", lambda: read_run_images(place)),
        "what was watched": (str(WATCHED), lambda: vars(Watched.load(place / WATCHED))),
        "what is known": (KNOWN, lambda: read_known(run, run.classifier())),
        "epochs": (FILE_NAME, lambda: {n: _used(Classifier.load(path)) for n, path in kept_epochs(run).items()}),
    }
    found = [Sound(kind, place / name, plainly(read)) for kind, (name, read) in told.items()]
    found += [Sound("checkpoints", path, lambda: _gone_on_with(run)) for path in checkpoints(run)]
    found += [Sound("epochs", path, found[-3].read) for path in (place / "epochs").glob("*.safetensors")]
    names = ("recipe.json", "log.jsonl", "timing.jsonl", "openings.jsonl", str(answer.name) + "/evaluation.json")
    paged = [place / name if "/" not in name else place / "evaluate" / name for name in names]
    found += [Sound("page of a run", path, page.read) for path in paged]
    found.append(Sound("last", runs / LAST, plainly(lambda: find_run("last", runs).name)))
    (runs / "n").mkdir()
    (runs / "n" / "recipe.json").write_bytes((place / "recipe.json").read_bytes())  # a name that a flip can make of r
    return found + sealed_json("other JSON", place / "summary.json", place / "classifier.json")


def _used(classifier: Classifier) -> tuple[Any, ...]:
    """What a classifier predicts by."""
    return classifier.network, classifier.class_names, classifier.preprocess.to_dict(), classifier.provenance


def _knowing(run: Run, root: Path) -> None:
    classifier = run.classifier()
    with mock.patch.object(knowing, "FEWEST", 2):  # validation images: there are few of all images
        known, noise = find_known(classifier, load_dataset(root, preprocess=classifier.preprocess), None)
    write_known(run, classifier, known, noise)


def _gone_on_with(run: Run) -> Told:
    """What a training goes on with, and the notes on what was passed over."""
    network = run.classifier().architecture.build(3)
    state = TrainState(network, make_optimizer(network, run.recipe().optimizer))
    progress, notes = load_checkpoint(run, state)
    return (vars(progress), *state_tensors(state)), " ".join(notes)


# ------------------------------------------------------------------------------------- images, and what is made of them


def data(folder: Path) -> list[Sound]:
    """Packed images and masks, the images that a Parquet file held, corrections, and an archive in the cache."""
    root = data_of(folder)
    before = _cached()
    packed = lambda: _images(load_dataset(root, image_size=24))  # noqa: E731
    packed()
    found = [Sound("packed images", path, plainly(packed), made_again=True) for path in _cached() - before]
    return [*found, *_held_images(folder), *_masks(folder), *_corrections(folder, root), *_archive(folder)]


def _cached() -> set[Path]:
    """The files in the cache that hold something."""
    return {path for path in cache_folder().rglob("*") if path.is_file() and path.stat().st_size}


def _images(dataset: Any) -> tuple[Any, ...]:
    return np.array(dataset.images), dataset.labels, dataset.class_names, dataset.fingerprint


def _held_images(folder: Path) -> list[Sound]:
    """Images that a Parquet file holds lie as files in the cache."""
    import pyarrow
    from pyarrow import parquet

    files = sorted(data_of(folder).rglob("*.png"))
    columns = {"image": [path.read_bytes() for path in files], "label": [path.parent.name for path in files]}
    parquet.write_table(pyarrow.table(columns), folder / "held.parquet")
    read = lambda: _images(load_dataset(folder / "held.parquet", image_size=24))  # noqa: E731
    read()
    paths = sorted((cache_folder() / "embedded").rglob("*"))
    return [Sound("held images", path, plainly(read), made_again=True) for path in paths if path.is_file()]


def _masks(folder: Path) -> list[Sound]:
    root = discs(folder / "masked", 12)
    pairing = find_pairing(root)
    assert pairing is not None
    masks, preprocess = load_masked(root, pairing).targets, Preprocess(size=16, fit="pad")
    read = lambda: MaskPack(masks, preprocess)[np.arange(12)]  # noqa: E731
    read()
    paths = (cache_folder() / "masks").rglob("*.safetensors")
    return [Sound("packed masks", path, plainly(read), made_again=True) for path in paths]


def _corrections(folder: Path, root: Path) -> list[Sound]:
    files, path = sorted(root.rglob("*.png")), folder / "corrections.csv"
    rows = [Correction(file_hash(files[0]), LEAVE_OUT, "", "blurred", files[0].name)]
    rows += [Correction(file_hash(one), RELABEL, "wasps", "", one.name) for one in files[1:4]]
    write_corrections(path, rows)

    def read() -> Told:
        dataset = load_dataset(root, image_size=24, corrections=path)
        told = [note for note in dataset.notes if "not there any more" in note]
        if told and all(row in rows for row in read_corrections(path)):
            raise DamagedFile(told[0])  # a line may be struck out, so that it is used without
        return _images(dataset), ""

    return [Sound("corrections", path, read)]


def _archive(folder: Path) -> list[Sound]:
    """A small archive as that of CIFAR-10, where a download would lie."""
    source = folder / "official" / FOLDER
    source.mkdir(parents=True)
    for seed, name in enumerate((*TRAIN_FILES, "test_batch")):
        rows = np.stack([np.asarray(pattern(seed * 99 + i, 32)).transpose(2, 0, 1).reshape(-1) for i in range(10)])
        box = {b"data": rows, b"labels": list(range(10)), b"batch_label": b"x", b"filenames": [b"a"] * 10}
        (source / name).write_bytes(pickle.dumps(box, protocol=2))
    path = cache_folder() / "data" / ARCHIVE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, FOLDER)
    return [Sound("downloads", path, plainly(lambda: _images(load_dataset("cifar10", data_root=path.parent))))]


def features(folder: Path) -> list[Sound]:
    """The shards of a feature store: a damaged one is as good as absent to a reader, and made again by who fills it."""
    classifier, listing = Run(folder / "runs" / NAME).classifier(), list_images(data_of(folder))
    options = FeatureOptions(engine="torch")
    made = extract(listing, classifier, options, CPU)

    def recorded() -> Told:
        store = Store(made.folder, options.dtype)
        rows = store.rows(listing.digests)
        return (rows, store.take(rows[rows >= 0])), " ".join(map(str, store.damaged))

    def again() -> Any:
        return extract(listing, classifier, options, CPU).features.array()

    paths = sorted(made.folder.glob("*.safetensors"))
    found = [Sound("feature store", path, recorded) for path in paths]
    return found + [Sound("feature store, filled", path, plainly(again), made_again=True) for path in paths]


FIRST: dict[str, Callable[[Path], list[Sound]]] = {"training": training, "data": data, "features": features}
