"""Kept rows in PostgreSQL, in columns of real types: all writes of a step in one statement."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from msgspec import Struct

from refold.errors import WiringError
from refold.store.postgres import PostgresStore, read_address
from refold.store.postgres.address import Address, quoted
from refold.store.postgres.connections import PATIENCE, Connection, Connections
from refold.view.api import Delete, Expect, Hit, Put, Write
from refold.view.find import Compare, Condition, Find
from refold.view.search import Term, terms_of, words_of
from refold.view.table import Column, Form, Key, Table, not_kept

CONNECTIONS = 4
KEYS_AT_ONCE = 10_000
MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names off."""
MAX_PLACE = 16_383
"""The last place in a text that PostgreSQL remembers of a word."""

COMPARES: dict[Compare, str] = {"eq": "=", "ne": "IS DISTINCT FROM", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
NOT_TEXT = {"22021", "22P05"}
"""What PostgreSQL calls a NUL in a text."""
WEIGHTS = "DCBA"
"""What PostgreSQL calls the weights 1 to 4; they count as much as follows."""
COUNTS = "{0.25, 0.5, 0.75, 1.0}"

# Those that create tables wait for each other: several processes may come up at once.
LOCK = "SELECT pg_advisory_xact_lock(1382377073, hashtext(current_schema))"
# Not to_regclass: what it has seen before, it may remember behind a lock.
THERE = """
SELECT EXISTS (
    SELECT FROM pg_class AS kept INNER JOIN pg_namespace AS place ON kept.relnamespace = place.oid
    WHERE place.nspname = current_schema AND kept.relname = $1
)"""

T = TypeVar("T")


class _Type(Struct, frozen=True):
    """A type of PostgreSQL, and how its values differ from those that the port calls the database's."""

    name: str
    send: Callable[[Any], Any] | None = None
    receive: Callable[[Any], Any] | None = None
    """To the field's own type."""


_FORMS: dict[Form, _Type] = {
    "text": _Type("text"),
    "integer": _Type("bigint"),
    "real": _Type("double precision"),
    "blob": _Type("bytea"),
    "decimal": _Type("numeric", Decimal),
    "json": _Type("jsonb"),
}
_TYPES: dict[type, _Type] = {
    bool: _Type("boolean", bool),
    UUID: _Type("uuid", UUID, lambda value: UUID(int=value.int)),  # the driver has a UUID of its own
    datetime: _Type("timestamptz", datetime.fromisoformat),
    date: _Type("date", date.fromisoformat),
}


class _Layout:
    """A table as PostgreSQL has it."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.name = _name(table.stored)
        self.types = [_TYPES.get(column.takes[0]) or _FORMS[column.form] for column in table.columns]
        self.columns = ", ".join(_name(column.name) for column in table.columns)
        self.key = ", ".join(map(_name, table.key)) or '"only_row"'
        self._receive = [self._receiver(column, of) for column, of in zip(table.columns, self.types, strict=True)]

    def type_of(self, column: Column) -> _Type:
        return self.types[self.table.columns.index(column)]

    def create(self) -> list[str]:
        columns = [
            f"{_name(column.name)} {_declared(of)}" for column, of in zip(self.table.columns, self.types, strict=True)
        ]
        # A table without a key holds one row: it has a column that can only be true.
        columns += [] if self.table.key else ['"only_row" boolean NOT NULL DEFAULT true CHECK ("only_row")']
        columns += ['"_words" tsvector'] if self.table.searched else []
        indexes = [f"CREATE INDEX ON {self.name} ({', '.join(map(_name, names))})" for names in self.table.indexes]
        indexes += [f'CREATE INDEX ON {self.name} USING gin ("_words")'] if self.table.searched else []
        # Rows change often; room in their pages keeps a change from touching every index.
        room = " WITH (fillfactor = 70)"
        return [f"CREATE TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({self.key})){room}", *indexes]

    def sent(self, rows: Sequence[Any]) -> list[list[Any]]:
        """Return rows as columns."""
        dumped = [self.table.dump(row) for row in rows]
        columns = [
            [_sent(of, row[index]) for row in dumped] if of.send else [row[index] for row in dumped]
            for index, of in enumerate(self.types)
        ]
        return [*columns, [_words(self.table, row) for row in rows]] if self.table.searched else columns

    def sent_keys(self, keys: Sequence[Key]) -> list[list[Any]]:
        """Return keys as columns."""
        columns = [self.table.column(name) for name in self.table.key]
        return [
            [_sent(self.type_of(column), column.dumped(key[index])) for key in keys]
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
        others = [_name(name) for name in names if name not in self.table.key]
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

    def _receiver(self, column: Column, of: _Type) -> Callable[[Any], Any] | None:
        return of.receive if column.takes[0] in _TYPES or column.form == "decimal" else column.parse


class _Step:
    """The one statement of a write, put together part by part."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.bound: list[Any] = []
        self._tests: list[str] = []

    def expect(self, layout: _Layout, expect: Expect) -> None:
        """Add what must hold; a row that must be as it is stays so until the end."""
        table, tests = layout.table, list[str]()
        for name, value in [*zip(table.key, expect.key, strict=True), *(expect.values or {}).items()]:
            column = table.column(name)
            of = layout.type_of(column)
            self.bound.append(_sent(of, column.dumped(value)))
            tests.append(f"{_name(name)} IS NOT DISTINCT FROM ${len(self.bound)}::{of.name}")
        name = f"expected{len(self._tests)}"
        rows = f"SELECT 1 FROM {layout.name} WHERE {' AND '.join(tests) or 'true'}"  # noqa: S608 - names are quoted, values bound
        if expect.values is None:
            self._tests.append(f"NOT EXISTS ({rows})")
        else:
            self.parts.append(f"{name} AS ({rows} FOR UPDATE)")
            self._tests.append(f"EXISTS (SELECT FROM {name})")

    def begin(self) -> None:
        """End what must hold."""
        self.parts.append(f"ok AS MATERIALIZED (SELECT {' AND '.join(self._tests) or 'true'} AS held)")

    def put(self, layout: _Layout, rows: Sequence[Any], *, fresh: bool) -> None:
        """Add rows."""
        if rows:
            self.parts.append(f"done{len(self.parts)} AS ({layout.insert(len(self.bound) + 1, fresh=fresh)})")
            self.bound += layout.sent(rows)

    def delete(self, layout: _Layout, keys: Sequence[Key]) -> None:
        """Take rows away."""
        if keys:
            arrays = layout.key_arrays(len(self.bound) + 1)
            gone = f"({layout.key}) IN (SELECT * FROM unnest({arrays}))" if layout.table.key else "true"  # noqa: S608 - names are quoted
            delete = f"DELETE FROM {layout.name} WHERE {gone} AND (SELECT held FROM ok)"  # noqa: S608 - names are quoted, values bound
            self.parts.append(f"done{len(self.parts)} AS ({delete})")
            self.bound += layout.sent_keys(keys)

    @property
    def sql(self) -> str:
        return f"WITH {', '.join(self.parts)} SELECT held FROM ok"  # noqa: S608 - names are quoted, values bound


class PostgresViews:
    """Rows in a schema beside a log in PostgreSQL, or in a database without one."""

    def __init__(self, address: Address, *, patience: Any = PATIENCE) -> None:
        path = quoted(address.view_schema)
        self._address = address
        self._connections = Connections(address, CONNECTIONS, {}, patience, path=path)
        self._layouts: dict[Table, _Layout] = {}
        self._own = False

    @classmethod
    def beside(cls, store: PostgresStore) -> "PostgresViews":
        """Return the views in the database of a log, with which they end."""
        views = cls(store.address, patience=store.patience)
        store.on_close(views._connections.close)
        return views

    @classmethod
    async def open(cls, url: str) -> "PostgresViews":
        """Open views in a database where there need be no log."""
        views = cls(read_address(url))
        views._own = True

        async def prepare(connection: Connection) -> None:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(views._address.view_schema)}")

        await views._connections.run(prepare)
        return views

    async def create(self, tables: Sequence[Table]) -> None:
        """Make tables exist."""
        layouts = [self._layout(table) for table in tables]

        async def missing(connection: Connection) -> list[_Layout]:
            return [each for each in layouts if not await connection.fetchval(THERE, each.table.stored)]

        async def work(connection: Connection) -> None:
            if not await missing(connection):
                return
            async with connection.transaction():
                await connection.execute(LOCK)
                for layout in await missing(connection):
                    for statement in layout.create():
                        await connection.execute(statement)

        await self._connections.run(work)

    async def drop(self, stored: Sequence[str]) -> None:
        """Remove tables, and what shows them under a plain name."""

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                await connection.execute(LOCK)
                for name in stored:
                    await connection.execute(f"DROP TABLE IF EXISTS {_name(name)} CASCADE")

        await self._connections.run(work)

    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        """Do all the writes in one statement; see the port."""
        if not writes:
            return True
        step = _Step()
        for expect in expects:
            step.expect(self._layout(expect.table), expect)
        step.begin()
        absent = {(each.table.stored, each.key) for each in expects if each.values is None}
        tables: list[Table] = []
        for table, rows in _merged(writes):
            tables.append(table)
            layout = self._layout(table)
            fresh = [row for key, row in rows.items() if row is not None and (table.stored, key) in absent]
            others = [row for key, row in rows.items() if row is not None and (table.stored, key) not in absent]
            step.put(layout, fresh, fresh=True)
            step.put(layout, others, fresh=False)
            step.delete(layout, [key for key, row in rows.items() if row is None])
        sql = step.sql

        async def work(connection: Connection) -> bool:
            try:
                return bool(await connection.fetchval(sql, *step.bound))
            except asyncpg.UniqueViolationError:  # another was faster to write what must not be there
                return False

        return await self._on(tables, work)

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows that exist among these keys."""
        layout = self._layout(table)
        found: dict[Key, Any] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = list(dict.fromkeys(keys[start : start + KEYS_AT_ONCE]))
            sql = f"SELECT {layout.columns} FROM {layout.name}"  # noqa: S608 - names are quoted, values bound
            if table.key:
                sql += f" INNER JOIN unnest({layout.key_arrays(1)}) AS asked ({layout.key}) USING ({layout.key})"
            for row in await self._select(layout, sql, layout.sent_keys(some)):
                found[table.key_of(row)] = row
        return found

    async def find(self, table: Table, find: Find) -> list[Any]:
        """Return matching rows in order."""
        layout = self._layout(table)
        terms, bound = _where(layout, find.where)
        if find.after is not None and table.key:
            places: list[str] = []
            for name, value in zip(table.key, find.after, strict=True):
                column = table.column(name)
                bound.append(_sent(layout.type_of(column), column.dumped(value)))
                places.append(f"${len(bound)}::{layout.type_of(column).name}")
            terms.append(f"({layout.key}) > ({', '.join(places)})")
        order = [
            f"{_name(column.name)} {'DESC NULLS LAST' if down else 'ASC NULLS FIRST'}" for column, down in find.order
        ]
        order += [_name(name) for name in table.key]
        sql = f"SELECT {layout.columns} FROM {layout.name}{_clause(terms)}"  # noqa: S608 - names are quoted, values bound
        if order:
            sql += f" ORDER BY {', '.join(order)}"
        sql += f" LIMIT ${len(bound) + 1}::bigint OFFSET ${len(bound) + 2}::bigint"
        return await self._select(layout, sql, [*bound, find.limit, find.offset])

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        layout = self._layout(table)
        terms, bound = _where(layout, where)
        sql = f"SELECT count(*) FROM {layout.name}{_clause(terms)}"  # noqa: S608 - names are quoted, values bound
        return int(await self._on([table], lambda connection: connection.fetchval(sql, *bound)))

    async def search(
        self, table: Table, words: str, where: Sequence[Condition], limit: int, offset: int = 0
    ) -> list[Hit]:
        """Return the rows that hold all the words, the best first."""
        asked = terms_of(table, words)
        if not asked:
            return []
        layout = self._layout(table)
        terms, bound = _where(layout, where)
        query = f"${len(bound) + 1}::text::tsquery"
        terms.append(f'"_words" @@ {query}')
        bound += [" & ".join(map(_query, asked)), limit, offset]
        rank = f"ts_rank_cd('{COUNTS}', \"_words\", {query})"
        sql = (
            f"SELECT {rank}, {layout.columns} FROM {layout.name}{_clause(terms)} "  # noqa: S608 - names are quoted, values bound
            f"ORDER BY 1 DESC, {layout.key} LIMIT ${len(bound) - 1}::bigint OFFSET ${len(bound)}::bigint"
        )
        rows = await self._on([table], lambda connection: connection.fetch(sql, *bound))
        return [Hit(layout.state(row[1:]), float(row[0])) for row in rows]

    async def expose(self, table: Table) -> None:
        """Show the rows of this version under the table's plain name."""
        layout, name = self._layout(table), _name(table.name)

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                await connection.execute(LOCK)
                await connection.execute(f"DROP VIEW IF EXISTS {name}")
                await connection.execute(f"CREATE VIEW {name} AS SELECT {layout.columns} FROM {layout.name}")  # noqa: S608 - names are quoted

        await self._connections.run(work)

    async def close(self) -> None:
        """Let go of the database, if it is not the log's."""
        if self._own:
            await self._connections.close()

    def _layout(self, table: Table) -> _Layout:
        layout = self._layouts.get(table)
        if layout is None:
            layout = self._layouts[table] = _Layout(table)
        return layout

    async def _select(self, layout: _Layout, sql: str, bound: Sequence[Any]) -> list[Any]:
        rows = await self._on([layout.table], lambda connection: connection.fetch(sql, *bound))
        return [layout.state(tuple(row)) for row in rows]

    async def _on(self, tables: Sequence[Table], work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do some work on tables that may be gone by now."""

        async def checked(connection: Connection) -> T:
            try:
                return await work(connection)
            except asyncpg.UndefinedTableError as error:
                for table in tables:
                    if not await connection.fetchval(THERE, table.stored):
                        raise not_kept(table) from None
                raise AssertionError(str(error)) from error
            except asyncpg.PostgresError as error:
                if error.sqlstate in NOT_TEXT:
                    raise ValueError(f"PostgreSQL cannot keep a text that holds a NUL character ({error})") from error
                raise

        return await self._connections.run(checked)


def _merged(writes: Sequence[Write]) -> list[tuple[Table, dict[Key, Any]]]:
    """Return for each table the rows by key, None for those that go: one statement may touch a row once."""
    merged: dict[str, tuple[Table, dict[Key, Any]]] = {}
    for write in writes:
        _, rows = merged.setdefault(write.table.stored, (write.table, {}))
        if isinstance(write, Put):
            rows.update((write.table.key_of(row), row) for row in write.rows)
        else:
            assert isinstance(write, Delete)
            rows.update(dict.fromkeys(write.keys))
    return list(merged.values())


def _words(table: Table, row: Any) -> str:
    """Return the words of a row with their places and weights, as PostgreSQL writes them."""
    places: dict[str, list[str]] = {}
    start = 1
    for column, text in table.texts(row):
        words = words_of(text)
        for place, word in enumerate(words, start):
            places.setdefault(word, []).append(f"{min(place, MAX_PLACE)}{WEIGHTS[column.weight - 1]}")
        start += len(words) + 1  # so that no words of two fields follow one another
    return " ".join(f"'{word}':{','.join(found[:255])}" for word, found in places.items())


def _query(term: Term) -> str:
    quoted_words = [f"'{word}'" for word in term.words]
    return f"({' <-> '.join(quoted_words)}{':*' if term.prefix else ''})"


def _clause(terms: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(terms) if terms else ""


def _where(layout: _Layout, conditions: Sequence[Condition]) -> tuple[list[str], list[Any]]:
    """Return the terms of a clause, and what is bound in them."""
    terms: list[str] = []
    bound: list[Any] = []
    for each in conditions:
        of, name = layout.type_of(each.column), _name(each.column.name)
        if each.value is None:
            terms.append(f"{name} IS {'NOT ' if each.compare == 'ne' else ''}NULL")
        elif each.compare == "in":
            bound.append([_sent(of, value) for value in each.value])
            terms.append(f"{name} = ANY (${len(bound)}::{of.name}[])")
        else:
            bound.append(_sent(of, each.value))
            terms.append(f"{name} {COMPARES[each.compare]} ${len(bound)}::{of.name}")
    return terms, bound


def _sent(of: _Type, value: Any) -> Any:
    return value if value is None or of.send is None else of.send(value)


def _declared(of: _Type) -> str:
    return f'{of.name} COLLATE "C"' if of.name == "text" else of.name


def _name(name: str) -> str:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise WiringError(f"{name} is too long a name for PostgreSQL, which takes {MAX_NAME_BYTES} bytes")
    return quoted(name)
