"""The log that proves itself: each event says what its append relied on, and a replay checks every word of it.

A writer reads some events, notes the last one that matched, and appends on the condition that nothing newer matches.
It writes the query and that position into the events. Whatever the writers did to each other, afterwards the last
match before each batch must be the one that its writer saw. It needs no clock and no second store to compare with.
"""

import asyncio
import random
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from refold.errors import Conflict
from refold.model.query import AppendCondition, Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Store

NAMES = 10


class Claim(Struct, frozen=True):
    """What an event says: its batch, its place there, and what the batch relied on: `seen` matched last."""

    batch: str
    index: int
    size: int
    query: Query
    seen: int


def claim_of(event: StoredEvent | NewEvent) -> Claim:
    """Return what the event says."""
    return msgspec.json.decode(event.data, type=Claim)


def random_query(rng: random.Random) -> Query:
    """Draw none to three items of none to four types and none to three tags."""
    items: list[QueryItem] = []
    for _ in range(rng.randint(0, 3)):
        types = tuple(f"Type{rng.randrange(NAMES)}" for _ in range(rng.randint(0, 4)))
        tags = tuple(f"tag:{rng.randrange(NAMES)}" for _ in range(rng.randint(0 if types else 1, 3)))
        items.append(QueryItem(types, tags))
    return Query(tuple(items))


def random_batch(rng: random.Random, batch: str, query: Query, seen: int, size: int) -> list[NewEvent]:
    """Draw events that say what their batch relied on."""
    return [
        NewEvent(
            f"Type{rng.randrange(NAMES)}",
            msgspec.json.encode(Claim(batch, index, size, query, seen)),
            tuple(f"tag:{rng.randrange(NAMES)}" for _ in range(rng.randint(0, 3))),
        )
        for index in range(size)
    ]


async def look(store: Store, query: Query) -> tuple[int, int]:
    """Return the last match of the query, and the position up to which that is known."""
    seen = upto = 0
    async for page in store.read(query):
        seen = page[-1].position if page else seen
        upto = page.upto
    return seen, upto


async def write_claims(store: Store, writer: str, appends: int, seed: int, largest: int = 3) -> int:
    """Try some appends that rely on random queries, and return how many succeeded."""
    rng = random.Random(seed)  # noqa: S311 - drawn to be repeatable, not to be secret
    kept = 0
    for n in range(appends):
        query = random_query(rng)
        seen, upto = await look(store, query)
        await asyncio.sleep(0)  # let the others in, so that what was seen can grow old
        batch = random_batch(rng, f"{writer}.{n}", query, seen, rng.randint(1, largest))
        try:
            await store.append(batch, AppendCondition(query, upto))
        except Conflict:
            continue
        kept += 1
    return kept


def check_claims(log: Sequence[StoredEvent]) -> int:
    """Check that every batch is whole, and that what it relied on was true when it was appended; return how many.

    Events of other types claim nothing, but are part of what the others saw.
    """
    claims = [claim_of(one) if one.type.startswith("Type") else None for one in log]
    batches: set[str] = set()
    for at, claim in enumerate(claims):
        if claim is None or claim.index > 0:
            continue
        assert claim.batch not in batches
        batches.add(claim.batch)
        whole = [(one.batch, one.index) for one in claims[at : at + claim.size] if one is not None]
        assert whole == [(claim.batch, index) for index in range(claim.size)], f"batch {claim.batch} is not whole"
        matches = (one.position for one in reversed(log[:at]) if claim.query.matches(one.type, one.tags))
        last = next(matches, 0)
        assert last == claim.seen, f"batch {claim.batch} relied on {claim.seen}, but {last} was before it"
    assert {claim.batch for claim in claims if claim is not None} == batches
    return len(batches)
