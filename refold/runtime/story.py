"""The story of a thing: the events that a state is made of, in order, the state after each, and what it changed.

An event that this program cannot read, or that its code fails at, is told as such, and passed over: the states after
it are what the others add up to. So a story can always be told, also where the state itself cannot be loaded.
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from itertools import islice
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct

from refold.errors import InvalidQuery, StoreError, UnreadableEvent
from refold.model.change import FieldChange, changes_between
from refold.model.message import Event
from refold.model.query import Query
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import State, state_kind
from refold.runtime.load import NEVER, Loader
from refold.runtime.parking import said
from refold.store.api import Store

S = TypeVar("S", bound=State, covariant=True)
MOST_STEPS = 10_000
"""How many steps one answer may have."""
MOST_CHANGES = 100
"""How many changes of one step are told."""


class Step(Struct, Generic[S], frozen=True):
    """One event of a story, and what came of it."""

    stored: StoredEvent
    metadata: Metadata
    """With `occurred_at` set; without all else if it cannot be read."""
    events: tuple[Event, ...]
    """What it is to this program: an old event may have become several; empty if it cannot be read."""
    before: S
    state: S
    """As it is after it."""
    error: str = ""
    """Why it was passed over; empty if it was not."""

    @property
    def position(self) -> int:
        """Where it stands in the log."""
        return self.stored.position

    @property
    def recorded_at(self) -> datetime:
        """When it came into the log."""
        return self.stored.recorded_at

    @property
    def occurred_at(self) -> datetime:
        """When it happened in the world."""
        return self.metadata.occurred_at

    @property
    def changes(self) -> tuple[FieldChange, ...]:
        """Which fields it changed, no more than `MOST_CHANGES` of them."""
        return tuple(islice(changes_between(self.before, self.state), MOST_CHANGES))


class Story(Struct, Generic[S], frozen=True):
    """A part of a story: its last steps, or those after a place in it."""

    start: S
    """As it was before the first of these steps."""
    steps: tuple[Step[S], ...]
    upto: int
    """The position up to which the log was asked."""
    has_earlier: bool
    """Whether there are steps before these."""
    has_later: bool
    """Whether there are steps after these: ask for those `after` the position of the last one here."""

    @property
    def state(self) -> S:
        """As it was after the last of these steps."""
        return self.steps[-1].state if self.steps else self.start


async def story(
    store: Store,
    schema: Schema,
    loader: Loader,
    state: State,
    *,
    after: int | None,
    upto: int | None,
    effective: datetime | None,
    limit: int,
) -> Story[Any]:
    """Tell `limit` steps of a state's story; see `App.story`."""
    if not 0 < limit <= MOST_STEPS:
        raise InvalidQuery(f"limit={limit}: a story is told in 1 to {MOST_STEPS:,} steps at once")
    if after is not None and after < 0:
        raise InvalidQuery(f"after={after}: positions begin at 1, and 0 is before all")
    beginning = await loader.at(state, 0)
    head = await store.head()
    teller = _Teller(store, schema, beginning, head if upto is None else max(min(upto, head), 0))
    if effective is not None:
        return await teller.as_it_happened(effective, after, limit)
    return await teller.as_recorded(loader, after, limit)


class _Teller:
    """Tells the story of one state."""

    def __init__(self, store: Store, schema: Schema, beginning: State, upto: int) -> None:
        self._store = store
        self._schema = schema
        self._beginning = beginning
        self._kind = state_kind(type(beginning))
        self._tags = self._kind.tags(beginning)
        self._query = schema.query(beginning)
        self._upto = upto

    async def as_recorded(self, loader: Loader, after: int | None, limit: int) -> Story[Any]:
        """Tell it in the order of the log."""
        if after is None:
            after = await self._before_newest(limit)
            has_earlier = after > 0
        else:
            has_earlier = after > 0 and await self._before_newest(0, upto=after) > 0
        start = state = await self._at(loader, after) if has_earlier else self._beginning
        steps: list[Step[Any]] = []
        has_later = False
        async with aclosing(self._read(after=after)) as events:
            async for stored in events:
                if (step := self._step(state, stored)) is None:
                    continue
                if len(steps) == limit:
                    has_later = True
                    break
                steps.append(step)
                state = step.state
        return Story(start, tuple(steps), self._upto, has_earlier, has_later)

    async def as_it_happened(self, moment: datetime, after: int | None, limit: int) -> Story[Any]:
        """Tell it in the order in which it happened in the world."""
        steps: deque[Step[Any]] = deque(maxlen=limit + (after is None))
        start = state = self._beginning
        begun, has_earlier, has_later = not after, bool(after), False
        async with aclosing(_happened(self._store, self._query, moment, self._upto)) as events:
            async for stored in events:
                if (step := self._step(state, stored)) is None:
                    continue
                if begun and after is not None and len(steps) == limit:
                    has_later = True
                    break
                state = step.state
                if begun:
                    steps.append(step)
                elif stored.position == after:
                    begun, start = True, state
        if not begun:
            raise InvalidQuery(f"after={after} is the position of no step of this story")
        if after is None and len(steps) > limit:
            has_earlier, start = True, steps.popleft().state
        return Story(start, tuple(steps), self._upto, has_earlier, has_later)

    async def _before_newest(self, steps: int, *, upto: int | None = None) -> int:
        """Return the position of the last step before the newest so many; 0 if there are no more than they."""
        async with aclosing(self._read(backwards=True, upto=upto)) as events:
            async for stored in events:
                if not self._is_step(stored):
                    continue
                if not steps:
                    return stored.position
                steps -= 1
        return 0

    async def _at(self, loader: Loader, position: int) -> State:
        """Return the state at a position, as what can be read of it adds up to."""
        try:
            return await loader.at(self._beginning, position)
        except StoreError:
            raise
        except Exception:  # it is told at its step
            state = self._beginning
            async for stored in self._read(upto=position):
                step = self._step(state, stored)
                state = step.state if step else state
            return state

    def _is_step(self, stored: StoredEvent) -> bool:
        """Tell whether an event belongs to the story: an old one may have become what is about something else."""
        try:
            return bool(self._schema.decode_for(self._kind, self._tags, stored))
        except Exception:  # it is told at its step
            return True

    def _step(self, state: State, stored: StoredEvent) -> Step[Any] | None:
        """Return what came of an event; None if it is no step."""
        metadata = Metadata(occurred_at=stored.recorded_at)
        events: Sequence[Event] = ()
        after = state
        try:
            metadata = decode_metadata(stored)
            events = self._schema.decode_for(self._kind, self._tags, stored)
            for event in events:
                after = cast(State, self._kind.step(after, event, metadata))
        except Exception as error:  # whatever the code of the program raises
            return Step(stored, metadata, tuple(events), state, state, said(error))
        return Step(stored, metadata, tuple(events), state, after) if events else None

    async def _read(self, *, upto: int | None = None, **bounds: Any) -> AsyncGenerator[StoredEvent]:
        upto = self._upto if upto is None else min(upto, self._upto)
        async for page in self._store.read(self._query, upto=upto, **bounds):
            for stored in page:
                yield stored


async def _happened(store: Store, query: Query, moment: datetime, upto: int) -> AsyncGenerator[StoredEvent]:
    """Go through the events that happened by a moment, in the order of `(occurred_at, position)`.

    Those that were recorded late are held in memory, and put in their places while the log is read once more.
    """
    newest = NEVER
    late: list[tuple[datetime, int, StoredEvent]] = []
    async for page in store.read(query, upto=upto):
        for stored in page:
            happened = _occurred_at(stored)
            if happened > moment:
                continue
            if happened < newest:
                late.append((happened, stored.position, stored))
            newest = max(newest, happened)
    waiting = deque(sorted(late, key=lambda each: each[:2]))
    are_late = {position for _, position, _ in late}
    async for page in store.read(query, upto=upto):
        for stored in page:
            happened = _occurred_at(stored)
            if happened > moment or stored.position in are_late:
                continue
            while waiting and waiting[0][0] < happened:  # at the same time, what was recorded later comes later
                yield waiting.popleft()[2]
            yield stored
    for _, _, stored in waiting:
        yield stored


def _occurred_at(stored: StoredEvent) -> datetime:
    try:
        return decode_metadata(stored).occurred_at
    except UnreadableEvent:
        return stored.recorded_at
