"""Executing commands: load, decide, append under a condition; on conflict load what is new, and decide again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar, cast
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
from refold.runtime.instruments import APPENDS, COMMAND_SECONDS, COMMANDS, CONFLICTS, EVENTS
from refold.runtime.load import Loaded, Loader, checked_identity
from refold.runtime.registry import Registry
from refold.runtime.repeats import asked_of, first_position
from refold.runtime.rows import RowStates, Seen
from refold.runtime.telemetry import Spanning, Telemetry, code_of
from refold.store.api import Clock, Conditions, Store

ATTEMPTS = 20
"""How often a command is decided before it gives up with `Conflict`."""
LONGEST_PAUSE = 0.1
"""Seconds; pauses begin at 2 ms and double, each a random part of it."""

S = TypeVar("S", bound=State)
Giver: TypeAlias = Literal["call", "process", "effect", "timer", "inbox"]


class Context(Struct, frozen=True):
    """What the caller of a command or record says about it."""

    id: str | None = None
    actor: str = ""
    occurred_at: datetime | None = None
    correlation_id: str = ""
    causation_id: str = ""
    extra: Mapping[str, Any] = {}
    giver: Giver = "call"
    """What gives the command."""

    def metadata(self, command: str = "", traceparent: str = "") -> Metadata:
        """Return what all events of this command share; `causation_id` is the command's own id if it has no cause."""
        if self.occurred_at is not None and self.occurred_at.utcoffset() is None:
            raise InvalidEvent(f"occurred_at={self.occurred_at!r} has no time zone: use datetime(…, tzinfo=UTC)")
        own = self.id or new_id()
        return Metadata(
            correlation_id=self.correlation_id or own,
            causation_id=self.causation_id or own,
            actor=self.actor,
            occurred_at=UNSAID if self.occurred_at is None else self.occurred_at,
            extra=dict(self.extra),
            traceparent=traceparent,
            command=command,
            by=self._by(own) if self.causation_id and self.causation_id != own else "",
        )

    def _by(self, own: str) -> str:
        """Return what gives the command: its id without that of its cause, which is said already."""
        if self.giver == "call":
            return f"{self.giver} {own}"
        rest = own.replace(self.causation_id, "", 1)
        return f"{self.giver} {'/'.join(part for part in rest.split('/') if part)}"


class _Overtaken(Exception):
    """Others have changed in between what a decision looked at, or a row that its events change."""

    def __init__(self, guarded: Iterable[Identity], rows: Iterable[Identity], conflict: Conflict | None = None) -> None:
        super().__init__()
        # A boundary over events is overtaken as one; a row by whoever writes it, whatever else that looks at.
        self.turns = sorted(
            {frozenset(guarded), *(frozenset([row]) for row in rows)}, key=lambda each: str(sorted(map(str, each)))
        )
        self.data = {} if conflict is None else conflict.data


class Executor:
    """Runs the decisions of an app against its log."""

    def __init__(
        self,
        store: Store,
        schema: Schema,
        loader: Loader,
        rows: RowStates,
        decisions: Mapping[type, Handler],
        registry: Registry,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._schema = schema
        self._loader = loader
        self._rows = rows
        self._decisions = decisions
        self.registry = registry
        self.telemetry = telemetry
        self._clock = clock
        self._database = {"db.system.name": system_of(store), "db.operation.name": "append"}
        self._turns: WeakValueDictionary[frozenset[Identity], asyncio.Lock] = WeakValueDictionary()

    async def execute(self, command: Command, context: Context) -> int:
        """Decide a command and append its events; return the position from which its outcome can be seen."""
        decision = self._decisions.get(type(command))
        if decision is None:
            raise WiringError(_undecided(command))
        name, started, figures = type(command).__name__, time.perf_counter(), self.telemetry.figures
        outcome = "ok"
        with self.telemetry.span(f"execute {name}", said={"refold.command": name}) as span:
            try:
                position = await self._execute(decision, command, context)
            except BaseException as error:
                outcome = code_of(error)
                raise
            finally:
                figures.count(COMMANDS, name, outcome)
                figures.time(COMMAND_SECONDS, name, seconds=time.perf_counter() - started)
            span.say("refold.position", position)
        return position

    async def _execute(self, decision: Handler, command: Command, context: Context) -> int:
        metadata = context.metadata(type(command).__name__, self.telemetry.traceparent())
        if context.id is None:
            return await self._decide(decision, command, metadata, None)
        # The ids of what processes and the like give are made of what led to it, and belong to nothing else.
        if context.giver == "call":
            metadata = replace(metadata, asked=asked_of(command))
        # That it came before is seen when it is appended again; nobody looks beforehand, since most come once.
        try:
            return await self._decide(decision, command, metadata, context.id)
        except StoreError:
            raise
        except Exception:
            # What it did when it came first may be why it is refused now, or gives other events.
            position = await first_position(self._store, context.id, metadata)
            if position is None:
                raise
            return position

    async def record(self, events: Sequence[Event], context: Context, condition: Conditions = None) -> int:
        """Append events without a decision; return the last one's position."""
        with self.telemetry.span("record"):
            return await self._record(events, context, condition)

    async def _record(self, events: Sequence[Event], context: Context, condition: Conditions) -> int:
        metadata = context.metadata("", self.telemetry.traceparent())
        if not context.causation_id and context.id is None:
            metadata = replace(metadata, causation_id="")
        for event in events:
            if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] - a list is easily passed
                raise InvalidEvent(f"{event!r} is not an Event; give events one by one: `record(first, second)`")
        batch = self._encoded(events, metadata)

        async def attempt(_: int) -> int:
            with self._appending(batch):
                done = await self._rows.append(batch, condition, context.id, {}, ())
            if done is None:
                raise _Overtaken((), self._rows.touched(batch))
            self._appended(batch, done.first)
            return done.last

        return await self._until_done("record", attempt)

    async def _decide(self, decision: Handler, command: Command, metadata: Metadata, append_id: str | None) -> int:
        """Decide and append until nobody comes in between."""

        async def attempt(number: int) -> int:
            return await self._attempt(decision, command, metadata, append_id, trusting=number < 2)

        return await self._until_done(decision.name, attempt)

    async def _until_done(self, name: str, attempt: Callable[[int], Awaitable[int]]) -> int:
        turns: list[asyncio.Lock] = []
        for number in range(ATTEMPTS):
            try:
                # Those of this process that meet in a boundary or row take turns, rather than outrun each other.
                async with AsyncExitStack() as taken:
                    for turn in turns:
                        await taken.enter_async_context(turn)
                    return await attempt(number)
            except _Overtaken as overtaken:
                if number == ATTEMPTS - 1:
                    raise Conflict(
                        f"{name} was overtaken {ATTEMPTS} times by other events; try again later", **overtaken.data
                    ) from None
                self.telemetry.figures.count(CONFLICTS, name)
                turns = [self._turns.setdefault(each, asyncio.Lock()) for each in overtaken.turns if each]
                if number:
                    await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.001 * 2**number)))  # noqa: S311
        raise AssertionError("unreachable")

    async def _attempt(
        self, decision: Handler, command: Command, metadata: Metadata, append_id: str | None, *, trusting: bool
    ) -> int:
        """Load, decide, append. Rows are read first, so that what was asked at a position is not older than they.

        A trusting attempt takes guarded states as they are remembered, without asking the log for news: if there
        are any, the append fails. Only events are decided so; to refuse or to do nothing, it asks.
        """
        asked = [
            (parameter.guarded, state, parameter.kind.identity(state))
            for parameter, states in decision.states(command)
            for state in states
        ]
        of_rows = [identity for _, _, identity in asked if identity[0] in self._rows]
        seen = await self._rows.current(of_rows) if of_rows else {}
        loaded: dict[Identity, Loaded] = {}
        unknown: list[State] = []
        for guarded, state, identity in asked:
            if identity in seen:
                continue
            hot = self._loader.hot(identity) if trusting and guarded else None
            if hot is None:
                unknown.append(state)
            else:
                loaded[identity] = hot
        trusting = bool(loaded)
        position: int | None = None
        if unknown:
            found, position = await self._loader.current(unknown)
            loaded |= found
        reader = _GuardedReader(self._loader, self._rows, position)
        now = metadata if metadata.occurred_at is not UNSAID else replace(metadata, occurred_at=self._clock())
        states = {identity: each.state for identity, each in (loaded | seen).items()}
        try:
            with self.telemetry.span(f"decide {decision.name}"):
                events = await decision.call(command, states, now, reader)
            batch = self._encoded([_an_event(event, decision) for event in events], metadata)
        except Exception:
            if not trusting:
                await self._check_at_once(seen, loaded, reader)
                raise
            batch = []
        if not batch:
            if trusting:
                return await self._attempt(decision, command, metadata, append_id, trusting=False)
            await self._check_at_once(seen, loaded, reader)
            if append_id is not None:
                position = await first_position(self._store, append_id, metadata)
                if position is not None:
                    return position
            return await self._store.head() if reader.position is None else reader.position
        # What was both asked for and read is guarded from where it was first seen.
        guarding = reader.loaded | {each: loaded[each] for guarded, _, each in asked if guarded and each in loaded}
        conditions = [AppendCondition(each.query, each.position) for each in guarding.values()]
        guarded_rows = {*reader.seen, *(identity for guarded, _, identity in asked if guarded and identity in seen)}
        seen = reader.seen | seen
        try:
            with self._appending(batch):
                result = await self._rows.append(batch, conditions, append_id, seen, guarded_rows)
        except Conflict as conflict:
            for each in guarding.values():
                self._loader.overtaken(each)
            raise _Overtaken(guarding, seen, conflict) from None
        if result is None:
            raise _Overtaken(guarding, {*seen, *self._rows.touched(batch)})
        if append_id is not None and result.first <= max(
            [reader.position or 0, *(each.position for each in guarding.values())]
        ):  # it was there before, and gives the same events again, as others might
            await first_position(self._store, append_id, metadata)
        for each in guarding.values():
            if append_id is None:
                self._loader.appended(each, batch, result.last)
            else:  # it may have been the same command's that came another way
                self._loader.overtaken(each)
        self._appended(batch, result.first)
        return result.last

    def _appending(self, batch: Sequence[NewEvent]) -> AbstractContextManager[Spanning]:
        more = {"db.operation.batch.size": len(batch)} if len(batch) > 1 else {}
        return self.telemetry.span("append", "client", said={**self._database, **more})

    def _appended(self, batch: Sequence[NewEvent], first: int) -> None:
        self.telemetry.figures.count(APPENDS)
        for each in batch:
            self.telemetry.figures.count(EVENTS, each.type)
        self.registry.note(batch, first)

    async def _check_at_once(
        self, seen: Mapping[Identity, Seen], loaded: Mapping[Identity, Loaded], reader: "_GuardedReader"
    ) -> None:
        """Look whether all that a decision looked at was so at one moment, where it gave nothing to be appended.

        Events are read at one position, and rows of one class at one moment, but not those of several, nor both.
        """
        rows = {**seen, **reader.seen}
        if not rows or not (loaded or reader.loaded or reader.seen or len({identity[0] for identity in rows}) > 1):
            return
        now = await self._rows.current(rows)
        same = all(now[identity].held == each.held for identity, each in rows.items())
        # What was read at a position was so when the rows were, unless those were read later.
        for each in (*loaded.values(), *reader.loaded.values()) if reader.seen else ():
            async for page in self._store.read(each.query, after=each.position, limit=1):
                same = same and not page
        if not same:
            raise _Overtaken({*loaded, *reader.loaded}, rows)

    def _encoded(self, events: Sequence[Event], metadata: Metadata) -> list[NewEvent]:
        if metadata.occurred_at is UNSAID and self._rows.wants_time(events):
            metadata = replace(metadata, occurred_at=self._clock())
        others = replace(metadata, asked="") if metadata.asked else metadata
        return [
            self._schema.encode(event, replace(others if number else metadata, event_id=new_id()))
            for number, event in enumerate(events)
        ]


class _GuardedReader:
    """Loads states for a decision, and notes what must not have changed when it appends."""

    def __init__(self, loader: Loader, rows: RowStates, position: int | None) -> None:
        self._loader = loader
        self._rows = rows
        self.position = position
        """Where the log is read; the first load decides if nothing has yet."""
        self.loaded: dict[Identity, Loaded] = {}
        self.seen: dict[Identity, Seen] = {}

    async def load(self, state: S) -> S:
        """Return the state with this key, as it was when the decision began; if it is a row, as it is."""
        if type(state) in self._rows:
            identity = checked_identity(state)
            if identity not in self.seen:
                self.seen |= await self._rows.current([identity])
            return cast(S, self.seen[identity].state)
        loaded, self.position = await self._loader.current([state], self.position)
        self.loaded |= loaded
        return cast(S, loaded[state_kind(type(state)).identity(state)].state)


def system_of(store: object) -> str:
    """Return what OpenTelemetry calls a database: `sqlite`, `postgresql`."""
    name = type(store).__name__.removesuffix("Store").lower()
    return "postgresql" if name == "postgres" else name


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
