"""Opening a file: what is refused and left alone, and how an old file becomes a new one, whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from refold.errors import (
    NotAStore,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreTooNew,
    StoreTooOld,
    UnsafeDriver,
    WiringError,
)
from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore, opening
from refold.testing.power import RecordingDisk, images

NOBODY = 65534


async def make(path: Path, events: int = 1) -> None:
    store = await SqliteStore.open(path)
    await store.append([NewEvent("T")] * events)
    await store.close()


async def read(path: Path) -> int:
    store = await SqliteStore.open(path)
    try:
        return sum([len(page) async for page in store.read()])
    finally:
        await store.close()


@pytest.mark.parametrize("content", [b"hello", b"a text\n" * 1_000, b"\0" * 5_000], ids=["short", "text", "zeros"])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotAStore, match=r"notes\.txt"):
        await SqliteStore.open(path)
    assert path.read_bytes() == content
    assert [*tmp_path.iterdir()] == [path]


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    theirs = apsw.Connection(str(path))
    theirs.execute("CREATE TABLE mine (x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(NotAStore, match="another program"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


async def test_a_database_marked_by_another_program_is_refused_even_without_tables(tmp_path: Path) -> None:
    theirs = apsw.Connection(str(tmp_path / "theirs.db"))
    theirs.pragma("application_id", 77)
    theirs.close()
    with pytest.raises(NotAStore):
        await SqliteStore.open(tmp_path / "theirs.db")


async def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    await make(tmp_path / "log.db")
    assert await read(tmp_path / "log.db") == 1


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        await SqliteStore.open(tmp_path / "missing" / "log.db")
    with pytest.raises(StoreError, match=str(tmp_path)):
        await SqliteStore.open(tmp_path)


async def test_a_damaged_file_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await make(path, 2_000)
    with path.open("r+b") as file:
        for page in range(1, 40):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    with pytest.raises(StoreDamaged, match="backup"):
        await read(path)


async def test_a_name_through_a_symlink_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "log.db")
    await make(tmp_path / "link.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.db", "real"]  # no lock files beside the link
    assert await read(tmp_path / "real" / "log.db") == 1


async def test_an_unknown_durability_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(WiringError, match="'durable' or 'relaxed'"):
        await SqliteStore.open(tmp_path / "log.db", durability="mostly")
    assert [*tmp_path.iterdir()] == []


async def test_a_sqlite_that_loses_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening.check_sqlite("3.51.3")
    opening.check_sqlite("3.100.0")
    monkeypatch.setattr(apsw, "sqlitelibversion", lambda: "3.51.2")
    with pytest.raises(UnsafeDriver, match=r"SQLite 3\.51\.2.*pip install --upgrade apsw"):
        await SqliteStore.open(tmp_path / "log.db")
    assert [*tmp_path.iterdir()] == []


async def test_a_file_system_without_shared_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="shared memory"):
        await SqliteStore.open(tmp_path / "log.db", vfs="unix-dotfile")


# Migrations

NEXT = (*opening.MIGRATIONS, "CREATE TABLE extra (x); UPDATE event SET version = 7")
BROKEN = (*NEXT[:-1], "CREATE TABLE extra (x); SELECT no_such_function()")


def state(path: Path) -> tuple[int, bool, list[int]]:
    """Return the schema version, whether it has the new table, and the versions of its events."""
    connection = apsw.Connection(str(path))
    try:
        return (
            connection.pragma("user_version"),
            bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'").get),
            [version for (version,) in connection.execute("SELECT version FROM event ORDER BY position")],
        )
    finally:
        connection.close()


async def test_a_log_that_should_be_there_is_neither_made_nor_brought_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, empty = tmp_path / "log.db", tmp_path / "empty.db"
    empty.touch()
    for each in (path, empty):
        with pytest.raises(NotAStore, match="there is no log at"):
            await SqliteStore.open(each, create=False)
    assert (path.exists(), empty.stat().st_size) == (False, 0)
    await make(path)
    await (await SqliteStore.open(path, create=False)).close()
    monkeypatch.setattr(opening, "MIGRATIONS", NEXT)
    with pytest.raises(StoreTooOld, match="refold store migrate"):
        await SqliteStore.open(path, create=False)
    assert state(path)[0] == 1


async def test_an_older_file_is_brought_forward_and_then_refused_by_older_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    await make(path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(opening, "MIGRATIONS", NEXT)
        await make(path)
    assert state(path) == (2, True, [7, 7, 7, 1])
    with pytest.raises(StoreTooNew, match=r"schema version 2; this Refold knows 1"):
        await SqliteStore.open(path)
    assert state(path) == (2, True, [7, 7, 7, 1])


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    await make(path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(opening, "MIGRATIONS", BROKEN)
        with pytest.raises(StoreError, match="no_such_function"):
            await SqliteStore.open(path)
    assert state(path) == (1, False, [1, 1, 1])
    await make(path)


async def test_a_migration_cut_off_at_any_step_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RecordingDisk("migrating")
    path = tmp_path / "log.db"
    store = await SqliteStore.open(path, vfs=disk.name)
    await store.append([NewEvent("T")] * 3)
    await store.close()
    disk.sync_folder()
    disk.acknowledge(3)
    monkeypatch.setattr(opening, "MIGRATIONS", NEXT)
    store = await SqliteStore.open(path, vfs=disk.name)
    await store.close()
    outcomes: set[int] = set()
    for image in images(disk.steps, 400, Random(1)):
        if image.acknowledged:
            (place := tmp_path / "image").mkdir()
            image.write(place)
            found = state(place / "log.db")
            assert found in ((1, False, [1] * 3), (2, True, [7] * 3))
            outcomes.add(found[0])
            shutil.rmtree(place)
    assert outcomes == {1, 2}


# Permissions


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of somebody without privileges; the test runs as that somebody, since nothing is forbidden to root."""
    path = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield path
    if root:
        os.seteuid(0)
    path.chmod(0o700)
    shutil.rmtree(path)


async def test_a_read_only_file_is_refused_until_it_is_writable(folder: Path) -> None:
    await make(folder / "log.db")
    (folder / "log.db").chmod(0o444)
    with pytest.raises(StoreReadOnly, match="cannot be written"):
        await SqliteStore.open(folder / "log.db")
    (folder / "log.db").chmod(0o644)
    assert await read(folder / "log.db") == 1


@pytest.mark.parametrize("exists", [True, False], ids=["with the file", "without"])
async def test_a_read_only_folder_is_refused_until_it_is_writable(folder: Path, exists: bool) -> None:
    if exists:
        await make(folder / "log.db")
    folder.chmod(0o555)
    with pytest.raises(StoreReadOnly, match=r"log\.db"):
        await SqliteStore.open(folder / "log.db")
    folder.chmod(0o755)
    await make(folder / "log.db")
    assert await read(folder / "log.db") == 1 + exists


async def test_the_lock_files_are_as_open_as_the_log(folder: Path) -> None:
    await make(folder / "log.db")
    modes = {path.name: path.stat().st_mode & 0o666 for path in folder.iterdir()}
    assert modes["log.db"] == modes["log.db-next"] == modes["log.db-turn"]
