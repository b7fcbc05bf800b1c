"""Outbox and inbox: what one context records another acts on, once in effect, in order, whatever the broker does."""

import asyncio
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

import msgspec
import pytest

from refold import App, Command, Event, Inbox, Metadata, Rejected, State, Tag, Unavailable, WiringError, stored_as
from refold.bus.api import Bus, Message, Receiver
from refold.bus.memory import MemoryBus
from refold.errors import InvalidQuery, NotPublished, StoreBusy
from refold.runtime import inbox as inboxes
from refold.runtime import parking, subscription
from refold.runtime.books import CHECKPOINTS, RECEIVED, Checkpoint
from refold.runtime.envelope import unpacked
from refold.testing import NatsServer
from refold.view.api import Delete
from tests.conftest import Log

ON_POSTGRES = True

OrderId: TypeAlias = Annotated[str, Tag("order")]
SUNDAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


class OrderPlaced(Event):
    order_id: OrderId
    total: Decimal
    secret: str = "internal"


class OrderShipped(Event):
    order_id: OrderId


class OrderCancelled(Event):
    order_id: OrderId


class _Public:
    @stored_as("OrderPlaced", 2)
    class Placed(Event):
        order_id: OrderId
        total: Decimal


PublicPlaced = _Public.Placed


def without_secrets(event: OrderPlaced) -> PublicPlaced:
    return PublicPlaced(event.order_id, event.total)


# The other context shares no class with the first, only names, versions and fields.


class _Billing:
    @stored_as("OrderPlaced", 2)
    class Placed(Event):
        order_id: OrderId
        total: Decimal

    @stored_as("OrderShipped")
    class Shipped(Event):
        order_id: OrderId


Placed, Shipped = _Billing.Placed, _Billing.Shipped


class _FirstBilling:
    @stored_as("OrderPlaced", 1)
    class Placed(Event):
        order_id: OrderId
        amount: int


FirstPlaced = _FirstBilling.Placed


def in_decimals(old: FirstPlaced) -> Placed:
    return Placed(old.order_id, Decimal(old.amount))


class InvoiceIssued(Event):
    order_id: OrderId
    total: Decimal


class ParcelSeen(Event):
    order_id: OrderId


class IssueInvoice(Command):
    order_id: OrderId
    total: Decimal


class Invoice(State):
    order_id: OrderId
    issued: int = 0

    def evolve(self, event: InvoiceIssued) -> Self:
        return self.replace(issued=self.issued + 1)


class Broken:
    def __init__(self) -> None:
        self.orders: set[str] = set()


BROKEN = Broken()


def issue_invoice(cmd: IssueInvoice, invoice: Invoice) -> Iterable[InvoiceIssued]:
    """Issue without looking whether there is one: that it comes once is the inbox's to see to."""
    if cmd.order_id in BROKEN.orders:
        raise Rejected(f"{cmd.order_id} is broken")
    yield InvoiceIssued(cmd.order_id, cmd.total)


def bill(event: Placed) -> IssueInvoice:
    return IssueInvoice(event.order_id, event.total)


def note_parcel(event: Shipped) -> ParcelSeen:
    return ParcelSeen(event.order_id)


def shop(log: Any, bus: Any, **options: Any) -> App:
    given: dict[str, Any] = {"outbox": [without_secrets, OrderShipped]}
    return App(log, events=OrderPlaced | OrderShipped | OrderCancelled, name="shop", bus=bus, **given | options)


def billing(log: Any, bus: Any, *functions: Callable[..., Any], **options: Any) -> App:
    given: dict[str, Any] = {
        "events": InvoiceIssued | ParcelSeen,
        "decisions": [issue_invoice],
        "inbox": [Inbox("shop", functions or (bill, note_parcel))],
    }
    return App(log, name="billing", bus=bus, **given | options)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(parking, "RETRIES", ())
    monkeypatch.setattr(inboxes, "WAIT_SECONDS", 0.05)
    BROKEN.orders = set()


async def came(app: App, count: int) -> list[Event]:
    """Wait until so many of its own events are recorded; give others time to be recorded too."""
    async with asyncio.timeout(60):
        while len(await own(app)) < count:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    return await own(app)


async def own(app: App) -> list[Event]:
    """Return the events of an app, but for what operators did."""
    return [each.event async for each in app.events(list(app.schema.events))]


async def published(bus: Bus, count: int) -> list[dict[str, Any]]:
    receiver = await bus.receive("shop", "test")
    found: dict[str, Message] = {}  # what is repeated counts once
    while len(found) < count:
        for message in await receiver.take(100, 5):
            found.setdefault(message.id, message)
    return [msgspec.json.decode(each.body) for each in found.values()]


async def test_what_one_records_the_other_acts_on(log: Log) -> None:
    bus = MemoryBus()
    async with shop(log, bus) as orders, billing("memory:", bus) as bills:
        await orders.record(
            OrderPlaced("a", Decimal("9.50")),
            OrderShipped("a"),
            actor="ann",
            correlation_id="story",
            occurred_at=SUNDAY,
        )
        await orders.record(OrderCancelled("a"))
        assert await came(bills, 2) == [InvoiceIssued("a", Decimal("9.50")), ParcelSeen("a")]
        placed, *_ = [each async for each in orders.events()]
        for each in [each async for each in bills.events()]:
            assert (each.metadata.actor, each.metadata.correlation_id, each.occurred_at) == ("ann", "story", SUNDAY)
        await orders.settle()
        await until_written(bills, 2)
        [issued] = [each async for each in bills.events(InvoiceIssued)]
        assert issued.metadata.causation_id == placed.metadata.event_id
        outbox = {each.kind: each for each in await orders.operations.standing()}["outbox"]
        inbox = {each.kind: each for each in await bills.operations.standing()}["inbox"]
        assert (outbox.name, outbox.position, inbox.name, inbox.position) == ("outbox", 3, "inbox.shop", 2)


async def test_it_travels_as_a_cloud_event(log: Log) -> None:
    bus = MemoryBus()
    async with shop(log, bus) as app:
        await app.record(OrderPlaced("a", Decimal("9.50")), actor="ann", correlation_id="story", occurred_at=SUNDAY)
        await app.settle()
        [each] = [each async for each in app.events()]
    assert await published(bus, 1) == [
        {
            "id": each.metadata.event_id,
            "source": "shop",
            "type": "OrderPlaced.v2",
            "specversion": "1.0",
            "data": {"order_id": "a", "total": "9.50"},
            "time": "2026-03-01T12:00:00Z",
            "subject": "order:a",
            "datacontenttype": "application/json",
            "partitionkey": "order:a",
            "sequence": "1",
            "correlationid": "story",
            "actor": "ann",
        }
        | ({"causationid": each.metadata.causation_id} if each.metadata.causation_id else {})
    ]


async def test_what_comes_again_is_not_done_again(log: Log) -> None:
    bus = MemoryBus()
    async with shop("memory:", bus) as orders:
        await orders.record(*[OrderPlaced(order, Decimal(1)) for order in "abc"])
        await orders.settle()
    messages = list((await bus.receive("shop", "test")).__dict__["_topic"].messages)
    async with billing(log, bus) as bills:
        assert len(await came(bills, 3)) == 3
        await bus.publish("shop", messages)
        await bus.publish("shop", messages[::-1])
        assert len(await came(bills, 3)) == 3
    async with billing(log, bus) as bills:
        await bus.publish("shop", messages)
        assert len(await came(bills, 3)) == 3


async def test_a_crash_before_it_was_noted_changes_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = MemoryBus()
    async with shop("memory:", bus) as orders, billing(log, bus) as bills:
        inlet = bills._now.inlets["inbox.shop"]
        async with asyncio.timeout(60):
            while not inlet.owned:
                await asyncio.sleep(0.005)
        lease, failed = inlet._lease, 0
        write = lease.write

        async def failing(writes: Sequence[Any], upto: int | None = None) -> None:
            nonlocal failed
            if writes and failed < 3:
                failed += 1
                raise StoreBusy
            await write(writes, upto)

        monkeypatch.setattr(lease, "write", failing)
        await orders.record(*[OrderPlaced(order, Decimal(1)) for order in "abc"], OrderShipped("a"))
        assert len(await came(bills, 4)) == 4
        async with asyncio.timeout(60):
            while failed < 3 or inlet.position < 4:
                await asyncio.sleep(0.005)
        assert len(await came(bills, 4)) == 4


async def test_what_nobody_understands_is_parked_with_its_bytes(log: Log) -> None:
    bus = MemoryBus()
    bad = [
        Message("1", "order:a", b"\xff\x00 no json"),
        Message("2", "order:b", b'{"id":"1","source":"shop","type":"OrderPlaced.v2","specversion":"0.3"}'),
        Message("3", "order:c", cloud("OrderPlaced.v2", {"order_id": 7, "total": "1"})),
        Message("4", "order:d", cloud("OrderPlaced.v9", {"order_id": "d", "total": "1"})),
        Message("5", "order:e", cloud("NotForUs.v1", {})),
        Message("6", "order:a", cloud("OrderShipped.v1", {"order_id": "a"})),
        Message("7", "order:f", cloud("OrderShipped.v1", {"order_id": "f"})),
    ]
    async with billing(log, bus) as app:
        await bus.publish("shop", bad)
        assert await came(app, 1) == [ParcelSeen("f")]
        await until_written(app, 7)
        parked = await app.operations.parked("inbox.shop")
        assert [(each.position, each.type, bool(each.error)) for each in parked] == [
            (1, "?", True),
            (2, "OrderPlaced.v2", True),
            (3, "OrderPlaced.v2", True),
            (4, "OrderPlaced.v9", True),
            (6, "OrderShipped.v1", False),  # behind the first, of the same key
        ]
        assert "no CloudEvent in JSON" in parked[0].error
        assert "version 9 of 'OrderPlaced'" in parked[3].error or "9" in parked[3].error
        assert (await app.operations.message(parked[0])).body == b"\xff\x00 no json"
        await app.operations.skip(parked[0], reason="noise")
        assert await came(app, 2) == [ParcelSeen("f"), ParcelSeen("a")]


@pytest.mark.parametrize(
    ("type", "name", "version"),
    [
        ("OrderPlaced.v2", "OrderPlaced", 2),
        ("com.vendor.OrderPlaced", "com.vendor.OrderPlaced", 1),
        ("com.vendor.OrderPlaced.v3", "com.vendor.OrderPlaced", 3),
        ("OrderPlaced", "OrderPlaced", 1),
        ("Order.v2.Placed", "Order.v2.Placed", 1),
        ("OrderPlaced.v0", "OrderPlaced.v0", 1),
        ("OrderPlaced.v01", "OrderPlaced.v01", 1),
        ("OrderPlaced.v1234567890", "OrderPlaced.v1234567890", 1),
        ("OrderPlaced.v٢", "OrderPlaced.v٢", 1),
        (".v2", ".v2", 1),
    ],
)
def test_a_type_says_its_version_at_its_end(type: str, name: str, version: int) -> None:
    event = unpacked(cloud(type, {}))
    assert (event.name, event.version) == (name, version)


async def test_an_event_whose_name_holds_a_v_comes_in(log: Log) -> None:
    @stored_as("com.vendor.ParcelHandedOver")
    class ParcelHandedOver(Event):
        order_id: str

    def seen(event: ParcelHandedOver) -> ParcelSeen:
        return ParcelSeen(event.order_id)

    bus = MemoryBus()
    app = App(log, name="billing", bus=bus, events=[ParcelSeen], inbox=[Inbox("shop", [seen])])
    async with app:
        await bus.publish("shop", [Message("1", "a", cloud("com.vendor.ParcelHandedOver", {"order_id": "a"}))])
        assert await came(app, 1) == [ParcelSeen("a")]


async def test_it_is_understood_later(log: Log) -> None:
    bus = MemoryBus()
    async with billing(log, bus) as app:
        await bus.publish("shop", [Message("1", "order:a", cloud("OrderPlaced.v1", {"order_id": "a", "amount": 5}))])
        async with asyncio.timeout(60):
            while not await app.operations.parked():
                await asyncio.sleep(0.01)
    mended = [Inbox("shop", [bill, note_parcel], upcasters=[in_decimals])]
    async with billing(log, bus, inbox=mended) as app:
        async with asyncio.timeout(60):
            while not app._now.inlets["inbox.shop"].owned:
                await asyncio.sleep(0.01)
        await app.operations.retry()
        assert await came(app, 1) == [InvoiceIssued("a", Decimal(5))]
        assert await app.operations.parked() == []


async def test_what_was_parked_and_skipped_is_not_let_in_when_it_is_repeated(log: Log) -> None:
    """Nothing of it is in the log, so nothing but its id tells that it came in."""
    bus = MemoryBus()
    BROKEN.orders = {"a"}
    noise = Message("1", "order:x", b"noise")
    refused = Message("2", "order:a", cloud("OrderPlaced.v2", {"order_id": "a", "total": "1"}))
    async with billing(log, bus) as app:
        await bus.publish("shop", [noise, refused])
        async with asyncio.timeout(60):
            while len(parked := await app.operations.parked()) < 2:
                await asyncio.sleep(0.01)
        await bus.publish("shop", [noise, refused])
        for each in parked:
            await app.operations.skip(each, reason="nobody wants it")
        BROKEN.orders = set()
        await bus.publish("shop", [noise, refused, Message("3", "k", cloud("OrderShipped.v1", {"order_id": "b"}))])
        assert await came(app, 1) == [ParcelSeen("b")]
        assert await app.operations.parked() == []


async def test_a_refusal_parks_its_key(log: Log) -> None:
    bus = MemoryBus()
    BROKEN.orders = {"a"}
    async with shop("memory:", bus) as orders, billing(log, bus) as bills:
        await orders.record(OrderPlaced("a", Decimal(1)), OrderPlaced("b", Decimal(1)), OrderShipped("a"))
        assert await came(bills, 1) == [InvoiceIssued("b", Decimal(1))]
        await until_written(bills, 3)
        failed, waits = await bills.operations.parked()
        assert ("a is broken" in failed.error, waits.type) == (True, "OrderShipped.v1")
        BROKEN.orders = set()
        assert await bills.operations.retry() == []
        assert (await came(bills, 3))[1:] == [InvoiceIssued("a", Decimal(1)), ParcelSeen("a")]


async def test_an_outbox_that_begins_again_repeats_all_and_changes_nothing(log: Log) -> None:
    bus = MemoryBus()
    async with billing("memory:", bus) as bills:
        async with shop(log, bus) as orders:
            await orders.record(*[OrderPlaced(order, Decimal(1)) for order in "abc"], OrderShipped("a"))
            assert len(await came(bills, 4)) == 4
            await orders.settle()
        async with shop(log, bus).passive() as orders:
            await orders._now.books[0].write(Delete(CHECKPOINTS, [("outbox",)]))
        async with shop(log, bus) as orders:
            await orders.record(OrderShipped("b"))
            await orders.settle()
            assert (await came(bills, 5))[4:] == [ParcelSeen("b")]
            await until_written(bills, 4 + 5)
        assert await bills.head() == 5


async def test_what_crosses_goes_on_when_a_passive_app_of_the_same_process_was_closed(log: Log, tmp_path: Path) -> None:
    bus = MemoryBus()
    async with shop(log, bus) as orders, billing(f"sqlite:///{tmp_path}/bills.db", bus) as bills:
        async with orders.passive() as other, bills.passive():
            assert other._now.outbox is not orders._now.outbox
            await orders.record(OrderPlaced("a", Decimal(1)))
            assert await other.operations.republish(after=0, upto=1, reason="lost") == 1
        await orders.record(OrderShipped("a"))
        assert await came(bills, 2) == [InvoiceIssued("a", Decimal(1)), ParcelSeen("a")]


async def test_what_is_published_again_under_an_id_is_published_once(log: Log) -> None:
    bus = MemoryBus()
    async with shop(log, bus) as orders:
        await orders.record(OrderPlaced("a", Decimal(1)))
        await orders.settle()
        again = [orders.operations.republish(after=0, upto=1, reason="lost", id="k") for _ in range(3)]
        assert sorted(await asyncio.gather(*again)) == [0, 0, 1]
        receiver = await bus.receive("shop", "test")
        assert len(await receiver.take(10, 1)) == 2


async def test_what_a_restored_database_lacks_is_published_again(tmp_path: Path) -> None:
    bus, path, backup = MemoryBus(), tmp_path / "billing.db", tmp_path / "backup.db"
    async with shop("memory:", bus) as orders:
        async with billing(f"sqlite:///{path}", bus) as bills:
            await orders.record(OrderPlaced("a", Decimal(1)), OrderPlaced("b", Decimal(2)))
            await came(bills, 2)
            await until_written(bills, 2)
        shutil.copy(path, backup)
        async with billing(f"sqlite:///{path}", bus) as bills:
            await orders.record(OrderShipped("a"), OrderPlaced("c", Decimal(3)))
            whole = await came(bills, 4)
            await until_written(bills, 4)
        shutil.move(backup, path)
        async with billing(f"sqlite:///{path}", bus) as bills:
            await orders.record(OrderShipped("c"))
            assert [*await came(bills, 3)] == [*whole[:2], ParcelSeen("c")], "the broker has seen it confirm the others"
            assert await orders.operations.republish(after=0, upto=await orders.head(), reason="restored") == 5
            assert sorted(map(str, await came(bills, 5))) == sorted(map(str, [*whole, ParcelSeen("c")]))
            await until_written(bills, 3 + 5)
            with pytest.raises(InvalidQuery, match="has no outbox"):
                await bills.operations.republish(after=0, upto=1, reason="restored")
        with pytest.raises(InvalidQuery, match="for a reason"):
            await orders.operations.republish(after=0, upto=1, reason=" ")


async def test_what_a_restored_log_says_anew_comes_in(tmp_path: Path) -> None:
    bus, path, backup = MemoryBus(), tmp_path / "shop.db", tmp_path / "backup.db"
    async with billing("memory:", bus) as bills:
        async with shop(f"sqlite:///{path}", bus) as orders:
            await orders.record(OrderPlaced("a", Decimal(1)))
            await orders.settle()
        shutil.copy(path, backup)
        async with shop(f"sqlite:///{path}", bus) as orders:
            await orders.record(OrderPlaced("forgotten", Decimal(2)))
            assert len(await came(bills, 2)) == 2
        shutil.move(backup, path)
        async with shop(f"sqlite:///{path}", bus) as orders:
            await orders.record(OrderPlaced("b", Decimal(3)))
            assert await orders.head() == 2, "at the position of what was forgotten"
            found = await came(bills, 3)
    assert [each.order_id for each in found] == ["a", "forgotten", "b"]  # type: ignore[attr-defined]


async def until_written(app: App, number: int) -> None:
    """Wait until so many messages have come in, and that is written."""
    async with asyncio.timeout(60):
        while (await app._now.books[0].checkpoint("inbox.shop") or Checkpoint("")).position < number:
            await asyncio.sleep(0.005)


async def numbers_received(app: App) -> list[int]:
    return sorted(row.number for row in await app._now.books[0].find(RECEIVED))


def shipped(order: str, millisecond: int, number: int = 0) -> Message:
    """Return an event whose id was made at a time."""
    own = f"{millisecond:08x}-0000-7000-8000-{number:012x}"
    return Message(own, f"order:{order}", cloud("OrderShipped.v1", {"order_id": order}, id=own, source="shop"))


@pytest.mark.parametrize("days", [0, 7])
async def test_ids_are_forgotten_when_they_are_old_in_both_ways(
    log: Log, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "REMEMBERED", 20)
    monkeypatch.setattr(inboxes, "REMEMBERED_DAYS", days)
    monkeypatch.setattr(inboxes, "FORGET_EACH", 5)
    monkeypatch.setattr(inboxes, "MOST", 7)
    bus = MemoryBus()
    async with billing(log, bus) as bills:
        await bus.publish("shop", [shipped(f"o-{number}", number) for number in range(1, 101)])
        assert len(await came(bills, 100)) == 100
        await until_written(bills, 100)
        kept = await numbers_received(bills)
        assert await bills.operations.parked() == []
    assert kept == list(range(kept[0], 101))
    assert len(kept) == 100 if days else 20 <= len(kept) <= 20 + 2 * (5 + 7)


async def test_what_is_older_than_is_remembered_waits_for_somebody_to_say_what_it_is(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "REMEMBERED", 10)
    monkeypatch.setattr(inboxes, "REMEMBERED_DAYS", 0)
    monkeypatch.setattr(inboxes, "FORGET_EACH", 1)
    monkeypatch.setattr(inboxes, "MOST", 2)
    monkeypatch.setattr(parking, "RETRIES", (0.0,))
    bus = MemoryBus()
    messages = [shipped("twice", 1), shipped("twice", 2), *[shipped(f"o-{each}", each) for each in range(3, 21)]]
    async with billing(log, bus) as bills:
        await bus.publish("shop", messages)
        assert len(await came(bills, 20)) == 20
        await until_written(bills, 20)
    async with billing(log, bus) as bills:
        assert 3 < (await numbers_received(bills))[0] < 16
        await bus.publish("shop", [*messages[-4:], *messages[:2], shipped("late", 2, 1), shipped("new", 21)])
        assert (await came(bills, 21))[-1] == ParcelSeen("new")
        await until_written(bills, 20 + 8)
        first, second, late = await bills.operations.parked()
        assert [each.key for each in (first, second, late)] == ['["order:twice"]', '["order:twice"]', '["order:late"]']
        for each in (first, late):
            assert "If it was held up until now, retry it; if it comes again, skip it" in each.error
        assert (await bills.operations.message(first)).body == messages[0].body
        await bills.operations.skip(first, reason="it had come in")
        assert second in await bills.operations.parked(), "each is a question of its own"
        await bills.operations.skip(second, reason="it had come in")
        assert await bills.operations.retry(late) == []
        assert (await came(bills, 22))[-1] == ParcelSeen("late")


async def test_a_source_whose_clock_was_ahead_once_is_heard_ever_after(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "REMEMBERED", 5)
    monkeypatch.setattr(inboxes, "REMEMBERED_DAYS", 0)
    monkeypatch.setattr(inboxes, "FORGET_EACH", 1)
    monkeypatch.setattr(inboxes, "MOST", 2)
    bus, ahead = MemoryBus(), int((datetime.now(UTC) + timedelta(days=10)).timestamp() * 1000) >> 16
    async with billing(log, bus) as bills:
        await bus.publish("shop", [shipped("ahead", ahead), *[shipped(f"o-{each}", each) for each in range(2, 31)]])
        assert len(await came(bills, 30)) == 30
        await until_written(bills, 30)
        await bus.publish("shop", [shipped("ahead", ahead), shipped("o-31", 31)])  # one that came, and a new one
        assert (await came(bills, 31))[-1] == ParcelSeen("o-31")
        assert await bills.operations.parked() == []
        kept = await numbers_received(bills)
    assert kept[0] == 1, "its id is kept until its time has passed"
    assert kept[1] > 20


class Unsteady:
    """A broker that is away now and then, having taken some of what it was given; that repeats, but loses nothing."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self._bus = bus
        self._random = random.Random(seed)
        self.away = False
        self.refuses = b""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if self.away:
            raise Unavailable
        if self.refuses and any(self.refuses in each.body for each in messages):
            raise NotPublished("too large")
        if self._random.random() < 0.3:
            await self._bus.publish(topic, messages[: self._random.randint(0, len(messages))])
            raise Unavailable
        await self._bus.publish(topic, messages)

    async def receive(self, topic: str, group: str) -> Receiver:
        if self.away or self._random.random() < 0.3:
            raise Unavailable
        receiver = await self._bus.receive(topic, group)
        take, done = receiver.take, receiver.done

        async def unsteady_take(most: int, seconds: float) -> Sequence[Message]:
            if self._random.random() < 0.2:
                raise Unavailable
            return await take(self._random.randint(1, 5), seconds)

        async def unsteady_done() -> None:
            if self._random.random() < 0.3:
                raise Unavailable
            await done()

        vars(receiver).update(take=unsteady_take, done=unsteady_done)
        return receiver

    async def close(self) -> None:
        await self._bus.close()


class Deaf(MemoryBus):
    """Does not hear that it should end the first time that it is told, as some clients."""

    def __init__(self, *, publishing: bool) -> None:
        super().__init__()
        self._publishing = publishing
        self.told = 0
        self.waits = asyncio.Event()

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if self._publishing:
            await self._wait()
        await super().publish(topic, messages)

    async def receive(self, topic: str, group: str) -> Any:
        receiver = await super().receive(topic, group)

        async def take(most: int, seconds: float) -> Sequence[Message]:
            await self._wait()
            return []

        if not self._publishing:
            vars(receiver).update(take=take)
        return receiver

    async def _wait(self) -> None:
        self.waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.told += 1
            if self.told > 1:
                raise


@pytest.mark.parametrize("publishing", [True, False])
async def test_what_does_not_hear_that_it_should_end_is_told_again(
    log: Log, publishing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "STOP_SECONDS", 0.2)
    bus = Deaf(publishing=publishing)
    async with asyncio.timeout(60):
        async with shop("memory:", bus) as orders, billing(log, bus):
            await orders.record(OrderShipped("a"), OrderShipped("b"))
            await bus.waits.wait()
    assert bus.told, "it was waiting"


@pytest.mark.parametrize("seed", range(5))
async def test_an_unsteady_broker_changes_nothing(seed: int) -> None:
    bus = Unsteady(MemoryBus(), seed)
    async with shop("memory:", bus) as orders, billing("memory:", bus) as bills:
        for number in range(60):
            order = f"o-{number % 7}"
            if number % 2:
                await orders.record(OrderShipped(order))
            else:
                await orders.record(OrderPlaced(order, Decimal(number)))
        found = await came(bills, 60)
        assert len(found) == 60
        sent = [each.event async for each in orders.events()]
        for number in range(7):
            mine = [each for each in sent if each.order_id == f"o-{number}"]  # type: ignore[attr-defined]
            got = [each for each in found if each.order_id == f"o-{number}"]  # type: ignore[attr-defined]
            expected = [
                InvoiceIssued(each.order_id, each.total) if isinstance(each, OrderPlaced) else ParcelSeen(f"o-{number}")
                for each in mine
            ]
            assert got == expected


async def test_while_the_broker_is_away_nothing_is_lost(log: Log) -> None:
    bus = Unsteady(MemoryBus(), 1)
    bus.away = True
    async with shop(log, bus) as orders:
        await orders.record(*[OrderShipped(f"o-{number}") for number in range(50)])
        async with asyncio.timeout(60):
            while not orders._now.reactions["outbox"]._trouble:
                await asyncio.sleep(0.005)
        assert await orders.operations.parked() == []
    async with shop(log, bus) as orders:
        bus.away = False
        await orders.settle()
    ids = [each["subject"] for each in await published(bus._bus, 50)]
    assert ids == [f"order:o-{number}" for number in range(50)]


async def test_what_the_broker_refuses_is_parked_alone(log: Log) -> None:
    bus = Unsteady(MemoryBus(), 3)
    bus.refuses = b'"o-3"'
    async with shop(log, bus) as orders:
        await orders.record(*[OrderShipped(f"o-{number}") for number in range(6)])
        await orders.settle(parked=True)
        [parked] = await orders.operations.parked()
        assert (parked.subscription, parked.position, "too large" in parked.error) == ("outbox", 4, True)
        bus.refuses = b""
        assert await orders.operations.retry() == []
    assert {each["subject"] for each in await published(bus._bus, 6)} == {f"order:o-{number}" for number in range(6)}


async def test_a_translation_that_fails_is_parked(log: Log) -> None:
    def picky(event: OrderPlaced, metadata: Metadata) -> PublicPlaced:
        if event.order_id in BROKEN.orders:
            raise ValueError("no")
        return PublicPlaced(event.order_id, event.total)

    BROKEN.orders = {"a"}
    bus = MemoryBus()
    async with shop(log, bus, outbox=[picky]) as orders:
        await orders.record(OrderPlaced("a", Decimal(1)), OrderPlaced("b", Decimal(1)), OrderPlaced("a", Decimal(2)))
        await orders.settle(parked=True)
        assert [each["subject"] for each in await published(bus, 1)] == ["order:b"]
        BROKEN.orders = set()
        assert await orders.operations.retry() == []
    assert [each["data"]["total"] for each in (await published(bus, 3))[1:]] == ["1", "2"]


async def test_one_event_may_be_several_for_others_or_none(log: Log) -> None:
    def two(event: OrderPlaced) -> Iterable[PublicPlaced]:
        if event.total:
            yield PublicPlaced(event.order_id, event.total)
            yield PublicPlaced(event.order_id, -event.total)

    bus = MemoryBus()
    async with shop(log, bus, outbox=[two]) as orders, billing("memory:", bus) as bills:
        await orders.record(OrderPlaced("a", Decimal(0)), OrderPlaced("b", Decimal(1)))
        totals = [each.total for each in await came(bills, 2)]  # type: ignore[attr-defined]
        assert totals == [Decimal(1), Decimal(-1)]


async def test_over_a_real_broker_that_is_killed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "WAIT_SECONDS", 0.5)
    with NatsServer() as server:
        async with shop("memory:", server.url) as orders, billing(log, server.url) as bills:
            for number in range(200):
                await orders.record(OrderPlaced(f"o-{number % 9}", Decimal(number)), OrderShipped(f"o-{number % 9}"))
                if number in (50, 120):
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
            found = await came(bills, 400)
        assert len(found) == 400
        for order in range(9):
            totals = [each.total for each in found if isinstance(each, InvoiceIssued) and each.order_id == f"o-{order}"]
            assert totals == [Decimal(number) for number in range(order, 200, 9)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shop("memory:", None), "has a name, by which others know it, and a broker"),
        (lambda: App("memory:", events=OrderShipped, outbox=[OrderShipped], bus=MemoryBus()), "has a name"),
        (lambda: shop("memory:", "http://localhost"), "'http' is no broker: write 'nats://localhost:4222'"),
        (lambda: shop("memory:", "valkey://localhost:99999"), "is no address: Port out of range"),
        (lambda: shop("memory:", MemoryBus(), outbox=[InvoiceIssued]), "is not among the events of this app"),
        (lambda: shop("memory:", MemoryBus(), outbox=[without_secrets, OrderPlaced]), "choose one"),
        (lambda: shop("memory:", MemoryBus(), outbox=[_unsaid]), "says not which events it publishes"),
        (lambda: shop("memory:", MemoryBus(), outbox=[_with_state]), "sees nothing but it and its `Metadata`"),
        (lambda: billing("memory:", MemoryBus(), decisions=[]), "gives IssueInvoice, which no decision takes"),
        (lambda: billing("memory:", MemoryBus(), _foreign), "is not among the events of this app"),
        (lambda: billing("memory:", MemoryBus(), inbox=[Inbox("shop", [])]), "has no functions"),
        (lambda: billing("memory:", MemoryBus(), inbox=[Inbox("a b", [bill])]), "cannot be the name of a context"),
        (
            lambda: billing("memory:", MemoryBus(), inbox=[Inbox("shop", [bill]), Inbox("shop", [note_parcel])]),
            "two inboxes are of 'shop'",
        ),
    ],
)
def test_what_could_not_work_is_refused(make: Callable[[], App], message: str) -> None:
    with pytest.raises(WiringError) as caught:
        make()
    assert message in str(caught.value)


def _unsaid(event: OrderPlaced): ...  # type: ignore[no-untyped-def]


def _with_state(event: Placed, invoice: Invoice) -> PublicPlaced: ...  # type: ignore[empty-body]


def _foreign(event: Placed) -> OrderShipped: ...  # type: ignore[empty-body]


def cloud(kind: str, data: Any, **more: str) -> bytes:
    """Return a CloudEvent as somebody else might write it."""
    event = {"specversion": "1.0", "id": f"{kind}-{data}", "source": "elsewhere", "type": kind, "data": data}
    return msgspec.json.encode(event | more)
