"""How SQLite holds a table: its names, its statements, and what it lacks of what a program has."""

from collections.abc import Sequence
from typing import cast

import apsw
import msgspec

from refold.view.table import Column, Form, Key, Table, not_kept, unlike

TYPES: dict[Form, str] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "blob": "BLOB",
    "decimal": "TEXT",  # exact; compared and ordered as a REAL
    "json": "TEXT",
}
MISSING = "no such table"
THERE = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"
INDEXED = "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name = ?"
WORDS = "_words"
ROW = "_rowid_"
"""What SQLite calls the number of a row, if no field is called so."""

_encode = msgspec.json.Encoder().encode


def creating(table: Table) -> list[str]:
    """Return the statements that make a table exist, with its indexes and the index of its words."""
    columns = [f"{named(column.name)} {TYPES[column.form]}" for column in table.columns]
    # A table without a key holds one row: it has a column that can only be 1.
    key = ", ".join(map(named, table.key)) or '"only_row"'
    columns += [] if table.key else ['"only_row" INTEGER NOT NULL DEFAULT 1 CHECK ("only_row" = 1)']
    create = f"CREATE TABLE IF NOT EXISTS {quoted(table)} ({', '.join(columns)}, PRIMARY KEY ({key}))"
    indexes = [
        f"CREATE INDEX IF NOT EXISTS {named(_index_name(table, names))} "
        f"ON {quoted(table)} ({', '.join(map(named, names))})"
        for names in table.indexes
    ]
    if not table.searched:
        return [f"{create} STRICT, WITHOUT ROWID", *indexes]
    # What it is fed are words already: ASCII leaves them as they are, whatever they are made of.
    fts = (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {named(words_name(table))} "
        f"USING fts5({word_fields(table)}, content='', contentless_delete=1, tokenize='ascii')"
    )
    return [f"{create} STRICT", *indexes, fts]


def is_there(connection: apsw.Connection, table: Table) -> bool:
    """Look for a table; not with `table_exists`, which may remember one that another connection has dropped."""
    return bool(connection.execute(THERE, (plain_name(table.stored),)).get)


def is_indexed(connection: apsw.Connection, table: Table) -> bool:
    """Look for all indexes of a table."""
    return all(connection.execute(INDEXED, (_index_name(table, names),)).get for names in table.indexes)


def missing_columns(connection: apsw.Connection, table: Table) -> list[Column]:
    """Return the columns that a table in the database lacks, or raise `WiringError` if it could not just get them."""
    found = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (plain_name(table.stored),))
    rows = cast("list[tuple[str, str, int]]", found.fetchall())
    if not rows:
        raise not_kept(table)
    there = {name: of for name, of, _ in rows}
    key = [name for name, _, place in sorted(rows, key=lambda row: row[2]) if place]
    if key != (list(table.key) or ["only_row"]):
        raise unlike(table, f"its key is {', '.join(key)}")
    words: int = connection.execute("SELECT count(*) FROM pragma_table_info(?)", (words_name(table),)).get
    if words != len(table.searched):
        raise unlike(table, f"{words} of its columns are searched")
    for column in table.columns:
        if there.get(column.name, TYPES[column.form]) != TYPES[column.form]:
            raise unlike(table, f"its column {column.name} is {there[column.name]}")
    return [column for column in table.columns if column.name not in there]


def missing(table: Table, error: apsw.SQLError) -> Exception:
    """Return what an error means: that this table is not kept, or what it says."""
    return not_kept(table) if str(error).endswith(f"{MISSING}: {plain_name(table.stored)}") else error


def is_numbered(table: Table) -> bool:
    """Tell whether the key of a table is one whole number, which SQLite takes for the number of the row, too."""
    return [column.form for column in table.columns if column.name in table.key] == ["integer"]


def keyed(table: Table) -> str:
    """Return the condition for rows by key: the keys come as one JSON array, so that it is the same for any number."""
    if not table.key:
        return "json_array_length(?) > 0"
    wanted = ", ".join(f"value ->> {index}" for index in range(len(table.key)))
    return f"({', '.join(map(named, table.key))}) IN (SELECT {wanted} FROM json_each(?))"  # noqa: S608 - names are quoted


def dumped(table: Table, keys: Sequence[Key]) -> bytes:
    """Return keys as `keyed` takes them."""
    columns = [table.column(name) for name in table.key]
    return _encode([[column.dumped(value) for column, value in zip(columns, key, strict=True)] for key in keys])


def column_names(table: Table) -> str:
    """Return the columns of a table, for a statement."""
    return ", ".join(named(column.name) for column in table.columns)


def word_fields(table: Table) -> str:
    """Return the columns of the words of a table: FTS5 gives a meaning to some names, so these have numbers."""
    return ", ".join(f"field{number}" for number in range(len(table.searched)))


def words_name(table: Table) -> str:
    """Return the name of the index of the words of a table, without quotes."""
    return f"{plain_name(table.stored)}{WORDS}"


def _index_name(table: Table, names: Sequence[str]) -> str:
    return f"{plain_name(table.stored)}_{'_'.join(names)}"


def plain_name(name: str) -> str:
    """Return what a table is called in the database, without quotes."""
    return f"view_{name}"


def quoted(table: Table) -> str:
    """Return what a version of a table is called, for a statement."""
    return named(plain_name(table.stored))


def named(name: str) -> str:
    """Return a name in quotes."""
    return '"' + name.replace('"', '""') + '"'
