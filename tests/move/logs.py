"""Logs to move: with all that Refold writes itself, and with what no form has a word for."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from refold.model.record import Metadata, NewEvent, StoredEvent
from refold.model.schema import encode_metadata
from refold.move.metadata import FIRST
from refold.store.api import Store
from refold.store.memory import MemoryStore
from refold.testing.clock import Clock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORMS = ("jsonl", "parquet", "cloudevents")
PARIS = timezone(timedelta(hours=1))

jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
oddities = st.sampled_from(
    [
        b"",
        b" {} ",
        b'{"a":\n1}',
        b'{"a":1,"a":2}',
        b"1,2",
        b'}{"',
        b"\xff",
        b'"\xed\xa0\x80"',
        b"null",
        b"[1e400]",
        b"nul",
    ]
)
times = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, PARIS]))
ids = st.text(max_size=3).filter(lambda text: text.isprintable())
usual = st.builds(
    lambda *values: encode_metadata(Metadata(*values)),
    ids, ids, ids, ids,
    st.just(Metadata().occurred_at) | times,
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
)  # fmt: skip
odd_metadata = st.sampled_from(
    [
        b"{}",
        b'{"actor": "me"}',
        b'{"event_id":"1"}',
        b'{"later":7}',
        b'{"extra":7}',
        b'{"occurred_at":"2026-01-01T00:00:00"}',
    ]
)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=4)
new_events = st.builds(
    NewEvent,
    names | st.sampled_from(["A", "A.v2", "Order.vx"]),
    jsons | oddities | st.binary(max_size=4),
    st.lists(names, max_size=3, unique=True).map(tuple),
    st.integers(1, 5),
    usual | usual | odd_metadata | oddities,
)
histories = st.lists(st.lists(new_events, min_size=1, max_size=4), max_size=6)


async def log_of(history: list[list[NewEvent]]) -> MemoryStore:
    """Return a log of some appends, each recorded a moment later."""
    clock = Clock(NOON)
    store = MemoryStore(clock=clock)
    for number, batch in enumerate(history, 1):
        clock.set(NOON + timedelta(microseconds=123_457 * number))
        await store.append(batch)
    return store


def numbered(count: int, size: int = 0) -> list[NewEvent]:
    """Return so many events that differ, each of about so many bytes."""
    return [
        NewEvent(
            "Counted" if number % 3 else "Third",
            b'{"number":%d,"pad":"%s"}' % (number, b"x" * size),
            (f"number:{number % 7}", "all:1"),
            metadata=encode_metadata(Metadata(event_id=f"e-{number}", actor="counter")),
        )
        for number in range(1, count + 1)
    ]


async def events_of(store: Store) -> list[StoredEvent]:
    """Return all events of a log."""
    return [event async for page in store.read() for event in page]


def settled(event: StoredEvent) -> tuple[object, ...]:
    """Return what must be the same wherever an event is: all but its position, and when this log recorded it."""
    metadata: object = event.metadata
    try:
        fields = json.loads(event.metadata or b"{}")
        extra = dict(fields.pop("extra", {}))
        first = extra.pop(FIRST, msgspec.to_builtins(event.recorded_at))
        metadata = {"occurred_at": first, **fields, "extra": extra}
    except (ValueError, TypeError, AttributeError):
        pass  # it is not what Refold writes
    return (event.type, event.version, event.tags, event.data, metadata)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
