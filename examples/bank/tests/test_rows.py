"""The same bank with its accounts kept as rows: the same balances, the same events, and the same refusals."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from examples.bank.accounts import (
    Account,
    AccountOpened,
    AlreadyOpen,
    Deposit,
    Deposited,
    NoSuchAccount,
    OpenAccount,
    SameAccount,
    Transfer,
    Withdraw,
    deposit,
    open_account,
    withdraw,
)
from examples.bank.data import made_up, steps
from examples.bank.main import make_app
from examples.bank.statements import AccountSummary
from examples.replay import replay
from refold import App, Command, Rejected, State
from refold.testing import given

KINDS: list[list[type[State]]] = [[Account], []]


async def test_a_year_of_the_bank_is_the_same(tmp_path: Path) -> None:
    found: list[object] = []
    for number, rows in enumerate(KINDS):
        async with make_app(f"sqlite:///{tmp_path}/{number}.db", rows) as app:
            await replay(app, [steps(made_up(8))], span=timedelta(days=100))
            await app.settle()
            happened = sorted([str(each.event) async for each in app.events()])
            summaries = await app.view(AccountSummary).find()
            accounts = [await app.load(Account(each.account_id)) for each in summaries]
            found.append((happened, summaries, accounts))
            if rows:
                assert await app.view(Account).count() == len(accounts) > 5
                assert await app.operations.differences("Account") == []
    assert found[0] == found[1]


@pytest.mark.parametrize("rows", KINDS, ids=["rows", "events"])
async def test_it_refuses_the_same(rows: list[type[State]]) -> None:
    async with make_app("memory:", rows) as app:
        await app.execute(OpenAccount("1"))
        await refused(app, OpenAccount("1"), AlreadyOpen)
        await refused(app, Deposit("2", Decimal(5)), NoSuchAccount)
        await refused(app, Withdraw("2", Decimal(5)), NoSuchAccount)
        await refused(app, Transfer("1", "1", Decimal(5)), SameAccount)
        assert await app.head() == 1


async def refused(app: App, command: Command, reason: type[Rejected]) -> None:
    with pytest.raises(reason):
        await app.execute(command)


def test_a_test_of_a_decision_knows_nothing_of_it() -> None:
    given(AccountOpened("1")).when(deposit, Deposit("1", Decimal(5))).then(Deposited("1", Decimal(5)))
    given(AccountOpened("1")).when(open_account, OpenAccount("1")).rejected(AlreadyOpen)
    given().when(withdraw, Withdraw("1", Decimal(5))).rejected(NoSuchAccount)
