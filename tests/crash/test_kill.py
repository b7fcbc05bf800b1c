"""`kill -9` at random moments, inside commits and at any write to the disk: nothing acknowledged is lost or torn.

`REFOLD_KILLS=200 REFOLD_SEED=1 python -m pytest tests/crash/test_kill.py` repeats a run.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import apsw
import pytest

from refold.store.sqlite import SqliteStore
from refold.testing.crash import Ack, audit

KILLS = int(os.environ.get("REFOLD_KILLS", "8"))
SEED = int(os.environ.get("REFOLD_SEED") or Random().randrange(1 << 32))
SAME_FILE = 6
"""So many killed writers follow one another on one file."""
WRITER = Path(__file__).with_name("writer.py")


def killed_writer(path: Path, run: str, random: Random) -> list[Ack]:
    """Run a writer until it is killed, and return what it was told is durable."""
    fault = random.choice(("", "", "commit", "disk"))
    with subprocess.Popen([sys.executable, WRITER, path, run, fault], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        first = writer.stdout.readline()
        assert first == "open\n" or fault == "disk", "the writer could not begin"
        killer = threading.Timer(random.uniform(0, 0.3) if not fault else 10, writer.kill)
        killer.start()
        lines = writer.stdout.readlines()
        killer.cancel()
    assert writer.returncode == -9, f"the writer ended by itself: {writer.returncode}"
    return [Ack.parse(line) for line in lines if line.endswith("\n")]


@pytest.mark.timeout(30 + KILLS * 5)
async def test_nothing_acknowledged_is_lost_and_nothing_is_torn(tmp_path: Path) -> None:
    print(f"REFOLD_KILLS={KILLS} REFOLD_SEED={SEED} python -m pytest {__file__}")
    random = Random(SEED)
    acks: list[Ack] = []
    head = kept = 0
    for kill in range(KILLS):
        path = tmp_path / f"{kill // SAME_FILE}.db"
        if kill % SAME_FILE == 0:
            kept, acks = kept + head, []
        acks += killed_writer(path, f"{SEED}.{kill}", random)
        store = await SqliteStore.open(path)
        head = await audit(store, acks)
        await store.close()
        assert apsw.Connection(str(path)).pragma("integrity_check") == "ok"
    assert kept + head > 100 * KILLS, "hardly anything was written: the test says little"
    print(f"{KILLS} kills, {kept + head:,} events kept")
