"""Exports: they hold what the log held when they began, come back as they were, and tell of everything else."""

import json
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from refold.errors import InvalidQuery, NotAStore, StoreDamaged, StoreError, StoreTooNew
from refold.model.record import NewEvent, StoredEvent
from refold.move import exports, manifest
from refold.move.exports import BEGUN, export
from refold.move.form import FormName, open_form
from refold.move.imports import import_, new
from refold.move.manifest import Selection
from refold.move.metadata import FIRST
from refold.store.memory import MemoryStore
from tests.move.logs import FORMS, NOON, events_of, files_of, histories, log_of, numbered, settled


def exported(folder: Path) -> list[StoredEvent]:
    found = manifest.read(folder / manifest.NAME)
    form = open_form(found.form, found.source)
    return [event for file in found.files for event in form.read(folder / file.name)]


@pytest.mark.parametrize("form", FORMS)
@given(history=histories)
@settings(max_examples=25, deadline=None)
async def test_export_import_export_is_the_same_but_for_position_and_recorded_at(
    form: FormName, history: list[list[NewEvent]]
) -> None:
    source = await log_of(history)
    with TemporaryDirectory() as name:
        folder = Path(name)
        await export(source, folder / "1", form=form, per_file=3)
        assert exported(folder / "1") == await events_of(source)
        target = MemoryStore()
        await import_(folder / "1", target)
        await export(target, folder / "2", form=form, per_file=3)
        first, second = exported(folder / "1"), exported(folder / "2")
        assert [settled(event) for event in first] == [settled(event) for event in second]
        again = MemoryStore()
        await import_(folder / "2", again)
        assert [new(event) for event in await events_of(again)] == [new(event) for event in second]


async def test_a_line_shows_data_and_metadata_as_they_are_stored(tmp_path: Path) -> None:
    store = await log_of([[NewEvent("Paid", b'{"total": 1.10}', ("order:1",), 2, b'{"actor":"me"}')]])
    await export(store, tmp_path / "log.jsonl")
    assert (tmp_path / "log.jsonl").read_text() == (
        '{"position":1,"recorded_at":"2026-03-01T12:00:00.123457Z","type":"Paid","version":2,"tags":["order:1"],'
        '"data":{"total": 1.10},"metadata":{"actor":"me"}}\n'
    )


async def test_a_cloud_event_has_what_the_specification_asks_for(tmp_path: Path) -> None:
    store = await log_of([numbered(1)])
    await export(store, tmp_path / "log.jsonl", form="cloudevents", source="sqlite:///shop.db")
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["specversion"] == "1.0"
    assert (line["id"], line["source"], line["type"]) == ("e-1", "sqlite:///shop.db", "Counted.v1")
    assert (line["time"], line["subject"]) == ("2026-03-01T12:00:00.123457Z", "number:1")
    assert line["data"] == {"number": 1, "pad": ""}
    assert all(name.isalnum() and name.islower() for name in line if name != "data_base64")


async def test_a_manifest_says_what_there_is(tmp_path: Path) -> None:
    store = await log_of([numbered(10), [NewEvent("Counted", version=2)]])
    done = await export(store, tmp_path / "log", per_file=4, source="here")
    assert done == manifest.read(tmp_path / "log" / "manifest.json")
    assert [(file.name, file.events, file.first, file.last) for file in done.files] == [
        ("000000000001-000000000004.jsonl", 4, 1, 4),
        ("000000000005-000000000008.jsonl", 4, 5, 8),
        ("000000000009-000000000011.jsonl", 3, 9, 11),
    ]
    assert [(each.type, each.version, each.events) for each in done.types] == [
        ("Counted", 1, 7), ("Counted", 2, 1), ("Third", 1, 3)
    ]  # fmt: skip
    assert (done.events, done.first, done.last, done.head, done.source) == (11, 1, 11, 11, "here")
    assert {*files_of(tmp_path / "log")} == {"manifest.json", *(file.name for file in done.files)}


async def test_only_what_is_selected_is_exported(tmp_path: Path) -> None:
    store = await log_of([numbered(30)])
    selection = Selection(("Third",), ("all:1", "number:6"), after=6, upto=27)
    await export(store, tmp_path / "log", selection=selection)
    assert [event.position for event in exported(tmp_path / "log")] == [27]
    with pytest.raises(InvalidQuery, match="after=-1"):
        await export(store, tmp_path / "other", selection=Selection(after=-1))


async def test_what_is_appended_meanwhile_is_left_out(tmp_path: Path) -> None:
    store = await log_of([numbered(2_500)])
    seen: list[tuple[int, int]] = []

    def moved(done: int, end: int) -> None:
        seen.append((done, end))
        store._events.append(store._events[-1])  # pyright: ignore[reportPrivateUsage]

    done = await export(store, tmp_path / "log", moved=moved)
    assert (done.events, done.head) == (2_500, 2_500)
    assert seen == [(1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]


@pytest.mark.parametrize("form", FORMS)
async def test_a_file_ends_where_it_would_be_too_large(
    tmp_path: Path, form: FormName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "FILE_BYTES", 1_000)
    store = await log_of([numbered(20, 300)])
    done = await export(store, tmp_path / "log", form=form)
    assert {file.events for file in done.files} == {2, 3} or {file.events for file in done.files} == {3, 2}
    assert exported(tmp_path / "log") == await events_of(store)


@pytest.mark.parametrize("form", FORMS)
async def test_an_export_that_did_not_end_goes_on(tmp_path: Path, form: FormName) -> None:
    store = await log_of([numbered(5_000)])
    await export(store, tmp_path / "whole", form=form, per_file=700)

    def fail(done: int, end: int) -> None:
        if done >= 2_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await export(store, tmp_path / "log", form=form, per_file=700, moved=fail)
    assert BEGUN in files_of(tmp_path / "log")
    await store.append(numbered(1))  # it still ends where it was to end
    with pytest.raises(StoreError, match="another export was begun"):
        await export(store, tmp_path / "log", form=form, per_file=701)
    with pytest.raises(StoreError, match="another export was begun"):
        await export(await log_of([numbered(3_000)]), tmp_path / "log", form=form, per_file=700)
    began: list[int] = []
    await export(store, tmp_path / "log", form=form, per_file=700, moved=lambda done, end: began.append(done))
    assert began[0] > 1_400
    assert files_of(tmp_path / "log") == files_of(tmp_path / "whole")


async def test_an_export_is_not_written_over(tmp_path: Path) -> None:
    store = await log_of([numbered(3)])
    for place in (tmp_path / "log", tmp_path / "log.jsonl"):
        await export(store, place)
        with pytest.raises(StoreError, match="is there already"):
            await export(store, place)
    with pytest.raises(InvalidQuery, match="takes a folder"):
        await export(store, tmp_path / "log.parquet", form="parquet")
    with pytest.raises(InvalidQuery, match="there are jsonl, parquet, cloudevents"):
        await export(store, tmp_path / "x", form="csv")  # type: ignore[arg-type]


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    store = await log_of([numbered(3)])
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        await export(store, tmp_path / "file" / "log")


async def damaged(folder: Path, name: str, data: bytes) -> str:
    """Return what an import says of an export in which one file is another; see that it writes nothing."""
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    target = MemoryStore()
    try:
        with pytest.raises((StoreDamaged, StoreTooNew)) as raised:
            await import_(folder, target)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
    assert await target.head() == 0, "part of a damaged export was imported"
    return str(raised.value)


@pytest.mark.parametrize("form", FORMS)
async def test_a_changed_byte_is_found_wherever_it_is(tmp_path: Path, form: FormName) -> None:
    folder = tmp_path / "log"
    await export(await log_of([numbered(12)]), folder, form=form, per_file=5)
    for name, data in files_of(folder).items():
        for place in [*range(0, len(data), 5 if name == "manifest.json" else 50), len(data) - 1]:
            changed = data[place] ^ 1 << place % 8
            assert name in await damaged(folder, name, data[:place] + bytes([changed]) + data[place + 1 :])
        assert "bytes" in await damaged(folder, name, data[:-1]) or name == "manifest.json"
        assert name in await damaged(folder, name, data + b"\n")


async def test_missing_exchanged_and_foreign_files_are_found(tmp_path: Path) -> None:
    folder, target = tmp_path / "log", MemoryStore()
    await export(await log_of([numbered(12)]), folder, per_file=4)
    first, second, third = sorted(folder.glob("*.jsonl"))
    assert "is not in the manifest" in await damaged(folder, "000000000013-000000000016.jsonl", third.read_bytes())
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    with pytest.raises(StoreDamaged, match="not as it was written"):
        await import_(folder, target)
    second.rename(tmp_path / "aside")
    with pytest.raises(StoreDamaged, match=rf"{second.name} is missing|not as it was written"):
        await import_(folder, target)
    (folder / "manifest.json").unlink()
    with pytest.raises(NotAStore, match=r"manifest\.json is missing"):
        await import_(folder, target)
    assert await target.head() == 0


async def test_a_manifest_with_a_right_hash_is_not_trusted_further_than_that(tmp_path: Path) -> None:
    store, target = await log_of([numbered(12)]), MemoryStore()
    done = await export(store, tmp_path / "log", per_file=4)
    first, second, third = done.files
    (tmp_path / "outside.jsonl").write_bytes((tmp_path / "log" / first.name).read_bytes())

    def changed(**changes: object) -> None:
        manifest.write(tmp_path / "log" / "manifest.json", manifest.replace(done, **changes))

    outside = manifest.replace(first, name="../outside.jsonl")
    for files, says in [
        ((outside, second, third), "not in its folder"),
        ((second, first, third), "not in the order"),
        ((first, first, second, third), "not in the order"),
    ]:
        changed(files=files)
        with pytest.raises(StoreDamaged, match=says):
            await import_(tmp_path / "log", target)
    changed(format=2)
    with pytest.raises(StoreTooNew, match="newer Refold"):
        await import_(tmp_path / "log", target)
    assert await target.head() == 0


async def test_what_was_recorded_then_is_known_after_the_move(tmp_path: Path) -> None:
    yesterday = NOON - timedelta(days=1)
    given_time = json.dumps({"occurred_at": yesterday.isoformat()}).encode()
    store = await log_of([[NewEvent("A", metadata=given_time), NewEvent("B"), NewEvent("C", metadata=b"\xff")]])
    await export(store, tmp_path / "log")
    target = MemoryStore()
    await import_(tmp_path / "log", target)
    first, second, third = await events_of(target)
    recorded = "2026-03-01T12:00:00.123457Z"
    assert json.loads(first.metadata) == {"occurred_at": yesterday.isoformat(), "extra": {FIRST: recorded}}
    assert json.loads(second.metadata) == {"occurred_at": recorded, "extra": {FIRST: recorded}}
    assert third.metadata == b"\xff"
    assert first.recorded_at.year >= 2026
    assert first.recorded_at > NOON
