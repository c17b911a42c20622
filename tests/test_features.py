"""The feature store: never stale, never torn, memory flat, and equal to computing everything anew."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import convscope
from convscope import tensor_files
from convscope.cache import cache_folder
from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import Listing
from convscope.datasets.registry import list_images
from convscope.errors import ConvscopeError, DamagedFile, DataError, LockedError, StorageError, UnknownName, UsageError
from convscope.feature_store import extraction as features
from convscope.feature_store.engines import FeatureRequest
from convscope.feature_store.extraction import extract
from convscope.feature_store.store import FeatureOptions, Store
from convscope.images.preprocess import Preprocess
from convscope.locks import lock
from convscope.models.architecture import Architecture
from convscope.recipes import AUGMENTS
from lively import lively

CPU = torch.device("cpu")
TORCH = FeatureOptions(engine="torch")


@pytest.fixture(scope="module")
def small() -> Classifier:
    architecture = Architecture("alexnet", 16, {"width": 4})
    network = lively(architecture.build(3, seed=0)).eval()
    return Classifier(network, ("a", "b", "c"), Preprocess(16), architecture)


def folder_of(root: Path, count: int = 12, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for i in range(count):
        place = root / ("even", "odd")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 18, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return root


def fresh(listing: Listing, classifier: Classifier, monkeypatch: pytest.MonkeyPatch, cache: Path) -> np.ndarray:
    """The features computed in an empty cache."""
    shutil.rmtree(cache, ignore_errors=True)
    with monkeypatch.context() as patch:
        patch.setenv("CONVSCOPE_CACHE", str(cache))
        return extract(listing, classifier, TORCH, CPU).features.array()


EDITS = st.lists(
    st.tuples(st.sampled_from(["byte", "add", "remove", "rename", "restore"]), st.integers(0, 11)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_never_stale(
    small: Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path_factory, edits: list[tuple[str, int]]
):
    """After any edits only what is new is computed, and every row is that of a fresh run."""
    root = tmp_path_factory.mktemp("edited")
    folder_of(root)
    seen = {d.tobytes() for d in list_images(root).digests}
    monkeypatch.setenv("CONVSCOPE_CACHE", str(root.parent / f"{root.name}-cache"))
    assert extract(list_images(root), small, TORCH, CPU).computed == 12
    for number, (kind, which) in enumerate(edits):
        files = sorted(root.rglob("*.png"))
        path = files[which % len(files)]
        if kind == "byte":  # one pixel
            image = np.array(Image.open(path))
            image[0, 0, 0] ^= 1
            Image.fromarray(image).save(path)
        elif kind == "add":
            Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(root / "odd" / f"new{number}.png")
        elif kind == "remove" and len(list(path.parent.iterdir())) > 1:
            path.unlink()
        elif kind == "rename":
            path.rename(path.with_name(f"z{number}-{path.name}"))
        else:
            shutil.copy(path, path.with_name(f"copy{number}.png"))
    listing = list_images(root)
    found = extract(listing, small, TORCH, CPU)
    now = {d.tobytes() for d in listing.digests}
    assert found.computed == len(now - seen)
    assert np.array_equal(found.features.array(), fresh(listing, small, monkeypatch, root.parent / f"{root.name}-anew"))


REFUSALS = {
    "the exporter": ("to_onnx", UsageError("this network cannot be written as ONNX: it branches.")),
    "the comparison": ("_check_equal", DamagedFile("onnxruntime's features differ from torch's by 1.")),
    "onnxruntime": ("_check_equal", RuntimeError("no kernel for float64")),
    "a missing library": ("to_onnx", UsageError("ONNX needs ml_dtypes, which is not installed.")),
}


@pytest.mark.parametrize("who", REFUSALS)
def test_an_engine_that_was_not_asked_for_gives_way_to_torch(
    small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
):
    pytest.importorskip("onnxscript")
    function, error = REFUSALS[who]

    def refuse(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(f"convscope.feature_store.engines.{function}", refuse)
    listing = list_images(folder_of(tmp_path / "data"))
    found = extract(listing, small, FeatureOptions(), CPU)
    assert found.engine.startswith("torch ")
    assert found.computed == 12
    (note,) = found.notes
    assert note.startswith("these features are torch's: ")
    assert str(error).split(":")[0].rstrip(".") in note
    again = extract(listing, small, FeatureOptions(), CPU)
    assert (again.computed, again.notes) == (0, (note,))
    with pytest.raises(ConvscopeError):
        extract(listing, small, FeatureOptions(engine="onnxruntime"), CPU)
    assert extract(listing, small, TORCH, CPU).notes == ()


def test_whatever_a_feature_depends_on_is_in_its_key(small: Classifier, tmp_path: Path):
    listing = list_images(folder_of(tmp_path / "data"))
    first = extract(listing, small, TORCH, CPU)
    assert extract(listing, small, TORCH, CPU).computed == 0
    other = Classifier.load(_saved(small, tmp_path / "c.safetensors"))
    with torch.no_grad():
        next(other.network.parameters())[0, 0, 0, 0] += 1e-3
    changes = [
        (replace(small, preprocess=replace(small.preprocess, fit="squash")), TORCH),
        (replace(small, preprocess=replace(small.preprocess, mean=(0.4, 0.5, 0.5))), TORCH),
        (replace(small, preprocess=replace(small.preprocess, interpolation="bicubic")), TORCH),
        (other, TORCH),
        (small, replace(TORCH, dtype="float16")),
        (small, replace(TORCH, wanted=FeatureRequest(maps=True))),
    ]
    for classifier, options in changes:
        found = extract(listing, classifier, options, CPU)
        assert found.computed == 12, options
        assert found.folder != first.folder
    assert extract(listing, small, TORCH, CPU).computed == 0


def _saved(classifier: Classifier, path: Path) -> Path:
    classifier.save(path)
    return path


def test_order_and_repetition_are_of_no_matter(small: Classifier, tmp_path: Path):
    listing = list_images(folder_of(tmp_path / "data"))
    straight = extract(listing, small, TORCH, CPU).features.array()
    order = np.random.default_rng(0).permutation(12)
    again = extract(listing.take(np.concatenate([order, order])), small, TORCH, CPU)
    assert again.computed == 0
    assert np.array_equal(again.features.array(), np.concatenate([straight[order], straight[order]]))
    assert np.array_equal(again.features[np.array([3])], straight[order[[3]]])


def test_copies_have_keys_of_their_own_and_vary(small: Classifier, tmp_path: Path):
    listing = list_images(folder_of(tmp_path / "data"))
    plain = extract(listing, small, TORCH, CPU).features.array()
    options = replace(TORCH, copies=2, augment=AUGMENTS["standard"])
    found = extract(listing, small, options, CPU)
    assert found.computed == 24  # the images as they are were there
    rows = found.features.array().reshape(3, 12, -1)
    assert np.array_equal(rows[0], plain)
    assert not np.array_equal(rows[1], rows[2])
    assert not np.array_equal(rows[1], plain)
    assert extract(listing, small, replace(options, seed=1), CPU).computed == 24
    assert extract(listing.take(np.arange(5)), small, options, CPU).computed == 0


def test_a_damaged_shard_is_as_good_as_absent(small: Classifier, tmp_path: Path):
    listing = list_images(folder_of(tmp_path / "data"))
    found = extract(listing, small, TORCH, CPU)
    straight = found.features.array()
    (shard,) = found.folder.glob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(bytes(data))
    again = extract(listing, small, TORCH, CPU)
    assert again.computed == 12
    assert np.array_equal(again.features.array(), straight)
    assert len(list(again.folder.glob("*.safetensors"))) == 1


def test_images_that_cannot_be_read(small: Classifier, tmp_path: Path):
    root = folder_of(tmp_path / "data")
    (root / "odd" / "broken.png").write_bytes(b"not an image")
    shutil.copy(root / "odd" / "broken.png", root / "odd" / "broken2.png")
    listing = list_images(root)
    found = extract(listing, small, TORCH, CPU)
    assert [listing.unsplit.origin(i) for i, _ in found.bad] == ["odd/broken.png", "odd/broken2.png"]
    assert found.computed == 12
    with pytest.raises(DataError, match="2 of 14 images cannot be read"):
        convscope.features(root, engine="torch", image_size=32)
    report = convscope.features(root, engine="torch", image_size=32, bad_images="skip")
    assert len(report.listing) == 12
    assert "2 images are left out" in report.summary["notes"][-1]


def test_two_at_once_and_a_disk_that_is_full_or_read_only(
    small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    listing = list_images(folder_of(tmp_path / "data"))
    description = features.store_description(small, TORCH, features.engine_identity("torch", FeatureRequest(), CPU))
    key = features.store_folder(description).name
    with lock(cache_folder() / "features" / key, "it"), pytest.raises(LockedError, match="in use by process"):
        extract(listing, small, TORCH, CPU)

    monkeypatch.setattr(features, "SHARD_ROWS", 4)
    commit, count = tensor_files.commit_tensors, []

    def full(*args: object) -> None:
        count.append(1)
        if len(count) == 2:
            raise StorageError("cannot write it: the disk is full.")
        commit(*args)

    monkeypatch.setattr("convscope.feature_store.store.commit_tensors", full)
    with pytest.raises(StorageError, match=r"disk is full.*CONVSCOPE_CACHE"):
        extract(listing, small, TORCH, CPU)
    assert extract(listing, small, TORCH, CPU).computed == 8  # the first shard was kept


def test_a_cache_that_has_everything_may_be_read_only(small: Classifier, tmp_path: Path, monkeypatch):
    listing = list_images(folder_of(tmp_path / "data"))
    straight = extract(listing, small, TORCH, CPU).features.array()

    def refuse(*_: object) -> None:
        raise StorageError("cannot write it: the file system is read-only.")

    monkeypatch.setattr(features, "make_folder", refuse)
    assert np.array_equal(extract(listing, small, TORCH, CPU).features.array(), straight)
    with pytest.raises(StorageError, match=r"read-only.*CONVSCOPE_CACHE"):
        extract(listing, small, replace(TORCH, dtype="float16"), CPU)


def test_what_is_refused(small: Classifier, tmp_path: Path):
    root = folder_of(tmp_path / "data")
    with pytest.raises(UnknownName, match="float32"):
        extract(list_images(root), small, replace(TORCH, dtype="float8"), CPU)
    with pytest.raises(UsageError, match="copies"):
        convscope.features(root, augment=-1)
    with pytest.raises(UsageError, match="standard"):
        convscope.features(root, augment=1, level="standart")


def test_an_interrupt_keeps_what_was_done(small: Classifier, tmp_path: Path):
    listing = list_images(folder_of(tmp_path / "data"))

    def stop(what: str, done: int, total: int) -> None:
        if what == "features" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(listing, small, TORCH, CPU, stop)
    assert extract(listing, small, TORCH, CPU).computed == 7
    assert torch.get_num_threads() >= 1


KILLED = """
import sys, torch
from pathlib import Path
from convscope.classifying.classifier import Classifier
from convscope.datasets.registry import list_images
from convscope.feature_store import extraction as features
features.SHARD_ROWS = 8
found = features.extract(list_images(sys.argv[1]), Classifier.load(Path(sys.argv[2])),
                         features.FeatureOptions(engine="torch"), torch.device("cpu"))
"""


def kill_and_resume(small: Classifier, tmp_path: Path, times: int, seed: int) -> None:
    """Kill an extraction at random moments; what it leaves is whole, and resumes to what an undisturbed one makes."""
    root, rng = folder_of(tmp_path / "data", 200), random.Random(seed)
    weights = _saved(small, tmp_path / "c.safetensors")
    listing = list_images(root)
    for number in range(times):
        cache = tmp_path / f"cache{number}"
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(root), str(weights)],
            env={**os.environ, "CONVSCOPE_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        )
        deadline, wait = time.monotonic() + 120, rng.uniform(0, 0.15)
        while not list(cache.glob("features/*/*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.environ["CONVSCOPE_CACHE"] = str(cache)
        found = extract(listing, small, TORCH, CPU)
        straight = extract(listing, small, replace(TORCH), CPU)
        assert straight.computed == 0
        values = found.features.array()
        assert not list(found.folder.glob("*.tmp-*"))
        os.environ["CONVSCOPE_CACHE"] = str(tmp_path / "undisturbed")
        assert np.array_equal(values, extract(listing, small, TORCH, CPU).features.array())


def test_a_kill_at_any_moment_loses_nothing_that_was_committed(small: Classifier, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    kill_and_resume(small, tmp_path, 2, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills(small: Classifier, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    kill_and_resume(small, tmp_path, 50, 1)


@pytest.mark.parametrize("kind", ["shape", "dtype", "keys", "flat", "rows"])
def test_a_shard_of_another_kind_is_as_good_as_absent(tmp_path: Path, kind: str) -> None:
    """Sealed, as somebody would who means harm."""
    store = Store(tmp_path, "float32")
    store.append([bytes([i] * 32) for i in range(3)], [np.full(4, float(i), np.float32) for i in range(3)])
    odd = {
        "shape": (torch.zeros(2, 32, dtype=torch.uint8), torch.zeros(2, 5)),
        "dtype": (torch.zeros(2, 32, dtype=torch.uint8), torch.zeros(2, 4, dtype=torch.float16)),
        "keys": (torch.zeros(2, 8, dtype=torch.uint8), torch.zeros(2, 4)),
        "flat": (torch.zeros(2, 32, dtype=torch.uint8), torch.zeros(2)),
        "rows": (torch.zeros(3, 32, dtype=torch.uint8), torch.zeros(2, 4)),
    }[kind]
    tensor_files.commit_tensors(tmp_path / "z.safetensors", dict(zip(("keys", "features"), odd, strict=True)), {})
    again = Store(tmp_path, "float32")
    assert [path.name for path in again.damaged] == ["z.safetensors"]
    rows = again.rows(np.stack([np.full(32, i, np.uint8) for i in range(3)]))
    assert again.take(rows)[:, 0].tolist() == [0, 1, 2]


def test_features_as_a_parquet_file(shapes_folder: Path, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "made" / "features.parquet"
    found = convscope.features(shapes_folder, image_size=64, limit=6, engine="torch", augment=1, parquet=path)
    table = parquet.read_table(path)
    listed, rows = found.listing, table.to_pydict()
    assert table.schema.metadata[b"shape"] == b"1280"
    assert np.array_equal(np.array(rows["features"], np.float32), found.extraction.features.array())
    assert rows["copy"] == [0] * 6 + [1] * 6
    assert rows["image"] == [listed.unsplit.origin(i) for i in range(6)] * 2
    assert rows["sha256"][:6] == [d.tobytes().hex() for d in listed.digests]
    assert set(rows["class"]) == {"circle", "ring", "cross"}


def test_a_parquet_file_needs_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'convscope\[parquet\]'"):
        convscope.features("shapes", limit=4, parquet=tmp_path / "x.parquet")
