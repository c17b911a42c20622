"""The options of the page."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from ..options import Places

PORT = 8848
AT_ONCE = 64  # connections; of more, those give up their places that ask or take nothing
AT_MOST = 256  # connections, however short they have been there; a request beyond that is told that the page is busy


@dataclass(frozen=True, kw_only=True)
class ServeOptions(Places):
    """Where the page is, and what it shows."""

    port: int = PORT
    """The port; where it is taken, the next free one."""
    host: str = "127.0.0.1"
    """The address to listen at: by default only this machine can ask."""
    open_browser: Annotated[bool, Parameter(name="--browser", negative="--no-browser")] = True
    """Open the page in a browser."""
    train: str | None = None
    """Start a training of DATA that is paused after its first update, to be stepped: digits, shapes, cifar10, or data
    of a run."""
    get: str | None = None
    """Print one page, such as /runs/NAME.json, and end: no server is started."""
