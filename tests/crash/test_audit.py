"""The judge of the crash tests judges: each kind of loss that they look for is found when it is there."""

from datetime import timedelta

import pytest

from refold.model.record import NewEvent
from refold.store.memory import MemoryStore
from refold.testing.crash import Ack, audit, batch_of, write

LONG = next(name for name in map(str, range(100)) if len(batch_of(name)) > 2)


async def test_a_log_that_is_as_it_should_be_passes() -> None:
    store, acks = MemoryStore(), list[Ack]()
    await write(store, "run", acks.append, tasks=3, appends=20)
    assert len(acks) == 60
    assert await audit(store, acks) == max(ack.last for ack in acks) == await store.head()
    assert [Ack.parse(str(ack)) for ack in acks] == acks


async def test_a_lost_batch_is_found() -> None:
    store, acks = MemoryStore(), list[Ack]()
    await write(store, "run", acks.append, tasks=1, appends=5)
    with pytest.raises(AssertionError, match="run-0/6 was acknowledged, and is lost"):
        await audit(store, [*acks, Ack("run-0/6", acks[-1].last + 1, acks[-1].last + 1)])


@pytest.mark.parametrize(
    ("events", "found"),
    [
        (batch_of(LONG)[:-1], "torn"),
        (batch_of(LONG)[:1] + batch_of(LONG)[2:], "not what was appended"),
        (batch_of(LONG)[::-1], "not what was appended"),
        (batch_of(LONG) * 2, "there twice"),
    ],
    ids=["without its last", "without its second", "backwards", "twice"],
)
async def test_a_batch_that_is_not_whole_is_found(events: list[NewEvent], found: str) -> None:
    store = MemoryStore()
    await store.append(events, append_id=LONG)
    with pytest.raises(AssertionError, match=found):
        await audit(store, [])


async def test_a_forgotten_append_id_is_found() -> None:
    store = MemoryStore(retention=timedelta(seconds=-1))
    await store.append(batch_of(LONG), append_id=LONG)
    with pytest.raises(AssertionError, match="once more"):
        await audit(store, [])
