"""What an app is made of, read off its lists and checked; and putting together what works once it is open."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from refold.bus.api import Bus
from refold.bus.open import open_bus
from refold.contract.describe import Contract
from refold.contract.found import Program
from refold.errors import WiringError
from refold.model.hints import described
from refold.model.message import Command, Event
from refold.model.schema import Schema
from refold.model.state import State
from refold.model.upcast import Upcasting
from refold.runtime.analyse import Analytics
from refold.runtime.books import Books
from refold.runtime.checks import borders, check, check_rows, definition, folder, several
from refold.runtime.contract import contract_of
from refold.runtime.effect import Effect, Effected
from refold.runtime.execute import Executor, decisions_by_command
from refold.runtime.inbox import Arrivals, Inbox
from refold.runtime.indexing import Indexing
from refold.runtime.load import Loader
from refold.runtime.outbox import NAME as OUTBOX
from refold.runtime.owner import Owner
from refold.runtime.project import Kept
from refold.runtime.react import Process
from refold.runtime.rebuild import Recipe
from refold.runtime.registry import Registry
from refold.runtime.rows import RowState, RowStates, check_kept_as_events
from refold.runtime.running import Running
from refold.runtime.tables import Projection
from refold.runtime.telemetry import Telemetry
from refold.runtime.versions import Versions
from refold.store.api import Clock, Store
from refold.store.open import check_url
from refold.view.open import open_views, open_views_at


class Wiring:
    """The parts of an app."""

    def __init__(
        self,
        store: str | Store,
        *,
        events: object,
        decisions: Iterable[Callable[..., Any]],
        processes: Iterable[Callable[..., Any]],
        effects: Iterable[Callable[..., Any] | Effected],
        projections: Iterable[type[State] | type[Projection] | Kept],
        rows: Iterable[type[State]],
        upcasters: Iterable[Upcasting],
        name: str,
        bus: str | Bus | None,
        outbox: Iterable[type[Event] | Callable[..., Any]],
        inbox: Iterable[Inbox],
        analytics: str | Path | None,
        index: bool,
        snapshot_every: int | None,
        hot_states: int,
        clock: Clock,
    ) -> None:
        """Read the parts, or raise `WiringError` saying what to write; see `App`."""
        if isinstance(store, str):
            check_url(store)
        elif not hasattr(store, "append"):
            raise WiringError(f"{store!r} is neither a store nor the address of one: write 'sqlite:///shop.db'")
        if snapshot_every is not None and snapshot_every < 1:
            raise WiringError("snapshot_every counts events, so it is at least 1")
        if hot_states < 0:
            raise WiringError("hot_states counts states, so it is not negative")
        self.upcasters = several("upcasters", upcasters)
        self.schema = Schema(events, self.upcasters)
        self.store = store
        self.decisions = decisions_by_command(several("decisions", decisions), self.schema)
        self._make_processes: list[Callable[[], Process]] = [
            *(partial(Process, function, self.schema) for function in several("processes", processes)),
            *(partial(Effect, given, self.schema) for given in several("effects", effects)),
        ]
        self.processes = [make() for make in self._make_processes]
        """What is known of them; each time that the app is opened there are others that work."""
        self.bus = bus
        self._make_borders = partial(
            borders, name, bus, several("outbox", outbox), several("inbox", inbox), self.schema
        )
        self.outbox, self.entrances = self._make_borders()
        self.name = name
        self.telemetry = Telemetry(name)
        self.projections = [definition(each, self.schema) for each in several("projections", projections)]
        self.rows = [RowState(each, self.schema) for each in several("rows", rows)]
        self.kept = {table.cls: each.name for each in self.projections for table in each.tables("")}
        self._analytics = folder(analytics)
        self.index = Indexing() if index else None
        self._hot_states = hot_states
        self._snapshot_every = snapshot_every
        self.clock = clock
        kept = [*self.projections, *([self.index] if self.index else [])]
        check(kept, self.processes, self.entrances, self.decisions, self.schema, self.rows)
        check_rows(self.rows, self.projections, self.processes)

    @property
    def states(self) -> tuple[type[State], ...]:
        """All classes of states that this app asks for or keeps."""
        handlers = [*self.decisions.values(), *(process.handler for process in self.processes)]
        asked = [each.kind.cls for handler in handlers for each in handler.parameters if not isinstance(each, str)]
        kept = [each.how.projection for each in self.projections if issubclass(each.how.projection, State)]
        return tuple(dict.fromkeys([*asked, *kept, *(each.kind.cls for each in self.rows)]))

    @property
    def program(self) -> Program:
        """What is checked against history: events, upcasters, states, and projections with tables."""
        views = [each.how for each in self.projections]
        return Program(
            events=self.schema.events,
            upcasters=tuple(self.upcasters),
            states=self.states,
            kept=tuple(how.projection for how in views if issubclass(how.projection, State)),
            tables=tuple((definition, how) for how in views if not issubclass(how.projection, State)),
        )

    def contract(self) -> Contract:
        """Return all that others rely on: what is stored, taken, kept and published, as one value."""
        return contract_of(
            self.name,
            self.schema,
            self.decisions,
            self.states,
            self.projections,
            self.processes,
            self.outbox,
            self.entrances,
        )

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """All classes of commands that this app decides."""
        return tuple(self.decisions)

    @property
    def views(self) -> Mapping[type, tuple[str, ...]]:
        """All classes of rows that can be looked at, each with the names of the fields that make its key."""
        tables = [table for each in self.projections for table in each.tables("")]
        found = {table.cls: tuple(name for name in table.key if name != "valid_to") for table in tables}
        return found | {each.kind.cls: each.table.key for each in self.rows}

    def names(self, of: type | Callable[..., Any] | None = None) -> list[str]:
        """Return the names of all that is kept up behind the log: of one projection or process, or of every one."""
        if any(each.kind.cls is of for each in self.rows):  # written with its events
            return []
        names = [*(each.name for each in self.projections), *(each.name for each in self.processes)]
        names += [OUTBOX] if self.outbox else []
        if of is None:
            return names
        name = getattr(of, "__name__", None)
        name = self.kept.get(of, name) if isinstance(of, type) else name
        if name not in names:
            raise WiringError(f"{described(of)} is neither a projection nor a process of this app")
        return [name]

    def describe(self) -> dict[str, list[str]]:
        """Return what this app is made of, by name."""
        return {
            "events": [kind.__name__ for kind in self.schema.events],
            "decisions": [f"{decision.name}({command.__name__})" for command, decision in self.decisions.items()],
            "processes": [each.name for each in self.processes if each.kind == "process"],
            "effects": [each.name for each in self.processes if each.kind == "effect"],
            "outbox": [kind.__name__ for kind in self.outbox.published] if self.outbox else [],
            "inbox": [entrance.topic for entrance in self.entrances],
            "projections": [projection.name for projection in self.projections],
            "rows": [each.name for each in self.rows],
            "states": [cls.__name__ for cls in self.states],
        }

    async def open(self, store: Store, exits: AsyncExitStack) -> Running:
        """Put together what an open app works with; nothing of it is shared with others that are opened."""
        self.telemetry.begin()
        books = await self._books_beside(store, exits)
        beside = next(iter(books.values()), None)
        loader = self._loader(store, beside)
        rows_of = {each.kind.cls for each in self.rows}
        asked = [p.kind.cls for each in self.decisions.values() for p in each.parameters if not isinstance(p, str)]
        await check_kept_as_events(store, {cls for cls in asked if cls not in rows_of})
        rows = RowStates(self.rows, self.schema, store, books.get(None))
        registry = Registry(store, self.schema, books.get(None))
        exits.push_async_callback(registry.close)
        executor = Executor(store, self.schema, loader, rows, self.decisions, registry, self.clock, self.telemetry)
        running = Running(store, list(books.values()), loader, rows, executor, Owner(), self.clock)
        for each in self.projections:
            running.keep(each, Versions(each, books[each.how.database]))
        views = list(running.upkeeps.values())
        if self.index is not None:
            running.index = Versions(self.index, books[None])
            running.keep(self.index, running.index)
        for process in (make() for make in self._make_processes):
            # What it looks at lies in the past, so it remembers states of its own.
            process.acts_through(
                store,
                self._loader(store, beside),
                executor,
                books[None],
                {command.__name__: command for command in self.decisions},
                self.clock,
            )
            running.processes[process.name] = process
        await self._open_borders(running, exits)
        if self._analytics is not None:
            running.analytics = Analytics(self._analytics, self.schema, store, views)
        exits.push_async_callback(running.close)
        return running

    async def _open_borders(self, running: Running, exits: AsyncExitStack) -> None:
        """Connect what leaves and enters with the broker."""
        if self.bus is None or not (self.outbox or self.entrances):
            return
        bus = self.bus
        if isinstance(bus, str):
            bus = await open_bus(bus)
            exits.push_async_callback(bus.close)
        running.outbox, entrances = self._make_borders()
        if running.outbox is not None:
            running.outbox.act_through(bus, self.telemetry)
        for entrance in entrances:
            entrance.act_through(running.executor, running.books[0], bus)
            running.entrances[entrance.name] = (entrance, Arrivals(bus, entrance.topic, self.name, running.books[0]))

    async def _books_beside(self, store: Store, exits: AsyncExitStack) -> dict[str | None, Books]:
        """Open the databases in which views are kept: the log's own, and others."""
        books: dict[str | None, Books] = {}
        needed = (
            self.projections,
            self.rows,
            self.processes,
            self._snapshot_every,
            self.outbox,
            self.entrances,
            self.index,
        )
        if any(needed):
            books[None] = Books(open_views(store))
        for url in dict.fromkeys(each.how.database for each in self.projections):
            if url is not None:
                views = await open_views_at(url)
                exits.push_async_callback(views.close)
                books[url] = Books(views)
        return books

    def recipe(self, projection: str) -> Recipe | None:
        """Return what a worker process needs to work on a projection."""
        if not isinstance(self.store, str):
            return None
        how = next((each.how for each in self.projections if each.name == projection), None)
        if how is None:
            return None
        return Recipe(self.store, how.database, definition, how, self.schema.events, self.upcasters)

    def _loader(self, store: Store, books: Books | None) -> Loader:
        return Loader(
            store,
            self.schema,
            hot=self._hot_states,
            snapshot_every=self._snapshot_every,
            books=books,
            without_past={each.kind.cls for each in self.rows},
        )
