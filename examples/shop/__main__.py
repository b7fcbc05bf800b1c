"""The shop at the command line: `python -m examples.shop demo`."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.columns import Columns
from rich.table import Table
from rich.text import Text

from examples.replay import replay
from examples.shop import report
from examples.shop.data import FOLDER, OPENING, SPAN, History, read_history, stages
from examples.shop.inventory import Stock
from examples.shop.live import change
from examples.shop.main import STORE, make_app
from examples.shop.opened import keep_open
from examples.shop.orders import OPEN, Status
from examples.shop.sample import made_up
from examples.shop.views import CatalogueEntry, OrderSummary, Queue, Queued, QueueLength
from examples.terminal import amount, console, made, must_exist, progress, run
from refold import App
from refold.cli.moment import MOMENT, MOMENT_OR_POSITION

data_option = click.option("--data", "folder", type=click.Path(path_type=Path), help="Folder with the CSV files.")
store_option = click.option("--store", default=STORE, show_default=True, help="Where the log is: sqlite:///FILE.")


@click.group()
def main() -> None:
    """A shop, replayed from the real orders of a marketplace."""


@main.command()
@data_option
@store_option
@click.option("--serve/--no-serve", default=None, help="Open the shop then, for browsers; if not said, in a terminal.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Where to serve it.")
@click.option("--seconds", type=click.FloatRange(0), help="Close it after so long, rather than at Ctrl-C.")
@click.option("--seed", default=1, show_default=True, help="Of what customers do.")
def demo(folder: Path | None, store: str, *, serve: bool | None, port: int, seconds: float | None, seed: int) -> None:
    """Replay all orders, show what they add up to, and open the shop, with its console."""
    history = history_of(folder)
    run(make_app(store), lambda app: shown(app, store, history))
    if serve or seconds is not None or (serve is None and sys.stdout.isatty()):
        asyncio.run(keep_open(store, port=port, seed=seed, seconds=seconds))


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
@click.option("--customer", help="Only those of a customer.")
@click.option("--min-total", type=Decimal, help="Only those of so much, or more.")
@click.option("--since", type=MOMENT, metavar="TIME", help="Only those placed at this time or later.")
@click.option("--order", default="order_id", show_default=True, help="A field; -total from high to low.")
@click.option("--limit", type=click.IntRange(min=1), help="No more than so many.")
@click.option("--page", default=1, type=click.IntRange(min=1), help="The how manieth so many.")
@click.option("--as-of", type=MOMENT_OR_POSITION, metavar="TIME|POSITION", help="As the list was then.")
def orders(store: str, **asked: Any) -> None:
    """List orders: what they cost, what was paid, where they are; now, or as the list was."""
    look_into(store, lambda app: listed(app, **asked))


@main.command()
@store_option
@click.argument("words", nargs=-1, required=True)
def search(store: str, words: tuple[str, ...]) -> None:
    """Search the catalogue: all WORDS, `mov*` for the beginning of one."""
    look_into(store, lambda app: found(app, " ".join(words)))


@main.command()
@store_option
@click.option("--below", default=5, show_default=True, help="Only what is down to so many.")
@click.option("--limit", default=20, show_default=True)
def stock(store: str, below: int, limit: int) -> None:
    """Show what is running out."""
    look_into(store, lambda app: running_out(app, below, limit))


@main.command()
@store_option
@click.option("--limit", default=20, show_default=True)
def queue(store: str, limit: int) -> None:
    """Show what the warehouse has to do, the oldest first."""
    look_into(store, lambda app: queued(app, limit))


@main.command()
@store_option
def dashboard(store: str) -> None:
    """Show how sales go, asked in SQL of the mirror that is kept beside the store."""
    must_exist(store, f"python -m examples.shop replay --store {store}")
    run(make_app(store, analytics=mirror_of(store)), sales)


def mirror_of(store: str) -> str:
    """Return the folder of the mirror: beside a file, or here."""
    prefix, _, path = store.partition(":///")
    return f"{path.partition('?')[0].removesuffix('.db')}.analytics" if prefix == "sqlite" else "shop.analytics"


def look_into(store: str, work: Callable[[App], Coroutine[None, None, None]]) -> None:
    """Look into a store that is there."""
    must_exist(store, f"python -m examples.shop replay --store {store}")
    run(make_app(store), work)


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
    console.print("\n[bold]Now one of these views is to count something else, while the shop goes on selling.[/bold]")
    await change(app, store)
    if example := report.example_of(history):
        console.print(look_around(store, example.order_id, f"{example.placed:%Y-%m-%d}"), soft_wrap=True)


def look_around(store: str, order_id: str, day: str) -> str:
    return f"""
[bold]Look around[/bold], once `. .venv/bin/activate` has put refold at hand
  refold log tail --store {store}
  refold log read --store {store} --tag order:{order_id}
  refold state examples.shop.main:make_app Order {order_id} --store {store}
  refold state examples.shop.main:make_app Order {order_id} --store {store} --effective {day}
  refold projection list examples.shop.main:make_app --store {store}
  python -m examples.shop orders --store {store} --status invoiced --order=-total --limit 20 --as-of 20000
  python -m examples.shop search --store {store} "mov* decor*"
  python -m examples.shop queue|stock|dashboard --store {store}
and in the code: examples/shop/orders.py first."""


async def listed(
    app: App,
    *,
    as_json: bool,
    status: str | None,
    customer: str | None,
    min_total: Decimal | None,
    since: datetime | None,
    order: str,
    limit: int | None,
    page: int,
    as_of: datetime | int | None,
) -> None:
    asked = {"status": status, "customer_id": customer, "total__ge": min_total, "placed_at__ge": since}
    where = {name: value for name, value in asked.items() if value is not None}
    view, offset = app.view(OrderSummary), (page - 1) * (limit or 0)
    rows = await view.find(where, order=order, limit=limit, offset=offset, at_least=await app.head(), as_of=as_of)
    if as_json:
        encode = msgspec.json.Encoder(decimal_format="number").encode
        found = [{"order_id": r.order_id, "status": r.status, "total": r.total, "paid": r.paid} for r in rows]
        click.echo(msgspec.json.format(encode(found), indent=2))
        return
    table = table_of(rows)
    if limit:
        table.caption = f"page {page} of {-(-await view.count(where, as_of=as_of) // limit):,}"
    console.print(table)


async def found(app: App, words: str) -> None:
    hits = await app.view(CatalogueEntry).search(words, limit=20, at_least=await app.head())
    table = made(f"{len(hits)} products for {words}", "product", "-sold")
    for hit in hits:
        line = Text()
        for piece, matches in hit.highlights["words"]:
            line.append(piece, style="bold yellow" if matches else "")
        table.add_row(line, f"{hit.row.units:,}")
    console.print(table)


async def running_out(app: App, below: int, limit: int) -> None:
    await app.wait(await app.head(), Stock)
    rows = await app.view(Stock).find({"available__lt": below}, order="available", limit=limit)
    table = made(f"Fewer than {below} are left", "product", "-available")
    for row in rows:
        table.add_row(row.sku, f"{row.available:,}")
    table.caption = f"{await app.view(Stock).count({'available__lt': below}):,} products in all"
    console.print(table)


async def queued(app: App, limit: int) -> None:
    await app.wait(await app.head(), Queue)
    lengths = {row.status: row.orders for row in await app.view(QueueLength).find()}
    table = made(
        ", ".join(f"{lengths.get(status, 0):,} {status}" for status in OPEN), "order", "since", "stage", "-items"
    )
    for row in await app.view(Queued).find({"status__ne": Status.CREATED}, order="since", limit=limit):
        table.add_row(row.order_id, f"{row.since:%Y-%m-%d %H:%M}" if row.since else "", row.status, str(row.items))
    console.print(table)


MONTHS = "select month, sum(amount) from PaymentCaptured group by month order by month"
CATEGORIES = """
select line.category, sum(line.quantity), sum(line.quantity * line.price)
from (select unnest(lines) as line from OrderPlaced) group by 1 order by 3 desc limit 8"""
DAYS = """
select year(placed.occurred_at), count(*), median(days), quantile_cont(days, 0.9)
from (
    select placed, date_diff('hour', placed.occurred_at, delivered.occurred_at) / 24 as days
    from OrderPlaced as placed join OrderDelivered as delivered using (order_id)
) group by 1 order by 1"""


async def sales(app: App) -> None:
    head = await app.head()
    months = (await app.query(MONTHS, at_least=head)).rows()
    most = max((float(paid) for _, paid in months), default=1.0) or 1.0
    table = made("Sales", "month", "-paid", "")
    for month, paid in months:
        table.add_row(month, amount(Decimal(paid)), Text("█" * int(float(paid) * 40 / most), style="cyan"))
    categories = made("Sold most, without freight", "category", "-units", "-ordered")
    for category, units, ordered in (await app.query(CATEGORIES)).rows():
        categories.add_row(category, f"{units:,}", amount(Decimal(ordered)))
    days = made("From order to door", "year", "-delivered", "-median days", "-nine of ten")
    for year, count, median, most_days in (await app.query(DAYS)).rows():
        days.add_row(str(year), f"{count:,}", f"{median:.1f}", f"{most_days:.1f}")
    for part in (table, Columns([categories, days], padding=(0, 3)), await report.punctuality(app)):
        console.print(part)


def table_of(rows: list[OrderSummary]) -> Table:
    table = made(f"{len(rows):,} orders", "order", "placed", "status", "-total", "-paid")
    for row in rows:
        placed = f"{row.placed_at:%Y-%m-%d %H:%M}" if row.placed_at else ""
        total, paid = amount(row.total), amount(row.paid)
        table.add_row(row.order_id, placed, row.status or "", total, paid)
    return table


if __name__ == "__main__":
    main()
