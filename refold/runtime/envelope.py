"""How events travel between contexts: as CloudEvents 1.0 in JSON, the structured form, which every broker carries.

Source: https://github.com/cloudevents/spec, version 1.0.2. `partitionkey`, `sequence` and `traceparent` are
its documented extensions; `correlationid`, `causationid` and `actor` are ours.
"""

import re
from datetime import datetime

import msgspec
from msgspec import Struct, field

from refold.bus.api import Message
from refold.errors import UndecodableEvent
from refold.model.record import Metadata, StoredEvent

_VERSIONED = re.compile(r"(.+)\.v([1-9][0-9]{0,8})")
"""A type that says its version; others may hold `.v` too, as in `com.vendor.OrderPlaced`."""
CONTENT = {"content-type": "application/cloudevents+json; charset=utf-8"}


class CloudEvent(Struct, frozen=True, omit_defaults=True):
    """An event of another context, or for others."""

    id: str
    source: str
    """The context that published it."""
    type: str
    """`OrderPlaced.v2`: the name and version under which its contract is published."""
    specversion: str
    data: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"{}"))
    time: datetime | None = None
    subject: str = ""
    """What it is about first of all: a tag, as `order:o-1`."""
    datacontenttype: str = ""
    partitionkey: str = ""
    sequence: str = ""
    """The position in the log of its context."""
    correlationid: str = ""
    causationid: str = ""
    actor: str = ""
    traceparent: str = ""
    """The span in which it was recorded."""

    @property
    def name(self) -> str:
        """The name of its type, without the version."""
        found = _VERSIONED.fullmatch(self.type)
        return found[1] if found else self.type

    @property
    def version(self) -> int:
        """The version of its type; 1 if it does not say."""
        found = _VERSIONED.fullmatch(self.type)
        return int(found[2]) if found else 1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CloudEvent).decode


def packed(
    source: str,
    event_id: str,
    name: str,
    version: int,
    data: bytes,
    tags: tuple[str, ...],
    stored: StoredEvent,
    metadata: Metadata,
) -> Message:
    """Return an event as the message that others receive."""
    key = tags[0] if tags else ""
    event = CloudEvent(
        id=event_id,
        source=source,
        type=f"{name}.v{version}",
        specversion="1.0",
        data=msgspec.Raw(data),
        time=metadata.occurred_at,
        subject=key,
        datacontenttype="application/json",
        partitionkey=key,
        sequence=str(stored.position),
        correlationid=metadata.correlation_id,
        causationid=metadata.causation_id,
        actor=metadata.actor,
        traceparent=metadata.traceparent,
    )
    return Message(event_id, key, _encode(event), CONTENT)


def unpacked(body: bytes) -> CloudEvent:
    """Read a message, or raise `UndecodableEvent` saying what it is not."""
    try:
        event = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableEvent(f"the message is no CloudEvent in JSON: {error}. It begins {body[:120]!r}") from error
    if event.specversion != "1.0" or not (event.id and event.source and event.type):
        raise UndecodableEvent(
            f"the message is no CloudEvent of version 1.0 with an id, source and type. It begins {body[:120]!r}"
        )
    if event.time is not None and event.time.utcoffset() is None:
        raise UndecodableEvent(f"the time of the message, {event.time}, has no zone")
    return event
