"""An event on its way into the log, in the log, and out of it again."""

from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct

UNSAID = datetime.min.replace(tzinfo=UTC)
"""Stands for a time that nobody gave: in no handler's metadata, and not stored."""

E = TypeVar("E", covariant=True)


class NewEvent(Struct, frozen=True, gc=False):
    """An event encoded for the log; `data` and `metadata` are opaque to the store."""

    type: str
    data: bytes = b"{}"
    tags: tuple[str, ...] = ()
    version: int = 1
    metadata: bytes = b""


class StoredEvent(Struct, frozen=True, gc=False):
    """An encoded event as the log holds it; `recorded_at` is the store's own time, in UTC."""

    position: int
    recorded_at: datetime
    type: str
    version: int
    tags: tuple[str, ...]
    data: bytes
    metadata: bytes


class Metadata(Struct, frozen=True, omit_defaults=True):
    """Who, when and why: what is known about an event beside its content.

    `occurred_at` is the world's time, with a zone. It is left `UNSAID` when the event was recorded as it happened;
    what reads an event from the log finds `recorded_at` there instead.
    """

    event_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    actor: str = ""
    occurred_at: datetime = UNSAID
    extra: dict[str, Any] = {}  # msgspec gives each its own
    traceparent: str = ""
    """The span in which it was recorded, as the header of W3C Trace Context has it; empty if nobody traced."""
    command: str = ""
    """The class of the command that was decided; empty if it was recorded without a decision."""
    by: str = ""
    """What gave the command, where its cause is something else than itself: `process fulfil/1`, with the place among
    what was given because of one event; it tells those of one cause apart. Also `timer`, `effect`, `inbox`, `call`."""
    asked: str = ""
    """Of a command that its caller gave an id, in its first event: a hash of its fields. Another command that comes
    under the same id by mistake is told by it from the same one that comes again."""


class Recorded(Struct, Generic[E], frozen=True):
    """A decoded event with its place in the log; `metadata.occurred_at` is always set."""

    position: int
    recorded_at: datetime
    event: E
    metadata: Metadata
    tags: tuple[str, ...] = ()

    @property
    def occurred_at(self) -> datetime:
        """When it happened in the world, in the zone that was given."""
        return self.metadata.occurred_at
