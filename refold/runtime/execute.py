"""Executing commands: load, decide, append under a condition; on conflict load what is new, and decide again."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace

from refold.errors import Conflict, InvalidEvent, StoreError, WiringError
from refold.model.handler import Handler, read_decision
from refold.model.hints import described
from refold.model.message import Command, Event
from refold.model.query import AppendCondition
from refold.model.record import UNSAID, Metadata, NewEvent
from refold.model.schema import Schema
from refold.model.state import Identity, State, state_kind
from refold.runtime.ids import new_id
from refold.runtime.load import Loaded, Loader
from refold.store.api import Clock, Conditions, Store

ATTEMPTS = 20
"""How often a command is decided before it gives up with `Conflict`."""
LONGEST_PAUSE = 0.1
"""Seconds; pauses begin at 2 ms and double, each a random part of it."""

S = TypeVar("S", bound=State)


class Context(Struct, frozen=True):
    """What the caller of a command or record says about it."""

    id: str | None = None
    actor: str = ""
    occurred_at: datetime | None = None
    correlation_id: str = ""
    causation_id: str = ""
    extra: Mapping[str, Any] = {}

    def metadata(self) -> Metadata:
        """Return what all events of this command share; `causation_id` is the command's own id."""
        if self.occurred_at is not None and self.occurred_at.utcoffset() is None:
            raise InvalidEvent(f"occurred_at={self.occurred_at!r} has no time zone: use datetime(…, tzinfo=UTC)")
        own = self.id or new_id()
        return Metadata(
            correlation_id=self.correlation_id or own,
            causation_id=self.causation_id or own,
            actor=self.actor,
            occurred_at=UNSAID if self.occurred_at is None else self.occurred_at,
            extra=dict(self.extra),
        )


class _Overtaken(Exception):
    """Others have appended in between to what a decision looked at."""

    def __init__(self, conflict: Conflict, boundary: frozenset[Identity]) -> None:
        super().__init__()
        self.conflict = conflict
        self.boundary = boundary


class Executor:
    """Runs the decisions of an app against its log."""

    def __init__(
        self, store: Store, schema: Schema, loader: Loader, decisions: Mapping[type, Handler], clock: Clock
    ) -> None:
        self._store = store
        self._schema = schema
        self._loader = loader
        self._decisions = decisions
        self._clock = clock
        self._turns: WeakValueDictionary[frozenset[Identity], asyncio.Lock] = WeakValueDictionary()

    async def execute(self, command: Command, context: Context) -> int:
        """Decide a command and append its events; return the position from which its outcome can be seen."""
        decision = self._decisions.get(type(command))
        if decision is None:
            raise WiringError(_undecided(command))
        metadata = context.metadata()
        if context.id is None:
            return await self._decide(decision, command, metadata, None)
        if done := await self._store.appended(context.id):
            return done.last
        try:
            return await self._decide(decision, command, metadata, context.id)
        except StoreError:
            raise
        except Exception:
            # The same command may have come through on another way while this one was decided.
            if done := await self._store.appended(context.id):
                return done.last
            raise

    async def record(self, events: Sequence[Event], context: Context, condition: Conditions = None) -> int:
        """Append events without a decision; return the last one's position."""
        metadata = context.metadata()
        if not context.causation_id and context.id is None:
            metadata = replace(metadata, causation_id="")
        for event in events:
            if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] - a list is easily passed
                raise InvalidEvent(f"{event!r} is not an Event; give events one by one: `record(first, second)`")
        batch = [self._encode(event, metadata) for event in events]
        return (await self._store.append(batch, condition, append_id=context.id)).last

    async def _decide(self, decision: Handler, command: Command, metadata: Metadata, append_id: str | None) -> int:
        """Decide and append until nobody comes in between."""
        turn: asyncio.Lock | None = None
        for attempt in range(ATTEMPTS):
            try:
                if turn is None:
                    return await self._attempt(decision, command, metadata, append_id, trusting=True)
                # Those of this process that meet in a boundary take turns, rather than outrun each other.
                async with turn:
                    return await self._attempt(decision, command, metadata, append_id, trusting=attempt == 1)
            except _Overtaken as overtaken:
                if attempt == ATTEMPTS - 1:
                    raise Conflict(
                        f"{decision.name} was overtaken {ATTEMPTS} times by other events; try again later",
                        **overtaken.conflict.data,
                    ) from None
                turn = self._turns.setdefault(overtaken.boundary, asyncio.Lock())
                if attempt:
                    await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.001 * 2**attempt)))  # noqa: S311
        raise AssertionError("unreachable")

    async def _attempt(
        self, decision: Handler, command: Command, metadata: Metadata, append_id: str | None, *, trusting: bool
    ) -> int:
        """Load, decide, append.

        A trusting attempt takes guarded states as they are remembered, without asking the log for news: if there
        are any, the append fails. Only events are decided so; to refuse or to do nothing, it asks.
        """
        asked = [
            (parameter.guarded, state, parameter.kind.identity(state))
            for parameter, states in decision.states(command)
            for state in states
        ]
        loaded: dict[Identity, Loaded] = {}
        unknown: list[State] = []
        for guarded, state, identity in asked:
            hot = self._loader.hot(identity) if trusting and guarded else None
            if hot is None:
                unknown.append(state)
            else:
                loaded[identity] = hot
        trusting = bool(loaded)
        position: int | None = None
        if unknown or not asked:
            found, position = await self._loader.current(unknown)
            loaded |= found
        reader = _GuardedReader(self._loader, position)
        now = metadata if metadata.occurred_at is not UNSAID else replace(metadata, occurred_at=self._clock())
        states = {identity: each.state for identity, each in loaded.items()}
        try:
            events = await decision.call(command, states, now, reader)
            batch = [self._encode(_an_event(event, decision), metadata) for event in events]
        except Exception:
            if not trusting:
                raise
            batch = []
        if not batch:
            if trusting:
                return await self._attempt(decision, command, metadata, append_id, trusting=False)
            return cast(int, reader.position)
        # What was both asked for and read is guarded from where it was first seen.
        guarding = reader.loaded | {identity: loaded[identity] for guarded, _, identity in asked if guarded}
        conditions = [AppendCondition(each.query, each.position) for each in guarding.values()]
        try:
            result = await self._store.append(batch, conditions, append_id=append_id)
        except Conflict as conflict:
            for each in guarding.values():
                self._loader.overtaken(each)
            raise _Overtaken(conflict, frozenset(guarding)) from None
        for each in guarding.values():
            if append_id is None:
                self._loader.appended(each, batch, result.last)
            else:  # it may have been the same command's that came another way
                self._loader.overtaken(each)
        return result.last

    def _encode(self, event: Event, metadata: Metadata) -> NewEvent:
        return self._schema.encode(event, replace(metadata, event_id=new_id()))


class _GuardedReader:
    """Loads states for a decision, and notes what must not have changed when it appends."""

    def __init__(self, loader: Loader, position: int | None) -> None:
        self._loader = loader
        self.position = position
        """Where the log is read; the first load decides if nothing has yet."""
        self.loaded: dict[Identity, Loaded] = {}

    async def load(self, state: S) -> S:
        """Return the state with this key, as it was when the decision began."""
        loaded, self.position = await self._loader.current([state], self.position)
        self.loaded |= loaded
        return cast(S, loaded[state_kind(type(state)).identity(state)].state)


def decisions_by_command(functions: Iterable[Callable[..., Any]], schema: Schema) -> dict[type, Handler]:
    """Read decisions, refusing two for one command, and events or states that the schema does not know."""
    decisions: dict[type, Handler] = {}
    for function in functions:
        decision = read_decision(function)
        for event in decision.emits or ():
            schema.names([event])
        for parameter in decision.parameters:
            if not isinstance(parameter, str):
                schema.names(parameter.kind.events)
        for command in decision.messages:
            if command in decisions:
                raise WiringError(
                    f"{described(function)} and {described(decisions[command].function)} both decide "
                    f"{command.__name__}: a command has one decision"
                )
            decisions[command] = decision
    return decisions


def _an_event(given: object, decision: Handler) -> Event:
    if not isinstance(given, Event):
        raise WiringError(f"{described(decision.function)} gave {given!r}, but a decision gives events")
    return given


def _undecided(command: object) -> str:
    if isinstance(command, Command):
        return f"no decision takes {described(type(command))}: add it to `decisions`"
    return f"{command!r} is not a command: give one with its fields, as in `PlaceOrder('o-1')`"
