"""The server itself: where it listens, what it does when the port is taken, and how it stops."""

from __future__ import annotations

import builtins
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from convscope.cli import run as run_command
from convscope.errors import UsageError
from convscope.page.command import prepare
from convscope.page.connections import ASKING_SECONDS
from convscope.page.options import AT_ONCE, ServeOptions


def started(folder: Path, *more: str) -> tuple[subprocess.Popen[str], str]:
    """A server as a user starts it, and the line with its address; before that it may say that it is still at work."""
    command = [sys.executable, "-m", "convscope", "serve", "--runs", str(folder), "--no-browser", *more]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    return server, next(line for line in server.stdout if line.startswith("http"))


def test_the_page_is_served_until_it_is_stopped(tmp_path: Path) -> None:
    first, said = started(tmp_path, "--port", "0")
    address = said.split(";")[0]
    second, other = started(tmp_path, "--port", address.rstrip("/").rsplit(":", 1)[1])
    try:
        for place in (address, other.split(" ")[0]):
            with urllib.request.urlopen(place, timeout=60) as answer:
                assert "There is no run here yet" in answer.read().decode()
        assert "is taken" in other
        assert other.split(" ")[0] != address
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "evil.example"}), timeout=60)
        with socket.create_connection(("127.0.0.1", int(address.rstrip("/").rsplit(":", 1)[1])), 5) as talk:
            talk.sendall(b"\x16\x03\x01 not HTTP\r\n\r\n")
            assert b"400" in talk.recv(1000)
        with urllib.request.urlopen(address, timeout=60) as answer:  # it lives
            assert answer.status == 200
    finally:
        for server in (first, second):
            server.send_signal(signal.SIGINT)
        told = [server.communicate(timeout=60)[0] for server in (first, second)]
    assert [server.returncode in (0, 130) for server in (first, second)] == [True, True]
    for lines in told:
        assert "Traceback" not in lines
        assert "still" not in lines  # that it waits is what it is for


def test_silent_and_slow_connections_keep_nobody_out(tmp_path: Path) -> None:
    server, said = started(tmp_path, "--port", "0")
    address = said.split(";")[0].rstrip("/")
    where = ("127.0.0.1", int(address.rsplit(":", 1)[1]))
    with ExitStack() as opened:
        opened.callback(server.communicate)
        opened.callback(server.send_signal, signal.SIGINT)
        silent = [opened.enter_context(socket.create_connection(where, 10)) for _ in range(AT_ONCE + 40)]
        with urllib.request.urlopen(address, timeout=60) as answer:  # it takes the place of one of them
            assert answer.status == 200
        begun, half = time.monotonic(), opened.enter_context(socket.create_connection(where, 1))
        half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        while time.monotonic() - begun < 10 * ASKING_SECONDS:
            try:
                half.sendall(b"X-Slow: 1\r\n")  # a line now and then buys no time
                if not half.recv(100):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - begun < 5 * ASKING_SECONDS
        for connection in silent:
            with suppress(ConnectionResetError):
                assert connection.recv(100) == b""
        talk = opened.enter_context(closing(HTTPConnection(*where, timeout=60)))
        for _ in range(3):  # one that asks again and again stays
            talk.request("GET", "/index.json")
            assert talk.getresponse().read()


def test_a_port_that_is_none_is_refused_and_a_free_one_is_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no port: it must be from 0 to 65,535"):
        prepare([], ServeOptions(runs=tmp_path, port=70_000))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        site = prepare([], ServeOptions(runs=tmp_path, port=taken.getsockname()[1]))
        assert site.listening is not None
        assert site.listening.getsockname()[1] != taken.getsockname()[1]
        assert site.listening.getsockname()[0] == "127.0.0.1"
        site.listening.close()
    with pytest.raises(UsageError, match="there is no port to listen at"):
        prepare([], ServeOptions(runs=tmp_path, host="192.0.2.1", port=0))


def test_without_its_libraries_the_page_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = builtins.__import__

    def without(name: str, *more: Any, **given: Any) -> Any:
        if name.startswith("starlette"):
            raise ImportError(name)
        return usual(name, *more, **given)

    for name in [name for name in sys.modules if name.startswith(("convscope.page.application", "starlette"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    assert run_command(["serve", "--runs", str(tmp_path), "--get", "/"]) == 2
    assert "pip install 'convscope[page]'" in capsys.readouterr().err
