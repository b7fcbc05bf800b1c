"""Appending in groups: a few lanes, each a connection that sends one group after the other.

A lane takes whatever has queued up and sends it as one statement. While the server commits the group of one lane, the
next lane's group waits there for its turn, so that the disk is always at work and nothing is held for longer than a
commit takes.

Each group of a lane has a number, and the server keeps the last one with its outcome. So when a connection is lost, the
group is simply sent again: if it was committed, the answer is the first one's; if the first one is still on its way, it
will find its number taken.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg

from refold.errors import StoreClosed, StoreError
from refold.store.api import Appended
from refold.store.postgres.connections import Connection, Retry, closed
from refold.store.postgres.failure import is_lost, is_passing
from refold.store.postgres.group import APPEND_GROUP, Append, arguments, results

LANES = 2
MAX_APPENDS = 256
"""In one group; that many may have to be compared with each other."""
MAX_COST = 20_000
SHARE = 128
"""From how many waiting appends on a lane leaves half of them to one that is idle."""
ANSWER_SECONDS = 60
"""After how long without an answer a connection is given up: its server may have vanished without a word."""

logger = logging.getLogger("refold.store")
BeforeCommit = Callable[[], Awaitable[None]]


class Lane:
    """A connection, and the number of what it has sent last."""

    def __init__(self, retry: Retry) -> None:
        self.id: UUID = uuid4()
        self.number = 0
        self.connection: Connection | None = None
        self.retry = retry


class Lanes:
    """The way of all appends of one handle."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        where: object,
        patience: timedelta,
        retention: timedelta,
        clock: Callable[[], datetime | None],
        committed: Callable[[int], None],
        before_commit: BeforeCommit | None = None,
        lanes: int = LANES,
    ) -> None:
        self._connect = connect
        self._where = where
        self._retention = retention
        self._clock = clock
        self._committed = committed
        self._before_commit = before_commit
        self._queue: deque[Append] = deque()
        self._some = asyncio.Event()
        self._idle = lanes
        self._overdue: set[asyncio.Future[None]] = set()
        self._closing = False
        self._tasks = [asyncio.create_task(self._run(Lane(Retry(patience, where)))) for _ in range(lanes)]

    def submit(self, append: Append) -> None:
        """Queue an append; its future is done when it is committed, or failed.

        If the future is cancelled before its group is sent, nothing is written.
        """
        if self._closing:
            raise StoreClosed(f"{self._where} is closed")
        self._queue.append(append)
        self._some.set()

    def give_up(self, append: Append) -> None:
        """Nobody waits for this append any more; if it is under way, no later one may overtake it."""
        if append.written is not None and not append.written.done():
            self._overdue.add(append.written)
            append.written.add_done_callback(self._overdue.discard)

    async def close(self) -> None:
        """Write what is queued, then close the connections."""
        self._closing = True
        self._some.set()
        await asyncio.wait(self._tasks)

    async def _run(self, lane: Lane) -> None:
        try:
            while True:
                await self._some.wait()
                if self._overdue:
                    await asyncio.wait(self._overdue)
                group = self._take()
                if group:
                    self._idle -= 1
                    written = asyncio.get_running_loop().create_future()
                    for append in group:
                        append.written = written
                    await self._write(lane, group)
                    written.set_result(None)
                    self._idle += 1
                elif self._closing:
                    return
        finally:
            if lane.connection is not None:
                await closed(lane.connection)

    def _take(self) -> list[Append]:
        """Take what has queued up, or half of it while another lane has nothing to do."""
        most = MAX_APPENDS
        if self._idle > 1 and len(self._queue) >= SHARE:
            most = min(most, -(-len(self._queue) // 2))
        group: list[Append] = []
        ids: set[str] = set()
        cost = 0
        while self._queue and len(group) < most and cost < MAX_COST:
            append = self._queue[0]
            if append.append_id is not None:
                if append.append_id in ids:  # the same twice: the second will find the first one's result
                    break
                ids.add(append.append_id)
            self._queue.popleft()
            if not append.future.done():
                group.append(append)
                cost += append.cost
        if not self._queue and not self._closing:
            self._some.clear()
        return group

    async def _write(self, lane: Lane, group: list[Append]) -> None:
        lane.number += 1
        sent = False
        try:
            values = arguments(group, lane=lane.id, number=lane.number, at=self._clock(), retention=self._retention)
            while True:
                try:
                    answer = await self._send(lane, values)
                    break
                except Exception as error:
                    sent = sent or lane.connection is not None
                    if lane.connection is not None and (is_lost(error) or not isinstance(error, asyncpg.PostgresError)):
                        lane.connection.terminate()
                        lane.connection = None
                    if isinstance(error, TimeoutError) or is_passing(error):
                        logger.warning("%s: sending a group of appends again: %s", self._where, error)
                    await lane.retry.after(error)
        except Exception as error:
            if len(group) > 1 and not is_passing(error.__cause__ or error):  # one has spoilt it for all: find it
                for append in group:
                    await self._write(lane, [append])
                return
            _fail(group, in_doubt(error, self._where) if sent and is_passing(error.__cause__ or error) else error)
            return
        lane.retry.succeeded()
        self._deliver(group, results(group, answer))

    async def _send(self, lane: Lane, values: tuple[object, ...]) -> asyncpg.Record:
        if lane.connection is None or lane.connection.is_closed():
            lane.connection = None
            lane.connection = await self._connect()
        connection = lane.connection
        if self._before_commit is None:
            async with asyncio.timeout(ANSWER_SECONDS):
                return _answer(await connection.fetchrow(APPEND_GROUP, *values))
        async with connection.transaction():
            answer = _answer(await connection.fetchrow(APPEND_GROUP, *values))
            await self._before_commit()
            return answer

    def _deliver(self, group: Sequence[Append], outcomes: Sequence[Appended | Exception]) -> None:
        head = 0
        for append, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Appended):
                head = max(head, outcome.last)
            if append.future.done():
                continue
            if isinstance(outcome, Appended):
                append.future.set_result(outcome)
            else:
                append.future.set_exception(outcome)
        if head:
            self._committed(head)


def _answer(row: asyncpg.Record | None) -> asyncpg.Record:
    assert row is not None, "the function returns one row"
    return row


def _fail(group: Sequence[Append], error: BaseException) -> None:
    for append in group:
        with suppress(asyncio.InvalidStateError):
            append.future.set_exception(_copy(error))


def in_doubt(error: BaseException, where: object) -> StoreError:
    """Return the error of an append that may have been stored."""
    made = StoreError(
        f"{where} cannot be reached, and whether the append was stored is not known. Append again with the same "
        f"append_id to find out ({error})",
        in_doubt=True,
    )
    made.__cause__ = error
    return made


def _copy(error: BaseException) -> BaseException:
    """Return an exception for one of several who share a failure, so that none adds to another's traceback."""
    if not isinstance(error, StoreError):
        return error
    copy = type(error)(str(error), **error.data)
    copy.__cause__ = error.__cause__
    return copy
