"""Knowing when the log has grown, whoever made it grow: by NOTIFY, and by looking when that fails.

A notification is a hint and nothing more. It is sent after the commit, from another connection: inside the append's
transaction it would fail the append when the server's queue of notifications is full, and make commits of all logs of
the cluster wait for each other. So one may be missing, and followers look for themselves now and then.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from refold.errors import StoreError
from refold.store.postgres.address import Address
from refold.store.postgres.connections import Connection, Connections, closed, connect
from refold.store.postgres.failure import DRIVER

HEAD = "SELECT coalesce(max(position), 0) FROM event"
NOTIFY = "SELECT pg_notify($1, $2)"
NOTIFY_SECONDS = 0.005
"""How far apart a process's notifications are at least."""
LOOK_SECONDS = 1.0
"""How often followers look unasked while notifications come."""
DEAF_LOOK_SECONDS = 0.01
"""How often while they do not."""
RECONNECT_SECONDS = 0.25

logger = logging.getLogger("refold.store")


class Watch:
    """Wakes the followers of one handle, and tells those of others what this one has written."""

    def __init__(self, address: Address, connections: Connections, wake: Callable[[], None]) -> None:
        self._address = address
        self._channel = f"log_{address.schema}"
        self._connections = connections
        self._wake = wake
        self._known = 0
        self._head = 0
        self._deaf = asyncio.Event()
        self._deaf.set()
        self._listening: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._told = 0

    def listen(self) -> None:
        """Begin to listen."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())

    def committed(self, head: int) -> None:
        """Learn that this handle has written up to a position."""
        self._head = max(self._head, head)
        self._seen(max(self._known, head))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def close(self) -> None:
        """Stop; what was written last is still told."""
        if self._telling is not None:
            await asyncio.wait([self._telling])
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def _tell(self) -> None:
        while self._told < self._head:
            head = self._head
            try:
                await self._connections.run(partial(_notify, channel=self._channel, head=head))
            except StoreError as error:
                logger.debug("%s: no notification: %s", self._address, error)
            self._told = head
            await asyncio.sleep(NOTIFY_SECONDS)

    async def _listen(self) -> None:
        looking = asyncio.create_task(self._look())
        try:
            while True:
                try:
                    await self._hear(await connect(self._address))
                except DRIVER as error:
                    logger.debug("%s: cannot listen: %s", self._address, error)
                    await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            looking.cancel()

    async def _hear(self, connection: Connection) -> None:
        """Listen until the connection is lost."""
        try:
            connection.add_termination_listener(self._on_lost)
            await connection.add_listener(self._channel, self._on_notification)
            self._deaf.clear()
            if connection.is_closed():
                return
            self._wake()  # for what came before it listened
            await self._deaf.wait()
        finally:
            self._deaf.set()
            connection.remove_termination_listener(self._on_lost)
            await closed(connection)

    async def _look(self) -> None:
        """Look at the head: seldom while notifications come, often while they do not."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._deaf.wait()
                await asyncio.sleep(DEAF_LOOK_SECONDS)
            except TimeoutError:
                pass
            try:
                self._seen(await self._connections.run(lambda connection: connection.fetchval(HEAD)))
            except StoreError:
                self._wake()  # the followers will meet the error, where it can be handled

    def _on_lost(self, connection: object) -> None:
        self._deaf.set()

    def _on_notification(self, connection: object, process: int, channel: str, payload: object) -> None:
        self._seen(int(str(payload)))

    def _seen(self, head: int) -> None:
        if head != self._known:  # it may be lower: the log of a standby that was promoted
            self._known = head
            self._wake()


async def _notify(connection: Connection, *, channel: str, head: int) -> None:
    await connection.execute(NOTIFY, channel, str(head))
