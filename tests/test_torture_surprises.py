"""The surprises' own checks see a planted fault, and the mends that they led to hold."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.util
import os
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from convscope.datasets.hub import look_for_hub, what_is_here
from convscope.errors import DamagedFile, StorageError, UnreachableError
from convscope.models import pretrained
from convscope.page.kept_json import KeptJson
from convscope.page.stamps import stamp
from convscope.storage import check_free, commit_json
from torture import odd_ways, surprises
from torture.bad_server import GOOD, WAYS, bad_server
from torture.odd_child import Ended
from torture.odd_ground import sentence_wrong
from torture.odd_names import KINDS, drawn_names, unportable


def ended(code: int, err: str) -> Ended:
    return Ended(code, "", err, {}, 1.0)


def test_the_attempts_of_another_seed_are_others_and_none_comes_twice() -> None:
    counts = [(group, what, drawn) for seed in range(3) for group, what, _, drawn in surprises.chosen(seed, 120)]
    assert len(set(counts)) == 360
    assert surprises.chosen(1, 120)[0][:2] == surprises.chosen(1, 120)[0][:2]
    assert {group for group, _, _ in counts} == set(surprises.GROUPS)
    assert len({group for group, *_ in surprises.chosen(0, 6)}) == 6


def test_what_is_no_sentence_is_seen() -> None:
    assert not sentence_wrong(ended(69, "note: x\nconvscope: it cannot be reached.\n"), {69})
    assert sentence_wrong(ended(0, ""), {69})
    assert sentence_wrong(ended(69, "it broke"), {69})
    assert sentence_wrong(ended(69, "convscope: a.\nconvscope: b.\n"), {69})
    assert sentence_wrong(ended(1, "convscope: this is a bug of convscope"), {1})
    assert sentence_wrong(ended(69, "convscope: " + "a" * 1000), {69})


@pytest.mark.parametrize("names", [["a:b"], ["con.json"], ["x."], ["x "], ["Cat", "cat"], ["\u00e9", "e\u0301"]])
def test_names_that_another_system_cannot_hold_are_seen(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "fine name.json").touch()
    assert not unportable(tmp_path)
    for name in names:
        (tmp_path / name).touch()
    assert unportable(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_drawn_by_the_seed(kind: str, tmp_path: Path) -> None:
    for seed in range(4):
        classes, images, data = drawn_names(kind, seed)
        assert (classes, images, data) == drawn_names(kind, seed)
        for name in (*classes, *images, data):
            (tmp_path / name).mkdir(exist_ok=True)  # each is a name
        assert len({*classes, *images, data}) == 5
    assert drawn_names(kind, 0) != drawn_names(kind, 1)


def test_every_bad_way_of_a_server_is_bad() -> None:
    """Read by a client that trusts it, nothing but the good ways gives the file with its length."""
    data, right = os.urandom(5000), []
    with bad_server() as server:
        for way in WAYS:
            if way in ("endless", "dripping", "silence"):
                continue
            server.set(data, way, 3)
            try:
                with urllib.request.urlopen(f"{server.address}/file", timeout=2) as answer:
                    whole = answer.headers["Content-Length"] == "5000" and answer.read() == data
            except urllib.error.HTTPError as error:
                error.close()
                whole = False
            except (OSError, ValueError, http.client.HTTPException):
                whole = False
            right += [way] if whole else []
    assert tuple(right) == GOOD


def in_child(action: Any) -> Any:
    """What a function gives in a copy of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(action()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return eval(told)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_connection_is_seen_whoever_asks_for_it() -> None:
    def by_python() -> Any:
        tell = odd_ways.no_network(None)
        with contextlib.suppress(OSError):
            socket.create_connection(("192.0.2.1", 9), 1)
        return tell()

    def by_a_library() -> Any:
        """Without Python's own sockets: by the C library's calls."""
        tell, library = odd_ways.no_network(None), odd_ways.library()
        handle = library.socket(2, 1, 0)
        library.connect(handle, bytes([2, 0, 0, 9, 192, 0, 2, 1]) + bytes(8), 16)
        return tell()

    assert in_child(by_python)["tries"]
    told = in_child(by_a_library)
    assert not told["tries"]
    assert told["unrouted"] == 1 or not told["apart"]
    assert in_child(lambda: odd_ways.no_network(None)()) == {"tries": [], "apart": told["apart"], "unrouted": 0}


# ------------------------------------------------------------------------------------------------------- the mends


def test_room_is_looked_for_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    check_free(tmp_path / "not" / "there", 5 << 20, "this")
    with pytest.raises(StorageError, match=r"not/there has 5 MiB free; this needs 6 MiB\.$"):
        check_free(tmp_path / "not" / "there", (5 << 20) + 1, "this")

    def unknown(path: Path) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr("shutil.disk_usage", unknown)
    check_free(tmp_path, 1 << 60, "this")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bytes]:
    """A file in the hub's cache under its hash, and what it should hold."""
    data = save({"a": torch.ones(3)})
    blob = tmp_path / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(data)
    path = tmp_path / "model.safetensors"
    path.symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(path))
    monkeypatch.setattr(pretrained, "look_for_hub", lambda: None)
    return path, data


RESNET = pretrained.find_pretrained("resnet18") if importlib.util.find_spec("timm") else None


@pytest.mark.skipif(RESNET is None, reason="timm is not installed")
def test_downloaded_weights_with_one_wrong_bit_are_not_kept(
    hub: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = hub
    assert RESNET is not None
    assert torch.equal(pretrained.pretrained_weights(RESNET)["a"], torch.ones(3))
    blob = path.resolve()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UnreachableError, match="another SHA-256 than it said, and was not kept"):
        pretrained.pretrained_weights(RESNET)
    assert not blob.exists()
    assert not path.is_symlink()
    path.symlink_to(blob)
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(path))
    with pytest.raises(DamagedFile, match="remove it, and the weights of resnet18 are fetched again"):
        pretrained.pretrained_weights(RESNET)
    path.unlink()
    fetched = path.with_name("fetched")
    fetched.symlink_to(blob)
    blob.write_bytes(data)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(fetched))
    assert torch.equal(pretrained.pretrained_weights(RESNET)["a"], torch.ones(3))


def test_without_a_network_the_hub_is_not_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    told = SimpleNamespace(HF_HUB_OFFLINE=False)

    def no_name(*_: Any) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", no_name)
    with what_is_here(told):
        assert told.HF_HUB_OFFLINE
    assert not told.HF_HUB_OFFLINE
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [])
    with what_is_here(told):
        assert not told.HF_HUB_OFFLINE
    monkeypatch.setattr("socket.getaddrinfo", no_name)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://127.0.0.1:9"})
    look_for_hub()  # a proxy knows names that this machine does not


def test_a_page_sees_that_a_file_is_another_whatever_its_time(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.json", KeptJson()
    commit_json(path, {"a": 1})
    os.utime(path, (1, 1))
    before = stamp(path)
    assert kept.read(path) == {"a": 1}
    commit_json(path, {"a": 2})
    os.utime(path, (1, 1))
    assert stamp(path) != before
    assert stamp(path)[2] == before[2]
    assert kept.read(path) == {"a": 2}
    assert stamp(tmp_path / "none") == ()


def test_a_download_that_comes_by_drops_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from convscope.datasets import cifar

    monkeypatch.setattr(cifar, "PATIENCE", 0.2)
    with bad_server() as server:
        server.set(b"x" * 1000, "dripping", 0)
        monkeypatch.setattr(cifar, "URL", f"{server.address}/archive")
        timer = threading.Timer(20, server.shutdown)
        timer.start()
        with pytest.raises(UnreachableError, match="came less than 256 KiB"):
            cifar.load_cifar10()
        timer.cancel()
        server.set(b"x" * 1000, "a length that is no number", 0)
        with pytest.raises(UnreachableError, match="that are not the CIFAR-10 archive"):
            cifar.load_cifar10()
        server.set(b"x" * 1000, "a reason of 20,000 letters", 0)
        with pytest.raises(UnreachableError) as caught:
            cifar.load_cifar10()
    assert len(str(caught.value)) < 600
