"""`kill -9` at random moments, on both databases: in catch-up, live and in a rebuild.

Whatever is found afterwards: the rows of every version are a fold of the log up to its checkpoint, row for row, those
of the past included, and each command of a process is done once. `REFOLD_KILLS=100 REFOLD_SEED=1 python -m pytest
tests/crash/test_views.py` repeats a run.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest

from refold import App, Event, OperationFailed, OperatorActed, Recorded, State
from refold.runtime.books import Version
from refold.store.open import open_store
from refold.testing.postgres import PostgresServer
from refold.view.find import Find
from refold.view.table import LARGEST, Dated
from tests.crash.asking import Answered, Asked, TopicSummary, Total, VoiceSummary, Waiting, asking_app

KILLS = int(os.environ.get("REFOLD_KILLS", "6"))
SEED = int(os.environ.get("REFOLD_SEED") or Random().randrange(1 << 32))
SAME_LOG = 6
"""So many kills follow one another on one log."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=False) as started:
        yield started


def kill_some(url: str, run: str, generation: int, random: Random) -> str:
    """Run one worker, or two at once, and kill them with all that they have started."""
    modes = [random.choice(("live", "live", "catch-up", "rebuild")) for _ in range(random.choice((1, 1, 2)))]
    workers: list[subprocess.Popen[str]] = []
    begun = time.monotonic()
    for number, mode in enumerate(modes):
        commits = random.choice(["", "", str(random.randrange(40))]) if mode == "live" else ""
        command = ["-m", "tests.crash.viewer", url, f"{run}.{number}", mode, str(generation), commits]
        workers.append(
            subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, start_new_session=True)
        )
    for worker in workers:
        assert worker.stdout
        worker.stdout.readline()
        # As a share of the time that starting took: that says how busy the machine is.
        spans = random.uniform(0, 1.2 if "rebuild" not in modes else 3)
        threading.Timer(spans * (time.monotonic() - begun), kill, [worker.pid]).start()
    for worker in workers:
        worker.communicate()
    for worker in workers:
        assert worker.returncode == -9, f"a worker ended by itself: {worker.returncode}"
    return "+".join(modes)


def kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def fold(history: Iterable[Recorded[Event]], name: str, position: Any) -> dict[tuple[Any, ...], Any]:
    """Fold the log by hand into the rows of a projection; `position` says of a key how far it has come."""
    rows: dict[tuple[Any, ...], Any] = {}

    def add(cls: type[State], *key: Any) -> None:
        if each.position <= position(key):
            wants = (each.event, each.metadata) if cls is Total else (each.event,)
            rows[key] = (rows.get(key) or cls(*key)).evolve(*wants)  # type: ignore[attr-defined]

    for each in history:
        event = each.event
        if not isinstance(event, Asked | Answered):  # what operators did
            continue
        match name:
            case "TopicSummary":
                add(TopicSummary, event.topic)
            case "Total":
                add(Total)
            case "WaitingTopics" if each.position <= position(()):
                before = rows.pop((event.topic,), Waiting(event.topic)).parts
                parts = before + (event.number % 3 if isinstance(event, Asked) else -1)
                rows |= {(event.topic,): Waiting(event.topic, parts)} if parts else {}
            case "VoiceSummary" if isinstance(event, Asked):
                for voice in dict.fromkeys(event.voices):
                    if each.position > position((voice,)):
                        continue
                    last = rows.pop((voice, LARGEST), None)
                    if last is not None:
                        rows[voice, each.position] = Dated(last.row, last.valid_from, each.position)
                    row = last.row if last else VoiceSummary(voice)
                    rows[voice, LARGEST] = Dated(row.evolve(event), each.position, LARGEST)
    return rows


async def check_rows(app: App, history: list[Recorded[Event]], *, whole: bool) -> int:
    """Every row of every version is a fold of the log up to the checkpoint of its key; the read ones to the end."""
    versions = 0
    for upkeep in app._now.upkeeps.values():
        definition, books = upkeep.definition, upkeep.versions.books
        for version in await upkeep.versions.all():
            names = version.subscriptions()
            found = await books.checkpoints(names)
            stands = [found[name].position if name in found else 0 for name in names]
            [table] = definition.tables(version.version)
            await books.views.create([table])  # it may have been killed between its row and its table
            rows = {table.key_of(row): row for row in await books.views.find(table, Find())}
            assert rows == fold(history, definition.name, lambda key, v=version, s=stands: s[part(v, key)]), version  # type: ignore[misc]
            if whole and version.status == "active":  # what is saved may be behind over events of others
                assert {upkeep.subscriptions[name].position for name in names} == {
                    history[-1].position if history else 0
                }
            versions += 1
    return versions


def part(version: Version, key: tuple[Any, ...]) -> int:
    """Return which of the parts of a version keeps a key."""
    name = {"TopicSummary": "topic", "VoiceSummary": "voice"}.get(version.projection)
    return crc32(f"{name}:{key[0]}".encode()) % version.parts if name and version.parts > 1 else 0


def check_answers(history: list[Recorded[Event]]) -> None:
    """Each question was answered once, part by part, by what was known at it, and topic by topic in order."""
    asked: Counter[str] = Counter()
    expected: dict[str, list[Answered]] = {}
    answers: dict[str, list[Answered]] = {}
    for each in history:
        match each.event:
            case Asked() as event:
                asked[event.topic] += 1
                parts = range(event.number % 3)
                expected.setdefault(event.topic, []).extend(
                    Answered(event.topic, event.number, part, asked[event.topic]) for part in parts
                )
            case Answered() as event:
                answers.setdefault(event.topic, []).append(event)
            case OperatorActed() | OperationFailed():
                pass
            case _:
                raise AssertionError(each)
    assert answers == {topic: some for topic, some in expected.items() if some}


@pytest.mark.timeout(90 + KILLS * 10)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_views_and_processes_survive_kills(tmp_path: Path, server: PostgresServer, database: str) -> None:
    print(f"REFOLD_KILLS={KILLS} REFOLD_SEED={SEED} python -m pytest {__file__} -k {database}")
    random = Random(SEED)
    total = checked = 0
    modes: Counter[str] = Counter()
    for kill in range(KILLS):
        log = kill // SAME_LOG
        url = f"sqlite:///{tmp_path}/{log}.db" if database == "sqlite" else server.url(f"views{SEED}_{log}")
        generation = 1 + (kill % SAME_LOG) // 2
        modes[kill_some(url, f"{SEED}.{kill}", generation, random)] += 1
        if database == "postgres":
            await asyncio.sleep(0.3)  # what a killed process has sent last may still be done
        store = await open_store(url)
        async with asking_app(store, generation).passive() as app:
            await app._now.books[0].open()
            checked += await check_rows(app, [each async for each in app.events()], whole=False)
        if kill % SAME_LOG == SAME_LOG - 1 or kill == KILLS - 1:
            async with asking_app(store, generation) as app:
                await app.settle()
                history = [each async for each in app.events()]
                await check_rows(app, history, whole=True)
            check_answers(history)
            total += len(history)
        await store.close()
    assert total > 10 * KILLS, "hardly anything was written: the test says little"
    print(f"{KILLS} kills ({dict(modes)}), {total:,} events kept, {checked} versions of views checked row for row")
