"""`refold query`: SQL over the events of a log and the rows of its views, kept as Parquet files."""

import asyncio
import csv
import sys
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from refold.cli.app import loaded
from refold.store.open import open_store

if TYPE_CHECKING:
    from refold.view.parquet import Answer, Reader

SHOWN = 1_000
"""How many rows a terminal gets unless it asks for more."""
NUMBERS = (int, float, Decimal)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins with one of these is run by spreadsheets that open a CSV file."""

_encode = msgspec.json.Encoder(decimal_format="number").encode


@click.command()
@click.argument("sql", required=False)
@click.option(
    "--mirror",
    envvar="REFOLD_MIRROR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the mirror. [env: REFOLD_MIRROR]",
)
@click.option("--app", metavar="APP", help="Bring the mirror up to date first, with the events of this app.")
@click.option(
    "--store", envvar="REFOLD_STORE", metavar="URL", help="Address of the log, with --app. [env: REFOLD_STORE]"
)
@click.option("--tables", is_flag=True, help="Show the tables that there are, with their columns.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, for spreadsheets.")
@click.option("--parquet", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows to this file.")
@click.option("--limit", "-n", type=click.IntRange(0), help=f"At most so many rows; {SHOWN:,} in a terminal.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="Time to take."
)
def query(
    sql: str | None,
    mirror: Path,
    app: str | None,
    store: str | None,
    tables: bool,
    as_json: bool,
    as_csv: bool,
    parquet: Path | None,
    limit: int | None,
    seconds: float,
) -> None:
    r"""Ask for events and rows of views in SQL: one SELECT, as DuckDB understands it.

    Each type of event is a table, all of them together are `events`, each mirrored view is one by its name, and what
    the app cannot read is in `_unread`. Nothing but the mirror can be read, and nothing written.

    \b
      refold query --tables --mirror shop.mirror
      refold query "select sku, sum(quantity) from StockReceived group by sku" --mirror shop.mirror
      refold query "select * from events" --csv --mirror shop.mirror --app shop.main:app --store sqlite:///shop.db
    """
    if (sql is None) is not tables:
        raise click.UsageError("write a query, or --tables to see what can be asked for")
    if as_json + as_csv + (parquet is not None) > 1:
        raise click.UsageError("--json, --csv and --parquet are three ways to say it: choose one")
    from refold.view.parquet import Reader

    if app:
        asyncio.run(_bring_up_to_date(mirror, app, store))
    reader = Reader(mirror)
    try:
        if sql is None:
            _show_tables(reader, as_json=as_json)
            return
        from refold.view.parquet.ask import ROWS

        wanted = limit if limit is not None else SHOWN if sys.stdout.isatty() and parquet is None else ROWS
        answer = reader.query(sql, limit_rows=wanted, seconds=seconds, cut=True)
    finally:
        reader.close()
    if parquet:
        answer.pl().write_parquet(parquet)
        click.echo(f"{len(answer):,} rows in {parquet}", err=True)
    elif as_json:
        _write_json(answer)
    elif as_csv:
        _write_csv(answer)
    else:
        _show(answer)
    if answer.truncated:
        click.echo(f"only the first {wanted:,} rows: there are more, see --limit", err=True)


async def _bring_up_to_date(folder: Path, app: str, address: str | None) -> None:
    if address is None:
        raise click.UsageError("--app brings the mirror up to date with a log: name it with --store sqlite:///shop.db")
    from refold.cli.show import progress
    from refold.view.parquet import Mirror

    schema = loaded(app, address).schema
    store = await open_store(address, create=False)
    try:
        async with Mirror(folder, schema) as mirror:
            head = await store.head()
            with progress("mirroring the log", head) as move:
                await mirror.catch_up(store, upto=head, moved=move)
    finally:
        await store.close()


def _show_tables(reader: "Reader", *, as_json: bool) -> None:
    found = reader.tables()
    if as_json:
        for each in found:
            sys.stdout.write(_encode(each).decode() + "\n")
        return
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned, print_table

    table = Table("table", "of", "rows", "position", "columns")
    for place in (2, 3):
        table.columns[place].justify = "right"
    for each in found:
        columns = ", ".join(f"{field.name} {field.type}" for field in each.columns)
        table.add_row(
            Text(cleaned(each.name)), each.kind, f"{each.rows:,}", f"{each.position:,}", Text(cleaned(columns))
        )
    print_table(table)


def _show(answer: "Answer") -> None:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned, print_table

    rows = answer.rows()
    table = Table()
    for place, name in enumerate(answer.columns):
        values = [row[place] for row in rows if row[place] is not None]
        numbers = bool(values) and all(map(_is_number, values))
        table.add_column(Text(cleaned(name)), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(cleaned(_text(value))) for value in row))
    print_table(table)


def _write_json(answer: "Answer") -> None:
    names = answer.columns
    for row in answer.rows():
        sys.stdout.write(_encode(dict(zip(names, map(_plain, row), strict=True))).decode() + "\n")


def _write_csv(answer: "Answer") -> None:
    from refold.cli.show import cleaned

    shown = cleaned if sys.stdout.isatty() else str
    # Quoted texts, because a lone carriage return would otherwise end a line.
    lines = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    lines.writerow([_harmless(shown(name)) for name in answer.columns])
    for row in answer.rows():
        lines.writerow([_plain(each) if _is_number(each) else _harmless(shown(_text(each))) for each in row])


def _is_number(value: Any) -> bool:
    return isinstance(value, NUMBERS) and not isinstance(value, bool)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULAS) else text


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case Decimal():
            return _short(value)
        case datetime():
            return value.isoformat(" ")
        case bytes() | list() | dict():
            return _encode(_plain(value)).decode()
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: Decimals without the zeros that the column's type puts behind them."""
    match value:
        case Decimal():
            return Decimal(_short(value))
        case list():
            return [_plain(each) for each in cast(Iterable[Any], value)]
        case dict():
            return {name: _plain(each) for name, each in cast(dict[str, Any], value).items()}
        case _:
            return value


def _short(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
