"""What test_processes.py runs in other processes: `worker.py write|follow|create PATH`; a line says when to go on."""

import asyncio
import json
import sys
import time

from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore

TASKS = 16


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def hear() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def write(path: str) -> None:
    """Append from a few tasks for some seconds, as often as it is told to; say how long each append took."""
    store = await SqliteStore.open(path)
    say(ready=True)
    while seconds := await hear():
        end = time.monotonic() + float(seconds)
        waits: list[float] = []

        async def work(task: int, end: float, waits: list[float]) -> None:
            while (began := time.monotonic()) < end:
                await store.append([NewEvent("T", b"{}", (f"task:{task}", "shared"))])
                waits.append(time.monotonic() - began)

        await asyncio.gather(*(work(task, end, waits) for task in range(TASKS)))
        say(waits=waits)
    await store.close()


async def follow(path: str) -> None:
    """Say what following costs while nothing happens, then how old each event is when it arrives."""
    store = await SqliteStore.open(path)
    ages: list[float] = []
    begun = asyncio.Event()

    async def receive() -> None:
        async for page in store.follow():
            begun.set()
            now = time.monotonic()
            for event in page:
                if event.type == "End":
                    return
                if event.type == "Heard":
                    say(ages=ages)
                    ages.clear()
                    continue
                ages.append(now - float(event.data))

    receiving = asyncio.create_task(receive())
    await begun.wait()
    ages.clear()  # it was there before
    await asyncio.sleep(0.2)
    used, began = time.process_time(), time.monotonic()
    await asyncio.sleep(1.5)
    say(idle=(time.process_time() - used) / (time.monotonic() - began))
    await receiving
    await store.close()


async def create(path: str) -> None:
    """Open each of some new files at the same moment as others do, and append to it."""
    say(ready=True)
    while name := await hear():
        store = await SqliteStore.open(f"{path}/{name}.db")
        await store.append([NewEvent("T")] * 3)
        await store.close()
        say(done=name)


asyncio.run({"write": write, "follow": follow, "create": create}[sys.argv[1]](sys.argv[2]))
