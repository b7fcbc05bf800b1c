"""All that one step changes: rows and their words, if what is expected of others is so."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import apsw

from refold.store.sqlite.insert import insert
from refold.view.api import Delete, Expect, Put, Write
from refold.view.search import words_in
from refold.view.sqlite.layout import (
    ROW,
    column_names,
    dumped,
    is_numbered,
    keyed,
    missing,
    named,
    quoted,
    word_fields,
    words_name,
)
from refold.view.table import Row, Table

T = TypeVar("T")


def step_of(writes: Sequence[Write], expects: Sequence[Expect]) -> Callable[[apsw.Connection], bool]:
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


def size_of(writes: Sequence[Write]) -> int:
    """Count the rows that are written."""
    return sum(len(each.rows) if isinstance(each, Put) else len(each.keys) for each in writes)


def _change(write: Write) -> Callable[[apsw.Connection], object]:
    """Return what does a write, with its rows as the database holds them."""
    table = write.table
    if table.searched:
        return _done(table, _change_words(write))
    if isinstance(write, Delete):
        sql = f"DELETE FROM {quoted(table)} WHERE {keyed(table)}"  # noqa: S608 - names are quoted, values bound
        keys = [dumped(table, write.keys)]
        return _done(table, lambda connection: connection.execute(sql, keys))
    rows: list[Row] = [table.dump(row) for row in write.rows]
    if write.shared:
        statement = _upsert(table)
        return _done(table, lambda connection: connection.executemany(statement, rows))
    into = f"INSERT OR REPLACE INTO {quoted(table)} ({column_names(table)})"
    return _done(table, lambda connection: insert(connection, into, rows) if rows else None)


def _change_words(write: Write) -> Callable[[apsw.Connection], object]:
    """Return what does a write to a table that is searched, row by row together with its words."""
    table = write.table
    index, ids = named(words_name(table)), f"SELECT {ROW} FROM {quoted(table)} WHERE {keyed(table)}"  # noqa: S608 - names are quoted, values bound
    if isinstance(write, Delete):
        keys = [dumped(table, write.keys)]

        def delete(connection: apsw.Connection) -> None:
            connection.execute(f"DELETE FROM {index} WHERE rowid IN ({ids})", keys)  # noqa: S608 - names are quoted, values bound
            connection.execute(f"DELETE FROM {quoted(table)} WHERE {keyed(table)}", keys)  # noqa: S608 - names are quoted, values bound

        return delete
    if is_numbered(table) and not write.shared:
        return _put_numbered(write)
    put = f"{_upsert(table)} RETURNING {ROW}"
    words = f"INSERT OR REPLACE INTO {index} (rowid, {word_fields(table)}) VALUES (?{', ?' * len(table.searched)})"  # noqa: S608 - names are quoted, values bound
    rows: list[Row] = [table.dump(row) for row in write.rows]
    fields = [[" ".join(found) for _, found in words_in(table, row)] for row in write.rows]

    def puts(connection: apsw.Connection) -> None:
        for row, found in zip(rows, fields, strict=True):
            connection.execute(words, (connection.execute(put, row).get, *found))

    return puts


def _put_numbered(write: Put) -> Callable[[apsw.Connection], object]:
    """Return what puts rows whose key is the number of the row, many at a time together with their words."""
    table = write.table
    into = f"INSERT OR REPLACE INTO {quoted(table)} ({column_names(table)})"
    index = f"INSERT OR REPLACE INTO {named(words_name(table))} (rowid, {word_fields(table)})"
    rows: list[Row] = [table.dump(row) for row in write.rows]
    [place] = [at for at, column in enumerate(table.columns) if column.name in table.key]
    words = [[" ".join(found) for _, found in words_in(table, row)] for row in write.rows]
    fields = [(row[place], *found) for row, found in zip(rows, words, strict=True)]

    def puts(connection: apsw.Connection) -> None:
        if rows:
            insert(connection, into, rows)
            insert(connection, index, fields)

    return puts


def _upsert(table: Table) -> str:
    """Return the statement that puts a row; columns that the table does not know stay as they are."""
    key = ", ".join(map(named, table.key)) or '"only_row"'
    updates = ", ".join(f"{named(each.name)} = excluded.{named(each.name)}" for each in table.columns)
    return (
        f"INSERT INTO {quoted(table)} ({column_names(table)}) VALUES ({', '.join('?' * len(table.columns))}) "  # noqa: S608 - names are quoted, values bound
        f"ON CONFLICT ({key}) DO UPDATE SET {updates}"
    )


def _check(expect: Expect) -> Callable[[apsw.Connection], bool]:
    table, wanted = expect.table, list[tuple[str, Any]]()
    if expect.held is not None:
        wanted += zip((column.name for column in table.columns), expect.held, strict=True)
    wanted += [(name, table.column(name).dumped(value)) for name, value in (expect.values or {}).items()]
    tests = "".join(f" AND {named(name)} IS ?" for name, _ in wanted)
    sql = f"SELECT 1 FROM {quoted(table)} WHERE {keyed(table)}{tests}"  # noqa: S608 - names are quoted, values bound
    bound = [dumped(table, [expect.key]), *(value for _, value in wanted)]
    there = _done(table, lambda connection: connection.execute(sql, bound).get is not None)
    return there if not expect.absent else lambda connection: not there(connection)


def _done(table: Table, work: Callable[[apsw.Connection], T]) -> Callable[[apsw.Connection], T]:
    def checked(connection: apsw.Connection) -> T:
        try:
            return work(connection)
        except apsw.SQLError as error:
            raise missing(table, error) from None
        except (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError) as error:
            raise ValueError(f"SQLite cannot keep a row of {table.name}: {error}") from error

    return checked
