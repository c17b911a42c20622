"""The gifts are no toys, and who watches them sees: payloads run where nobody holds them, faults are told as faults."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from load_bombs import sound
from torture import gift_archives, gift_markup, gift_pickles
from torture.gift import Yard
from torture.gift_reading import Outcome
from torture.hostile_files import COMMANDS, KINDS, RUNS, fingerprint, judged
from torture.witness import MARK, Trap

HELD = {"reader": "json", "kind": "DamagedFile", "said": "x is damaged.", "code": 65, "told": ""}
NAIVE = """
import json, pickle, sys, urllib.request, subprocess, os
from pathlib import Path
from torture.witness import Audit
folder, foreign, deed = sys.argv[1:]
audit = Audit((folder,), (foreign,))
audit.install()
try:
    exec(deed)
except Exception:
    pass
audit.busy = True
print(json.dumps(audit.seen))
"""


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """Where payloads point."""
    places = [tmp_path / name for name in ("home", "foreign", "elsewhere")]
    for place in places:
        place.mkdir()
    (places[1] / "secret.bin").write_bytes(b"secret")
    return Yard(*places)


def seen_of(deed: str, yard: Yard) -> list[str]:
    """What the audit sees of some Python, in a process of its own."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent / "src")])
    words = [sys.executable, "-c", NAIVE, str(yard.home), str(yard.foreign), deed]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("os.system('true')", "os.system"),
        ("subprocess.run(['true'])", "started true"),
        ("urllib.request.urlopen('http://127.0.0.1:9/', timeout=1)", "urllib.Request"),
        ("open('/etc/passwd').read()", "read /etc/passwd"),
        ("open(foreign + '/secret.bin').read()", "read "),
        ("open(foreign + '/new', 'w')", "open changed"),
        ("os.rename(foreign + '/secret.bin', folder + '/x')", "os.rename changed"),
        ("os.listdir('/root')", "read /root"),
        ("pickle.loads(b'cos\\ngetcwd\\n)R.')", "unpickled os.getcwd"),
        (f"compile('{MARK}', '<x>', 'exec')", "compiled the payload"),
        ("exec(compile('1', foreign + '/evil.py', 'exec'))", "ran "),
    ],
)
def test_the_audit_sees_what_no_reading_needs(deed: str, told: str, yard: Yard) -> None:
    assert any(said.startswith(told) for said in seen_of(deed, yard))


def test_the_audit_lets_an_honest_reading_be(yard: Yard) -> None:
    (yard.home / "a.json").write_text("{}")
    deed = "json.loads(Path(folder, 'a.json').read_text()); import wave; Path(folder, 'b').write_text('x')"
    assert seen_of(deed, yard) == []


def test_the_trap_springs_where_another_process_opens_a_file(yard: Yard) -> None:
    trap = Trap(yard.foreign)
    if not trap.works:
        pytest.skip("this system has no inotify")
    assert trap.sprung() == []
    subprocess.run(["cat", yard.secret], check=True, capture_output=True)
    assert trap.sprung() == ["opened secret.bin outside"]
    Path(yard.canary).touch()
    assert any(told.startswith("changed") for told in trap.sprung())
    trap.close()


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome([HELD], [], 1, 9, 0), ""),
        (Outcome([HELD], ["started true"], 1, 9, 0), "started true"),
        (Outcome([HELD | {"kind": "raised", "said": "KeyError: 'x'", "code": -1}], [], 1, 9, 0), "json: KeyError: 'x'"),
        (Outcome([HELD | {"said": "x is\ndamaged."}], [], 1, 9, 0), "json: no one sentence"),
        (Outcome([HELD | {"said": "x" * 3000}], [], 1, 9, 0), "json: no one sentence"),
        (Outcome([HELD | {"code": 1}], [], 1, 9, 0), "json: x is damaged."),
        (
            Outcome([HELD | {"kind": "command", "said": "convscope: no.\nconvscope: no.\n"}], [], 1, 9, 0),
            "json: 2 sent",
        ),
        (Outcome([HELD | {"kind": "command", "said": "oops\n", "code": 2}], [], 1, 9, 0), "json: 0 sentences"),
        (Outcome([HELD | {"kind": "command", "said": "Traceback", "code": 0}], [], 1, 9, 0), "json: Traceback"),
        (Outcome([HELD], [], 1, 513, 0), "took 513 MB"),
        (Outcome([HELD], [], 5.5, 9, 0), "took 5.5 s"),
        (Outcome([], [], 1, 9, 14), "the process ended by SIGALRM"),
        (Outcome([], [], 1, 9, 11), "the process ended by SIGSEGV"),
    ],
)
def test_what_does_not_hold_is_told(outcome: Outcome, told: str, tmp_path: Path) -> None:
    flaw = judged(outcome, [], tmp_path / MARK)
    assert flaw.startswith(told)
    assert bool(flaw) == bool(told)


def test_a_canary_that_was_touched_is_told_and_cleared_away(tmp_path: Path) -> None:
    canary = tmp_path / MARK
    canary.touch()
    assert judged(Outcome([HELD], [], 1, 9, 0), [], canary) == "its code ran"
    assert not canary.exists()
    assert judged(Outcome([HELD], [], 1, 9, 0), ["opened secret.bin outside"], canary) == "opened secret.bin outside"


# -------------------------------------------------------------------------------------------------- the generators


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {RUNS}))
def test_the_same_numbers_make_the_same_gift_and_others_another(kind: str, yard: Yard, tmp_path: Path) -> None:
    pytest.importorskip(
        {"Parquet": "pyarrow", "exports": "onnx", "TensorBoard events": "tensorboard"}.get(kind, "torch")
    )
    prints = []
    for number in (0, 0, 1, 2, 3, 4):
        place = tmp_path / f"gift-{len(prints)}"
        place.mkdir()
        KINDS[kind](np.random.default_rng([7, number]), place, yard)
        prints.append(fingerprint(place))
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5


def test_the_payloads_run_where_nobody_holds_them(yard: Yard) -> None:
    deed = f"pickle.loads({gift_pickles._simple(f'touch {yard.canary}')!r})"
    seen = seen_of(deed, yard)
    assert Path(yard.canary).exists()
    assert any("os.system" in said for said in seen)
    families = {
        name: way(np.random.default_rng(0), "os", "mkdir", (yard.canary,))
        for name, way in gift_pickles.FAMILIES.items()
    }
    for name in ("REDUCE", "INST", "OBJ", "BUILD"):
        Path(yard.canary).rmdir() if Path(yard.canary).is_dir() else Path(yard.canary).unlink()
        seen_of(f"pickle.loads({families[name] + b'.'!r})", yard)
        assert Path(yard.canary).is_dir(), name


def test_each_command_that_takes_something_foreign_is_given_some() -> None:
    from convscope.cli import COMMANDS as ALL

    assert set(ALL) - {words[0] for words in COMMANDS} == {"demo"}  # which takes nothing
    assert all("GIFT" in words for words in COMMANDS)


def test_markup_that_would_run_is_found_and_what_is_escaped_is_not() -> None:
    for page in (
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<a href='javascript:x()'>",
        "<p style='x:alert(1)'>",
        "<iframe src='data:text/html,x'>",
    ):  # fmt: skip
        assert gift_markup.in_page(f"<p>{page}</p>"), page
    assert not gift_markup.in_page(
        "<p title='alert(1)'>&lt;script&gt;alert(1)&lt;/script&gt;</p><script>ours()</script>"
    )
    assert gift_markup.in_table("a,=1+1\n") == ["=1+1"]
    assert gift_markup.in_table("a,-1.5,'=1,./=1.png\n") == []
    assert gift_markup.in_card("---\nlicense: mit\nx: 1\n---\n") == ["x"]


# -------------------------------------------------------------------------------------------------- a second opinion


def test_fickling_calls_our_payloads_unsafe(yard: Yard) -> None:
    """Of those that it can parse: it knows neither NEWOBJ_EX, extensions nor persistent names."""
    fickling = pytest.importorskip("fickling.fickle")
    severity = pytest.importorskip("fickling.analysis").check_safety
    told = []
    for i in range(80):
        rng = np.random.default_rng([3, i])
        family = ("REDUCE", "INST", "OBJ", "NEWOBJ")[i % 4]
        called = sorted(gift_pickles.calls(yard))[i % len(gift_pickles.calls(yard))]
        module, _, name = called.partition(" ")
        data = gift_pickles.FAMILIES[family](rng, module, name, gift_pickles.calls(yard)[called]) + b"."
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told.append(severity(fickling.Pickled.load(data)).severity.name)
    assert "LIKELY_SAFE" not in told
    safe = severity(fickling.Pickled.load(pickle.dumps({"a": [1, 2.5, "x"]}, 2))).severity.name
    assert safe == "LIKELY_SAFE"


def test_fickling_finds_no_pickle_in_what_we_write(tmp_path: Path) -> None:
    fickle = pytest.importorskip("fickling.fickle")
    identify = pytest.importorskip("fickling.polyglot").identify_pytorch_file_format
    path = tmp_path / "classifier.safetensors"
    sound(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["classifier.json", "classifier.safetensors"]
    for file in tmp_path.iterdir():
        assert identify(str(file)) == []
        with pytest.raises((fickle.PickleDecodeError, fickle.EmptyPickleError)):
            fickle.StackedPickle.load(file.read_bytes())
    evil = tmp_path / "evil.pt"
    evil.write_bytes(gift_pickles.torch_zip(gift_pickles._simple("true")))
    assert identify(str(evil)) != []


def test_a_zip_of_ours_is_one_that_others_open(tmp_path: Path) -> None:
    import zipfile

    entries = [("archive/data.pkl", b"x" * 99, None, 8), ("archive/version", b"3", None, 0)]
    path = tmp_path / "a.zip"
    path.write_bytes(gift_archives._zip(entries))
    with zipfile.ZipFile(path) as file:
        assert {name: file.read(name) for name in file.namelist()} == {name: data for name, data, *_ in entries}
