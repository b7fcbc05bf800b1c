"""Tests of upcasters in one line: every old version leads where it says, always to the same, and that can be stored.

    def test_upcasters() -> None:
        check_upcasters(app, OrderPlacedV1("o-1", "tea", 1250))

Events of every old class are made up by Hypothesis, beside those that are given.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refold.app import App
from refold.errors import InvalidEvent, UnreadableEvent, WiringError
from refold.model.hints import described
from refold.model.message import Event, stored_name
from refold.model.record import Metadata, NewEvent, StoredEvent
from refold.model.schema import Schema, encode_metadata
from refold.model.tag import tags_of
from refold.testing.strategies import events_of

RECORDED_AT = datetime(2026, 1, 1, tzinfo=UTC)
HEALTH = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


def stored_as_then(event: Event, *, position: int = 1, metadata: Metadata | None = None) -> StoredEvent:
    """Return an event as a program has stored it for which its class was the newest."""
    name, version = stored_name(type(event))
    data, about = msgspec.json.encode(event), encode_metadata(metadata or Metadata())
    return StoredEvent(position, RECORDED_AT, name, version, tags_of(event), data, about)


def upcast(app: App | Schema, event: Event, metadata: Metadata | None = None) -> tuple[Event, ...]:
    """Return what stands in the place of an old event, to compare it: `upcast(app, OrderPlacedV1(…)) == (…,)`."""
    return tuple(_schema(app).decode(stored_as_then(event, metadata=metadata)))


def check_upcasters(app: App | Schema, *olds: Event | NewEvent | StoredEvent, examples: int = 50) -> None:
    """Assert that the upcasters of an app hold for given events, and for so many made up of each old class.

    Each old event is decoded twice, the second time in another order, and gives the same; what it gives is of the
    classes in the annotation, can be stored, and comes back as it was. Golden events, kept as bytes since they were
    stored, are given as `NewEvent` or `StoredEvent`. Raises `AssertionError` saying which event, and why.
    """
    schema = _schema(app)
    known = [_stored(each) for each in olds]
    _check(schema, known)
    seen = {(each.type, each.version) for each in known}
    for old in schema.old_events if examples else ():
        try:
            strategy = events_of(old)
        except WiringError as error:
            if stored_name(old) not in seen:
                raise AssertionError(f"there is no example of {described(old)}: {error}") from None
            continue
        _made_up(schema, strategy, examples)


def _made_up(schema: Schema, strategy: st.SearchStrategy[Event], examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=HEALTH)
    @given(st.lists(strategy, min_size=1, max_size=3))
    def hold(events: list[Event]) -> None:
        _check(schema, [stored_as_then(event, position=place) for place, event in enumerate(events, 1)])

    hold()


def _check(schema: Schema, olds: Sequence[StoredEvent]) -> None:
    first = [_decoded(schema, each) for each in olds]
    for each, found in zip(olds, first, strict=True):
        for new in found:
            _check_stored(schema, each, new)
    for each, found in zip(reversed(olds), reversed(first), strict=True):
        again = _decoded(schema, each)
        # Compared as bytes, too: what is equal, as 1 and True, may be another all the same.
        if again != found or _bytes(again) != _bytes(found):
            raise AssertionError(f"{_named(each)} is made {found!r}, and then {again!r}: an upcaster is pure")


def _check_stored(schema: Schema, old: StoredEvent, new: Event) -> None:
    try:
        encoded = schema.encode(new)
    except InvalidEvent as error:
        raise AssertionError(f"{_named(old)} is made {new!r}, which cannot be stored: {error}") from error
    again = schema.decode(
        StoredEvent(1, RECORDED_AT, encoded.type, encoded.version, encoded.tags, encoded.data, encoded.metadata)
    )
    if again != (new,):
        raise AssertionError(f"{_named(old)} is made {new!r}, which is read from the log as {again!r}")


def _decoded(schema: Schema, stored: StoredEvent) -> tuple[Event, ...]:
    try:
        return tuple(schema.decode(stored))
    except UnreadableEvent as error:
        raise AssertionError(f"{_named(stored)} cannot be read: {error}") from error


def _stored(old: Event | NewEvent | StoredEvent) -> StoredEvent:
    match old:
        case StoredEvent():
            return old
        case NewEvent():
            return StoredEvent(1, RECORDED_AT, old.type, old.version, old.tags, old.data, old.metadata)
        case _:
            return stored_as_then(old)


def _schema(app: App | Schema) -> Schema:
    return app.schema if isinstance(app, App) else app


def _bytes(events: Iterable[Event]) -> list[bytes]:
    return [msgspec.json.encode(event) for event in events]


def _named(stored: StoredEvent) -> str:
    return f"{stored.type} version {stored.version} {stored.data.decode(errors='replace')}"
