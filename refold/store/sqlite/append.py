"""Appending in groups: the appends of many callers, checked one by one, written as a few large statements."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from refold.errors import AppendIdReused, Conflict, PositionAhead, RefoldError
from refold.model.query import AppendCondition
from refold.model.record import NewEvent
from refold.store.api import Appended, Clock, digest
from refold.store.sqlite import select
from refold.store.sqlite.insert import insert
from refold.store.sqlite.recent import Recent

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TAGS_REMEMBERED = 200_000
FORGET = 500
"""With the first new append id, and after so many more, up to twice as many past the retention window are forgotten."""

HEAD = """
SELECT position, recorded_at, (SELECT max(type_id) FROM event_type)
FROM event ORDER BY position DESC LIMIT 1"""
LAST = "SELECT max(position) FROM event"
KNOWN_IDS = """
SELECT append_id, digest, first, last FROM append JOIN event ON position = last
WHERE append_id IN (SELECT value FROM json_each(?)) AND recorded_at >= ?"""
KNOWN_TAGS = "SELECT name, tag_id FROM tag WHERE name IN (SELECT value FROM json_each(?))"
NEW_TYPE = "INSERT INTO event_type (name) VALUES (?) RETURNING type_id"
FORGET_IDS = """
DELETE FROM append WHERE append_id IN (
    SELECT append_id FROM (SELECT append_id, last FROM append INDEXED BY append_by_last ORDER BY last LIMIT ?)
    JOIN event ON position = last WHERE recorded_at < ?)"""

_encode = msgspec.json.Encoder().encode


def _json(names: Iterable[str]) -> str:
    """Return a JSON array as text: bytes might be taken for SQLite's binary JSON."""
    return _encode(list(names)).decode()


class Append(Struct):
    """A checked batch that waits for its turn."""

    events: list[NewEvent]
    conditions: Sequence[AppendCondition]
    append_id: str | None
    step: Callable[[apsw.Connection], bool] | None = None
    """What else is done if it is appended; it is not if this returns False."""


class Known(Struct):
    """An append that is remembered by its id."""

    digest: bytes
    result: Appended


class _Rows(Struct):
    """What one group will insert, column by column and row after row."""

    events: list[tuple[Any, ...]] = msgspec.field(default_factory=list[tuple[Any, ...]])
    tags: list[tuple[str, int]] = msgspec.field(default_factory=list[tuple[str, int]])
    event_tags: list[tuple[int, int, int]] = msgspec.field(default_factory=list[tuple[int, int, int]])
    appends: list[tuple[Any, ...]] = msgspec.field(default_factory=list[tuple[Any, ...]])


class Appends:
    """Writes groups of appends; what it remembers between them is lost when one is not committed."""

    def __init__(self, clock: Clock, retention: timedelta) -> None:
        self._clock = clock
        self._retention = retention
        self._recent = Recent()
        self._types: dict[str, int] = {}
        self._tags: dict[str, int] = {}
        self._last_time = 0
        self._ids_since_forgetting = FORGET

    def run(self, connection: apsw.Connection, items: Sequence[Append]) -> list[object]:
        """Append each batch whose conditions hold; the others fail alone. None stands for one whose step said no."""
        head = connection.execute(LAST).get or 0
        if head != self._recent.head:  # another process has appended
            self._recent = Recent(head)
            self._types = dict(connection.execute("SELECT name, type_id FROM event_type"))
            self._last_time = head_of(connection)[1]
        self._last_time = recorded_at = max((self._clock() - EPOCH) // MICROSECOND, self._last_time)
        known = self.recall(connection, [item.append_id for item in items if item.append_id is not None])
        self._recall_tags(connection, items)
        rows = _Rows()
        results: list[object] = []
        for item in items:
            try:
                results.append(self._append(connection, item, known, recorded_at, rows))
            except RefoldError as error:
                results.append(error)
        self._insert(connection, rows)
        return results

    def settled(self, *, committed: bool) -> None:
        """Forget everything if the last group was not committed."""
        if not committed:
            self._recent = Recent(-1)
            self._types = {}
            self._tags = {}
        elif len(self._tags) > TAGS_REMEMBERED:
            self._tags = {}

    def recall(self, connection: apsw.Connection, append_ids: list[str]) -> dict[str, Known]:
        """Return the appends that are remembered under these ids."""
        if not append_ids:
            return {}
        oldest = (self._clock() - self._retention - EPOCH) // MICROSECOND
        rows = connection.execute(KNOWN_IDS, (_json(append_ids), oldest))
        return {append_id: Known(digest, Appended(first, last)) for append_id, digest, first, last in rows}

    def _append(
        self, connection: apsw.Connection, item: Append, known: dict[str, Known], recorded_at: int, rows: _Rows
    ) -> Appended | Exception | None:
        recent = self._recent
        batch_digest = b""
        if item.append_id is not None:
            batch_digest = digest(item.events)
            if before := known.get(item.append_id):
                if before.digest != batch_digest:
                    raise AppendIdReused(f"the append id {item.append_id!r} was used before, with other events")
                return before.result
        for condition in item.conditions:
            self._check(connection, condition)
        if item.step is not None:
            try:
                with connection:  # a savepoint: what fails leaves nothing behind
                    if not item.step(connection):
                        return None
            except (ValueError, TypeError, OverflowError) as error:  # values that no row can hold
                return error
        first = recent.head + 1
        types, tag_ids = self._types, self._tags
        tags_before = len(rows.event_tags)
        add_event, add_event_tag = rows.events.append, rows.event_tags.append
        for position, event in enumerate(item.events, first):
            tags = event.tags
            type_id = types.get(event.type) or self._add_type(connection, event.type)
            add_event((position, recorded_at, type_id, event.version, _encode(tags), event.data, event.metadata))
            nth = 0
            for tag in tags:
                tag_id = tag_ids.get(tag)
                if tag_id is None:
                    tag_ids[tag] = tag_id = position << 8 | nth
                    rows.tags.append((tag, tag_id))
                    nth += 1
                add_event_tag((tag_id, position, type_id))
        recent.add(item.events, len(rows.event_tags) - tags_before)
        result = Appended(first, recent.head)
        if item.append_id is not None:
            rows.appends.append((item.append_id, batch_digest, result.first, result.last))
            known[item.append_id] = Known(batch_digest, result)
        return result

    def _check(self, connection: apsw.Connection, condition: AppendCondition) -> None:
        recent = self._recent
        after = condition.after
        if after > recent.head:
            raise PositionAhead(f"the condition is after {after}, but the head is {recent.head}")
        found = recent.match(condition.fail_if_match, after)
        if found is None and after < recent.floor:
            below = select.Range(after, recent.floor)
            found = select.first_match(connection, self._types, condition.fail_if_match, below)
        if found is not None:
            raise Conflict(f"position {found} matches the condition", position=found)

    def _add_type(self, connection: apsw.Connection, name: str) -> int:
        self._types[name] = type_id = int(connection.execute(NEW_TYPE, (name,)).get)
        return type_id

    def _insert(self, connection: apsw.Connection, rows: _Rows) -> None:
        if not rows.events:
            return
        insert(connection, "INSERT INTO event", rows.events)
        rows.tags.sort()
        insert(connection, "INSERT INTO tag", rows.tags)
        rows.event_tags.sort(key=itemgetter(0))  # they are in order of position already
        insert(connection, "INSERT INTO event_tag", rows.event_tags)
        # One that was remembered but is past the window may still be there.
        insert(connection, "INSERT OR REPLACE INTO append", rows.appends)
        self._ids_since_forgetting += len(rows.appends)
        if self._ids_since_forgetting >= FORGET:
            oldest = (self._clock() - self._retention - EPOCH) // MICROSECOND
            connection.execute(FORGET_IDS, (2 * self._ids_since_forgetting, oldest))
            self._ids_since_forgetting = 0

    def _recall_tags(self, connection: apsw.Connection, items: Sequence[Append]) -> None:
        """Remember the ids of all tags that the log knows and these appends have."""
        ids = self._tags
        unknown = {tag for item in items for event in item.events for tag in event.tags if tag not in ids}
        if unknown:
            ids.update(connection.execute(KNOWN_TAGS, (_json(unknown),)))


def head_of(connection: apsw.Connection) -> tuple[int, int, int]:
    """Return the last position, its time in microseconds, and the highest id of a type; zeros for an empty log."""
    row: tuple[Any, ...] | None = connection.execute(HEAD).fetchone()
    return (row[0], row[1], row[2]) if row else (0, 0, 0)
