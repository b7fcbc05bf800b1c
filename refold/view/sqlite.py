"""Kept rows in a SQLite file, written by its one writer: all writes of a step in one transaction."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import apsw
import msgspec

from refold.errors import MissingCapability
from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions
from refold.store.sqlite import SqliteStore
from refold.store.sqlite.database import Database
from refold.store.sqlite.insert import insert
from refold.view.api import Delete, Expect, Held, Hit, Order, Put, Write
from refold.view.find import Compare, Condition, Find
from refold.view.search import Term, terms_of, words_in
from refold.view.table import Column, Form, Key, Row, Table, not_kept, unlike

TYPES: dict[Form, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "blob": "BLOB",
    "decimal": "TEXT",  # exact; compared and ordered as a REAL
    "json": "TEXT",
}
COMPARES: dict[Compare, str] = {"eq": "IS", "ne": "IS NOT", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
BOUNDS: tuple[Compare, ...] = ("lt", "le", "gt", "ge")
KEYS_AT_ONCE = 1_000
MISSING = "no such table"
THERE = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"
INDEXED = "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name = ?"
WORDS = "_words"
ROW = "_rowid_"
"""What SQLite calls the number of a row, if no field is called so."""
SHOWING = "SELECT name FROM sqlite_schema WHERE type = 'view' AND substr(sql, -length(?1)) = ?1"
"""The views that show a table; SQLite would keep them, for nothing."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


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
            return all(_is_there(connection, table) and _is_indexed(connection, table) for table in tables)

        def work(connection: apsw.Connection) -> None:
            for table in tables:
                for statement in _create(table):
                    connection.execute(statement)

        if not await self._database.read(look):
            await self._database.write(work)

    async def widen(self, table: Table, like: Any) -> None:
        """Give a table the columns that it lacks."""
        values = dict(zip((column.name for column in table.columns), table.dump(like), strict=True))

        def look(connection: apsw.Connection) -> list[Column]:
            return _missing_columns(connection, table)

        def work(connection: apsw.Connection) -> None:
            for column in _missing_columns(connection, table):
                kept, name = _quoted(table), _name(column.name)
                connection.execute(f"ALTER TABLE {kept} ADD COLUMN {name} {TYPES[column.form]}")
                connection.execute(f"UPDATE {kept} SET {name} = ?", (values[column.name],))  # noqa: S608 - names are quoted, values bound

        if await self._database.read(look):
            await self._database.write(work)

    async def drop(self, stored: Sequence[str]) -> None:
        """Remove tables."""

        def work(connection: apsw.Connection) -> None:
            for name in stored:
                kept = _name(_plain_name(name))
                showing = connection.execute(SHOWING, (f" FROM {kept}",))
                for (view,) in cast("list[tuple[str]]", showing.fetchall()):
                    connection.execute(f"DROP VIEW {_name(view)}")
                for each in (kept, _name(f"{_plain_name(name)}{WORDS}")):
                    connection.execute(f"DROP TABLE IF EXISTS {each}")

        await self._database.write(work)

    async def write(self, writes: Sequence[Write], expects: Sequence[Expect] = ()) -> bool:
        """Do all the writes in one transaction; see the port."""
        return await self._database.write(_step(writes, expects), cost=1 + _size(writes))

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
        return await self._log.append_with(events, condition, append_id, _step(writes, expects), _size(writes))

    async def get(self, table: Table, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the rows that exist among these keys."""
        return {key: held.row for key, held in (await self.look(table, keys)).items()}

    async def look(self, table: Table, keys: Sequence[Key]) -> dict[Key, Held]:
        """Return the rows that exist among these keys, as they are held."""
        found: dict[Key, Held] = {}
        sql = f"SELECT {_columns(table)} FROM {_quoted(table)} WHERE {_keyed(table)}"  # noqa: S608 - names are quoted, values bound
        for start in range(0, len(keys), KEYS_AT_ONCE):
            bound = [_dumped(table, keys[start : start + KEYS_AT_ONCE])]

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
            keys = ", ".join(map(_name, table.key))
            where += f"{' AND' if where else ' WHERE'} ({keys}) > ({', '.join('?' * len(after))})"
        order = [f"{_operand(column)} {'DESC' if down else 'ASC'}" for column, down in find.order]
        order += [_name(name) for name in table.key]
        sql = f"SELECT {_columns(table)} FROM {_quoted(table)}{where}"  # noqa: S608 - names are quoted, values bound
        if order:
            sql += f" ORDER BY {', '.join(order)}"
        sql += " LIMIT ? OFFSET ?"
        return await self._select(table, sql, [*bound, -1 if find.limit is None else find.limit, find.offset])

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        clause, bound = _where(where)
        sql = f"SELECT count(*) FROM {_quoted(table)}{clause}"  # noqa: S608 - names are quoted, values bound
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
        index = _name(_words_name(table))
        # The blanks keep these names apart from those of fields, as which FTS5 has some too.
        sql = (
            f'SELECT found."its score", {_columns(table)} FROM '  # noqa: S608 - names are quoted, values bound
            f'(SELECT rowid AS "its row", -bm25({index}, {weights}) AS "its score" FROM {index} WHERE {index} MATCH ?) '
            f'AS found JOIN {_quoted(table)} AS kept ON kept.{ROW} = found."its row"{clause} '
            f"ORDER BY 1 DESC, {', '.join(map(_name, table.key)) or '1'} LIMIT ? OFFSET ?"
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
        index, within = _name(_words_name(table)), list[Condition]()
        order = ", ".join(f"kept.{_name(name)} {way}" for name in table.key) or "1"
        if _is_numbered(table):
            within = [each for each in where if each.column.name in table.key and each.compare in BOUNDS]
            order = f'found."its row" {way}'
        bounds = "".join(f" AND rowid {COMPARES[each.compare]} ?" for each in within)
        clause, bound = _where([each for each in where if each not in within])
        sql = (
            f'SELECT {_columns(table)} FROM (SELECT rowid AS "its row" FROM {index} WHERE {index} MATCH ?{bounds}) '  # noqa: S608 - names are quoted, values bound
            f'AS found CROSS JOIN {_quoted(table)} AS kept ON kept.{ROW} = found."its row"{clause} '
            f"ORDER BY {order} LIMIT ? OFFSET ?"
        )
        asked = [" AND ".join(map(_query, terms)), *(each.value for each in within), *bound, limit, offset]
        return [Hit(row, 0.0) for row in await self._select(table, sql, asked)]

    async def expose(self, table: Table) -> None:
        """Show the rows of this version under the table's plain name, where they are not there already."""
        if table.stored == table.name:
            return
        name = _name(_plain_name(table.name))

        def work(connection: apsw.Connection) -> None:
            if not _is_there(connection, table):
                raise not_kept(table)
            connection.execute(f"DROP VIEW IF EXISTS {name}")
            connection.execute(f"CREATE VIEW {name} AS SELECT {_columns(table)} FROM {_quoted(table)}")  # noqa: S608 - names are quoted

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
                raise _missing(table, error) from None

        return await self._database.read(checked)


def _step(writes: Sequence[Write], expects: Sequence[Expect]) -> Callable[[apsw.Connection], bool]:
    """Return what does all of a write, or nothing."""
    changes = [_change(each) for each in writes]  # here, since what cannot be kept is not the writer's trouble
    checks = [_check(each) for each in expects]

    def work(connection: apsw.Connection) -> bool:
        if not all(check(connection) for check in checks):
            return False
        for change in changes:
            change(connection)
        return True

    return work


def _size(writes: Sequence[Write]) -> int:
    return sum(len(each.rows) if isinstance(each, Put) else len(each.keys) for each in writes)


def _change(write: Write) -> Callable[[apsw.Connection], object]:
    """Return what does a write, with its rows as the database holds them."""
    table = write.table
    if table.searched:
        return _done(table, _change_words(write))
    if isinstance(write, Delete):
        sql = f"DELETE FROM {_quoted(table)} WHERE {_keyed(table)}"  # noqa: S608 - names are quoted, values bound
        keys = [_dumped(table, write.keys)]
        return _done(table, lambda connection: connection.execute(sql, keys))
    rows: list[Row] = [table.dump(row) for row in write.rows]
    if write.shared:
        statement = _upsert(table)
        return _done(table, lambda connection: connection.executemany(statement, rows))
    into = f"INSERT OR REPLACE INTO {_quoted(table)} ({_columns(table)})"
    return _done(table, lambda connection: insert(connection, into, rows) if rows else None)


def _change_words(write: Write) -> Callable[[apsw.Connection], object]:
    """Return what does a write to a table that is searched, row by row together with its words."""
    table = write.table
    index, ids = _name(_words_name(table)), f"SELECT {ROW} FROM {_quoted(table)} WHERE {_keyed(table)}"  # noqa: S608 - names are quoted, values bound
    if isinstance(write, Delete):
        keys = [_dumped(table, write.keys)]

        def delete(connection: apsw.Connection) -> None:
            connection.execute(f"DELETE FROM {index} WHERE rowid IN ({ids})", keys)  # noqa: S608 - names are quoted, values bound
            connection.execute(f"DELETE FROM {_quoted(table)} WHERE {_keyed(table)}", keys)  # noqa: S608 - names are quoted, values bound

        return delete
    if _is_numbered(table) and not write.shared:
        return _put_numbered(write)
    put = f"{_upsert(table)} RETURNING {ROW}"
    words = f"INSERT OR REPLACE INTO {index} (rowid, {_fields(table)}) VALUES (?{', ?' * len(table.searched)})"  # noqa: S608 - names are quoted, values bound
    rows: list[Row] = [table.dump(row) for row in write.rows]
    fields = [[" ".join(found) for _, found in words_in(table, row)] for row in write.rows]

    def puts(connection: apsw.Connection) -> None:
        for row, found in zip(rows, fields, strict=True):
            connection.execute(words, (connection.execute(put, row).get, *found))

    return puts


def _put_numbered(write: Put) -> Callable[[apsw.Connection], object]:
    """Return what puts rows whose key is the number of the row, many at a time together with their words."""
    table = write.table
    into = f"INSERT OR REPLACE INTO {_quoted(table)} ({_columns(table)})"
    index = f"INSERT OR REPLACE INTO {_name(_words_name(table))} (rowid, {_fields(table)})"
    rows: list[Row] = [table.dump(row) for row in write.rows]
    [place] = [at for at, column in enumerate(table.columns) if column.name in table.key]
    words = [[" ".join(found) for _, found in words_in(table, row)] for row in write.rows]
    fields = [(row[place], *found) for row, found in zip(rows, words, strict=True)]

    def puts(connection: apsw.Connection) -> None:
        if rows:
            insert(connection, into, rows)
            insert(connection, index, fields)

    return puts


def _is_numbered(table: Table) -> bool:
    """Tell whether the key of a table is one whole number, which SQLite takes for the number of the row, too."""
    return [column.form for column in table.columns if column.name in table.key] == ["integer"]


def _upsert(table: Table) -> str:
    """Return the statement that puts a row; columns that the table does not know stay as they are."""
    key = ", ".join(map(_name, table.key)) or '"only_row"'
    updates = ", ".join(f"{_name(each.name)} = excluded.{_name(each.name)}" for each in table.columns)
    return (
        f"INSERT INTO {_quoted(table)} ({_columns(table)}) VALUES ({', '.join('?' * len(table.columns))}) "  # noqa: S608 - names are quoted, values bound
        f"ON CONFLICT ({key}) DO UPDATE SET {updates}"
    )


def _query(term: Term) -> str:
    return f'"{" ".join(term.words)}"{"*" if term.prefix else ""}'


def _check(expect: Expect) -> Callable[[apsw.Connection], bool]:
    table, wanted = expect.table, list[tuple[str, Any]]()
    if expect.held is not None:
        wanted += zip((column.name for column in table.columns), expect.held, strict=True)
    wanted += [(name, table.column(name).dumped(value)) for name, value in (expect.values or {}).items()]
    tests = "".join(f" AND {_name(name)} IS ?" for name, _ in wanted)
    sql = f"SELECT 1 FROM {_quoted(table)} WHERE {_keyed(table)}{tests}"  # noqa: S608 - names are quoted, values bound
    bound = [_dumped(table, [expect.key]), *(value for _, value in wanted)]
    there = _done(table, lambda connection: connection.execute(sql, bound).get is not None)
    return there if not expect.absent else lambda connection: not there(connection)


def _done(table: Table, work: Callable[[apsw.Connection], T]) -> Callable[[apsw.Connection], T]:
    def checked(connection: apsw.Connection) -> T:
        try:
            return work(connection)
        except apsw.SQLError as error:
            raise _missing(table, error) from None
        except (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError) as error:
            raise ValueError(f"SQLite cannot keep a row of {table.name}: {error}") from error

    return checked


def _missing(table: Table, error: apsw.SQLError) -> Exception:
    return not_kept(table) if str(error).endswith(f"{MISSING}: {_plain_name(table.stored)}") else error


def _keyed(table: Table) -> str:
    """Return the condition for rows by key: the keys come as one JSON array, so that it is the same for any number."""
    if not table.key:
        return "json_array_length(?) > 0"
    wanted = ", ".join(f"value ->> {index}" for index in range(len(table.key)))
    return f"({', '.join(map(_name, table.key))}) IN (SELECT {wanted} FROM json_each(?))"  # noqa: S608 - names are quoted


def _dumped(table: Table, keys: Sequence[Key]) -> bytes:
    columns = [table.column(name) for name in table.key]
    return _encode([[column.dumped(value) for column, value in zip(columns, key, strict=True)] for key in keys])


def _is_there(connection: apsw.Connection, table: Table) -> bool:
    """Look for a table; not with `table_exists`, which may remember one that another connection has dropped."""
    return bool(connection.execute(THERE, (_plain_name(table.stored),)).get)


def _is_indexed(connection: apsw.Connection, table: Table) -> bool:
    return all(connection.execute(INDEXED, (_index_name(table, names),)).get for names in table.indexes)


def _missing_columns(connection: apsw.Connection, table: Table) -> list[Column]:
    """Return the columns that a table in the database lacks, or raise `WiringError` if it could not just get them."""
    found = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (_plain_name(table.stored),))
    rows = cast("list[tuple[str, str, int]]", found.fetchall())
    if not rows:
        raise not_kept(table)
    there = {name: of for name, of, _ in rows}
    key = [name for name, _, place in sorted(rows, key=lambda row: row[2]) if place]
    if key != (list(table.key) or ["only_row"]):
        raise unlike(table, f"its key is {', '.join(key)}")
    words: int = connection.execute("SELECT count(*) FROM pragma_table_info(?)", (_words_name(table),)).get
    if words != len(table.searched):
        raise unlike(table, f"{words} of its columns are searched")
    for column in table.columns:
        if there.get(column.name, TYPES[column.form]) != TYPES[column.form]:
            raise unlike(table, f"its column {column.name} is {there[column.name]}")
    return [column for column in table.columns if column.name not in there]


def _create(table: Table) -> list[str]:
    columns = [f"{_name(column.name)} {TYPES[column.form]}" for column in table.columns]
    # A table without a key holds one row: it has a column that can only be 1.
    key = ", ".join(map(_name, table.key)) or '"only_row"'
    columns += [] if table.key else ['"only_row" INTEGER NOT NULL DEFAULT 1 CHECK ("only_row" = 1)']
    create = f"CREATE TABLE IF NOT EXISTS {_quoted(table)} ({', '.join(columns)}, PRIMARY KEY ({key}))"
    indexes = [
        f"CREATE INDEX IF NOT EXISTS {_name(_index_name(table, names))} "
        f"ON {_quoted(table)} ({', '.join(map(_name, names))})"
        for names in table.indexes
    ]
    if not table.searched:
        return [f"{create} STRICT, WITHOUT ROWID", *indexes]
    # What it is fed are words already: ASCII leaves them as they are, whatever they are made of.
    fts = (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {_name(_words_name(table))} "
        f"USING fts5({_fields(table)}, content='', contentless_delete=1, tokenize='ascii')"
    )
    return [f"{create} STRICT", *indexes, fts]


def _fields(table: Table) -> str:
    """Return the columns of the words of a table: FTS5 gives a meaning to some names, so these have numbers."""
    return ", ".join(f"field{number}" for number in range(len(table.searched)))


def _words_name(table: Table) -> str:
    return f"{_plain_name(table.stored)}{WORDS}"


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


def _index_name(table: Table, names: Sequence[str]) -> str:
    return f"{_plain_name(table.stored)}_{'_'.join(names)}"


def _plain_name(name: str) -> str:
    return f"view_{name}"


def _quoted(table: Table) -> str:
    return _name(_plain_name(table.stored))


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
