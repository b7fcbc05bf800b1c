"""What has changed between two values: which fields, at what depth, and what stood there before and after."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import takewhile
from typing import Any

from msgspec import UNSET, Struct


class FieldChange(Struct, frozen=True):
    """A place in a value where something else stands now; `before` or `after` is unset where nothing stood there."""

    path: str
    """`status`, `lines[0].quantity`, `prices['tea']`, and `members[]` for what a set has gained or lost."""
    before: Any = UNSET
    after: Any = UNSET


def changes_between(before: object, after: object, path: str = "") -> Iterator[FieldChange]:
    """Go through the places in which two values differ, in the order of their fields.

    Structs, dicts and lists are looked into, as far as both are of one kind. What Python takes for equal is the same.
    What was put into a list or taken out of it is told as such, at the place where the lists begin to differ.
    """
    if _same(before, after):
        return
    old: Any = before  # its parts may be anything
    new: Any = after
    match before, after:
        case Struct(), Struct() if type(before) is type(after):
            for name in before.__struct_fields__:
                yield from changes_between(getattr(before, name), getattr(after, name), _field(path, name))
        case dict(), dict():
            yield from _of_dicts(old, new, path)
        case (list(), list()) | (tuple(), tuple()):
            yield from _of_lists(old, new, path)
        case ((set() | frozenset()), (set() | frozenset())):
            yield from _of_sets(old, new, path)
        case _ if dataclasses.is_dataclass(before) and type(before) is type(after):
            for each in dataclasses.fields(before):
                yield from changes_between(getattr(old, each.name), getattr(new, each.name), _field(path, each.name))
        case _:
            yield FieldChange(path, before, after)


def _field(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _of_dicts(before: Mapping[Any, Any], after: Mapping[Any, Any], path: str) -> Iterator[FieldChange]:
    for key, value in before.items():
        if key in after:
            yield from changes_between(value, after[key], f"{path}[{key!r}]")
        else:
            yield FieldChange(f"{path}[{key!r}]", before=value)
    for key, value in after.items():
        if key not in before:
            yield FieldChange(f"{path}[{key!r}]", after=value)


def _of_lists(before: Sequence[Any], after: Sequence[Any], path: str) -> Iterator[FieldChange]:
    """Compare what is left between a common beginning and a common end, pair by pair."""
    start = _shared(before, after)
    end = _shared(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    pairs = min(len(old), len(new))
    for number in range(pairs):
        yield from changes_between(old[number], new[number], f"{path}[{start + number}]")
    for number, value in enumerate(old[pairs:], start + pairs):
        yield FieldChange(f"{path}[{number}]", before=value)
    for number, value in enumerate(new[pairs:], start + pairs):
        yield FieldChange(f"{path}[{number}]", after=value)


def _shared(before: Sequence[Any], after: Sequence[Any]) -> int:
    """Return how many values both begin with."""
    return sum(1 for _ in takewhile(lambda pair: _same(*pair), zip(before, after, strict=False)))


def _same(before: object, after: object) -> bool:
    return before is after or before == after


def _of_sets(before: Set[Any], after: Set[Any], path: str) -> Iterator[FieldChange]:
    for value in sorted(before - after, key=str):
        yield FieldChange(f"{path}[]", before=value)
    for value in sorted(after - before, key=str):
        yield FieldChange(f"{path}[]", after=value)
