"""Rows in a schema beside a log in PostgreSQL, or in a database without one."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import asyncpg

from refold.errors import MissingCapability
from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions
from refold.store.postgres import PostgresStore, read_address
from refold.store.postgres.address import Address, quoted
from refold.store.postgres.connections import PATIENCE, Connection, Connections
from refold.view.api import Expect, Held, Hit, Order, Write
from refold.view.find import Compare, Condition, Find
from refold.view.postgres.beside import AppendStep
from refold.view.postgres.columns import missing_columns
from refold.view.postgres.failure import VALUES, value_error
from refold.view.postgres.layout import Layout, declared, named, sent_as
from refold.view.postgres.step import step_of
from refold.view.search import Term, terms_of
from refold.view.table import Key, Table, not_kept

CONNECTIONS = 4
KEYS_AT_ONCE = 10_000
COMPARES: dict[Compare, str] = {"eq": "=", "ne": "IS DISTINCT FROM", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
COUNTS = "{0.25, 0.5, 0.75, 1.0}"
"""How much a word counts by its weight, 1 to 4."""

# Those that create tables wait for each other: several processes may come up at once.
LOCK = "SELECT pg_advisory_xact_lock(1382377073, hashtext(current_schema))"
LOCK_SCHEMA = "SELECT pg_advisory_xact_lock(1382377073, 0)"
HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
# Not to_regclass: what it has seen before, it may remember behind a lock.
THERE = """
SELECT EXISTS (
    SELECT FROM pg_class AS kept INNER JOIN pg_namespace AS place ON kept.relnamespace = place.oid
    WHERE place.nspname = current_schema AND kept.relname = $1
)"""
# Only for who owns the table, which another role may.
LACKS_INDEX = """
SELECT
    pg_has_role(kept.relowner, 'USAGE')
    AND NOT EXISTS (SELECT FROM pg_class AS other WHERE other.relnamespace = place.oid AND other.relname = $2)
FROM pg_class AS kept INNER JOIN pg_namespace AS place ON kept.relnamespace = place.oid
WHERE place.nspname = current_schema AND kept.relname = $1"""

T = TypeVar("T")


class PostgresViews:
    """Rows in a schema beside a log in PostgreSQL, or in a database without one."""

    def __init__(self, address: Address, *, patience: Any = PATIENCE) -> None:
        path = quoted(address.view_schema)
        self._address = address
        self._connections = Connections(address, CONNECTIONS, {}, patience, path=path)
        self._layouts: dict[Table, Layout] = {}
        self._own = False
        self._log: PostgresStore | None = None

    @classmethod
    def beside(cls, store: PostgresStore) -> "PostgresViews":
        """Return the views in the database of a log, with which they end."""
        views = cls(store.address, patience=store.patience)
        views._log = store
        store.on_close(views._connections.close)
        return views

    @classmethod
    async def open(cls, url: str) -> "PostgresViews":
        """Open views in a database where there need be no log."""
        views = cls(read_address(url))
        views._own = True

        schema = views._address.view_schema

        async def prepare(connection: Connection) -> None:
            # Looked at first: to say IF NOT EXISTS takes the right to create schemas, even where there is one.
            async with connection.transaction():
                if not await connection.fetchval(HAS_SCHEMA, schema):
                    await connection.execute(LOCK_SCHEMA)
                    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")

        try:
            await views._connections.run(prepare)
        except BaseException:
            await views.close()
            raise
        return views

    async def create(self, tables: Sequence[Table]) -> None:
        """Make tables exist."""
        layouts = [self._layout(table) for table in tables]

        async def missing(connection: Connection) -> list[str]:
            return [statement for each in layouts for statement in await _missing(connection, each)]

        async def work(connection: Connection) -> None:
            if not await missing(connection):
                return
            async with connection.transaction():
                await connection.execute(LOCK)
                for statement in await missing(connection):
                    await connection.execute(statement)

        await self._connections.run(work)

    async def widen(self, table: Table, like: Any) -> None:
        """Give a table the columns that it lacks."""
        layout = self._layout(table)
        values = dict(zip((column.name for column in table.columns), layout.sent([like]), strict=False))

        async def work(connection: Connection) -> None:
            if not await missing_columns(connection, layout):
                return
            async with connection.transaction():
                await connection.execute(LOCK)
                for column in await missing_columns(connection, layout):
                    of, name = layout.type_of(column), named(column.name)
                    await connection.execute(f"ALTER TABLE {layout.name} ADD COLUMN {name} {declared(of)}")
                    await connection.execute(f"UPDATE {layout.name} SET {name} = $1::{of.name}", values[column.name][0])  # noqa: S608 - names are quoted, values bound

        await self._on([table], work)

    async def drop(self, stored: Sequence[str]) -> None:
        """Remove tables, and what shows them under a plain name."""

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                await connection.execute(LOCK)
                for name in stored:
                    await connection.execute(f"DROP TABLE IF EXISTS {named(name)} CASCADE")

        await self._connections.run(work)

    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        """Do all the writes in one statement; see the port."""
        if not writes and not expects:
            return True
        step = step_of(writes, expects, self._layout)
        tables = list({each.table for each in (*writes, *expects)})
        sql = step.sql

        async def work(connection: Connection) -> bool:
            try:
                return bool(await connection.fetchval(sql, *step.bound))
            except asyncpg.UniqueViolationError:  # another was faster to write what must not be there
                return False

        return await self._on(tables, work)

    async def append(
        self,
        events: Sequence[NewEvent],
        condition: Conditions = None,
        *,
        append_id: str | None = None,
        writes: Sequence[Write] = (),
        expects: Sequence[Expect] = (),
    ) -> Appended | None:
        """Append to the log and do the writes, in one transaction; see the port."""
        if self._log is None:
            raise MissingCapability("these rows are in another database than the log: no step changes both")
        step = AppendStep(writes, expects, self._layout)
        return await self._log.append_with(events, condition, append_id, step)

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows that exist among these keys."""
        return {key: held.row for key, held in (await self.look(table, keys)).items()}

    async def look(self, table: Table, keys: Sequence[Key]) -> dict[Key, Held]:
        """Return the rows that exist among these keys, as they are held."""
        layout = self._layout(table)
        found: dict[Key, Held] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = list(dict.fromkeys(keys[start : start + KEYS_AT_ONCE]))
            sql = f"SELECT {layout.columns} FROM {layout.name}"  # noqa: S608 - names are quoted, values bound
            if table.key:
                sql += f" INNER JOIN unnest({layout.key_arrays(1)}) AS asked ({layout.key}) USING ({layout.key})"
            sent = layout.sent_keys(some)
            for record in await self._on([table], partial(_fetched, sql, sent)):
                values = tuple(record)
                row = layout.state(values)
                found[table.key_of(row)] = Held(row, values)
        return found

    async def find(self, table: Table, find: Find) -> list[Any]:
        """Return matching rows in order."""
        layout = self._layout(table)
        terms, bound = _where(layout, find.where)
        if find.after is not None and table.key:
            places: list[str] = []
            for name, value in zip(table.key, find.after, strict=True):
                column = table.column(name)
                bound.append(sent_as(layout.type_of(column), column.dumped(value)))
                places.append(f"${len(bound)}::{layout.type_of(column).name}")
            terms.append(f"({layout.key}) > ({', '.join(places)})")
        order = [
            f"{named(column.name)} {'DESC NULLS LAST' if down else 'ASC NULLS FIRST'}" for column, down in find.order
        ]
        order += [named(name) for name in table.key]
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
        self,
        table: Table,
        words: str,
        where: Sequence[Condition],
        limit: int,
        offset: int = 0,
        *,
        order: Order = "best",
    ) -> list[Hit]:
        """Return the rows that hold all the words, in an order."""
        asked = terms_of(table, words)
        if not asked:
            return []
        layout = self._layout(table)
        terms, bound = _where(layout, where)
        query = f"${len(bound) + 1}::text::tsquery"
        terms.append(f'"_words" @@ {query}')
        bound += [" & ".join(map(_query, asked)), limit, offset]
        clause = _clause(terms)
        rank, by = f"ts_rank_cd('{COUNTS}', \"_words\", {query})", f"1 DESC, {layout.key}"
        found = f"{layout.name}{clause}"
        if order != "best":
            way = "DESC" if order == "last" else "ASC"
            rank, by = "0", ", ".join(f"{named(name)} {way}" for name in table.key) or "1"
            # Apart, or PostgreSQL goes along the key, through all rows where few match, to come by them in order.
            found = f"(SELECT {layout.columns} FROM {found} OFFSET 0) AS found"  # noqa: S608 - names are quoted, values bound
        sql = (
            f"SELECT {rank}, {layout.columns} FROM {found} "  # noqa: S608 - names are quoted, values bound
            f"ORDER BY {by} LIMIT ${len(bound) - 1}::bigint OFFSET ${len(bound)}::bigint"
        )
        rows = await self._on([table], lambda connection: connection.fetch(sql, *bound))
        return [Hit(layout.state(row[1:]), float(row[0])) for row in rows]

    async def expose(self, table: Table) -> None:
        """Show the rows of this version under the table's plain name, where they are not there already."""
        if table.stored == table.name:
            return
        layout, name = self._layout(table), named(table.name)

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                await connection.execute(LOCK)
                await connection.execute(f"DROP VIEW IF EXISTS {name}")
                await connection.execute(f"CREATE VIEW {name} AS SELECT {layout.columns} FROM {layout.name}")  # noqa: S608 - names are quoted

        await self._on([table], work)

    async def close(self) -> None:
        """Let go of the database, if it is not the log's."""
        if self._own:
            await self._connections.close()

    def _layout(self, table: Table) -> Layout:
        layout = self._layouts.get(table)
        if layout is None:
            layout = self._layouts[table] = Layout(table)
        return layout

    async def _select(self, layout: Layout, sql: str, bound: Sequence[Any]) -> list[Any]:
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
            except VALUES as error:
                if (said := value_error(error)) is None:
                    raise
                raise said from error

        return await self._connections.run(checked)


async def _fetched(sql: str, bound: Sequence[Any], connection: Connection) -> list[asyncpg.Record]:
    return await connection.fetch(sql, *bound)


def _query(term: Term) -> str:
    quoted_words = [f"'{word}'" for word in term.words]
    return f"({' <-> '.join(quoted_words)}{':*' if term.prefix else ''})"


def _clause(terms: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(terms) if terms else ""


def _where(layout: Layout, conditions: Sequence[Condition]) -> tuple[list[str], list[Any]]:
    """Return the terms of a clause, and what is bound in them."""
    terms: list[str] = []
    bound: list[Any] = []
    for each in conditions:
        of, name = layout.type_of(each.column), named(each.column.name)
        if each.value is None:
            terms.append(f"{name} IS {'NOT ' if each.compare == 'ne' else ''}NULL")
            continue
        values: list[Any] = each.value if each.compare == "in" else [each.value]
        if each.column.form == "integer" and any(isinstance(value, float) for value in values):
            kind, sent = "numeric", list(map(Decimal, values))  # an integer may be compared with 1.5
        else:
            kind, sent = of.name, [sent_as(of, value) for value in values]
        bound.append(sent if each.compare == "in" else sent[0])
        place = f"${len(bound)}::{kind}"
        terms.append(
            f"{name} = ANY ({place}[])" if each.compare == "in" else f"{name} {COMPARES[each.compare]} {place}"
        )
    return terms, bound


async def _missing(connection: Connection, layout: Layout) -> list[str]:
    """Return the statements that make a table, or the indexes that it lacks."""
    name = layout.table.stored
    if not await connection.fetchval(THERE, name):
        return layout.create()
    indexes = layout.indexes().items()
    return [statement for index, statement in indexes if await connection.fetchval(LACKS_INDEX, name, index)]
