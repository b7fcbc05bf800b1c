"""A fair queue of the processes that write to one file.

SQLite lets writers poll for its lock with growing pauses, so that a busy process starves the others. Here a writer
takes two locks: first that of being next, then, when it gets its turn, it lets another be next. Whoever has just
written has to become next before it can write again, and so cannot overtake the one that waits. The kernel
wakes waiters in the order they came, and frees the locks of a process that dies.
"""

import os
import sys
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    # Without flock the writers of several processes queue by SQLite's own polling.
    def _take(lock: int) -> None: ...
    def _give(lock: int) -> None: ...
else:
    from fcntl import LOCK_EX, LOCK_UN, flock

    def _take(lock: int) -> None:
        flock(lock, LOCK_EX)

    def _give(lock: int) -> None:
        flock(lock, LOCK_UN)


class Turnstile:
    """Lets one process at a time write, in the order they came."""

    def __init__(self, database: Path) -> None:
        self._next, self._turn = (
            os.open(f"{database}-{name}", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            for name in ("next", "turn")
        )

    def __enter__(self) -> None:
        _take(self._next)
        _take(self._turn)
        _give(self._next)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _give(self._turn)

    def close(self) -> None:
        """Let go of the lock files; they stay, for others may wait on them."""
        os.close(self._next)
        os.close(self._turn)
