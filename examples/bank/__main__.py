"""The bank at the command line: `python -m examples.bank import`, then `balance`, `balances`, `statement`."""

import time
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import click
import msgspec

from examples.bank.accounts import Account
from examples.bank.data import FOLDER, Row, made_up, oracle, read_rows, steps
from examples.bank.main import STORE, make_app
from examples.bank.statements import AccountSummary, Statement, balances, end_of, statement
from examples.replay import MisfitSummary, replay
from examples.terminal import amount, console, made, must_exist, progress, run
from refold import App

MONTH = timedelta(days=30)
ROUNDED_BY = Decimal("0.30")
"""So far the bank's own balances are from its amounts, which it rounded."""

store_option = click.option("--store", default=STORE, show_default=True, help="Where the log is: sqlite:///FILE.")


DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def main() -> None:
    """A bank, on fifteen months of real transactions: its balances as they were at the end of any day."""


@main.command("import")
@click.option("--data", "folder", type=click.Path(path_type=Path), help="Folder with transactions.csv.")
@store_option
def import_command(folder: Path | None, store: str) -> None:
    """Import all transactions; done again it adds nothing."""
    rows = rows_of(folder)
    run(make_app(store), lambda app: imported(app, rows))


@main.command()
@click.argument("account_id")
@click.option("--effective", type=DAY, metavar="DAY", help="At the end of this day; without it, by all that is known.")
@store_option
def balance(account_id: str, effective: datetime | None, store: str) -> None:
    """Show the balance of an account."""
    must_exist(store, f"python -m examples.bank import --store {store}")
    run(make_app(store), lambda app: show_balance(app, account_id, effective and effective.date()))


@main.command("balances")
@click.option("--effective", type=DAY, metavar="DAY", help="At the end of this day; without it, by all that is known.")
@click.option("--json", "as_json", is_flag=True, help="An object from account to balance.")
@store_option
def balances_command(effective: datetime | None, store: str, as_json: bool) -> None:
    """Show the balances of all accounts that were open by then."""
    must_exist(store, f"python -m examples.bank import --store {store}")
    run(make_app(store), lambda app: show_balances(app, (effective or datetime.max).date(), as_json=as_json))


@main.command("statement")
@click.argument("account_id")
@click.option("--from", "first", type=DAY, metavar="DAY", required=True, help="The first day.")
@click.option("--to", "last", type=DAY, metavar="DAY", required=True, help="The last day; it is in the statement.")
@store_option
def statement_command(account_id: str, first: datetime, last: datetime, store: str) -> None:
    """Show what moved on an account between two days."""
    must_exist(store, f"python -m examples.bank import --store {store}")
    run(make_app(store), lambda app: show_statement(app, account_id, first.date(), last.date()))


def rows_of(folder: Path | None) -> list[Row]:
    """Read the folder; without one, make transactions up if the real data is not there."""
    if folder is None and not FOLDER.is_dir():
        console.print(f"{FOLDER} is not there, so this runs on made-up transactions.")
        return made_up()
    try:
        return read_rows(folder or FOLDER)
    except (OSError, KeyError, ValueError, ArithmeticError) as error:
        raise click.ClickException(f"cannot read the transactions in {folder or FOLDER}: {error!r}") from error


async def imported(app: App, rows: list[Row]) -> None:
    """Import transactions, say what it took, and compare every balance with the bank's own."""
    todo = list(steps(rows))
    console.print(f"{len(rows):,} transactions become {len(todo):,} commands, in the order of their days.")
    before, start = await app.head(), time.perf_counter()
    with progress("Importing", len(todo)) as advance:
        await replay(app, [todo], span=MONTH, advance=advance)
    await app.settle()
    seconds, added = time.perf_counter() - start, await app.head() - before
    if added:
        console.print(f"{added:,} events in {seconds:.1f} s: {added / seconds:,.0f} a second, each one durable.")
    else:
        console.print(f"Nothing to add: all of it is in the log, {before:,} events.")
    await show_check(app, rows)


async def show_check(app: App, rows: list[Row]) -> None:
    """Compare the last balance of each account with the bank's, and show what did not fit."""
    last = {account_id: days[max(days)] for account_id, days in oracle(rows).items()}
    view = {row.account_id: row for row in await app.view(AccountSummary).find({"account_id__in": list(last)})}
    apart = [abs(view[each].balance - last[each]) if each in view else abs(last[each]) for each in last]
    table = made("The last balance of each account", "", "-accounts")
    table.add_row("within 0.30 of the bank's own", f"{sum(each <= ROUNDED_BY for each in apart):,}")
    table.add_row("further off", f"{sum(each > ROUNDED_BY for each in apart):,}")
    table.add_row("went below zero at some time", f"{sum(row.overdrafts > 0 for row in view.values()):,}")
    for misfit in await app.view(MisfitSummary).find(order="reason"):
        table.add_row(misfit.reason, f"{misfit.refused + misfit.taken:,}")
    console.print()
    console.print(table)


async def show_balance(app: App, account_id: str, day: date | None) -> None:
    account = await app.load(Account(account_id), effective=end_of(day) if day else None)
    if not account.opened:
        raise click.ClickException(f"no account {account_id} was open{f' by the end of {day}' if day else ''}")
    click.echo(account.balance)


async def show_balances(app: App, day: date, *, as_json: bool) -> None:
    await app.wait(await app.head())
    found = await balances(app, day)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.Encoder(decimal_format="number").encode(found), indent=2))
        return
    table = made(f"{len(found):,} accounts", "account", "-balance")
    for account_id, value in found.items():
        table.add_row(account_id, coloured(value))
    console.print(table)


async def show_statement(app: App, account_id: str, first: date, last: date) -> None:
    written: Statement = await statement(app, account_id, first, last)
    table = made(f"Account {account_id}, {first} to {last}", "day", "what", "-change", "-balance")
    table.add_row(str(first), "balance brought forward", "", coloured(written.opening))
    for movement in written.movements:
        table.add_row(str(movement.day), movement.what, amount(movement.change), coloured(movement.balance))
    table.add_section()
    table.add_row(str(last), "closing balance", "", coloured(written.closing))
    console.print(table)


def coloured(value: Decimal) -> str:
    return f"[red]{amount(value)}[/red]" if value < 0 else amount(value)


if __name__ == "__main__":
    main()
