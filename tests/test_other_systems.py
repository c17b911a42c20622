"""What convscope takes for granted of a system, tried on Linux: the table says what differs where, and what holds.

| assumption | Windows | macOS | held by |
|---|---|---|---|
| letter case tells two names apart | no | no | merged names: what is made of ``Cat`` and ``cat`` has two names |
| two forms of an accent are two names | yes | no | merged names |
| a name may hold ``: * ? " < > |`` and end in a full stop or blank | no | yes | names of files that are made of names |
| a name may be ``con``, ``nul`` or ``com1`` | no | yes | names of files, and those of runs |
| a name is any bytes | no | no | names of files |
| a process can be copied (fork) | no | not safely | nothing forks: subprocess and threads alone |
| ``fcntl``, ``resource``, ``pwd``, ``termios`` | missing | there | each is imported inside a try |
| ``os.getuid``, ``os.sysconf``, ``/proc`` | missing | in part | each is asked for, or inside a try |
| ``select`` takes a pipe | no | yes | ``select`` is not used |
| a folder can be opened for fsync | no | yes | ``os.name`` is asked |
| ``os.kill(pid, 0)`` asks whether a process lives | no, it ends it | yes | ``os.name`` is asked |
| text is UTF-8 unless said | no | yes | each text file is opened with its encoding |
| a line ends with a line feed | no | yes | every text file that is read, with CRLF |
| folders are parted by ``/`` | no | yes | paths in keys and records are posix |
| two folders can be exchanged in one step | no | yes | ``folders`` renames twice there |
| signals: SIGHUP, SIGALRM | missing | there | none is named |
"""

from __future__ import annotations

import ast
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope import folders, storage
from convscope.errors import UsageError
from convscope.evaluation.file_stems import stem_of
from convscope.evaluation.sorting import _folders
from convscope.images.apart import ApartDecoder
from convscope.images.preprocess import Preprocess
from convscope.portable import LONGEST_NAME, RESERVED, merged_name, shortened
from convscope.training.runs import check_name, free_name
from test_house import FILES, calls, tree
from torture.odd_names import KINDS, drawn_names, unportable_name

# Where a name of os, signal or a module is used that some system lacks, with what guards it.
GUARDED = {
    "cache.py": {"os.getuid": 'hasattr(os, "getuid")'},
    "convolution/compiled.py": {"os.getuid": 'hasattr(os, "getuid")'},
    "images/decoding_budget.py": {"os.sysconf": "except (AttributeError, OSError, ValueError)"},
    "limits.py": {"resource": "except ImportError"},
    "machine.py": {"os.sysconf": "except (AttributeError, ValueError, OSError)"},
    "scale/cluster.py": {"os.sched_getaffinity": 'hasattr(os, "sched_getaffinity")'},
}
LACKED = re.compile(
    r"(os\.(fork|forkpty|getuid|geteuid|getgid|statvfs|sysconf|sched_\w+|getloadavg|uname|killpg|setsid|getpgid|mkfifo|"
    r"nice|wait\w*|set_blocking)|signal\.(SIGHUP|SIGALRM|SIGPIPE|SIGUSR\d|SIGQUIT|SIGCHLD)|select\.\w+)\Z"
)
MISSING = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "select", "posix", "winreg", "msvcrt"}


def test_what_a_system_may_lack_is_guarded() -> None:
    for name in FILES:
        _check_guards(name)


def _check_guards(name: str) -> None:
    used = {ast.unparse(node) for node in ast.walk(tree(name)) if isinstance(node, ast.Attribute)}
    found = {word for word in used if LACKED.fullmatch(word)}
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in MISSING}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module in MISSING:
            found.add(node.module)
    text = FILES[name].read_text(encoding="utf-8")
    guards = GUARDED.get(name, {})
    assert found <= guards.keys()
    assert all(guards[word] in text for word in found)


def test_the_table_of_guards_holds_nothing_else() -> None:
    for name, guards in GUARDED.items():
        text = FILES[name].read_text(encoding="utf-8")
        assert all(word in text and guard in text for word, guard in guards.items())


def test_no_process_is_copied() -> None:
    """Under spawn, which Windows and macOS have, a child begins anew: nothing may rely on what was there before."""
    nodes = [node for name in FILES for node in ast.walk(tree(name))]
    imported = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [line for line in imported if re.search(r"\bmultiprocessing\b|ProcessPoolExecutor", line)]


def test_text_is_opened_with_its_encoding() -> None:
    """But files of the system's own, whose content is ASCII."""
    assert not [place for name in FILES for place in _without_encoding(name)]


def _without_encoding(name: str) -> list[str]:
    wrong = []
    for line, what, call in calls(name):
        method = what.rpartition(".")[2]
        given = {k.arg for k in call.keywords}
        mode = next((a.value for a in call.args[1:2] if isinstance(a, ast.Constant)), "r")
        if what == "open":
            plain = "b" not in str(mode) and "encoding" not in given
        else:
            plain = method in ("read_text", "write_text") and "encoding" not in given and not call.args
        if plain and "/proc/" not in ast.unparse(call) and name != "images/decoding_budget.py":
            wrong.append(f"{name}:{line}")
    return wrong


# ------------------------------------------------------------------------------------------------------------ names

ODD = [name for kind in KINDS for seed in range(3) for part in drawn_names(kind, seed)[:2] for name in part]


def test_a_name_of_a_file_that_is_made_of_a_name_is_one_everywhere() -> None:
    for name in (*ODD, "CON", "nul.txt", "a.", "a ", ".", "...", "", "a:b", "x\udce9", "a" * 300):
        made = shortened(name)
        assert not unportable_name(made), ascii(name)
        assert 0 < len(made.encode()) <= LONGEST_NAME + 9  # and no bytes that are no text


def test_names_that_were_changed_stay_apart() -> None:
    names = ["a:b", "a?b", "a_b", "a_b.", "a_b ", "con", "_con", "CON", "x\udce9", "x\udcea"]
    assert len({merged_name(shortened(name)) for name in names}) == len(names)
    assert shortened("plain name-1.png") == "plain name-1.png"


TWINS = [
    ("Cat", "cat"),
    ("caf\u00e9", "cafe\u0301"),
    ("a", "a."),
    ("con", "CON"),
    ("a:b", "a*b"),
    ("stra\u00dfe", "strasse"),
]


@pytest.mark.parametrize("pair", TWINS)
def test_what_is_made_of_two_names_has_two_names(pair: tuple[str, str]) -> None:
    assert len({merged_name(name) for name in _folders(pair).values()}) == 2
    taken: set[str] = set()
    stems = [stem_of(f"{name}.png", taken) for name in pair]
    assert len({merged_name(stem) for stem in stems}) == 2
    assert not any(unportable_name(name) for name in (*stems, *_folders(pair).values()))


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "aux.x", "lpt9", "a.", "con.1"])
def test_a_run_has_no_name_that_windows_reserves(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Windows"):
        check_name(name)
    assert not RESERVED.match(free_name(tmp_path, name))
    check_name(free_name(tmp_path, name))


def test_a_run_may_begin_as_such_a_name_does() -> None:
    for name in ("console", "auxiliary-1", "com", "com10", "nul-1", "last-1"):
        assert check_name(name) == name


# --------------------------------------------------------------------------------------------------------- branches


def test_on_windows_no_folder_is_opened_and_no_process_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    like = {name: value for name, value in vars(storage.os).items() if not name.startswith("__")}
    monkeypatch.setattr(storage, "os", SimpleNamespace(**like | {"name": "nt", "open": refused, "kill": refused}))
    storage.commit_text(tmp_path / "a.txt", "content")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "content"
    assert storage.is_alive(1)


def test_lines_whose_ends_were_changed_are_read(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.jsonl", [{"a": 1}, {"b": [2]}]
    storage.commit_lines(path, rows)
    for ends in (b"\r\n", b"\n\r\n", b"\n\n"):
        changed = tmp_path / "b.jsonl"
        changed.write_bytes(path.read_bytes().replace(b"\n", ends) + ends)
        assert storage.read_lines(changed) == rows


def test_a_folder_takes_its_name_where_two_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLibrary:
        def CDLL(self, *_: Any, **__: Any) -> None:  # noqa: N802 - as ctypes calls it
            raise TypeError("on Windows it wants a name")

    monkeypatch.setattr(folders.ctypes, "CDLL", NoLibrary().CDLL)
    for content in ("old", "new"):
        with folders.fresh_folder(tmp_path / "made") as folder:
            (folder / "file").write_text(content, encoding="utf-8")
    assert (tmp_path / "made" / "file").read_text(encoding="utf-8") == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_a_decoder_that_answers_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without select, which takes no pipe on Windows."""
    from convscope.errors import ImageError
    from convscope.images import apart

    decoder = ApartDecoder()
    image = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    import io

    file = io.BytesIO()
    image.save(file, "PNG")
    preprocess = Preprocess(size=8)
    assert np.array_equal(decoder.fit(file.getvalue(), preprocess, "a"), np.asarray(image))
    monkeypatch.setattr(apart, "SECONDS", 0.3)
    monkeypatch.setattr(apart, "_written", lambda target, message: None)
    start = time.monotonic()
    with pytest.raises(ImageError, match="takes over 0 seconds"):
        decoder.fit(file.getvalue(), preprocess, "a")
    assert time.monotonic() - start < 5
    decoder.close()


def test_records_hold_posix_paths(shapes_folder: Path) -> None:
    """Keys of groups and parts are made of paths: of their parts, or posix, never of ``str``."""
    text = FILES["datasets/folder.py"].read_text(encoding="utf-8")
    assert "str(path.relative_to" not in text
    assert json.loads(json.dumps((shapes_folder / "a").relative_to(shapes_folder).as_posix())) == "a"
