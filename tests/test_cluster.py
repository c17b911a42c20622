"""Workers on a cluster give the same bytes as this process, also when one of them is lost; and refusals."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convscope
from convscope.errors import DataError, ImageError, MemoryExhausted, UnknownName, UnreachableError, UsageError
from convscope.feature_store import extraction
from convscope.options import Cluster as Asked
from convscope.workers import ENGINES, blocks_of, hired, shares_of
from doubling import Doubling
from two_kinds import write_photos

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed: convscope[scale]")
LITTLE: dict[str, Any] = {"limit": 40, "image_size": 64}
FEW_CARDS: dict[str, Any] = {"seeds": 0, "ablate": 0, "least": True, "layer": ["conv1"]}
TINY: dict[str, Any] = {
    "model": "resnet20",
    "width": 4,
    "image_size": 16,
    "epochs": 1,
    "flip": "none",
    "augment": "none",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray with two workers on this machine, begun once: commands find it, and leave it alone."""
    from convscope.scale.starting import connected, library

    ray = library()
    with connected(ray, None, 2):
        yield ray


@pytest.fixture(autouse=True)
def _no_shard_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "SHARD_SECONDS", float("inf"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of small images, and its photos in a folder beside it."""
    folder = tmp_path_factory.mktemp("home")
    write_photos(folder / "photos", 75)
    convscope.train(folder / "photos", runs=folder / "runs", name="r", **TINY)
    return folder


def stored(folder: Path) -> dict[str, str]:
    """The hash of each file below a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def features(engine: str, cache: Path, monkeypatch: pytest.MonkeyPatch, data: Any = "shapes", **options: Any) -> Any:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(cache))
    return convscope.features(data, engine=engine, **{**LITTLE, **options})


# ------------------------------------------------------------------------------------------------------- equal


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("options", [{}, {"augment": 1, "dtype": "float16"}], ids=["plain", "with copies"])
def test_features_are_the_same_bytes(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any):
    here = features("torch", tmp_path / "here", monkeypatch, **options)
    there = features("ray-torch", tmp_path / "there", monkeypatch, **options)
    assert stored(here.folder) == stored(there.folder)
    assert len(stored(here.folder)) >= 2
    assert there.extraction.computed == here.extraction.computed > 0
    assert cluster.is_initialized()  # it was there before, and stays


@needs_ray
def test_features_are_the_same_bytes_when_a_worker_is_killed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed: list[int] = []

    def kill(what: str, done: int, _total: int) -> None:
        if what == "features" and done == 2 and not killed:
            pids = [pid for pid in actors() if pid not in killed]
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

    here = features("torch", tmp_path / "here", monkeypatch)
    there = features("ray-torch", tmp_path / "there", monkeypatch, progress=kill)
    assert killed
    assert stored(here.folder) == stored(there.folder)


def actors() -> list[int]:
    """The processes of Ray's that hold a network now."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                words = (place / "cmdline").read_bytes()
            except OSError:
                continue
            if b"MapWorker" in words:
                found.append(int(place.name))
    return found


@pytest.mark.slow
@needs_ray
def test_files_are_told_as_here(cluster: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    photos = run / "photos"
    (photos / "ant" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    try:
        told = []
        for engine in ("torch", "ray-torch"):
            monkeypatch.chdir(run)
            with pytest.raises(DataError) as error:
                features(engine, tmp_path / engine, monkeypatch, Path("photos"), limit=None)
            told.append(str(error.value))
            skipped = features(engine, tmp_path / engine, monkeypatch, photos, limit=None, bad_images="skip")
            told[-1] += str(skipped.summary["notes"])
        assert "broken.png" in told[0]
        assert told[0] == told[1]
        assert stored(tmp_path / "torch" / "features") == stored(tmp_path / "ray-torch" / "features")
    finally:
        (photos / "ant" / "broken.png").unlink()


@pytest.mark.slow
@needs_ray
def test_predictions_are_the_same(cluster: Any, run: Path):
    asked: dict[str, Any] = {"runs": run / "runs", "views": "flip", "coverage": 0.9, "known": str(run / "photos")}
    photos = [run / "photos", run / "photos" / "ant" / "none.png"]
    here = convscope.predict("r", photos, **asked)
    there = convscope.predict("r", photos, engine="ray", **asked)
    assert [one.to_json() for one in here] == [one.to_json() for one in there]
    assert len(here) == 151


@needs_ray
def test_exemplars_are_the_same(cluster: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from convscope.explanation import card_making

    monkeypatch.setattr(card_making, "BLOCK", 64)
    folder = run / "runs" / "r" / "explain"
    made = []
    for engine in ("local", "ray"):
        convscope.explain(
            "r", run / "photos", runs=run / "runs", engine=engine, seeds=0, ablate=0, least=True, layer=["conv1"]
        )
        made.append({name: what for name, what in stored(folder).items() if name != "explain.json"})
        folder.rename(tmp_path / engine)
    assert made[0] == made[1]
    assert "exemplars.safetensors" in made[0]


@pytest.mark.slow
@needs_ray
def test_the_doctor_finds_the_same(cluster: Any, run: Path, tmp_path: Path):
    made = [
        convscope.doctor(run / "photos", runs=tmp_path / engine, engine=engine, labels=False)
        for engine in ("local", "ray")
    ]
    one, other = ({k: v for k, v in m.summary.items() if k not in ("seconds", "folder")} for m in made)
    assert str(one).replace("/local/", "/ray/") == str(other)
    first, second = (m.found.survey for m in made)
    assert first.rows.tobytes() == second.rows.tobytes()
    assert first.digests.tobytes() == second.digests.tobytes()


# -------------------------------------------------------------------------------------------------- any work


def doubled(work: Doubling, count: int = 20) -> list[int]:
    with hired("ray", Asked(workers=2)) as workers:
        assert workers is not None
        return [one for done in workers.each(work, blocks_of(count, 3)) for one in done]


@pytest.mark.slow
@needs_ray
def test_results_come_in_order(cluster: Any):
    assert doubled(Doubling()) == [2 * i for i in range(20)]
    assert doubled(Doubling(), 0) == []


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        ("at the start", UsageError, "no start today"),
        ("an image", ImageError, "seven.png: not an image"),
        ("no memory", MemoryError, "^$"),
        ("always killed", UnreachableError, "lost 4 times"),
    ],
)
def test_what_a_worker_meets_is_told(cluster: Any, trouble: str, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        doubled(Doubling(trouble))


@pytest.mark.slow
@needs_ray
def test_a_file_that_is_not_there_for_workers(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from convscope.scale import cluster as engine

    place = tmp_path / "later.png"
    made = engine.Cluster._received
    monkeypatch.setattr(engine.Cluster, "_received", lambda self, sent: (place.touch(), made(self, sent))[1])
    with pytest.raises(DataError, match=r"later\.png is here, but not on the worker at 127\.0\.0\.1"):
        doubled(Doubling(place=str(place)))


# ------------------------------------------------------------------------------------------------- elsewhere


def test_images_elsewhere_have_the_features_they_have_here(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = features("torch", tmp_path / "here", monkeypatch, run / "photos", limit=8)
    there = features("torch", tmp_path / "there", monkeypatch, f"file://{run}/photos", limit=8)
    assert stored(here.folder) == stored(there.folder)
    assert there.listing.unsplit.class_names == ("ant", "bee")
    assert there.listing.unsplit.origin(0).startswith("ant/")


@pytest.mark.slow
@needs_ray
def test_workers_fetch_images_from_elsewhere(cluster: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = features("torch", tmp_path / "here", monkeypatch, run / "photos", limit=20)
    there = features("ray-torch", tmp_path / "there", monkeypatch, f"file://{run}/photos", limit=20)
    assert stored(here.folder) == stored(there.folder)


def test_predictions_of_images_elsewhere(run: Path):
    here = convscope.predict("r", run / "photos" / "ant", runs=run / "runs")
    there = convscope.predict("r", f"file://{run}/photos/ant/*.png", runs=run / "runs")
    assert [{**one.to_json(), "path": ""} for one in here] == [{**one.to_json(), "path": ""} for one in there]
    assert there[0].path == f"file://{here[0].path}"
    with pytest.raises(UsageError, match="`copy_to` takes images on this machine"):
        convscope.predict("r", f"file://{run}/photos/ant", runs=run / "runs", copy_to=run / "sorted")


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("nonsense://a/b", UsageError, "nonsense://a/b cannot be read"),
        ("file:///nowhere/at/all", DataError, "does not exist"),
    ],
)
def test_places_that_are_none(url: str, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        convscope.features(url, image_size=64)


def test_what_is_elsewhere_is_not_trained_on(run: Path):
    with pytest.raises(UsageError, match="copy them here"):
        convscope.train(f"file://{run}/photos", runs=run / "runs", name="never", **TINY)


def test_an_image_elsewhere_that_is_gone(tmp_path: Path):
    from convscope.datasets.remote import RemotePath, contents

    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        contents(RemotePath(f"file://{tmp_path}/gone.png"))
    assert RemotePath("s3://bucket/a/b.png").url == "s3://bucket/a/b.png"


# ------------------------------------------------------------------------------------------------- refusals


def test_every_engine_is_there():
    for place in ENGINES.values():
        assert importlib.util.find_spec(place)


@pytest.mark.parametrize(("workers", "address"), [(2, None), (None, "127.0.0.1:6379")])
def test_workers_are_for_a_cluster(workers: int | None, address: str | None):
    with (
        pytest.raises(UsageError, match="is for a cluster: say --engine ray"),
        hired("local", Asked(workers=workers, address=address)),
    ):
        pass


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'convscope\[scale\]'"), hired("ray", Asked()):
        pass


@pytest.mark.parametrize("workers", [0, -3])
def test_no_workers(workers: int):
    with pytest.raises(UsageError, match="can do nothing"), hired("ray", Asked(workers=workers)):
        pass


@pytest.mark.slow
@needs_ray
def test_more_workers_than_processors(cluster: Any):
    with pytest.raises(UsageError, match="2 processors for 64 workers"), hired("ray", Asked(workers=64)):
        pass


@needs_ray
def test_workers_without_memory():
    from convscope.scale.cluster import Cluster, library

    ray = library()
    told = Cluster(ray, "this machine", 2)._sentence(ray.exceptions.OutOfMemoryError("killed"))
    assert isinstance(told, MemoryExhausted)
    assert "take fewer of them with --workers" in str(told)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is connected to no Ray, as far as it looks."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@needs_ray
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("address", ["nowhere", "ray://127.0.0.1:10001", "host:", ":6379", "127.0.0.1:99999", "a:b"])
def test_what_is_no_address(address: str):
    with (
        pytest.raises(UsageError, match="is no HOST:PORT of a cluster, nor auto"),
        hired("ray", Asked(address=address)),
    ):
        pass


@needs_ray
@pytest.mark.usefixtures("alone")
def test_nobody_answers(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=f"{address} does not answer"), hired("ray", Asked(address=address)):
            pass
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UnreachableError, match=f"{address} does not answer"), hired("ray", Asked()):
            pass


@needs_ray
@pytest.mark.usefixtures("alone")
def test_something_else_answers(monkeypatch: pytest.MonkeyPatch):
    from convscope.scale import starting

    monkeypatch.setattr(starting, "ANSWER", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="did not speak as Ray"), hired("ray", Asked(address=address)):
            pass


@pytest.mark.slow
@needs_ray
def test_another_cluster_than_the_one_connected(cluster: Any):
    with pytest.raises(UsageError, match="is connected to a Ray already"), hired("ray", Asked(address="127.0.0.1:1")):
        pass


def test_machines_that_differ():
    from convscope.scale.nodes import difference

    here = {"convscope": "1", "torch": "2", "Python": "3", "arithmetic": "AVX2"}
    assert difference(here, dict(here)) == ""
    assert "lacks convscope: pip install 'convscope[scale]' there" in difference(here, {"lacking": "convscope"})
    for what in here:
        assert f"has {what} other and this one {here[what]}" in difference(here, {**here, what: "other"})


@dataclass
class NoProcessors:
    """A Ray whose machines give nothing."""

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {}}, {"Alive": False, "Resources": {"CPU": 8.0}}]


def test_a_cluster_without_processors():
    from convscope.scale.nodes import check_nodes

    with pytest.raises(UsageError, match="has no processors for workers"):
        check_nodes(NoProcessors(), "the cluster at x:1", None)


def test_every_error_can_be_sent():
    for error in (
        ImageError("a.png", "torn", passing=True),
        UnknownName("model", "resnte", ["resnet"]),
        DataError("x"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_shares_are_whole_passes():
    numbers = np.arange(100)
    for workers, most, step in ((2, 64, 2), (3, 10, 4), (1, 1, 1), (50, 64, 64)):
        shares = shares_of(numbers, workers, most, step)
        assert np.array_equal(np.concatenate(shares), numbers)
        assert all(len(share) % step == 0 for share in shares[:-1])
