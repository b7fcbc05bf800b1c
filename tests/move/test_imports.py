"""Imports: each event once, however often and wherever it is interrupted; from any store into any other."""

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import pytest

from refold.errors import StoreError
from refold.model.record import NewEvent, StoredEvent
from refold.move import imports
from refold.move.exports import export
from refold.move.form import FormName
from refold.move.imports import import_
from refold.move.positions import read_positions
from refold.store.api import Appended, Conditions, Store
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.testing.clock import Clock
from refold.testing.postgres import PostgresServer
from tests.move.logs import FORMS, events_of, log_of, numbered, settled

MOVER = Path(__file__).with_name("mover.py")


class Failing(MemoryStore):
    """Fails at one of its appends, before or after it is done."""

    def __init__(self, at: int, *, done: bool) -> None:
        self.clock = Clock(datetime(2026, 6, 1, tzinfo=UTC))
        super().__init__(clock=self.clock)
        self.at, self.done = at, done

    async def append(self, events: object, condition: Conditions = None, *, append_id: str | None = None) -> Appended:
        self.at -= 1
        if self.at == 0 and not self.done:
            raise StoreError("the connection is lost")
        result = await super().append(events, condition, append_id=append_id)  # type: ignore[arg-type]
        if self.at == 0:
            raise StoreError("the connection is lost")
        return result


def meaning(events: list[StoredEvent]) -> list[tuple[object, ...]]:
    return [settled(event) for event in events]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "BATCH_EVENTS", 10)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("days", [0, 8], ids=["soon", "when its ids are forgotten"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 7, 10])
@pytest.mark.parametrize("others", [0, 5], ids=["alone", "with others"])
async def test_an_import_that_failed_goes_on(tmp_path: Path, at: int, done: bool, days: int, others: int) -> None:
    source = await log_of([numbered(97)])
    await export(source, tmp_path / "log", per_file=35)
    target = Failing(at, done=done)
    if others:
        await MemoryStore.append(target, numbered(others))  # much like those that come
    with pytest.raises(StoreError, match="connection is lost"):
        await import_(tmp_path / "log", target)
    if others:
        await target.append([NewEvent("Other")])
    target.clock.set(target.clock() + timedelta(days=days))
    result = await import_(tmp_path / "log", target)
    there = sum(([10, 10, 10, 5] * 2 + [10, 10, 7])[: at if done else at - 1])  # of three files
    assert (result.appended, result.there) == (97 - there, there)
    found = [event for event in await events_of(target) if event.type != "Other"][others:]
    assert meaning(found) == meaning(await events_of(source))
    assert await import_(tmp_path / "log", target) == imports.Imported(
        result.manifest, 0, 97, result.positions, bool(others)
    )
    rows = [*read_positions(tmp_path / "log" / "positions.csv")]
    assert [old for old, _ in rows] == [*range(1, 98)]
    assert [new for _, new in rows] == [event.position for event in found]


async def test_positions_are_the_same_in_an_empty_log_and_the_map_says_where_they_are_not(tmp_path: Path) -> None:
    source, target = await log_of([numbered(20)]), MemoryStore()
    await export(source, tmp_path / "log")
    result = await import_(tmp_path / "log", target)
    assert not result.shifted
    assert [*read_positions(Path(result.positions))] == [(n, n) for n in range(1, 21)]
    other = await log_of([[NewEvent("Before"), NewEvent("Before")]])
    with pytest.raises(StoreError, match="map of other logs"):
        await import_(tmp_path / "log", other)
    result = await import_(tmp_path / "log", other, positions=tmp_path / "map.csv")
    assert (result.there, result.shifted) == (20, True)
    assert [*read_positions(tmp_path / "map.csv")] == [(n, n + 2) for n in range(1, 21)]


async def test_what_looks_like_the_beginning_of_a_batch_is_not_taken_for_it(tmp_path: Path) -> None:
    """Metadata that is not Refold's does not say when an event was first recorded, so two logs may hold equal ones."""
    first, second = NewEvent("A", metadata=b"\xff"), NewEvent("B", metadata=b"\xff")
    await export(await log_of([[first, second]]), tmp_path / "log")
    target = MemoryStore()
    await target.append([first, NewEvent("C"), first])
    await import_(tmp_path / "log", target)
    assert [event.type for event in await events_of(target)] == ["A", "C", "A", "A", "B"]


async def test_what_was_imported_a_moment_ago_is_passed_over_without_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = MemoryStore()
    await export(await log_of([numbered(20)]), tmp_path / "log")
    await import_(tmp_path / "log", target)
    monkeypatch.setattr(target, "read", None)
    assert (await import_(tmp_path / "log", target)).there == 20


async def test_a_log_does_not_take_in_itself(tmp_path: Path) -> None:
    store = await log_of([numbered(20)])
    await export(store, tmp_path / "log")
    with pytest.raises(StoreError, match="it is the one that was exported"):
        await import_(tmp_path / "log", store)
    assert await store.head() == 20


async def test_two_exports_of_one_log_that_share_events_are_two_imports(tmp_path: Path) -> None:
    source, target = await log_of([numbered(20)]), MemoryStore()
    await export(source, tmp_path / "all")
    await export(source, tmp_path / "half", selection=imports.manifest.Selection(after=10))
    await import_(tmp_path / "all", target)
    result = await import_(tmp_path / "half", target)
    assert (result.appended, result.there) == (0, 10)


def note(seen: list[tuple[int, int]], done: int, total: int) -> None:
    seen.append((done, total))


@pytest.mark.parametrize("form", FORMS)
async def test_events_come_through_every_store_and_form(
    tmp_path: Path, postgres: PostgresServer, form: FormName
) -> None:
    source = await log_of([numbered(2_345)])
    before = meaning(await events_of(source))
    last: Store = source
    for number, url in enumerate(
        [f"sqlite:///{tmp_path}/a.db", postgres.url(f"to_{form}"), f"sqlite:///{tmp_path}/b.db"]
    ):
        await export(last, tmp_path / f"{number}", form=form, per_file=1_000)
        await last.close()
        last = await open_store(url)
        seen: list[tuple[int, int]] = []
        await import_(tmp_path / f"{number}", last, moved=partial(note, seen))
        assert seen[-1] == (2_345, 2_345)
        assert meaning(await events_of(last)) == before
    await last.close()


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
@pytest.mark.parametrize("what", ["import", "transform"])
def test_a_killed_move_goes_on(tmp_path: Path, postgres: PostgresServer, database: str, what: str) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    target = f"sqlite:///{tmp_path}/target.db" if database == "sqlite" else postgres.url(f"killed_{what}")

    async def prepare() -> None:
        store = await open_store(source)
        await store.append(numbered(8_000, 50))
        await export(store, tmp_path / "log", per_file=900)
        await store.close()

    asyncio.run(prepare())
    random, kills = Random(f"{database} {what}"), 0
    for _ in range(40):
        arguments = [what, str(tmp_path / "log") if what == "import" else source, target, str(tmp_path / "map.csv")]
        with subprocess.Popen([sys.executable, MOVER, *arguments], stdout=subprocess.PIPE, text=True) as mover:
            assert mover.stdout
            assert mover.stdout.readline() == "open\n"
            if kills < 3:
                killer = threading.Timer(random.uniform(0, 0.15), mover.kill)
                killer.start()
            mover.stdout.read()
        if mover.returncode == 0:
            break
        assert mover.returncode == -9, "the mover ended by itself"
        kills += 1
    assert mover.returncode == 0
    assert kills >= 2, "it was hardly killed: the test says little"

    async def compare() -> None:
        before, after = await open_store(source), await open_store(target)
        assert meaning(await events_of(after)) == meaning(await events_of(before))
        await before.close()
        await after.close()

    asyncio.run(compare())
    assert [*read_positions(tmp_path / "map.csv")] == [(n, n) for n in range(1, 8_001)]
