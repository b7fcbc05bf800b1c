"""What an event takes along to another log: its metadata, and when it was first recorded.

`recorded_at` is the store's own, so the one of the old log becomes `occurred_at` where none was given, and stays in
`extra` under a name of its own. What has moved once is not changed by moving again.
"""

from typing import Any

import msgspec
from msgspec import Raw

from refold.model.record import Metadata, StoredEvent

FIRST = "first_recorded_at"
"""In `extra` of an event that has moved: when it was recorded in the first log that had it."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Raw]).decode


def moved(stored: StoredEvent) -> bytes:
    """Return the metadata of an event in the log that it moves to; as it is if it is not what Refold writes."""
    fields, extra = _parts(stored.metadata)
    if fields is None or extra is None or FIRST in extra:
        return stored.metadata
    recorded_at = Raw(_encode(stored.recorded_at))
    fields.setdefault("occurred_at", recorded_at)
    fields["extra"] = Raw(_encode(extra | {FIRST: recorded_at}))
    return _encode({name: fields[name] for name in (*Metadata.__struct_fields__, *fields) if name in fields})


def numbered(metadata: bytes, number: int) -> bytes:
    """Return the metadata of one of several events that an event has become: all but the first get ids of their own."""
    fields, _ = _parts(metadata)
    if number == 0 or not fields or "event_id" not in fields:
        return metadata
    event_id: Any = msgspec.json.decode(fields["event_id"])
    return _encode(fields | {"event_id": Raw(_encode(f"{event_id}.{number}"))})


def _parts(metadata: bytes) -> tuple[dict[str, Raw] | None, dict[str, Raw] | None]:
    """Return the fields of metadata, and those of its `extra`; None for what is no object of JSON."""
    try:
        fields = _decode(metadata or b"{}")
        return fields, _decode(fields.get("extra", b"{}"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, None
