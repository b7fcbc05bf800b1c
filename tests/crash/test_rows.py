"""`kill -9` at random moments and inside commits, on both databases, one process or two at once.

Whatever is found afterwards: each row is what its events add up to, so no update is lost and nothing is half done; and
what was acknowledged is there, once. `REFOLD_KILLS=100 REFOLD_SEED=1 python -m pytest tests/crash/test_rows.py`.
"""

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from refold.testing.postgres import PostgresServer
from tests.crash.rower import ACCOUNTS
from tests.runtime.bank import Balance, Closed, bank

KILLS = int(os.environ.get("REFOLD_KILLS", "5"))
SEED = int(os.environ.get("REFOLD_SEED") or Random().randrange(1 << 32))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=False) as started:
        yield started


def kill_some(url: str, run: str, random: Random) -> set[str]:
    """Run one process, or two at once, until they are killed; return the ids of what was told to be done."""
    workers: list[subprocess.Popen[str]] = []
    for number in range(random.choice((1, 2))):
        commits = random.choice(("", str(random.randrange(3, 40)))) if url.startswith("sqlite") else ""
        command = [sys.executable, "-m", "tests.crash.rower", url, f"{run}.{number}", *([commits] if commits else ())]
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    told: set[str] = set()
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "open\n"
        threading.Timer(random.uniform(0.05, 0.6), worker.kill).start()
    for worker in workers:
        output, _ = worker.communicate()
        assert worker.returncode == -9, f"a worker ended by itself: {worker.returncode}"
        told.update(line.strip() for line in output.splitlines(keepends=True) if line.endswith("\n"))
    return told


@pytest.mark.timeout(60 + KILLS * 5)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_rows_are_their_events_through_kills(tmp_path: Path, server: PostgresServer, database: str) -> None:
    print(f"REFOLD_KILLS={KILLS} REFOLD_SEED={SEED} python -m pytest {__file__} -k {database}")
    random = Random(SEED)
    url = f"sqlite:///{tmp_path}/log.db" if database == "sqlite" else server.url(f"rows{SEED}")
    for kill in range(KILLS):
        told = kill_some(url, f"{SEED}.{kill}", random)
        if database == "postgres":
            await asyncio.sleep(0.3)  # what a killed process has sent last may still be done
        async with bank(url, rows=[Balance]).passive() as app:
            assert await app.operations.differences("Balance") == []
            of_command: Counter[str] = Counter()
            async for each in app.events():
                of_command[each.metadata.causation_id] += 1
            assert told <= of_command.keys()
            for own_id, events in of_command.items():
                assert events == (2 if own_id.endswith("/r") else 1), f"{own_id} is there {events} times"
    async with bank(url, rows=[Balance]) as rows, bank(url, decisions=[]) as events:
        assert [await rows.load(Balance(each)) for each in ACCOUNTS] == [
            await events.load(Balance(each)) for each in ACCOUNTS
        ]
        await rows.record(Closed(tuple(ACCOUNTS)))
        assert await rows.view(Balance).count({"closed": True}) == len(ACCOUNTS)
        head = await rows.head()
    assert head > 10 * KILLS, "hardly anything was written: the test says little"
    print(f"{KILLS} kills, {head:,} events kept")
