"""`convscope serve`."""

from __future__ import annotations

from ..options import Flat
from ..terminal import rest
from .options import ServeOptions


def serve(*runs: str, options: Flat[ServeOptions] = ServeOptions()) -> None:
    """Show RUNS, or all, on a page in the browser: curves, filters, gradients, data; and ask them about images.

    Only this machine can ask, and nothing is asked of any other.

    Parameters
    ----------
    runs
        Names or paths; all of the folder of runs when none is named.
    """
    from .command import get_page, prepare
    from .command import serve as serve_site

    if options.get is not None:
        print(get_page(runs, options.get, options))
        return
    site = prepare(runs, options)
    asked = f"http://{options.host}:{options.port}/"
    taken = "" if site.address.startswith(asked) or not options.port else f" (port {options.port} is taken)"
    rest()
    print(f"{site.address}{taken}; stop it with Ctrl-C", flush=True)
    serve_site(site, options.open_browser)
