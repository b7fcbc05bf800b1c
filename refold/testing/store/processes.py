"""Rules P: several processes on one store, and one that is killed. K8 is what rules K say, said of processes."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from refold.errors import Conflict
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Store
from refold.testing.store.claims import check_claims, write_claims
from refold.testing.store.concurrency import gather_at_once, write_batches
from refold.testing.store.fixture import Failpoint, StoreFixture
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import closing, event, fill, positions, read

PROCESSES = 4
WRITERS = 10
READY = Query.of(types="Ready")
SPAWN = multiprocessing.get_context("spawn")

Work: TypeAlias = Callable[[Store, int], Any]


async def claim(store: Store, process: int) -> int:
    """Race with the tasks of this process, and with those of the others."""
    names = [f"{process}.{n}" for n in range(WRITERS)]
    tried = (write_claims(store, name, 4, seed=process * WRITERS + n) for n, name in enumerate(names))
    return sum(await gather_at_once(*tried))


async def contend(store: Store, process: int) -> int:
    """Try to be the first on each of some boundaries, and return how many were won."""
    won = 0
    for boundary in range(20):
        tag = f"boundary:{boundary}"
        results = await gather_at_once(
            *(store.append([event("Won", tag)], AppendCondition(Query.of(tags=tag))) for _ in range(3))
        )
        assert all(isinstance(one, Conflict) for one in results if not hasattr(one, "last")), results
        won += sum(hasattr(one, "last") for one in results)
    return won


async def batches(store: Store, process: int) -> int:
    """Append batches of five from several tasks."""
    await asyncio.gather(*(write_batches(store, f"{process}.{n}", 5, size=5) for n in range(4)))
    return 100


def run_apart(fixture: StoreFixture, work: Work, process: int) -> int:
    """Do some work on the store, in the process that this is called in, when all processes are ready."""

    async def run() -> int:
        async with asyncio.timeout(fixture.patience):  # or the test would wait for this process for ever
            store = await fixture.connect()
            try:
                await fill(store, NewEvent("Ready"))
                while len(await read(store, READY)) < PROCESSES:  # noqa: ASYNC110 - they are other processes
                    await asyncio.sleep(0.002)
                return int(await work(store, process))
            finally:
                await store.close()

    return asyncio.run(run())


async def in_processes(bench: Bench, work: Work) -> int:
    """Do the work in several processes at once, and return the sum of what they return."""
    with ProcessPoolExecutor(PROCESSES, mp_context=SPAWN) as pool:
        loop = asyncio.get_running_loop()
        results = [loop.run_in_executor(pool, run_apart, bench.fixture, work, n) for n in range(PROCESSES)]
        return sum(await asyncio.gather(*results))


class _Kill(Failpoint):
    """Ends the process where an append would be held."""

    def block(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def pause(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def append_for_ever(fixture: StoreFixture, acknowledged: Connection) -> None:
    """Append batches of three with ids, and tell of each that has been acknowledged, until killed."""

    async def run() -> None:
        store = await fixture.connect()
        start = await store.head()
        for n in range(1_000_000):
            batch = [event("Noted", f"batch:{start}.{n}", data=b"%d" % place) for place in range(3)]
            await store.append(batch, append_id=f"{start}.{n}")
            acknowledged.send(batch[0].tags[0])

    asyncio.run(run())


def append_and_die(fixture: StoreFixture) -> None:
    """Append a batch, and be killed before it is committed."""

    async def run() -> None:
        store = await fixture.connect(before_commit=_Kill())
        await store.append([event("Lost", "lost") for _ in range(3)], append_id="lost")

    asyncio.run(run())


class ProcessRules(StoreRules):
    """Several processes on one store, and one that is killed."""

    @rule("processes", net=True)
    async def test_k8_self_proving_log(self, bench: Bench) -> None:
        """K8: forty writers in four processes race; a follower here sees each event once; every claim is true."""
        store = await bench.open()
        seen: list[StoredEvent] = []

        async def follow() -> None:
            async with closing(store.follow()) as following:
                async for page in following:
                    seen.extend(page)
                    if seen and seen[-1].type == "Last":
                        return

        following = asyncio.create_task(follow())
        kept = await in_processes(bench, claim)
        await fill(store, event("Last", "t"))
        await following
        assert seen == await read(store)
        assert kept >= PROCESSES
        assert check_claims(seen) == kept

    @rule("processes", net=True)
    async def test_k8_one_wins(self, bench: Bench) -> None:
        """K8: of appends in four processes that rely on the same, exactly one succeeds, on each of 20 boundaries."""
        store = await bench.open()
        assert await in_processes(bench, contend) == 20
        won = [one.tags for one in await read(store, Query.of(types="Won"))]
        assert sorted(won) == sorted((f"boundary:{n}",) for n in range(20))

    @rule("processes", net=True)
    async def test_k8_whole_batches(self, bench: Bench) -> None:
        """K8: a reader that goes on from its checkpoint gets all batches of four processes, each of them whole."""
        store = await bench.open()
        seen: list[StoredEvent] = []
        checkpoint = 0
        writing = asyncio.create_task(in_processes(bench, batches))
        done = False
        while not done:
            done = writing.done()
            async for page in store.read(after=checkpoint):
                seen.extend(page)
                checkpoint = page.upto
            for _, group in groupby((one for one in seen if one.type == "Noted"), key=lambda one: one.data):
                assert len(list(group)) == 5
            await asyncio.sleep(0.002)
        assert await writing == len([one for one in seen if one.type == "Noted"])
        assert seen == await read(store)
        assert positions(seen) == sorted(set(positions(seen)))

    @rule("processes", "reopens", net=True)
    async def test_f1_killed(self, bench: Bench) -> None:
        """F1: of a process that is killed what was acknowledged is there, and its last batch whole or not at all."""
        for kept in (1, 10, 60):
            mine, theirs = SPAWN.Pipe(duplex=False)
            process = SPAWN.Process(target=append_for_ever, args=(bench.fixture, theirs), daemon=True)
            process.start()
            theirs.close()
            acknowledged = [await asyncio.to_thread(mine.recv) for _ in range(kept)]
            process.kill()
            await asyncio.to_thread(process.join)
            while mine.poll():
                try:
                    acknowledged.append(mine.recv())
                except EOFError:
                    break
            store = await bench.open()
            log = await read(store)
            places = [one.data for one in log]
            assert places == [b"0", b"1", b"2"] * (len(log) // 3)
            assert await store.head() == log[-1].position
            tags = {one.tags[0] for one in log}
            assert [tag for tag in acknowledged if tag not in tags] == []
            await store.close()

    @rule("processes", "reopens", "failpoint")
    async def test_f2_killed_before_the_commit(self, bench: Bench) -> None:
        """F2: of a process that is killed before it commits nothing is left, and its append can be repeated."""
        store = await bench.open()
        await fill(store, event("Noted", "t"))
        head = await store.head()
        process = SPAWN.Process(target=append_and_die, args=(bench.fixture,), daemon=True)
        process.start()
        await asyncio.to_thread(process.join)
        assert process.exitcode == -signal.SIGKILL
        store = await bench.reopen(store)
        assert await store.head() == head
        assert await store.appended("lost") is None
        assert len(await read(store)) == 1
        await store.append([event("Lost", "lost")], append_id="lost")
        assert len(await read(store)) == 2
