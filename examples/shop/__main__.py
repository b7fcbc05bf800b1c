"""The shop at the command line: `python -m examples.shop demo`."""

import time
from pathlib import Path

import click
import msgspec
from rich.table import Table

from examples.replay import replay
from examples.shop import report
from examples.shop.data import FOLDER, OPENING, SPAN, History, read_history, stages
from examples.shop.main import STORE, make_app
from examples.shop.sample import made_up
from examples.shop.views import OrderSummary
from examples.terminal import amount, console, made, must_exist, progress, run
from refold import App

data_option = click.option("--data", "folder", type=click.Path(path_type=Path), help="Folder with the CSV files.")
store_option = click.option("--store", default=STORE, show_default=True, help="Where the log is: sqlite:///FILE.")


@click.group()
def main() -> None:
    """A shop, replayed from the real orders of a marketplace."""


@main.command()
@data_option
@store_option
def demo(folder: Path | None, store: str) -> None:
    """Replay all orders, and show what they add up to."""
    history = history_of(folder)
    run(make_app(store), lambda app: shown(app, store, history))


@main.command("replay")
@data_option
@store_option
def replay_command(folder: Path | None, store: str) -> None:
    """Replay all orders; done again it adds nothing."""
    history = history_of(folder)
    run(make_app(store), lambda app: replayed(app, history))


@main.command()
@store_option
@click.option("--json", "as_json", is_flag=True, help="A list of order_id, status, total, paid.")
@click.option("--status", help="Only those that are, say, shipped.")
@click.option("--limit", type=click.IntRange(min=1), help="No more than so many.")
def orders(store: str, as_json: bool, status: str | None, limit: int | None) -> None:
    """List orders: what they cost, what was paid, where they are."""
    must_exist(store, f"python -m examples.shop replay --store {store}")
    run(make_app(store), lambda app: listed(app, {"status": status} if status else {}, limit, as_json=as_json))


def history_of(folder: Path | None) -> History:
    """Read the folder; without one, make a history up if the real data is not there."""
    if folder is None and not FOLDER.is_dir():
        console.print(f"{FOLDER} is not there, so this runs on made-up orders.")
        return made_up()
    try:
        return read_history(folder or FOLDER)
    except (OSError, KeyError, ValueError, ArithmeticError) as error:
        raise click.ClickException(f"cannot read the orders in {folder or FOLDER}: {error!r}") from error


async def replayed(app: App, history: History) -> None:
    """Replay a history, and say what it took."""
    todo = stages(history)
    total = sum(map(len, todo))
    console.print(f"{len(history.orders):,} orders become {total:,} commands and notes, in the order of their time.")
    before, start = await app.head(), time.perf_counter()
    with progress("Replaying", total) as advance:
        await replay(app, todo, span=SPAN, opening=OPENING, advance=advance)
    await app.settle()
    seconds, added = time.perf_counter() - start, await app.head() - before
    if added:
        console.print(f"{added:,} events in {seconds:.1f} s: {added / seconds:,.0f} a second, each one durable.")
    else:
        console.print(f"Nothing to add: all of it is in the log, {before:,} events.")


async def shown(app: App, store: str, history: History) -> None:
    await replayed(app, history)
    for part in await report.show(app, history):
        console.print()
        console.print(part)
    if example := report.example_of(history):
        console.print(look_around(store, example.order_id, f"{example.placed:%Y-%m-%d}"), soft_wrap=True)


def look_around(store: str, order_id: str, day: str) -> str:
    return f"""
[bold]Look around[/bold], once `. .venv/bin/activate` has put refold at hand
  refold log tail --store {store}
  refold log read --store {store} --tag order:{order_id}
  refold state examples.shop.main:make_app Order {order_id} --store {store}
  refold state examples.shop.main:make_app Order {order_id} --store {store} --effective {day}
  python -m examples.shop orders --store {store} --status invoiced --limit 20
and in the code: examples/shop/orders.py first."""


async def listed(app: App, where: dict[str, str], limit: int | None, *, as_json: bool) -> None:
    rows = await app.view(OrderSummary).find(where, order="order_id", limit=limit, at_least=await app.head())
    if as_json:
        encode = msgspec.json.Encoder(decimal_format="number").encode
        found = [{"order_id": r.order_id, "status": r.status, "total": r.total, "paid": r.paid} for r in rows]
        click.echo(msgspec.json.format(encode(found), indent=2))
        return
    console.print(table_of(rows))


def table_of(rows: list[OrderSummary]) -> Table:
    table = made(f"{len(rows):,} orders", "order", "placed", "status", "-total", "-paid")
    for row in rows:
        placed = f"{row.placed_at:%Y-%m-%d %H:%M}" if row.placed_at else ""
        total, paid = amount(row.total), amount(row.paid)
        table.add_row(row.order_id, placed, row.status or "", total, paid)
    return table


if __name__ == "__main__":
    main()
