"""Power loss: record what SQLite asks of the disk, then build the disks that a power cut could have left behind.

A disk promises only two things. What was written to a file is there if the file was synced afterwards; and a name that
was made or removed is so if the folder was synced afterwards. Of everything since, any part may have arrived, in any
order, down to single sectors of 512 bytes. So a recording is cut at some step, everything promised is kept, and of
the rest nothing, everything or a random part. A file is known by number, not by name: the old file of a name can come
back without mixing with the new one.

SQLite itself syncs the folder with the first sync of a new journal or WAL, inside the real `xSync`; the recording
says so, as it does for a removal with `syncdir`. A program that syncs the folder by other ways calls `sync_folder`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import TypeAlias, TypeVar

import apsw
from msgspec import Struct, field
from typing_extensions import override

SECTOR = 512
T = TypeVar("T")
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class Write(Struct, frozen=True):
    """Bytes were written to a file."""

    file: int
    offset: int
    data: bytes


class Truncate(Struct, frozen=True):
    """A file was cut to a size."""

    file: int
    size: int


class Sync(Struct, frozen=True):
    """A file was synced: what was written to it before is durable."""

    file: int


class Name(Struct, frozen=True):
    """A name was given to a file, or with None was removed."""

    name: str
    file: int | None


class SyncFolder(Struct, frozen=True):
    """The folder was synced: the names are durable."""


class Acknowledged(Struct, frozen=True):
    """The program told its caller that everything up to `head` is durable."""

    head: int


Change: TypeAlias = Write | Truncate
Step: TypeAlias = Change | Sync | Name | SyncFolder | Acknowledged


class Image(Struct, frozen=True):
    """A disk that a power cut may leave: contents by name, and how far the program had given its word.

    `synced` is how far it had when a file was last synced.
    """

    step: int
    acknowledged: int
    synced: int
    files: dict[str, bytearray]

    def write(self, folder: Path) -> None:
        """Put the files into a folder."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


class RecordingDisk(apsw.VFS):
    """SQLite's access to the disk, written down."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.steps: list[Step] = []
        self._files: dict[str, int] = {}
        self._made = 0

    def acknowledge(self, head: int) -> None:
        """Note that the program has given its word."""
        self.steps.append(Acknowledged(head))

    def sync_folder(self) -> None:
        """Note that the program has synced the folder."""
        self.steps.append(SyncFolder())

    @override
    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary")
        new = not path.exists()
        opened = _File(self, path.name, name, flags)
        if new:
            self._made += 1
            self._files[path.name] = self._made
            self.steps.append(Name(path.name, self._made))
            opened.folder_unsynced = bool(flags[0] & _JOURNALS)
        opened.number = self._files[path.name]
        return opened

    @override
    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        name = Path(filename).name
        if self._files.pop(name, None) is not None:
            self.steps.append(Name(name, None))
        if syncdir:
            self.sync_folder()


class _File(apsw.VFSFile):
    number = 0
    folder_unsynced = False

    def __init__(self, disk: RecordingDisk, base: str, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._base = base

    @override
    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.steps.append(Write(self.number, offset, bytes(data)))
        super().xWrite(data, offset)

    @override
    def xTruncate(self, newsize: int) -> None:
        self._disk.steps.append(Truncate(self.number, newsize))
        super().xTruncate(newsize)

    @override
    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.steps.append(Sync(self.number))
        if self.folder_unsynced:
            self.folder_unsynced = False
            self._disk.sync_folder()


def images(steps: list[Step], count: int, random: Random) -> Iterator[Image]:
    """Build disks for power cuts at random steps, in the order of the steps."""
    cuts = sorted(random.randrange(len(steps) + 1) for _ in range(count))
    disk = _Disk()
    done = 0
    for cut in cuts:
        for step in steps[done:cut]:
            disk.follow(step)
        done = cut
        yield disk.after_power_loss(cut, random)


class _Disk(Struct):
    """What is durable, and what is under way, in its order."""

    acknowledged: int = 0
    synced: int = 0
    durable: dict[int, bytearray] = field(default_factory=dict[int, bytearray])
    under_way: dict[int, list[Change]] = field(default_factory=dict[int, list[Change]])
    names: dict[str, int] = field(default_factory=dict[str, int])
    names_under_way: list[Name] = field(default_factory=list[Name])

    def follow(self, step: Step) -> None:
        match step:
            case Write(file) | Truncate(file):
                self.under_way.setdefault(file, []).append(step)
            case Sync(file):
                self.synced = self.acknowledged
                content = self.durable.setdefault(file, bytearray())
                for change in self.under_way.pop(file, ()):
                    _apply(content, change)
            case Name():
                self.names_under_way.append(step)
            case SyncFolder():
                _rename(self.names, self.names_under_way)
                self.names_under_way.clear()
            case Acknowledged(head):
                self.acknowledged = head

    def after_power_loss(self, cut: int, random: Random) -> Image:
        """Keep what is promised, and some of the rest."""
        names = dict(self.names)
        _rename(names, _some(self.names_under_way, random))
        files: dict[str, bytearray] = {}
        for name, file in names.items():
            files[name] = content = bytearray(self.durable.get(file, b""))
            for change in _some(self.under_way.get(file, []), random, _tear):
                _apply(content, change)
        return Image(cut, self.acknowledged, self.synced, files)


def _rename(names: dict[str, int], changes: list[Name]) -> None:
    for change in changes:
        if change.file is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.file


def _apply(content: bytearray, change: Change) -> None:
    match change:
        case Write(_, offset, data):
            if offset > len(content):
                content.extend(bytes(offset - len(content)))
            content[offset : offset + len(data)] = data
        case Truncate(_, size):
            del content[size:]


def _some(changes: list[T], random: Random, tear: Callable[[T, Random], T] | None = None) -> list[T]:
    """Return nothing, everything, or a random part, in which some are torn."""
    match random.randrange(3):
        case 0:
            return []
        case 1:
            return changes
        case _:
            some = [change for change in changes if random.random() < 0.6]
            return [tear(change, random) if random.random() < 0.4 else change for change in some] if tear else some


def _tear(change: Change, random: Random) -> Change:
    """Return the part of a write that ends at a sector, or begins at one."""
    if isinstance(change, Truncate):
        return change
    edges = range((change.offset // SECTOR + 1) * SECTOR, change.offset + len(change.data), SECTOR)
    if not edges:
        return change
    edge = random.choice(edges)
    written = edge - change.offset
    if random.random() < 0.5:
        return Write(change.file, change.offset, change.data[:written])
    return Write(change.file, edge, change.data[written:])
