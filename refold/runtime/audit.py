"""What operators do, in the app's own log: recorded before it is done, and again if it fails.

If it cannot be recorded it is not done. One who is killed in between leaves a record of what was about to be done; that
it was done is seen where it has an effect, as in what was skipped, or in the version that is read.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from msgspec import Struct

from refold.errors import InvalidQuery, RefoldError
from refold.model.message import Event
from refold.model.operated import BUILT_IN, OperationFailed, OperatorActed
from refold.model.query import Query
from refold.model.record import Metadata, Recorded
from refold.model.schema import Schema
from refold.runtime.ids import new_id
from refold.runtime.parking import told
from refold.store.api import Store

INTERRUPTED = "interrupted"
ERROR_CHARS = 2_000

logger = logging.getLogger("refold.operations")


class Act(Struct, frozen=True):
    """What an operator has done, or tried to do."""

    position: int
    recorded_at: datetime
    acted: OperatorActed
    error: str = ""
    """Why it failed; empty if it did not, as far as is known."""


class Acting:
    """What an operator is about; what is told of it is recorded."""

    def __init__(self) -> None:
        self.again = False
        """Whether it was asked for before, under the same id: then it is not to be done."""
        self.failures: dict[str, str] = {}
        """Why it failed for some of what it is about, if that is no exception."""


class Audit:
    """The record of what operators do."""

    def __init__(self, store: Store, schema: Schema) -> None:
        self._store = store
        self._schema = schema

    @asynccontextmanager
    async def acting(self, *acts: OperatorActed, id: str | None = None) -> AsyncGenerator[Acting]:
        """Record what is done inside, and that it has failed if it does.

        With an `id` it is recorded once. Whoever comes after the first, or at the same time, is told that it comes
        again; raises `InvalidQuery` if it has failed by then.
        """
        own = [(act, new_id()) for act in acts]
        done = await self._store.append(
            [self._schema.encode(act, _metadata(act, event_id)) for act, event_id in own], append_id=id
        )
        acting = Acting()
        try:
            if id is not None and not await self._stands_at(done.first, own[0][1]):
                acting.again, own = True, []
                await self._check_went_well(done.first)
            yield acting
        except asyncio.CancelledError:
            await self._fail([(*each, INTERRUPTED) for each in own])
            raise
        except Exception as error:
            await self._fail([(*each, told(error)) for each in own])
            raise
        await self._fail([(*each, acting.failures[each[0].about]) for each in own if each[0].about in acting.failures])

    async def _stands_at(self, position: int, event_id: str) -> bool:
        """Tell whether what stands at a position is what was appended, and not what came before it with its id."""
        async for recorded in self._recorded(BUILT_IN, (), after=position - 1, upto=position):
            return recorded.metadata.event_id == event_id
        return False

    async def _check_went_well(self, position: int) -> None:
        for act in await self.acts(after=position - 1):
            if act.position == position and act.error:
                raise InvalidQuery(f"this was asked before, and failed: {act.error}. Ask again under another id")

    async def acts(
        self, *, about: str = "", actor: str = "", after: int = 0, before: int | None = None, limit: int | None = None
    ) -> list[Act]:
        """Return what was done, the newest first; about something, by somebody, between two positions exclusive."""
        tags = [f"{name}:{value}" for name, value in (("operated", about), ("operator", actor)) if value]
        failed: dict[str, str] = {}
        if before is not None:
            async for recorded in self._recorded((OperationFailed,), tags, after=before - 1):
                _note(failed, recorded)
        found: list[Act] = []
        upto = None if before is None else before - 1
        async for recorded in self._recorded(BUILT_IN, tags, after=after, upto=upto, backwards=True):
            _note(failed, recorded)
            if isinstance(recorded.event, OperatorActed):
                error = failed.get(recorded.metadata.event_id, "")
                found.append(Act(recorded.position, recorded.recorded_at, recorded.event, error))
                if len(found) == limit:
                    break
        return found

    async def _recorded(
        self, kinds: Sequence[type[Event]], tags: Sequence[str], **bounds: Any
    ) -> AsyncGenerator[Recorded[Event]]:
        query = Query.of(types=self._schema.names(kinds), tags=tags)
        async for page in self._store.read(query, **bounds):
            for stored in page:
                for recorded in self._schema.recorded(stored):
                    yield recorded

    async def _fail(self, failed: Sequence[tuple[OperatorActed, str, str]]) -> None:
        """Record what has failed, and why, as well as can be: that must not hide why."""
        if not failed:
            return
        failures = [
            self._schema.encode(
                OperationFailed(act.action, act.about, error[:ERROR_CHARS], act.actor),
                _metadata(act, new_id(), because_of=event_id),
            )
            for act, event_id, error in failed
        ]
        try:
            await asyncio.shield(asyncio.ensure_future(self._store.append(failures)))
        except RefoldError as error_of_store:
            act = failed[0][0]
            logger.warning("that %s of %s failed is not recorded: %s", act.action, act.about, error_of_store)


def _metadata(act: OperatorActed, event_id: str, *, because_of: str = "") -> Metadata:
    correlation_id = because_of or event_id
    return Metadata(event_id, correlation_id=correlation_id, causation_id=because_of, actor=act.actor or "")


def _note(failed: dict[str, str], recorded: Recorded[Event]) -> None:
    """Note what a failure says of what was done."""
    if isinstance(recorded.event, OperationFailed):
        failed[recorded.metadata.causation_id] = recorded.event.error
