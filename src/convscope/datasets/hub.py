"""Whether the Hub of Hugging Face can be asked: its own libraries try again and again for half a minute before they say
that there is no network."""

from __future__ import annotations

import contextlib
import importlib
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit


def hub_host() -> str:
    """The name of the machine that is asked."""
    return urlsplit(importlib.import_module("huggingface_hub").constants.ENDPOINT).hostname or ""


def look_for_hub() -> None:
    """OSError where the hub is not to be asked, or nobody here knows its address."""
    if importlib.import_module("huggingface_hub").constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if not urllib.request.getproxies().keys() - {"no"}:  # else the proxy looks it up
        socket.getaddrinfo(hub_host(), 443)


@contextlib.contextmanager
def what_is_here(*configured: object) -> Iterator[None]:
    """A with-block in which the hub's libraries take what is on this machine, where the hub cannot be asked.

    ``configured`` are the modules that hold HF_HUB_OFFLINE.
    """
    try:
        look_for_hub()
    except OSError:
        before = [(module, vars(module)["HF_HUB_OFFLINE"]) for module in configured]
        for module, _ in before:
            vars(module)["HF_HUB_OFFLINE"] = True
        try:
            yield
        finally:
            for module, was in before:
                vars(module)["HF_HUB_OFFLINE"] = was
        return
    yield
