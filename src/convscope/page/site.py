"""The page as a folder of files that needs no server: it works from a stick, a mail attachment or any web space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DamagedFile, LockedError
from ..folders import fresh_folder
from ..given import takes_what_is_meant
from ..progress import Progress
from ..storage import commit_json, expanded, finite, write_derived
from ..training.runs import runs_folder
from .rendering import Rendering, assets, render
from .routes import ROUTES, Page, addresses
from .run_view import drawings_of
from .served import Served, serve_named

MARK = "convscope-site.json"  # in the folder: tells that it may be written anew


@takes_what_is_meant
def write_site(
    folder: str | Path,
    named: Sequence[str] = (),
    *,
    runs: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the page of the runs ``named``, or of all, into a folder; returns its first page.

    Asking, commands and what is live are left out. A folder that a site was written to before is replaced whole;
    LockedError for one that holds anything else.
    """
    target = expanded(folder)
    if target.exists() and not (target / MARK).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise LockedError(f"{target} is there and holds no site of convscope: name another folder.")
    place = runs_folder(expanded(runs) if runs else None)
    page = Page(Served(place, serve_named(named, place)))
    wanted = list(dict.fromkeys(addresses(page)))
    with fresh_folder(target) as made:
        for number, parts in enumerate(wanted):
            if progress:
                progress("writing pages", number, len(wanted))
            _write(page, parts, made)
        for run, found in page.served.runs().items():
            for name, path in drawings_of(found).items():
                _copied(path, made / "runs" / run / "drawing" / name)
        for name, path in assets().items():
            _copied(path, made / "static" / name)
        commit_json(made / MARK, {"pages": len(wanted)})
    return target / "index.html"


def _write(page: Page, parts: tuple[str, ...], folder: Path) -> None:
    """One page, at its address with ``.html`` behind it."""
    pattern, asked = matching(parts)
    template = ROUTES[pattern].template
    try:
        values: dict[str, Any] = finite(ROUTES[pattern].values(page, **asked))
    except DamagedFile as error:  # told on its page; the others do not suffer
        template, values = "sentence.html", {"sentence": str(error), "status": 503}
    up = "../" * (len(parts) - 1)
    path = folder.joinpath(*parts[:-1], f"{parts[-1]}.html") if parts else folder / "index.html"
    write_derived(path, render(template, values, Rendering(up=up)))


def matching(parts: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """The pattern of ROUTES that an address is of, the first that fits, and what stands in its braces."""
    for pattern in ROUTES:
        pieces = [piece for piece in pattern.split("/") if piece]
        pairs = list(zip(pieces, parts, strict=False))
        if len(pieces) == len(parts) and all(piece.startswith("{") or piece == part for piece, part in pairs):
            return pattern, {piece[1:-1]: part for piece, part in pairs if piece.startswith("{")}
    raise LookupError("/".join(parts))


def _copied(source: Path, target: Path) -> None:
    write_derived(target, source.read_bytes())
