"""How a table of rows is laid out in PostgreSQL: the types of its columns, and rows as the driver sends them."""

import operator
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import Struct

from refold.errors import WiringError
from refold.store.postgres.address import quoted
from refold.view.search import words_in
from refold.view.table import Column, Form, Key, Table

MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names off."""
MAX_PLACES = 255
"""How many places of a word in one row PostgreSQL remembers: phrases are found in these."""
WEIGHTS = "DCBA"
"""What PostgreSQL calls the weights 1 to 4."""


class Type(Struct, frozen=True):
    """A type of PostgreSQL, and how its values differ from those that the port calls the database's."""

    name: str
    send: Callable[[Any], Any] | None = None
    receive: Callable[[Any], Any] | None = None
    """To the field's own type."""


_FORMS: dict[Form, Type] = {
    "text": Type("text"),
    "integer": Type("bigint", operator.index),  # not what only looks like an integer: the driver would cut 1.5
    "real": Type("double precision"),
    "blob": Type("bytea"),
    "decimal": Type("numeric", Decimal),
    "json": Type("jsonb"),
}
_TYPES: dict[type, Type] = {
    bool: Type("boolean", bool),
    UUID: Type("uuid", UUID, lambda value: UUID(int=value.int)),  # the driver has a UUID of its own
    datetime: Type("timestamptz", datetime.fromisoformat),
    date: Type("date", date.fromisoformat),
}


class Layout:
    """A table as PostgreSQL has it."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.name = named(table.stored)
        self.types = [_TYPES.get(column.takes[0]) or _FORMS[column.form] for column in table.columns]
        self.columns = ", ".join(named(column.name) for column in table.columns)
        self.key = ", ".join(map(named, table.key)) or '"only_row"'
        self._receive = [self._receiver(column, of) for column, of in zip(table.columns, self.types, strict=True)]

    def type_of(self, column: Column) -> Type:
        """Return the type of a column."""
        return self.types[self.table.columns.index(column)]

    def create(self) -> list[str]:
        """Return the statements that make it."""
        columns = [
            f"{named(column.name)} {declared(of)}" for column, of in zip(self.table.columns, self.types, strict=True)
        ]
        # A table without a key holds one row: it has a column that can only be true.
        columns += [] if self.table.key else ['"only_row" boolean NOT NULL DEFAULT true CHECK ("only_row")']
        columns += ['"_words" tsvector'] if self.table.searched else []
        indexes = [self.index(names) for names in self.table.indexes]
        indexes += [f'CREATE INDEX ON {self.name} USING gin ("_words")'] if self.table.searched else []
        # Rows change often; room in their pages keeps a change from touching every index.
        room = " WITH (fillfactor = 70)"
        return [f"CREATE TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({self.key})){room}", *indexes]

    def index(self, names: Sequence[str]) -> str:
        """Return the statement that makes an index, to which PostgreSQL gives the name."""
        return f"CREATE INDEX ON {self.name} ({self._ordered(names)})"

    def indexes(self) -> dict[str, str]:
        """Return what makes the indexes whose names are known, by name: PostgreSQL cuts long ones short."""
        named = {f"{self.table.stored}_{'_'.join(names)}_idx": self.index(names) for names in self.table.indexes}
        return {name: statement for name, statement in named.items() if len(name.encode()) <= MAX_NAME_BYTES}

    def sent(self, rows: Sequence[Any]) -> list[list[Any]]:
        """Return rows as columns."""
        dumped = [self.table.dump(row) for row in rows]
        columns = [
            [sent_as(of, row[index]) for row in dumped] if of.send else [row[index] for row in dumped]
            for index, of in enumerate(self.types)
        ]
        return [*columns, [_words(self.table, row) for row in rows]] if self.table.searched else columns

    def sent_keys(self, keys: Sequence[Key]) -> list[list[Any]]:
        """Return keys as columns."""
        columns = [self.table.column(name) for name in self.table.key]
        return [
            [sent_as(self.type_of(column), column.dumped(key[index])) for key in keys]
            for index, column in enumerate(columns)
        ]

    def arrays(self, first: int) -> str:
        """Return the parameters that take the columns of rows, from a number on."""
        types = [of.name for of in self.types] + (["tsvector"] if self.table.searched else [])
        # Words come as texts: the driver knows no tsvector.
        named = [f"${number}::{'text' if of == 'tsvector' else of}[]" for number, of in enumerate(types, first)]
        return ", ".join(named)

    def key_arrays(self, first: int) -> str:
        """Return the parameters that take the columns of keys."""
        types = [self.type_of(self.table.column(name)) for name in self.table.key]
        return ", ".join(f"${number}::{of.name}[]" for number, of in enumerate(types, first))

    def insert(self, first: int, *, fresh: bool) -> str:
        """Return the statement that puts rows, those that must be new in a way that fails if they are not."""
        names = [column.name for column in self.table.columns]
        others = [named(name) for name in names if name not in self.table.key]
        places = [f"c{number}" for number in range(len(names))]
        values, columns = ", ".join(places), self.columns
        if self.table.searched:
            others.append('"_words"')
            places.append("words")
            values, columns = f"{values}, words::tsvector", f'{columns}, "_words"'
        updates = ", ".join(f"{name} = excluded.{name}" for name in others)
        conflict = f"ON CONFLICT ({self.key}) DO {f'UPDATE SET {updates}' if updates else 'NOTHING'}"
        return (
            f"INSERT INTO {self.name} ({columns}) SELECT {values} "  # noqa: S608 - names are quoted, values bound
            f"FROM unnest({self.arrays(first)}) AS new ({', '.join(places)}) WHERE (SELECT held FROM ok)"
            f"{'' if fresh else f' {conflict}'}"
        )

    def state(self, values: Sequence[Any]) -> Any:
        """Return a row as the program has it."""
        return self.table.build(
            [
                value if receive is None or value is None else receive(value)
                for receive, value in zip(self._receive, values, strict=True)
            ]
        )

    def _ordered(self, names: Sequence[str]) -> str:
        """Return columns as `find` orders them, so that an index can give the rows in order."""
        return ", ".join(f"{named(name)} NULLS FIRST" for name in names)

    def _receiver(self, column: Column, of: Type) -> Callable[[Any], Any] | None:
        return of.receive if column.takes[0] in _TYPES or column.form == "decimal" else column.parse


def _words(table: Table, row: Any) -> str:
    """Return the words of a row with their places and weights, as PostgreSQL writes them."""
    places: dict[str, list[str]] = {}
    start = 1
    for column, words in words_in(table, row):
        for place, word in enumerate(words, start):
            places.setdefault(word, []).append(f"{place}{WEIGHTS[column.weight - 1]}")
        start += len(words) + 1  # so that no words of two fields follow one another
    return " ".join(f"'{word}':{','.join(found[:MAX_PLACES])}" for word, found in places.items())


def sent_as(of: Type, value: Any) -> Any:
    """Return a value that the port calls the database's as the driver takes it."""
    return value if value is None or of.send is None else of.send(value)


def declared(of: Type) -> str:
    """Return a type as a column is declared with it."""
    return f'{of.name} COLLATE "C"' if of.name == "text" else of.name


def named(name: str) -> str:
    """Return a name as SQL has it, or raise `WiringError` for one that PostgreSQL would cut off."""
    if len(name.encode()) > MAX_NAME_BYTES:
        raise WiringError(f"{name} is too long a name for PostgreSQL, which takes {MAX_NAME_BYTES} bytes")
    return quoted(name)
