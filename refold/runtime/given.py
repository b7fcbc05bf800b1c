"""Events as they are given to who asks for them: decoded and upcast, in order, and no others than were asked for."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import cast

from msgspec import Struct

from refold.errors import InvalidQuery
from refold.model.hints import members
from refold.model.message import Event
from refold.model.query import Query, QueryItem
from refold.model.record import Recorded, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import State, StateKind, state_kind
from refold.store.api import Page, Store


class Asked(Struct, frozen=True):
    """Which events somebody asks for: which stored ones to read, and what of those that they have become."""

    query: Query
    state: tuple[StateKind, tuple[str, ...]] | None = None
    """A kind of states and the tags of one, if they are its events."""
    kinds: frozenset[type[Event]] | None = None
    """Their classes, if they are of some."""

    def of(self, stored: StoredEvent, schema: Schema) -> Sequence[Recorded[Event]]:
        """Return what was asked for of a stored event: of one that is upcast to several, perhaps not all."""
        events = schema.decode_for(*self.state, stored) if self.state is not None else schema.decode(stored)
        metadata = decode_metadata(stored)
        return [
            Recorded(stored.position, stored.recorded_at, event, metadata, stored.tags)
            for event in events
            if self.kinds is None or type(event) in self.kinds
        ]


def asked(of: object, schema: Schema) -> Asked:
    """Read what events are asked for: all, those of a state, of classes, or a query; or raise `InvalidQuery`."""
    if of is None:
        return Asked(Query())
    if isinstance(of, Query):
        return Asked(of)
    if isinstance(of, State):
        kind = state_kind(type(of))
        return Asked(schema.query(of), state=(kind, kind.tags(of)))
    kinds = [member for part in _listed(of) for member in members(part)]
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Event) for kind in kinds):
        raise InvalidQuery(f"{of!r} does not say which events: give a state, event classes, or a Query")
    return Asked(Query((QueryItem(schema.names(kinds)),)), kinds=frozenset(kinds))


async def given(
    store: Store,
    schema: Schema,
    asked: Asked,
    *,
    after: int,
    upto: int | None,
    backwards: bool,
    limit: int | None,
) -> AsyncGenerator[Recorded[Event]]:
    """Go through the events that were asked for, `limit` of them at most."""
    left = limit
    while True:
        wanted, read, last = left, 0, 0
        async for page in store.read(asked.query, after=after, upto=upto, backwards=backwards, limit=wanted):
            for stored in page:
                read, last = read + 1, stored.position
                events = asked.of(stored, schema)
                for recorded in reversed(events) if backwards else events:
                    yield recorded
                    if left is not None:
                        left -= 1
                        if not left:
                            return
        # Some that were read may have been dropped, or become others: then there may be more of what was asked for.
        if not wanted or read < wanted:
            return
        after, upto = (after, last - 1) if backwards else (last, upto)


async def following(store: Store, schema: Schema, asked: Asked, *, after: int) -> AsyncGenerator[Recorded[Event]]:
    """Go through the events that were asked for, and then through those to come, for ever."""
    pages: AsyncIterator[Page] = store.follow(asked.query, after=after)
    try:
        async for page in pages:
            for stored in page:
                for recorded in asked.of(stored, schema):
                    yield recorded
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


def _listed(of: object) -> Sequence[object]:
    return cast(Sequence[object], of) if isinstance(of, list | tuple) else (of,)
