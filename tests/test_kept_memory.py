"""Memory that is kept for the next tensor: counted by the pages that the system had to map."""

import subprocess
import sys

import numpy as np
import pytest

from convscope import kept_memory
from convscope.kept_memory import KEPT, USUAL, keeping_memory, usual_memory

glibc = pytest.mark.skipif(kept_memory._glibc() is None, reason="not glibc, or its allocator is set by the user")

# A process of its own: what others left in the heap would be found there. 12 rounds settle what is kept.
PAGES = """
import resource, sys, torch
from convscope.kept_memory import keeping_memory, usual_memory
torch.set_num_threads(1)
numbers = int(sys.argv[1])

def mapped(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.empty(numbers).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

torch.ones(9).add_(1)
outside, before = mapped(5), resident()
with keeping_memory():
    mapped(12)
    within, kept = mapped(5), resident() - before
print(outside, within, kept / (4 * numbers), (resident() - before) / (4 * numbers))
"""


@glibc
@pytest.mark.parametrize("numbers", [12_000_000, 23_000_000, 100_000_000])
def test_pages_are_mapped_once_within_kept_in_bounds_and_given_back(numbers: int):
    done = subprocess.run([sys.executable, "-c", PAGES, str(numbers)], capture_output=True, text=True, check=True)
    outside, within, kept, left = map(float, done.stdout.split())
    assert within < outside / 10, "the pages of no tensor are mapped anew"
    assert 0.5 < kept < 3.5, "what is cut off when a block is aligned must not keep its neighbours apart"
    assert left < 0.5


class Library:
    """A C library that writes down what it is told."""

    def __init__(self) -> None:
        self.settings: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, name: int, value: int) -> None:
        self.settings[name] = value

    def malloc_trim(self, _pad: int) -> None:
        self.trimmed += 1

    def malloc(self, size: int) -> int:
        return size

    def free(self, _block: int) -> None:
        pass

    @property
    def keeps(self) -> bool:
        return all(self.settings.get(name) == value for name, value in KEPT.items())


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(kept_memory, "_glibc", lambda: made)
    return made


def test_blocks_may_overlap_and_may_be_left_in_any_order(library: Library):
    first, second = keeping_memory(), keeping_memory()
    with pytest.raises(RuntimeError), first:
        second.__enter__()
        raise RuntimeError
    assert library.keeps, "the second still holds"
    second.__exit__(None, None, None)
    assert library.settings == USUAL
    assert library.trimmed == 1


def test_what_is_compared_has_the_usual_memory(library: Library):
    with keeping_memory():
        with usual_memory():
            assert library.settings == USUAL
        assert library.keeps
    with usual_memory():
        assert library.settings == USUAL


def test_a_block_that_ends_within_leaves_nothing_set(library: Library):
    keeping = keeping_memory()
    keeping.__enter__()
    with usual_memory():
        keeping.__exit__(None, None, None)
    assert library.settings == USUAL
    assert kept_memory._open == {"keeping": 0, "usual": 0}


def test_a_generator_that_is_left_gives_memory_back(library: Library):
    def steps():
        with keeping_memory():
            yield 1
            yield 2

    for _ in steps():
        break
    assert library.settings == USUAL


def test_nothing_is_kept_where_it_is_not_wanted(library: Library):
    with keeping_memory(False):
        assert library.settings == {}


def test_a_function_may_be_one_and_keeps_its_answer():
    @keeping_memory()
    def answer(x: int) -> int:
        """Doc."""
        return 2 * x

    assert answer(21) == 42
    assert answer.__doc__ == "Doc."


@pytest.mark.parametrize("setting", ["MALLOC_TRIM_THRESHOLD_=1000000", "GLIBC_TUNABLES=glibc.malloc.mmap_max=9"])
def test_what_the_user_set_stays(setting: str):
    code = "from convscope import kept_memory; print(kept_memory._glibc())"
    name, value = setting.split("=", 1)
    run = subprocess.run([sys.executable, "-c", code], env={name: value}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "None"


def test_another_library_is_let_be(monkeypatch: pytest.MonkeyPatch):
    class Musl:
        malloc_trim = None

    monkeypatch.setattr(kept_memory.ctypes, "CDLL", lambda _: Musl())
    kept_memory._glibc.cache_clear()
    try:
        assert kept_memory._glibc() is None
        with keeping_memory():
            assert np.zeros(3).sum() == 0
    finally:
        kept_memory._glibc.cache_clear()


@glibc
def test_a_process_that_keeps_none_gives_each_large_block_back() -> None:
    """Blocks below the size that is mapped apart, with one above them: without a word the heap would keep them."""
    script = """
from pathlib import Path
from convscope import kept_memory
kept_memory._set(kept_memory._glibc(), kept_memory.USUAL)
def own():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) >> 10
def freed():
    blocks = [bytearray(16 << 20) for _ in range(4)]
    last = bytearray(1 << 16)
    before = own()
    del blocks
    return before - own()
kept = freed()
kept_memory.keep_none()
given = freed()
with kept_memory.keeping_memory():
    print(kept, given, freed())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kept, given, kept_again = map(int, done.stdout.split())
    assert kept < 32  # the test would show nothing otherwise
    assert given > 48
    assert kept_again < 32
