"""Asking: SQL over the files of a mirror, by DuckDB, which may do nothing but read them.

Each query is one SELECT. DuckDB is told, and locked, to open no file but those in the manifest, to load no extension
and to see no variable of the program; which table functions a query calls is looked at before it runs.
"""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import duckdb
import msgspec
import polars as pl
from msgspec import Struct

from refold.errors import InvalidQuery, NotAStore, StoreDamaged, StoreError
from refold.view.parquet import manifest
from refold.view.parquet.column import quoted
from refold.view.parquet.database import DATA, named_tables, open_database, sql_type
from refold.view.parquet.manifest import Field, Manifest, Table
from refold.view.parquet.tables import ALL, COMMON, UNREAD

MEMORY = "1GB"
ROWS = 1_000_000
SECONDS = 30.0
TRIES = 5
FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "json_each", "json_tree"})
"""The table functions that a query may call: those that look at nothing outside of it."""
_ARROW = frozenset(
    {"boolean", "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint"}
    | {"float", "double", "decimal", "varchar", "blob", "enum", "uuid", "null", "list", "struct", "map", "array"}
    | {"date", "time", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"}
)
"""The types that Polars takes as they are; others become text."""


class TableInfo(Struct, frozen=True):
    """A table that SQL can ask for."""

    name: str
    kind: str
    """`events` or `view`."""
    rows: int
    position: int
    """Up to which events are in it."""
    columns: tuple[Field, ...]


class Answer:
    """What a query found; `position` is that of the mirror that it asked, `truncated` says that there is more."""

    def __init__(self, frame: pl.DataFrame, position: int, *, truncated: bool) -> None:
        self._frame = frame
        self.position = position
        self.truncated = truncated

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self._frame.columns

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows as Python values; Decimals are exact, and times in UTC."""
        return self._frame.rows()

    def pl(self) -> pl.DataFrame:
        """Return the rows as a Polars frame."""
        return self._frame

    def arrow(self) -> Any:
        """Return the rows as a `pyarrow.Table`; this takes pyarrow."""
        return cast(Any, self._frame).to_arrow()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the rows to any library that speaks Arrow."""
        return self._frame.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self._frame.height


class Reader:
    """Asks a mirror that any process may be writing to, as it stood at one position."""

    def __init__(self, folder: Path, *, memory: str = MEMORY, before: Manifest | None = None) -> None:
        """Name a folder, and what to answer from before there is a mirror in it; without that, it is an error."""
        self._before = before
        self._folder = folder.absolute()
        self._memory = memory
        self._lock = threading.Lock()
        self._opened: tuple[Manifest, duckdb.DuckDBPyConnection] | None = None

    def tables(self) -> list[TableInfo]:
        """Return the tables there are, by name."""
        found = self._read()
        common = tuple(Field(each.name, each.form.sql) for each in COMMON)
        total = sum(file.rows for name, table in found.events.items() if name != UNREAD for file in table.files)
        all_events = TableInfo(
            ALL, "events", total, found.position, (*common[:1], Field("type", "VARCHAR"), *common[1:], DATA)
        )
        return [all_events, *(_info(found, name, table) for name, table in named_tables(found).items())]

    def query(
        self,
        sql: str,
        values: Sequence[Any] | Mapping[str, Any] = (),
        *,
        limit_rows: int = ROWS,
        seconds: float = SECONDS,
        cut: bool = False,
    ) -> Answer:
        """Ask in SQL: one SELECT, with `values` for its `?`, or by name for `$name`. It blocks.

        Raises `InvalidQuery` if DuckDB refuses it, if it takes longer or more memory than it may, or finds more than
        `limit_rows`, unless `cut` says to leave the rest out; `NotAStore` if there is no mirror.
        """
        if limit_rows < 0 or seconds <= 0:
            raise InvalidQuery(f"limit_rows={limit_rows}, seconds={seconds}: a query is given some rows and some time")
        for _ in range(TRIES):
            now, connection = self._connection()
            try:
                frame = self._answer(connection, sql, values, limit_rows + 1, seconds)
            except duckdb.Error as error:
                if self._read().generation != now.generation and not _is_about_the_query(error):
                    continue  # what it was reading has been merged with others since
                raise self._refused(now, error, seconds) from None
            finally:
                connection.close()
            if len(frame) > limit_rows and not cut:
                raise InvalidQuery(f"more than {limit_rows:,} rows: ask for fewer, as with LIMIT, or raise limit_rows")
            return Answer(frame.head(limit_rows), now.position, truncated=len(frame) > limit_rows)
        raise StoreError(
            f"the mirror in {self._folder} changed too fast to be read; nothing is wrong with it, try again"
        )

    def close(self) -> None:
        """Let go of what is kept open between queries."""
        with self._lock:
            if self._opened:
                self._opened[1].close()
            self._opened = None

    def _read(self) -> Manifest:
        try:
            return manifest.read(self._folder)
        except NotAStore:
            if self._before is None:
                raise
            return self._before

    def _connection(self) -> tuple[Manifest, duckdb.DuckDBPyConnection]:
        """Return a connection of its own to the mirror of now."""
        with self._lock:
            found = self._read()
            if self._opened is None or self._opened[0] != found:
                try:
                    opened = open_database(self._folder, found, self._memory)
                except duckdb.Error as error:
                    raise StoreDamaged(
                        f"the mirror in {self._folder} cannot be opened: {_told(error)}. It holds nothing that the log "
                        "does not: remove the folder, and let it be made anew"
                    ) from error
                if self._opened:
                    self._opened[1].close()
                self._opened = (found, opened)
            return self._opened[0], self._opened[1].cursor()

    def _answer(
        self,
        connection: duckdb.DuckDBPyConnection,
        sql: str,
        values: Sequence[Any] | Mapping[str, Any],
        limit: int,
        seconds: float,
    ) -> pl.DataFrame:
        _check(connection, sql)
        with _interrupted_after(connection, seconds):
            # With parameters it would be run at once, to the end: so they are bound to a prepared view of it.
            found = connection.sql(sql, params=values or None)
            names, types = found.columns, found.types
            if len(set(names)) < len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise InvalidQuery(f"several columns are called {', '.join(twice)}: name them apart with AS")
            shown = [
                quoted(name) if _fits(kind) else f"{quoted(name)}::VARCHAR AS {quoted(name)}"
                for name, kind in zip(names, types, strict=True)
            ]
            return pl.DataFrame(found.limit(limit).project(", ".join(shown)))

    def _refused(self, now: Manifest, error: duckdb.Error, seconds: float) -> InvalidQuery:
        if isinstance(error, duckdb.InterruptException):
            return InvalidQuery(f"the query took longer than the {seconds:g} s that it was given")
        if isinstance(error, duckdb.OutOfMemoryException):
            return InvalidQuery(f"the query takes more memory than the {self._memory} that it may: {_told(error)}")
        names = ", ".join([ALL, *named_tables(now)])
        return InvalidQuery(f"{_told(error)}. There are the tables {names}")


def _told(error: duckdb.Error) -> str:
    """Return what DuckDB says, without the picture of where."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split())


def _is_about_the_query(error: duckdb.Error) -> bool:
    return isinstance(error, duckdb.InterruptException | duckdb.ParserException | duckdb.OutOfMemoryException)


def _info(found: Manifest, name: str, table: Table) -> TableInfo:
    is_view = name not in found.events
    columns = tuple(Field(each.name, sql_type(each, table)) for each in table.columns)
    rows = sum(file.rows for file in table.files)
    return TableInfo(
        name, "view" if is_view else "events", rows, table.position if is_view else found.position, columns
    )


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse what is not one SELECT over the tables of the mirror."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InvalidQuery(f"{len(statements)} statements: a query is one SELECT")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise InvalidQuery(f"a mirror is only read: a query is one SELECT, not {statements[0].type.name}")
    [(text,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    try:
        tree = msgspec.json.decode(text)
    except RecursionError:
        raise InvalidQuery("the query is nested too deeply") from None
    if tree["error"]:
        raise InvalidQuery(f"a query is one SELECT whose columns are known before it runs: {tree['error_message']}")
    for name in _table_functions(tree):
        if name not in FUNCTIONS:
            raise InvalidQuery(f"a query may not call {name}(): it reads the tables of the mirror, and nothing else")


def _table_functions(tree: object) -> Iterator[str]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += cast(list[object], node)
        elif isinstance(node, dict):
            found = cast(dict[str, Any], node)
            if found.get("type") == "TABLE_FUNCTION":
                yield found["function"]["function_name"].lower()
            waiting += found.values()


def _fits(kind: Any) -> bool:
    if kind.id not in _ARROW:
        return False
    if kind.id in ("list", "array", "struct", "map"):
        return all(_fits(child) for _, child in kind.children if not isinstance(child, int))
    return True


@contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, seconds: float) -> Generator[None]:
    done = threading.Event()

    def watch() -> None:
        if not done.wait(seconds):
            while not done.wait(0.05):  # again, in case that it had not quite begun
                connection.interrupt()

    watcher = threading.Thread(target=watch, name="refold-query", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
