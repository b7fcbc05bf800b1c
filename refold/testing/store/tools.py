"""What rules are written with: events that can be told apart, and reads as lists."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from refold.model.query import Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Page, Store

_numbers = count(1)


def event(type: str = "Noted", *tags: str, data: bytes | None = None, version: int = 1) -> NewEvent:
    """Make an event whose data no other event has, unless it is given."""
    return NewEvent(type, b'{"n":%d}' % next(_numbers) if data is None else data, tags, version)


async def fill(store: Store, *events: NewEvent) -> list[int]:
    """Append the events one by one and return their positions."""
    return [(await store.append([one])).last for one in events]


async def pages(store: Store, query: Query = Query(), **options: Any) -> list[Page]:
    """Read to the end."""
    return [page async for page in store.read(query, **options)]


async def read(store: Store, query: Query = Query(), **options: Any) -> list[StoredEvent]:
    """Read to the end and return the events."""
    return [one for page in await pages(store, query, **options) for one in page]


async def data(store: Store, query: Query = Query(), **options: Any) -> list[bytes]:
    """Read to the end and return what tells the events apart."""
    return [one.data for one in await read(store, query, **options)]


def data_of(events: Sequence[NewEvent]) -> list[bytes]:
    """Return what tells the events apart."""
    return [one.data for one in events]


def positions(events: Sequence[StoredEvent]) -> list[int]:
    """Return where the events stand."""
    return [one.position for one in events]


async def collect(following: AsyncIterator[Page], upto: int) -> list[Page]:
    """Take pages until they have come as far as `upto`."""
    taken: list[Page] = []
    async for page in following:
        taken.append(page)
        if page.upto >= upto:
            break
    return taken


async def next_page(following: AsyncIterator[Page]) -> Page:
    """Take the next page, as a coroutine that can be made a task."""
    return await anext(following)


@asynccontextmanager
async def closing(iterator: AsyncIterator[Page]) -> AsyncGenerator[AsyncIterator[Page]]:
    """Close the iterator at the end, if it is one that can be closed."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


async def turns(number: int = 20) -> None:
    """Let the other tasks take some steps."""
    for _ in range(number):
        await asyncio.sleep(0)
