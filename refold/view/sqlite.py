"""Kept rows in the SQLite file of the log, written by its one writer: rows and checkpoint in one transaction."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from refold.model.state import State
from refold.store.sqlite.database import Database
from refold.store.sqlite.insert import insert
from refold.view.api import Compare, Condition, Find, Form, Key, Snapshot, Table, kept_otherwise

SCHEMA = (Path(__file__).parent / "sqlite.sql").read_text()
TYPES: dict[Form, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "blob": "BLOB",
    "decimal": "TEXT",  # exact; compared and ordered as a REAL
    "json": "TEXT",
}
COMPARES: dict[Compare, str] = {"eq": "IS", "ne": "IS NOT", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
KEYS_AT_ONCE = 1_000

CHECKPOINT = "SELECT position FROM subscription WHERE name = ?"
MOVE = """
INSERT INTO subscription (name, position) VALUES (:name, :after)
ON CONFLICT (name) DO UPDATE SET position = excluded.position"""
KNOWN_VIEW = "SELECT fingerprint FROM view WHERE name = ?"
PUT_VIEW = "INSERT OR REPLACE INTO view (name, fingerprint) VALUES (?, ?)"
FORGET = "DELETE FROM subscription WHERE name = ?"
SNAPSHOT = "SELECT position, data FROM snapshot WHERE state = ? AND key = ? AND fingerprint = ?"
KEEP_SNAPSHOT = """
INSERT INTO snapshot (state, key, fingerprint, position, data) VALUES (:state, :key, :fingerprint, :position, :data)
ON CONFLICT (state, key) DO UPDATE
SET fingerprint = excluded.fingerprint, position = excluded.position, data = excluded.data
WHERE snapshot.fingerprint != excluded.fingerprint OR snapshot.position < excluded.position"""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class SqliteViews:
    """Tables, checkpoints and snapshots in the file of the log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, table: Table) -> None:
        """Make the table exist; see the port."""

        def work(connection: apsw.Connection) -> None:
            if connection.execute(KNOWN_VIEW, (table.name,)).get != table.fingerprint:
                connection.execute(f"DROP TABLE IF EXISTS {_quoted(table)}")
                connection.execute(_create(table))
                connection.execute(FORGET, (table.name,))
                connection.execute(PUT_VIEW, (table.name, table.fingerprint))

        await self._prepare()
        await self._database.write(work)

    async def checkpoint(self, subscription: str) -> int:
        """Return how far a subscription has come."""
        return await self._read(lambda connection: _checkpoint(connection, subscription))

    async def advance(
        self, subscription: str, *, before: int, after: int, table: Table | None = None, rows: Sequence[State] = ()
    ) -> bool:
        """Put rows in place and move the checkpoint on; see the port."""
        values = [table.dump(row) for row in rows] if table else []

        def work(connection: apsw.Connection) -> bool:
            if table is not None:
                _check_ours(connection, table)
            if _checkpoint(connection, subscription) != before:
                return False
            if table is not None and values:
                insert(connection, f"INSERT OR REPLACE INTO {_quoted(table)} ({_columns(table)})", values)
            connection.execute(MOVE, {"name": subscription, "after": after})
            return True

        return await self._database.write(work, cost=1 + len(rows))

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, State]:
        """Return the rows that exist among these keys."""
        found: dict[Key, State] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            work = partial(_get, table=table, keys=keys[start : start + KEYS_AT_ONCE])
            for row in await self._read(work):
                found[table.key_of(row)] = row
        return found

    async def find(self, table: Table, find: Find) -> list[State]:
        """Return matching rows in order."""
        where, bound = _where(find.where)
        order = [f"{_operand(column)} {'DESC' if down else 'ASC'}" for column, down in find.order]
        order += [_name(name) for name in table.key]
        sql = f"SELECT {_columns(table)} FROM {_quoted(table)}{where}"  # noqa: S608 - names are quoted, values bound
        if order:
            sql += f" ORDER BY {', '.join(order)}"
        sql += " LIMIT ? OFFSET ?"
        bound += [-1 if find.limit is None else find.limit, find.offset]

        def work(connection: apsw.Connection) -> list[State]:
            _check_ours(connection, table)
            return [table.parse(row) for row in connection.execute(sql, bound)]

        return await self._read(work)

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        clause, bound = _where(where)
        sql = f"SELECT count(*) FROM {_quoted(table)}{clause}"  # noqa: S608 - names are quoted, values bound

        def work(connection: apsw.Connection) -> int:
            _check_ours(connection, table)
            return int(connection.execute(sql, bound).get)

        return await self._read(work)

    async def snapshot(self, state: str, key: str, fingerprint: str) -> Snapshot | None:
        """Return the snapshot of a state."""
        row = await self._read(lambda connection: connection.execute(SNAPSHOT, (state, key, fingerprint)).fetchone())
        return Snapshot(row[0], row[1]) if row else None

    async def keep_snapshot(self, state: str, key: str, fingerprint: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of an older one."""
        bound: dict[str, Any] = {"state": state, "key": key, "fingerprint": fingerprint}
        bound |= {"position": snapshot.position, "data": snapshot.data}
        await self._prepare()
        await self._database.write(lambda connection: connection.execute(KEEP_SNAPSHOT, bound))

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        await self._prepare()
        return await self._database.read(work)

    _prepared = False

    async def _prepare(self) -> None:
        """Make the tables of the port itself exist."""
        if not self._prepared:
            await self._database.write(lambda connection: connection.execute(SCHEMA))
            self._prepared = True


def _checkpoint(connection: apsw.Connection, subscription: str) -> int:
    return int(connection.execute(CHECKPOINT, (subscription,)).get or 0)


def _get(connection: apsw.Connection, *, table: Table, keys: Sequence[Key]) -> list[State]:
    """Select rows by key: the keys come as one JSON array, so that the statement is the same for any number."""
    sql = f"SELECT {_columns(table)} FROM {_quoted(table)}"  # noqa: S608 - names are quoted, values bound
    bound: list[Any] = []
    if table.key:
        by_name = {column.name: column for column in table.columns}
        dumped = [[by_name[name].dumped(value) for name, value in zip(table.key, key, strict=True)] for key in keys]
        wanted = ", ".join(f"value ->> {index}" for index in range(len(table.key)))
        sql += f" WHERE ({', '.join(map(_name, table.key))}) IN (SELECT {wanted} FROM json_each(?))"  # noqa: S608 - as above
        bound.append(_encode(dumped))
    _check_ours(connection, table)
    return [table.parse(row) for row in connection.execute(sql, bound)]


def _check_ours(connection: apsw.Connection, table: Table) -> None:
    kept = connection.execute(KNOWN_VIEW, (table.name,)).get
    if kept != table.fingerprint:
        raise kept_otherwise(table, kept)


def _create(table: Table) -> str:
    columns = [f"{_name(column.name)} {TYPES[column.form]}" for column in table.columns]
    # A Singleton has no key; a column that can only be 1 lets its table hold one row.
    key = ", ".join(map(_name, table.key)) or '"only_row"'
    columns += [] if table.key else ['"only_row" INTEGER NOT NULL DEFAULT 1 CHECK ("only_row" = 1)']
    return f"CREATE TABLE {_quoted(table)} ({', '.join(columns)}, PRIMARY KEY ({key})) STRICT, WITHOUT ROWID"


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
    return _operand_of(column.form, _name(column.name))


def _operand_of(form: Form, sql: str) -> str:
    return f"CAST({sql} AS REAL)" if form == "decimal" else sql


def _columns(table: Table) -> str:
    return ", ".join(_name(column.name) for column in table.columns)


def _quoted(table: Table) -> str:
    return _name(f"view_{table.name}")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
