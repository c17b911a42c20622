"""Memory that is kept for the next tensor: counted by the pages that the system had to map."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from convscope import kept_memory
from convscope.kept_memory import keeping_memory, usual_memory

SIZE = 12_000_000  # numbers: 48 MB, above whatever glibc adapts to
ROUNDS = 5
BYTES = 4 * SIZE

glibc = pytest.mark.skipif(kept_memory._glibc() is None, reason="not glibc, or its allocator is set by the user")


def mapped() -> int:
    """Pages that making and filling a large tensor, and dropping it, had mapped."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        torch.zeros(SIZE).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_pages_are_mapped_once_within_and_each_time_outside():
    outside = mapped()
    with keeping_memory():
        mapped()
        within = mapped()
    assert within < outside / ROUNDS / 2, "the pages of no tensor are mapped anew"
    assert mapped() > outside / 2, "afterwards it is as before"


@glibc
def test_blocks_may_overlap_and_may_be_left_in_any_order():
    outside = mapped()
    first, second = keeping_memory(), keeping_memory()
    with pytest.raises(RuntimeError), first:
        second.__enter__()
        raise RuntimeError
    mapped()
    assert mapped() < outside / ROUNDS / 2, "the second still holds"
    second.__exit__(None, None, None)
    assert mapped() > outside / 2


@glibc
def test_memory_is_given_back():
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    before = resident()
    with keeping_memory():
        torch.zeros(SIZE).add_(1)
        assert resident() > before + BYTES // 2, "kept"
    assert resident() < before + BYTES // 2, "given back"


@glibc
def test_what_is_compared_has_the_usual_memory():
    outside = mapped()
    with keeping_memory():
        with usual_memory():
            assert mapped() > outside / 2
        mapped()
        assert mapped() < outside / ROUNDS / 2
    with usual_memory():
        assert mapped() > outside / 2


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


def test_another_library_is_let_be(monkeypatch):
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
