"""The composition root: lists in, a running system out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from copy import copy
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from msgspec import Struct

from refold.bus.api import Bus
from refold.bus.open import open_bus
from refold.contract.describe import Contract
from refold.contract.found import Program
from refold.errors import InvalidQuery, StoreClosed, SubscriptionFailed, WaitTimeout, WiringError
from refold.model.hints import described
from refold.model.message import Command, Event
from refold.model.record import Recorded
from refold.model.schema import Schema
from refold.model.state import State
from refold.model.upcast import Upcasting
from refold.runtime.analyse import Analytics
from refold.runtime.books import Books
from refold.runtime.contract import contract_of
from refold.runtime.effect import Effect, Effected
from refold.runtime.execute import Context, Executor, decisions_by_command
from refold.runtime.given import asked, following, given
from refold.runtime.inbox import Arrivals, Inbox
from refold.runtime.load import Loader, checked_identity, position_at
from refold.runtime.look import RowsView, View
from refold.runtime.operate import Operations
from refold.runtime.owner import Owner
from refold.runtime.project import Kept
from refold.runtime.react import Process
from refold.runtime.rebuild import Recipe
from refold.runtime.registry import Registry
from refold.runtime.rows import RowState, RowStates, check_kept_as_events
from refold.runtime.running import Running
from refold.runtime.tables import Projection
from refold.runtime.versions import Versions
from refold.runtime.wire import borders, check, check_rows, definition, folder, several
from refold.store.api import Clock, Conditions, Store, utc_now
from refold.store.open import check_url, open_store
from refold.view.open import open_views, open_views_at

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
        `snapshot_every`, a state that has folded so many events since its last snapshot is kept anew. `hot_states`
        bounds how many are remembered in memory.
        """
        if isinstance(store, str):
            check_url(store)
        elif not hasattr(store, "append"):
            raise WiringError(f"{store!r} is neither a store nor the address of one: write 'sqlite:///shop.db'")
        if snapshot_every is not None and snapshot_every < 1:
            raise WiringError("snapshot_every counts events, so it is at least 1")
        if hot_states < 0:
            raise WiringError("hot_states counts states, so it is not negative")
        self._upcasters = several("upcasters", upcasters)
        self.schema = Schema(events, self._upcasters)
        self._store_or_url = store
        self._decisions = decisions_by_command(several("decisions", decisions), self.schema)
        self._processes = [Process(function, self.schema) for function in several("processes", processes)]
        self._processes += [Effect(given, self.schema) for given in several("effects", effects)]
        self._bus = bus
        self._outbox, self._entrances = borders(
            name, bus, several("outbox", outbox), several("inbox", inbox), self.schema
        )
        self._name = name
        self._projections = [definition(each, self.schema) for each in several("projections", projections)]
        self._rows = [RowState(each, self.schema) for each in several("rows", rows)]
        self._kept = {table.cls: each.name for each in self._projections for table in each.tables("")}
        self._analytics = folder(analytics)
        self._hot_states = hot_states
        self._snapshot_every = snapshot_every
        self._clock = clock
        self._follows = True
        check(self._projections, self._processes, self._entrances, self._decisions, self.schema, self._rows)
        check_rows(self._rows, self._projections, self._processes)
        self._exit = AsyncExitStack()
        self._running: Running | None = None

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise WiringError("the app is open already; make another App to open the log twice")
        async with AsyncExitStack() as exits:
            if isinstance(self._store_or_url, str):
                store = await open_store(self._store_or_url, clock=self._clock)
                exits.push_async_callback(store.close)
            else:
                store = self._store_or_url
            running = await self._work_on(store, exits)
            if self._follows:
                exits.push_async_callback(running.stop)
                await running.start()
                running.executor.registry.complete()
            self._running = running
            self._exit = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = None
        await self._exit.aclose()

    @property
    def states(self) -> tuple[type[State], ...]:
        """All classes of states that this app asks for or keeps."""
        handlers = [*self._decisions.values(), *(process.handler for process in self._processes)]
        asked = [each.kind.cls for handler in handlers for each in handler.parameters if not isinstance(each, str)]
        kept = [each.how.projection for each in self._projections if issubclass(each.how.projection, State)]
        return tuple(dict.fromkeys([*asked, *kept, *(each.kind.cls for each in self._rows)]))

    @property
    def program(self) -> Program:
        """What is checked against history: events, upcasters, states, and projections with tables."""
        views = [each.how for each in self._projections]
        return Program(
            events=self.schema.events,
            upcasters=tuple(self._upcasters),
            states=self.states,
            kept=tuple(how.projection for how in views if issubclass(how.projection, State)),
            tables=tuple((definition, how) for how in views if not issubclass(how.projection, State)),
        )

    def contract(self) -> Contract:
        """Return all that others rely on: what is stored, taken, kept and published, as one value."""
        return contract_of(
            self._name,
            self.schema,
            self._decisions,
            self.states,
            self._projections,
            self._processes,
            self._outbox,
            self._entrances,
        )

    @property
    def name(self) -> str:
        """By which other contexts know it; empty if none do."""
        return self._name

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """All classes of commands that this app decides."""
        return tuple(self._decisions)

    @property
    def views(self) -> Mapping[type, tuple[str, ...]]:
        """All classes of rows that can be looked at, each with the names of the fields that make its key."""
        tables = [table for each in self._projections for table in each.tables("")]
        found = {table.cls: tuple(name for name in table.key if name != "valid_to") for table in tables}
        return found | {each.kind.cls: each.table.key for each in self._rows}

    @property
    def log(self) -> Store:
        """The log itself, as the port has it: for programs that bring their events encoded."""
        return self._now.store

    def describe(self) -> dict[str, list[str]]:
        """Return what this app is made of, by name."""
        return {
            "events": [kind.__name__ for kind in self.schema.events],
            "decisions": [f"{decision.name}({command.__name__})" for command, decision in self._decisions.items()],
            "processes": [each.name for each in self._processes if each.kind == "process"],
            "effects": [each.name for each in self._processes if each.kind == "effect"],
            "outbox": [kind.__name__ for kind in self._outbox.published] if self._outbox else [],
            "inbox": [entrance.topic for entrance in self._entrances],
            "projections": [projection.name for projection in self._projections],
            "rows": [each.name for each in self._rows],
            "states": [cls.__name__ for cls in self.states],
        }

    def passive(self) -> Self:
        """Return a copy of this app that executes and reads, but leaves projections and processes to others."""
        twin = copy(self)
        twin._follows = False
        twin._running = None
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
        of = next((each for each in self._rows if each.kind.cls is row), None)
        if of is not None:
            return RowsView(row, of, lambda: self._now)
        name = self._kept.get(row)
        if name is None:
            raise WiringError(
                f"{described(row)} is not kept: add it, or the projection of its rows, to `projections`, or to `rows`"
            )
        return View(row, name, lambda: self._now)

    @property
    def operations(self) -> Operations:
        """The operator's side: how far everything is, what is parked, versions, rebuilds."""
        return Operations(self._now, self.schema, self._recipe)

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
        if any(each.kind.cls is projection for each in self._rows):  # written with its events
            return
        names = [*(each.name for each in self._projections), *(each.name for each in self._processes)]
        names += ["outbox"] if self._outbox else []
        if projection is not None:
            name = getattr(projection, "__name__", None)
            name = self._kept.get(projection, name) if isinstance(projection, type) else name
            names = [each for each in names if each == name]
            if not names:
                raise WiringError(f"{described(projection)} is neither a projection nor a process of this app")
        waiting = [asyncio.ensure_future(self._now.reached(name, position, timeout)) for name in names]
        try:
            if waiting:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            for each in waiting:
                if each.done():
                    each.result()
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def settle(self, *, parked: bool = False) -> None:
        """Wait until every projection and process is at rest at the head, whatever they made each other do.

        Timers that are due by the app's clock are done by then, so that a test moves the clock, and settles. A version
        of a projection that is being built is built by then, and read. Raises as `wait` does, but `WaitTimeout` only
        if one comes no further; and `SubscriptionFailed` if anything is parked, unless that may be.
        """
        now = self._now
        while True:
            head = await self.head()
            for subscription in now.subscriptions():
                while (before := subscription.position) < head:
                    try:
                        await subscription.reached(head, WAIT_SECONDS)
                    except WaitTimeout:
                        if subscription.position == before:
                            raise
            await now.look()
            await self.wait(head)
            for subscription in now.subscriptions():
                await subscription.rung()
            if head == await self.head():
                break
        if not parked:
            await self._check_parked()

    async def _check_parked(self) -> None:
        found = [each for each in await self._now.parked() if each.error] if self._now.follows else []
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

    async def _work_on(self, store: Store, exits: AsyncExitStack) -> Running:
        """Put together what an open app works with."""
        books = await self._books_beside(store, exits)
        beside = next(iter(books.values()), None)
        loader = self._loader(store, beside)
        rows_of = {each.kind.cls for each in self._rows}
        asked = [p.kind.cls for each in self._decisions.values() for p in each.parameters if not isinstance(p, str)]
        await check_kept_as_events(store, {cls for cls in asked if cls not in rows_of})
        rows = RowStates(self._rows, self.schema, store, books.get(None))
        registry = Registry(store, self.schema, books.get(None))
        exits.push_async_callback(registry.close)
        executor = Executor(store, self.schema, loader, rows, self._decisions, registry, self._clock)
        running = Running(store, list(books.values()), loader, rows, executor, Owner(), self._clock)
        for each in self._projections:
            running.keep(each, Versions(each, books[each.how.database]))
        for process in self._processes:
            # What it looks at lies in the past, so it remembers states of its own.
            process.acts_through(
                self._loader(store, beside),
                executor,
                books[None],
                {command.__name__: command for command in self._decisions},
                self._clock,
            )
            running.processes[process.name] = process
        await self._open_borders(running, exits)
        if self._analytics is not None:
            running.analytics = Analytics(self._analytics, self.schema, store, list(running.upkeeps.values()))
        exits.push_async_callback(running.close)
        return running

    async def _open_borders(self, running: Running, exits: AsyncExitStack) -> None:
        """Connect what leaves and enters with the broker."""
        if self._bus is None or not (self._outbox or self._entrances):
            return
        bus = self._bus
        if isinstance(bus, str):
            bus = await open_bus(bus)
            exits.push_async_callback(bus.close)
        if self._outbox is not None:
            self._outbox.act_through(bus)
            running.outbox = self._outbox
        for entrance in self._entrances:
            entrance.act_through(running.executor, running.books[0])
            running.entrances[entrance.name] = (entrance, Arrivals(bus, entrance.topic, self._name, running.books[0]))

    async def _books_beside(self, store: Store, exits: AsyncExitStack) -> dict[str | None, Books]:
        """Open the databases in which views are kept: the log's own, and others."""
        books: dict[str | None, Books] = {}
        needed = (self._projections, self._rows, self._processes, self._snapshot_every, self._outbox, self._entrances)
        if any(needed):
            books[None] = Books(open_views(store))
        for url in dict.fromkeys(each.how.database for each in self._projections):
            if url is not None:
                views = await open_views_at(url)
                exits.push_async_callback(views.close)
                books[url] = Books(views)
        return books

    def _recipe(self, projection: str) -> Recipe | None:
        """Return what a worker process needs to work on a projection."""
        if not isinstance(self._store_or_url, str):
            return None
        how = next(each.how for each in self._projections if each.name == projection)
        return Recipe(self._store_or_url, how.database, definition, how, self.schema.events, self._upcasters)

    def _loader(self, store: Store, books: Books | None) -> Loader:
        return Loader(
            store,
            self.schema,
            hot=self._hot_states,
            snapshot_every=self._snapshot_every,
            books=books,
            without_past={each.kind.cls for each in self._rows},
        )


def _zoned(moment: datetime, name: str) -> datetime:
    if moment.utcoffset() is None:
        raise InvalidQuery(f"{name}={moment!r} has no time zone: use datetime(…, tzinfo=UTC)")
    return moment
