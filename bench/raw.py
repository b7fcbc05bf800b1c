"""The raw loops: what apsw alone does on the same tables, with the same rows, index entries and durability.

They are given everything ready: rows encoded, positions and tag ids known, nothing checked, nobody else's turn.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec

import refold.store.sqlite
from bench.orders import SCHEMA
from refold import NewEvent

TABLES = (Path(refold.store.sqlite.__file__).parent / "schema.sql").read_text()
PAGE = 1_000

INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)"
INSERT_TAG = "INSERT INTO tag VALUES (?, ?)"
INSERT_EVENT_TAG = "INSERT INTO event_tag VALUES (?, ?, ?)"
READ = "SELECT position, recorded_at, type_id, version, tags, data, metadata FROM event ORDER BY position"
READ_PAGE = "SELECT position, type_id, data FROM event WHERE position > ? ORDER BY position LIMIT ?"

_encode = msgspec.json.Encoder().encode


class Rows(NamedTuple):
    """The rows of one append."""

    events: list[tuple[Any, ...]]
    tags: list[tuple[str, int]]
    event_tags: list[tuple[int, int, int]]


def connect(path: Path) -> apsw.Connection:
    """Open a file as durably as Refold does."""
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "EXTRA")
    connection.pragma("journal_mode", "wal")
    return connection


class RawLog:
    """A log with Refold's tables and nothing around them."""

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)
        self.connection.execute(TABLES)
        self._types: dict[str, int] = {}
        self._tags: dict[str, int] = {}
        self._position = 0

    def rows(self, events: Iterable[NewEvent]) -> Rows:
        """Make the rows of one append; appends go in in the order in which they were made."""
        rows = Rows([], [], [])
        for event in events:
            self._position += 1
            if event.type not in self._types:
                self._types[event.type] = type_id = len(self._types) + 1
                self.connection.execute("INSERT INTO event_type VALUES (?, ?)", (type_id, event.type))
            type_id = self._types[event.type]
            tags = _encode(event.tags)
            rows.events.append((self._position, 1_700_000_000_000_000, type_id, 1, tags, event.data, event.metadata))
            for nth, tag in enumerate(event.tags):
                if tag not in self._tags:
                    self._tags[tag] = self._position << 8 | nth
                    rows.tags.append((tag, self._tags[tag]))
                rows.event_tags.append((self._tags[tag], self._position, type_id))
        rows.tags.sort()
        rows.event_tags.sort()
        return rows

    def append(self, rows: Rows) -> None:
        """Insert and commit."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT_EVENT, rows.events)
        if rows.tags:
            connection.executemany(INSERT_TAG, rows.tags)
        connection.executemany(INSERT_EVENT_TAG, rows.event_tags)
        connection.execute("COMMIT")


def read_all(connection: apsw.Connection) -> int:
    """Look at every row of the log, and return how many there are."""
    count = 0
    for _ in connection.execute(READ):
        count += 1
    return count


def project(path: Path, table: str) -> int:
    """Read the log in pages, work out the rows of its orders, and put each page's in their table with a checkpoint.

    Returns how many events there are.
    """
    connection = connect(path)
    connection.execute(f"CREATE TABLE {table} (order_id TEXT PRIMARY KEY, customer_id TEXT, lines INTEGER, "
                       "total INTEGER, last_sku TEXT) STRICT, WITHOUT ROWID")  # fmt: skip
    connection.execute("CREATE TABLE reached (name TEXT PRIMARY KEY, position INTEGER) STRICT, WITHOUT ROWID")
    names: dict[int, str] = dict(connection.execute("SELECT type_id, name FROM event_type"))
    decode = {type_id: decoder(name) for type_id, name in names.items()}
    orders: dict[str, tuple[str, str, int, int, str]] = {}
    upsert = f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?)"
    position = count = 0
    while page := connection.execute(READ_PAGE, (position, PAGE)).fetchall():
        changed: dict[str, tuple[str, str, int, int, str]] = {}
        for _, type_id, data in page:
            event = decode[type_id](data)
            key = event.order_id
            if names[type_id] == "Placed":
                orders[key] = changed[key] = (key, event.customer_id, 0, 0, "")
            else:
                _, customer, lines, total, _ = orders[key]
                row = (key, customer, lines + 1, total + event.quantity * event.price, event.sku)
                orders[key] = changed[key] = row
        position = page[-1][0]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(upsert, changed.values())
        connection.execute("INSERT OR REPLACE INTO reached VALUES (?, ?)", (table, position))
        connection.execute("COMMIT")
        count += len(page)
    connection.close()
    return count


def decoder(name: str) -> Any:
    """Return what decodes the data of an event type."""
    return msgspec.json.Decoder(next(kind for kind in SCHEMA.events if kind.__name__ == name)).decode
