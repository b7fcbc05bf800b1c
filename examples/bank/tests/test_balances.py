"""The balance of every account on every day, against the bank's own; all of the real data where it is."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from examples.bank.__main__ import ROUNDED_BY, main
from examples.bank.accounts import (
    Account,
    Deposit,
    OpenAccount,
    Transfer,
    Withdraw,
    deposit,
    open_account,
    transfer,
    withdraw,
)
from examples.bank.data import FOLDER, Row, made_up, oracle, read_rows, steps
from examples.bank.main import make_app
from examples.bank.statements import AccountSummary, balances, end_of, happened, statement
from examples.replay import MisfitFound, replay
from refold import App, Command, Event

real = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real transactions are not at {FOLDER}")


async def imported(app: App, rows: list[Row]) -> None:
    await replay(app, [steps(rows)], span=timedelta(days=100))
    await app.settle()


async def by_day(app: App, account_id: str) -> AsyncIterator[tuple[date, Decimal]]:
    """Fold the history of an account once, day by day."""
    account = Account(account_id)
    for day, events in groupby(await happened(app, account_id), key=lambda recorded: recorded.occurred_at.date()):
        account = account.fold(events)
        yield day, account.balance


async def check_every_day(app: App, rows: list[Row]) -> int:
    """Compare the balance at the end of each day with the bank's; return how many there were."""
    checked = 0
    for account_id, days in oracle(rows).items():
        found = {day: balance async for day, balance in by_day(app, account_id)}
        assert found.keys() == days.keys(), account_id
        for day, expected in days.items():
            assert abs(found[day] - expected) <= ROUNDED_BY, (account_id, day)
        checked += len(days)
    return checked


async def check_some_days(app: App, rows: list[Row], every: int) -> None:
    """Ask for balances as a user does."""
    days = [(account_id, day, expected) for account_id, of in oracle(rows).items() for day, expected in of.items()]
    for account_id, day, expected in days[::every]:
        account = await app.load(Account(account_id), effective=end_of(day))
        assert abs(account.balance - expected) <= ROUNDED_BY, (account_id, day)


async def recorded(app: App, rows: list[Row]) -> None:
    """Record what the decisions make of all rows, a day at a time, which is faster than executing each of them."""
    accounts: dict[str, Account] = {}
    for at, of_day in groupby(sorted(steps(rows), key=lambda step: step.at), key=lambda step: step.at):
        await app.record(*[event for step in of_day for event in decided(step.what, accounts)], occurred_at=at)
    await app.settle()


def decided(command: object, accounts: dict[str, Account]) -> list[Event]:
    """Decide a command; decisions are plain functions."""
    assert isinstance(command, OpenAccount | Deposit | Withdraw | Transfer)
    ids = [command.source, command.target] if isinstance(command, Transfer) else [command.account_id]
    events = list(DECISIONS[type(command)](command, *(accounts.get(each, Account(each)) for each in ids)))
    accounts.update({each: accounts.get(each, Account(each)).fold(events) for each in ids})
    return events


DECISIONS: dict[type[Command], Callable[..., Iterable[Event]]] = {
    OpenAccount: open_account,
    Deposit: deposit,
    Withdraw: withdraw,
    Transfer: transfer,
}


@real
async def test_every_balance_of_the_real_bank_is_met_on_every_day(tmp_path: Path) -> None:
    rows = read_rows(FOLDER)
    assert len(rows) == 33_019
    async with make_app(f"sqlite:///{tmp_path}/bank.db") as app:
        await recorded(app, rows)
        assert await check_every_day(app, rows) == 26_978
        await check_some_days(app, rows, every=50)


@real
async def test_real_accounts_are_imported_command_by_command(tmp_path: Path) -> None:
    rows = read_rows(FOLDER)
    low = {row.account_id for row in rows if row.balance_after < 0}
    some = low | {row.account_id for row in rows[:20]}
    rows = [row for row in rows if row.account_id in some]
    async with make_app(f"sqlite:///{tmp_path}/bank.db") as app:
        await imported(app, rows)
        assert [each async for each in app.events(MisfitFound)] == []
        assert await check_every_day(app, rows) > 1_000
        flagged = await app.view(AccountSummary).find({"overdrafts__ge": 1})
        assert {each.account_id for each in flagged} == low


async def test_made_up_balances_are_met_too(tmp_path: Path) -> None:
    rows = made_up(20)
    async with make_app(f"sqlite:///{tmp_path}/bank.db") as app:
        await imported(app, rows)
        assert await check_every_day(app, rows) > 500
        await check_some_days(app, rows, every=20)
        end = await app.head()
        await imported(app, rows)
        assert await app.head() == end, "a second import adds nothing"
        assert {
            row.account_id: row.balance for row in await app.view(AccountSummary).find({"opened_at__ne": None})
        } == (await balances(app, date.max))


async def test_a_statement_leads_from_one_balance_to_the_next(tmp_path: Path) -> None:
    rows = made_up(3)
    first, last = date(1993, 6, 1), date(1993, 12, 31)
    async with make_app(f"sqlite:///{tmp_path}/bank.db") as app:
        await imported(app, rows)
        written = await statement(app, "2", first, last)
        before = await app.load(Account("2"), effective=end_of(first - timedelta(days=1)))
        after = await app.load(Account("2"), effective=end_of(last))
        assert (written.opening, written.closing) == (before.balance, after.balance)
        assert len(written.movements) == sum(row.account_id == "2" and first <= row.day <= last for row in rows)
        assert written.opening + sum(each.change for each in written.movements) == written.closing


HEADER = "transaction_id,account_id,date,direction,operation,amount,balance_after,symbol,partner_bank,partner_account\n"
LINES = (
    "1,7,1993-01-05,credit,cash_deposit,100.00,100.00,,,\n"
    "2,7,1993-01-05,debit,transfer_out,130.00,-30.00,household,YZ,9\n"
    "3,8,1993-02-01,credit,cash_deposit,5.00,5.00,,,\n"
    "4,8,1993-02-02,debit,cash_withdrawal,0.00,5.00,,,\n"
    "5,8,1993-02-02,debit,transfer_out,1.00,4.00,bribe,YZ,9\n"
    "3,8,1993-02-03,credit,cash_deposit,5.00,5.00,,,\n"
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "transactions.csv").write_text(HEADER + LINES)
    store = ("--store", f"sqlite:///{tmp_path}/bank.db")
    imported = run("import", "--data", str(tmp_path), *store)
    assert imported.exit_code == 0, imported.output
    for misfit in ("An amount must be above zero.", "The symbol 'bribe' is unknown.", "there twice"):
        assert misfit in imported.output
    assert run("balance", "7", "--effective", "1993-01-05", *store).stdout == "-30.00\n"
    assert run("balance", "8", "--effective", "1993-01-05", *store).exit_code == 1
    assert json.loads(run("balances", "--effective", "1993-01-31", "--json", *store).stdout) == {"7": -30}
    assert json.loads(run("balances", "--json", *store).stdout) == {"7": -30, "8": 5}
    written = run("statement", "7", "--from", "1993-01-01", "--to", "1993-01-31", *store).output
    assert "household to YZ/9" in written
    assert run("balance", "7", "--store", f"sqlite:///{tmp_path}/no.db").exit_code == 1
