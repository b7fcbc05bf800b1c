"""Opening a SQLite file as a log: with a safe SQLite, only a file that is ours, brought to this schema, durably."""

import os
from datetime import timedelta
from pathlib import Path

import apsw

from refold.errors import NotAStore, StoreError, StoreReadOnly, StoreTooNew, StoreTooOld, UnsafeDriver
from refold.store.sqlite.turnstile import Turnstile

APPLICATION_ID = 0x5265666F  # "Refo"
MIGRATIONS: tuple[str, ...] = ((Path(__file__).parent / "schema.sql").read_text(),)
"""Script n brings a file from schema version n to n + 1; a new file is at version 0."""

SAFE_SQLITE = (3, 51, 3)
"""Earlier ones can lose committed pages when two connections meet at a WAL reset."""


def check_sqlite(version: str) -> None:
    """Refuse a SQLite that is known to lose committed data."""
    if tuple(int(part) for part in version.split(".")[:3]) < SAFE_SQLITE:
        safe = ".".join(map(str, SAFE_SQLITE))
        raise UnsafeDriver(
            f"this apsw brings SQLite {version}, and those before {safe} can lose committed pages (the WAL-reset "
            "race). Upgrade: pip install --upgrade apsw"
        )


def connect(path: Path, *, synchronous: str, busy: timedelta, vfs: str | None) -> apsw.Connection:
    """Open one connection, creating the file if there is none."""
    connection = apsw.Connection(str(path), vfs=vfs)
    connection.set_busy_timeout(busy // timedelta(milliseconds=1))
    # Before the first page is written: EXTRA also syncs the folder, so that no power cut brings back the journal of
    # the file's creation and with it an empty log.
    connection.pragma("synchronous", synchronous)
    connection.pragma("mmap_size", 0)
    connection.pragma("journal_size_limit", 64 << 20)
    connection.pragma("foreign_keys", True)
    connection.pragma("trusted_schema", False)
    connection.pragma("cell_size_check", True)
    return connection


def check_owner(connection: apsw.Connection, path: Path, *, create: bool = True) -> None:
    """Refuse a file of another program, one of a newer Refold, and one that cannot be written.

    And one that would have to be made a log, or upgraded, unless it may be.
    """
    # Tables first: another process may be creating the log, and its tables come together with its mark.
    tables = connection.pragma("schema_version")
    owner, version = connection.pragma("application_id"), connection.pragma("user_version")
    if owner != APPLICATION_ID and (owner or tables):
        raise NotAStore(f"{path} is a SQLite database of another program; choose another file for the log")
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"{path} has schema version {version}; this Refold knows {len(MIGRATIONS)}. Upgrade Refold to open it"
        )
    if not create and version == 0:
        raise no_log(path)
    if not create and version < len(MIGRATIONS):
        raise StoreTooOld(
            f"{path} has schema version {version}; this Refold's is {len(MIGRATIONS)}. `refold store migrate` upgrades "
            "it, as every app does that runs"
        )
    if connection.readonly("main"):
        raise StoreReadOnly(f"{path} cannot be written: see its permissions, and its folder's")


def no_log(path: Path) -> NotAStore:
    """Return the error of a log that is not there, where none should be made."""
    return NotAStore(f"there is no log at {path.absolute()}", absent=True)


def prepare(connection: apsw.Connection, path: Path, turnstile: Turnstile, busy: timedelta) -> None:
    """Bring the file to this schema; a file that is there already is not written to."""
    current = (APPLICATION_ID, len(MIGRATIONS), "wal")
    found = tuple(connection.pragma(name) for name in ("application_id", "user_version", "journal_mode"))
    if found != current:
        turnstile.enter_within(busy)
        with turnstile.held():
            mode = connection.pragma("journal_mode", "wal")
            if mode != "wal":
                raise StoreError(f"{path} is on a file system without shared memory: SQLite cannot keep a log there")
            _migrate(connection, path)
    sync_folder(path)


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Run the scripts that the file lacks, all of them or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        check_owner(connection, path)
        for script in MIGRATIONS[connection.pragma("user_version") :]:
            connection.execute(script)
        connection.pragma("user_version", len(MIGRATIONS))
        connection.pragma("application_id", APPLICATION_ID)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def sync_folder(path: Path) -> None:
    """Make the file's name durable too."""
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
