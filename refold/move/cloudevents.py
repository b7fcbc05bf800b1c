"""Events as CloudEvents 1.0 in JSON, the structured form, one a line.

Source: https://github.com/cloudevents/spec, version 1.0.2. `sequence` is one of its documented extensions; all other
names beyond its own are ours. What an event's metadata says is spread over them; where they do not make the same
bytes again, it is in `metadata`, too.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from refold.model.record import StoredEvent
from refold.move.columns import Columns, columns_of, metadata_of
from refold.move.jsonl import line_of, raw_of, read_lines, write_lines

_encode = msgspec.json.Encoder().encode


class Line(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An event as a line has it."""

    specversion: str
    id: str
    source: str
    type: str
    """`OrderPlaced.v2`: the name and version under which it is stored."""
    time: datetime
    recordedat: datetime
    sequence: str
    """The position."""
    subject: str = ""
    """What it is about first of all: its first tag."""
    datacontenttype: str = ""
    tags: str = "[]"
    """A list, as JSON."""
    correlationid: str = ""
    causationid: str = ""
    actor: str = ""
    extra: str = ""
    """An object, as JSON."""
    traceparent: str = ""
    command: str = ""
    by: str = ""
    asked: str = ""
    data: Raw | UnsetType = UNSET
    data_base64: bytes | None = None
    metadata: bytes | None = None


_decode = msgspec.json.Decoder(Line).decode
_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class CloudEvents:
    """Events as CloudEvents, of one source."""

    suffix = ".jsonl"
    grows = True

    def __init__(self, source: str) -> None:
        self._source = source or "refold"

    def write(self, path: Path, events: Iterable[StoredEvent]) -> None:
        """Add events to a file; see `Form`."""
        write_lines(path, (self._line(event) for event in events))

    def read(self, path: Path) -> Iterator[StoredEvent]:
        """Read the events of a file; see `Form`."""
        return read_lines(path, self._parse)

    def _line(self, event: StoredEvent) -> bytes:
        ways = [(True, False), (True, True), (False, False), (False, True)]
        return line_of(event, [partial(self._way, event, *way) for way in ways], self._parse)

    def _way(self, event: StoredEvent, inlined: bool, whole: bool) -> bytes:
        columns = columns_of(event.metadata)
        return _encode(
            Line(
                specversion="1.0",
                id=columns.event_id or f"{event.position}",
                source=self._source,
                type=f"{event.type}.v{event.version}",
                time=columns.occurred_at or event.recorded_at,
                recordedat=event.recorded_at,
                sequence=str(event.position),
                subject=event.tags[0] if event.tags else "",
                datacontenttype="application/json" if inlined else "application/octet-stream",
                tags=_encode(event.tags).decode(),
                correlationid=columns.correlation_id,
                causationid=columns.causation_id,
                actor=columns.actor,
                extra=columns.extra,
                traceparent=columns.traceparent,
                command=columns.command,
                by=columns.by,
                asked=columns.asked,
                data=Raw(event.data) if inlined and event.data else UNSET,
                data_base64=None if inlined else event.data,
                metadata=event.metadata if whole else None,
            )
        )

    def _parse(self, line: bytes) -> StoredEvent:
        found = _decode(line)
        name, _, version = found.type.rpartition(".v")
        position, metadata = int(found.sequence), found.metadata
        if metadata is None:
            metadata = metadata_of(
                Columns(
                    event_id="" if found.id == found.sequence else found.id,
                    correlation_id=found.correlationid,
                    causation_id=found.causationid,
                    actor=found.actor,
                    occurred_at=None if found.time == found.recordedat else found.time,
                    extra=found.extra,
                    traceparent=found.traceparent,
                    command=found.command,
                    by=found.by,
                    asked=found.asked,
                )
            )
        data = raw_of(found.data, found.data_base64)
        return StoredEvent(position, found.recordedat, name, int(version), _tags(found.tags), data, metadata)
