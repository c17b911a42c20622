"""What the machines of a cluster are: each must have convscope, and compute as this one does, before work is sent."""

from __future__ import annotations

import platform
from typing import Any

from ..errors import UnreachableError, UsageError, one_line
from ..version import __version__
from .starting import INSTALL

FREE = 60.0  # seconds in which a processor must become free


def check_nodes(ray: Any, where: str, workers: int | None) -> int:
    """How many workers there will be. UsageError where a machine cannot work as this one, or there are too few.

    UnreachableError where no machine begins within some time: others hold all processors.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    processors = sum(int(node["Resources"]["CPU"]) for node in nodes)
    if not processors:
        raise UsageError(f"{where} has no processors for workers: start Ray there with --num-cpus 1 or more.")
    if workers is not None and workers > processors:
        raise UsageError(f"{where} has {processors} processors for {workers} workers: --workers {processors} at most.")
    here = described()
    for node, found in _asked(ray, where, nodes):
        told = difference(here, found)
        if told:
            raise UsageError(f"the machine {node} of {where} {told}")
    return workers or processors


def described() -> dict[str, str]:
    """What decides the bits of a result, and whether it can be sent."""
    import torch

    return {
        "convscope": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "arithmetic": torch.backends.cpu.get_cpu_capability(),
    }


def difference(here: dict[str, str], there: dict[str, str]) -> str:
    """Why a machine cannot work as this one, as the end of a sentence; empty where it can."""
    lacking = there.get("lacking")
    if lacking:
        return f"lacks {lacking}: {INSTALL} there, in the environment that Ray runs in."
    for what, mine in here.items():
        if there.get(what) != mine:
            return (
                f"has {what} {there.get(what)} and this one {mine}, so its results may be others: make them the same."
            )
    return ""


def _asked(ray: Any, where: str, nodes: list[dict[str, Any]]) -> list[tuple[str, dict[str, str]]]:
    """What each machine says of itself, with its address."""

    def look() -> dict[str, str]:  # sent with its code: there may be no convscope
        import importlib

        try:
            return importlib.import_module("convscope.scale.nodes").described()
        except ImportError as error:
            return {"lacking": error.name or str(error)}

    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    remote = ray.remote(look)
    asked = [
        remote.options(num_cpus=1, max_retries=1, scheduling_strategy=strategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    try:
        found = ray.get(asked, timeout=FREE)
    except ray.exceptions.GetTimeoutError:
        raise UnreachableError(
            f"no worker began on {where} within {FREE:.0f} s: others may hold its processors; try again when they end."
        ) from None
    except ray.exceptions.RayError as error:
        raise UnreachableError(f"no worker can begin on {where}: {one_line(error)}.") from None
    return [(node["NodeManagerAddress"], said) for node, said in zip(nodes, found, strict=True)]
