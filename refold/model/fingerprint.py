"""A fingerprint of what defines a state, so that rows and snapshots of other code are never taken for current.

It covers the fields with the structs and enums in them, the compiled methods with the functions, classes and constants
of their own package that they use, and the events that the state folds, with their upcasters. It is the same in every
process: nothing in it depends on an address or on the hash seed. A new Python may compile differently; then what was
kept is computed anew, which is safe.
"""

import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import cached_property, partial
from hashlib import blake2b
from types import EllipsisType, NoneType
from typing import Any, cast, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import Struct

from refold.errors import WiringError
from refold.model.hints import hints, peeled
from refold.model.message import Command, Event, stored_name
from refold.model.state import Singleton, State, state_kind

PLAIN = (str, bytes, int, float, complex, NoneType, EllipsisType, Decimal, date, time, timedelta, timezone, UUID)
"""What is written as it is; of other objects, which may hold addresses and change while they live, only the class."""
NOT_THEIRS = (object, Struct, State, Singleton, Event, Command, Enum)
"""Classes whose methods are not part of a program's own."""


def fingerprint(cls: type[State], upcasters: Iterable[Callable[..., object]] = ()) -> str:
    """Return a short text that changes with the definition of a state, or with the upcasters of its events."""
    return fingerprint_of([cls, *state_kind(cls).events], upcasters)


def fingerprint_of(classes: Sequence[type], upcasters: Iterable[Callable[..., object]] = ()) -> str:
    """Return a short text that changes with the definition of some classes, all in the package of the first."""
    parts = _Parts(classes[0].__module__.partition(".")[0])
    for cls in classes:
        parts.add(cls)
    for upcaster in upcasters:
        parts.add(upcaster)
        for annotation in hints(upcaster).values():  # as what it is given is decoded, is part of what it gives
            parts.annotate(annotation)
    return parts.hasher.hexdigest()


class _Parts:
    """Goes through what a definition is made of, each part once."""

    def __init__(self, package: str) -> None:
        self.hasher = blake2b(digest_size=8)
        self._package = package
        self._seen: set[object] = set()

    def add(self, used: Any) -> None:
        """Add a class, a function or a value; of other packages only the name."""
        match used:
            case type() | types.FunctionType():
                self._write(used.__qualname__)
                if _package(used) == self._package and used not in self._seen:
                    self._seen.add(used)
                    self._class(used) if isinstance(used, type) else self._function(used)
            case property():
                self.add(used.fget)
            case cached_property():
                self.add(used.func)
            case classmethod() | staticmethod():
                self.add(used.__func__)
            case partial():
                self.add((used.func, used.args, used.keywords))
            case frozenset() | set():
                self._write(f"set {sorted(map(_text, cast(Iterable[object], used)))}")
            case tuple() | list() | Mapping():
                parts = cast(Collection[object], used)
                self._write(f"{len(parts)} of")
                for part in cast(Mapping[object, object], used).items() if isinstance(used, Mapping) else parts:
                    self.add(part)
            case Struct():
                self._write(type(used).__qualname__)
                self.add([getattr(used, name) for name in used.__struct_fields__])
            case _:
                self._write(_text(used))
                if wrapped := getattr(used, "__wrapped__", None):  # by functools.cache, or like it
                    self.add(wrapped)

    def _write(self, text: str) -> None:
        self.hasher.update(text.encode(errors="surrogatepass") + b"\0")

    def _class(self, cls: Any) -> None:
        if issubclass(cls, Event):
            self.add(stored_name(cls))
        if issubclass(cls, Enum):
            self.add([(member.name, member.value) for member in cls])
        if issubclass(cls, Struct):
            for field in msgspec.structs.fields(cls):
                self.add((field.name, field.encode_name, field.default, field.default_factory))
        try:
            annotations = hints(cls)
        except WiringError:  # a helper's may be for type checkers only
            annotations = {}
        for annotation in annotations.values():
            self.annotate(annotation)
        for base in cls.__mro__:
            if base not in NOT_THEIRS and _package(base) == self._package:
                for name, member in vars(base).items():
                    if isinstance(member, types.FunctionType | property | cached_property | classmethod | staticmethod):
                        self._write(name)
                        self.add(member)

    def annotate(self, annotation: Any) -> None:
        """Add what an annotation names."""
        inner, marks = peeled(annotation)
        self.add(marks)
        self.add(get_origin(inner) or inner)
        for argument in get_args(inner):
            self.annotate(argument)

    def _function(self, function: types.FunctionType) -> None:
        self.add((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            self.add(cell.cell_contents)
        modules: list[types.ModuleType] = []
        for code in _codes(function.__code__):
            self.add((code.co_code, code.co_exceptiontable, code.co_names))
            for constant in code.co_consts:
                if not isinstance(constant, types.CodeType):
                    self.add(constant)
            for name in code.co_names:
                if name in function.__globals__:
                    used = function.__globals__[name]
                    if isinstance(used, types.ModuleType):
                        modules.append(used)
                    else:
                        self.add(used)
                else:  # perhaps what is used of a module that was named before
                    for module in modules:
                        if module.__name__.partition(".")[0] == self._package:
                            self.add(getattr(module, name, None))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _package(used: type | types.FunctionType) -> str:
    return (used.__module__ or "").partition(".")[0]  # code run by exec may have none


def _text(value: Any) -> str:
    """Write a value the same way in every process."""
    match value:
        case Enum():
            return f"{type(value).__qualname__}.{value.name} {_text(value.value)}"
        case tuple():
            return f"tuple {list(map(_text, cast(Iterable[object], value)))}"
        case frozenset():
            return f"set {sorted(map(_text, cast(Iterable[object], value)))}"
        case type() | types.FunctionType():
            return value.__qualname__
        case _:
            return repr(value) if isinstance(value, PLAIN) else type(value).__qualname__
