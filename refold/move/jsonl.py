"""Events as lines of JSON, as `refold log read --json` shows them: data and metadata stand in the line as they are.

Bytes that a line cannot hold so, because they are no JSON, no UTF-8, or have a line end, are in it as base64.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from refold.errors import StoreDamaged, StoreError
from refold.model.record import StoredEvent

_encode = msgspec.json.Encoder().encode


class Line(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An event as a line has it."""

    position: int
    recorded_at: datetime
    type: str
    version: int
    tags: tuple[str, ...]
    data: Raw | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    data_base64: bytes | None = None
    metadata_base64: bytes | None = None


_decode = msgspec.json.Decoder(Line).decode


class Lines:
    """Events as lines of JSON."""

    suffix = ".jsonl"
    grows = True

    def write(self, path: Path, events: Iterable[StoredEvent]) -> None:
        """Add events to a file; see `Form`."""
        write_lines(path, (self._line(event) for event in events))

    def read(self, path: Path) -> Iterator[StoredEvent]:
        """Read the events of a file; see `Form`."""
        return read_lines(path, _parse)

    def _line(self, event: StoredEvent) -> bytes:
        return line_of(event, (lambda: _inlined(event), lambda: _escaped(event)), _parse)


def line_of(event: StoredEvent, ways: Iterable[Callable[[], bytes]], parse: Callable[[bytes], StoredEvent]) -> bytes:
    """Return an event as a line, in the first of some ways from which it comes back as it is."""
    for way in ways:
        try:
            line = way()
            line.decode()
            if b"\n" not in line and parse(line) == event:
                return line
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    raise StoreError(f"the event at position {event.position}, {event.type}, cannot be written so that it comes back")


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Add lines to a file."""
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in lines)


def read_lines(path: Path, parse: Callable[[bytes], StoredEvent]) -> Iterator[StoredEvent]:
    """Read the events of a file, one a line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                event = parse(line.removesuffix(b"\n"))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise StoreDamaged(f"{path}, line {number}, is no event: {error}") from error
            yield event


def _inlined(event: StoredEvent) -> bytes:
    return _encode(_line(event, data=_raw(event.data), metadata=_raw(event.metadata)))


def _escaped(event: StoredEvent) -> bytes:
    return _encode(_line(event, data_base64=event.data, metadata_base64=event.metadata))


def _line(event: StoredEvent, **parts: Any) -> Line:
    return Line(event.position, event.recorded_at, event.type, event.version, event.tags, **parts)


def _parse(line: bytes) -> StoredEvent:
    found = _decode(line)
    data = raw_of(found.data, found.data_base64)
    metadata = raw_of(found.metadata, found.metadata_base64)
    return StoredEvent(found.position, found.recorded_at, found.type, found.version, found.tags, data, metadata)


def raw_of(inlined: Raw | UnsetType, escaped: bytes | None) -> bytes:
    """Return bytes that stand in a line as they are, as base64, or not at all if there are none."""
    if escaped is not None:
        return escaped
    return b"" if inlined is UNSET else bytes(inlined)


def _raw(data: bytes) -> Raw | UnsetType:
    return Raw(data) if data else UNSET
