"""A fingerprint of what defines a state, so that rows and snapshots of other code are never taken for current.

It covers the fields, the compiled `evolve` with the functions and constants of its own package that it uses, and the
events that it folds. A new Python may compile differently; then what was kept is computed anew, which is safe.
"""

import inspect
import types
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import fields

from refold.model.message import stored_name
from refold.model.state import State, state_kind


def fingerprint(cls: type[State]) -> str:
    """Return a short text that changes with the definition of a state."""
    hasher = blake2b(digest_size=8)
    for part in _parts(cls):
        hasher.update(part.encode() + b"\0")
    return hasher.hexdigest()


def _parts(cls: type[State]) -> list[str]:
    parts = [cls.__qualname__, *_shape(cls)]
    for event in state_kind(cls).events:
        parts += [repr(stored_name(event)), *_shape(event)]
    package = cls.__module__.partition(".")[0]
    seen: set[int] = set()
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        if name not in vars(State):
            parts += _function(member, package, seen)
    return parts


def _shape(cls: type[Struct]) -> list[str]:
    annotations = inspect.get_annotations(cls)
    return [
        f"{each.name}: {annotations.get(each.name, each.type)!s} = {each.default!r} {_named(each.default_factory)}"
        for each in fields(cls)
    ]


def _named(value: Any) -> str:
    return getattr(value, "__qualname__", repr(value))


def _function(function: types.FunctionType, package: str, seen: set[int]) -> list[str]:
    if id(function) in seen:
        return []
    seen.add(id(function))
    parts = [function.__qualname__, repr(function.__defaults__)]
    for code in _codes(function.__code__):
        parts += [code.co_code.hex(), repr([each for each in code.co_consts if not isinstance(each, types.CodeType)])]
        for name in code.co_names:
            used = function.__globals__.get(name)
            if isinstance(used, types.FunctionType):
                if used.__module__.partition(".")[0] == package:
                    parts += [name, *_function(used, package, seen)]
            else:
                parts.append(name if used is None or not _is_constant(used) else f"{name}={used!r}")
    return parts


def _codes(code: types.CodeType) -> list[types.CodeType]:
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return [code, *(found for each in inner for found in _codes(each))]


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_is_constant(each) for each in cast(Iterable[object], value))
    return isinstance(value, str | bytes | int | float | bool)
