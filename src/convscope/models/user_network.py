"""A network of the user's own: ``module.py:function`` names a file and the function in it that builds the network.

This runs the user's file, so it is only for a name that the user typed; a classifier that is loaded says which file it
was built by, and never runs it unasked. Whatever goes wrong there is told in one sentence with its file and line.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import UnknownName, UsageError
from ..storage import expanded
from .taps import evaluating


def is_own(name: str) -> bool:
    """Tell whether a model's name is of the form ``module.py:function``."""
    return ".py:" in name


def model_words(name: str) -> str:
    """What a command about a network has to say beside its run: nothing, but for a network of the user's own."""
    return f" --model {shlex.quote(name)}" if is_own(name) else ""


def check_needed(model: str | None, built: str, who: str) -> None:
    """UsageError for a ``model`` that the network of ``who``, which is ``built``, does not need: another, or code."""
    if model is not None and not is_own(built) and model not in (built, built.split(":")[-1]):
        raise UsageError(f"{who} is of the network {built}, which is built without code of yours: leave out --model.")


def load_own(spec: str, num_classes: int, image_size: int) -> nn.Module:
    """Run the user's file and return the network its function builds.

    The function is given those of ``num_classes`` and ``image_size`` (pixels a side) that it has a parameter for.
    Raises UsageError for a file, a function or a network that is not there, and for an exception in the user's code.
    """
    path, function_name = _parts(spec)
    digest = source_hash(spec)
    with _sentence_for(spec, path), _neighbours_importable(path):
        module = _run(path, f"_convscope_own_{digest[:16]}")
    function = _function(module, path, function_name)
    arguments = _accepted(spec, function, {"num_classes": num_classes, "image_size": image_size})
    with _sentence_for(spec, path), _neighbours_importable(path):
        network = function(**arguments)
    if not isinstance(network, nn.Module):
        what = f"the class {network.__name__}" if isinstance(network, type) else f"a {type(network).__name__}"
        raise UsageError(f"{spec} returned {what}, and must return a torch.nn.Module.")
    with _sentence_for(spec, path):
        return _materialised(network, image_size)


def _materialised(network: nn.Module, image_size: int) -> nn.Module:
    """The network with its lazy layers made: they take their sizes from an image."""
    if any(is_lazy(p) for p in (*network.parameters(), *network.buffers())):
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, 3, image_size, image_size))
    return network


def source_hash(spec: str) -> str:
    """The SHA-256 of the user's file, in hex: what says later whether it is still the same."""
    path, _ = _parts(spec)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{spec}: cannot read {path}: {error.strerror or error}.") from error


def _parts(spec: str) -> tuple[Path, str]:
    file, _, function_name = spec.rpartition(":")
    if not is_own(spec) or not function_name:
        raise UsageError(f"{spec!r} is not of the form module.py:function.")
    return expanded(file), function_name


class _Uncached(SourceFileLoader):
    """Compiles the file as it is now: no stale byte code is read, and none is left beside the user's file."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _run(path: Path, private_name: str) -> ModuleType:
    loader = _Uncached(private_name, str(path))
    spec = importlib.util.spec_from_file_location(private_name, path, loader=loader)
    assert spec is not None  # only without a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[private_name] = module  # dataclasses and type hints of the file look their module up here
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[private_name]
        raise
    return module


def _function(module: ModuleType, path: Path, name: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if isinstance(found, nn.Module):
        raise UsageError(f"{path}:{name} is a network already, and must be a function that builds one.")
    if not callable(found):
        own = [k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise UnknownName(f"function in {path}", name, [k for k in own if not k.startswith("_")])
    return found


def _accepted(spec: str, function: Callable[..., Any], offered: dict[str, int]) -> dict[str, int]:
    """Those of the offered arguments that the function takes; raises UsageError where it cannot do without another."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, without a signature: the call itself will tell
        return offered
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for p in parameters:
        known = p.name in offered and p.kind in by_name
        if not known and p.kind not in variadic and p.default is inspect.Parameter.empty:
            raise UsageError(f"{spec} needs {p.name!r}, and is only given {' and '.join(offered)} by name.")
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return offered
    return {p.name: offered[p.name] for p in parameters if p.name in offered and p.kind in by_name}


@contextmanager
def _neighbours_importable(path: Path) -> Iterator[None]:
    """Let the file import the files beside it, as it can when it is run; last, so that they hide nothing installed."""
    folder = str(path.resolve().parent)
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]


@contextmanager
def _sentence_for(spec: str, path: Path) -> Iterator[None]:
    """Turn an exception of the user's code, and its call of ``exit``, into a UsageError that says where it was."""
    try:
        yield
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split()) or "no message"
        raise UsageError(f"{spec} raised {type(error).__name__}: {text} ({_place(error, path)}).") from error


def _place(error: BaseException, path: Path) -> str:
    """File and line of an exception: the last line of the user's file that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == str(path)]
    last = (own or frames)[-1]
    return f"{last.filename}, line {last.lineno}"
