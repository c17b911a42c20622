"""What is said of workers on a cluster, and of images that are elsewhere, followed: the work is then done."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from convscope.classifying.classifier import Classifier
from convscope.cli.commands import COMMANDS
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, MemoryExhausted, UnreachableError, UsageError
from convscope.feature_store import blocks
from convscope.feature_store.engines import FeatureRequest, engine_identity
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture
from convscope.options import Cluster as Asked
from convscope.scale import cluster, nodes, starting
from convscope.scale.cluster import Cluster, sent_by
from convscope.scale.nodes import check_nodes, described
from convscope.scale.starting import connected
from convscope.workers import blocks_of, hired
from doubling import Doubling
from following import TINY, option, options_of, photos, refused, works

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed: convscope[scale]")


def said(error: type[Exception], act: Callable[..., Any], *given: Any) -> str:
    """What is said by what refuses."""
    with pytest.raises(error) as caught:
        act(*given)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ machines, pretended


class OutOfMemoryError(RuntimeError):
    """As Ray's."""


class Pretended:
    """A Ray of machines that are none: so many processors and GPUs, and memory for so many workers."""

    def __init__(self, processors: int = 0, cards: int = 0, fitting: int = 99, busy: int = 0) -> None:
        self.processors, self.cards, self.fitting, self.busy = processors, cards, fitting, busy
        self.connected = ""
        self.cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)
        self.exceptions = SimpleNamespace(RayError=ConnectionError, GetTimeoutError=TimeoutError)
        scheduling = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda *_, **__: None)
        self.util = SimpleNamespace(scheduling_strategies=scheduling, get_node_ip_address=lambda: "10.0.0.2")
        self.data = SimpleNamespace(
            DataContext=SimpleNamespace(get_current=lambda: self.context),
            ActorPoolStrategy=lambda size: size,
            from_numpy=lambda rows: SimpleNamespace(map_batches=lambda _, **how: Spread(self, rows, how)),
        )
        self.context = SimpleNamespace(
            execution_options=SimpleNamespace(preserve_order=False), enable_progress_bars=True
        )

    def nodes(self) -> list[dict[str, Any]]:
        there = {"CPU": float(self.processors)} if self.processors else {}
        return [{"Alive": True, "Resources": there, "NodeID": "n", "NodeManagerAddress": "10.0.0.2"}]

    def cluster_resources(self) -> dict[str, float]:
        return {"GPU": float(self.cards)}

    def remote(self, act: Callable[[], Any]) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=act))

    def get(self, found: Any, timeout: float = 0.0) -> Any:
        self.busy -= 1
        if self.busy >= 0:
            raise TimeoutError
        return found

    def put(self, work: Any) -> Any:
        return work

    def is_initialized(self) -> bool:
        return bool(self.connected)

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address=self.connected)

    def init(self, address: str, **_: Any) -> None:
        self.connected = address

    def shutdown(self) -> None:
        self.connected = ""


class Spread:
    """Blocks that are done here, one after the other, as if by a number of workers at once."""

    def __init__(self, ray: Pretended, rows: list[np.ndarray], how: dict[str, Any]) -> None:
        self.ray, self.rows, self.how = ray, rows, how

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        if self.how["compute"] > self.ray.fitting:
            raise OutOfMemoryError
        work, act = self.how["fn_constructor_kwargs"]["held"][0], None
        for (row,) in self.rows:
            act, sent = sent_by(work, act, int(row[0]), row[1:])
            yield {"sent": sent}


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pretended]]:
    """Makes such a Ray the one that a worker finds."""

    def begin(**there: int) -> Pretended:
        ray = Pretended(**there)
        monkeypatch.setitem(sys.modules, "ray", ray)  # pyrefly: ignore - it has what a worker asks of the module
        return ray

    return begin


def doubled(ray: Pretended, count: int, work: Doubling | None = None) -> list[int]:
    given = Cluster(ray, "the cluster at x:1", count).each(work or Doubling(), blocks_of(20, 3))
    return [one for done in given for one in done]


DOUBLES = [2 * i for i in range(20)]


def test_ray_is_started_with_processors_and_asked_for_as_many_workers(pretending: Callable[..., Pretended]) -> None:
    none = said(UsageError, check_nodes, pretending(), "the cluster at x:1", None)
    assert option(none, "num-cpus") == ["--num-cpus", "1"]
    ray = pretending(processors=1)
    assert check_nodes(ray, "the cluster at x:1", None) == 1
    fewer = option(said(UsageError, check_nodes, ray, "the cluster at x:1", 3), "workers")
    assert check_nodes(ray, "the cluster at x:1", int(fewer[1])) == 1


def test_a_busy_cluster_is_tried_again_when_others_end(pretending: Callable[..., Pretended]) -> None:
    ray = pretending(processors=2, busy=1)
    assert "try again when they end" in said(UnreachableError, check_nodes, ray, "the cluster at x:1", None)
    assert check_nodes(ray, "the cluster at x:1", None) == 2


def test_machines_that_are_made_the_same_work(
    pretending: Callable[..., Pretended], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, here = pretending(processors=2), described()
    with monkeypatch.context() as patch:
        patch.setattr(nodes, "_asked", lambda *_: [("10.0.0.2", {**here, "torch": "1.0"})])
        told = said(UsageError, check_nodes, ray, "the cluster at x:1", None)
    assert told.endswith(
        f"has torch 1.0 and this one {torch.__version__}, so its results may be others: make them the same."
    )
    assert check_nodes(ray, "the cluster at x:1", None) == 2


def test_as_many_workers_as_cards_or_the_processor(pretending: Callable[..., Pretended]) -> None:
    on_cards = Doubling(on_accelerator=True)
    fewer = option(said(UsageError, doubled, pretending(cards=2), 3, on_cards), "workers")
    assert doubled(pretending(cards=2), int(fewer[1]), on_cards) == DOUBLES
    none = option(said(UsageError, doubled, pretending(), 3, on_cards), "device")
    assert none == ["--device", "cpu"]
    assert doubled(pretending(), 3, Doubling(on_accelerator=none[1] != "cpu")) == DOUBLES
    assert {"--device", "--engine"} <= options_of("features") & options_of("predict") & options_of("explain")


def test_fewer_workers_or_machines_with_more_memory(pretending: Callable[..., Pretended]) -> None:
    assert "with --workers, or machines with more" in said(MemoryExhausted, doubled, pretending(fitting=2), 4)
    assert doubled(pretending(fitting=2), 2) == DOUBLES
    assert doubled(pretending(fitting=9), 4) == DOUBLES


def test_images_are_put_where_workers_see_them(
    tmp_path: Path, pretending: Callable[..., Pretended], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, workers = tmp_path / "one.png", {"see": False}
    place.touch()
    there = SimpleNamespace(path=SimpleNamespace(exists=lambda path: workers["see"]))
    received, received_here = Cluster._received, cluster.os

    def receive(self: Cluster, sent: Any) -> Any:
        monkeypatch.setattr(cluster, "os", received_here)
        done = received(self, sent)
        monkeypatch.setattr(cluster, "os", there)
        return done

    monkeypatch.setattr(Cluster, "_received", receive)
    monkeypatch.setattr(cluster, "os", there)
    work = Doubling(place=str(place))
    assert f"{place} is here, but not on the worker at 10.0.0.2: put" in said(DataError, doubled, pretending(), 2, work)
    workers["see"] = True
    monkeypatch.setattr(cluster, "os", there)
    assert doubled(pretending(), 2, work) == DOUBLES


def test_another_cluster_is_left_or_the_address_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(starting, "_reachable", lambda address: address)
    ray: Any = Pretended()
    ray.init("10.0.0.1:6379")
    with pytest.raises(UsageError, match=r"leave it out, or call ray\.shutdown\(\) first"), connected(ray, "x:1", 2):
        pass
    with connected(ray, None, 2) as where:
        assert "is connected to" in where
    ray.shutdown()
    with connected(ray, "x:1", 2) as where:
        assert where == "the cluster at x:1"


# ------------------------------------------------------------------------------------------------------- a real one


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster of one processor on this machine, begun as the advice says; its HOST:PORT."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    for name, value in {**starting.QUIET, **secret}.items():
        monkeypatch.setenv(name, value)
    starting.library()
    starting._look_again()
    words = f"start --head --node-ip-address 127.0.0.1 --port {port} --num-cpus 1 --include-dashboard false --block"
    place = str(tmp_path_factory.mktemp("r"))
    begun = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words.split(), "--temp-dir", place],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert begun.stdout is not None
        assert any("Ray runtime started" in line for line in begun.stdout)
        yield f"127.0.0.1:{port}"
    finally:
        begun.terminate()
        begun.communicate(timeout=120)
        monkeypatch.undo()
        starting._look_again()


def work_done(engine: str, **asked: Any) -> list[int]:
    with hired(engine, Asked(**asked)) as workers:
        assert workers is not None
        return [one for done in workers.each(Doubling(), blocks_of(20, 3)) for one in done]


@pytest.mark.slow
@needs_ray
def test_workers_are_had_as_it_is_said(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    services = importlib.import_module("ray._private.services")
    with monkeypatch.context() as patch:
        patch.setattr(services, "find_gcs_addresses", set)
        assert "start one, or name its HOST:PORT" in said(UnreachableError, lambda: work_done("ray", address="auto"))
    assert "auto, or the address that" in said(UsageError, lambda: work_done("ray", address="nowhere"))
    assert head in services.find_gcs_addresses()
    monkeypatch.setattr(
        services, "find_gcs_addresses", lru_cache(lambda: {head})
    )  # others may be at work on this machine
    assert "must be 1 or more" in said(UsageError, lambda: work_done("ray", workers=0, address=head))
    (_, engine) = option(said(UsageError, lambda: work_done("local", workers=1, address=head)), "engine")
    assert work_done(engine, workers=1, address="auto") == DOUBLES
    assert work_done(engine, workers=1, address=head) == DOUBLES


@needs_ray
def test_ray_is_told_how_many_processors_it_has() -> None:
    start = importlib.import_module("ray.scripts.scripts").start
    assert "--num-cpus" in {name for parameter in start.params for name in parameter.opts}


# ------------------------------------------------------------------------------------------------- what is installed


@pytest.mark.parametrize("extra", ["scale", "parquet"])
def test_the_extra_that_is_named_holds_what_is_missing(
    extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, more = {
        "scale": ("ray", ["--engine", "ray"]),
        "parquet": ("pyarrow", ["--parquet", tmp_path / "features.parquet"]),
    }[extra]
    monkeypatch.setitem(sys.modules, missing, None)  # an import of it fails, as of one that is not installed
    sentence = refused("features", photos(tmp_path / "photos"), "--image-size", "32", *more)
    (named,) = re.findall(r"pip install 'convscope\[(\w+)\]'", sentence)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(wanted.startswith(missing) for wanted in project["optional-dependencies"][named])


@pytest.fixture
def _threads() -> Iterator[None]:
    """A worker computes with one thread, and this process is asked to be one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_versions_are_made_the_same_or_an_engine_is_shared() -> None:
    pytest.importorskip("onnxscript")
    architecture = Architecture("resnet20", 16)
    classifier = Classifier(architecture.build(2, seed=0).eval(), ("a", "b"), Preprocess(16), architecture)
    cpu, wanted = torch.device("cpu"), FeatureRequest()

    def begun(engine: str, identity: str) -> Any:
        given: Any = SimpleNamespace(options=SimpleNamespace(engine=engine, wanted=wanted))
        return blocks.FeatureWork(given, classifier, identity, "cpu").begin()

    sentence = said(UsageError, begun, "onnxruntime", "onnxruntime 0.1 cpu")
    assert "install the same versions on all" in sentence
    assert callable(begun("onnxruntime", engine_identity("onnxruntime", wanted, cpu)))
    shared = option(sentence, "engine")[1].removeprefix("ray-")
    assert callable(begun(shared, engine_identity(shared, wanted, cpu)))


# --------------------------------------------------------------------------------------------------- images elsewhere


def test_images_elsewhere_are_copied_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"file://{photos(tmp_path / 'there')}"
    sentence = refused("train", url, *TINY, "--name", "r")
    assert "features and predict read images there, and for anything else copy them here" in sentence
    shutil.copytree("there", "here")
    works("train", "here", *TINY, "--name", "r")
    assert load_dataset("here").class_names == ("ant", "bee")
    works("features", url, "--image-size", "32", "--engine", "torch")
    works("predict", "r", url)
    sentence = refused("predict", "r", url, "--copy-to", "sorted")
    assert sentence == "--copy-to takes images on this machine: copy them here first."
    works("predict", "r", "here", "--copy-to", "sorted")
    assert len(list(Path("sorted").rglob("*.png"))) == 24


def test_one_image_is_explained_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    works("train", "photos", *TINY, "--name", "r")
    words = ["explain", "r", "--image", next(Path("photos/ant").iterdir())]
    assert "--engine is for cards, and --image takes one answer apart" in refused(*words, "--engine", "ray")
    works(*words)


def test_each_command_that_hires_workers_has_its_options() -> None:
    hiring = [name for name in COMMANDS if "--workers" in options_of(name)]
    assert {"features", "predict", "explain", "doctor"} <= {*hiring}
    assert all({"--engine", "--address"} <= options_of(name) for name in hiring)
