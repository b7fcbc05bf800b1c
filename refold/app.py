"""The composition root: lists in, a running system out."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from copy import copy
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from msgspec import Struct

from refold.bus.api import Bus
from refold.contract.describe import Contract
from refold.contract.found import Program
from refold.errors import InvalidQuery, StoreClosed, SubscriptionFailed, WiringError
from refold.model.hints import described
from refold.model.message import Command, Event
from refold.model.query import Query
from refold.model.record import Recorded
from refold.model.state import State
from refold.model.upcast import Upcasting
from refold.runtime.causes import Causes, causes
from refold.runtime.diagnose import seen
from refold.runtime.effect import Effected
from refold.runtime.execute import Context
from refold.runtime.given import asked, following, given
from refold.runtime.inbox import Inbox
from refold.runtime.index import Index
from refold.runtime.load import checked_identity, position_at
from refold.runtime.look import RowsView, View
from refold.runtime.operate import Operations
from refold.runtime.project import Kept
from refold.runtime.pulse import Pulse
from refold.runtime.running import Running
from refold.runtime.story import Story, story
from refold.runtime.tables import Projection
from refold.runtime.telemetry import Telemetry
from refold.runtime.wiring import Wiring
from refold.store.api import Clock, Conditions, Store, utc_now
from refold.store.open import open_store

if TYPE_CHECKING:
    from refold.view.parquet import Answer

S = TypeVar("S", bound=State)
E = TypeVar("E", bound=Event)
R = TypeVar("R", bound=Struct)
T = TypeVar("T")
WAIT_SECONDS = 30.0


class App:
    """An application on one log. Its wiring is checked when it is made; `async with` opens the log and starts it."""

    def __init__(
        self,
        store: str | Store,
        *,
        events: object,
        decisions: Iterable[Callable[..., Any]] = (),
        processes: Iterable[Callable[..., Any]] = (),
        effects: Iterable[Callable[..., Any] | Effected] = (),
        projections: Iterable[type[State] | type[Projection] | Kept] = (),
        rows: Iterable[type[State]] = (),
        upcasters: Iterable[Upcasting] = (),
        name: str = "",
        bus: str | Bus | None = None,
        outbox: Iterable[type[Event] | Callable[..., Any]] = (),
        inbox: Iterable[Inbox] = (),
        analytics: str | Path | None = None,
        index: bool = False,
        snapshot_every: int | None = None,
        hot_states: int = 10_000,
        clock: Clock = utc_now,
    ) -> None:
        """Wire an app, or raise `WiringError` saying what to write.

        `store` is an address (`sqlite:///shop.db`, `memory:`) or an open store, which is then not closed. `events` is
        a union or list of all event classes. `rows` lists states that are kept as rows and nothing else: they are
        read, decided on, and written in one step with the events. `outbox` lists what is published to other contexts,
        on the topic of this app's `name`, by way of the broker `bus` (an address, or an open one): classes of events,
        and functions from an event to what others see of it. `inbox` says what is done with the events of others.
        `analytics` is a folder in which events and views are mirrored as Parquet files, to be asked by `query`. With
        `index`, events are found by their words and ids at once: see `App.index`. With `snapshot_every`, a state that
        has folded so many events since its last snapshot is kept anew. `hot_states` bounds how many are remembered in
        memory.
        """
        self._wiring = Wiring(
            store,
            events=events,
            decisions=decisions,
            processes=processes,
            effects=effects,
            projections=projections,
            rows=rows,
            upcasters=upcasters,
            name=name,
            bus=bus,
            outbox=outbox,
            inbox=inbox,
            analytics=analytics,
            index=index,
            snapshot_every=snapshot_every,
            hot_states=hot_states,
            clock=clock,
        )
        self.schema = self._wiring.schema
        self._follows = True
        self._creates = True
        self._exit = AsyncExitStack()
        self._running: Running | None = None
        self._pulse: Pulse | None = None

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise WiringError("the app is open already; make another App to open the log twice")
        async with AsyncExitStack() as exits:
            if isinstance(self._wiring.store, str):
                store = await open_store(self._wiring.store, clock=self._wiring.clock, create=self._creates)
                exits.push_async_callback(store.close)
            else:
                store = self._wiring.store
            running = await self._wiring.open(store, exits)
            if self._follows:
                exits.push_async_callback(running.stop)
                await running.start()
                running.executor.registry.complete()
            self._running = running
            self._exit = exits.pop_all()
            if self.telemetry.exports and self._follows:  # OpenTelemetry asks for gauges at times of its own
                self.pulse.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pulse is not None:
            await self._pulse.stop()
            self._pulse = None
        self._running = None
        await self._exit.aclose()

    @property
    def name(self) -> str:
        """By which other contexts know it; empty if none do."""
        return self._wiring.name

    @property
    def address(self) -> str:
        """Where its log is, with what the address says of passwords; empty if it was given an open store."""
        return self._wiring.store if isinstance(self._wiring.store, str) else ""

    @property
    def states(self) -> tuple[type[State], ...]:
        """All classes of states that this app asks for or keeps."""
        return self._wiring.states

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """All classes of commands that this app decides."""
        return self._wiring.commands

    @property
    def views(self) -> Mapping[type, tuple[str, ...]]:
        """All classes of rows that can be looked at, each with the names of the fields that make its key."""
        return self._wiring.views

    @property
    def program(self) -> Program:
        """What is checked against history: events, upcasters, states, and projections with tables."""
        return self._wiring.program

    def contract(self) -> Contract:
        """Return all that others rely on: what is stored, taken, kept and published, as one value."""
        return self._wiring.contract()

    @property
    def telemetry(self) -> Telemetry:
        """What this app tells of itself: figures, and spans where OpenTelemetry is set up."""
        return self._wiring.telemetry

    @property
    def pulse(self) -> Pulse:
        """How everything stands and stood in the last minutes; looked at only once somebody starts it."""
        if self._pulse is None:
            self._pulse = Pulse(partial(seen, self.operations), self._now.store.head, self.telemetry.figures)
        return self._pulse

    @property
    def log(self) -> Store:
        """The log itself, as the port has it: for programs that bring their events encoded."""
        return self._now.store

    def describe(self) -> dict[str, list[str]]:
        """Return what this app is made of, by name."""
        return self._wiring.describe()

    def passive(self, *, create: bool = True) -> Self:
        """Return a copy of this app that executes and reads, but leaves projections and processes to others.

        If it may not `create` its log, nor upgrade it, opening it raises `NotAStore` where there is none, and
        `StoreTooOld` for one of an older Refold.
        """
        twin = copy(self)
        twin._follows = False
        twin._creates = create
        twin._exit = AsyncExitStack()
        twin._running = None
        twin._pulse = None
        return twin

    async def execute(
        self,
        command: Command,
        *,
        id: str | None = None,
        actor: str = "",
        occurred_at: datetime | None = None,
        correlation_id: str = "",
        causation_id: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """Decide a command, append the events, and return the position from which the outcome can be seen.

        A command that comes again with the same `id` changes nothing and returns the first one's position (within
        the store's retention window). `occurred_at`, with a zone, is when it happened in the world, if not now.

        Raises `Rejected` if the domain says no; `Conflict` if other events came in between too often;
        `AppendIdReused` if another command had this `id`, and gave other events than this one would;
        `InvalidEvent` if the decision gave an event that cannot be stored; `StoreError` if the store fails.
        """
        context = Context(id, actor, occurred_at, correlation_id, causation_id, extra or {})
        return await self._now.executor.execute(command, context)

    async def record(
        self,
        *events: Event,
        condition: Conditions = None,
        id: str | None = None,
        actor: str = "",
        occurred_at: datetime | None = None,
        correlation_id: str = "",
        causation_id: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """Append events as they are, all or none, without a decision; return the last one's position."""
        context = Context(id, actor, occurred_at, correlation_id, causation_id, extra or {})
        return await self._now.executor.record(events, context, condition)

    async def load(
        self,
        state: S,
        *,
        as_of: datetime | int | None = None,
        effective: datetime | None = None,
        upto: int | None = None,
    ) -> S:
        """Return the state with this key: `load(Order("o-1"))`.

        `as_of` asks what the log knew at a recorded time, or at a position; `upto` is that position by the name it
        has in a read. `effective` asks what was true in the world at a moment, by what is known now, or with `as_of`
        then. Times have a zone. A state that is kept as rows is read as it is now; it has no past to be asked for.
        """
        now = self._now
        if type(state) in now.rows and as_of is None and effective is None and upto is None:
            identity = checked_identity(state)
            return cast(S, (await now.rows.current([identity]))[identity].state)
        bound = await self._bound(as_of, upto)
        if effective is not None:
            return await now.loader.effective(state, _zoned(effective, "effective"), bound)
        if bound is not None:
            return await now.loader.at(state, bound)
        loaded, _ = await now.loader.current([state])
        return cast(S, next(iter(loaded.values())).state)

    async def story(
        self,
        state: S,
        *,
        as_of: datetime | int | None = None,
        effective: datetime | None = None,
        upto: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> Story[S]:
        """Tell how a state came to be what it is: `story(Order("o-1"))` has its events, each with what it changed.

        These are the last steps of its story, or the first after a position. `as_of`, `upto` and `effective` mean
        what they do for `load`: the last step has what `load` would return. By `effective` the events are told in the
        order in which they happened in the world. What cannot be read or folded is told as such at its step.
        """
        now, bound = self._now, await self._bound(as_of, upto)
        moment = None if effective is None else _zoned(effective, "effective")
        return await story(
            now.store, self.schema, now.loader, state, after=after, upto=bound, effective=moment, limit=limit
        )

    async def causes(self, position: int, *, query: Query = Query()) -> Causes | None:
        """Tell what caused what: the tree that the event at a position is in, from its roots down; None if none is.

        Commands, events, what processes gave because of these, and so on; with what has failed, was skipped, or waits
        for its time. `query` narrows which events are in it. It has no more than 1,000 events, and says if there may
        be others; what bears no correlation id, or another, is found in time only with an index.
        """
        now = self._now
        return await causes(now.store, self.index, now.books, position, query, now.clock())

    @overload
    def events(
        self,
        of: type[E],
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Recorded[E]]: ...
    @overload
    def events(
        self,
        of: object = None,
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Recorded[Event]]: ...
    async def events(
        self,
        of: object = None,
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Recorded[Event]]:
        """Go through events in order: all, or those of a state, of event classes (one, a union, a list), or a `Query`.

        What an old event has become shares its place; a `Query` asks for stored ones, and gives all that they have
        become. Raises `UnknownEvent` at one whose type or version this app does not know.
        """
        which = asked(of, self.schema)
        bounds: dict[str, Any] = {"after": after, "upto": upto, "backwards": backwards, "limit": limit}
        async for recorded in given(self._now.store, self.schema, which, **bounds):
            yield recorded

    @overload
    def follow(self, of: type[E], *, after: int = 0) -> AsyncIterator[Recorded[E]]: ...
    @overload
    def follow(self, of: object = None, *, after: int = 0) -> AsyncIterator[Recorded[Event]]: ...
    async def follow(self, of: object = None, *, after: int = 0) -> AsyncIterator[Recorded[Event]]:
        """Go through events as `events` does, and then through those to come, for ever."""
        async with aclosing(following(self._now.store, self.schema, asked(of, self.schema), after=after)) as events:
            async for recorded in events:
                yield recorded

    def view(self, row: type[R]) -> View[R]:
        """Return what is kept: by a state that is a projection or in `rows`, or by a class of a projection's rows."""
        of = next((each for each in self._wiring.rows if each.kind.cls is row), None)
        if of is not None:
            return RowsView(row, of, lambda: self._now)
        name = self._wiring.kept.get(row)
        if name is None:
            raise WiringError(
                f"{described(row)} is not kept: add it, or the projection of its rows, to `projections`, or to `rows`"
            )
        return View(row, name, lambda: self._now)

    @property
    def index(self) -> Index:
        """What finds events by words, ids and causes; quickly, if it is kept: `App(…, index=True)`."""
        return Index(self._now.store, self._now.index)

    @property
    def operations(self) -> Operations:
        """The operator's side: how far everything is, what is parked, versions, rebuilds."""
        return Operations(self._now, self.schema, self._wiring.recipe)

    async def query(
        self,
        sql: str,
        values: Sequence[Any] | Mapping[str, Any] = (),
        *,
        at_least: int = 0,
        seconds: float = WAIT_SECONDS,
    ) -> "Answer":
        """Ask the mirror in SQL, as DuckDB understands it: `select month, sum(total) from OrderPlaced group by 1`.

        Each event class is a table, and so is each view; `events` has all events. The answer gives `.rows()`, `.pl()`
        (Polars) or `.arrow()`. It can wait until the mirror, which is about a second behind, shows a position, and
        may take so many seconds. Raises `InvalidQuery` for what is no question.
        """
        found = self._now.analytics
        if found is None:
            raise WiringError("this app has no mirror to ask: give it a folder, analytics='shop-analytics'")
        return await found.query(sql, values, at_least=at_least, seconds=seconds, wait=WAIT_SECONDS)

    async def head(self) -> int:
        """Return the last position of the log."""
        return await self._now.store.head()

    async def wait(
        self,
        position: int,
        projection: type | Callable[..., Any] | None = None,
        *,
        timeout: float | None = WAIT_SECONDS,  # noqa: ASYNC109 - the error says how far it is
    ) -> None:
        """Wait until one projection or process, or all of them, have handled everything up to a position.

        Raises `WaitTimeout` after `timeout` seconds, and `SubscriptionFailed` if one has stopped.
        """
        await self._now.all_reached(self._wiring.names(projection), position, timeout)

    async def settle(self, *, parked: bool = False) -> None:
        """Wait until every projection and process is at rest at the head, whatever they made each other do.

        Timers that are due by the app's clock are done by then, so that a test moves the clock, and settles. A version
        of a projection that is being built is built by then, and read. Raises as `wait` does, but `WaitTimeout` only
        if one comes no further; and `SubscriptionFailed` if anything is parked, unless that may be.
        """
        await self._now.settled(self._wiring.names(), WAIT_SECONDS)
        if not parked:
            await self._check_parked()

    async def _check_parked(self) -> None:
        found = [each for each in await self._now.mending.parked() if each.error] if self._now.follows else []
        if found:
            first = found[0]
            raise SubscriptionFailed(
                f"{first.subscription} has parked position {first.position} ({first.type}): {first.error}. "
                f"In all, {len(found)} have failed and wait; `settle(parked=True)` lets them",
                subscription=first.subscription,
                position=first.position,
            )

    @property
    def _now(self) -> Running:
        if self._running is None:
            raise StoreClosed("the app is not open: use it inside `async with app:`")
        return self._running

    async def _bound(self, as_of: datetime | int | None, upto: int | None) -> int | None:
        if isinstance(as_of, datetime):
            as_of = await position_at(self._now.store, _zoned(as_of, "as_of"))
        if as_of is None or upto is None:
            return as_of if upto is None else upto
        return min(as_of, upto)


def _zoned(moment: datetime, name: str) -> datetime:
    if moment.utcoffset() is None:
        raise InvalidQuery(f"{name}={moment!r} has no time zone: use datetime(…, tzinfo=UTC)")
    return moment
