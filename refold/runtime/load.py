"""Loading states: from what is remembered, and only the events since then.

States that a decision asks for are read at one position: the first read is pinned to the head, the others go up to
the same place. What is remembered of a state is its value at a position; the log says what came after.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Container, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from refold.errors import InvalidQuery, NotKept, StoreError
from refold.model.fingerprint import fingerprint
from refold.model.message import Event
from refold.model.query import Query
from refold.model.record import Metadata, NewEvent, Recorded, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import Identity, State, StateKind, state_kind
from refold.runtime.books import SNAPSHOTS, Books, Snapshot
from refold.store.api import Page, Store
from refold.view.api import Put

S = TypeVar("S", bound=State)
NO_METADATA = Metadata()
NEVER = datetime.min.replace(tzinfo=UTC)
logger = logging.getLogger("refold.load")


class Loaded(Struct, frozen=True):
    """A state as it was at a position."""

    position: int
    state: State
    query: Query
    """Which events it is made of; kept, since putting it together costs as much as folding a few of them."""
    changed: int = 0
    """Where its last event stands, or not beyond here."""
    since_snapshot: int = 0
    """How many events it has folded since its last snapshot."""
    newest: bool = True
    """Whether nothing is known to have come after it."""


class Loader:
    """Loads states of one log."""

    def __init__(
        self,
        store: Store,
        schema: Schema,
        *,
        hot: int,
        snapshot_every: int | None,
        books: Books | None,
        without_past: Container[type] = (),
    ) -> None:
        self._store = store
        self._schema = schema
        self._hot: OrderedDict[Identity, Loaded] = OrderedDict()
        self._size = hot
        self._snapshot_every = snapshot_every
        self._books = books if snapshot_every else None
        self._fingerprints: dict[type[State], str] = {}
        self._without_past = without_past
        """States that are kept as rows, which are not made of events."""

    async def current(self, states: Sequence[State], upto: int | None = None) -> tuple[dict[Identity, Loaded], int]:
        """Return states as they are now, or were at `upto`, all at one position; and that position."""
        starts = [await self._start(state, upto) for state in states]
        loaded: dict[Identity, Loaded] = {}
        for start in starts:
            result = await self._forward(start, upto)
            upto = result.position
            identity = state_kind(type(result.state)).identity(result.state)
            loaded[identity] = await self._remember(identity, result)
        return loaded, await self._store.head() if upto is None else upto

    def hot(self, identity: Identity) -> Loaded | None:
        """Return a state as it is remembered, if nothing is known to have come after it."""
        loaded = self._hot.get(identity)
        if loaded is None or not loaded.newest or self._is_due(loaded):
            return None
        self._hot.move_to_end(identity)
        return loaded

    def appended(self, loaded: Loaded, events: Sequence[NewEvent], last: int) -> None:
        """Fold into what is remembered of a state the events that were just appended under its guard, up to `last`."""
        kind = state_kind(type(loaded.state))
        identity = kind.identity(loaded.state)
        if self._hot.get(identity) is not loaded:
            return
        if kind.wants_metadata:  # the store's time is part of it, which only a read can tell
            self.overtaken(loaded)
            return
        state, folded = loaded.state, 0
        try:
            for new in events:
                if loaded.query.matches(new.type, new.tags):
                    # Decoded, as every other reader will see it: what was given may be equal, and yet behave otherwise.
                    stored = StoredEvent(last, NEVER, new.type, new.version, new.tags, new.data, b"")
                    for event in self._schema.decode_for(kind, (), stored):
                        state = cast(State, kind.step(state, event, NO_METADATA))
                    folded += 1
        except Exception:
            # The events are in the log already, and whoever loads the state next will meet the error.
            self._hot.pop(identity)
            return
        changed = last if folded else loaded.changed
        self._hot[identity] = Loaded(last, state, loaded.query, changed, loaded.since_snapshot + folded)

    def overtaken(self, loaded: Loaded) -> None:
        """Learn that events have come after a state as it is remembered."""
        identity = state_kind(type(loaded.state)).identity(loaded.state)
        if self._hot.get(identity) is loaded:
            self._hot[identity] = replace(loaded, newest=False)

    def finds(self, cls: type[State]) -> bool:
        """Tell whether all events of states of a class are found by the tags that they are stored with."""
        return self._schema.missed(state_kind(cls)) is None

    async def at(self, state: S, upto: int) -> S:
        """Return a state as it was at a position."""
        return cast(S, (await self._forward(await self._start(state, upto), upto)).state)

    async def effective(self, state: S, moment: datetime, upto: int | None) -> S:
        """Return a state as it was in the world at a moment, by what the log knew at a position.

        Events are folded in the order in which they happened, by `(occurred_at, position)`. Those that were recorded
        late are held in memory; if there are any, the log is read once more, and they are put in their places.
        """
        kind = self._kind_with_past(state)
        head = await self._store.head()
        upto = head if upto is None else min(upto, head)
        beginning = _beginning(state)
        late: list[Recorded[Event]] = []
        folded: Any = beginning
        async for recorded, is_late in self._happened(beginning, moment, upto):
            if is_late:
                late.append(recorded)
            elif not late:
                folded = kind.step(folded, recorded.event, recorded.metadata)
        if not late:
            return cast(S, folded)
        late.sort(key=lambda each: (each.occurred_at, each.position))
        waiting = deque(late)
        folded = beginning
        async for recorded, is_late in self._happened(beginning, moment, upto):
            if is_late:
                continue
            # At the same time as this one it comes after it, since it was recorded after it.
            while waiting and waiting[0].occurred_at < recorded.occurred_at:
                before = waiting.popleft()
                folded = kind.step(folded, before.event, before.metadata)
            folded = kind.step(folded, recorded.event, recorded.metadata)
        for recorded in waiting:
            folded = kind.step(folded, recorded.event, recorded.metadata)
        return cast(S, folded)

    async def _happened(
        self, state: State, moment: datetime, upto: int
    ) -> AsyncGenerator[tuple[Recorded[Event], bool]]:
        """Read a state's events that happened by a moment, each with whether one before it happened later."""
        kind = state_kind(type(state))
        newest = NEVER
        tags = kind.tags(state)
        async for page in self._store.read(self._schema.query(state), upto=upto):
            for stored in page:
                events = self._schema.decode_for(kind, tags, stored)
                metadata = decode_metadata(stored)
                happened = metadata.occurred_at
                for event in events if happened <= moment else ():
                    recorded = Recorded(stored.position, stored.recorded_at, event, metadata, stored.tags)
                    yield recorded, happened < newest
                    newest = max(newest, happened)

    async def _start(self, state: State, upto: int | None) -> Loaded:
        """Return the newest value of a state that is at hand, not beyond `upto`."""
        identity = self._kind_with_past(state).identity(state)
        hot = self._hot.get(identity)
        if hot is not None and (upto is None or hot.changed <= upto):
            self._hot.move_to_end(identity)
            return hot if upto is None or hot.position <= upto else replace(hot, position=upto)
        query = self._schema.query(state)
        if (kept := await self._snapshot(state)) and (upto is None or kept[0] <= upto):
            position, state = kept
            return Loaded(position, state, query, changed=position)
        return Loaded(0, _beginning(state), query)

    def _kind_with_past(self, state: State) -> StateKind:
        kind = _kind(state)
        if kind.cls in self._without_past:
            name = kind.cls.__name__
            raise InvalidQuery(
                f"{name} is kept as rows, which have no past: there is only how it is now. What happened is in "
                f"`events({name}(…))`; to ask how it was, keep it as events: take it out of `rows`"
            )
        return kind

    async def _forward(self, start: Loaded, upto: int | None) -> Loaded:
        """Fold what came after `start`."""
        kind = state_kind(type(start.state))
        state, position, changed, folded = start.state, start.position, start.changed, 0
        async for page in self._store.read(start.query, after=start.position, upto=upto):
            state = self._fold(kind, state, page)
            position = max(position, page.upto)
            if page:
                changed = page[-1].position
                folded += len(page)
        return Loaded(position, state, start.query, changed, start.since_snapshot + folded)

    def _fold(self, kind: StateKind, state: State, page: Page) -> State:
        tags = kind.tags(state)
        for stored in page:
            metadata = decode_metadata(stored) if kind.wants_metadata else NO_METADATA
            for event in self._schema.decode_for(kind, tags, stored):
                state = cast(State, kind.step(state, event, metadata))
        return state

    async def _remember(self, identity: Identity, loaded: Loaded) -> Loaded:
        """Keep a state hot, and take a snapshot of it when it is time."""
        if self._is_due(loaded):
            await self._keep_snapshot(loaded)
            loaded = replace(loaded, since_snapshot=0)
        older = self._hot.get(identity)
        if older is None or older.position <= loaded.position:
            self._hot[identity] = loaded
            self._hot.move_to_end(identity)
            while len(self._hot) > self._size:
                self._hot.popitem(last=False)
        return loaded

    def _is_due(self, loaded: Loaded) -> bool:
        return self._snapshot_every is not None and loaded.since_snapshot >= self._snapshot_every

    async def _keep_snapshot(self, loaded: Loaded) -> None:
        """Keep a state for later; it can do without, so that trouble is only told."""
        try:
            data = msgspec.json.encode(loaded.state)
            if msgspec.json.decode(data, type=type(loaded.state)) == loaded.state:
                snapshot = Snapshot(*self._named(loaded.state), loaded.position, data)
                await cast(Books, self._books).open()
                await cast(Books, self._books).write(Put(SNAPSHOTS, [snapshot]))
            else:
                logger.warning("no snapshot of a %s is kept: it would be read as another", type(loaded.state).__name__)
        except (StoreError, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            logger.warning("no snapshot of a %s is kept: %s", type(loaded.state).__name__, error)

    async def _snapshot(self, state: State) -> tuple[int, State] | None:
        """Return the position and value of a state's snapshot, if it has one."""
        if self._books is None:
            return None
        name, key, fingerprint = self._named(state)
        kept = await self._kept(name, key)
        if kept is None or kept.fingerprint != fingerprint:
            return None
        try:
            return kept.position, msgspec.json.decode(kept.data, type=type(state))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            logger.warning("the snapshot of %r cannot be read; it is folded from the log instead", state)
            return None

    async def _kept(self, name: str, key: str) -> Snapshot | None:
        try:
            return (await cast(Books, self._books).views.get(SNAPSHOTS, [(name, key)])).get((name, key))
        except NotKept:  # nobody has taken any
            return None

    def _named(self, state: State) -> tuple[str, str, str]:
        """Return the class, key and fingerprint under which a state's snapshot is kept."""
        cls = type(state)
        kind = state_kind(cls)
        if cls not in self._fingerprints:
            self._fingerprints[cls] = fingerprint(cls, self._schema.upcasters(kind.events))
        return cls.__qualname__, msgspec.json.encode(kind.identity(state)[1:]).decode(), self._fingerprints[cls]


def _kind(state: State) -> StateKind:
    if not isinstance(state, State):  # pyright: ignore[reportUnnecessaryIsInstance] - its class is easily passed
        raise InvalidQuery(f"{state!r} is not a state: give one with its key, as in `Order('o-1')`")
    return state_kind(type(state))


def checked_identity(state: State) -> Identity:
    """Return what tells a state from all others; refuse a key that it cannot have."""
    kind = _kind(state)
    identity = kind.identity(state)
    for value, field in zip(identity[1:], kind.keys, strict=True):
        if not isinstance(value, field.type):
            raise InvalidQuery(
                f"{kind.cls.__name__}.{field.name} is of type {field.type.__name__}, which {value!r} is not"
            )
    return identity


def _beginning(state: State) -> State:
    """Return the state of this key before any event: what a caller passes may have folded some already."""
    return state_kind(type(state)).initial(*checked_identity(state)[1:])


async def position_at(store: Store, moment: datetime) -> int:
    """Return the last position that was recorded at a moment or before it; 0 if none was.

    `recorded_at` never decreases, so this needs about as many reads as the head has binary digits.
    """
    low, high = 0, await store.head()  # recorded at `low` or before: yes; above `high`: no
    while low < high:
        middle = (low + high) // 2
        first: StoredEvent | None = None
        async for page in store.read(after=middle, upto=high, limit=1):
            first = first or (page[0] if page else None)
        if first is not None and first.recorded_at <= moment:
            low = first.position
        else:
            high = middle
    return low
