"""What is asked of a table: which rows, in which order, and a search for words."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

from msgspec import Struct

from refold.errors import InvalidQuery
from refold.view.table import LARGEST, Column, Key, Row, Table

Compare: TypeAlias = Literal["eq", "ne", "lt", "le", "gt", "ge", "in"]
COMPARES: tuple[Compare, ...] = ("eq", "ne", "lt", "le", "gt", "ge", "in")
MAX_CHOICES = 10_000


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "in": lambda value, choices: value in choices,
}


class Condition(Struct, frozen=True):
    """One condition of a `find`: a column compared with a value, already in the database's form."""

    column: Column
    compare: Compare
    value: Any


class Find(Struct, frozen=True):
    """Which rows, in which order."""

    where: tuple[Condition, ...] = ()
    order: tuple[tuple[Column, bool], ...] = ()
    """Columns, each with whether it descends; the key decides between equals."""
    limit: int | None = None
    offset: int = 0
    after: Key | None = None
    """Only rows whose key comes after this one; for going through a table by its key, so without an `order`."""


def find_of(
    table: Table, where: Mapping[str, Any] | None, order: str | Sequence[str], limit: int | None, offset: int
) -> Find:
    """Read what a user asks for: `{"status": "paid", "total__ge": 100}`, ordered by `"-total"`."""
    if (limit is not None and limit < 0) or offset < 0:
        raise InvalidQuery(f"limit and offset count rows, so they are not negative: {limit}, {offset}")
    names = (order,) if isinstance(order, str) else order
    ordered: dict[str, tuple[Column, bool]] = {}
    for name in filter(None, names):
        column = table.column(name.removeprefix("-"))
        ordered.setdefault(column.name, (column, name.startswith("-")))  # a second time it orders nothing
    most = None if limit is None else min(limit, LARGEST)
    return Find(conditions_of(table, where), tuple(ordered.values()), most, min(offset, LARGEST))


def conditions_of(table: Table, where: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """Read conditions, each a column with an optional comparison: `"total__ge"`."""
    return tuple(_condition(table, term, value) for term, value in (where or {}).items())


def _condition(table: Table, term: str, value: Any) -> Condition:
    name, _, compare = term.rpartition("__")
    if not name or any(column.name == term for column in table.columns):
        name, compare = term, "eq"
    column = table.column(name)
    if compare not in COMPARES:
        raise InvalidQuery(f"{term!r}: there is no comparison {compare!r}; there are {', '.join(COMPARES)}")
    if compare != "in":
        if value is None and compare not in ("eq", "ne"):
            raise InvalidQuery(f"{term!r}: None can only be compared with eq and ne")
        return Condition(column, compare, _compared(table, term, column, value))
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidQuery(f"{term!r} takes a list of values, not {value!r}")
    values: list[Any] = list(cast(Iterable[object], value))
    if None in values:
        raise InvalidQuery(f"{term!r}: None can only be compared with eq and ne")
    if len(values) > MAX_CHOICES:
        raise InvalidQuery(f"{term!r}: {len(values):,} values to choose from; the limit is {MAX_CHOICES:,}")
    return Condition(column, "in", [_compared(table, term, column, each) for each in values])


def _compared(table: Table, term: str, column: Column, value: Any) -> Any:
    """Return a value as the database compares it; refuse one that no row could hold."""
    dumped: Any = None
    fits = value is None or column.form == "json" or isinstance(value, column.takes)
    try:
        if fits and value is not None:
            dumped = column.dumped(value)
            if isinstance(dumped, str):
                dumped.encode()
            fits = dumped == dumped and not (isinstance(dumped, int) and abs(dumped) > LARGEST)
    except (TypeError, ValueError, OverflowError):  # the last of a time that is none in UTC
        fits = False
    if not fits:
        takes = " or ".join(kind.__name__ for kind in column.takes)
        raise InvalidQuery(f"{term!r}: {value!r} is no value of {table.name}.{column.name}, which takes {takes}")
    return dumped


def meets(names: Sequence[str], row: Row, where: Sequence[Condition]) -> bool:
    """Tell whether a row, as a database holds it, meets all conditions; `names` are those of its columns."""
    for condition in where:
        value, wanted, form = row[names.index(condition.column.name)], condition.value, condition.column.form
        if value is None or wanted is None:
            # As in SQL with IS: None equals None only, and is neither above nor below anything.
            held = (value is wanted) == (condition.compare == "eq") and condition.compare in ("eq", "ne")
        elif condition.compare == "in":
            held = comparable(form, value) in [comparable(form, each) for each in wanted]
        else:
            held = _COMPARE[condition.compare](comparable(form, value), comparable(form, wanted))
        if not held:
            return False
    return True


def comparable(form: str, value: Any) -> Any:
    """Return a value of a row as it is compared."""
    if value is None:
        return 0
    return float(value) if form == "decimal" else value  # as SQLite does
