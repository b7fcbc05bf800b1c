"""Writing that can be judged afterwards: each event says to which batch it belongs, so a log needs no witness.

A writer that may be killed at any moment runs `write`, and reports each acknowledgement before the next append of the
same task. Whatever log is found afterwards must pass `audit`.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from random import Random

from msgspec import Struct

from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent
from refold.store.api import Appended, Store


class Ack(Struct, frozen=True):
    """The store said that this batch is in the log."""

    batch: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.batch} {self.first} {self.last}"

    @classmethod
    def parse(cls, line: str) -> "Ack":
        """Read what `str` wrote."""
        batch, first, last = line.split()
        return cls(batch, int(first), int(last))


def batch_of(name: str) -> list[NewEvent]:
    """Return the events of a batch, always the same ones for the same name: 1 to 40, up to 9 KB each."""
    random = Random(name)  # noqa: S311 - repeatable, not secret
    size = random.choice((1, 1, 1, 2, 3, 5, 40))
    return [
        NewEvent(
            f"Kind{random.randrange(4)}",
            json.dumps(
                {"batch": name, "index": index, "of": size, "pad": "x" * int(random.paretovariate(0.7) % 9_000)}
            ).encode(),
            (f"task:{name.partition('/')[0]}", f"batch:{name}", f"shared:{random.randrange(5)}"),
        )
        for index in range(size)
    ]


async def write(
    store: Store, run: str, acknowledged: Callable[[Ack], None], *, tasks: int = 8, appends: int | None = None
) -> None:
    """Append from several tasks at once, each under a condition on its own last event; for ever, or so many each.

    `run` names this run of the writer, as `batch_of` makes its events of it.
    """

    async def work(task: int) -> None:
        mine = Query.of(tags=f"task:{run}-{task}")
        last, n = 0, 0
        while appends is None or n < appends:
            n += 1
            name = f"{run}-{task}/{n}"
            done = await store.append(batch_of(name), AppendCondition(mine, last), append_id=name)
            last = done.last
            acknowledged(Ack(name, done.first, done.last))

    await asyncio.gather(*(work(task) for task in range(tasks)))


async def audit(store: Store, acks: Iterable[Ack]) -> int:
    """Return the head; fail if a batch is torn, an acknowledged one is missing, or a repeated append is not known."""
    found: dict[str, Appended] = {}
    expected: list[NewEvent] = []
    position = 0
    async for page in store.read():
        for event in page:
            position += 1
            assert event.position == position, f"a gap before {event.position}"
            if not expected:
                name = json.loads(event.data)["batch"]
                assert name not in found, f"{name} is there twice"
                expected = batch_of(name)
                found[name] = Appended(position, position + len(expected) - 1)
            awaited = expected.pop(0)
            here, there = (event.type, event.tags, event.data), (awaited.type, awaited.tags, awaited.data)
            assert here == there, f"the event at {position} is not what was appended"
    assert not expected, f"the last batch is torn: {len(expected)} events are missing"
    for ack in acks:
        assert found.get(ack.batch) == Appended(ack.first, ack.last), f"{ack.batch} was acknowledged, and is lost"
    for name, place in [*found.items()][-20:]:  # the newest, acknowledged or not
        assert await store.append(batch_of(name), append_id=name) == place, f"{name} was appended once more"
        of_batch = [event.position async for page in store.read(Query.of(tags=f"batch:{name}")) for event in page]
        assert of_batch == [*range(place.first, place.last + 1)]
    assert await store.head() == position
    return position
