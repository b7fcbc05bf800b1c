"""Processes: each event becomes commands, whose ids are derived from it, so that a second delivery changes nothing.

Events that share a tag are handled one after the other, in their order; others side by side.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from refold.model.handler import Handler, read_process
from refold.model.message import Event
from refold.model.query import Query, QueryItem
from refold.model.record import Recorded, StoredEvent
from refold.model.schema import Schema
from refold.model.state import Identity, State, state_kind
from refold.runtime.execute import Context, Executor
from refold.runtime.load import Loader
from refold.runtime.subscription import EventFailed
from refold.store.api import Page

AT_ONCE = 64

S = TypeVar("S", bound=State)


class Process:
    """Turns events into commands, and has them executed."""

    table = None

    def __init__(self, function: Callable[..., Any], schema: Schema) -> None:
        self.handler: Handler = read_process(function)
        self.name = self.handler.name
        for parameter in self.handler.parameters:
            if not isinstance(parameter, str):
                schema.names(parameter.kind.events)
        self.query = Query((QueryItem(schema.names(cast(tuple[type[Event], ...], self.handler.messages))),))
        self._schema = schema
        self._loader: Loader | None = None
        self._executor: Executor | None = None

    def acts_through(self, loader: Loader, executor: Executor) -> None:
        """Say what loads its states and executes its commands."""
        self._loader, self._executor = loader, executor

    async def handle(self, page: Page) -> Sequence[State]:
        """React to the events of a page, and wait until all its commands are done."""
        permits = asyncio.Semaphore(AT_ONCE)
        last: dict[str, asyncio.Task[None]] = {}
        tasks: list[asyncio.Task[None]] = []
        try:
            for stored in page:
                before = {last[tag] for tag in stored.tags if tag in last}
                task = asyncio.create_task(self._in_turn(stored, before, permits))
                tasks.append(task)
                last.update(dict.fromkeys(stored.tags, task))
            for task in tasks:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return ()

    def forget(self) -> None:
        """Remember nothing: a process has no rows."""

    async def _in_turn(self, stored: StoredEvent, before: set[asyncio.Task[None]], permits: asyncio.Semaphore) -> None:
        for task in before:
            await task
        async with permits:
            try:
                await self._react(self._schema.recorded(stored))
            except EventFailed:
                raise
            except Exception as error:
                raise EventFailed(stored) from error

    async def _react(self, recorded: Recorded[Event]) -> None:
        executor, loader = cast(Executor, self._executor), cast(Loader, self._loader)
        if not isinstance(recorded.event, self.handler.messages):
            return
        reader = _ReaderAt(loader, recorded.position)
        states: dict[Identity, State] = {}
        for _, wanted in self.handler.states(recorded.event):
            for state in wanted:
                states[state_kind(type(state)).identity(state)] = await reader.load(state)
        commands = await self.handler.call(recorded.event, states, recorded.metadata, reader)
        metadata = recorded.metadata
        event_id = metadata.event_id or f"@{recorded.position}"
        # A reaction to an imported event happens when the event did, not when it is imported.
        occurred_at = None if metadata.occurred_at == recorded.recorded_at else metadata.occurred_at
        for number, command in enumerate(commands, 1):
            context = Context(
                id=f"{event_id}/{self.name}/{number}",
                actor=metadata.actor,
                occurred_at=occurred_at,
                correlation_id=metadata.correlation_id,
                causation_id=event_id,
            )
            await executor.execute(command, context)


class _ReaderAt:
    """Loads states as they were at the event, so that a second delivery decides the same."""

    def __init__(self, loader: Loader, position: int) -> None:
        self._loader = loader
        self._position = position

    async def load(self, state: S) -> S:
        """Return a state as it was when the event was recorded."""
        return await self._loader.at(state, self._position)
