"""Appends that are one with other changes in the same database: each a transaction of its own.

The other changes come first and the lock of the log last, so that whoever holds the rows that they touch keeps nobody
else waiting. The lock is held to the commit: in that time no other append can change what this one relies on.

As in `lanes`, each append has a number of its lane, which the server keeps with the outcome. So when a connection is
lost the same is done again, unless the number is found there, under the lock: then it was committed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

import asyncpg

from refold.errors import AppendIdReused, StoreClosed, StoreError
from refold.store.api import Appended, digest
from refold.store.postgres.address import Address, quoted
from refold.store.postgres.connections import Connection, Retry, closed
from refold.store.postgres.failure import DRIVER, is_lost, is_passing
from refold.store.postgres.group import APPEND_GROUP, Append, arguments, results
from refold.store.postgres.lanes import ANSWER_SECONDS, BeforeCommit, Lane, in_doubt
from refold.store.postgres.names import append_key

LANES = 4
LOCK = "SELECT pg_advisory_xact_lock(1382377071, $1::text::regclass::oid::integer)"
"""The lock of `append_group`."""

logger = logging.getLogger("refold.store")


class Step(Protocol):
    """What is done together with an append."""

    async def write(self, connection: Connection) -> bool:
        """Do it; return False if what it relies on does not hold."""
        ...

    async def holds(self, connection: Connection) -> bool:
        """Look again at what no lock of its own keeps so, now that no other append can come in between."""
        ...


class Beside:
    """The way of those appends of one handle that are one with other changes."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        where: Address,
        patience: timedelta,
        retention: timedelta,
        clock: Callable[[], datetime | None],
        committed: Callable[[int], None],
        before_commit: BeforeCommit | None = None,
    ) -> None:
        self._connect = connect
        self._where = where
        self._patience = patience
        self._retention = retention
        self._clock = clock
        self._committed = committed
        self._before_commit = before_commit
        self._free: list[Lane] = []
        self._gate = asyncio.Semaphore(LANES)
        self._under_way: set[asyncio.Task[Appended | None]] = set()
        self._closing = False
        schema = quoted(where.schema)
        self._event = f"{schema}.event"
        self._stored = f"SELECT head FROM {schema}.lane WHERE lane = $1 AND group_no = $2"  # noqa: S608 - names are quoted, values bound
        self._known = (
            f"SELECT first, last, digest FROM {schema}.append "  # noqa: S608 - names are quoted, values bound
            "WHERE append_key = $1 AND recorded_at >= coalesce($2, clock_timestamp()) - $3::interval"
        )

    async def append(self, item: Append, step: Step) -> Appended | None:
        """Append a batch and do the step; None if that relies on what does not hold, and nothing is done.

        It goes on to its end if the caller is cancelled, for it may be committed already.
        """
        if self._closing:
            raise StoreClosed(f"{self._where} is closed")
        task = asyncio.create_task(self._in_turn(item, step))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Finish what is under way, then close the connections."""
        self._closing = True
        if self._under_way:
            await asyncio.wait(self._under_way)
        for lane in self._free:
            if lane.connection is not None:
                await closed(lane.connection)

    async def _in_turn(self, item: Append, step: Step) -> Appended | None:
        async with self._gate:
            lane = self._free.pop() if self._free else Lane(Retry(self._patience, self._where))
            try:
                outcome = await self._run(lane, item, step)
            finally:
                self._free.append(lane)
        if outcome is not None:
            self._committed(outcome.last)
        return outcome

    async def _run(self, lane: Lane, item: Append, step: Step) -> Appended | None:
        """Do it, and do it again while that may help."""
        lane.number += 1
        again = False
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if lane.connection is None or lane.connection.is_closed():
                        lane.connection = None
                        lane.connection = await self._connect()
                    done = await self._committed_before(lane, lane.connection, item) if again else None
                    outcome = done or await self._once(lane, lane.connection, item, step)
            except DRIVER as error:
                again = again or lane.connection is not None
                if lane.connection is not None and (is_lost(error) or not isinstance(error, asyncpg.PostgresError)):
                    lane.connection.terminate()
                    lane.connection = None
                if is_passing(error):
                    logger.warning("%s: doing an append and what belongs to it again: %s", self._where, error)
                try:
                    await lane.retry.after(error)
                except StoreError as failure:
                    raise (in_doubt(failure, self._where) if again and is_passing(error) else failure) from error
            else:
                lane.retry.succeeded()
                return outcome

    async def _once(self, lane: Lane, connection: Connection, item: Append, step: Step) -> Appended | None:
        """Do it in one transaction."""
        outcome: Appended | Exception | None = None
        await connection.execute("BEGIN")
        try:
            whole = await step.write(connection)
            if whole:
                values = arguments(
                    [item], lane=lane.id, number=lane.number, at=self._clock(), retention=self._retention
                )
                answer = await connection.fetchrow(APPEND_GROUP, *values)
                assert answer is not None, "the function returns one row"
                [outcome] = results([item], answer)
                if answer[1] is not None:  # known already, or refused
                    whole = False
                elif not await step.holds(connection):
                    whole, outcome = False, None
            if whole and self._before_commit is not None:
                await self._before_commit()
        except Exception:
            with suppress(*DRIVER):
                await connection.execute("ROLLBACK")
            raise
        except BaseException:
            connection.terminate()  # in the middle of a statement
            raise
        await connection.execute("COMMIT" if whole else "ROLLBACK")
        if outcome is None and item.append_id is not None:  # what it relied on may have been changed by itself
            outcome = await self._known_as(connection, item, item.append_id)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _committed_before(self, lane: Lane, connection: Connection, item: Append) -> Appended | None:
        """Return what came of this number before its connection was lost, if it was committed."""
        await connection.execute("BEGIN")
        await connection.execute(LOCK, self._event)  # what may still be on its way is done by then
        head: int | None = await connection.fetchval(self._stored, lane.id, lane.number)
        await connection.execute("ROLLBACK")
        return None if head is None else Appended(head + 1, head + len(item.events))

    async def _known_as(self, connection: Connection, item: Append, append_id: str) -> Appended | Exception | None:
        row = await connection.fetchrow(self._known, append_key(append_id), self._clock(), self._retention)
        if row is None:
            return None
        if row[2] != digest(item.events):
            return AppendIdReused(f"the append id {append_id!r} was used before, with other events")
        return Appended(row[0], row[1])
