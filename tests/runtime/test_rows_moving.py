"""A state moves from rows to events, and back, and nothing is lost."""

import asyncio
from typing import Annotated, Any, Self

import pytest

from refold import (
    App,
    Command,
    Event,
    InvalidQuery,
    State,
    Tag,
    WiringError,
)
from tests.conftest import Log
from tests.runtime.bank import (
    Deposit,
    Deposited,
)
from tests.runtime.rowing import agree, rows_bank, views_of

ON_POSTGRES = True


class AccountMoved(Event):
    account_id: Annotated[str, Tag("account")]
    amount: int


class Move(Command):
    account_id: Annotated[str, Tag("account")]


class Account(State):
    account_id: Annotated[str, Tag("account")]
    amount: int = 0

    def evolve(self, event: Deposited | AccountMoved) -> Self:
        match event:
            case Deposited():
                return self.replace(amount=self.amount + event.amount)
            case AccountMoved():
                return self.replace(amount=event.amount)


def move(cmd: Move, account: Account) -> AccountMoved:
    return AccountMoved(cmd.account_id, account.amount)


def put_in(cmd: Deposit, account: Account) -> Deposited:
    return Deposited(cmd.account_id, cmd.amount)


def movable(log: Log, **options: Any) -> App:
    return App(log, events=Deposited | AccountMoved, decisions=[move, put_in], **options)


async def test_a_state_moves_to_events_and_back(log: Log) -> None:
    async with movable(log, rows=[Account]) as app:
        await app.execute(Deposit("a", 5))
        await app.operations.import_rows([Account("b", 7), Account("c", 8), Account("d")])
        await app.execute(Deposit("c", 1))
        found = await app.operations.differences("Account")
        assert [(each.row, each.folded) for each in found] == [
            (Account("b", 7), Account("b")),
            (Account("c", 9), Account("c", 1)),
        ]
        assert len(await app.operations.differences("Account", limit=1)) == 1

        async def work() -> None:
            for _ in range(10):
                await app.execute(Deposit("b", 1))

        moving = [app.execute(Move(each.row.account_id)) for each in found]  # type: ignore[attr-defined]
        await asyncio.gather(work(), *moving)
        await agree(app, "Account")
        before = [await app.load(Account(each)) for each in "abcd"]

    with pytest.raises(
        WiringError, match="Account is kept as rows in this log, but is not among the `rows` of this app"
    ):
        async with movable(log):
            pass
    async with App(log, events=Deposited | AccountMoved, projections=[Account]) as app:  # who only looks may
        await app.settle()
    async with movable(log, rows=[Account]).passive() as app:
        await app.operations.import_rows([Account("z", 1)])
        with pytest.raises(InvalidQuery, match=r"'z', amount=1\) is not what its events add up to"):
            await app.operations.leave_rows("Account")
        await app.execute(Move("z"))
        await app.operations.leave_rows("Account")

    async with movable(log, projections=[Account]) as app:
        assert [await app.load(Account(each)) for each in "abcd"] == before
        at = await app.execute(Deposit("a", 1))
        await app.execute(Deposit("e", 3))
        assert await app.view(Account).get("a", at_least=at) == Account("a", 6)
        assert await app.load(Account("a"), as_of=1) == Account("a", 5)

    with pytest.raises(
        WiringError, match=r"has none yet, and the log has events of it from position 1 on: .*rows fill APP"
    ):
        async with movable(log, rows=[Account]):
            pass
    async with movable(log, rows=[Account]).passive() as app:
        for asked in (app.load(Account("a")), app.execute(Deposit("a", 1)), app.record(Deposited("a", 1))):
            with pytest.raises(WiringError, match="is among `rows`, but has none yet"):
                await asked
        with pytest.raises(InvalidQuery, match="there is a table Account_rows already"):
            await app.operations.fill_rows("Account")
        await views_of(app).drop(["Account_rows"])
        assert await app.operations.fill_rows("Account") == 5
        assert await app.operations.fill_rows("Account") == 0
    async with movable(log, rows=[Account]) as app:
        expected = [Account("a", 6), *before[1:3], Account("e", 3), Account("z", 1)]
        assert await app.view(Account).find() == expected
        await app.execute(Deposit("e", 1))
        await agree(app, "Account")


async def test_a_fill_that_was_interrupted_goes_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with movable(log) as app:
        for number in range(3):
            await app.record(*[Deposited(f"{number}-{n}", n) for n in range(5)])
    async with movable(log, rows=[Account]).passive() as app:
        views = views_of(app)
        write, calls = views.write, [0]

        async def failing(*args: Any) -> bool:
            calls[0] += 1
            if calls[0] == 2:
                raise OSError("away")
            return await write(*args)

        with monkeypatch.context() as patch:
            patch.setattr(views, "write", failing)
            with pytest.raises(OSError, match="away"):
                await app.operations.fill_rows("Account")
    with pytest.raises(WiringError, match="make its rows of them first"):
        async with movable(log, rows=[Account]):
            pass
    async with movable(log, rows=[Account]).passive() as app:
        await app.operations.fill_rows("Account")
        await agree(app, "Account")
        assert await app.view(Account).count() == 15


async def test_a_comparison_while_others_write_tells_nothing_wrong(log: Log) -> None:
    async with rows_bank(log) as app, rows_bank(log) as other:
        stop = asyncio.Event()

        async def work() -> None:
            while not stop.is_set():
                await other.execute(Deposit("a", 1))
                await other.record(Deposited("b", 1), Deposited("new", 1))

        working = asyncio.create_task(work())
        for _ in range(5):
            await agree(app)
        stop.set()
        await working
