"""The database that queries see: views over the files of one manifest, and nothing else in reach."""

from pathlib import Path

import duckdb

from refold.view.parquet.column import distinct, quoted
from refold.view.parquet.manifest import Field, Manifest, Table
from refold.view.parquet.tables import ALL, COMMON, UNREAD

DATA = Field("data", "JSON")
"""The fields of an event of any type, as one object."""


def open_database(folder: Path, found: Manifest, memory: str) -> duckdb.DuckDBPyConnection:
    """Open a database in memory whose views are the tables of a mirror, and lock it."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "python_enable_replacements": False,
            "python_scan_all_frames": False,
            "memory_limit": memory,
        },
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = ''")
        for name, table in named_tables(found).items():
            connection.execute(f"CREATE VIEW {quoted(name)} AS {_select(folder, table)}")
        connection.execute(f"CREATE VIEW {quoted(ALL)} AS {_all_events(found)}")
        paths = ", ".join(_literal(str(folder / path)) for path in sorted(found.paths()))
        connection.execute(f"SET allowed_paths = [{paths}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def named_tables(found: Manifest) -> dict[str, Table]:
    """Return all tables by the names that SQL knows them by; a view called like a type gets an underscore."""
    names = distinct(sorted(found.views), [*found.events, ALL])
    return {**found.events, **{names[view]: found.views[view] for view in names}}


def sql_type(column: Field, table: Table) -> str:
    """Return what SQL finds a column to be, given the files that there are."""
    if column.name not in table.wide:
        return column.type
    return "JSON" if _is_nested(column) else "VARCHAR"


def _is_nested(column: Field) -> bool:
    return column.type.endswith("[]") or column.type.startswith("STRUCT(")


def _select(folder: Path, table: Table) -> str:
    """Return the query of all rows of a table, each column of one type whatever file it is in."""
    if not table.files:
        nulls = ", ".join(f"NULL::{each.type} AS {quoted(each.name)}" for each in table.columns)
        return f"SELECT {nulls} WHERE false"
    groups: dict[tuple[str, ...], list[str]] = {}
    for file in table.files:
        groups.setdefault(file.wide, []).append(_literal(str(folder / file.path)))
    return " UNION ALL ".join(
        f"SELECT {', '.join(_shown(each, table, wide) for each in table.columns)} "  # noqa: S608 - all quoted
        f"FROM read_parquet([{', '.join(paths)}], hive_partitioning = false)"
        for wide, paths in groups.items()
    )


def _shown(column: Field, table: Table, wide_here: tuple[str, ...]) -> str:
    name = quoted(column.name)
    if column.name not in table.wide:
        return f"{name}::JSON AS {name}" if column.type == "JSON" else name
    if not _is_nested(column):
        return f"{name}::VARCHAR AS {name}"
    return f"{name}::JSON AS {name}" if column.name in wide_here else f"to_json({name}) AS {name}"


def _all_events(found: Manifest) -> str:
    """Return the query of all events that can be read, each with its fields as one JSON object."""
    common = [quoted(each.name) for each in COMMON]
    selects = [
        f"SELECT {common[0]}, {_literal(name)} AS type, {', '.join(common[1:])}, {_packed(table)} AS data "  # noqa: S608 - all quoted
        f"FROM {quoted(name)}"
        for name, table in found.events.items()
        if name != UNREAD
    ]
    if not selects:
        nulls = [f"NULL::{each.form.sql} AS {quoted(each.name)}" for each in COMMON]
        selects = [f"SELECT {nulls[0]}, NULL::VARCHAR AS type, {', '.join(nulls[1:])}, NULL::JSON AS data WHERE false"]
    return " UNION ALL ".join(selects)


def _packed(table: Table) -> str:
    own = [each.name for each in table.columns[len(COMMON) :]]
    return (
        f"to_json(struct_pack({', '.join(f'{quoted(each)} := {quoted(each)}' for each in own)}))"
        if own
        else "'{}'::JSON"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
