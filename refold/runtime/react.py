"""Processes: each event becomes commands, whose ids are derived from it, so that a second delivery changes nothing.

Events that share a tag are handled one after the other, in their order; others side by side. One that fails is
parked, and those after it that have the same first tag wait behind it: that is what an event is chiefly about.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, cast

from refold.errors import Conflict, Rejected, StoreError, Unavailable, WiringError
from refold.model.handler import Handler, Reader, read_process
from refold.model.hints import described
from refold.model.message import Command, Event
from refold.model.query import Query, QueryItem
from refold.model.record import Recorded, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import Identity, State
from refold.model.timer import Cancel, Later
from refold.runtime.books import Books, Parked
from refold.runtime.execute import Context, Executor
from refold.runtime.indexing import metadata_of
from refold.runtime.load import Loader, position_at
from refold.runtime.parking import Parking
from refold.runtime.scan import with_id
from refold.runtime.telemetry import Telemetry, reading
from refold.runtime.timers import Timers
from refold.runtime.turns import in_turn
from refold.store.api import RETENTION, Clock, Page, Store, utc_now
from refold.view.api import Write

S = TypeVar("S", bound=State)
Kind: TypeAlias = Literal["process", "effect"]
REMEMBERED = RETENTION - timedelta(days=1)
"""For how long the log is sure to know the ids of commands, after which it is looked at what came of them."""


class Process:
    """Turns events into commands, and has them executed."""

    kind: Kind = "process"

    def __init__(self, function: Callable[..., Any], schema: Schema) -> None:
        self.handler: Handler = self._read(function)
        self.name = self.handler.name
        for parameter in self.handler.parameters:
            if not isinstance(parameter, str):
                schema.names(parameter.kind.events)
        self.query = Query((QueryItem(schema.names(cast(tuple[type[Event], ...], self.handler.messages))),))
        self.timers = Timers(self.name)
        self._schema = schema
        self.at_once: int | None = None
        self._loader: Loader | None = None
        self._executor: Executor | None = None
        self._store: Store | None = None
        self._clock: Clock = utc_now
        self._telemetry = Telemetry("")

    def acts_through(
        self,
        store: Store,
        loader: Loader,
        executor: Executor,
        books: Books,
        commands: Mapping[str, type[Command]],
        clock: Clock,
    ) -> None:
        """Say where its log is, what loads its states and executes its commands, where its timers are, and what the
        time is.
        """  # noqa: D205
        self._store, self._loader, self._executor, self._clock = store, loader, executor, clock
        self._telemetry = executor.telemetry
        self.timers.act_through(books, commands, self._execute, clock)

    async def handle(self, page: Page, parking: Parking) -> int:
        """React to the events of a page, and wait until all its commands are done."""
        await in_turn([(stored.tags, partial(self._in_turn, stored, parking)) for stored in page], self.at_once)
        return len(page)

    def take(self) -> Sequence[Write]:
        """Return the timers that were set and cancelled; all else that it does is in the log."""
        return self.timers.take()

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park an event."""
        parking.fail(stored, stored.tags[:1], error)

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """React to an event that was parked."""
        await self._react_to(stored, await self._done_long_ago(stored))
        return self.timers.take()

    def forget(self) -> None:
        """Forget timers that are not written."""
        self.timers.forget()

    async def _in_turn(self, stored: StoredEvent, parking: Parking) -> None:
        key = stored.tags[:1]  # what it is about first of all
        if parking.holds(key):
            parking.wait(stored, key)
            return
        try:
            await self._react_to(stored)
        except (StoreError, Conflict, Unavailable):  # passes; the page is handled again
            raise
        except Exception as error:
            parking.fail(stored, key, error)

    async def _done_long_ago(self, stored: StoredEvent) -> Container[str]:
        """Return what was done of an event so long ago that its commands are not known by their ids any more."""
        store, moment = cast(Store, self._store), self._clock() - REMEMBERED
        if stored.recorded_at > moment:
            return ()
        because_of_it = with_id("causation_id", decode_metadata(stored).event_id or f"@{stored.position}")
        done: set[str] = set()
        async for page in store.read(after=stored.position, upto=await position_at(store, moment)):
            done.update(metadata_of(each).by for each in page if because_of_it(each))
        return done

    async def _react_to(self, stored: StoredEvent, done: Container[str] = ()) -> None:
        for number, recorded in enumerate(self._schema.recorded(stored)):
            await self._react(recorded, f".{number}" if number else "", done=done)

    async def _react(self, recorded: Recorded[Event], part: str, again: str = "", done: Container[str] = ()) -> None:
        if type(recorded.event) not in self.handler.messages:  # another class that is stored under the same name
            return
        metadata = recorded.metadata
        event_id = metadata.event_id or f"@{recorded.position}"
        about = {"messaging.message.id": event_id, "refold.event": type(recorded.event).__name__}
        with self._telemetry.span(
            f"{self.kind} {self.name}",
            "consumer",
            parent=metadata.traceparent,
            said={**reading(self.kind, self.name), **about, "refold.position": recorded.position},
        ):
            await self._react_as(recorded, event_id, f"{event_id}{part}/{self.name}{again and '/'}{again}", done)

    async def _react_as(self, recorded: Recorded[Event], event_id: str, own_id: str, done: Container[str]) -> None:
        loader, metadata = cast(Loader, self._loader), recorded.metadata
        reader = _ReaderAt(loader, recorded.position)
        wanted = [state for _, states in self.handler.states(recorded.event) for state in states]
        loaded, _ = await loader.current(wanted, recorded.position)
        states: dict[Identity, State] = {identity: each.state for identity, each in loaded.items()}
        commands = await self._call(recorded, states, reader, own_id)
        # A reaction to an imported event happens when the event did, not when it is imported.
        occurred_at = None if metadata.occurred_at == recorded.recorded_at else metadata.occurred_at
        asked: list[tuple[Later | Cancel, Context]] = []
        for number, command in enumerate(commands, 1):
            context = Context(
                id=f"{own_id}/{number}",
                actor=metadata.actor,
                occurred_at=occurred_at,
                correlation_id=metadata.correlation_id,
                causation_id=event_id,
                giver=self.kind,
            )
            if isinstance(command, Later | Cancel):
                asked.append((command, context))
            elif context.metadata().by not in done:
                await self._execute(_a_command(command, self.handler), context)
        for timer, context in asked:  # when all else has gone well, for what failed is done again
            if isinstance(timer, Later):
                self.timers.set(timer, recorded, context)
            else:
                self.timers.cancel(timer.name)

    async def _call(
        self, recorded: Recorded[Event], states: Mapping[Identity, State], reader: Reader, own_id: str
    ) -> list[Any]:
        """Call the function; return what it gives. Its own id is the same however often the event is delivered."""
        return await self.handler.call(recorded.event, states, recorded.metadata, reader)

    @staticmethod
    def _read(function: Callable[..., Any]) -> Handler:
        return read_process(function)

    async def _execute(self, command: Command, context: Context) -> int:
        try:
            return await cast(Executor, self._executor).execute(command, context)
        except Rejected as refusal:
            raise Rejected(
                f"{command!r} was refused: {refusal}. Nobody is there to be told: a decision that a process calls "
                "records its refusal as an event",
                **refusal.data,
            ) from refusal


class _ReaderAt:
    """Loads states as they were at the event, so that a second delivery decides the same."""

    def __init__(self, loader: Loader, position: int) -> None:
        self._loader = loader
        self._position = position

    async def load(self, state: S) -> S:
        """Return a state as it was when the event was recorded."""
        loaded, _ = await self._loader.current([state], self._position)
        return cast(S, next(iter(loaded.values())).state)


def _a_command(given: object, process: Handler) -> Command:
    if not isinstance(given, Command):
        raise WiringError(f"{described(process.function)} gave {given!r}, but a process gives commands")
    return given
