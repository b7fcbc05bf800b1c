"""Parquet: the command of an event has columns of its own, and exports from before that are read."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from refold.model.record import Metadata, StoredEvent
from refold.model.schema import encode_metadata
from refold.move.parquet import Parquet

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = Metadata("e-1", "c", "c", "ann")
NEW = Metadata("e-2", "c", "e-1", "ann", traceparent="00-1-2-01", command="Pay", by="process bill/1", asked="9a")


def stored(position: int, metadata: Metadata) -> StoredEvent:
    return StoredEvent(position, NOON, "Paid", 1, ("order:o-1",), b"{}", encode_metadata(metadata))


def test_what_is_known_of_a_command_has_columns(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    Parquet().write(path, [stored(1, OLD), stored(2, NEW)])
    assert list(Parquet().read(path)) == [stored(1, OLD), stored(2, NEW)]
    frame = pl.read_parquet(path)
    columns = frame.select("command", "by", "asked", "metadata_bytes").rows()
    assert columns == [("", "", "", None), ("Pay", "process bill/1", "9a", None)]


def test_an_export_from_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    Parquet().write(path, [stored(1, OLD)])
    pl.read_parquet(path).drop("traceparent", "command", "by", "asked").write_parquet(path)
    assert list(Parquet().read(path)) == [stored(1, OLD)]
