"""What a backend tells the contract: how to open one isolated store, and what it can do."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from refold.store.api import Store

Need: TypeAlias = Literal["handles", "reopens", "processes", "clock", "failpoint", "gaps"]

NEEDS: dict[Need, str] = {
    "handles": "several handles of one store may be open at once",
    "reopens": "what was written is there when the store is opened again",
    "processes": "the opener can be pickled and opens the same store in another process",
    "clock": "the opener takes clock=, a callable that returns the time",
    "failpoint": "the opener takes before_commit=, a Failpoint that the store calls before it commits an append",
    "gaps": "positions of consecutive batches have gaps between them",
}


class Failpoint:
    """Holds the first append that comes by, with everything written and nothing committed, until it is released."""

    def __init__(self, seconds: float = 4.0) -> None:
        self._seconds = seconds
        self._taken = threading.Lock()
        self._reached = threading.Event()
        self._released = threading.Event()

    def block(self) -> None:
        """Hold the calling thread: for a store that commits on a thread of its own."""
        if self._taken.acquire(blocking=False):
            self._reached.set()
            self._released.wait(self._seconds)

    async def pause(self) -> None:
        """Hold the calling task: for a store that commits on the event loop."""
        if self._taken.acquire(blocking=False):
            self._reached.set()
            while not self._released.is_set():  # noqa: ASYNC110 - it may be another thread that releases
                await asyncio.sleep(0)

    async def reached(self) -> None:
        """Wait until an append is being held."""
        while not self._reached.is_set():  # noqa: ASYNC110 - it may be another thread that is held
            await asyncio.sleep(0.001)

    def release(self) -> None:
        """Let the append go on."""
        self._released.set()


class StoreFixture(Struct, frozen=True):
    """One isolated store: `opener` opens a handle to it, the flags say what it can do; see `NEEDS`."""

    opener: Callable[..., Store | Awaitable[Store]]
    handles: bool = False
    reopens: bool = False
    processes: bool = False
    clock: bool = False
    failpoint: bool = False
    gaps: bool = False
    patience: float = 60.0
    """Seconds after which a rule that hangs has failed."""

    async def connect(self, **options: Any) -> Store:
        """Open a handle; `options` are only those that the flags promise."""
        opened = self.opener(**options)
        return await opened if isinstance(opened, Awaitable) else opened
