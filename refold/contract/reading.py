"""What a worker of the check against history does: read a range of the log, or fold a share of its keys.

Nothing here writes to the log or its views, and nothing holds more than a page, the states of a share, and a bounded
number of failures.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from msgspec import Struct

from refold.contract.folding import Folding, run_tables
from refold.contract.found import LARGEST, Count, Found, Program, hash_of, smallest
from refold.errors import UnknownEvent
from refold.model.query import Query, QueryItem
from refold.model.record import StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import State, state_kind
from refold.store.api import Store
from refold.store.open import open_store


class Range(Struct, frozen=True):
    """Some positions to be decoded."""

    after: int
    upto: int
    sample: int | None
    sketched: int
    """How many keys are sampled of each tag."""
    states: tuple[type[State], ...] = ()
    """What is folded in passing, if this is the whole log, as long as it is not too much."""
    most: int = 0
    """How many states are."""


class Share(Struct, frozen=True):
    """The keys of some states to be folded: those whose hash falls to one share of several."""

    states: tuple[type[State], ...]
    upto: int
    share: int
    shares: int


class Keys(Struct, frozen=True):
    """Some keys of states to be folded, each by its first tag."""

    states: tuple[type[State], ...]
    upto: int
    tags: tuple[str, ...]


class Tables(Struct, frozen=True):
    """A projection with tables of its own to be run, into a file that is removed."""

    index: int
    upto: int


Task: TypeAlias = Range | Share | Keys | Tables


async def work(program: Program, url: str, task: Task, moved: Callable[[int], None] = lambda position: None) -> Found:
    """Do a part of the check; `moved` is told the positions that are reached."""
    schema = program.schema()
    async with _opened(url) as store:
        match task:
            case Range():
                return await _decode(program, schema, store, task, moved)
            case Share():
                return await _fold_share(program, schema, store, task, moved)
            case Keys():
                return await _fold_keys(program, schema, store, task)
            case Tables():
                define, how = program.tables[task.index]
                return await run_tables(define(how, schema), store, task.upto)


async def _decode(program: Program, schema: Schema, store: Store, task: Range, moved: Callable[[int], None]) -> Found:
    found = Found()
    folding = Folding(program, schema, task.states, None) if task.states else None
    counts, decode = found.counts, schema.decode
    wanted = {kind.keys[0].tag.name for cls in program.states if (kind := state_kind(cls)).keys}
    limits = dict.fromkeys(wanted, LARGEST)
    sketches: dict[str, dict[int, str]] = {name: {} for name in wanted}
    async for page in store.read(after=task.after, upto=task.upto):
        for stored in page:
            key = (stored.type, stored.version)
            count = counts.get(key)
            if count is None:
                count = counts[key] = Count()
            count.events += 1
            for tag in stored.tags:
                name = tag.partition(":")[0]
                if name in wanted and (number := hash_of(tag)) < limits[name]:
                    sketch = sketches[name]
                    sketch[number] = tag
                    if len(sketch) >= 2 * task.sketched:
                        sketches[name] = smallest(sketch, task.sketched)
                        limits[name] = max(sketches[name])
            if task.sample is not None and not _is_sampled(count.events, task.sample):
                continue
            count.decoded += 1
            try:
                events = decode(stored)
                decode_metadata(stored)
            except Exception as error:
                count.failed += 1
                found.fail(stored, "decode", error, _to_decode(stored, error))
            else:
                if folding is not None:
                    folding.fold_events(events, stored)
        if folding is not None and folding.size > task.most:
            folding = None
        moved(page.upto)
    if folding is not None:
        found.add(folding.done(), task.sketched)
        found.folded_all = True
    found.keys = {name: smallest(sketch, task.sketched) for name, sketch in sketches.items()}
    return found


async def _fold_share(
    program: Program, schema: Schema, store: Store, task: Share, moved: Callable[[int], None]
) -> Found:
    """Fold the states of a share in one pass over the log."""
    share, shares = task.share, task.shares

    def is_mine(tag: str) -> bool:
        return ((hash_of(tag) >> 8) % shares if tag else 0) == share

    folding = Folding(program, schema, task.states, is_mine if shares > 1 else None)
    async for page in store.read(upto=task.upto):
        folding.fold(page)
        moved(page.upto)
    return folding.done()


async def _fold_keys(program: Program, schema: Schema, store: Store, task: Keys) -> Found:
    """Fold the states of some keys, each by a read of its own."""
    found = Found()
    for tag in task.tags:
        folding = Folding(program, schema, task.states, frozenset((tag,)).__contains__)
        kinds = [event for cls in task.states for event in state_kind(cls).events]
        async for page in store.read(Query((QueryItem(schema.names(kinds), (tag,)),)), upto=task.upto):
            folding.fold(page)
        found.add(folding.done(), 0)
    return found


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[Store]:
    store = await open_store(url, create=False)
    try:
        yield store
    finally:
        await store.close()


def _is_sampled(number: int, sample: int) -> bool:
    """Tell whether the so-manieth event of its type and version is looked at: the first, and ever fewer after them."""
    first = sample // 2
    return number <= first or number % (number // max(first, 1) + 1) == 0


def _to_decode(stored: StoredEvent, error: BaseException) -> str:
    if isinstance(error, UnknownEvent):
        return (
            f"keep its class, `@stored_as({stored.type!r}, version={stored.version})`, with an upcaster to what it is "
            "now; or with one that gives None, if it does not count any more"
        )
    return "mend the upcaster, or the class that this was stored as: what is stored stays as it is"
