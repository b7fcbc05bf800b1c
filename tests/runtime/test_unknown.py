"""A rolling upgrade: what an older program does not know it parks by its key; a newer one takes it up, in order."""

import asyncio
from collections.abc import Iterable
from typing import Any, Self

import pytest

from refold import App, Command, Event, IdempotencyKey, Projection, Row, Rows, Singleton, State, kept, stored_as
from refold.bus.memory import MemoryBus
from refold.errors import UndecodableEvent, UnknownEvent
from refold.runtime.envelope import unpacked
from tests.conftest import Log
from tests.runtime.bank import AccountId

ON_POSTGRES = True

SENT: list[str] = []


@pytest.fixture(autouse=True)
def sent() -> list[str]:
    SENT.clear()
    return SENT


class Asked(Event):
    """Not upcast: what both programs know."""

    account: AccountId


class Old:
    """The program that runs everywhere before the upgrade."""

    class Paid(Event):
        account: AccountId
        cents: int

    @staticmethod
    def app(log: Any, **options: Any) -> App:
        return program(log, Old.Paid, **options)


@stored_as("Paid", version=2)
class Paid(Event):
    """Of the program that comes in its place; the class of the first version is kept to be read."""

    account: AccountId
    cents: int
    note: str


class GiftAdded(Event):
    account: AccountId


def noted(old: Old.Paid) -> Paid:
    return Paid(old.account, old.cents, "old")


class Told(Event):
    account: AccountId
    cents: int


class Tell(Command):
    account: AccountId
    cents: int


class Count(Command):
    account: AccountId


def program(log: Any, paid: Any, *, events: Any = (), **options: Any) -> App:
    """Wire a program of either kind: the same functions and states, but for the class of what was paid."""

    class Balance(State):
        account: AccountId
        cents: int = 0
        entries: tuple[int, ...] = ()

        def evolve(self, event: paid) -> Self:  # type: ignore[valid-type]
            return self.replace(cents=self.cents + event.cents, entries=(*self.entries, event.cents))  # type: ignore[attr-defined]

    class Questions(State):
        account: AccountId
        asked: int = 0

        def evolve(self, event: Asked) -> Self:
            return self.replace(asked=self.asked + 1)

    class Turnover(Singleton):
        entries: tuple[int, ...] = ()

        def evolve(self, event: paid) -> Self:  # type: ignore[valid-type]
            return self.replace(entries=(*self.entries, event.cents))  # type: ignore[attr-defined]

    class Entry(Row):
        account: AccountId
        number: int
        cents: int = 0

    class Book(Projection):
        rows = (Entry,)

        async def apply(self, event: paid, rows: Rows) -> None:  # type: ignore[valid-type]
            number = await rows.count(Entry, {"account": event.account})  # type: ignore[attr-defined]
            rows.put(Entry(event.account, number, event.cents))  # type: ignore[attr-defined]

    def tell(cmd: Tell) -> Told:
        return Told(cmd.account, cmd.cents)

    def count(cmd: Count, balance: Balance) -> Told:
        return Told(cmd.account, balance.cents)

    def telling(event: paid) -> Tell:  # type: ignore[valid-type]
        return Tell(event.account, event.cents)  # type: ignore[attr-defined]

    async def mail(event: paid, once: IdempotencyKey) -> None:  # type: ignore[valid-type]
        SENT.append(f"{event.account} {event.cents}")  # type: ignore[attr-defined]

    for each in (Balance, Questions, Turnover, Book, Entry, tell, count, telling, mail):
        each.__module__ = "tests.program"
    found = App(
        log,
        events=[paid, Asked, Told, *events],
        decisions=[tell, count],
        processes=[telling],
        effects=[mail],
        # A version of its own, so that one and the same follows the log before and after the upgrade.
        projections=[kept(each, version=1) for each in (Balance, Questions, Turnover, Book)],
        name="bank",
        outbox=[paid],
        **options,
    )
    found.Balance, found.Questions, found.Turnover, found.Entry = Balance, Questions, Turnover, Entry  # type: ignore[attr-defined]
    found.Count = Count  # type: ignore[attr-defined]
    return found


def new_program(log: Any, **options: Any) -> App:
    return program(log, Paid, events=[GiftAdded], upcasters=[noted], **options)


async def published(bus: MemoryBus, group: str) -> list[tuple[str, str]]:
    receiver = await bus.receive("bank", group)
    return [(found.subject, found.type) for found in (unpacked(each.body) for each in await receiver.take(100, 1))]


async def test_what_an_older_program_does_not_know_waits_for_a_newer_one(log: Log, sent: list[str]) -> None:
    bus = MemoryBus()
    async with Old.app(log, bus=bus) as old:
        await old.record(Old.Paid("a", 1), Asked("a"), Old.Paid("b", 10), id="first")
        await old.settle()
        async with new_program(log, bus=bus).passive() as new:
            await new.record(Paid("a", 2, "new"), Paid("b", 20, "new"), GiftAdded("c"), id="second")
        position = await old.record(Old.Paid("a", 3), Asked("a"), Old.Paid("c", 100), id="third")
        await old.wait(position)
        await old.settle(parked=True)

        # Each parks the keys that it cannot read on in, and goes on with others.
        parked = await old.operations.parked()
        failed = {(each.subscription.partition("@")[0], each.keys) for each in parked if each.error}
        by_first_tag = ("Balance", "Book", "telling", "mail", "outbox")
        assert failed == {
            *((name, (f"account:{account}",)) for name in by_first_tag for account in "ab"),
            ("Turnover", ("Turnover",)),
        }
        assert all(
            "is a Paid version 2, but this program knows version 1" in each.error for each in parked if each.error
        )
        assert all(each.retry_at is None for each in parked), "nothing changes until there is another program"
        assert await rows(old, "Balance") == [("a", (1,)), ("b", (10,)), ("c", (100,))]
        assert await rows(old, "Turnover") == [(1, 10)], "in one row, what comes after what is not known waits"
        assert sent == ["a 1", "b 10", "c 100"]
        assert [each for each in await published(bus, "x") if each[0] != "account:c"] == [
            ("account:a", "Paid.v1"),
            ("account:b", "Paid.v1"),
        ]

        # A state that needs it is not made without it; nor is anything decided.
        head = await old.head()
        for load in (old.load(old.Balance("a")), old.load(old.Turnover()), old.execute(Count("a"))):  # type: ignore[attr-defined]
            with pytest.raises(UnknownEvent, match="is a Paid version 2, but this program knows version 1"):
                await load
        assert await old.head() == head
        # What is made of what it knows is as ever, though the log holds types that nobody here follows.
        assert (await old.load(old.Questions("a"))).asked == 2  # type: ignore[attr-defined]
        assert (await old.load(old.Balance("c"))).cents == 100  # type: ignore[attr-defined]
        assert (await old.load(old.Balance("a"), as_of=3)).cents == 1  # type: ignore[attr-defined]
        await old.execute(Count("c"))

    sent.clear()
    async with new_program(log, bus=bus) as new:
        await new.settle()
        assert await new.operations.parked() == []
        assert await rows(new, "Balance") == [("a", (1, 2, 3)), ("b", (10, 20)), ("c", (100,))]
        assert await rows(new, "Turnover") == [(1, 10, 2, 20, 3, 100)]
        assert await rows(new, "Entry") == [("a", 1), ("a", 2), ("a", 3), ("b", 10), ("b", 20), ("c", 100)]
        assert sorted(sent) == ["a 2", "a 3", "b 20"]
        assert sent.index("a 2") < sent.index("a 3"), "in order"
        told = [each.event async for each in new.events(Told)]
        assert [each.cents for each in told if each.account == "a"] == [1, 2, 3]
        assert sorted(each.cents for each in told if each.account != "a") == [10, 20, 100, 100]
        assert [each for each in await published(bus, "x") if each[0] == "account:a"] == [
            ("account:a", "Paid.v1"),
            ("account:a", "Paid.v2"),
            ("account:a", "Paid.v2"),
        ]


async def rows(app: App, name: str) -> list[Any]:
    found = await app.view(getattr(app, name)).find()
    match name:
        case "Balance":
            return [(each.account, each.entries) for each in found]
        case "Turnover":
            return [each.entries for each in found]
        case _:
            return [(each.account, each.cents) for each in found]


async def test_two_programs_side_by_side_read_what_each_may(log: Log) -> None:
    async with Old.app(log, bus=MemoryBus()) as old, new_program(log, bus=MemoryBus()).passive() as new:
        await old.record(Old.Paid("a", 1))
        await new.record(Paid("a", 2, "new"))
        await old.record(Old.Paid("a", 3))
        assert (await new.load(new.Balance("a"))).entries == (1, 2, 3)  # type: ignore[attr-defined]
        with pytest.raises(UnknownEvent):
            _ = [each async for each in old.events()]
        assert [each.event async for each in old.events(upto=1)] == [Old.Paid("a", 1)]
        # What it remembers of a state is not trusted once something came that it does not know.
        await old.execute(Count("b"))
        await new.record(Paid("b", 5, "new"))
        with pytest.raises(UnknownEvent):
            await old.execute(Count("b"))


async def test_one_program_that_does_not_know_keeps_it_at_every_start(log: Log) -> None:
    async with new_program(log, bus=MemoryBus()).passive() as new:
        await new.record(Paid("a", 1, "new"))
    for attempts in (1, 2, 3):
        async with Old.app(log, bus=MemoryBus()) as old:
            await old.settle(parked=True)
            while {each.attempts for each in await old.operations.parked()} != {attempts}:
                await asyncio.sleep(0.01)
            assert len(await old.operations.parked()) == 5


async def test_what_was_parked_of_a_class_that_did_not_fit_is_tried_by_the_program_that_reads_it(log: Log) -> None:
    class Wrong:
        class Paid(Event):
            account: AccountId

    async with App(log, events=Wrong.Paid) as wrong:
        await wrong.record(Wrong.Paid("a"))
    async with Old.app(log, bus=MemoryBus()) as old:
        await old.settle(parked=True)
        assert {each.retry_at for each in await old.operations.parked()} == {None}
        with pytest.raises(UndecodableEvent, match="missing required field `cents`"):
            await old.load(old.Balance("a"))  # type: ignore[attr-defined]

    class Mended(Event):
        account: AccountId
        cents: int = 0

    Mended.__name__ = "Paid"
    async with program(log, Mended, bus=MemoryBus()) as mended:
        await mended.settle()
        assert await rows(mended, "Balance") == [("a", (0,))]


class Renamed(Event):
    account: AccountId
    owner: str = ""


async def test_an_event_that_cannot_be_read_and_tells_no_key_is_kept_all_the_same(log: Log) -> None:
    """A newer version may be tagged otherwise, so that an older program cannot tell which row it is of."""

    class Tagged:
        class Renamed(Event):
            account: AccountId

    @stored_as("Renamed", version=2)
    class Untagged(Event):
        account: str

    class Names(State):
        account: AccountId
        count: int = 0

        def evolve(self, event: Tagged.Renamed) -> Self:
            return self.replace(count=self.count + 1)

    def back(old: Untagged) -> Tagged.Renamed:
        return Tagged.Renamed(old.account)

    Names.evolve.__annotations__["event"] = Tagged.Renamed
    back.__annotations__ = {"old": Untagged, "return": Tagged.Renamed}
    for parts in (1, 2):
        views: Iterable[Any] = [kept(Names, version=parts, parts=parts)]
        async with App(log, events=[Untagged, Tagged.Renamed]) as newer:
            await newer.record(Untagged("a"))
        async with App(log, events=Tagged.Renamed, projections=views) as older:
            await older.record(Tagged.Renamed("a"))
            await older.settle(parked=True)
            waiting = [
                each for each in await older.operations.parked() if each.subscription.startswith(f"Names@v{parts}")
            ]
            assert {(each.keys, "version 2" in each.error) for each in waiting} == {((), True)}
        async with App(log, events=Tagged.Renamed, upcasters=[back], projections=views) as newest:
            await newest.settle()
            assert await newest.view(Names).find() == [Names("a", 2 * parts)]
