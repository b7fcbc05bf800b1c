"""A fair queue of the processes that write to one file.

SQLite lets writers poll for its lock with growing pauses, so that a busy process starves the others. Here a writer
takes two locks: first that of being next, then, when it gets its turn, it lets another be next. Whoever has just
written has to become next before it can write again, and so cannot overtake the one that waits. The kernel
wakes waiters in the order they came, and frees the locks of a process that dies.

The queue is a courtesy: what keeps the file whole is SQLite's own lock, taken after it.
"""

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from refold.errors import StoreBusy

POLL_SECONDS = 0.005

if sys.platform == "win32":
    # Without flock the writers of several processes queue by SQLite's own polling.
    def _take(lock: int) -> None: ...
    def _take_now(lock: int) -> bool:
        return True

    def _give(lock: int) -> None: ...
else:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

    def _take(lock: int) -> None:
        flock(lock, LOCK_EX)

    def _take_now(lock: int) -> bool:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _give(lock: int) -> None:
        flock(lock, LOCK_UN)


class Turnstile:
    """Lets one process at a time write, in the order they came."""

    def __init__(self, database: Path) -> None:
        self._database = database
        mode = database.stat().st_mode & 0o666  # who may write the log may queue for it
        self._next, self._turn = (
            os.open(f"{database}-{name}", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), mode)
            for name in ("next", "turn")
        )

    def enter(self) -> None:
        """Wait for the turn, for as long as it takes."""
        _take(self._next)
        try:
            _take(self._turn)
        finally:
            _give(self._next)

    def enter_within(self, limit: timedelta) -> None:
        """Take the turn out of order, or raise `StoreBusy`."""
        end = time.monotonic() + limit.total_seconds()
        while not _take_now(self._turn):
            if time.monotonic() > end:
                raise StoreBusy(f"{self._database}: {StoreBusy.__doc__}")
            time.sleep(POLL_SECONDS)

    @contextmanager
    def held(self) -> Generator[None]:
        """Leave when the block ends."""
        try:
            yield
        finally:
            _give(self._turn)

    def close(self) -> None:
        """Let go of the lock files; they stay, for others may wait on them."""
        os.close(self._next)
        os.close(self._turn)
