"""Effects: what they do in the world is done under one key, again until it works, and without holding up others."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Self, TypeAlias

import pytest

from refold import (
    App,
    Command,
    Event,
    IdempotencyKey,
    Metadata,
    Rejected,
    State,
    Tag,
    Unavailable,
    WiringError,
    effect,
)
from refold.errors import AppendIdReused, InvalidQuery, StoreBusy
from refold.runtime import effect as effects
from refold.runtime import parking, subscription
from refold.runtime.books import CHECKPOINTS
from refold.view.api import Delete
from tests.conftest import Log

ON_POSTGRES = True

OrderId: TypeAlias = Annotated[str, Tag("order")]


class Shipped(Event):
    order_id: OrderId
    parcel: int = 1


class Mailed(Event):
    order_id: OrderId
    receipt: str


class NoteMail(Command):
    order_id: OrderId
    receipt: str


class Paid(Event):
    order_id: OrderId


class Ship(Command):
    order_id: OrderId


def ship(command: Ship) -> Shipped:
    return Shipped(command.order_id)


def pack(event: Paid) -> Ship:
    return Ship(event.order_id)


class Parcels(State):
    order_id: OrderId
    count: int = 0

    def evolve(self, event: Shipped) -> Self:
        return self.replace(count=self.count + 1)


def note_mail(cmd: NoteMail) -> Mailed:
    return Mailed(cmd.order_id, cmd.receipt)


class Post:
    """The world: mails that arrived, in order, with their keys; and what is wrong with it."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, int]] = []
        self.keys: list[str] = []
        self.fails: dict[str, int] = {}
        """How often mails for an order fail."""
        self.closed = False
        self.slow = 0.0
        self.busy = self.busiest = 0

    async def deliver(self, order_id: str, parcel: int, key: str) -> str:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await asyncio.sleep(self.slow)
            if self.closed:
                raise ConnectionError("the post office is closed")
            if self.fails.get(order_id, 0) > 0:
                self.fails[order_id] -= 1
                raise ConnectionError(f"no such street for {order_id}")
        finally:
            self.busy -= 1
        self.mails.append((order_id, parcel))
        self.keys.append(key)
        return f"r-{key}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(subscription, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(parking, "RETRIES", ())


@pytest.fixture
def post() -> Post:
    return Post()


def mailing(log: Any, post: Post, how: dict[str, Any] | None = None, **options: Any) -> App:
    async def send_mail(event: Shipped, parcels: Parcels, once: IdempotencyKey) -> None:
        assert parcels.count == event.parcel
        await post.deliver(event.order_id, event.parcel, once)

    given: dict[str, Any] = {"events": Shipped | Mailed, "effects": [effect(send_mail, **(how or {}))]}
    return App(log, **given | options)


async def test_it_is_done_once_for_each_event_in_order(log: Log, post: Post) -> None:
    async with mailing(log, post) as app:
        await app.record(*[Shipped(order, parcel) for parcel in range(1, 4) for order in "abcdefghij"])
        await app.settle()
        for order in "abcdefghij":
            assert [parcel for each, parcel in post.mails if each == order] == [1, 2, 3]
        events = [each async for each in app.events()]
        assert set(post.keys) == {f"{each.metadata.event_id}/send_mail" for each in events}
    async with mailing(log, post) as app:
        await app.settle()
        assert len(post.mails) == 30


async def test_a_passive_app_repeats_and_leaves_the_running_one_as_it_is(log: Log, post: Post) -> None:
    async with mailing(log, post) as app:
        await app.record(Shipped("a"))
        await app.settle()
        async with app.passive() as other:
            assert await other.operations.repeat("send_mail", after=0, upto=1, reason="it was lost") == 1
        assert post.mails == [("a", 1)] * 2
        await app.record(Shipped("b"))
        await app.settle()
        assert post.mails == [("a", 1), ("a", 1), ("b", 1)]


async def test_it_begins_with_what_happens_from_now_on(log: Log, post: Post) -> None:
    async with mailing(log, post, effects=[]) as app:
        await app.record(Shipped("old"))
    async with mailing(log, post) as app:
        await app.record(Shipped("new"))
        await app.settle()
    assert post.mails == [("new", 1)]


async def test_it_sees_what_the_processes_beside_it_lead_to_as_they_start(
    log: Log, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subscription.Subscription.start

    async def slowly(each: subscription.Subscription) -> None:
        await start(each)
        await asyncio.sleep(0.2)  # so that the process has done its work before the effect is started

    monkeypatch.setattr(subscription.Subscription, "start", slowly)
    more: dict[str, Any] = {"events": Paid | Shipped | Mailed, "decisions": [ship], "processes": [pack]}
    async with mailing(log, post, **more).passive() as app:
        await app.record(Paid("o"))
    async with mailing(log, post, **more) as app:
        await app.settle()
    assert post.mails == [("o", 1)]


async def test_it_begins_with_the_log_if_told_to(log: Log, post: Post) -> None:
    async with mailing(log, post, effects=[]) as app:
        await app.record(Shipped("old"))
    async with mailing(log, post, {"from_start": True}) as app:
        await app.settle()
    assert post.mails == [("old", 1)]


@pytest.mark.parametrize("from_start", [True, False])
async def test_one_whose_checkpoint_is_lost_repeats_under_the_same_keys_or_not_at_all(
    log: Log, post: Post, from_start: bool
) -> None:
    how = {"from_start": from_start}
    async with mailing(log, post, how) as app:
        await app.record(Shipped("a"), Shipped("b"))
        await app.settle()
    async with mailing(log, post, how).passive() as app:
        await app._now.books[0].write(Delete(CHECKPOINTS, [("send_mail",)]))
    async with mailing(log, post, how) as app:
        await app.settle()
    assert len(post.keys) == (4 if from_start else 2)
    assert len(set(post.keys)) == 2, "whoever looks at the keys does nothing twice"


async def test_what_comes_of_it_is_executed(log: Log, post: Post) -> None:
    async def send_mail(event: Shipped, once: IdempotencyKey, metadata: Metadata) -> NoteMail:
        return NoteMail(event.order_id, await post.deliver(event.order_id, 1, once))

    async with mailing(log, post, effects=[send_mail], decisions=[note_mail]) as app:
        await app.record(Shipped("a"), actor="ann")
        await app.settle()
        shipped, mailed = [each async for each in app.events()]
        assert mailed.event == Mailed("a", f"r-{shipped.metadata.event_id}/send_mail")
        assert (mailed.metadata.causation_id, mailed.metadata.actor) == (shipped.metadata.event_id, "ann")


async def test_what_fails_is_tried_again_and_then_parked_by_key(log: Log, post: Post) -> None:
    post.fails = {"a": 3, "b": 4}
    async with mailing(log, post) as app:
        await app.record(Shipped("a"), Shipped("b"), Shipped("b", 2), Shipped("c"))
        await app.settle(parked=True)
        assert sorted(post.mails) == [("a", 1), ("c", 1)]
        failed, waits = await app.operations.parked()
        assert ("no such street for b" in failed.error, waits.error) == (True, "")
        assert await app.operations.retry(failed) == []
        assert [each for each in post.mails if each[0] == "b"] == [("b", 1), ("b", 2)]
        [standing] = await app.operations.standing()
        assert (standing.kind, standing.parked) == ("effect", 0)


async def test_while_the_world_is_down_all_waits_and_nothing_is_parked(log: Log, post: Post) -> None:
    post.closed = True
    async with mailing(log, post) as app:
        await app.record(*[Shipped(f"o-{number}") for number in range(20)])
        async with asyncio.timeout(60):
            while "5 different events failed in a row" not in (trouble := app._now.reactions["send_mail"]._trouble):
                await asyncio.sleep(0.005)
        assert trouble.endswith("ConnectionError"), "and not what the program says of it, which others are told"
        assert await app.operations.parked() == []
        post.closed = False
        await app.settle()
        assert sorted(post.mails) == sorted((f"o-{number}", 1) for number in range(20))


@pytest.mark.parametrize("at_once", [1, 8])
async def test_many_that_are_wrong_hold_up_the_others_for_a_while_only(log: Log, at_once: int) -> None:
    mailed: list[str] = []

    async def send_mail(event: Shipped) -> None:
        if event.order_id.startswith("wrong"):
            raise ValueError("no address")
        mailed.append(event.order_id)

    async with mailing(log, Post(), effects=[effect(send_mail, at_once=at_once, attempts=2)]) as app:
        wrong = [Shipped(f"wrong-{number}") for number in range(12)]
        await app.record(*wrong, *[Shipped(f"good-{number}") for number in range(20)])
        await app.settle(parked=True)
        assert sorted(set(mailed)) == sorted(f"good-{number}" for number in range(20))
        assert [each.position for each in await app.operations.parked()] == list(range(1, 13))
        assert len(await app.operations.retry()) == 12


async def test_the_longer_all_is_away_the_fewer_are_parked(
    log: Log, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.closed = True
    async with mailing(log, post, {"attempts": 1}) as app:
        paused: list[int] = []
        sending = app._now.reactions["send_mail"]
        pause = sending._pause

        async def counting(error: Exception) -> None:
            paused.append(len(await app.operations.parked()))
            await pause(error)

        monkeypatch.setattr(sending, "_pause", counting)
        await app.record(*[Shipped(f"o-{number}") for number in range(100)])
        async with asyncio.timeout(60):
            while len(paused) < 30:
                await asyncio.sleep(0.005)
        assert paused[:3] == [0, 0, 0]
        assert paused[29] < 20
        post.closed = False
        async with asyncio.timeout(60):
            while len(post.mails) < 100 - paused[-1]:
                await asyncio.sleep(0.005)
        await app.operations.retry()
        assert sorted(post.mails) == sorted((f"o-{number}", 1) for number in range(100))


async def test_what_it_rejects_is_parked_at_once_and_says_nothing_of_the_world(log: Log) -> None:
    asked: list[str] = []

    async def send_mail(event: Shipped) -> None:
        asked.append(event.order_id)
        if event.order_id != "good":
            raise Rejected("there is no such address")

    async with mailing(log, Post(), effects=[send_mail]) as app:
        await app.record(*[Shipped(f"o-{number}") for number in range(7)], Shipped("good"))
        await app.settle(parked=True)
        assert sorted(asked) == ["good", *(f"o-{number}" for number in range(7))]
        assert len(await app.operations.parked()) == 7


async def test_it_can_say_so_itself(log: Log, post: Post) -> None:
    asked: list[str] = []

    async def send_mail(event: Shipped) -> None:
        asked.append(event.order_id)
        if len(asked) < 4:
            raise Unavailable("the quota is used up")

    async with mailing(log, post, effects=[send_mail]) as app:
        await app.record(Shipped("a"))
        await app.settle()
        assert asked == ["a"] * 4
        assert await app.operations.parked() == []


async def test_what_was_done_is_not_done_again_because_of_another(log: Log, post: Post) -> None:
    """Of a page that is handled again only what has not worked is."""
    asked: list[str] = []

    async def send_mail(event: Shipped) -> None:
        asked.append(event.order_id)
        if event.order_id == "z" and asked.count("z") < 3:
            await asyncio.sleep(0.02)
            raise Unavailable

    async with mailing(log, post, effects=[send_mail]) as app:
        await app.record(*[Shipped(order) for order in "abcz"])
        await app.settle()
        assert sorted(asked) == sorted("abczzz")


async def test_only_so_many_at_once(log: Log, post: Post) -> None:
    post.slow = 0.002
    async with mailing(log, post, {"at_once": 3}) as app:
        await app.record(*[Shipped(f"o-{number}") for number in range(20)])
        await app.settle()
    assert post.busiest == 3


async def test_only_so_many_a_second(log: Log, post: Post) -> None:
    loop = asyncio.get_running_loop()
    async with mailing(log, post, {"per_second": 100}) as app:
        start = loop.time()
        await app.record(*[Shipped(f"o-{number}") for number in range(21)])
        await app.settle()
        assert loop.time() - start >= 0.2
    assert len(post.mails) == 21


async def test_what_takes_too_long_has_failed(log: Log, post: Post) -> None:
    post.slow = 60
    async with mailing(log, post, {"seconds": 0.01, "attempts": 2}) as app:
        await app.record(Shipped("a"))
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        assert "TimeoutError" in parked.error


async def test_a_crash_repeats_a_few_under_the_same_keys(log: Log, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    async with mailing(log, post, {"at_once": 4}) as app:
        lease = app._now.reactions["send_mail"]._lease
        write = lease.write

        async def dying(writes: Any, upto: int | None = None) -> None:
            if len(post.mails) >= 12:
                raise StoreBusy
            await write(writes, upto)

        monkeypatch.setattr(lease, "write", dying)
        await app.record(*[Shipped(f"o-{number}") for number in range(12)])
        async with asyncio.timeout(60):
            while len(post.mails) < 12:
                await asyncio.sleep(0.005)
        lease.row = None  # it is gone, and has written nothing more
    async with mailing(log, post, {"at_once": 4}) as app:
        await app.settle()
    assert 12 <= len(post.mails) <= 16
    assert len(set(post.keys)) == 12


async def test_it_is_repeated_if_somebody_asks_with_a_reason(log: Log, post: Post) -> None:
    async with mailing(log, post) as app:
        await app.record(Shipped("a"), Shipped("b"), Shipped("c"))
        await app.settle()
        assert await app.operations.repeat("send_mail", after=1, upto=2, reason="the printer was out of ink") == 1
        assert post.mails[3:] == [("b", 1)]
        assert len(set(post.keys)) == 4
        with pytest.raises(InvalidQuery, match="for a reason"):
            await app.operations.repeat("send_mail", after=1, upto=2, reason=" ")
        with pytest.raises(InvalidQuery, match="there is no effect 'mail'; there is send_mail"):
            await app.operations.repeat("mail", after=1, upto=2, reason="x")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"at_once": 0}, "at_once=0: at least 1"),
        ({"attempts": 0}, "attempts=0: at least 1"),
        ({"seconds": 0}, "are above 0"),
        ({"per_second": 0}, "are above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any], message: str, post: Post) -> None:
    with pytest.raises(WiringError, match=message):
        mailing("memory:", post, how)


def test_names_come_once() -> None:
    async def send_mail(event: Shipped) -> None: ...

    functions: list[Callable[..., Any]] = [send_mail, send_mail]
    with pytest.raises(WiringError, match="are called 'send_mail'"):
        App("memory:", events=Shipped, effects=functions)


async def test_it_is_repeated_once_for_an_id_however_often_it_is_asked_for_at_once(log: Log, post: Post) -> None:
    async with mailing(log, post) as app:
        await app.record(Shipped("a"))
        await app.settle()
        post.slow = 0.05
        asked = {"after": 0, "upto": 1, "reason": "out of ink"}
        again = [app.operations.repeat("send_mail", **asked, id="k") for _ in range(3)]
        assert sorted(await asyncio.gather(*again)) == [0, 0, 1]
        assert await app.operations.repeat("send_mail", **asked, id="k") == 0
        assert len(post.mails) == 2
        with pytest.raises(AppendIdReused):
            await app.operations.repeat("send_mail", **asked | {"upto": 2}, id="k")
        assert [each.error for each in await app.operations.audit()] == [""]


async def test_what_failed_under_an_id_says_so_under_the_same_id(log: Log, post: Post) -> None:
    async with mailing(log, post) as app:
        await app.record(Shipped("a"))
        await app.settle()
        post.closed = True
        asked = {"after": 0, "upto": 1, "reason": "out of ink", "id": "k"}
        with pytest.raises(ConnectionError):
            await app.operations.repeat("send_mail", **asked)
        post.closed = False
        with pytest.raises(InvalidQuery, match="asked before, and failed: ConnectionError"):
            await app.operations.repeat("send_mail", **asked)
        assert len(post.mails) == 1
        assert [each.error for each in await app.operations.audit()] == ["ConnectionError"]
