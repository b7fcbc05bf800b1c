"""Connections to one database: few, kept open, replaced when they are lost."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeAlias, TypeVar

import asyncpg

from refold.errors import StoreClosed, StoreError, WiringError
from refold.store.postgres.address import Address, quoted
from refold.store.postgres.failure import DRIVER, is_lost, is_passing, translated

PATIENCE = timedelta(seconds=30)
"""How long the server may be away, as it is during a failover, before work fails."""
CONNECT_SECONDS = 10
LONGEST_PAUSE = 0.5
"""Seconds between two tries; the first pause is 10 ms."""

SEEKING = {
    # Every statement of the log is written so that it can seek; statistics that are old must not talk it out of that.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_hashagg": "off",
    "enable_sort": "off",  # branches come in order, and are merged
    "plan_cache_mode": "force_generic_plan",
}

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
T = TypeVar("T")


async def connect(
    address: Address, settings: Mapping[str, str] | None = None, *, path: str | None = None
) -> Connection:
    """Open a connection whose statements find the log's tables, and wait for locks as long as it takes."""
    return await asyncpg.connect(
        address.dsn,
        timeout=CONNECT_SECONDS,
        statement_cache_size=200,
        max_cached_statement_lifetime=0,
        server_settings={
            "application_name": "refold",
            "search_path": f"{path or quoted(address.schema)}, pg_temp",
            "default_transaction_isolation": "read committed",
            "statement_timeout": "0",
            "lock_timeout": "0",
            "jit": "off",
            **(settings or {}),
        },
    )


class Connections:
    """Up to so many connections, for work that may be done twice."""

    def __init__(
        self,
        address: Address,
        size: int,
        settings: Mapping[str, str],
        patience: timedelta = PATIENCE,
        path: str | None = None,
    ) -> None:
        self._address = address
        self._settings = settings
        self._path = path
        self._patience = patience
        self._free: list[Connection] = []
        self._gate = asyncio.Semaphore(size)
        self._closed = False
        self._loop = asyncio.get_running_loop()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do the work on a connection; do it again, on another, if that one is lost under it.

        Raises `StoreError` if it fails, or when patience ends.
        """
        retry = Retry(self._patience, self._address)
        while True:
            try:
                async with self._use() as connection:
                    return await work(connection)
            except DRIVER as error:
                await retry.after(error)

    async def close(self) -> None:
        """Close all that are free; those in use close when their work is done."""
        self._closed = True
        free, self._free = self._free, []
        for connection in free:
            await closed(connection)

    @asynccontextmanager
    async def _use(self) -> AsyncGenerator[Connection]:
        if asyncio.get_running_loop() is not self._loop:
            raise WiringError(f"{self._address} was opened in another event loop; open another handle in this one")
        async with self._gate:
            if self._closed:
                raise StoreClosed(f"{self._address} is closed")
            connection = self._free.pop() if self._free else None
            if connection is None or connection.is_closed():
                connection = await connect(self._address, self._settings, path=self._path)
            try:
                yield connection
            except BaseException as error:
                if not isinstance(error, asyncpg.PostgresError) or is_lost(error):
                    connection.terminate()  # cancelled in the middle of a statement, or lost
                raise
            finally:
                if self._closed:
                    connection.terminate()
                elif not connection.is_closed():
                    self._free.append(connection)


class Retry:
    """How often and how fast to try again, from the first failure on."""

    def __init__(self, patience: timedelta, where: object) -> None:
        self._patience = patience.total_seconds()
        self._where = where
        self._since: float | None = None
        self._pause = 0.01

    def succeeded(self) -> None:
        """Begin anew at the next failure."""
        self._since, self._pause = None, 0.01

    async def after(self, error: BaseException) -> None:
        """Wait a little; or raise what has happened, if it will not pass or has lasted too long."""
        if not is_passing(error):
            raise translated(error, self._where)
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        elif now - self._since > self._patience:
            raise translated(error, self._where)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 - so that processes do not march in step
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


async def closed(connection: Connection) -> None:
    """Close a connection, whatever state it is in."""
    try:
        await connection.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, StoreError):
        connection.terminate()
