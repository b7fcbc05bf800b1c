"""The process that is killed: `writer.py PATH RUN [fault]` writes to a store, and prints what was acknowledged."""

import asyncio
import os
import sys
from itertools import count
from random import Random

from refold.store.sqlite import SqliteStore
from refold.testing import crash, faults


async def main(path: str, run: str, fault: str = "") -> None:
    random = Random(run)
    disk = faults.FaultyDisk("killing") if fault == "disk" else None
    if disk:
        disk.before = faults.killing(random.randrange(400))
    store = await SqliteStore.open(path, vfs=disk and disk.name)
    if fault == "commit":
        commits = count()
        last = random.randrange(60)
        store.database.before_commit = lambda: faults.kill_self() if next(commits) == last else None
    os.write(1, b"open\n")
    await crash.write(store, run, lambda ack: (os.write(1, f"{ack}\n".encode()), None)[1])


asyncio.run(main(*sys.argv[1:]))
