"""Buttons run commands in processes of their own, one after another; the epochs of a training come as they are made."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

import convscope
from convscope.errors import UnknownName, UsageError
from convscope.evaluation.knowing import read_known
from convscope.heartbeat import BEAT
from convscope.locks import holder
from convscope.page.application import application
from convscope.page.jobs import JOBS, Job, Jobs
from convscope.page.live import AT_ONCE, Live
from convscope.page.routes import Page
from convscope.page.served import Served
from convscope.training.runs import Run
from page_client import HOST, request


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    convscope.train("digits", runs=folder, name="r", width=4, epochs=1, limit=300)
    return folder


@pytest.fixture
def jobs(folder: Path) -> Iterator[Jobs]:
    made = Jobs(Served(folder))
    yield made
    made.close()


def waited(job: Job, states: tuple[str, ...], seconds: float = 120) -> Job:
    until = time.monotonic() + seconds
    while job.state not in states and time.monotonic() < until:
        time.sleep(0.05)
    assert job.state in states, job
    return job


def saying(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A job that runs a little program instead of a command."""
    monkeypatch.setitem(JOBS, "say", lambda served, *words: ["-c", program, *words])
    monkeypatch.setattr("convscope.page.jobs.COMMAND", [sys.executable])


def test_a_button_runs_the_command_that_stands_beside_it(jobs: Jobs, folder: Path) -> None:
    (folder / "r" / "report.html").unlink()
    job = waited(jobs.start("report", "r"), ("done", "failed"))
    assert (job.state, job.shown()["subject"]) == ("done", ["r"])
    assert (folder / "r" / "report.html").exists()


def test_what_is_familiar_is_found_by_a_button(jobs: Jobs, folder: Path) -> None:
    assert not (folder / "r" / "known.safetensors").exists()
    job = waited(jobs.start("know", "r"), ("done", "failed"))
    assert job.state == "done", job
    classifier = Run(folder / "r").classifier()
    assert read_known(Run(folder / "r"), classifier) is not None
    page = Page(jobs.served)
    page.__dict__["jobs"] = jobs
    answer = request(application(page, [HOST]), f"/jobs/{job.number}")
    assert answer.headers["hx-trigger"] == "known"
    assert "hx-refresh" not in answer.headers  # the page would lose the image that was asked about


def test_data_are_looked_through_by_a_button(jobs: Jobs, folder: Path) -> None:
    guarded = application(Page(jobs.served), [HOST])
    unseen = request(guarded, "/data.json").json()["unseen"]
    assert {"name": "shapes", "data": "shapes"} in unseen
    assert 'hx-post="/jobs/doctor/shapes"' in request(guarded, "/data").text
    job = waited(jobs.start("doctor", "shapes"), ("done", "failed"), 300)
    assert job.state == "done", job
    shown = request(guarded, "/data.json").json()
    assert [row["name"] for row in shown["data"]] == ["shapes"]
    assert "shapes" not in [row["name"] for row in shown["unseen"]]
    for data in ("/etc", "../r", str(folder), "r"):
        with pytest.raises(UnknownName):
            jobs.start("doctor", data)


def test_jobs_wait_for_each_other_and_say_how_far_they_are(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, "import sys, time; print('images: 1,200 of 3,000', file=sys.stderr, flush=True); time.sleep(1)")
    first, second = jobs.start("say", "a"), jobs.start("say", "b")
    waited(first, ("running",))
    assert second.state == "waiting"
    until = time.monotonic() + 30
    while not first.said and time.monotonic() < until:
        time.sleep(0.02)
    assert (first.shown()["done"], first.shown()["total"]) == (1200, 3000)
    waited(second, ("done",))
    assert first.state == "done"


def test_the_same_job_is_not_begun_twice(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, "import time; time.sleep(1)")
    assert jobs.start("say") is jobs.start("say")
    assert jobs.start("say") is not jobs.start("say", "other")


def test_a_cancelled_job_is_interrupted_as_by_ctrl_c(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import signal, sys, time\n"
        "def end(*_): print('kept', file=sys.stderr, flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('begun', file=sys.stderr, flush=True)\n"
        "time.sleep(60)"
    )
    saying(monkeypatch, program)
    job, later = jobs.start("say"), jobs.start("say", "later")
    until = time.monotonic() + 30
    while job.said != "begun" and time.monotonic() < until:
        time.sleep(0.02)
    jobs.cancel(str(later.number))
    jobs.cancel(str(job.number))
    assert waited(job, ("cancelled",)).said == "kept"
    assert later.state == "cancelled"


def test_a_failure_shows_the_sentence_of_the_command(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, "import sys; print('convscope: there is no such thing.', file=sys.stderr); sys.exit(2)")
    job = waited(jobs.start("say"), ("failed", "done"))
    assert (job.state, job.said) == ("failed", "there is no such thing.")


def test_closing_ends_what_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, "import time; time.sleep(60)")
    jobs = Jobs(Served(folder))
    job = jobs.start("say")
    until = time.monotonic() + 30
    while job.process is None and time.monotonic() < until:
        time.sleep(0.02)
    jobs.close()
    assert job.process is not None
    assert job.process.poll() is not None


@pytest.mark.parametrize(
    ("name", "subject", "error"),
    [
        ("burn", ("r",), UnknownName),
        ("evaluate", ("nothing",), UnknownName),
        ("evaluate", ("../r",), UnknownName),
        ("study", ("zebra",), UnknownName),
        ("compare", ("r",), UsageError),
        ("evaluate", (), UsageError),
        ("evaluate", ("r", "r"), UsageError),
        ("study", (), UsageError),
    ],
)
def test_only_known_names_reach_a_command(jobs: Jobs, name: str, subject: tuple[str, ...], error: type) -> None:
    with pytest.raises(error):
        jobs.start(name, *subject)


def test_jobs_are_begun_and_cancelled_by_their_addresses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, "import sys, time; print('begun', file=sys.stderr, flush=True); time.sleep(60)")
    page = Page(Served(folder))
    guarded, token = application(page, [HOST]), ("x-convscope-token", page.served.token)
    try:
        begun = request(guarded, "/jobs/say/x", "POST", [("host", HOST), token])
        assert begun.status == 200
        assert 'hx-get="/jobs/1"' in begun.text
        until = time.monotonic() + 30
        while request(guarded, "/jobs/1.json").json()["said"] != "begun" and time.monotonic() < until:
            time.sleep(0.02)
        assert request(guarded, "/jobs/1.json").json()["state"] == "running"
        assert request(guarded, "/jobs/2").status == 404
        assert request(guarded, "/jobs/x").status == 404
        assert request(guarded, "/jobs/1/cancel", "POST", [("host", HOST), token]).status == 200
        waited(page.jobs.find("1"), ("cancelled",))
        assert "Cancelled" in request(guarded, "/jobs/1").text
    finally:
        page.close()


def events(live: Live, run: Any, after: int, until: Callable[[], None] | None = None) -> list[tuple[str, Any]]:
    """All events of a run until it is over."""

    async def read() -> list[tuple[str, Any]]:
        assert live.admits()
        found = []
        async for text in live.epochs(run, after):
            if text.startswith("event"):
                name, data = text.strip().split("\n")
                found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
                if until is not None:
                    until()
        live.leave()
        return found

    return asyncio.run(read())


def test_epochs_come_as_they_are_made_and_then_it_is_over(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convscope", "train", "digits", "--runs", str(tmp_path), "--name", "t"]
    training = subprocess.Popen(
        [*command, "--width", "4", "--epochs", "3", "--limit", "100"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and (
            not (tmp_path / "t" / "recipe.json").exists() or holder(tmp_path / "t") is None
        ):
            time.sleep(0.02)
        found = events(Live(), Served(tmp_path).run("t"), 0)
    finally:
        training.wait(120)
    assert [row["epoch"] for name, row in found if name == "epoch"] == [1, 2, 3]
    assert found[-1] == ("over", {})


def test_what_is_over_says_so_and_readers_have_a_number(folder: Path) -> None:
    live, run = Live(), Served(folder).run("r")
    assert events(live, run, 1) == [("over", {})]
    assert [live.admits() for _ in range(AT_ONCE + 1)] == [True] * AT_ONCE + [False]


def test_who_works_in_a_folder_is_told_while_it_lasts(tmp_path: Path) -> None:
    from convscope.locks import lock

    assert holder(tmp_path) is None
    with lock(tmp_path, "a test"):
        assert "process" in (holder(tmp_path) or "")
    assert holder(tmp_path) is None
    (tmp_path / ".lock-holder").write_text("process 999999999 on " + socket.gethostname(), "utf-8")
    assert holder(tmp_path) is None


@pytest.mark.parametrize("shown", [True, False])
def test_a_command_ends_with_the_program_that_began_it_to_show_it(shown: bool) -> None:
    """A killed server cannot cancel its jobs; a command whose reader left otherwise goes on, as under ``head``."""
    program = (
        "import time\nfrom convscope.terminal import guarded_output\nwith guarded_output():\n"
        "    print('begun', flush=True)\n    time.sleep(4 if {} else 60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**environment, BEAT: "0.3"} if shown else {k: v for k, v in environment.items() if k != BEAT}
    words = [sys.executable, "-c", program.format(not shown)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.stderr.close()
        assert process.wait(50) == (-signal.SIGTERM if shown else 0)
