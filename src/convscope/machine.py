"""What this machine is and can do: device, arithmetic, measured peak, free memory. Asked, never assumed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .errors import UsageError
from .limits import container_memory

PEAK_SIDE = 2048  # of the square matrices whose product is timed
PEAK_TRIES = 4


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA, then Apple's MPS, then the CPU. UsageError where it is not there."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        known = "cpu, auto, cuda, cuda:1 or mps" if "device string" in str(error) else ""
        reason = f"it is no device: say {known}." if known else str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used here: {reason}") from None
    return device


def memory_of_machine() -> int | None:
    """Bytes of memory in this machine, or that the container may take; None where the system does not tell."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    return min([there, *(limit for limit, _ in container_memory())])


def device_of(network: torch.nn.Module) -> torch.device:
    """Tell where a network's parameters lie; the CPU for one without."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def pick_precision(name: str, device: torch.device) -> str:
    """ "float32" or "bfloat16"; "auto" is bfloat16 where the device multiplies it in hardware, else float32.

    On CPUs that is a matrix unit (AMX): without one bfloat16 is slower than float32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if device.type == "cpu" and capabilities.get("amx_bf16") else "float32"


def matmul_peak(device: torch.device, precision: str) -> float:
    """The best GFLOP/s of a square matrix product here and now: the peak that a run is held against."""
    dtype = getattr(torch, precision)
    a = torch.ones(PEAK_SIDE, PEAK_SIDE, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(PEAK_TRIES):
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, a)
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * PEAK_SIDE**3 / best / 1e9


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def describe(device: torch.device) -> dict[str, Any]:
    """Versions and hardware, as they are written into a run. What changes bits is all here."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(terse=True),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            names = [line.split(":", 1)[1].strip() for line in handle if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


@contextmanager
def one_thread() -> Iterator[None]:
    """A with-block in which torch computes in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
