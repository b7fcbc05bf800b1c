"""Kept rows in a SQLite file, written by its one writer: all writes of a step in one transaction."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import apsw

from refold.errors import MissingCapability
from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions
from refold.store.sqlite import SqliteStore
from refold.store.sqlite.database import Database
from refold.view.api import Expect, Held, Hit, Order, Write
from refold.view.find import Compare, Condition, Find
from refold.view.search import Term, terms_of
from refold.view.sqlite.layout import (
    ROW,
    TYPES,
    WORDS,
    column_names,
    creating,
    dumped,
    is_indexed,
    is_numbered,
    is_there,
    keyed,
    missing,
    missing_columns,
    named,
    plain_name,
    quoted,
    words_name,
)
from refold.view.sqlite.step import size_of, step_of
from refold.view.table import Column, Form, Key, Table, not_kept

COMPARES: dict[Compare, str] = {"eq": "IS", "ne": "IS NOT", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
BOUNDS: tuple[Compare, ...] = ("lt", "le", "gt", "ge")
KEYS_AT_ONCE = 1_000
SHOWING = "SELECT name FROM sqlite_schema WHERE type = 'view' AND substr(sql, -length(?1)) = ?1"
"""The views that show a table; SQLite would keep them, for nothing."""

T = TypeVar("T")


class SqliteViews:
    """Rows in the file of the log, or in one of their own."""

    def __init__(self, database: Database, *, own: bool = False) -> None:
        self._database = database
        self._own = own
        self._log: SqliteStore | None = None

    @classmethod
    def beside(cls, log: SqliteStore) -> "SqliteViews":
        """Return the views in the file of a log."""
        views = cls(log.database)
        views._log = log
        return views

    async def create(self, tables: Sequence[Table]) -> None:
        """Make tables exist."""

        def look(connection: apsw.Connection) -> bool:
            return all(is_there(connection, table) and is_indexed(connection, table) for table in tables)

        def work(connection: apsw.Connection) -> None:
            for table in tables:
                for statement in creating(table):
                    connection.execute(statement)

        if not await self._database.read(look):
            await self._database.write(work)

    async def widen(self, table: Table, like: Any) -> None:
        """Give a table the columns that it lacks."""
        values = dict(zip((column.name for column in table.columns), table.dump(like), strict=True))

        def look(connection: apsw.Connection) -> list[Column]:
            return missing_columns(connection, table)

        def work(connection: apsw.Connection) -> None:
            for column in missing_columns(connection, table):
                kept, name = quoted(table), named(column.name)
                connection.execute(f"ALTER TABLE {kept} ADD COLUMN {name} {TYPES[column.form]}")
                connection.execute(f"UPDATE {kept} SET {name} = ?", (values[column.name],))  # noqa: S608 - names are quoted, values bound

        if await self._database.read(look):
            await self._database.write(work)

    async def drop(self, stored: Sequence[str]) -> None:
        """Remove tables."""

        def work(connection: apsw.Connection) -> None:
            for name in stored:
                kept = named(plain_name(name))
                showing = connection.execute(SHOWING, (f" FROM {kept}",))
                for (view,) in cast("list[tuple[str]]", showing.fetchall()):
                    connection.execute(f"DROP VIEW {named(view)}")
                for each in (kept, named(f"{plain_name(name)}{WORDS}")):
                    connection.execute(f"DROP TABLE IF EXISTS {each}")

        await self._database.write(work)

    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        """Do all the writes in one transaction; see the port."""
        return await self._database.write(step_of(writes, expects), cost=1 + size_of(writes))

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
        return await self._log.append_with(events, condition, append_id, step_of(writes, expects), size_of(writes))

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows that exist among these keys."""
        return {key: held.row for key, held in (await self.look(table, keys)).items()}

    async def look(self, table: Table, keys: Sequence[Key]) -> dict[Key, Held]:
        """Return the rows that exist among these keys, as they are held."""
        found: dict[Key, Held] = {}
        sql = f"SELECT {column_names(table)} FROM {quoted(table)} WHERE {keyed(table)}"  # noqa: S608 - names are quoted, values bound
        for start in range(0, len(keys), KEYS_AT_ONCE):
            bound = [dumped(table, keys[start : start + KEYS_AT_ONCE])]

            def work(connection: apsw.Connection, bound: list[bytes] = bound) -> list[Held]:
                return [Held(table.parse(row), row) for row in connection.execute(sql, bound)]

            for held in await self._read(table, work):
                found[table.key_of(held.row)] = held
        return found

    async def find(self, table: Table, find: Find) -> list[Any]:
        """Return matching rows in order."""
        where, bound = _where(find.where)
        if find.after is not None and table.key:
            after = [table.column(name).dumped(value) for name, value in zip(table.key, find.after, strict=True)]
            bound += after
            keys = ", ".join(map(named, table.key))
            where += f"{' AND' if where else ' WHERE'} ({keys}) > ({', '.join('?' * len(after))})"
        order = [f"{_operand(column)} {'DESC' if down else 'ASC'}" for column, down in find.order]
        order += [named(name) for name in table.key]
        sql = f"SELECT {column_names(table)} FROM {quoted(table)}{where}"  # noqa: S608 - names are quoted, values bound
        if order:
            sql += f" ORDER BY {', '.join(order)}"
        sql += " LIMIT ? OFFSET ?"
        return await self._select(table, sql, [*bound, -1 if find.limit is None else find.limit, find.offset])

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        clause, bound = _where(where)
        sql = f"SELECT count(*) FROM {quoted(table)}{clause}"  # noqa: S608 - names are quoted, values bound
        return int(await self._read(table, lambda connection: connection.execute(sql, bound).get))

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
        terms = terms_of(table, words)
        if not terms:
            return []
        if order != "best":
            return await self._search_by_key(table, terms, where, limit, offset, "DESC" if order == "last" else "ASC")
        clause, bound = _where(where)
        weights = ", ".join(str(column.weight) for column in table.searched)
        index = named(words_name(table))
        # The blanks keep these names apart from those of fields, as which FTS5 has some too.
        sql = (
            f'SELECT found."its score", {column_names(table)} FROM '  # noqa: S608 - names are quoted, values bound
            f'(SELECT rowid AS "its row", -bm25({index}, {weights}) AS "its score" FROM {index} WHERE {index} MATCH ?) '
            f'AS found JOIN {quoted(table)} AS kept ON kept.{ROW} = found."its row"{clause} '
            f"ORDER BY 1 DESC, {', '.join(map(named, table.key)) or '1'} LIMIT ? OFFSET ?"
        )
        bound = [" AND ".join(map(_query, terms)), *bound, limit, offset]

        def work(connection: apsw.Connection) -> list[Hit]:
            return [Hit(table.parse(row[1:]), row[0]) for row in connection.execute(sql, bound)]

        return await self._read(table, work)

    async def _search_by_key(
        self, table: Table, terms: Sequence[Term], where: Sequence[Condition], limit: int, offset: int, way: str
    ) -> list[Hit]:
        """Return the rows that hold all the words, by key.

        A key that is one whole number is the number of the row, too: then FTS5 gives the rows in order, from where
        they are asked for, and no more of them are looked at than are wanted.
        """
        index, within = named(words_name(table)), list[Condition]()
        order = ", ".join(f"kept.{named(name)} {way}" for name in table.key) or "1"
        if is_numbered(table):
            within = [each for each in where if each.column.name in table.key and each.compare in BOUNDS]
            order = f'found."its row" {way}'
        bounds = "".join(f" AND rowid {COMPARES[each.compare]} ?" for each in within)
        clause, bound = _where([each for each in where if each not in within])
        sql = (
            f'SELECT {column_names(table)} FROM (SELECT rowid AS "its row" FROM {index} WHERE {index} MATCH ?{bounds}) '  # noqa: S608 - names are quoted, values bound
            f'AS found CROSS JOIN {quoted(table)} AS kept ON kept.{ROW} = found."its row"{clause} '
            f"ORDER BY {order} LIMIT ? OFFSET ?"
        )
        asked = [" AND ".join(map(_query, terms)), *(each.value for each in within), *bound, limit, offset]
        return [Hit(row, 0.0) for row in await self._select(table, sql, asked)]

    async def expose(self, table: Table) -> None:
        """Show the rows of this version under the table's plain name, where they are not there already."""
        if table.stored == table.name:
            return
        name = named(plain_name(table.name))

        def work(connection: apsw.Connection) -> None:
            if not is_there(connection, table):
                raise not_kept(table)
            connection.execute(f"DROP VIEW IF EXISTS {name}")
            connection.execute(f"CREATE VIEW {name} AS SELECT {column_names(table)} FROM {quoted(table)}")  # noqa: S608 - names are quoted

        await self._database.write(work)

    async def close(self) -> None:
        """Close the file, if it is not the log's."""
        if self._own:
            await self._database.close()

    async def _select(self, table: Table, sql: str, bound: Sequence[Any]) -> list[Any]:
        def work(connection: apsw.Connection) -> list[Any]:
            return [table.parse(row) for row in connection.execute(sql, bound)]

        return await self._read(table, work)

    async def _read(self, table: Table, work: Callable[[apsw.Connection], T]) -> T:
        def checked(connection: apsw.Connection) -> T:
            try:
                return work(connection)
            except apsw.SQLError as error:
                raise missing(table, error) from None

        return await self._database.read(checked)


def _query(term: Term) -> str:
    return f'"{" ".join(term.words)}"{"*" if term.prefix else ""}'


def _where(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    terms: list[str] = []
    bound: list[Any] = []
    for each in conditions:
        if each.compare == "in":
            choices = ", ".join([_operand_of(each.column.form, "?")] * len(each.value))
            terms.append(f"{_operand(each.column)} IN ({choices})")
            bound += each.value
        else:
            value = _operand_of(each.column.form, "?")
            terms.append(f"{_operand(each.column)} {COMPARES[each.compare]} {value}")
            bound.append(each.value)
    return (" WHERE " + " AND ".join(terms) if terms else ""), bound


def _operand(column: Any) -> str:
    return _operand_of(column.form, named(column.name))


def _operand_of(form: Form, sql: str) -> str:
    return f"CAST({sql} AS REAL)" if form == "decimal" else sql
