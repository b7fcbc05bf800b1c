"""The port of kept rows: tables, how far each subscription has come, and snapshots.

A table has one column for each field of a state. Rows and the checkpoint of what wrote them change in one step.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Protocol, TypeAlias, cast
from uuid import UUID

import msgspec
from msgspec import Struct

from refold.errors import InvalidQuery, WiringError
from refold.model.fingerprint import fingerprint
from refold.model.hints import described, hints, members
from refold.model.state import State, StateKind, state_kind

Key: TypeAlias = tuple[Any, ...]
Row: TypeAlias = tuple[Any, ...]
Form: TypeAlias = Literal["text", "integer", "real", "blob", "decimal", "json"]
Compare: TypeAlias = Literal["eq", "ne", "lt", "le", "gt", "ge", "in"]
COMPARES: tuple[Compare, ...] = ("eq", "ne", "lt", "le", "gt", "ge", "in")


class Column(Struct, frozen=True):
    """A field of a kept state, and how its values become the database's and back."""

    name: str
    form: Form
    dump: Callable[[Any], Any] | None
    """From a value that is not None to the database's; None where they are the same."""
    parse: Callable[[Any], Any] | None

    def dumped(self, value: Any) -> Any:
        """Return a value as the database holds it."""
        return value if value is None or self.dump is None else self.dump(value)


class Table(Struct, frozen=True):
    """The table of a kept state."""

    name: str
    fingerprint: str
    kind: StateKind
    columns: tuple[Column, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the columns that make the key; a `Singleton` has none."""
        return tuple(field.name for field in self.kind.keys)

    def dump(self, state: State) -> Row:
        """Return a state as a row."""
        return tuple([column.dumped(getattr(state, column.name)) for column in self.columns])

    def parse(self, row: Row) -> Any:
        """Return a row as a state."""
        values = [
            value if value is None or column.parse is None else column.parse(value)
            for column, value in zip(self.columns, row, strict=True)
        ]
        return self.kind.cls(**dict(zip((column.name for column in self.columns), values, strict=True)))

    def key_of(self, state: State) -> Key:
        """Return the key of a state."""
        return tuple(getattr(state, name) for name in self.key)


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


class Snapshot(Struct, frozen=True):
    """A state as it was at a position, encoded."""

    position: int
    data: bytes


class Views(Protocol):
    """Kept rows beside a log."""

    async def open(self, table: Table) -> None:
        """Make the table exist; one of another fingerprint is dropped together with its checkpoint."""
        ...

    async def checkpoint(self, subscription: str) -> int:
        """Return how far a subscription has come, 0 at its beginning."""
        ...

    async def advance(
        self, subscription: str, *, before: int, after: int, table: Table | None = None, rows: Sequence[State] = ()
    ) -> bool:
        """Put rows in place of those of the same key and move the checkpoint on, in one step.

        Returns False, having changed nothing, if the checkpoint is not at `before`: another has moved it.
        """
        ...

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, State]:
        """Return the rows that exist among these keys."""
        ...

    async def find(self, table: Table, find: Find) -> list[State]:
        """Return matching rows in order."""
        ...

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        ...

    async def snapshot(self, state: str, key: str, fingerprint: str) -> Snapshot | None:
        """Return the snapshot of a state, unless it is of another fingerprint."""
        ...

    async def keep_snapshot(self, state: str, key: str, fingerprint: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of an older one."""
        ...


def table_of(cls: type[State]) -> Table:
    """Return the table in which a state is kept."""
    annotations = hints(cls)
    columns = tuple(_column(cls, name, annotations[name]) for name in cls.__struct_fields__)
    return Table(cls.__name__, fingerprint(cls), state_kind(cls), columns)


def find_of(
    table: Table, where: Mapping[str, Any] | None, order: str | Sequence[str], limit: int | None, offset: int
) -> Find:
    """Read what a user asks for: `{"status": "paid", "total__ge": 100}`, ordered by `"-total"`."""
    if (limit is not None and limit < 0) or offset < 0:
        raise InvalidQuery(f"limit and offset count rows, so they are not negative: {limit}, {offset}")
    names = (order,) if isinstance(order, str) else order
    ordered = tuple((_named(table, name.removeprefix("-")), name.startswith("-")) for name in names if name)
    return Find(conditions_of(table, where), ordered, limit, offset)


def conditions_of(table: Table, where: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """Read conditions, each a column with an optional comparison: `"total__ge"`."""
    found: list[Condition] = []
    for term, value in (where or {}).items():
        name, _, compare = term.partition("__")
        column = _named(table, name)
        if (compare or "eq") not in COMPARES:
            raise InvalidQuery(f"{term!r}: there is no comparison {compare!r}; there are {', '.join(COMPARES)}")
        if value is None and compare not in ("", "eq", "ne"):
            raise InvalidQuery(f"{term!r}: None can only be compared with eq and ne")
        try:
            dumped = [column.dumped(each) for each in value or ()] if compare == "in" else column.dumped(value)
        except (TypeError, ValueError, AttributeError):
            raise InvalidQuery(f"{term!r}: {value!r} is no value of {table.name}.{name}") from None
        found.append(Condition(column, cast(Compare, compare or "eq"), dumped))
    return tuple(found)


def _named(table: Table, name: str) -> Column:
    for column in table.columns:
        if column.name == name:
            return column
    raise InvalidQuery(f"{table.name} has no field {name!r}; it has {', '.join(each.name for each in table.columns)}")


def _column(cls: type[State], name: str, annotation: Any) -> Column:
    kinds = [each for each in members(annotation) if each is not type(None)]
    kind = kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) else None
    if kind is not None:
        if issubclass(kind, Enum):
            values: set[type] = {type(member.value) for member in kind}
            if values <= {str} or values <= {int}:
                return Column(name, "text" if values <= {str} else "integer", lambda value: kind(value).value, kind)
        for plain, column in _PLAIN.items():
            if kind is plain:
                return msgspec.structs.replace(column, name=name)
    try:
        decode = msgspec.json.Decoder(annotation).decode
    except TypeError as error:
        raise WiringError(f"{described(cls)}.{name} cannot be kept in a row: {error}") from None
    return Column(name, "json", lambda value: _encode(value).decode(), decode)


def _dump_time(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds")


_encode = msgspec.json.Encoder(order="sorted").encode
_PLAIN: dict[type, Column] = {
    str: Column("", "text", None, None),
    bool: Column("", "integer", int, bool),
    int: Column("", "integer", None, None),
    float: Column("", "real", float, None),
    bytes: Column("", "blob", None, None),
    Decimal: Column("", "decimal", lambda value: str(Decimal(value)), Decimal),
    UUID: Column("", "text", str, UUID),
    datetime: Column("", "text", _dump_time, datetime.fromisoformat),
    date: Column("", "text", date.isoformat, date.fromisoformat),
}
