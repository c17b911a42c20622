"""What people pass to a Python function, turned into what it declares: a path as text or bytes, one thing where several
may stand, numbers and arrays of NumPy's and torch's. What cannot be meant is told in one sentence.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import UnknownName, UsageError
from .noted import Noted
from .progress import Progress
from .spoken import called
from .storage import expanded

P = ParamSpec("P")
R = TypeVar("R")
WORDS: dict[Any, str] = {
    str: "a string",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    Progress: "a function (what, done, total) that is told how far the work is",
}
SEVERAL = (Sequence, Iterable)  # collections.abc's, as they are declared


def takes_what_is_meant(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function turn what it is given into what its parameters declare. UsageError where that cannot be."""
    hints = functools.cache(lambda: get_type_hints(function))

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        signature = inspect.signature(function)
        names = [name for name in signature.parameters if name not in ("self", "cls")]
        for name in options:
            if name not in names and not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
                raise UnknownName("option", name, names)
        bound = bound_arguments(function.__name__, signature, hints(), args, options)
        with called():
            turn(bound.arguments, hints())
            return function(*bound.args, **bound.kwargs)

    return call


def bound_arguments(
    name: str, signature: inspect.Signature, hints: Mapping[str, Any], args: Sequence[Any], options: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments of the function ``name`` by theirs. UsageError where one lacks, or where there are too many."""
    try:
        return signature.bind(*args, **options)
    except TypeError as error:
        by_place = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
        names = " and ".join(p.name for p in by_place if p.name not in ("self", "cls"))
        alone = len(by_place) == 1 and any(get_origin(kind) in SEVERAL for kind in _kinds(hints.get(by_place[0].name)))
        several = f"; several go into a list, {name}([...])" if alone else ""
        raise UsageError(f"{name}: {error}; it takes {names}, and options by their names{several}.") from None


def turn(given: dict[str, Any], hints: Mapping[str, Any]) -> None:
    """Turn each argument, in place, into what is declared under its name."""
    for name in [name for name in given if name in hints]:
        given[name] = as_declared(name, given[name], hints[name])


def as_declared(name: str, value: Any, declared: Any) -> Any:
    """Turn what is passed as ``name`` into what is declared. A path begins at home where it begins with ``~``.

    UsageError where it cannot be that, or is none of the values that are declared.
    """
    turned, choices = _turned(name, value, declared), _choices(declared)
    if choices and turned not in choices:
        if isinstance(turned, str):
            raise UnknownName(name, turned, [choice for choice in choices if isinstance(choice, str)])
        raise _refused(name, value, declared)
    return turned


def _choices(declared: Any) -> tuple[Any, ...]:
    """The values that are declared; none where others may be given."""
    origin, parts = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return _choices(parts[0])
    if origin is Literal:
        return parts
    if origin in (Union, types.UnionType):
        each = [(None,) if part is type(None) else _choices(part) for part in parts]
        return sum(each, ()) if all(each) else ()
    return ()


def _turned(name: str, value: Any, declared: Any) -> Any:
    kinds = list(_kinds(declared))
    if Any in kinds:
        return value
    classes = tuple(kind for kind in kinds if get_origin(kind) is None and isinstance(kind, type))
    if isinstance(value, Noted) and not isinstance(value, classes):
        value = value.subject(classes)
    if callable(value) and any(get_origin(kind) is Callable for kind in kinds):
        return value
    if not isinstance(value, classes) and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, classes) and (type(value) is not bool or bool in classes):
        return expanded(value) if isinstance(value, Path) else value
    fixed = next((kind for kind in kinds if get_origin(kind) is tuple), None)
    if fixed is not None:
        return _tuple(name, value, fixed, declared)
    wide = next((kind for kind in kinds if get_origin(kind) in (Mapping, *SEVERAL)), None)
    named = isinstance(value, (bytes, os.PathLike)) and bool({str, Path} & {*classes})
    if wide is not None and not named:
        return _several(name, value, wide, declared)
    return _one(name, value, classes, declared)


def _kinds(declared: Any) -> Iterable[Any]:
    """Each type of a union, without its annotation; a literal stands for the types of its values."""
    origin, parts = get_origin(declared), get_args(declared)
    if origin is Annotated:
        yield from _kinds(parts[0])
    elif origin in (Union, types.UnionType):
        for part in parts:
            yield from _kinds(part)
    elif origin is Literal:
        yield from map(type, parts)
    else:
        yield declared


def _several(name: str, value: Any, wide: Any, declared: Any) -> Any:
    """Turn each of several, or of a mapping's values; one thing stands for itself alone."""
    inner = get_args(wide)[-1]
    if get_origin(wide) is Mapping:
        if not isinstance(value, Mapping):
            raise _refused(name, value, declared)
        return {key: as_declared(f"{name}[{key!r}]", amount, inner) for key, amount in value.items()}
    alone = isinstance(value, (str, bytes, os.PathLike)) or not isinstance(value, Iterable) or hasattr(value, "read")
    try:
        return [as_declared(name, one, inner) for one in ([value] if alone else value)]
    except UsageError:
        raise _refused(name, value, declared) from None


def _tuple(name: str, value: Any, fixed: Any, declared: Any) -> tuple[Any, ...]:
    """Turn so many things of their kinds."""
    inner = get_args(fixed)
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) or len(values := list(value)) != len(inner):
        raise _refused(name, value, declared)
    return tuple(as_declared(name, one, kind) for one, kind in zip(values, inner, strict=True))


def _one(name: str, value: Any, classes: tuple[type, ...], declared: Any) -> Any:
    """Turn one thing: text and bytes of a path, a path for a name, a device of torch's, a whole number as a float."""
    if isinstance(value, (str, bytes, os.PathLike)) and {str, Path} & {*classes}:
        text = os.fsdecode(value)
        return text if str in classes else expanded(text)
    if str in classes and type(value).__module__ == "torch":  # a device, or a number format
        return str(value).removeprefix("torch.")
    if isinstance(value, numbers.Real) and type(value) is not bool:
        if float in classes:
            return value if isinstance(value, int) else float(value)
        if int in classes and float(value).is_integer():
            return int(value)
    if bool in classes and value in (0, 1):
        return bool(value)
    raise _refused(name, value, declared)


def _refused(name: str, value: Any, declared: Any) -> UsageError:
    plain = value is None or isinstance(value, (str, bytes, int, float, list, tuple, dict))
    shown = f"{value!r:.60}" if plain else f"an object of type {type(value).__name__}"
    return UsageError(f"{name} takes {_words(declared)}, not {shown}.")


def _words(declared: Any) -> str:
    """What is declared, in words."""
    choices = [repr(choice) for choice in _choices(declared) if choice is not None]
    if choices:
        return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)
    said: list[str] = []
    several = False
    for kind in _kinds(declared):
        if get_origin(kind) in SEVERAL:
            several = True
            said += [_words(get_args(kind)[0])] if not said else []
        elif get_origin(kind) is tuple:
            said.append(f"{len(get_args(kind))} numbers")
        elif get_origin(kind) is Mapping:
            said.append("a mapping of names to numbers")
        elif get_origin(kind) is Callable:
            said.append(WORDS.get(kind, "a function"))
        elif isinstance(kind, type) and kind is not type(None):
            said.append(WORDS.get(kind, kind.__name__))
    said = [*dict.fromkeys(said), *(["several of these"] if several else [])]
    return " or ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
