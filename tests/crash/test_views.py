"""`kill -9` at random moments: rows stay a fold of the log, and each command of a process is done once.

`REFOLD_KILLS=200 REFOLD_SEED=1 python -m pytest tests/crash/test_views.py` repeats a run.
"""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from refold import Event, Recorded, State
from refold.store.sqlite import SqliteStore
from refold.view.api import find_of, table_of
from refold.view.sqlite import SqliteViews
from tests.crash.asking import PROJECTIONS, Answered, Asked, TopicSummary, Total, VoiceSummary, asking_app

KILLS = int(os.environ.get("REFOLD_KILLS", "12"))
SEED = int(os.environ.get("REFOLD_SEED") or Random().randrange(1 << 32))
SAME_FILE = 6
"""So many kills follow one another on one file."""


def start(path: Path, run: str, random: Random) -> subprocess.Popen[str]:
    commits = random.choice(["", "", str(random.randrange(40))])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.viewer", path, run, commits], stdout=subprocess.PIPE, text=True
    )


def kill_some(path: Path, run: str, random: Random) -> None:
    """Run one worker, or two at once, and kill them."""
    workers = [start(path, f"{run}.{number}", random) for number in range(random.choice((1, 1, 2)))]
    for worker in workers:
        assert worker.stdout
        worker.stdout.readline()
        threading.Timer(random.uniform(0, 0.4), worker.kill).start()
    for worker in workers:
        worker.communicate()
        assert worker.returncode == -9, f"a worker ended by itself: {worker.returncode}"


def fold(history: Iterable[Recorded[Event]], upto: dict[str, int]) -> dict[type[State], dict[Any, Any]]:
    """Fold the log by hand, for each view up to its checkpoint."""
    rows: dict[type[State], dict[Any, Any]] = {cls: {} for cls in PROJECTIONS}

    def add(cls: type[State], *key: Any, each: Recorded[Event]) -> None:
        if each.position <= upto[cls.__name__]:
            wants = (each.event, each.metadata) if cls is Total else (each.event,)
            rows[cls][key] = (rows[cls].get(key) or cls(*key)).evolve(*wants)  # type: ignore[attr-defined]

    for each in history:
        event = each.event
        assert isinstance(event, Asked | Answered)
        add(TopicSummary, event.topic, each=each)
        add(Total, each=each)
        for voice in event.voices if isinstance(event, Asked) else ():
            add(VoiceSummary, voice, each=each)
    return rows


async def read(store: SqliteStore) -> list[Recorded[Event]]:
    app = asking_app(store)
    return [app.schema.recorded(stored) async for page in store.read() for stored in page]


async def check_rows(store: SqliteStore) -> None:
    """Every row is a fold of the log up to the checkpoint of its view, and nothing is missing."""
    views = SqliteViews(store.database)
    checkpoints = {cls.__name__: await views.checkpoint(cls.__name__) for cls in PROJECTIONS}
    expected = fold(await read(store), checkpoints)
    for cls in PROJECTIONS:
        table = table_of(cls)
        await views.open(table)
        kept = {table.key_of(row): row for row in await views.find(table, find_of(table, None, (), None, 0))}
        assert kept == expected[cls], f"{cls.__name__} at {checkpoints[cls.__name__]}"


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
            case _:
                raise AssertionError(each)
    assert answers == {topic: some for topic, some in expected.items() if some}


@pytest.mark.timeout(60 + KILLS * 5)
async def test_views_and_processes_survive_kills(tmp_path: Path) -> None:
    print(f"REFOLD_KILLS={KILLS} REFOLD_SEED={SEED} python -m pytest {__file__}")
    random = Random(SEED)
    total = 0
    for kill in range(KILLS):
        path = tmp_path / f"{kill // SAME_FILE}.db"
        kill_some(path, f"{SEED}.{kill}", random)
        store = await SqliteStore.open(path)
        await check_rows(store)
        if kill % SAME_FILE == SAME_FILE - 1 or kill == KILLS - 1:
            async with asking_app(store) as app:
                await app.settle()
                history = [each async for each in app.events()]
            await check_rows(store)
            check_answers(history)
            total += len(history)
        await store.close()
    assert total > 10 * KILLS, "hardly anything was written: the test says little"
    print(f"{KILLS} kills, {total:,} events kept")
