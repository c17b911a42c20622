"""`convscope serve`: the page on this machine, or one page of it printed."""

from __future__ import annotations

import html
import re
import socket
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import UsageError
from ..kept_memory import keep_none
from ..training.runs import runs_folder
from .options import AT_MOST, ServeOptions
from .routes import Page
from .served import Served, serve_named

LOOPBACK = ("127.0.0.1", "localhost", "::1", "0:0:0:0:0:0:0:1")
TRIED = 50  # ports after the one asked for


@dataclass(frozen=True)
class Site:
    """A page that is ready to be served at ``address``: what may ask it, and by which names."""

    page: Page
    hosts: tuple[str, ...]
    listening: socket.socket | None
    address: str


def get_page(runs: Sequence[str], address: str, options: ServeOptions) -> str:
    """The content of one page, without a server. UsageError where there is none, or the extra is not installed."""
    application = _installed()
    from .asgi import get

    served = Served(runs_folder(options.runs), serve_named(runs, runs_folder(options.runs)))
    place = "/" + address.lstrip("/")
    status, body = get(application(Page(served), ["localhost"]), place, "localhost")
    text = body.decode("utf-8", "replace")
    if status != 200:
        told = re.search(r'class="lead">(.*?)</p>', text)
        raise UsageError(html.unescape(told[1]) if told else f"there is no page {address!r} to print ({status}).")
    return text


def prepare(runs: Sequence[str], options: ServeOptions) -> Site:
    """Find the runs and a free port. UsageError where the extra is not installed or no port is free."""
    _installed()
    folder = runs_folder(options.runs)
    served = Served(folder, serve_named(runs, folder))
    listening = _listen(options.host, options.port)
    port = listening.getsockname()[1]
    bare = f"[{options.host}]" if ":" in options.host else options.host
    names = {bare, "127.0.0.1", "localhost", "[::1]"} if options.host in LOOPBACK else {bare}
    page, place = Page(served, data_root=options.data_root, alone=options.host in LOOPBACK), ""
    if options.train is not None:
        place = f"train/{page.trainings.start(options.train).name}"
    hosts = tuple(f"{name}:{port}" for name in sorted(names))
    return Site(page, hosts, listening, f"http://{bare}:{port}/{place}")


def serve(site: Site, open_browser: bool) -> None:
    """Answer until the process is told to stop."""
    application = _installed()
    import uvicorn

    from .connections import ASKING_SECONDS, Connection

    config = uvicorn.Config(
        application(site.page, site.hosts),
        log_level="error",  # what a stranger sends fills no terminal
        access_log=False,
        http=Connection,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=round(ASKING_SECONDS),
        timeout_graceful_shutdown=2,
        limit_concurrency=AT_MOST,
        backlog=128,
        h11_max_incomplete_event_size=16_384,
    )
    if open_browser:
        threading.Timer(0.5, lambda: _open(site.address)).start()
    threading.Thread(target=site.page.asker.warm, name="warming", daemon=True).start()
    assert site.listening is not None
    keep_none()
    try:
        uvicorn.Server(config).run(sockets=[site.listening])
    finally:
        site.page.close()


def _open(address: str) -> None:
    with suppress(webbrowser.Error, OSError):
        webbrowser.open(address)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the port, or the next free one; UsageError where there is none."""
    if not 0 <= port < 65_536:
        raise UsageError(f"--port {port} is no port: it must be from 0 to 65,535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = ""
    for tried in [port] if port == 0 else range(port, min(port + TRIED, 65_536)):
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.bind((host, tried))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            reason = (error.strerror or str(error)).lower()
    raise UsageError(f"there is no port to listen at on {host} from {port} on: {reason}.")


def _installed():
    """The maker of the application. UsageError where its libraries are not installed."""
    try:
        from .application import application
    except ImportError as error:
        raise UsageError("the page needs pip install 'convscope[page]', which is not installed.") from error
    return application
