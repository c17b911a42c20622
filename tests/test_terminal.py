"""What is written: control characters shown, every stream able to hold it, and a command that outlives its reader."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import cli
from convscope.cache import cache_folder
from convscope.canvas.pages import page
from convscope.storage import to_json
from convscope.terminal import Output, cell
from convscope.training.runs import Run
from convscope.visible import visible, visible_json, visible_lines

TINY = "--model resnet20 --width 4 --image-size 16 --flip none --augment none".split()
HOSTILE = "a\x1b[31m\x07b\x9b2J\u202ec\rd"
SOURCE = {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}


def images(root: Path, names: list[str], count: int = 12) -> Path:
    """A folder of classes with images of a colour each."""
    random = np.random.default_rng(0)
    for k, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(count):
            colour = np.array([(200, 30, 30), (30, 200, 30)][k % 2]) + random.integers(-30, 30, (16, 16, 3))
            Image.fromarray(colour.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 🐈 it's", "plain é 日本 🐈 it's"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b", r"a\u2028b"),
        ("two\nlines\tand a tab\r", r"two\nlines\tand a tab\r"),
        ("caf\udce9", r"caf\xe9"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert cell(text).plain == shown


def test_lines_stay_lines_and_json_stays_json() -> None:
    assert visible_lines("one\n\ttwo\x1b") == "one\n\ttwo\\x1b"
    assert json.loads(to_json({HOSTILE: HOSTILE})) == {HOSTILE: HOSTILE}
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or ord(c) == 0x202E for c in visible_json(json.dumps(HOSTILE)))


def test_a_page_shows_them(tmp_path: Path) -> None:
    (tmp_path / "t.html").write_text("<p title={{ name }}>{{ name }}</p>")
    assert "\x1b" not in page(tmp_path / "t.html", name=HOSTILE)
    assert r"\x1b[31m" in page(tmp_path / "t.html", name=HOSTILE)


def test_hostile_names_go_through_every_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A class and a file with escape sequences in their names: nothing of them reaches terminal, JSON or page."""
    folder = images(tmp_path / "photos\x1b]0;title\x07", [HOSTILE, "two\nlines"])
    (folder / HOSTILE / "0.png").rename(folder / HOSTILE / f"{HOSTILE}.png")
    photo = str(folder / HOSTILE / f"{HOSTILE}.png")
    commands = [
        ["train", str(folder), *TINY, "--epochs", "1", "--name", "r"],
        ["evaluate", "r"],
        ["evaluate", "r", "--json"],
        ["predict", "r", photo],
        ["predict", "r", photo, "--json"],
        ["predict", "r", photo, "--csv", "-"],
        ["predict", "r", str(tmp_path / "none\x1b2J.png")],
        ["explain", "r", "--image", photo],
        ["explain", "r", "--layer", "conv1", "--seeds", "0", "--ablate", "0"],
        ["diagnose", "r"],
        ["similar", "r", photo, "--engine", "torch"],
        ["export", "r", "--format", "safetensors"],
        ["evaluate", "no\x1b[31m"],
    ]
    for words in commands:
        code = cli.run(words)
        out, err = capfd.readouterr()
        assert code == {"no\x1b[31m": 2, str(tmp_path / "none\x1b2J.png"): 65}.get(words[-1], 0), err
        for said in (out, err):
            assert not {c for c in said if (ord(c) < 32 and c not in "\n\t") or ord(c) in (0x7F, 0x9B, 0x202E)}, words
    for path in (tmp_path / "runs").rglob("*.html"):
        assert "\x1b" not in path.read_text(), path


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_stream_can_hold_every_name(encoding: str) -> None:
    raw = io.BytesIO()
    stream = Output(io.TextIOWrapper(raw, encoding))
    stream.write("日本 caf\udce9 …\n")
    stream.flush()
    assert raw.getvalue().decode(encoding).endswith("\n")


def start(words: list[str], folder: Path, **more: object) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    here = SOURCE | {"CONVSCOPE_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "convscope", *words]
    return subprocess.Popen(words, env=os.environ | here, cwd=folder, preexec_fn=_hear_signals, **more)


def _hear_signals() -> None:
    """Take what the parent ignores: what is ignored stays ignored, under nohup a hang-up."""
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def test_a_training_whose_reader_leaves_trains_to_the_end(tmp_path: Path) -> None:
    """As under ``| head -1``."""
    images(tmp_path / "photos", ["a", "b"])
    words = ["train", "photos", *TINY, "--epochs", "3", "--name", "r"]
    with start(words, tmp_path, stdout=subprocess.PIPE) as training:
        assert training.stdout
        training.stdout.readline()
        training.stdout.close()
        assert training.wait(120) == 0
    assert len(Run(tmp_path / "runs" / "r").log()) == 3
    assert (tmp_path / "runs" / "r" / "report.html").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full, start(["models"], tmp_path, stdout=full, stderr=subprocess.PIPE) as listing:
        said = listing.communicate(timeout=60)[1].decode()
    assert listing.returncode == 74
    assert said.splitlines(True)[-1] == "convscope: the output could not be written: no space left on device.\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_every_command_with_a_sentence(tmp_path: Path, name: str) -> None:
    """A command other than a training: it is told what is kept."""
    words = ["features", "shapes", "--engine", "torch"]
    with start(words, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as recording:
        deadline = time.monotonic() + 60
        cache = Path(os.environ["CONVSCOPE_CACHE"]) / "features"
        while not list(cache.glob("*/.lock-holder")) and recording.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        recording.send_signal(getattr(signal, name))
        said = recording.communicate(timeout=60)[1].decode()
    assert recording.returncode == 128 + getattr(signal, name)
    last = said.splitlines(True)[-1]  # on a slow machine the command said before that it is at work
    assert last == "convscope: interrupted; what was recorded is kept, and the same command goes on.\n"


def test_no_more_threads_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor.map", refuse)
    images(Path(os.environ["CONVSCOPE_RUNS"]) / "photos", ["a", "b"])
    assert cli.run(["train", f"{os.environ['CONVSCOPE_RUNS']}/photos", *TINY, "--epochs", "1"]) == 71
    assert "no more threads" in capsys.readouterr().err


def test_a_user_without_a_home_has_a_cache(tmp_path: Path) -> None:
    """A uid without a name, as containers give: nothing says where the home is."""
    code = f"""
import os, pwd, sys
for name in ("HOME", "XDG_CACHE_HOME", "CONVSCOPE_CACHE"):
    os.environ.pop(name, None)
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
os.environ["TMPDIR"] = {str(tmp_path)!r}
from convscope.cache import cache_folder
print(cache_folder())
from convscope.cli import application
try:
    raise ZeroDivisionError
except ZeroDivisionError:
    print(application._report_bug())
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | SOURCE, capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert Path(first).parent == tmp_path
    assert f"{first}/error.log" in second
    assert "CONVSCOPE_CACHE" in done.stderr


def test_a_home_that_is_only_a_sign_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What platformdirs gave before it said that there is no home: a folder called ~ where the command was typed."""
    monkeypatch.delenv("CONVSCOPE_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache") / name)
    assert cache_folder().is_absolute()
