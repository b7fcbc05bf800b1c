"""The port of kept rows: tables, how far each subscription has come, and snapshots.

A table has one column for each field of a state. Rows and the checkpoint of what wrote them change in one step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from math import isnan
from operator import attrgetter
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import Struct

from refold.errors import InvalidQuery, SubscriptionFailed, WiringError
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
    takes: tuple[type, ...]
    """What its values may be; anything in a column of JSON."""
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
    times: tuple[str, ...]
    """The columns whose values are times: a row holds them in UTC."""
    _values: Callable[[State], Row]
    _dumps: tuple[tuple[int, Callable[[Any], Any]], ...]
    _parses: tuple[tuple[int, Callable[[Any], Any]], ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the columns that make the key; a `Singleton` has none."""
        return tuple(field.name for field in self.kind.keys)

    def dump(self, state: State) -> Row:
        """Return a state as a row."""
        values = self._values(state)
        if not self._dumps:
            return values
        row = list(values)
        for index, dump in self._dumps:
            if row[index] is not None:
                row[index] = dump(row[index])
        return tuple(row)

    def parse(self, row: Row) -> Any:
        """Return a row as a state."""
        values = list(row)
        for index, parse in self._parses:
            if values[index] is not None:
                values[index] = parse(values[index])
        return self.kind.cls(**dict(zip(self.kind.cls.__struct_fields__, values, strict=True)))

    def settled(self, state: State) -> State:
        """Return a state as it will be read from its row: with its times in UTC."""
        for name in self.times:
            value = getattr(state, name)
            if value is not None and value.tzinfo is not UTC:
                state = state.replace(**{name: _utc(value)})
        return state

    def key_of(self, state: State) -> Key:
        """Return the key of a state."""
        return tuple([getattr(state, name) for name in self.key])


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
    """Kept rows beside a log.

    What takes a table raises `SubscriptionFailed`, see `kept_otherwise`, if it was last opened with another
    fingerprint: what another version of the program keeps must not be mixed with this one's.
    """

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


def table_of(cls: type[State], upcasters: Iterable[Callable[..., object]] = ()) -> Table:
    """Return the table in which a state is kept."""
    annotations = hints(cls)
    columns = tuple(_column(cls, name, annotations[name]) for name in cls.__struct_fields__)
    return Table(
        name=cls.__name__,
        fingerprint=fingerprint(cls, upcasters),
        kind=state_kind(cls),
        columns=columns,
        times=tuple(column.name for column in columns if column.dump is _dump_time),
        _values=_values(cls.__struct_fields__),
        _dumps=tuple((index, column.dump) for index, column in enumerate(columns) if column.dump),
        _parses=tuple((index, column.parse) for index, column in enumerate(columns) if column.parse),
    )


def _values(names: tuple[str, ...]) -> Callable[[State], Row]:
    if len(names) == 1:
        return lambda state: (getattr(state, names[0]),)
    return attrgetter(*names) if names else lambda _: ()


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
    return tuple(_condition(table, term, value) for term, value in (where or {}).items())


def kept_otherwise(table: Table, fingerprint: str | None) -> SubscriptionFailed:
    """Return the error of using a table of another fingerprint, or one that has never been opened."""
    if fingerprint is None:
        text = f"{table.name} is not kept yet: no app has run on this log with it among its `projections`"
    else:
        text = (
            f"{table.name} is kept by another version of this program now, which has built it anew from its own "
            "definition. Stop this one"
        )
    return SubscriptionFailed(text, subscription=table.name)


def _condition(table: Table, term: str, value: Any) -> Condition:
    name, _, compare = term.rpartition("__")
    if not name or any(column.name == term for column in table.columns):
        name, compare = term, "eq"
    column = _named(table, name)
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
    except (TypeError, ValueError):
        fits = False
    if not fits:
        takes = " or ".join(kind.__name__ for kind in column.takes)
        raise InvalidQuery(f"{term!r}: {value!r} is no value of {table.name}.{column.name}, which takes {takes}")
    return dumped


def _named(table: Table, name: str) -> Column:
    for column in table.columns:
        if column.name == name:
            return column
    raise InvalidQuery(f"{table.name} has no field {name!r}; it has {', '.join(each.name for each in table.columns)}")


def _column(cls: type[State], name: str, annotation: Any) -> Column:
    kinds = [each for each in members(annotation) if each is not type(None)]
    kind: Any = kinds[0] if len(kinds) == 1 else None
    choices: tuple[object, ...] = get_args(kind) if get_origin(kind) is Literal else ()
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = tuple(member.value for member in kind)
    for plain in (str, int):
        if choices and {type(choice) for choice in choices} == {plain}:
            bare = msgspec.structs.replace(_PLAIN[plain], name=name)
            if isinstance(kind, type):
                return Column(name, bare.form, (kind, plain), lambda value: kind(value).value, kind)
            return bare
    if isinstance(kind, type) and kind in _PLAIN:
        return msgspec.structs.replace(_PLAIN[kind], name=name)
    try:
        decode = msgspec.json.Decoder(annotation).decode
    except TypeError as error:
        raise WiringError(f"{described(cls)}.{name} cannot be kept in a row: {error}") from None
    # A dict keeps its order, on which a fold may depend; a set has none, and is compared in one of its own.
    encode = msgspec.json.Encoder(order="deterministic" if _holds_sets(annotation) else None).encode
    return Column(name, "json", (object,), lambda value: encode(value).decode(), decode)


def _holds_sets(annotation: Any) -> bool:
    waiting: list[object] = [msgspec.inspect.type_info(annotation)]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, msgspec.inspect.SetType | msgspec.inspect.FrozenSetType):
            return True
        if isinstance(each, tuple):
            waiting += cast(tuple[object, ...], each)
        elif isinstance(each, Struct) and id(each) not in seen:
            seen.add(id(each))
            waiting += [getattr(each, name) for name in each.__struct_fields__]
    return False


def _utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise ValueError(f"{value!r} has no time zone")
    return value.astimezone(UTC)


def _dump_time(value: datetime) -> str:
    return _utc(value).isoformat(timespec="microseconds")


def _dump_date(value: date) -> str:
    if isinstance(value, datetime):
        raise TypeError(f"{value!r} is a time, not a date")
    return value.isoformat()


def _dump_float(value: float) -> float:
    if isnan(value):
        raise ValueError("nan cannot be kept: it equals nothing")
    return float(value)


def _dump_decimal(value: Decimal | int) -> str:
    value = Decimal(value)
    if not value.is_finite():
        raise ValueError(f"{value} cannot be kept as a number")
    return str(value)


LARGEST = 2**63 - 1
MAX_CHOICES = 10_000
_PLAIN: dict[type, Column] = {
    str: Column("", "text", (str,), None, None),
    bool: Column("", "integer", (bool,), int, bool),
    int: Column("", "integer", (int, float), None, None),
    float: Column("", "real", (float, int), _dump_float, None),
    bytes: Column("", "blob", (bytes,), None, None),
    Decimal: Column("", "decimal", (Decimal, int), _dump_decimal, Decimal),
    UUID: Column("", "text", (UUID,), str, UUID),
    datetime: Column("", "text", (datetime,), _dump_time, datetime.fromisoformat),
    date: Column("", "text", (date,), _dump_date, date.fromisoformat),
}
