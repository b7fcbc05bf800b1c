"""Processes, timers and the outbox: how soon things happen that follow from others, and how many of them a second."""

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from bench.measure import Options, Run, Target, compare, console, missed
from refold import App, Command, Event, Tag, at
from refold.bus.api import Message
from refold.bus.open import open_bus
from refold.model.record import NewEvent
from refold.model.schema import Schema
from refold.runtime.execute import Context
from refold.runtime.ids import new_id
from refold.runtime.outbox import Outbox
from refold.store.sqlite import SqliteStore
from refold.testing import NatsServer

OrderId: TypeAlias = Annotated[str, Tag("order")]
BATCH = 500
ROUND_TRIPS = 500
"""A second."""
ALL_SECONDS, LATE_SECONDS, ROUND_TRIP_SECONDS = 2.0, 0.1, 0.05
"""The targets: until all timers of one second have fired, a timer's p99 after it was due, a round trip's p99."""


class Asked(Event):
    order_id: OrderId
    due: datetime
    sent: float = 0.0


class Answered(Event):
    order_id: OrderId
    due: datetime
    sent: float
    done: float


class Answer(Command):
    order_id: OrderId
    due: datetime
    sent: float


def answer(cmd: Answer) -> Answered:
    return Answered(cmd.order_id, cmd.due, cmd.sent, time.perf_counter())


def at_once(event: Asked) -> Answer:
    return Answer(event.order_id, event.due, event.sent)


def when_due(event: Asked) -> Any:
    return at(Answer(event.order_id, event.due, event.sent), event.due)


def open_app(path: Path, process: Any) -> App:
    return App(f"sqlite:///{path}", events=Asked | Answered, decisions=[answer], processes=[process])


async def timers(options: Options) -> None:
    """Set 10,000 timers that are all due within one second, far enough ahead; how long until all have fired."""
    count = options.size(10_000)
    taken: list[float] = []
    for number in range(options.rounds):
        async with open_app(options.folder / f"timers-{number}.db", when_due) as app:
            ahead = datetime.now(UTC) + timedelta(seconds=4 + 6 * options.scale)
            spread = [ahead + timedelta(seconds=each / count) for each in range(count)]
            for start in range(0, count, 1_000):
                await app.record(*(Asked(f"o-{n}", spread[n]) for n in range(start, min(start + 1_000, count))))
            await app.wait(await app.head())
            set_in_time = (ahead - datetime.now(UTC)).total_seconds() > 0
            head = await app.head() + count
            while await app.head() < head:
                await asyncio.sleep(0.01)
            seconds = (datetime.now(UTC) - ahead).total_seconds()
            if set_in_time:
                taken.append(seconds)
    if not taken:
        missed.append("timers: setting them took longer than they were to wait")
        return
    _tell(
        "timers, all due within a second, have fired after", f"{count:,} ", statistics.median(taken), ALL_SECONDS, taken
    )


async def timer_lateness(options: Options) -> None:
    """How late a timer fires, at 50 a second, on an app that does nothing else."""
    count = options.size(500)
    async with open_app(options.folder / "late.db", when_due) as app:
        dice = random.Random(5)
        for number in range(count):
            due = datetime.now(UTC) + timedelta(seconds=dice.uniform(0.2, 1.0))
            await app.record(Asked(f"o-{number}", due))
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.5)
        late = [max((each.recorded_at - each.event.due).total_seconds(), 0.0) async for each in app.events(Answered)]
    assert len(late) == count
    cuts = statistics.quantiles(late, n=100)
    _tell("a timer fires after it was due, p99", "", cuts[98], LATE_SECONDS, late)


async def process_round_trip(options: Options) -> None:
    """From an event to the command of a process to its event, at 500 a second."""
    count = options.size(5_000)
    async with open_app(options.folder / "round-trip.db", at_once) as app:
        now, begin, pending = datetime.now(UTC), time.perf_counter(), set[asyncio.Task[int]]()
        for number in range(count):
            wait = begin + number / ROUND_TRIPS - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(app.record(Asked(f"o-{number}", now, time.perf_counter())))
            pending.add(task)
            task.add_done_callback(pending.discard)
        rate = count / (time.perf_counter() - begin)
        await asyncio.gather(*pending)
        seen = asyncio.create_task(_seen(app, count))
        late = await asyncio.wait_for(seen, 60)
    cuts = statistics.quantiles(late, n=100)
    console.print(f"round trips at {rate:,.0f} a second: p50 {cuts[49] * 1000:.1f} ms")
    _tell("an event leads to a command and that to its event, p99", "", cuts[98], ROUND_TRIP_SECONDS, late)


async def _seen(app: App, count: int) -> list[float]:
    """Return how long each took from before the first event was recorded until the second was decided."""
    found: list[float] = []
    async for each in app.follow(Answered):
        found.append(each.event.done - each.event.sent)
        if len(found) == count:
            break
    return found


async def outbox(options: Options) -> None:
    """Publish a log to NATS, beside the adapter that publishes the same messages without a log."""
    count = options.size(50_000, of=BATCH)
    path = options.folder / "outbox.db"
    store = await SqliteStore.open(path)
    schema = Schema(Asked)
    metadata = Context(id=new_id()).metadata()
    now = datetime.now(UTC)
    events = [schema.encode(Asked(f"o-{number % 1_000}", now), metadata) for number in range(count)]
    for start in range(0, count, BATCH):
        await store.append(events[start : start + BATCH])
    await store.close()
    names = itertools.count()
    with NatsServer() as server:

        async def refold() -> float:
            name = f"shop{next(names)}"
            copy = options.folder / f"{name}.db"
            copy.write_bytes(path.read_bytes())
            app = App(f"sqlite:///{copy}", name=name, bus=server.url, events=Asked | Answered, outbox=[Asked])
            start = time.perf_counter()
            async with app:
                await app.wait(count, timeout=None)
                return count / (time.perf_counter() - start)

        def adapter(size: int) -> Run:
            async def run() -> float:
                messages = await _messages(events, f"raw{next(names)}")
                bus = await open_bus(server.url)
                start = time.perf_counter()
                for begin in range(0, count, size):
                    await bus.publish(f"raw{size}", messages[begin : begin + size])
                seconds = time.perf_counter() - start
                await bus.close()
                return count / seconds

            return run

        found = await compare(
            "A log is published to NATS",
            "events",
            {"refold's outbox": refold, "the adapter, batches of 1,000": adapter(1_000), "… of 100": adapter(100)},
            [Target("refold's outbox", "the adapter, batches of 1,000", 0.5)],
            rounds=options.rounds,
        )
    _at_least("events a second leave by the outbox", found["refold's outbox"], 20_000)


async def _messages(events: Sequence[NewEvent], topic: str) -> list[Message]:
    """Return what the outbox makes of events."""
    from refold.store.memory import MemoryStore

    store = MemoryStore()
    await store.append(events)
    made = Outbox(topic, [Asked], Schema(Asked | Answered))
    found: list[Message] = []
    async for page in store.read():
        for stored in page:
            found += await made._messages(stored)  # pyright: ignore[reportPrivateUsage]
    return found


def _tell(what: str, count: str, seconds: float, target: float, all_: Sequence[float]) -> None:
    met = seconds <= target
    verdict = "[green]yes" if met else "[red]no"
    if not met:
        missed.append(f"{count}{what} {seconds:.3f} s, to be {target:g} s")
    span = f"{min(all_) * 1000:,.0f} - {max(all_) * 1000:,.0f} ms"
    console.print(f"{count}{what}: {seconds * 1000:,.1f} ms ({span}); target {target * 1000:,.0f} ms: {verdict}")


def _at_least(what: str, rate: float, target: float) -> None:
    met = rate >= target
    if not met:
        missed.append(f"{rate:,.0f} {what}, to be {target:,.0f}")
    console.print(f"{rate:,.0f} {what}; target {target:,.0f}: {'[green]yes' if met else '[red]no'}")


CASES = (timers, timer_lateness, process_round_trip, outbox)
