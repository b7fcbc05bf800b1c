"""Events as Parquet files, a column for each part of them, for other tools to read and for an import.

`data` and `extra` are the JSON as it is stored; `data_bytes` has data that is no text. `metadata_bytes` is there where
the columns do not make the same metadata again: times have a zone, which a column does not keep.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

from refold.errors import StoreDamaged, StoreError, WiringError
from refold.model.record import StoredEvent
from refold.move.columns import Columns, columns_of, metadata_of

try:
    import polars as pl
except ModuleNotFoundError as error:
    raise WiringError(f"Parquet needs Polars ({error}): pip install refold[analytics]") from None

_TIME = pl.Datetime("us", "UTC")
_SCHEMA: dict[str, Any] = {
    "position": pl.Int64,
    "recorded_at": _TIME,
    "occurred_at": _TIME,
    "type": pl.String,
    "version": pl.Int64,
    "tags": pl.List(pl.String),
    "event_id": pl.String,
    "correlation_id": pl.String,
    "causation_id": pl.String,
    "actor": pl.String,
    "extra": pl.String,
    "data": pl.String,
    "data_bytes": pl.Binary,
    "metadata_bytes": pl.Binary,
    "traceparent": pl.String,
    "command": pl.String,
    "by": pl.String,
    "asked": pl.String,
}
_ADDED = {name: pl.lit("").alias(name) for name in ("traceparent", "command", "by", "asked")}
"""What earlier exports do not have."""


class Parquet:
    """Events as rows of Parquet files."""

    suffix = ".parquet"
    grows = False

    def write(self, path: Path, events: Iterable[StoredEvent]) -> None:
        """Write the events of a file; see `Form`."""
        written = list(events)
        frame = pl.DataFrame([_row(event) for event in written], schema=_SCHEMA, orient="row")
        frame.write_parquet(path, compression="zstd")
        for event, again in zip(written, self.read(path), strict=True):
            if event != again:
                raise StoreError(f"the event at position {event.position}, {event.type}, does not come back as it is")

    def read(self, path: Path) -> Iterator[StoredEvent]:
        """Read the events of a file; see `Form`."""
        try:
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
            frame = frame.with_columns(each for name, each in _ADDED.items() if name not in frame.columns)
            if dict(frame.schema) != _SCHEMA:
                raise StoreDamaged(f"{path} does not have the columns of exported events")
            for row in frame.iter_rows():
                yield _event(*row)
        except pl.exceptions.PolarsError as error:
            raise StoreDamaged(f"{path} holds no events: {error}") from error


def _row(event: StoredEvent) -> tuple[Any, ...]:
    columns = columns_of(event.metadata)
    try:
        data, data_bytes = event.data.decode(), None
    except UnicodeDecodeError:
        data, data_bytes = None, event.data
    occurred_at = columns.occurred_at
    if occurred_at is not None and occurred_at.utcoffset() is None:
        occurred_at = occurred_at.replace(tzinfo=UTC)
    row = (
        event.position,
        event.recorded_at,
        occurred_at,
        event.type,
        event.version,
        event.tags,
        columns.event_id,
        columns.correlation_id,
        columns.causation_id,
        columns.actor,
        columns.extra,
        data,
        data_bytes,
    )
    more = (columns.traceparent, columns.command, columns.by, columns.asked)
    return (*row, None if _event(*row, None, *more) == event else event.metadata, *more)


def _event(
    position: int,
    recorded_at: Any,
    occurred_at: Any,
    name: str,
    version: int,
    tags: Iterable[str],
    event_id: str,
    correlation_id: str,
    causation_id: str,
    actor: str,
    extra: str,
    data: str | None,
    data_bytes: bytes | None,
    metadata: bytes | None,
    *more: str,
) -> StoredEvent:
    if metadata is None:
        when = None if occurred_at is None else occurred_at.astimezone(UTC)
        metadata = metadata_of(Columns(event_id, correlation_id, causation_id, actor, when, extra, *more))
    recorded_at = recorded_at.astimezone(UTC)
    raw = (data_bytes or b"") if data is None else data.encode()
    return StoredEvent(position, recorded_at, name, version, tuple(tags), raw, metadata)
