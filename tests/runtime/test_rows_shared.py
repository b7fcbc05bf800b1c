"""Rows that other programs read and write beside, and rows whose class has changed."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

import apsw
import asyncpg
import pytest
from msgspec import Struct

from refold import (
    Rejected,
    State,
    StoreError,
    Tag,
    WiringError,
)
from refold.store.open import open_store
from refold.store.postgres import read_address
from refold.testing.postgres import PostgresServer
from tests.conftest import Log
from tests.runtime.bank import (
    Balance,
    Deposit,
    Deposited,
    FeeSet,
    Overdrawn,
    Withdraw,
    bank,
)
from tests.runtime.rowing import agree, before_append, rows_bank

ON_POSTGRES = True
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def run_sql(log: Log, sql: str) -> None:
    """Do what another program does to the rows of a state, which it finds as `TABLE`."""
    assert isinstance(log, str)
    if log.startswith("sqlite"):
        connection = apsw.Connection(
            log.removeprefix("sqlite:///")
        )  # not sqlite3: its locks are others to this process
        connection.set_busy_timeout(60_000)
        connection.execute(sql.replace("TABLE", '"view_Balance_rows"').replace("TRUE", "1"))
        connection.close()
        return
    other = await asyncpg.connect(read_address(log).dsn)
    await other.execute(sql.replace("TABLE", f'"{_schema(log)}_view"."Balance_rows"'))
    await other.close()


def _schema(log: str) -> str:
    return log.partition("schema=")[2].partition("&")[0]


@pytest.fixture(params=["sqlite", "postgres"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log that other programs reach."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(f"rows{abs(hash(tmp_path)):x}")


async def test_what_another_program_changes_is_noticed(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rows_bank(file) as app:
        await app.execute(Deposit("a", 5))

        async def others() -> None:
            await run_sql(file, "UPDATE TABLE SET amount = 3 WHERE account_id = 'a'")

        before_append(app, monkeypatch, others)
        with pytest.raises(Overdrawn):
            await app.execute(Withdraw("a", 5))
        await app.execute(Withdraw("a", 2))
        assert await app.load(Balance("a")) == Balance("a", 1)
        [difference] = await app.operations.differences("Balance")
        assert (difference.row, difference.folded) == (Balance("a", 1), Balance("a", 3))


async def test_rows_that_another_program_has_put_need_no_events(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that it leaves out have their initial values, and columns that only it knows stay."""
    async with rows_bank(file) as app:
        await run_sql(file, "alter table TABLE add column note text")
        await run_sql(file, "INSERT INTO TABLE (account_id, note) VALUES ('a', 'mine')")
        await run_sql(file, "INSERT INTO TABLE (account_id, amount, closed) VALUES ('b', 7, TRUE)")
        assert await app.view(Balance).find() == [Balance("a"), Balance("b", 7, closed=True)]
        await app.execute(Deposit("a", 5))
        with pytest.raises(Rejected, match="closed"):
            await app.execute(Deposit("b", 5))
        await run_sql(file, "UPDATE TABLE SET amount = amount + 1 WHERE note = 'mine'")
        assert await app.load(Balance("a")) == Balance("a", 6)

        async def others() -> None:
            await run_sql(file, "INSERT INTO TABLE (account_id, amount) VALUES ('c', 7)")

        before_append(app, monkeypatch, others)
        await app.execute(Deposit("c", 1))
        assert await app.load(Balance("c")) == Balance("c", 8)
        await run_sql(file, "DELETE FROM TABLE WHERE account_id = 'c'")
        assert await app.load(Balance("c")) == Balance("c")
        assert await app.operations.import_rows([Balance("c", 2), Balance("a", 99), Balance("d", 3)]) == 2
        assert [row.amount for row in await app.view(Balance).find()] == [6, 7, 2, 3]


async def test_no_change_of_either_is_lost(file: str) -> None:
    async with rows_bank(file) as app:
        await app.execute(Deposit("a", 1))

        async def other_program() -> None:
            for _ in range(25):
                await run_sql(file, "UPDATE TABLE SET amount = amount + 1 WHERE account_id = 'a'")
                await asyncio.sleep(0.001)

        await asyncio.gather(other_program(), *[app.execute(Deposit("a", 1)) for _ in range(25)])
        assert await app.load(Balance("a")) == Balance("a", 51)


class Line(Struct, frozen=True):
    name: str
    price: Decimal | None = None


class Odd(State):
    """What can be written in several ways."""

    account_id: Annotated[str, Tag("account")]
    price: Decimal = Decimal(0)
    at: datetime | None = None
    lines: tuple[Line, ...] = ()
    seen: int = 0

    def evolve(self, event: Deposited) -> Self:
        return self.replace(seen=self.seen + 1)


async def test_a_row_counts_as_it_is_written_however_that_is(file: str) -> None:
    """What another program writes in its own way is the same value, and expected as it stands there."""
    async with rows_bank(file, rows=[Odd]) as app:
        await app.record(Deposited("a", 1))
        sql = (
            """UPDATE TABLE SET price = '1.50', at = '2026-03-01T13:00:00+01:00', """
            """lines = '[ {"price": "2.0",  "name": "x", "more": [1]} ]'"""
        )
        if file.startswith("sqlite"):
            await run_sql(file, sql.replace("TABLE", '"view_Odd_rows"').replace("1.50", "15E-1"))
        else:
            await run_sql(file, sql.replace("TABLE", f'"{_schema(file)}_view"."Odd_rows"'))
        await app.record(Deposited("a", 1))
        expected = Odd("a", Decimal("1.5"), NOON, (Line("x", Decimal(2)),), 2)
        assert await app.load(Odd("a")) == expected


# When the class changes.


class First:
    class Balance(State):
        account_id: Annotated[str, Tag("account")]
        amount: int = 0

        def evolve(self, event: Deposited) -> Self:
            return self.replace(amount=self.amount + event.amount)


class Second:
    class Balance(State):
        account_id: Annotated[str, Tag("account")]
        limit: int = 50
        amount: int = 0
        notes: tuple[str, ...] = ("new",)

        def evolve(self, event: Deposited) -> Self:
            return self.replace(amount=self.amount + event.amount, limit=self.limit + 1)


class Third:
    class Balance(State):
        account_id: Annotated[str, Tag("account")]
        amount: str = ""

        def evolve(self, event: Deposited) -> Self:
            return self


async def test_a_field_that_the_class_gains_is_added(log: Log) -> None:
    options: dict[str, Any] = {"decisions": [], "rows": [First.Balance]}
    async with bank(log, **options) as old:
        await old.record(Deposited("a", 5))
        async with bank(log, **options | {"rows": [Second.Balance]}) as new:
            assert await new.load(Second.Balance("a")) == Second.Balance("a", amount=5)
            await new.record(Deposited("a", 5))
            await old.record(Deposited("a", 5), Deposited("b", 5))
            assert await new.view(Second.Balance).find() == [
                Second.Balance("a", amount=15, limit=51),
                Second.Balance("b", amount=5),
            ]
    async with bank(log, **options | {"rows": [Second.Balance]}).passive() as again:
        assert (await again.load(Second.Balance("a"))).limit == 51
    with pytest.raises(WiringError, match="the rows of Balance are not those of its class"):
        async with bank(log, **options | {"rows": [Third.Balance]}):
            pass
    async with bank(log, **options) as old:
        assert await old.view(First.Balance).count() == 2


# PostgreSQL.


@pytest.mark.timeout(120)
async def test_what_is_sent_again_after_a_lost_connection_is_done_once(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """Sessions are ended at random, in the middle of what they do: rows are their events, and each counts once."""
    url = postgres.url("rowslost")
    store = await open_store(url)
    killer = await asyncpg.connect(f"postgresql://postgres@/postgres?host={postgres.folder}")
    async with rows_bank(store) as app:
        acknowledged = dict.fromkeys("abcd", 0)
        stop = asyncio.Event()

        async def work(account: str) -> None:
            while not stop.is_set():
                with suppress(StoreError):  # it does not know: then the same is sent once more, by its id
                    await app.execute(Deposit(account, 1), id=f"{account}-{acknowledged[account]}")
                    acknowledged[account] += 1

        working = [asyncio.create_task(work(account)) for account in "abcd"]
        ended = done = 0
        while ended < 10 or done < 100:
            while sum(acknowledged.values()) <= done:  # each has some time for its work, however slow the machine is
                await asyncio.sleep(random.uniform(0, 0.03))
            done = sum(acknowledged.values())
            ended += await killer.fetchval(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'refold' AND random() < 0.5"
            )
        stop.set()
        await asyncio.gather(*working)
        assert {row.account_id: row.amount for row in await app.view(Balance).find()} == acknowledged
        await agree(app)
    await store.close()
    await killer.close()


async def test_who_holds_a_row_keeps_nobody_else_waiting(postgres: PostgresServer) -> None:
    url = postgres.url("rowsheld")
    async with rows_bank(url) as app:
        await app.record(Deposited("a", 1), Deposited("b", 1))
        holder = await asyncpg.connect(read_address(url).dsn)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute('UPDATE "rowsheld_view"."Balance_rows" SET amount = 5 WHERE account_id = \'a\'')
        waiting = asyncio.create_task(app.execute(Deposit("a", 5)))
        for n in range(5):
            await app.execute(Deposit("b", 1))
            await app.record(FeeSet(n))
        assert not waiting.done()
        await transaction.commit()
        await holder.close()
        await waiting
        assert [row.amount for row in await app.view(Balance).find()] == [10, 6]
