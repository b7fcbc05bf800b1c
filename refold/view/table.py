"""Tables: how a class of structs becomes columns, and its instances rows and back."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from math import isnan
from operator import attrgetter
from types import NoneType
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from refold.errors import InvalidQuery, NotKept, WiringError
from refold.model.hints import described, hints, members, peeled

M = TypeVar("M")
Key: TypeAlias = tuple[Any, ...]
Row: TypeAlias = tuple[Any, ...]
Form: TypeAlias = Literal["text", "integer", "real", "blob", "decimal", "json"]

KEY_FORMS: tuple[Form, ...] = ("text", "integer", "json")
"""Not numbers with a fraction, which are written in several ways, nor bytes."""
LARGEST = 2**63 - 1
"""The largest integer that a row can hold."""


class Searched(Struct, frozen=True):
    """Marks a field whose words can be searched for: `Annotated[str, Searched(weight=2)]`; 1 to 4, 4 weighs most."""

    weight: int = 1


class Indexed(Struct, frozen=True):
    """Marks a field by which rows are often looked for or ordered: `Annotated[Status, Indexed()]`."""


class Column(Struct, frozen=True):
    """A field of a row, and how its values become the database's and back."""

    name: str
    form: Form
    takes: tuple[type, ...]
    """What its values may be; anything in a column of JSON."""
    dump: Callable[[Any], Any] | None
    """From a value that is not None to the database's; None where they are the same."""
    parse: Callable[[Any], Any] | None
    weight: int = 0
    """How much a word found here counts in a search, 1 to 4; 0 if it is not searched."""

    def dumped(self, value: Any) -> Any:
        """Return a value as the database holds it."""
        return value if value is None or self.dump is None else self.dump(value)


class Table(Struct, frozen=True, eq=False):
    """A table of rows, each an instance of one class of structs."""

    name: str
    """What a program calls it."""
    version: str
    """Which definition its rows were made by; empty for a table that has only one."""
    cls: type[Struct]
    key: tuple[str, ...]
    """The names of the columns that make the key; a table without any holds one row."""
    columns: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...]
    """Columns by which rows are often looked for together."""
    times: tuple[str, ...]
    """The columns whose values are times: a row holds them in UTC."""
    key_of: Callable[[Any], Key]
    """Returns the key of a row."""
    values: Callable[[Any], Row]
    """Returns the values of a row, one for each column."""
    made: Callable[[dict[str, Any]], Any]
    """Returns the row of values by column."""
    _dumps: tuple[tuple[int, Callable[[Any], Any]], ...]
    _parses: tuple[tuple[int, Callable[[Any], Any]], ...]

    @property
    def stored(self) -> str:
        """Its name in the database, which tells its rows from those of other definitions."""
        return f"{self.name}_{self.version}" if self.version else self.name

    @property
    def searched(self) -> tuple[Column, ...]:
        """The columns whose words can be searched for."""
        return tuple(column for column in self.columns if column.weight)

    def texts(self, row: Any) -> list[tuple[Column, str]]:
        """Return what can be searched in a row, field by field."""
        values = zip(self.columns, self.values(row), strict=True)
        return [(column, value or "") for column, value in values if column.weight]

    def column(self, name: str) -> Column:
        """Return a column by name, or raise `InvalidQuery` saying which there are."""
        for column in self.columns:
            if column.name == name:
                return column
        names = ", ".join(each.name for each in self.columns)
        raise InvalidQuery(f"{self.name} has no field {name!r}; it has {names}")

    def form(self, name: str) -> Form | None:
        """Return the form of a column, if there is one of this name."""
        return next((column.form for column in self.columns if column.name == name), None)

    def dump(self, row: Any) -> Row:
        """Return a row as the database holds it, a value for each column."""
        values = self.values(row)
        if not self._dumps:
            return values
        dumped = list(values)
        for index, dump in self._dumps:
            if dumped[index] is not None:
                dumped[index] = dump(dumped[index])
        return tuple(dumped)

    def parse(self, values: Row) -> Any:
        """Return what `dump` was given."""
        parsed = list(values)
        for index, parse in self._parses:
            if parsed[index] is not None:
                parsed[index] = parse(parsed[index])
        return self.build(parsed)

    def build(self, values: Sequence[Any]) -> Any:
        """Return a row of values that are the fields' own."""
        return self.made({column.name: value for column, value in zip(self.columns, values, strict=True)})

    def settled(self, row: Any) -> Any:
        """Return a row as it will be read again: with its times in UTC."""
        for name in self.times:
            value = getattr(row, name)
            if value is not None and value.tzinfo is not UTC:
                row = structs.replace(row, **{name: _utc(value)})
        return row


class Dated(Struct, frozen=True):
    """A row as it was from one position on and up to another, that one excluded; the current one's end is `LARGEST`."""

    row: Any
    valid_from: int
    valid_to: int


def table_of(
    cls: type[Struct], name: str, key: Sequence[str], *, version: str = "", indexes: Iterable[Sequence[str]] = ()
) -> Table:
    """Return the table of a class of rows, or raise `WiringError` for a field that no row can hold."""
    annotations = hints(cls)
    columns = tuple(_marked(cls, field, annotations[field]) for field in cls.__struct_fields__)
    marked = [(field,) for field in cls.__struct_fields__ if _mark(annotations[field], Indexed)]
    for column in columns:
        if column.name in key and (column.form not in KEY_FORMS or NoneType in members(annotations[column.name])):
            raise WiringError(
                f"{described(cls)}.{column.name} cannot be part of a key, which is found by equality: "
                "make it a str, int, bool, UUID, date, datetime or enum"
            )
    return _table(
        name=name,
        version=version,
        cls=cls,
        key=tuple(key),
        columns=columns,
        indexes=(*map(tuple, indexes), *marked),
        values=_values(cls.__struct_fields__),
        made=lambda values: cls(**values),
        key_of=_values(tuple(key)),
    )


def not_kept(table: Table) -> NotKept:
    """Return the error of asking for a table that is not there."""
    if table.name.startswith("_"):  # the runtime's own, which every app makes that runs
        return NotKept("no app has run on this log yet: `refold run module:app` does, and so does `refold serve`")
    return NotKept(
        f"{table.name} is not kept yet: no app has run on this log with it among its `projections`, or what it kept "
        "was dropped",
        view=table.name,
        version=table.version,
    )


def unlike(table: Table, why: str) -> WiringError:
    """Return the error of rows that would have to be made anew for what their class has become."""
    key = ", ".join(table.key) or "empty"
    searched = ", ".join(column.name for column in table.searched) or "none"
    return WiringError(
        f"the rows of {table.name} are not those of its class, whose key is {key}, and of whose columns {searched} are "
        f"searched: in the database {why}. Change that with SQL; or rename the table there, and import its rows into "
        "the new one"
    )


def dated(table: Table) -> Table:
    """Return the table that keeps every row that there ever was, as `Dated`, in place of the last ones alone."""
    bounds = tuple(Column(name, "integer", (int,), None, None) for name in ("valid_from", "valid_to"))
    for name in ("valid_from", "valid_to"):
        if name in table.cls.__struct_fields__:
            raise WiringError(f"{described(table.cls)}.{name}: a view with history has columns of its own by this name")
    own, key_of = table.values, table.key_of
    return _table(
        name=table.name,
        version=table.version,
        cls=table.cls,
        key=(*table.key, "valid_to"),
        columns=(*table.columns, *bounds),
        indexes=(("valid_to",), *table.indexes),
        values=lambda each: (*own(each.row), each.valid_from, each.valid_to),
        made=_build_dated(table),
        key_of=lambda each: (*key_of(each.row), each.valid_to),
    )


def shaped(name: str, version: str, columns: Iterable[tuple[str, Form]]) -> Table:
    """Return a table of which no more is known than its columns, as of another program's; to be shown, not read."""
    return _table(
        name=name,
        version=version,
        cls=Struct,
        key=(),
        columns=tuple(Column(column, form, (object,), None, None) for column, form in columns),
        indexes=(),
        values=tuple,
        made=lambda values: tuple(values.values()),
        key_of=lambda _: (),
    )


def narrowed(table: Table, names: Collection[str], version: str) -> Table:
    """Return some columns of a table, its key among them, in another version of it; its rows are tuples, to be read."""
    columns = tuple(column for column in table.columns if column.name in names)
    places = [index for index, column in enumerate(columns) if column.name in table.key]
    return _table(
        name=table.name,
        version=version,
        cls=table.cls,
        key=table.key,
        columns=columns,
        indexes=(),
        values=tuple,
        made=lambda values: tuple(values.values()),
        key_of=lambda row: tuple([row[place] for place in places]),
    )


def _build_dated(table: Table) -> Callable[[dict[str, Any]], Dated]:
    def build(values: dict[str, Any]) -> Dated:
        valid_from, valid_to = values.pop("valid_from"), values.pop("valid_to")
        return Dated(table.made(values), valid_from, valid_to)

    return build


def _table(
    *,
    name: str,
    version: str,
    cls: type[Struct],
    key: tuple[str, ...],
    columns: tuple[Column, ...],
    indexes: tuple[tuple[str, ...], ...],
    values: Callable[[Any], Row],
    made: Callable[[dict[str, Any]], Any],
    key_of: Callable[[Any], Key],
) -> Table:
    return Table(
        name,
        version,
        cls,
        key,
        columns,
        indexes,
        tuple(column.name for column in columns if column.dump is _dump_time),
        key_of,
        values,
        made,
        tuple((index, column.dump) for index, column in enumerate(columns) if column.dump),
        tuple((index, column.parse) for index, column in enumerate(columns) if column.parse),
    )


def _values(names: tuple[str, ...]) -> Callable[[Any], Row]:
    if len(names) == 1:
        return lambda row: (getattr(row, names[0]),)
    return attrgetter(*names) if names else lambda _: ()


def _marked(cls: type[Struct], name: str, annotation: Any) -> Column:
    """Return the column of a field, with the weight that it is marked with."""
    column = _column(cls, name, annotation)
    searched = _mark(annotation, Searched)
    if searched is None:
        return column
    if column.takes != (str,) or not 1 <= searched.weight <= 4:
        raise WiringError(f"{described(cls)}.{name} is Searched, so it must be a str, with a weight from 1 to 4")
    return structs.replace(column, weight=searched.weight)


def _mark(annotation: Any, kind: type[M]) -> M | None:
    return next((mark for mark in peeled(annotation)[1] if isinstance(mark, kind)), None)


def _column(cls: type[Struct], name: str, annotation: Any) -> Column:
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
