"""Metadata as columns, and the columns as metadata again."""

from datetime import datetime

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

_encode = msgspec.json.Encoder().encode


class Columns(Struct, frozen=True, omit_defaults=True):
    """The fields of metadata; `extra` is JSON."""

    event_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    actor: str = ""
    occurred_at: datetime | None = None
    extra: str = ""
    traceparent: str = ""
    command: str = ""
    by: str = ""
    asked: str = ""


class _Stored(Struct, frozen=True, omit_defaults=True):
    """Metadata as it is stored."""

    event_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    actor: str = ""
    occurred_at: datetime | None = None
    extra: Raw | UnsetType = UNSET
    traceparent: str = ""
    command: str = ""
    by: str = ""
    asked: str = ""


_decode = msgspec.json.Decoder(_Stored).decode
NONE = Columns()


def columns_of(metadata: bytes) -> Columns:
    """Return metadata as columns; empty ones if it is not what Refold writes."""
    try:
        found = _decode(metadata or b"{}")
        extra = "" if found.extra is UNSET else bytes(found.extra).decode()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NONE
    return Columns(
        found.event_id,
        found.correlation_id,
        found.causation_id,
        found.actor,
        found.occurred_at,
        extra,
        found.traceparent,
        found.command,
        found.by,
        found.asked,
    )


def metadata_of(columns: Columns) -> bytes:
    """Return the metadata that the columns are of, if it was written by Refold; nothing if they are empty."""
    if columns == NONE:
        return b""
    extra = Raw(columns.extra.encode()) if columns.extra else UNSET
    return _encode(
        _Stored(
            columns.event_id,
            columns.correlation_id,
            columns.causation_id,
            columns.actor,
            columns.occurred_at,
            extra,
            columns.traceparent,
            columns.command,
            columns.by,
            columns.asked,
        )
    )
