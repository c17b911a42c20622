"""Ray as we start and find it: on this machine bound to it alone, silent, and gone afterwards; or a cluster's."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from ..errors import UnreachableError, UsageError, one_line
from ..terminal import Output

INSTALL = "pip install 'convscope[scale]'"
ANSWER = 15.0  # seconds that a cluster has to answer
SPEAKS = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
STORE = 256 * 2**20  # bytes of shared memory for what is in flight between workers on this machine
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def library() -> Any:
    """Ray with its Data, imported silently. UsageError where it is not installed."""
    with variables(QUIET):
        try:
            ray = importlib.import_module("ray")
            importlib.import_module("ray.data")
        except ImportError as error:
            what = "" if error.name == "ray" else f" ({error})"
            raise UsageError(f"--engine ray needs Ray, which is not installed here{what}: {INSTALL}.") from None
    return ray


@contextmanager
def connected(ray: Any, address: str | None, workers: int) -> Iterator[str]:
    """A with-block in which Ray is there, with the words for where it is. What was there before is left as it was."""
    given, address = address, address or os.environ.get("RAY_ADDRESS") or None
    if ray.is_initialized():
        if given is not None and given != ray.get_runtime_context().gcs_address:
            raise UsageError(
                f"this process is connected to a Ray already, and --address {given} is another: leave it out, or call "
                "ray.shutdown() first."
            )
        yield "the Ray that this process is connected to"
        return
    if address in (None, "local"):
        with _own(ray, workers):
            yield "this machine"
        return
    found = _reachable(address)
    with _quietly():
        _begin(ray, address=found)
    try:
        yield f"the cluster at {found}"
    finally:
        ray.shutdown()


@contextmanager
def _own(ray: Any, workers: int) -> Iterator[None]:
    """A with-block in which Ray runs here, for this process alone.

    Its ports are open on 127.0.0.1 only, and to who knows a token that is made for the occasion.
    """
    constants: Any = importlib.import_module("ray._private.ray_constants")
    before, folder = constants.ENABLE_RAY_CLUSTER, tempfile.mkdtemp(prefix="cs-")  # a socket's path is short
    closed = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so it binds to 127.0.0.1, on Linux as on the systems of its name
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    constants.ENABLE_RAY_CLUSTER = False
    try:
        with variables({**QUIET, **closed}):
            _look_again()
            try:
                with _quietly():
                    _begin(
                        ray, address="local", num_cpus=workers, include_dashboard=False, object_store_memory=STORE,
                        _temp_dir=folder,
                    )  # fmt: skip
                yield
            finally:
                ray.shutdown()
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        _look_again()
        shutil.rmtree(folder, ignore_errors=True)


def _look_again() -> None:
    """Make Ray read the variables anew that say who may enter: it has read them when it was imported."""
    inside = importlib.import_module("ray._raylet")
    inside.Config.initialize("")
    inside.AuthenticationTokenLoader.instance().reset_cache()


def _begin(ray: Any, **how: Any) -> None:
    """Start Ray or connect to one. UnreachableError where that fails."""
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
    except Exception as error:  # of many kinds: a version that is another, a port that is taken, no node here
        where = "Ray could not be started here" if how["address"] == "local" else f"no Ray at {how['address']}"
        raise UnreachableError(f"{where}: {one_line(error)}.") from None


def _reachable(address: str) -> str:
    """The HOST:PORT of a cluster that answers. UsageError for what is no such address, else UnreachableError."""
    if address == "auto":
        services = importlib.import_module("ray._private.services")
        found = services.find_gcs_addresses()
        if not found:
            raise UnreachableError("--address auto found no Ray on this machine: start one, or name its HOST:PORT.")
        address = sorted(found)[0]
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"--address {address} is no HOST:PORT of a cluster, nor auto: run this on one of its machines, and name "
            "auto, or the address that `ray start` told there."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UnreachableError(f"the cluster at {address} does not answer: {reason}; is Ray running there?") from None
    _check_speaks(address)
    return address


def _check_speaks(address: str) -> None:
    """UnreachableError where something answers that is no Ray: Ray itself would wait for minutes, and then end us.

    It is asked by a process of its own, which can be ended.
    """
    ask = [sys.executable, "-c", SPEAKS, address]
    try:
        asked = subprocess.run(ask, capture_output=True, text=True, timeout=ANSWER, check=False)
        last = next(reversed(asked.stderr.split("\n\n")[-1].strip().splitlines()), "")
        reason = (
            "" if asked.returncode == 0 else f"what answers there is no Ray ({one_line(last.rpartition('Error: ')[2])})"
        )
    except subprocess.TimeoutExpired:
        reason = f"what answers there did not speak as Ray does within {ANSWER:.0f} s"
    if reason:
        raise UnreachableError(f"the cluster at {address} cannot be used: {reason}.")


@contextmanager
def _quietly() -> Iterator[None]:
    """A with-block after which signals are handled as before: Ray takes SIGTERM for itself.

    Ray's core writes past Python to standard error what nobody asked for; in the block that goes nowhere, and what a
    command says of itself goes where it did.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} if main else {}
    errors, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    own = sys.stderr.aside(2, errors) if isinstance(sys.stderr, Output) else nullcontext()
    os.dup2(nowhere, 2)
    try:
        with own:
            yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(nowhere)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def variables(given: Mapping[str, str]) -> Iterator[None]:
    """A with-block with these environment variables, unless the user has set them."""
    mine = {name: value for name, value in given.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


@contextmanager
def silent() -> Iterator[None]:
    """A with-block in which Ray's loggers say nothing below an error."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
