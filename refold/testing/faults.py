"""A disk that fails when it is told to: for tests of a store in a SQLite file.

disk = FaultyDisk("faulty")
store = await SqliteStore.open(path, vfs=disk.name)
disk.before = failing("sync", apsw.SQLITE_IOERR_FSYNC)
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import apsw
from typing_extensions import override

Before: TypeAlias = Callable[[str, str], None]
"""Called with what is about to be done (`read`, `write`, `sync`, `truncate` or `delete`) and the name of the file."""


class FaultyDisk(apsw.VFS):
    """SQLite's access to the disk, with something done first; `before` may raise, wait or kill."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.before: Before = nothing

    @override
    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    @override
    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.before("delete", Path(filename).name)
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary").name

    @override
    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.before("read", self._name)
        return super().xRead(amount, offset)

    @override
    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.before("write", self._name)
        super().xWrite(data, offset)

    @override
    def xTruncate(self, newsize: int) -> None:
        self._disk.before("truncate", self._name)
        super().xTruncate(newsize)

    @override
    def xSync(self, flags: int) -> None:
        self._disk.before("sync", self._name)
        super().xSync(flags)


def nothing(action: str, file: str) -> None:
    """Let the disk work."""


def failing(action: str, result: int, *, file: str = "") -> Before:
    """Fail every such action on files whose names end so, with SQLite's extended result code."""

    def fail(doing: str, name: str) -> None:
        if doing == action and name.endswith(file):
            raise apsw.exception_for(result)

    return fail


def killing(after: int) -> Before:
    """Kill this process, as `kill -9` does, after so many changes to the disk."""
    left = after

    def kill(action: str, file: str) -> None:
        nonlocal left
        left -= action != "read"
        if left < 0:
            kill_self()

    return kill


def kill_self() -> None:
    """End this process at once, as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
