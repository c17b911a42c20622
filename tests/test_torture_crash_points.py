"""The judges of the crash points see what is planted: calls in the wrong order, lost content, sentences that lie."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from torture import commit_paths, crash_points, traces
from torture.crash_child import Writer, strace_refused, writing
from torture.faulty_commits import FAULTY

FOLDER = "/home/a/runs"
TEMPORARY = f"{FOLDER}/.a.json.tmp-77-0123abcd4567"

# A commit as strace tells it, one call a line.
OPEN, WRITE, SYNC, CLOSE, RENAME, OPEN_FOLDER, SYNC_FOLDER, SAID = SOUND = (
    f'77 openat(AT_FDCWD</home/a>, "{TEMPORARY}", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 5<{TEMPORARY}>',
    f'77 write(5<{TEMPORARY}>, "{{\\"a\\": 1}}"..., 800) = 800',
    f"77 fsync(5<{TEMPORARY}>) = 0",
    f"77 close(5<{TEMPORARY}>) = 0",
    f'77 rename("{TEMPORARY}", "{FOLDER}/a.json") = 0',
    f'77 openat(AT_FDCWD</home/a>, "{FOLDER}", O_RDONLY|O_CLOEXEC) = 5<{FOLDER}>',
    f"77 fsync(5<{FOLDER}>) = 0",
    '77 write(1<pipe:[12]>, "saved\\n", 6) = 6',
)
DIRECT = f'77 openat(AT_FDCWD</home/a>, "{FOLDER}/a.json", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 5<{FOLDER}/a.json>'
MAPPED = f"77 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5<{TEMPORARY}>, 0) = 0x7f0000000000"
MADE = f'77 mkdir("{FOLDER}/new", 0777) = 0'
NEVER = "takes its name while what it holds was never synced"
AFTER = "takes its name while what it holds was written after its last sync"


def flaws(*lines: str, synced: bool = True) -> list[str]:
    return traces.flaws_of(list(traces.parsed("\n".join(lines))), FOLDER, "saved", synced)


def test_a_sound_trace_has_no_flaw() -> None:
    assert flaws(*SOUND) == []
    assert flaws(OPEN, WRITE, SYNC.replace("fsync", "fdatasync"), *SOUND[3:]) == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((OPEN, WRITE, CLOSE, RENAME, OPEN_FOLDER, SYNC_FOLDER, SAID), NEVER),
        ((OPEN, WRITE, SYNC.replace("= 0", "= -1 EIO (Input/output error)"), *SOUND[3:]), NEVER),
        ((OPEN, SYNC, WRITE, *SOUND[3:]), AFTER),
        ((OPEN, WRITE, SYNC, WRITE.replace("write", "pwrite64"), *SOUND[3:]), AFTER),
        ((OPEN, WRITE, SYNC.replace(TEMPORARY, f"{FOLDER}/other"), *SOUND[3:]), NEVER),
        ((OPEN, WRITE, CLOSE, RENAME, SYNC, OPEN_FOLDER, SYNC_FOLDER, SAID), NEVER),
        ((*SOUND[:4], OPEN_FOLDER, SYNC_FOLDER, RENAME, SAID), "never synced after the new name"),
        ((*SOUND[:5], SAID), "never synced after the new name"),
        ((*SOUND[:5], OPEN_FOLDER, SYNC_FOLDER.replace(FOLDER, "/home/a"), SAID), "never synced after the new name"),
        ((*SOUND[:5], OPEN_FOLDER, SAID, SYNC_FOLDER), "announced before the new name"),
        ((SAID, *SOUND[:-1]), "after it was announced"),
        ((MADE, *SOUND), ""),
        ((*SOUND[:-1], MADE, SAID), f"announced before the new name of {FOLDER}/new is synced"),
        (SOUND[:-1], "nothing is announced"),
        ((DIRECT, SAID), "is written under its own name"),
        ((OPEN, WRITE, MAPPED, *SOUND[2:]), "written by a map"),
    ],
)
def test_a_fault_in_the_order_of_calls_is_seen(lines: tuple[str, ...], told: str) -> None:
    found = flaws(*lines)
    if told:
        assert any(told in flaw for flaw in found)
    else:
        assert found == []


def test_what_can_be_made_again_need_not_wait_but_for_its_own_name() -> None:
    assert flaws(OPEN, WRITE, CLOSE, RENAME, SAID, synced=False) == []
    assert any("under its own name" in flaw for flaw in flaws(DIRECT, SAID, synced=False))


def test_a_call_that_another_thread_interrupts_is_put_together() -> None:
    begun = f"77 fsync(5<{TEMPORARY}> <unfinished ...>"
    calls = list(traces.parsed("\n".join([begun, "78 close(9</x>) = 0", "77 <... fsync resumed>) = 0"])))
    assert [(call.thread, call.name, call.paths) for call in calls] == [
        ("78", "close", ("/x",)), ("77", "fsync", (TEMPORARY,)),
    ]  # fmt: skip
    assert flaws(OPEN, WRITE, begun, "77 <... fsync resumed>) = 0", *SOUND[3:]) == []


@pytest.fixture(scope="module")
def writer() -> Iterator[Writer]:
    if refused := strace_refused():
        pytest.skip(refused)
    with writing() as writer:
        yield writer


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_way_to_the_disk_is_found(writer: Writer, name: str, tmp_path: Path) -> None:
    _, aimed, fault, told = FAULTY[name]
    staged = crash_points.stage(writer, name, tmp_path / "way")
    points = [point for point in staged.points if point[1] == fault and (point[0] is None or point[0].name == aimed)]
    assert told in crash_points.tried(writer, staged, *points[0])


def test_a_point_that_does_not_come_again_is_no_attempt(writer: Writer, tmp_path: Path) -> None:
    staged = crash_points.stage(writer, "JSON", tmp_path / "way")
    call = next(call for call in staged.calls if call.name == "fsync")
    never = traces.Call(call.thread, "fdatasync", call.arguments, failed=False, injected=False, number=1)
    assert "nothing was tried" in crash_points.tried(writer, staged, never, "EIO")


def test_an_older_checkpoint_that_cannot_be_dropped_is_dropped_after_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write = commit_paths.PATHS["a checkpoint"].write
    write(tmp_path, 0)
    place = tmp_path / "run" / "checkpoints"
    before = set(os.listdir(place))
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", fail)
        patch.setattr(os, "scandir", fail)
        write(tmp_path, 1)
    assert set(os.listdir(place)) == before | {"step-00000003.safetensors"}
    write(tmp_path, 1)
    assert sorted(os.listdir(place)) == ["step-00000002.safetensors", "step-00000003.safetensors"]
