"""Columns: what the fields of an event or a row are in Parquet, and in the SQL that asks for them.

A field has one type in all files of its table. The few values that this type cannot hold exactly, such as a Decimal of
more than ten places, make the column text in the one file that they are in; such a column is called wide, and SQL sees
it as text everywhere, so that a sum over it fails instead of being wrong.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

import msgspec
import polars as pl
from msgspec import Struct

from refold.model.hints import hints, members

PLACES = 10
"""After the point of a Decimal: three factors can be multiplied before 38 digits are full."""

_MONEY = pl.Decimal(38, PLACES)
_TIME = pl.Datetime("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = (bound.replace(tzinfo=UTC) - _EPOCH for bound in (datetime.min, datetime.max))
_LAST_PLACE = Decimal(1).scaleb(-PLACES)
_exactly = Context(prec=38, traps=[Inexact, InvalidOperation]).quantize
_encode = msgspec.json.Encoder(order="deterministic").encode
_COLLECTIONS = (list, tuple, set, frozenset)


class Form(Struct, frozen=True):
    """How values of one type are kept: Polars' name of it, DuckDB's, and how they get there."""

    dtype: Any
    sql: str
    dump: Callable[[Any], Any] | None = None
    """From a value that is not None; it raises for one that this form cannot hold exactly."""
    build: Callable[[str, Sequence[Any]], pl.Series] | None = None
    """Makes a whole column at once, of what is nested."""

    def series(self, name: str, values: Sequence[Any]) -> pl.Series:
        """Return values as a column; raise if this form cannot hold all of them exactly."""
        if self.build is not None:
            return self.build(name, values)
        dump = self.dump
        dumped = values if dump is None else [None if each is None else dump(each) for each in values]
        return pl.Series(name, dumped, self.dtype, strict=True)


class Column(Struct, frozen=True):
    """A field in a table: `field` is the attribute that it comes from, `name` what SQL calls it."""

    name: str
    field: str
    form: Form


def columns_of(cls: type[Struct], taken: Iterable[str] = ()) -> tuple[Column, ...]:
    """Return the columns of a class; a field whose name is taken, in any case, gets an underscore behind it."""
    annotations = hints(cls)
    names = distinct(cls.__struct_fields__, taken)
    return tuple(Column(name, field, _form(annotations[field], (cls,))) for field, name in names.items())


def distinct(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return for each name one that SQL, which ignores case, tells from all others."""
    used = {name.lower() for name in taken}
    found: dict[str, str] = {}
    for name in names:
        free = name
        while free.lower() in used:
            free += "_"
        used.add(free.lower())
        found[name] = free
    return found


def frame(columns: Iterable[tuple[Column, Sequence[Any]]]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return values as a table, and the names of the columns that had to be made text to hold them."""
    made: list[pl.Series] = []
    wide: list[str] = []
    for column, values in columns:
        series = _narrow(column, values)
        if series is None:
            wide.append(column.name)
            series = pl.Series(column.name, [None if each is None else _text(each) for each in values], pl.String)
        made.append(series)
    return pl.DataFrame(made), tuple(wide)


def _narrow(column: Column, values: Sequence[Any]) -> pl.Series | None:
    """Return values in the column's own form, or None if it cannot hold all of them."""
    try:
        return column.form.series(column.name, values)
    except (ArithmeticError, ValueError, TypeError, pl.exceptions.PolarsError):
        return None


def _text(value: Any) -> str:
    match value:
        case Enum():
            return str(value.value)
        case str():
            return value
        case bool():
            return _json(value)
        case int() | Decimal():
            return str(value)
        case datetime():
            return value.isoformat()
        case _:
            return _json(value)


def _json(value: Any) -> str:
    return _encode(value).decode()


def _moments(name: str, values: Sequence[Any]) -> pl.Series:
    # As numbers, which Polars takes in a fifth of the time that it needs for times.
    numbers = [None if each is None else _microseconds(each) for each in values]
    return pl.Series(name, numbers, pl.Int64).cast(_TIME)


def _microseconds(value: datetime) -> int:
    passed = value - _EPOCH
    if not _FIRST <= passed <= _LAST:
        raise OverflowError(f"{value!r} is not in the years that there are in UTC")
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _value(member: Any) -> Any:
    return member.value if isinstance(member, Enum) else member


JSON = Form(pl.String, "JSON", _json)
TEXT = Form(pl.String, "VARCHAR")
TIME = Form(_TIME, "TIMESTAMP WITH TIME ZONE", build=_moments)
INTEGER = Form(pl.Int64, "BIGINT")
BYTES = Form(pl.Binary, "BLOB")

_PLAIN: dict[Any, Form] = {
    str: TEXT,
    int: INTEGER,
    float: Form(pl.Float64, "DOUBLE", float),
    bool: Form(pl.Boolean, "BOOLEAN"),
    bytes: BYTES,
    Decimal: Form(_MONEY, f"DECIMAL(38,{PLACES})", lambda value: _exactly(Decimal(value), _LAST_PLACE)),
    datetime: TIME,
    date: Form(pl.Date, "DATE"),
    UUID: Form(pl.String, "VARCHAR", str),
}


def _form(annotation: Any, inside: tuple[Any, ...]) -> Form:
    """Return the form of an annotation: JSON for what is not of one type, or holds itself."""
    kinds = [each for each in members(annotation) if each is not NoneType]
    if len(kinds) != 1:
        return JSON
    kind = kinds[0]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice([member.value for member in kind])
    if get_origin(kind) is Literal:
        return _choice(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Struct) and kind not in inside:
        return _struct(kind, (*inside, kind))
    return _list(kind, inside)


def _choice(values: Sequence[Any]) -> Form:
    kinds: set[type] = {type(value) for value in values}
    if kinds == {str}:
        return Form(pl.String, "VARCHAR", _value)
    return Form(pl.Int64, "BIGINT", _value) if kinds == {int} else JSON


def _struct(cls: type[Struct], inside: tuple[Any, ...]) -> Form:
    fields = cls.__struct_fields__
    if not fields or len({name.lower() for name in fields}) < len(fields):
        return JSON
    annotations = hints(cls)
    forms = [(name, _form(annotations[name], inside)) for name in fields]
    inner = ", ".join(f"{quoted(name)} {_inner_sql(form)}" for name, form in forms)

    def build(name: str, values: Sequence[Any]) -> pl.Series:
        made = pl.DataFrame(
            [
                form.series(field, [None if each is None else getattr(each, field) for each in values])
                for field, form in forms
            ]
        ).to_struct(name)
        there = [each is not None for each in values]
        return made if all(there) else _nulled(made, there)

    return Form(pl.Struct({name: form.dtype for name, form in forms}), f"STRUCT({inner})", build=build)


def _list(kind: Any, inside: tuple[Any, ...]) -> Form:
    origin, arguments = get_origin(kind), get_args(kind)
    if (
        origin not in _COLLECTIONS
        or len(arguments) != (2 if origin is tuple else 1)
        or arguments[1:] not in ((), (...,))
    ):
        return JSON
    return list_of(_form(arguments[0], inside), in_order=origin in (list, tuple))


def list_of(form: Form, *, in_order: bool = True) -> Form:
    """Return the form of lists of something, or of sets, which are kept in an order that is always the same."""
    dtype = pl.List(form.dtype)

    def build(name: str, values: Sequence[Any]) -> pl.Series:
        # All items make one column, which is then cut: Polars makes lists one by one, which takes ten times as long.
        lists = values if in_order else [each and sorted(each, key=repr) for each in values]
        rows = [row for row, each in enumerate(lists) if each is not None for _ in each]
        if not rows:
            return pl.Series(name, [None if each is None else [] for each in lists], dtype)
        items = form.series("items", [item for each in lists if each is not None for item in each])
        found = (
            pl.DataFrame([pl.Series("row", rows, pl.Int64), items]).group_by("row", maintain_order=True).agg("items")
        )
        there = [each is not None for each in lists]
        if len(found) == len(lists):
            return found["items"].rename(name)
        all_rows = pl.DataFrame({"row": pl.Series(range(len(lists)), dtype=pl.Int64)})
        spread = all_rows.join(found, on="row", how="left", maintain_order="left")["items"]
        return _nulled(spread.fill_null(pl.Series([[]], dtype=dtype)).rename(name), there)

    return Form(dtype, f"{_inner_sql(form)}[]", build=build)


def _nulled(made: pl.Series, there: list[bool]) -> pl.Series:
    """Return a column with nothing where nothing is there."""
    return made.to_frame().select(pl.when(pl.Series(there)).then(pl.col(made.name)).alias(made.name)).to_series()


def _inner_sql(form: Form) -> str:
    """Return what DuckDB calls a form inside another one, where JSON is the text that it is in Parquet."""
    return "VARCHAR" if form is JSON else form.sql


def quoted(name: str) -> str:
    """Return a name as SQL writes one that could be anything."""
    return '"' + name.replace('"', '""') + '"'
