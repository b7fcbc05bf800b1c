"""Kept rows in the database of a log in PostgreSQL: rows and checkpoint in one statement, in columns of real types."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from msgspec import Struct

from refold.errors import WiringError
from refold.model.state import State
from refold.store.postgres import PostgresStore
from refold.store.postgres.address import quoted
from refold.store.postgres.connections import Connection, Connections
from refold.view.api import Column, Compare, Condition, Find, Form, Key, Snapshot, Table, kept_otherwise

SCHEMA = (Path(__file__).parent / "postgres.sql").read_text()
CONNECTIONS = 4
KEYS_AT_ONCE = 10_000
MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names off."""

COMPARES: dict[Compare, str] = {"eq": "=", "ne": "IS DISTINCT FROM", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
NOT_TEXT = {"22021", "22P05"}
"""What PostgreSQL calls a NUL in a text."""

# Those that create tables wait for each other: several processes may come up at once.
LOCK = "SELECT pg_advisory_xact_lock(1382377073, hashtext(current_schema))"
PREPARED = "SELECT to_regclass('_subscription') IS NOT NULL AND to_regclass('_snapshot') IS NOT NULL"
CHECKPOINT = "SELECT position FROM _subscription WHERE name = $1"
KNOWN_VIEW = "SELECT fingerprint FROM _view WHERE name = $1"
PUT_VIEW = """
INSERT INTO _view (name, fingerprint) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint"""
FORGET = "DELETE FROM _subscription WHERE name = $1"
SNAPSHOT = "SELECT position, data FROM _snapshot WHERE state = $1 AND key = $2 AND fingerprint = $3"
KEEP_SNAPSHOT = """
INSERT INTO _snapshot (state, key, fingerprint, position, data) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (state, key) DO UPDATE
SET fingerprint = excluded.fingerprint, position = excluded.position, data = excluded.data
WHERE _snapshot.fingerprint != excluded.fingerprint OR _snapshot.position < excluded.position"""

# $1 subscription, $2 before, $3 after, $4 the view's name, $5 its fingerprint, and then the columns.
ADVANCE = """
WITH kept AS (SELECT max(fingerprint) AS fingerprint FROM _view WHERE name = $4::text),
moved AS (
    UPDATE _subscription SET position = $3::bigint
    WHERE name = $1::text AND position = $2::bigint
        AND ($4::text IS NULL OR $5::text = (SELECT fingerprint FROM kept))
    RETURNING 1
),
created AS (
    INSERT INTO _subscription (name, position)
    SELECT $1::text, $3::bigint
    WHERE $2::bigint = 0 AND ($4::text IS NULL OR $5::text = (SELECT fingerprint FROM kept))
    ON CONFLICT (name) DO NOTHING
    RETURNING 1
){written}
SELECT (SELECT fingerprint FROM kept), EXISTS (SELECT FROM moved) OR EXISTS (SELECT FROM created)"""
WRITTEN = """,
written AS (
    INSERT INTO {table} ({columns})
    SELECT * FROM unnest({arrays}) AS new
    WHERE EXISTS (SELECT FROM moved) OR EXISTS (SELECT FROM created)
    ON CONFLICT ({key}) DO {action}
)"""
# $1 the view's name. A row comes back in any case, with the fingerprint under which the table is kept.
LOOK = """
SELECT kept.fingerprint, found.*
FROM (SELECT max(fingerprint) AS fingerprint FROM _view WHERE name = $1) AS kept
LEFT JOIN LATERAL ({rows}) AS found ON true"""

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
        self.name = _name(table.name)
        self.types = [_TYPES.get(column.takes[0]) or _FORMS[column.form] for column in table.columns]
        self.columns = ", ".join(_name(column.name) for column in table.columns)
        self.key = ", ".join(map(_name, table.key)) or '"only_row"'
        self._fields = table.kind.cls.__struct_fields__
        self._receive = [self._receiver(column, of) for column, of in zip(table.columns, self.types, strict=True)]
        self.advance = ADVANCE.format(written=self._written())

    def type_of(self, column: Column) -> _Type:
        return self.types[self.table.columns.index(column)]

    def create(self) -> str:
        columns = [
            f"{_name(column.name)} {_declared(of)}" for column, of in zip(self.table.columns, self.types, strict=True)
        ]
        # A Singleton has no key; a column that can only be true lets its table hold one row.
        columns += [] if self.table.key else ['"only_row" boolean NOT NULL DEFAULT true CHECK ("only_row")']
        return f"CREATE TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({self.key}))"

    def arrays(self, rows: Sequence[State]) -> list[list[Any]]:
        """Return rows as columns; of several for one key the last."""
        last = {self.table.key_of(row): row for row in rows}
        dumped = [self.table.dump(row) for row in last.values()]
        return [
            [_sent(of, row[index]) for row in dumped] if of.send else [row[index] for row in dumped]
            for index, of in enumerate(self.types)
        ]

    def state(self, values: Sequence[Any]) -> Any:
        """Return a row as a state."""
        return self.table.kind.cls(
            **{
                name: value if receive is None or value is None else receive(value)
                for name, receive, value in zip(self._fields, self._receive, values, strict=True)
            }
        )

    def _receiver(self, column: Column, of: _Type) -> Callable[[Any], Any] | None:
        return of.receive if column.takes[0] in _TYPES or column.form == "decimal" else column.parse

    def _written(self) -> str:
        others = [_name(column.name) for column in self.table.columns if column.name not in self.table.key]
        updates = ", ".join(f"{name} = excluded.{name}" for name in others)
        arrays = ", ".join(f"${number}::{of.name}[]" for number, of in enumerate(self.types, 6))
        return WRITTEN.format(
            table=self.name,
            columns=self.columns,
            arrays=arrays,
            key=self.key,
            action=f"UPDATE SET {updates}" if updates else "NOTHING",
        )


class PostgresViews:
    """Tables, checkpoints and snapshots beside a log in PostgreSQL."""

    def __init__(self, store: PostgresStore) -> None:
        path = quoted(store.address.view_schema)
        self._connections = Connections(store.address, CONNECTIONS, {}, store.patience, path=path)
        store.on_close(self._connections.close)  # the views end with their log
        self._layouts: dict[Table, _Layout] = {}
        self._prepared = False

    async def open(self, table: Table) -> None:
        """Make the table exist; see the port."""
        layout = self._layout(table)

        async def work(connection: Connection) -> None:
            if await connection.fetchval(KNOWN_VIEW, table.name) == table.fingerprint:
                return
            async with connection.transaction():
                await connection.execute(LOCK)
                if await connection.fetchval(KNOWN_VIEW, table.name) == table.fingerprint:
                    return
                await connection.execute(f"DROP TABLE IF EXISTS {layout.name}")
                await connection.execute(layout.create())
                await connection.execute(FORGET, table.name)
                await connection.execute(PUT_VIEW, table.name, table.fingerprint)

        await self._run(work)

    async def checkpoint(self, subscription: str) -> int:
        """Return how far a subscription has come."""
        return await self._run(lambda connection: connection.fetchval(CHECKPOINT, subscription)) or 0

    async def advance(
        self, subscription: str, *, before: int, after: int, table: Table | None = None, rows: Sequence[State] = ()
    ) -> bool:
        """Put rows in place and move the checkpoint on; see the port."""
        name, fingerprint = (table.name, table.fingerprint) if table else (None, None)
        sql, arrays = ADVANCE.format(written=""), list[Any]()
        if table is not None and rows:
            layout = self._layout(table)
            sql, arrays = layout.advance, layout.arrays(rows)
        bound = (subscription, before, after, name, fingerprint, *arrays)
        found, moved = await self._on(table, lambda connection: connection.fetchrow(sql, *bound))
        if table is not None and found != table.fingerprint:
            raise kept_otherwise(table, found)
        return bool(moved)

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, State]:
        """Return the rows that exist among these keys."""
        layout = self._layout(table)
        by_name = {column.name: column for column in table.columns}
        found: dict[Key, State] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            sql = f"SELECT true, {layout.columns} FROM {layout.name}"  # noqa: S608 - names are quoted, values bound
            bound: list[Any] = []
            if table.key:
                types = [layout.type_of(by_name[name]) for name in table.key]
                arrays = ", ".join(f"${number}::{of.name}[]" for number, of in enumerate(types, 2))
                sql += f" INNER JOIN unnest({arrays}) AS asked ({layout.key}) USING ({layout.key})"
                bound = [
                    [_sent(of, by_name[name].dumped(key[index])) for key in dict.fromkeys(some)]
                    for index, (name, of) in enumerate(zip(table.key, types, strict=True))
                ]
            for state in await self._look(layout, sql, bound):
                found[table.key_of(state)] = state
        return found

    async def find(self, table: Table, find: Find) -> list[State]:
        """Return matching rows in order."""
        layout = self._layout(table)
        where, bound = _where(layout, find.where)
        order = [
            f"{_name(column.name)} {'DESC NULLS LAST' if down else 'ASC NULLS FIRST'}" for column, down in find.order
        ]
        order += [_name(name) for name in table.key]
        sql = f"SELECT true, {layout.columns} FROM {layout.name}{where}"  # noqa: S608 - names are quoted, values bound
        if order:
            sql += f" ORDER BY {', '.join(order)}"
        sql += f" LIMIT ${len(bound) + 2}::bigint OFFSET ${len(bound) + 3}::bigint"
        return await self._look(layout, sql, [*bound, find.limit, find.offset])

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        layout = self._layout(table)
        clause, bound = _where(layout, where)
        sql = LOOK.format(rows=f"SELECT count(*) FROM {layout.name}{clause}")  # noqa: S608 - names are quoted, values bound
        found, number = await self._on(table, lambda connection: connection.fetchrow(sql, table.name, *bound))
        if found != table.fingerprint:
            raise kept_otherwise(table, found)
        return int(number)

    async def snapshot(self, state: str, key: str, fingerprint: str) -> Snapshot | None:
        """Return the snapshot of a state."""
        row = await self._run(lambda connection: connection.fetchrow(SNAPSHOT, state, key, fingerprint))
        return Snapshot(*row) if row else None

    async def keep_snapshot(self, state: str, key: str, fingerprint: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of an older one."""
        bound = (state, key, fingerprint, snapshot.position, snapshot.data)
        await self._run(lambda connection: connection.execute(KEEP_SNAPSHOT, *bound))

    def _layout(self, table: Table) -> _Layout:
        layout = self._layouts.get(table)
        if layout is None:
            layout = self._layouts[table] = _Layout(table)
        return layout

    async def _look(self, layout: _Layout, sql: str, bound: Sequence[Any]) -> list[State]:
        """Return the rows of a query whose first column is not null."""
        table = layout.table
        wrapped = LOOK.format(rows=sql)
        rows = await self._on(table, lambda connection: connection.fetch(wrapped, table.name, *bound))
        if rows[0][0] != table.fingerprint:
            raise kept_otherwise(table, rows[0][0])
        return [] if rows[0][1] is None else [layout.state(row[2:]) for row in rows]

    async def _on(self, table: Table | None, work: Callable[[Connection], Awaitable[T]]) -> Any:
        """Do some work on a table that may be another one by now."""

        async def checked(connection: Connection) -> Any:
            try:
                return await work(connection)
            except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.DatatypeMismatchError):
                found = None if table is None else await connection.fetchval(KNOWN_VIEW, table.name)
                if table is None or found == table.fingerprint:
                    raise
                raise kept_otherwise(table, found) from None
            except asyncpg.PostgresError as error:
                if error.sqlstate in NOT_TEXT:
                    raise ValueError(f"PostgreSQL cannot keep a text that holds a NUL character ({error})") from error
                raise

        return await self._run(checked)

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if not self._prepared:
            await self._connections.run(_prepare)
            self._prepared = True
        return await self._connections.run(work)


async def _prepare(connection: Connection) -> None:
    """Make the tables of the port itself exist."""
    if not await connection.fetchval(PREPARED):
        async with connection.transaction():
            await connection.execute(LOCK)
            await connection.execute(SCHEMA)


def _where(layout: _Layout, conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    """Return a clause whose values begin at $2."""
    terms: list[str] = []
    bound: list[Any] = []
    for each in conditions:
        of, name = layout.type_of(each.column), _name(each.column.name)
        if each.value is None:
            terms.append(f"{name} IS {'NOT ' if each.compare == 'ne' else ''}NULL")
        elif each.compare == "in":
            bound.append([_sent(of, value) for value in each.value])
            terms.append(f"{name} = ANY (${len(bound) + 1}::{of.name}[])")
        else:
            bound.append(_sent(of, each.value))
            terms.append(f"{name} {COMPARES[each.compare]} ${len(bound) + 1}::{of.name}")
    return (" WHERE " + " AND ".join(terms) if terms else ""), bound


def _sent(of: _Type, value: Any) -> Any:
    return value if value is None or of.send is None else of.send(value)


def _declared(of: _Type) -> str:
    return f'{of.name} COLLATE "C"' if of.name == "text" else of.name


def _name(name: str) -> str:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise WiringError(f"{name} is too long a name for PostgreSQL, which takes {MAX_NAME_BYTES} bytes")
    return quoted(name)
