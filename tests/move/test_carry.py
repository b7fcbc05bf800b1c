"""What follows a log goes on in its copy where it was: no command, message or timer twice, and none left out."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from refold import App, Command, Event, Inbox, Later, Tag, later
from refold.bus.api import Message
from refold.bus.memory import MemoryBus
from refold.errors import StoreError
from refold.model.record import StoredEvent
from refold.move.carry import carry
from refold.move.transform import transform
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.testing.clock import Clock
from refold.testing.postgres import PostgresServer

Name = Annotated[str, Tag("name")]


class Asked(Event):
    name: Name


class Answered(Event):
    name: Name


class Reminded(Event):
    name: Name


class Noise(Event):
    name: Name


class Answer(Command):
    name: Name


class Remind(Command):
    name: Name


def answer(command: Answer) -> Answered:
    return Answered(command.name)


def remind(command: Remind) -> Reminded:
    return Reminded(command.name)


def reply(event: Asked) -> Iterable[Command | Later]:
    if event.name == "bad":
        raise ValueError("it cannot be answered")
    yield Answer(event.name)
    yield later(Remind(event.name), after=timedelta(days=1))


def asking(store: object, bus: MemoryBus, clock: Clock) -> App:
    return App(
        store,  # type: ignore[arg-type]
        events=Asked | Answered | Reminded | Noise,
        decisions=[answer, remind],
        processes=[reply],
        name="asking",
        bus=bus,
        outbox=[Answered],
        clock=clock,
    )


def without_noise(event: StoredEvent) -> StoredEvent | None:
    return None if event.type == "Noise" else event


async def types(app: App) -> list[str]:
    return [type(each.event).__name__ async for each in app.events()]


@pytest.mark.parametrize("carried", [True, False])
async def test_a_copy_goes_on_where_the_log_was(tmp_path: Path, postgres: PostgresServer, carried: bool) -> None:
    clock, bus = Clock(datetime(2026, 3, 1, tzinfo=UTC)), MemoryBus()
    source = await open_store(f"sqlite:///{tmp_path}/log.db", clock=clock)
    async with asking(source, bus, clock) as app:
        await app.record(Noise("a"), Asked("a"), Noise("b"), Asked("bad"), Asked("b"))
        await app.wait(await app.head())
        before = await types(app)
        assert before[5:] == ["Answered", "Answered"]
        with pytest.raises(StoreError, match="is run by an app on the source"):
            await carry(source, MemoryStore(), tmp_path / "map.csv")
    target = await open_store(postgres.url(f"carried_{carried}"), clock=clock)
    await transform(source, target, without_noise, positions=tmp_path / "map.csv")
    if carried:
        done = await carry(source, target, tmp_path / "map.csv")
        assert (done.checkpoints["reply"], done.timers, done.parked, done.lost) == (await target.head(), 2, 1, 0)
        with pytest.raises(StoreError, match="has begun on the target"):
            await carry(source, target, tmp_path / "map.csv")
    async with asking(target, bus, clock) as app:
        await app.wait(await app.head())
        answers = (await types(app)).count("Answered")
        if not carried:
            assert answers == 4, "all is answered again: what this is for"
        else:
            assert answers == 2
            [parked] = await app.operations.parked()
            assert (parked.position, parked.subscription) == (2, "reply")
            clock.advance(timedelta(days=2))
            await app.record(Asked("c"))
            await app.wait(await app.head())
            await settled(app, "Reminded", 2)
    await source.close()
    await target.close()


async def settled(app: App, name: str, count: int) -> None:
    """Wait until there are so many events of a type, and see that there are no more."""
    async with asyncio.timeout(60):
        while (await types(app)).count(name) < count:
            await asyncio.sleep(0.05)
    await app.wait(await app.head())
    assert (await types(app)).count(name) == count


async def test_what_came_in_does_not_come_in_again(tmp_path: Path) -> None:
    clock, bus = Clock(datetime(2026, 3, 1, tzinfo=UTC)), MemoryBus()
    source, target = MemoryStore(clock=clock), MemoryStore(clock=clock)

    def heard(event: Answered) -> Asked:
        if event.name == "bad":
            raise ValueError("it cannot be heard")
        return Asked(event.name)

    def hearing(store: MemoryStore) -> App:
        return App(store, events=Asked, name="hearing", bus=bus, inbox=[Inbox("asking", [heard])])

    def message(number: int, name: str) -> Message:
        body = {"id": f"m-{number}", "source": "asking", "type": "Answered.v1", "specversion": "1.0",
                "sequence": str(number), "data": {"name": name}}  # fmt: skip
        return Message(f"m-{number}", f"name:{name}", msgspec.json.encode(body))

    first = [message(number, "bad" if number == 1_100 else f"n-{number}") for number in range(1, 1_201)]
    async with hearing(source) as app:
        await bus.publish("asking", first)
        await heads(app, 1_199)
    await transform(source, target, positions=tmp_path / "map.csv")
    done = await carry(source, target, tmp_path / "map.csv")
    assert (done.received, done.parked, done.checkpoints) == (1_200, 1, {"inbox.asking": 1_200})
    async with hearing(target) as app:
        await bus.publish("asking", [*first[-300:], message(1_201, "new")])
        await heads(app, 1_200)
        [parked] = await app.operations.parked()
        assert parked.position == 1_100
        assert (await app.operations.message(parked)).id == "m-1100"


async def heads(app: App, count: int) -> None:
    """Wait until there are so many events, and see that there come no more."""
    async with asyncio.timeout(60):
        while await app.head() < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert await app.head() == count
