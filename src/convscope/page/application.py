"""The page as an ASGI application: routes, twins in JSON, images, style sheets; and a sentence for every error."""

from __future__ import annotations

import inspect
import secrets
import traceback
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route as StarletteRoute

from ..errors import ConvscopeError, LockedError, StorageError, UnknownName
from ..storage import finite
from .guard import POLICY, Guard
from .interactive import Endpoint, action_routes
from .rendering import KINDS, Rendering, asset_hash, assets, render
from .routes import ROUTES, Page, Route
from .run_view import drawings_of
from .stamps import stamp
from .turns import ASKING, READING, Turns

IMAGES = {".png": "image/png", ".jpg": "image/jpeg"}
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}
CHECKED = "private, no-cache"


def application(page: Page, hosts: Sequence[str]) -> Guard:
    """The page, guarded: asked under other names than ``hosts`` (with the port) it answers nothing."""
    routes = [
        StarletteRoute("/static/{name:path}", answering(_asset)),
        StarletteRoute("/runs/{run}/drawing/{name:path}", answering(_drawing)),
    ]
    routes += action_routes(answering)
    for pattern, route in ROUTES.items():
        twin = "/index.json" if pattern == "/" else f"{pattern}.json"
        routes += [StarletteRoute(twin, answering(_twin(route))), StarletteRoute(pattern, answering(_shown(route)))]
    made = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    made.router.redirect_slashes = False
    made.state.page = page
    made.state.pages, made.state.asks = Turns(READING), Turns(ASKING)
    return Guard(made, frozenset(hosts), page.served.token)


def answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with a sentence for whatever it raises; one that does not wait works in a thread."""

    waits = inspect.iscoroutinefunction(endpoint)

    async def answer(request: Request) -> Response:
        try:
            found = endpoint(request) if waits else await request.app.state.pages.in_turn(endpoint, request)
            return await found if isinstance(found, Awaitable) else found
        except HTTPException as error:
            return _refused(request, error)
        except ConvscopeError as error:
            traceback.clear_frames(error.__traceback__)  # among what they hold is the file that was given
            return _told(request, error)
        except Exception as error:
            return _failed(request, error)

    return answer


def _values(request: Request, route: Route) -> dict[str, Any]:
    page: Page = request.app.state.page
    asked: dict[str, Any] = dict(request.path_params)
    for name in route.query:
        values = request.query_params.getlist(name)
        if values:
            asked[name] = values if name == "run" else values[-1]
    return finite(route.values(page, **asked))


def _twin(route: Route) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return JSONResponse(_values(request, route))

    return answer


def _shown(route: Route) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        values = _values(request, route)
        return _page(request, route.template, values)

    return answer


def _page(request: Request, template: str, values: dict[str, Any], status: int = 200) -> Response:
    nonce = secrets.token_urlsafe(16)
    page: Page = request.app.state.page
    how = Rendering(page.served.token, nonce, alone=page.alone)
    headers = {"content-security-policy": POLICY.format(nonce=f" 'nonce-{nonce}'")}
    return HTMLResponse(render(template, values, how), status, headers)


def _asset(request: Request) -> Response:
    path = assets().get(request.path_params["name"])
    if path is None:
        raise HTTPException(404, "there is no such style sheet or script.")
    tag = asset_hash(request.path_params["name"])[:12]
    headers = FOREVER if request.url.query == tag else {"cache-control": CHECKED}
    return Response(path.read_bytes(), headers=headers, media_type=KINDS[path.suffix])


def _drawing(request: Request) -> Response:
    page: Page = request.app.state.page
    run = page.served.run(request.path_params["run"])
    found = drawings_of(run).get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "there is no such drawing in this run.")
    return sent(found, request)


def sent(path: Path, request: Request) -> Response:
    """An image that is there, or that the browser's own copy is still right."""
    tag = '"' + "-".join(f"{number:x}" for number in stamp(path)) + '"'
    headers = {"etag": tag, "cache-control": CHECKED}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(path.read_bytes(), headers=headers, media_type=IMAGES[path.suffix])


def _told(request: Request, error: ConvscopeError) -> Response:
    status = 404 if isinstance(error, UnknownName) else 422
    if isinstance(error, LockedError | StorageError):
        status = 503
    return _sentence(request, status, str(error))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    usual = error.detail == HTTPStatus(error.status_code).phrase
    known = {404: "there is no such page.", 405: "this page is read with GET."}
    return _sentence(request, error.status_code, known.get(error.status_code, "not so.") if usual else error.detail)


def _failed(request: Request, error: Exception) -> Response:
    from ..cache import cache_folder
    from ..storage import commit_text

    path = cache_folder() / "error.log"
    commit_text(path, "".join(traceback.format_exception(error)))
    return _sentence(request, 500, f"this is a bug of convscope, not yours; what it met is in {path}.")


def _sentence(request: Request, status: int, sentence: str) -> Response:
    if request.url.path.endswith(".json") or request.method == "POST":
        return JSONResponse({"error": sentence}, status)
    return _page(request, "sentence.html", {"sentence": sentence, "status": status}, status)
