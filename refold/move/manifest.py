"""The manifest of an export: which files it has, what is in them, and hashes by which all of it is checked.

Its last field is the SHA-256 of everything before it, so it names the export as a whole. It tells of damage and of
mixed-up files; who can write the folder can write another manifest, too.
"""

import errno
import hashlib
import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from refold.errors import NotAStore, StoreDamaged, StoreError, StoreFull, StoreReadOnly, StoreTooNew
from refold.model.query import Query, QueryItem
from refold.move.form import FormName

NAME = "manifest.json"
FORMAT = 1
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """Which events of a log are exported: of one of these types and with all these tags, as in a query item."""

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    after: int = 0
    upto: int | None = None

    @property
    def query(self) -> Query:
        """The query that it makes."""
        return Query((QueryItem(self.types, self.tags),)) if self.types or self.tags else Query()


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of events, in the order of their positions."""

    name: str
    events: int
    first: int
    last: int
    bytes: int
    sha256: str


class Count(Struct, frozen=True, forbid_unknown_fields=True):
    """How many events there are of a type and version."""

    type: str
    version: int
    events: int


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What an export holds."""

    format: int
    form: FormName
    source: str
    """The address of the log, without a password."""
    head: int
    """Where the log ended."""
    selection: Selection
    per_file: int
    events: int = 0
    first: int = 0
    last: int = 0
    types: tuple[Count, ...] = ()
    files: tuple[File, ...] = ()
    sha256: str = ""

    def add(self, file: File, counts: Iterable[Count]) -> "Manifest":
        """Return the manifest with one more file."""
        known = {(each.type, each.version): each.events for each in self.types}
        for each in counts:
            known[each.type, each.version] = known.get((each.type, each.version), 0) + each.events
        types = tuple(Count(name, version, events) for (name, version), events in sorted(known.items()))
        first = self.first or file.first
        return replace(
            self,
            events=self.events + file.events, first=first, last=file.last, types=types, files=(*self.files, file),
        )  # fmt: skip

    def sealed(self) -> "Manifest":
        """Return the manifest with its hash."""
        return replace(self, sha256=hashlib.sha256(_encoded(replace(self, sha256=""))).hexdigest())


class _Any(Struct):
    format: int


def write(path: Path, manifest: Manifest) -> None:
    """Put a manifest in its place, in one move, once all that it names is on the disk."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(_encoded(manifest.sealed()))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync(path.parent)


def read(path: Path) -> Manifest:
    """Read a manifest; raise `NotAStore` if there is none, `StoreDamaged` if it is not as it was written."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotAStore(f"there is no export at {path.parent.absolute()}: {path.name} is missing") from None
    try:
        if msgspec.json.decode(data, type=_Any).format > FORMAT:
            raise StoreTooNew(f"{path} was written by a newer Refold. Upgrade Refold to import it")
        found = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreDamaged(f"{path} cannot be read: {error}. Export again, or fetch it again") from error
    if _encoded(found) != data or found.sealed() != found:
        raise StoreDamaged(f"{path} is not as it was written: its hash is another. Export again, or fetch it again")
    return found


def check(folder: Path, manifest: Manifest, suffix: str, moved: Callable[[int], None], *, alone: bool) -> None:
    """Raise `StoreDamaged` unless the files of an export are those that were written, and no others beside them."""
    wanted = {file.name for file in manifest.files}
    for name in wanted:
        if Path(name).name != name:
            raise StoreDamaged(f"the export names the file {name!r}, which is not in its folder")
    if not alone:
        others = sorted(path.name for path in folder.glob(f"*{suffix}") if path.name not in wanted)
        if others:
            raise StoreDamaged(f"{folder / others[0]} is not in the manifest: it is of another export. Take it away")
    position = events = 0
    for file in manifest.files:
        if not position < file.first <= file.last:
            raise StoreDamaged(f"{folder}: the files of the manifest are not in the order of their positions")
        position, events = file.last, events + file.events
        path = folder / file.name
        if not path.is_file():
            raise StoreDamaged(f"{path} is missing. Fetch it again, or export again; nothing was written")
        size = path.stat().st_size
        if size != file.bytes:
            raise StoreDamaged(f"{path} has {size:,} bytes; {file.bytes:,} were written. Nothing of it was imported")
        if hashed(path) != file.sha256:
            raise StoreDamaged(f"{path} is not as it was written: its hash is another. Nothing of it was imported")
        moved(events)


def hashed(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # there the entries of a folder cannot be synced apart
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Place(Struct, frozen=True):
    """Where an export is: a folder of files, or one file with its manifest beside it."""

    folder: Path
    file: str = ""
    """The name of its only file; empty for a folder."""

    @classmethod
    def of(cls, path: Path, suffixes: Iterable[str]) -> "Place":
        """Return the place that a path means: a file if it ends like one, or is one."""
        if path.is_file() and path.name == NAME:
            return cls(path.parent)
        if not path.is_dir() and (path.suffix in suffixes or path.is_file()):
            return cls(path.parent, path.name)
        return cls(path)

    @property
    def manifest(self) -> Path:
        """The path of its manifest."""
        return self.folder / (f"{self.file}.{NAME}" if self.file else NAME)

    @property
    def positions(self) -> Path:
        """The path of the map of positions that an import writes unless told otherwise."""
        return self.folder / (f"{self.file}.positions.csv" if self.file else "positions.csv")


@contextmanager
def translated(folder: Path) -> Generator[None]:
    """Turn what the system says of files into a `StoreError`."""
    try:
        yield
    except OSError as error:
        kind = StoreFull if error.errno in _FULL else StoreReadOnly if error.errno in _DENIED else StoreError
        raise kind(f"the files in {folder}: {kind.__doc__} ({error})") from error


def _encoded(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
