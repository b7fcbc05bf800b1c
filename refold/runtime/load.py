"""Loading states: from what is remembered, and only the events since then.

States that a decision asks for are read at one position: the first read is pinned to the head, the others go up to
the same place. What is remembered of a state is its value at a position; the log says what came after.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar, cast

import msgspec
from msgspec import Struct

from refold.model.fingerprint import fingerprint
from refold.model.message import Event
from refold.model.record import Metadata, NewEvent, Recorded
from refold.model.schema import Schema, decode_metadata
from refold.model.state import Identity, State, state_kind
from refold.store.api import Page, Store
from refold.view.api import Snapshot, Views

S = TypeVar("S", bound=State)
NO_METADATA = Metadata()
logger = logging.getLogger("refold.load")


class Loaded(Struct, frozen=True):
    """A state as it was at a position."""

    position: int
    state: State
    since_snapshot: int = 0
    """How many events it has folded since its last snapshot."""
    newest: bool = True
    """Whether nothing is known to have come after it."""


class Loader:
    """Loads states of one log."""

    def __init__(
        self, store: Store, schema: Schema, *, hot: int, snapshot_every: int | None, views: Views | None
    ) -> None:
        self._store = store
        self._schema = schema
        self._hot: OrderedDict[Identity, Loaded] = OrderedDict()
        self._size = hot
        self._snapshot_every = snapshot_every
        self._views = views if snapshot_every else None
        self._fingerprints: dict[type[State], str] = {}

    async def current(self, states: Sequence[State]) -> tuple[dict[Identity, Loaded], int]:
        """Return states as they are now, all at one position, and that position."""
        known = [(state, await self._known(state)) for state in states]
        upto: int | None = None
        loaded: dict[Identity, Loaded] = {}
        for state, start in known:
            result = await self._forward(start, upto)
            upto = result.position
            identity = state_kind(type(state)).identity(state)
            loaded[identity] = await self._remember(identity, result)
        return loaded, await self._store.head() if upto is None else upto

    def hot(self, identity: Identity) -> Loaded | None:
        """Return a state as it is remembered, if nothing is known to have come after it."""
        loaded = self._hot.get(identity)
        return loaded if loaded is not None and loaded.newest else None

    def appended(self, loaded: Loaded, events: Sequence[tuple[Event, NewEvent]], last: int | None) -> None:
        """Fold into what is remembered of a state the events that were just appended under its guard.

        Without `last`, their position, or if the fold needs their times, the state is only known to be behind.
        """
        kind = state_kind(type(loaded.state))
        identity = kind.identity(loaded.state)
        if self._hot.get(identity) is not loaded:
            return
        if last is None or kind.wants_metadata:
            self._hot[identity] = msgspec.structs.replace(loaded, newest=False)
            return
        state, folded, wanted = loaded.state, 0, kind.tags(loaded.state)
        for event, new in events:
            if isinstance(event, kind.events) and all(tag in new.tags for tag in wanted):
                state = kind.step(state, event, NO_METADATA)
                folded += 1
        self._hot[identity] = Loaded(last, state, loaded.since_snapshot + folded)

    async def at(self, state: S, upto: int) -> S:
        """Return a state as it was at a position."""
        start = await self._snapshot(state, upto)
        return cast(S, (await self._forward(start, upto)).state)

    async def effective(self, state: S, moment: datetime, upto: int | None) -> S:
        """Return a state as it was in the world at a moment, by what the log knew at a position.

        Events are folded in the order in which they happened, by `(occurred_at, position)`.
        """
        kind = state_kind(type(state))
        happened: list[Recorded[Event]] = []
        async for page in self._store.read(self._schema.query(state), upto=upto):
            for stored in page:
                recorded = self._schema.recorded(stored)
                if recorded.occurred_at <= moment and isinstance(recorded.event, kind.events):
                    happened.append(recorded)
        happened.sort(key=lambda each: (each.occurred_at, each.position))
        for each in happened:
            state = kind.step(state, each.event, each.metadata)
        return state

    async def _known(self, state: State) -> Loaded:
        """Return the newest value of a state that is at hand."""
        identity = state_kind(type(state)).identity(state)
        hot = self._hot.get(identity)
        if hot is not None:
            self._hot.move_to_end(identity)
            return hot
        return await self._snapshot(state, None)

    async def _forward(self, start: Loaded, upto: int | None) -> Loaded:
        """Fold what came after `start`."""
        state, position, folded = start.state, start.position, 0
        async for page in self._store.read(self._schema.query(state), after=start.position, upto=upto):
            state = self._fold(state, page)
            position = max(position, page.upto)
            folded += len(page)
        return Loaded(position, state, start.since_snapshot + folded)

    def _fold(self, state: State, page: Page) -> State:
        kind = state_kind(type(state))
        for stored in page:
            event = self._schema.decode(stored)
            if isinstance(event, kind.events):
                metadata = decode_metadata(stored) if kind.wants_metadata else NO_METADATA
                state = kind.step(state, event, metadata)
        return state

    async def _remember(self, identity: Identity, loaded: Loaded) -> Loaded:
        """Keep a state hot, and take a snapshot of it when it is time."""
        if self._views and self._snapshot_every and loaded.since_snapshot >= self._snapshot_every:
            loaded = msgspec.structs.replace(loaded, since_snapshot=0)
            snapshot = Snapshot(loaded.position, msgspec.json.encode(loaded.state))
            await self._views.keep_snapshot(*self._named(loaded.state), snapshot)
        older = self._hot.get(identity)
        if older is None or older.position <= loaded.position:
            self._hot[identity] = loaded
            self._hot.move_to_end(identity)
            while len(self._hot) > self._size:
                self._hot.popitem(last=False)
        return loaded

    async def _snapshot(self, state: State, upto: int | None) -> Loaded:
        """Return a state's snapshot, or its beginning."""
        if self._views:
            kept = await self._views.snapshot(*self._named(state))
            if kept is not None and (upto is None or kept.position <= upto):
                try:
                    return Loaded(kept.position, msgspec.json.decode(kept.data, type=type(state)))
                except msgspec.MsgspecError:
                    logger.warning("the snapshot of %r cannot be read; it is folded from the log instead", state)
        return Loaded(0, state)

    def _named(self, state: State) -> tuple[str, str, str]:
        """Return the class, key and fingerprint under which a state's snapshot is kept."""
        cls = type(state)
        kind = state_kind(cls)
        if cls not in self._fingerprints:
            self._fingerprints[cls] = fingerprint(cls)
        return cls.__qualname__, msgspec.json.encode(kind.identity(state)[1:]).decode(), self._fingerprints[cls]


async def position_at(store: Store, moment: datetime) -> int:
    """Return the last position that was recorded at a moment or before it; 0 if none was.

    `recorded_at` never decreases, so this needs about as many reads as the head has binary digits.
    """
    low, high = 0, await store.head()  # recorded at `low` or before: yes; above `high`: no
    while low < high:
        middle = (low + high) // 2
        first = None
        async for page in store.read(after=middle, upto=high, limit=1):
            first = page[0] if page else None
        if first is None:
            high = middle
        elif first.recorded_at <= moment:
            low = first.position
        else:
            high = middle
    return low
