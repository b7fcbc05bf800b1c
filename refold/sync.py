"""The same app for scripts and threads: one event loop in a thread of its own, reached through one portal."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from copy import copy
from datetime import datetime
from inspect import isasyncgen, iscoroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from msgspec import Struct

import refold.app
from refold.contract.describe import Contract
from refold.contract.found import Program
from refold.errors import StoreClosed, WiringError
from refold.model.message import Command, Event
from refold.model.query import Query
from refold.model.record import NewEvent, Recorded, StoredEvent
from refold.model.schema import Schema
from refold.model.state import State
from refold.runtime.causes import Causes
from refold.runtime.index import Findings
from refold.runtime.index import Index as AsyncIndex
from refold.runtime.look import Change, Found
from refold.runtime.look import View as AsyncView
from refold.runtime.operate import Operations as AsyncOperations
from refold.runtime.story import Story
from refold.runtime.telemetry import Telemetry
from refold.store.api import Appended, Capability, Conditions, Page, Store

if TYPE_CHECKING:
    from refold.view.parquet import Answer

S = TypeVar("S", bound=State)
R = TypeVar("R", bound=Struct)
T = TypeVar("T")
AHEAD = 500
"""How many events an iterator takes over at once: each change of threads costs as much as reading several."""


class Portal:
    """Runs coroutines in an event loop of another thread, for callers of any thread."""

    def __init__(self) -> None:
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._closing = asyncio.Event()
        self._open = True
        self._submitting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="refold-portal", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine over there, and wait for its result; if the wait is interrupted, it is cancelled."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise WiringError("refold.sync.App was called from its own event loop: use refold.App there, with await")
        with self._submitting:
            if not self._open:
                coroutine.close()
                raise StoreClosed("the app is not open: use it inside `with app:`")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise StoreClosed("the app was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[T], ahead: int) -> Iterator[T]:
        """Go through an asynchronous iterator that lives over there, so many at once."""
        try:
            while some := self.call(_some(items, ahead)):
                yield from some
        finally:
            self._finish(items)

    def close(self) -> None:
        """Cancel what still runs, and end the loop and its thread."""
        with self._submitting:  # whatever was submitted is there to be cancelled, and nothing comes after it
            self._open = False
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._ready.set_result(asyncio.get_running_loop())
        await self._closing.wait()

    def _finish(self, items: AsyncIterator[Any]) -> None:
        """Close an iterator, without waiting: it may be the garbage collector, in any thread, that asks for it."""
        closing = _close(items)
        try:
            self._loop.call_soon_threadsafe(self._loop.create_task, closing)
        except RuntimeError:  # the loop has ended, and has closed it
            closing.close()


async def _some(items: AsyncIterator[T], ahead: int) -> list[T]:
    some: list[T] = []
    async for item in items:
        some.append(item)
        if len(some) == ahead:
            break
    return some


async def _close(items: AsyncIterator[Any]) -> None:
    if isinstance(items, AsyncGenerator):
        with suppress(RuntimeError):  # it is at work, and about to be cancelled
            await items.aclose()


class App:
    """An application on one log; the arguments are those of `refold.App`, and so is what each method does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._app = refold.app.App(*args, **options)
        self._portal: Portal | None = None

    def __enter__(self) -> Self:
        if self._portal is not None:
            raise WiringError("the app is open already; make another App to open the log twice")
        self._portal = portal = Portal()
        try:
            portal.call(self._app.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._now.call(self._app.__aexit__(kind, error, trace))
        finally:
            self._end()

    @property
    def name(self) -> str:
        """By which other contexts know it; empty if none do."""
        return self._app.name

    @property
    def address(self) -> str:
        """Where its log is; see `refold.App.address`."""
        return self._app.address

    @property
    def schema(self) -> Schema:
        """The events of this app, with their upcasters."""
        return self._app.schema

    @property
    def states(self) -> tuple[type[State], ...]:
        """All classes of states that this app asks for or keeps."""
        return self._app.states

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """All classes of commands that this app decides."""
        return self._app.commands

    @property
    def views(self) -> Mapping[type, tuple[str, ...]]:
        """All classes of rows that can be looked at; see `refold.App.views`."""
        return self._app.views

    @property
    def program(self) -> Program:
        """What is checked against history; see `refold.App.program`."""
        return self._app.program

    @property
    def telemetry(self) -> Telemetry:
        """What this app tells of itself; see `refold.App.telemetry`."""
        return self._app.telemetry

    def contract(self) -> Contract:
        """Return all that others rely on; see `refold.App.contract`."""
        return self._app.contract()

    def describe(self) -> dict[str, list[str]]:
        """Return what this app is made of, by name."""
        return self._app.describe()

    def passive(self, *, create: bool = True) -> Self:
        """Return a copy of this app that leaves projections and processes to others; see `refold.App.passive`."""
        twin = copy(self)
        twin._app = self._app.passive(create=create)
        twin._portal = None
        return twin

    def execute(self, command: Command, **context: Any) -> int:
        """Decide a command and append its events; see `refold.App.execute`."""
        return self._now.call(self._app.execute(command, **context))

    def record(self, *events: Event, **context: Any) -> int:
        """Append events as they are; see `refold.App.record`."""
        return self._now.call(self._app.record(*events, **context))

    def load(
        self,
        state: S,
        *,
        as_of: datetime | int | None = None,
        effective: datetime | None = None,
        upto: int | None = None,
    ) -> S:
        """Return the state with this key; see `refold.App.load`."""
        return self._now.call(self._app.load(state, as_of=as_of, effective=effective, upto=upto))

    def story(self, state: S, **bounds: Any) -> Story[S]:
        """Tell how a state came to be what it is; see `refold.App.story`."""
        return self._now.call(self._app.story(state, **bounds))

    def causes(self, position: int, **bounds: Any) -> Causes | None:
        """Tell what caused what; see `refold.App.causes`."""
        return self._now.call(self._app.causes(position, **bounds))

    def events(self, of: object = None, **bounds: Any) -> Iterator[Recorded[Event]]:
        """Go through events in order; see `refold.App.events`."""
        return self._now.each(self._app.events(of, **bounds), AHEAD)

    def follow(self, of: object = None, *, after: int = 0) -> Iterator[Recorded[Event]]:
        """Go through events, and then through those to come, for ever; see `refold.App.follow`."""
        return self._now.each(self._app.follow(of, after=after), 1)

    def query(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = (), **options: Any) -> "Answer":
        """Ask the mirror in SQL; see `refold.App.query`."""
        return self._now.call(self._app.query(sql, values, **options))

    def view(self, row: type[R]) -> "View[R]":
        """Return the view that a projection keeps: by its state, or by one of its classes of rows."""
        return View(self._app.view(row), self._now)

    @property
    def index(self) -> "Index":
        """What finds events; see `refold.App.index`."""
        return Index(self._app.index, self._now)

    @property
    def log(self) -> "Log":
        """The log itself; see `refold.App.log`."""
        return Log(self._app.log, self._now)

    @property
    def operations(self) -> "Operations":
        """The operator's side; see `refold.App.operations`."""
        return Operations(self._app.operations, self._now)

    def head(self) -> int:
        """Return the last position of the log."""
        return self._now.call(self._app.head())

    def wait(self, position: int, projection: type | Callable[..., Any] | None = None, **limit: Any) -> None:
        """Wait until projections and processes have come to a position; see `refold.App.wait`."""
        self._now.call(self._app.wait(position, projection, **limit))

    def settle(self, *, parked: bool = False) -> None:
        """Wait until every projection and process is at rest; see `refold.App.settle`."""
        self._now.call(self._app.settle(parked=parked))

    @property
    def _now(self) -> Portal:
        if self._portal is None:
            raise StoreClosed("the app is not open: use it inside `with app:`")
        return self._portal

    def _end(self) -> None:
        if self._portal is not None:
            self._portal.close()
            self._portal = None


class View(Generic[R]):
    """The rows of a projection; see `refold.View`."""

    def __init__(self, view: AsyncView[R], portal: Portal) -> None:
        self._view = view
        self._portal = portal

    def get(self, *key: Any, **options: Any) -> R | None:
        """Return the row with this key, or None; see `refold.View.get`."""
        return self._portal.call(self._view.get(*key, **options))

    def find(self, where: Mapping[str, Any] | None = None, **options: Any) -> list[R]:
        """Return the rows that meet all conditions, in order; see `refold.View.find`."""
        return self._portal.call(self._view.find(where, **options))

    def count(self, where: Mapping[str, Any] | None = None, **options: Any) -> int:
        """Count the rows that meet all conditions; see `refold.View.count`."""
        return self._portal.call(self._view.count(where, **options))

    def search(self, words: str, **options: Any) -> list[Found[R]]:
        """Return the rows that hold all the words, the best first; see `refold.View.search`."""
        return self._portal.call(self._view.search(words, **options))

    def watch(self, where: Mapping[str, Any] | None = None, *, after: int | None = None) -> Iterator[Change[R]]:
        """Go on giving the rows that change, for ever; see `refold.View.watch`."""
        return self._portal.each(self._view.watch(where, after=after), 1)


class Log:
    """A log, as the port of stores has it: what each method promises is said at `refold.store.api.Store`."""

    def __init__(self, store: Store, portal: Portal) -> None:
        self._store = store
        self._portal = portal

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this store offers beyond what all do."""
        return self._store.capabilities

    def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        """Add a batch at the end of the log, whole or not at all."""
        return self._portal.call(self._store.append(events, condition, append_id=append_id))

    def appended(self, append_id: str) -> Appended | None:
        """Return the result of the append that had this id, or None."""
        return self._portal.call(self._store.appended(append_id))

    def read(self, query: Query = Query(), **bounds: Any) -> Iterator[Page]:
        """Read matching events page by page."""
        return self._portal.each(self._store.read(query, **bounds), 1)

    def head(self) -> int:
        """Return the position up to which everything is visible."""
        return self._portal.call(self._store.head())

    def follow(self, query: Query = Query(), *, after: int = 0) -> Iterator[Page]:
        """Read what is there, then what comes, for ever."""
        return self._portal.each(self._store.follow(query, after=after), 1)


class Index:
    """Finds events of a log; see `refold.App.index`."""

    def __init__(self, index: AsyncIndex, portal: Portal) -> None:
        self._index = index
        self._portal = portal

    @property
    def kept(self) -> bool:
        """Whether there may be an index."""
        return self._index.kept

    def search(self, words: str = "", **options: Any) -> Findings:
        """Return the newest events that hold all the words; see `refold.runtime.index`."""
        return self._portal.call(self._index.search(words, **options))

    def event(self, event_id: str) -> StoredEvent | None:
        """Return the event with this id, or None."""
        return self._portal.call(self._index.event(event_id))

    def at(self, position: int) -> StoredEvent | None:
        """Return the event at a position, or None."""
        return self._portal.call(self._index.at(position))

    def correlated(self, correlation_id: str, **options: Any) -> Findings:
        """Return the events of one story, the oldest first."""
        return self._portal.call(self._index.correlated(correlation_id, **options))

    def caused_by(self, causation_id: str, **options: Any) -> Findings:
        """Return what happened because of an event or command, the oldest first."""
        return self._portal.call(self._index.caused_by(causation_id, **options))


class Operations:
    """The operator's side of an open app; the methods are those of `refold.App.operations`, and wait for their end."""

    def __init__(self, operations: AsyncOperations, portal: Portal) -> None:
        self._operations = operations
        self._portal = portal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._operations, name)

        async def begun(*args: Any, **options: Any) -> Any:  # over there, where nothing else changes meanwhile
            return method(*args, **options)

        def call(*args: Any, **options: Any) -> Any:
            found: Any = self._portal.call(begun(*args, **options))
            if isasyncgen(found):
                return self._portal.each(found, AHEAD)
            return self._portal.call(found) if iscoroutine(found) else found

        return call
