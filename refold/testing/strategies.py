"""Strategies: Hypothesis makes events of a class from its annotations, such as the log could hold."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from msgspec import Struct

from refold.errors import InvalidEvent, WiringError
from refold.model.hints import described, hints, is_union, peeled
from refold.model.message import Event
from refold.model.tag import Tag, tags_of

E = TypeVar("E", bound=Event)
Strategy = st.SearchStrategy[Any]

_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_TAG = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=10)
_NUMBER = st.integers(-(2**53), 2**53)
_PLAIN: dict[Any, Strategy] = {
    bool: st.booleans(),
    int: _NUMBER,
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: _TEXT,
    bytes: st.binary(max_size=20),
    NoneType: st.none(),
    Decimal: st.decimals(-(10**12), 10**12, allow_nan=False, allow_infinity=False, places=2),
    datetime: st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    date: st.dates(),
    time: st.times(timezones=st.just(UTC)),
    timedelta: st.timedeltas(timedelta(-1000), timedelta(1000)),
    UUID: st.uuids(),
    Any: st.none() | st.booleans() | _NUMBER | _TEXT,
}
_COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {tuple: tuple, list: list, set: set, frozenset: frozenset}


def events_of(kind: type[E]) -> st.SearchStrategy[E]:
    """Return what makes events of a class, of which each could be stored and read again.

    Raises `WiringError` for a field of a type that it cannot make values of.
    """
    return _struct(kind, ()).filter(_could_be_stored)


def _could_be_stored(event: Event) -> bool:
    try:
        tags_of(event)
        return bool(msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event)
    except (InvalidEvent, msgspec.MsgspecError):
        return False


def _struct(kind: Any, inside: tuple[type, ...]) -> Strategy:
    annotations = hints(kind)
    fields: Iterable[str] = getattr(kind, "__struct_fields__", getattr(kind, "__dataclass_fields__", ()))
    return st.builds(kind, **{name: _value(annotations[name], (*inside, kind)) for name in fields})


def _value(annotation: Any, inside: tuple[type, ...], *, tagged: bool = False) -> Strategy:
    """Return what makes values of an annotation, found in some structs."""
    inner, marks = peeled(annotation)
    tagged = tagged or any(isinstance(mark, Tag) for mark in marks)
    arguments = get_args(inner)
    kind: Any = get_origin(inner) or inner
    if is_union(inner):
        # What contains itself ends somewhere.
        found = [each for each in arguments if peeled(each)[0] not in inside]
        return st.one_of([_value(each, inside, tagged=tagged) for each in found])
    if kind is Literal:
        return st.sampled_from(arguments)
    if tagged and inner is str:
        return _TAG
    if inner in _PLAIN:
        return _PLAIN[inner]
    if _is(kind, Enum):
        return st.sampled_from(list(kind))
    if _is(kind, Collection) and arguments:
        return _collection(kind, arguments, inside, tagged=tagged)
    if _is(kind, Struct) or hasattr(kind, "__dataclass_fields__"):
        return _struct(kind, inside)
    raise WiringError(f"{described(inside[0])}: no values of {inner!r} can be made up here; give events as examples")


def _collection(kind: type, arguments: tuple[Any, ...], inside: tuple[type, ...], *, tagged: bool) -> Strategy:
    if issubclass(kind, tuple) and Ellipsis not in arguments:
        return st.tuples(*(_value(each, inside, tagged=tagged) for each in arguments))
    size = 0 if any(peeled(each)[0] in inside for each in arguments) else 3
    parts = [
        _value(each, inside, tagged=tagged) if size else st.nothing() for each in arguments if each is not Ellipsis
    ]
    if issubclass(kind, Mapping):
        return st.dictionaries(*parts, max_size=size)
    made = _COLLECTIONS.get(kind, tuple)
    unique = issubclass(kind, (set, frozenset))
    return st.lists(parts[0], max_size=size, unique=unique).map(made)


def _is(kind: Any, what: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, what)
