"""Power cuts at any step of a life of the store, simulated: what was acknowledged is there, and no file is corrupt.

`REFOLD_IMAGES=20000 REFOLD_SEED=1 python -m pytest tests/crash/test_power.py` repeats a run.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import apsw
import msgspec
import pytest
from msgspec import Struct

from refold.store.sqlite import SqliteStore, database, opening
from refold.testing.crash import audit, batch_of, write
from refold.testing.power import Image, Name, RecordingDisk, Step, Sync, SyncFolder, Write, images

IMAGES = int(os.environ.get("REFOLD_IMAGES", "2000"))
SEED = int(os.environ.get("REFOLD_SEED") or Random().randrange(1 << 32))
LIVES = 4
"""So many recordings the images are taken from."""
REOPENED = 50
"""One image of so many is also opened and written to as a store."""
TAGS = 3
"""So many has each event of `batch_of`."""
numbers = count()
pytestmark = pytest.mark.timeout(60 + IMAGES / 50)


class Part(Struct):
    """What an event of `batch_of` says."""

    index: int
    of: int


decode = msgspec.json.Decoder(Part).decode


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where there is one: nothing of this needs a disk."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


class Tally(Struct):
    """What became of the images."""

    images: int = 0
    corrupt: int = 0
    torn: int = 0
    lost: int = 0
    lost_synced: int = 0
    seconds: float = 0

    def __str__(self) -> str:
        return (
            f"{self.images:,} images, {self.images / self.seconds:,.0f} a second: {self.corrupt} corrupt, "
            f"{self.torn} torn, {self.lost} with loss"
        )


async def life(path: Path, durability: str, run: str, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Record the real store: created, written to by several tasks through checkpoints, and opened again twice."""
    disk = RecordingDisk(f"power-{next(numbers)}")

    def sync_folder(path: Path) -> None:
        really(path)
        disk.sync_folder()

    really = opening.sync_folder
    with monkeypatch.context() as patch:
        patch.setattr(opening, "sync_folder", sync_folder)
        for session in range(3):
            store = await SqliteStore.open(path, durability=durability, vfs=disk.name)
            await store.database.write(lambda connection: connection.pragma("wal_autocheckpoint", 40))
            disk.acknowledge(await store.head())
            await write(store, f"{run}-{session}", lambda ack: disk.acknowledge(ack.last), tasks=3, appends=6)
            await store.close()
    return disk.steps


def judge(image: Image, folder: Path, tally: Tally) -> None:
    """Open an image with plain SQLite, and count what is wrong with it."""
    image.write(folder)
    path = folder / "log.db"
    tally.images += 1
    try:
        connection = apsw.Connection(str(path))
        try:
            sound = connection.pragma("integrity_check") == "ok"
            rows = connection.execute("SELECT position, data FROM event ORDER BY position").fetchall()
            tags = connection.execute("SELECT count(*) FROM event_tag").get
        except apsw.SQLError:  # no tables yet
            rows, tags = [], 0
        finally:
            connection.close()
    except (apsw.CorruptError, apsw.NotADBError, apsw.IOError):
        sound, rows, tags = False, [], 0
    if not sound:  # then its rows mean nothing
        tally.corrupt += 1
        return
    tally.lost += len(rows) < image.acknowledged
    tally.lost_synced += len(rows) < image.synced
    tally.torn += not whole(rows) or tags != TAGS * len(rows)


def whole(rows: list[tuple[int, bytes]]) -> bool:
    """Tell whether positions and batches have no gaps."""
    left = 0
    for expected, (position, data) in enumerate(rows, 1):
        event = decode(data)
        left = left or event.of
        if position != expected or event.index != event.of - left:
            return False
        left -= 1
    return left == 0


async def lives(folder: Path, durability: str, monkeypatch: pytest.MonkeyPatch, count: int) -> Tally:
    print(f"REFOLD_IMAGES={IMAGES} REFOLD_SEED={SEED} python -m pytest {__file__} -k {durability}")
    tally = Tally()
    for n in range(LIVES):
        random = Random(f"{SEED} {durability} {n}")
        (recorded := folder / f"{n}").mkdir()
        steps = await life(recorded / "log.db", durability, f"{SEED}.{n}", monkeypatch)
        begun = time.perf_counter()
        for image in images(steps, count // LIVES, random):
            (place := folder / "image").mkdir()
            judge(image, place, tally)
            if tally.images % REOPENED == 0 and not tally.corrupt:
                await reopen(place / "log.db")
            shutil.rmtree(place)
        tally.seconds += time.perf_counter() - begun
    print(f"{durability}: {tally}")
    return tally


async def reopen(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.append(batch_of("afterwards"), append_id="afterwards")
    await audit(store, [])
    await store.close()


async def test_durable_loses_nothing_acknowledged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = await lives(folder, "durable", monkeypatch, IMAGES)
    assert (tally.images, tally.corrupt, tally.torn, tally.lost) == (IMAGES, 0, 0, 0)


async def test_relaxed_loses_events_but_never_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = await lives(folder, "relaxed", monkeypatch, IMAGES // 2)
    assert (tally.images, tally.corrupt, tally.torn, tally.lost_synced) == (IMAGES // 2, 0, 0, 0)
    assert tally.lost, "relaxed lost nothing: the simulator cuts no power"


async def test_a_store_that_does_not_sync_is_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database.SYNCHRONOUS, "off", "OFF")
    tally = await lives(folder, "off", monkeypatch, 200)
    assert tally.corrupt
    assert tally.lost


def test_the_simulator_takes_back_what_was_not_synced() -> None:
    steps: list[Step] = [Name("a", 1), Write(1, 0, b"x" * 1024), Sync(1), SyncFolder(), Name("a", None), Name("b", 2)]
    left = [image.files for image in images(steps, 5_000, Random(SEED)) if image.step == len(steps)]
    assert {"a", "b"} == {name for files in left for name in files}
    assert {1, 0, 2} == {len(files) for files in left}, "each name is there, or not, by itself"
    torn = [image.files for image in images([*steps[:2], SyncFolder()], 5_000, Random(SEED)) if image.step == 3]
    assert {b"", b"x" * 512, bytes(512) + b"x" * 512, b"x" * 1024} == {bytes(files["a"]) for files in torn}
