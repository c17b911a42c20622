"""The addresses that do something: ask about an image, run a command, and what is live."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..errors import UnknownName
from .bodies import read_body
from .changes import Change
from .data_pages import mark
from .explained import strip_of
from .guard import Receive, Scope, Send
from .jobs import ASKS_AGAIN
from .live import Live
from .rendering import Rendering, render
from .routes import Page


async def _ask(request: Request) -> Response:
    page: Page = request.app.state.page
    data = await read_body(request)
    return JSONResponse(await request.app.state.asks.in_turn(page.asker.ask, request.path_params["run"], data))


def _asking(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """The answer in a turn of asking: what computes, one after another, takes no turn of a page's."""

    async def in_turn(request: Request) -> Response:
        return await request.app.state.asks.in_turn(answer, request)

    return in_turn


def _again(request: Request) -> Response:
    page: Page = request.app.state.page
    change = Change.of(dict(request.query_params))
    with_map = request.query_params.get("map", "1") != "0"
    return JSONResponse(page.asker.answer(request.path_params["run"], request.path_params["key"], change, with_map))


def _evidence(request: Request) -> Response:
    page: Page = request.app.state.page
    found = page.asker.evidence(request.path_params["run"], request.path_params["key"])
    return _fragment(request, "evidence.html", found)


def _evidence_twin(request: Request) -> Response:
    page: Page = request.app.state.page
    return JSONResponse(page.asker.evidence(request.path_params["run"], request.path_params["key"]))


def _strip(request: Request) -> Response:
    page: Page = request.app.state.page
    names = (request.path_params[name] for name in ("run", "layer", "number"))
    strip = strip_of(page.served, *names)
    box = io.BytesIO()
    Image.fromarray(strip).save(box, "JPEG", quality=92)
    return Response(box.getvalue(), media_type="image/jpeg", headers={"cache-control": "private, max-age=300"})


def _start(request: Request) -> Response:
    page: Page = request.app.state.page
    subject = [part for part in request.path_params.get("subject", "").split("/") if part]
    job = page.jobs.start(request.path_params["name"], *subject, *request.query_params.getlist("run"))
    return _fragment(request, "job.html", {"job": job.shown()})


def _job(request: Request) -> Response:
    page: Page = request.app.state.page
    job = page.jobs.find(request.path_params["number"]).shown()
    answer = _fragment(request, "job.html", {"job": job})
    if job["state"] == "done":
        name, value = ("hx-trigger", "known") if job["name"] in ASKS_AGAIN else ("hx-refresh", "true")
        answer.headers[name] = value  # what it wrote is on the page then
    return answer


def _job_twin(request: Request) -> Response:
    page: Page = request.app.state.page
    return JSONResponse(page.jobs.find(request.path_params["number"]).shown())


def _mark(request: Request) -> Response:
    page: Page = request.app.state.page
    said = {name: request.query_params.get(name, "") for name in ("digest", "action", "label")}
    return JSONResponse(mark(page.served, request.path_params["data"], **said))


def _cancel(request: Request) -> Response:
    page: Page = request.app.state.page
    return _fragment(request, "job.html", {"job": page.jobs.cancel(request.path_params["number"]).shown()})


async def _live(request: Request) -> Response:
    page: Page = request.app.state.page
    try:
        run = await request.app.state.pages.in_turn(page.served.run, request.path_params["run"])
    except UnknownName as error:
        raise HTTPException(404, str(error)) from None
    after = request.query_params.get("after", "0")
    if not page.live.admits():
        raise HTTPException(503, "too many readers of what is live: close some of the pages.")
    first = int(after) if after.isdecimal() and len(after) < 8 else 0
    return LiveResponse(page.live, page.live.epochs(run, first), media_type="text/event-stream")


class LiveResponse(StreamingResponse):
    """Live events; the reader's place is free again however the answer ends, even before its first event."""

    def __init__(self, live: Live, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.live.leave()


def _begin(request: Request) -> Response:
    page: Page = request.app.state.page
    said = dict(request.query_params)
    begin, first = (page.trainings.go_on, "run") if "run" in said else (page.trainings.start, "data")
    more = {key: said[key] for key in ("epoch" if first == "run" else "model", "epochs") if key in said}
    training = begin(said.get(first, ""), **more, paused=said.get("paused") == "1")
    return JSONResponse({"name": training.name})


def _say(request: Request) -> Response:
    page: Page = request.app.state.page
    training = page.trainings.find(request.path_params["name"])
    asked = {key: v for key, v in request.query_params.items() if key in ("layer", "mode") and v}
    training.say(request.path_params["command"], **asked)
    return JSONResponse({"said": request.path_params["command"]})


def _fragment(request: Request, template: str, values: dict[str, object]) -> Response:
    return HTMLResponse(render(template, values, Rendering(request.app.state.page.served.token)))


Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]
# (address, endpoint, method): these alone, beside the pages of ROUTES, are answered.
ACTIONS: tuple[tuple[str, Endpoint, str], ...] = (
    ("/runs/{run}/ask", _ask, "POST"),
    ("/runs/{run}/asked/{key}/evidence.json", _asking(_evidence_twin), "GET"),
    ("/runs/{run}/asked/{key}/evidence", _asking(_evidence), "GET"),
    ("/runs/{run}/asked/{key}.json", _asking(_again), "GET"),
    ("/runs/{run}/strip/{layer}/{number}.jpg", _strip, "GET"),
    ("/data/{data}/mark", _mark, "POST"),
    ("/train", _begin, "POST"),
    ("/train/{name}/{command}", _say, "POST"),
    ("/live/{run}", _live, "GET"),
    ("/jobs/{number}/cancel", _cancel, "POST"),
    ("/jobs/{name}", _start, "POST"),
    ("/jobs/{name}/{subject:path}", _start, "POST"),
    ("/jobs/{number}.json", _job_twin, "GET"),
    ("/jobs/{number}", _job, "GET"),
)


def action_routes(answering: Callable[[Endpoint], Endpoint]) -> list[Route]:
    """The routes of ACTIONS, each endpoint as ``answering`` wraps it."""
    return [Route(address, answering(endpoint), methods=[method]) for address, endpoint, method in ACTIONS]
