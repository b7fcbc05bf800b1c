"""What was acknowledged is there, once, whatever is cut: sessions, connections, the server, the processes that write.

`REFOLD_KILLS=200 pytest tests/store/postgres/test_crash.py` kills more often than the normal run.
"""

import asyncio
import os
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from refold.errors import StoreError
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent
from refold.store import api
from refold.store.api import Appended
from refold.store.open import open_store
from refold.store.postgres import PostgresStore, log
from refold.testing.crash import Ack, audit
from refold.testing.postgres import PostgresServer

KILLS = int(os.environ.get("REFOLD_KILLS", "3"))
WORKER = Path(__file__).with_name("worker.py")
TASKS = 12
pytestmark = pytest.mark.timeout(60 + 10 * KILLS)


@pytest.fixture
def durable() -> Iterator[PostgresServer]:
    """A server that keeps what it says, to be killed."""
    with PostgresServer(durable=True) as started:
        yield started


@pytest.mark.parametrize("always", [False, True])
async def test_a_session_that_ends_while_the_log_is_opened_is_no_error_of_the_driver(
    postgres: PostgresServer, always: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url("opening")
    await (await PostgresStore.open(url)).close()
    cuts = repeat("SELECT pg_terminate_backend(pg_backend_pid())", *([] if always else [1]))

    async def prepare(connection: Any, *arguments: Any, **options: Any) -> int:
        if cut := next(cuts, None):
            await connection.execute(cut)
        return await really(connection, *arguments, **options)

    really = log.prepare
    monkeypatch.setattr(log, "prepare", prepare)
    if always:
        with pytest.raises(StoreError):
            await PostgresStore.open(url, patience=timedelta(seconds=0.2))
    else:
        await (await PostgresStore.open(url)).close()


class Load:
    """Tasks that append without an id, each under a condition on its own last event: a repetition would conflict."""

    def __init__(self, store: PostgresStore, run: str) -> None:
        self.store = store
        self.acks: dict[bytes, Appended] = {}
        self.stopping = False
        self._run = run

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._write(n)) for n in range(TASKS)]
        yield
        self.stopping = True
        await asyncio.gather(*tasks)

    async def more(self, number: int) -> None:
        wanted = len(self.acks) + number
        while len(self.acks) < wanted:
            await asyncio.sleep(0.002)

    async def check(self) -> None:
        """Compare the log with what was acknowledged: nothing is missing, nothing torn, nothing there twice."""
        log = [event async for page in self.store.read() for event in page]
        assert [event.position for event in log] == list(range(1, len(log) + 1))
        assert len({event.data for event in log}) == len(log)
        found: dict[bytes, list[int]] = {}
        for event in log:
            found.setdefault(event.data.rpartition(b"/")[0], []).append(event.position)
        assert {name: (places[0], places[-1], len(places)) for name, places in found.items()} == {
            name: (ack.first, ack.last, 3) for name, ack in self.acks.items()
        }

    async def _write(self, task: int) -> None:
        tag, last, number = f"task:{self._run}.{task}", 0, 0
        while not self.stopping:
            number += 1
            name = f"{self._run}.{task}.{number}".encode()
            batch = [NewEvent("Kept", name + b"/%d" % place, (tag, f"place:{place}")) for place in range(3)]
            done = await self.store.append(batch, AppendCondition(Query.of(tags=tag), last))
            last = done.last
            self.acks[name] = done


async def admin(server: PostgresServer) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}")


async def test_sessions_ended_at_random(server: PostgresServer, url: str) -> None:
    store = await PostgresStore.open(url)
    killer = await admin(server)
    load = Load(store, "t")
    ended = 0
    async with load.running():
        await load.more(20)
        while ended < 8 * KILLS:
            await asyncio.sleep(random.uniform(0, 0.06))
            ended += await killer.fetchval(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'refold' AND random() < 0.5"
            )
        await load.more(20)
    await load.check()
    await store.close()
    await killer.close()


async def test_kill_9_of_the_server(durable: PostgresServer) -> None:
    store = await PostgresStore.open(durable.url())
    load = Load(store, "k")
    async with load.running():
        for _ in range(KILLS):
            await load.more(100)
            await asyncio.sleep(random.uniform(0, 0.05))
            await asyncio.to_thread(durable.kill)
            await asyncio.to_thread(durable.start)
        await load.more(100)
    await load.check()
    await store.close()


async def test_kill_9_of_server_and_writers(durable: PostgresServer) -> None:
    """Four processes write while the server is killed; then they are killed too."""
    url = durable.url()
    await (await PostgresStore.open(url)).close()
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, WORKER, url, f"p{n}", stdout=PIPE) for n in range(4)
    ]
    acks: list[Ack] = []

    async def hear(process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            if line.endswith(b"\n"):
                acks.append(Ack.parse(line.decode()))

    hearing = [asyncio.create_task(hear(process)) for process in processes]
    try:
        for _ in range(max(KILLS // 3, 1)):
            wanted = len(acks) + 200
            while len(acks) < wanted:
                assert all(process.returncode is None for process in processes)
                await asyncio.sleep(0.01)
            await asyncio.to_thread(durable.kill)
            await asyncio.to_thread(durable.start)
        wanted = len(acks) + 200
        while len(acks) < wanted:
            await asyncio.sleep(0.01)
    finally:
        for process in processes:
            process.kill()
        await asyncio.gather(*hearing)
    store = await open_store(url)
    assert await audit(store, acks) > 0
    await store.close()


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
async def test_what_passes_is_tried_again(server: PostgresServer, url: str, state: str) -> None:
    """A serialization failure is no conflict: the append comes through."""
    store = await PostgresStore.open(url)
    sql = await admin(server)
    schema = store.address.schema
    await sql.execute(f"""
        CREATE SEQUENCE "{schema}".tries;
        CREATE FUNCTION "{schema}".fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('"{schema}".tries') <= 3 THEN
                RAISE EXCEPTION 'not now' USING ERRCODE = '{state}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER fail AFTER INSERT ON "{schema}".event_tag
        FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".fail()""")
    result = await store.append([NewEvent("A", tags=("t:1",))], AppendCondition(Query.of(tags="t:1")))
    assert [event.position async for page in store.read() for event in page] == [result.last]
    await store.close()
    await sql.close()


async def test_one_that_fails_for_good_fails_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_VERSION", 2**62)
    store = await PostgresStore.open(url)
    appends = [store.append([NewEvent("A", version=2**40 if n == 7 else 1)]) for n in range(20)]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, StoreError)] == [7]
    assert await store.head() == 19
    await store.close()


async def test_a_server_that_stays_away(durable: PostgresServer) -> None:
    store = await PostgresStore.open(durable.url(), patience=timedelta(seconds=0.3))
    await store.append([NewEvent("A")])
    durable.kill()
    with pytest.raises(StoreError):
        await store.append([NewEvent("A")], append_id="a")
    with pytest.raises(StoreError):
        await store.head()
    durable.start()
    assert await store.append([NewEvent("A")], append_id="a") == await store.appended("a")
    assert await store.head() == 2
    await store.close()


async def test_a_standby_promoted_under_load() -> None:
    """With a synchronous standby, what was acknowledged outlives the primary; nothing is there twice."""
    settings = {"synchronous_standby_names": "*", "wal_level": "replica"}
    with (
        PostgresServer(durable=True) as primary,
        PostgresServer(durable=True, copy_of=primary.folder) as standby,
    ):
        primary.stop()
        primary.settings |= settings
        primary.start()
        url = (
            f"postgresql://postgres@/postgres?host={primary.folder},{standby.folder}&port=5432,5432"
            "&target_session_attrs=read-write"
        )
        store = await PostgresStore.open(url)
        load = Load(store, "s")
        async with load.running():
            await load.more(300)
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(standby.promote)
            await load.more(300)
        await load.check()
        await store.close()
