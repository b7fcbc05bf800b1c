"""The manifest of a mirror: which files are in it, and up to which position; and who may change them.

Files are only ever added. A step of the mirror writes new ones, then replaces the manifest in one move; what is not in
the manifest is what a step left that did not end, and is removed by the next who writes. So a mirror is always one
that stood at some position, and each event up to there is in it once.
"""

import errno
import os
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from refold.errors import NotAStore, StoreDamaged, StoreError, StoreFull, StoreReadOnly, StoreTooNew

NAME = "mirror.json"
FORMAT = 1
PARTS = ("events", "views")
GRACE_SECONDS = 120.0
"""How long a file stays after the manifest has left it: a query may have begun before."""


class File(Struct, frozen=True, omit_defaults=True):
    """A Parquet file of one table, by its path in the mirror; its rows are of positions from `first` to `last`."""

    path: str
    first: int
    last: int
    rows: int
    size: int
    """In bytes."""
    month: str = ""
    wide: tuple[str, ...] = ()
    """The columns that are text in this file, because it holds a value that does not fit their type."""


class Field(Struct, frozen=True):
    """A column as SQL knows it."""

    name: str
    type: str


class Table(Struct, frozen=True):
    """A table of the mirror and its files, in the order of their positions."""

    columns: tuple[Field, ...]
    fingerprint: str
    """Of all that decides what its rows are; rows made by another definition are never mixed with these."""
    types: tuple[str, ...] = ()
    """The stored types that its rows come from."""
    files: tuple[File, ...] = ()
    position: int = 0
    """Of a view: the position that it was copied at."""

    @property
    def wide(self) -> frozenset[str]:
        """The columns that are text in any of its files."""
        return frozenset(name for file in self.files for name in file.wide)


class Manifest(Struct, frozen=True):
    """What a mirror holds."""

    format: int = FORMAT
    generation: int = 0
    """How many steps the mirror has taken."""
    position: int = 0
    """All events up to here are in it."""
    events: dict[str, Table] = {}
    views: dict[str, Table] = {}
    left: dict[str, float] = {}
    """Files that are not in it any more, and since when, in seconds since 1970."""

    last: str = ""
    """Tells the event that it ends with from that of another log."""

    def paths(self) -> set[str]:
        """Return the paths of the files that queries read."""
        return {file.path for table in (*self.events.values(), *self.views.values()) for file in table.files}


def read(folder: Path, *, create: bool = False) -> Manifest:
    """Read the manifest of a mirror; raise `NotAStore` if there is none, unless it may be created."""
    try:
        data = (folder / NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if create:
            return Manifest()
        raise NotAStore(f"there is no mirror at {folder.absolute()}: `refold query` makes one with --app") from None
    try:
        found = msgspec.json.decode(data, type=_Any)
        if found.format > FORMAT:
            raise StoreTooNew(f"{folder / NAME}: {StoreTooNew.__doc__}")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamaged(
            f"{folder / NAME} cannot be read: {error}. A mirror holds nothing that the log does not: remove the "
            "folder, and let it be made anew"
        ) from error


class _Any(Struct):
    format: int


def next_step(old: Manifest, **changes: object) -> Manifest:
    """Return the manifest that follows one, with what it does not hold any more left behind."""
    new = msgspec.structs.replace(old, generation=old.generation + 1, **changes)
    now = time.time()
    kept = new.paths()
    left = {path: since for path, since in old.left.items() if now - since < GRACE_SECONDS and path not in kept}
    left.update({path: now for path in old.paths() if path not in kept})
    return msgspec.structs.replace(new, left=left)


def write(folder: Path, old: Manifest, new: Manifest) -> None:
    """Put a manifest in place of one; its files are on the disk already. Then remove what nobody can be reading."""
    path, temporary = folder / NAME, folder / f"{NAME}.new"
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(new))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(folder)
    for each in old.left.keys() - new.left.keys() - new.paths():
        (folder / each).unlink(missing_ok=True)


def remove_leftovers(folder: Path, manifest: Manifest) -> int:
    """Remove files that no manifest has named, and return how many there were."""
    known = manifest.paths() | manifest.left.keys()
    found = [
        path for part in PARTS for path in (folder / part).rglob("*.parquet")
        if path.relative_to(folder).as_posix() not in known
    ]  # fmt: skip
    for path in found:
        path.unlink(missing_ok=True)
    (folder / f"{NAME}.new").unlink(missing_ok=True)
    return len(found)


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # there the entries of a folder cannot be synced apart
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path, paths: Iterable[str]) -> None:
    """Bring files of a mirror to the disk, with the folders that lead to them."""
    folders: set[Path] = set()
    for each in paths:
        path = folder / each
        sync(path)
        folders.update(parent for parent in path.parents if parent.is_relative_to(folder))
    for parent in sorted(folders, reverse=True):
        sync(parent)


class Claim:
    """The right to change a mirror. One process has it at a time; the system takes it from one that dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "mirror.lock"
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._handle is not None

    def take(self) -> bool:
        """Take it if nobody has it, and tell whether it is ours."""
        if self._handle is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            if not _lock(handle):
                os.close(handle)
                return False
            self._handle = handle
        return True

    def give(self) -> None:
        """Give it back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    from fcntl import LOCK_EX, LOCK_NB, flock

    def _lock(handle: int) -> bool:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True


_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def translated(folder: Path) -> Generator[None]:
    """Turn what the system says of files into a `StoreError`."""
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in _FULL else StoreReadOnly if error.errno in _DENIED else StoreError
        raise kind(f"the mirror in {folder}: {kind.__doc__} ({error})") from error
