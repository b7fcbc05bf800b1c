"""A log of old events reads as if it had been written in new ones: to states, views, processes, and other contexts."""

import asyncio
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest

from refold import App, Command, Event, Inbox, Metadata, Projection, Row, Rows, Singleton, State, WiringError, kept
from refold.bus.memory import MemoryBus
from refold.model.query import Query
from refold.runtime.envelope import unpacked
from refold.store.memory import MemoryStore
from refold.sync import App as SyncApp
from tests.conftest import Log
from tests.model.test_upcast import (
    SCHEMA,
    UPCASTERS,
    AccountId,
    Balance,
    Corrected,
    Credited,
    Deposited,
    Opened,
    OpenedV0,
    Owner,
    PaidIn,
    Reconciled,
    TransferredV1,
    TransferredV2,
    TransferredV3,
    Withdrawn,
    owned,
    stored,
)

ON_POSTGRES = True
OLD = [TransferredV1, TransferredV2, TransferredV3, PaidIn, Credited, Reconciled, Corrected, Withdrawn, Deposited]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Noted(Event):
    account: AccountId
    event_id: str
    amount: Decimal


class Note(Command):
    account: AccountId
    event_id: str
    amount: Decimal


def note(cmd: Note) -> Noted:
    return Noted(cmd.account, cmd.event_id, cmd.amount)


def tell(event: Deposited, balance: Balance, metadata: Metadata) -> Note:
    return Note(event.account, metadata.event_id, event.amount)


class Turnover(Singleton):
    total: Decimal = Decimal()
    deposits: int = 0

    def evolve(self, event: Withdrawn | Deposited) -> Self:
        return self.replace(total=self.total + event.amount, deposits=self.deposits + isinstance(event, Deposited))


class Paid(State):
    """Folds one of the two that a transfer has become, and what else is plain."""

    account: AccountId
    times: int = 0

    def evolve(self, event: Deposited) -> Self:
        return self.replace(times=self.times + 1)


class Dated(State):
    """Wants metadata, and so is folded with care."""

    account: AccountId
    last: Decimal = Decimal()
    actor: str = ""

    def evolve(self, event: Withdrawn | Deposited, metadata: Metadata) -> Self:
        return self.replace(last=event.amount, actor=metadata.actor)


class Entry(Row):
    account: AccountId
    number: int
    amount: Decimal = Decimal()


class Book(Projection):
    rows = (Entry,)

    async def apply(self, event: Withdrawn | Deposited, rows: Rows) -> None:
        number = await rows.count(Entry, {"account": event.account})
        rows.put(Entry(event.account, number, event.amount if isinstance(event, Deposited) else -event.amount))


VIEWS = [Turnover, Paid, Dated, Book, kept(Balance, history=True)]


def some_events(seed: int, count: int) -> list[Event]:
    """Return old events of all versions between new ones."""
    rng = random.Random(seed)
    events: list[Event] = []
    for _ in range(count):
        a, b = rng.sample("abcde", 2)
        cents = rng.randrange(1, 10_000)
        amount = Decimal(cents) / 100
        events.append(
            rng.choice(
                [
                    TransferredV1(a, b, cents),
                    TransferredV2(a, b, amount),
                    TransferredV3(a, b, amount, "EUR"),
                    PaidIn(a, cents),
                    Credited(b, cents),
                    Reconciled(a),
                    Corrected(b, rng.randrange(-3, 4)),
                    Withdrawn(a, amount, "EUR"),
                    Deposited(b, amount, "EUR"),
                ]
            )
        )
    return events


def app(log: Any, *views: Any, events: Any = (Withdrawn, Deposited, Noted), **options: Any) -> App:
    return App(log, events=list(events), upcasters=UPCASTERS, projections=views, **options)


async def recorded(log: Any, events: Iterable[Event]) -> None:
    """Record events as the program did for which they were the newest."""
    async with App(log, events=OLD) as old:
        for event in events:
            await old.record(event, occurred_at=NOON, actor="ann")


def rewritten(events: Iterable[Event]) -> list[Event]:
    """Return what the events would be had they been recorded today."""
    return [new for event in events for new in SCHEMA.decode(stored(event, occurred_at=NOON))]


async def test_states_and_views_are_those_of_a_log_in_new_events(log: Log) -> None:
    events = some_events(1, 60)
    await recorded(log, events)
    async with app(log, *VIEWS) as old, app("memory:", *VIEWS) as new:
        for event in rewritten(events):
            await new.record(event, occurred_at=NOON, actor="ann")
        for each in (old, new):
            await each.settle()
        for name in "abcdef":
            for state in (Balance(name), Paid(name), Dated(name)):
                assert await old.load(state) == await new.load(state)
                assert await old.load(state, effective=NOON) == await new.load(state)
                assert await old.view(type(state)).get(name) == await new.view(type(state)).get(name)
            assert await old.view(Balance).get(name) == (await old.load(Balance(name)) if name != "f" else None)
        assert await old.load(Turnover()) == await new.load(Turnover())
        assert await old.view(Entry).find() == await new.view(Entry).find()
        assert [each.event async for each in old.events()] == rewritten(events)


async def test_what_is_remembered_goes_on_with_what_comes(log: Log) -> None:
    await recorded(log, [TransferredV1("a", "b", 500)])
    async with app(log, snapshot_every=2) as now:
        for _ in range(3):
            assert (await now.load(Balance("a"))).amount == await sum_of(now, "a")
            assert (await now.load(Balance("b"))).amount == await sum_of(now, "b")
            await recorded_beside(now, Withdrawn("a", Decimal(1), "EUR"), Deposited("b", Decimal(1), "EUR"))
    async with app(log, snapshot_every=2) as now:
        assert (await now.load(Balance("a"))).amount == Decimal(-8)
        assert (await now.load(Balance("b"))).amount == Decimal(8)
        assert (await now.load(Balance("b"), as_of=1)).amount == Decimal(5)


async def recorded_beside(now: App, *events: Event) -> None:
    for event in events:
        await now.record(event)


async def sum_of(now: App, account: str) -> Decimal:
    """Fold without anything that remembers."""
    events = [each.event async for each in now.events()]
    return Balance(account).fold(events).amount


async def test_a_view_as_it_was_and_in_parts_of_which_each_folds_its_own(log: Log) -> None:
    events = some_events(2, 40)
    await recorded(log, events)
    async with app(log, kept(Balance, parts=3), Paid) as now:
        await now.settle()
        for upto in (0, 7, 23, 40):
            expected = {name: Balance(name).fold(rewritten(events[:upto])) for name in "abcde"}
            assert {row.account: row for row in await now.view(Balance).find(as_of=upto)} == {
                name: state for name, state in expected.items() if state.amount or name in accounts_of(events[:upto])
            }
        folded = {name: Paid(name).fold(rewritten(events)) for name in "abcde"}
        assert {row.account: row for row in await now.view(Paid).find()} == {k: v for k, v in folded.items() if v.times}


def accounts_of(events: Iterable[Event]) -> set[str]:
    return {event.account for event in rewritten(events) if isinstance(event, Withdrawn | Deposited)}


async def test_events_are_those_that_were_asked_for(log: Log) -> None:
    events = some_events(3, 50)
    await recorded(log, events)
    new = rewritten(events)
    async with app(log) as now:
        for of, expected in (
            (None, new),
            (Query(), new),
            (Deposited, [each for each in new if isinstance(each, Deposited)]),
            ([Withdrawn], [each for each in new if isinstance(each, Withdrawn)]),
            (Balance("a"), [each for each in new if each.account == "a"]),  # type: ignore[attr-defined]
        ):
            assert [each.event async for each in now.events(of)] == expected
            assert [each.event async for each in now.events(of, backwards=True)] == expected[::-1]
            for limit in (0, 1, 2, 5, 1_000):
                assert [each.event async for each in now.events(of, limit=limit)] == expected[:limit]
                found = [each.event async for each in now.events(of, backwards=True, limit=limit)]
                assert found == expected[::-1][:limit]
            followed: list[Event] = []
            async for each in now.follow(of):
                followed.append(each.event)
                if len(followed) == len(expected):
                    break
            assert followed == expected


async def test_processes_have_an_id_for_each_of_several(log: Log) -> None:
    async with App(log, events=OLD) as old:
        await old.record(TransferredV1("a", "b", 500), Corrected("c", 3), Reconciled("d"), PaidIn("e", 100))
    async with app(log, decisions=[note], processes=[tell]) as now:
        await now.settle()
        noted = [each async for each in now.events(Noted)]
        assert sorted((each.event.account, each.event.amount) for each in noted) == [
            ("b", Decimal(5)),
            *[("c", Decimal(1))] * 3,
            ("e", Decimal(1)),
        ]
        ids = {each.event.event_id for each in noted}
        assert len(ids) == 3, "they share what is known of the event"
        # The number in an id is that of the event among those of its place: a second delivery does nothing.
        of_c = next(each.event.event_id for each in noted if each.event.account == "c")
        head = await now.head()
        for part in ("", ".1", ".2"):
            await now.execute(Note("c", of_c, Decimal(1)), id=f"{of_c}{part}/tell/1")
        assert await now.head() == head


async def test_the_outbox_publishes_each_of_several() -> None:
    bus, store = MemoryBus(), MemoryStore()
    await recorded(
        store, [TransferredV1("a", "b", 500), Corrected("c", 2), Reconciled("d"), Deposited("e", Decimal(1), "EUR")]
    )
    async with app(store, name="bank", bus=bus, outbox=[Deposited]) as now:
        await now.settle()
    receiver = await bus.receive("bank", "other")
    found = [unpacked(each.body) for each in await receiver.take(100, 1)]
    assert [(each.type, each.subject) for each in found] == [
        ("Deposited.v1", "account:b"),
        ("Deposited.v1", "account:c"),
        ("Deposited.v1", "account:c"),
        ("Deposited.v1", "account:e"),
    ]
    assert len({each.id for each in found}) == 4


async def test_the_mirror_has_a_row_for_each_of_several(tmp_path: Path) -> None:
    events = some_events(4, 30)
    await recorded(f"sqlite:///{tmp_path}/log.db", events)
    async with app(f"sqlite:///{tmp_path}/log.db", analytics=tmp_path / "mirror") as now:
        answer = await now.query("select account, amount from Deposited order by position, account", at_least=30)
        deposits = [each for each in rewritten(events) if isinstance(each, Deposited)]
        assert sorted(answer.rows()) == sorted((each.account, each.amount) for each in deposits)
        [(count,)] = (await now.query("select count(*) from events")).rows()
        assert count == len(rewritten(events))
        [(unread,)] = (await now.query("select count(*) from _unread")).rows()
        assert unread == 0


# A tag that old events were not stored with.


class Holdings(State):
    owner: Owner
    accounts: int = 0

    def evolve(self, event: Opened) -> Self:
        return self.replace(accounts=self.accounts + 1)


class Count(Command):
    owner: Owner


def count(cmd: Count, holdings: Holdings) -> Opened:
    return Opened(f"{cmd.owner}-{holdings.accounts}", cmd.owner)


def look(event: Opened, holdings: Holdings) -> Iterable[Count]:
    return ()


async def test_a_state_that_would_miss_old_events_is_refused_but_as_a_view(log: Log) -> None:
    async with App(log, events=OpenedV0) as old:
        await old.record(OpenedV0("a", "ann"), OpenedV0("b", "ann"), OpenedV0("c", "bob"))
    new: dict[str, Any] = {"events": Opened, "upcasters": [owned]}
    for options in ({"decisions": [count]}, {"decisions": [count], "processes": [look]}):
        with pytest.raises(WiringError, match="Holdings is found by the tag 'owner', but OpenedV0 version 1"):
            App(log, **new, **options)
    App("sqlite:///log.db", **new, decisions=[count], rows=[Holdings])  # a row is found by its key, not by tags
    for parts in (1, 3):
        async with App(log, **new, projections=[kept(Holdings, parts=parts, version=parts)]) as now:
            await now.settle()
            assert [each.version for each in await now.operations.standing() if each.status == "active"] == [
                f"v{parts}"
            ]
            assert await now.view(Holdings).find() == [Holdings("ann", 2), Holdings("bob", 1)]
            assert await now.view(Holdings).get("ann", as_of=1) == Holdings("ann", 1)
            with pytest.raises(WiringError, match="would be missed without a word"):
                await now.load(Holdings("ann"))
            with pytest.raises(WiringError, match="would be missed without a word"):
                _ = [each async for each in now.events(Holdings("ann"))]


def test_scripts_see_the_same(tmp_path: Path) -> None:
    with SyncApp(f"sqlite:///{tmp_path}/log.db", events=OLD) as old:
        old.record(TransferredV1("a", "b", 500))
    with SyncApp(f"sqlite:///{tmp_path}/log.db", events=[Withdrawn, Deposited], upcasters=UPCASTERS) as now:
        assert now.load(Balance("a")).amount == -5
        assert [each.event for each in now.events(Deposited)] == [Deposited("b", Decimal(5), "EUR")]


# What comes in from another context is upcast by when it happened there.


class TheirPaid(Event):
    account: str
    cents: int


class Paying(Event):
    account: str
    amount: Decimal
    currency: str


def their_money(old: TheirPaid, metadata: Metadata) -> Paying:
    return Paying(old.account, Decimal(old.cents) / 100, "EUR" if metadata.occurred_at.year >= 2002 else "DEM")


def keep(event: Paying) -> Deposited:
    return Deposited(event.account, event.amount, event.currency)


async def test_an_inbox_upcasts_by_when_it_happened_elsewhere() -> None:
    bus = MemoryBus()
    async with App("memory:", events=TheirPaid, name="them", bus=bus, outbox=[TheirPaid]) as them:
        for year in (1999, 2024):
            await them.record(TheirPaid("a", 100), occurred_at=NOON.replace(year=year))
        await them.settle()
    inbox = [Inbox("them", [keep], upcasters=[their_money])]
    async with App("memory:", events=Deposited, name="us", bus=bus, inbox=inbox) as us:
        while await us.head() < 2:
            await asyncio.sleep(0.01)
        found = [each.event.currency async for each in us.events(Deposited)]
    assert found == ["DEM", "EUR"]
