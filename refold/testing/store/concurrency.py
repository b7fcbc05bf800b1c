"""Rules K, inside one process: writers that race, and readers that watch them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from refold.errors import Conflict
from refold.model.query import AppendCondition, Query
from refold.model.record import StoredEvent
from refold.store.api import Store
from refold.testing.store.claims import check_claims, look, write_claims
from refold.testing.store.fixture import Failpoint
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import closing, data_of, event, fill, pages, positions, read, turns

WRITERS = 40


async def gather_at_once(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """Start all behind a barrier and return their results; an exception is a result."""
    start = asyncio.Event()

    async def held(coroutine: Coroutine[Any, Any, Any]) -> object:
        await start.wait()
        return await coroutine

    tasks = [asyncio.create_task(held(one)) for one in coroutines]
    await turns(2)
    start.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def while_writing(writers: list[Coroutine[Any, Any, Any]], watch: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run the writers, and `watch` again and again until they are done; return how often."""
    writing = asyncio.create_task(gather_at_once(*writers))
    watched = 0
    while not writing.done():
        await watch()
        watched += 1
        await asyncio.sleep(0)
    for result in await writing:
        if isinstance(result, BaseException):
            raise result
    return watched


async def write_batches(store: Store, writer: str, appends: int, size: int) -> None:
    """Append batches of the same size whose events say which batch they are of."""
    for n in range(appends):
        batch = [event("Noted", f"writer:{writer}", data=b"%s.%d" % (writer.encode(), n)) for _ in range(size)]
        await store.append(batch)
        await asyncio.sleep(0)


def check_whole(log: list[StoredEvent], size: int) -> None:
    """Check that the events stand in whole batches, none mixed with another."""
    assert len(log) % size == 0
    for start in range(0, len(log), size):
        assert len({one.data for one in log[start : start + size]}) == 1


class ConcurrencyRules(StoreRules):
    """Writers that race, and readers that watch them."""

    @rule()
    async def test_k1_one_wins(self, bench: Bench) -> None:
        """K1: of appends that rely on the same, exactly one succeeds, on each of four boundaries."""
        store = await bench.open()
        start, last = await fill(store, event("Noted", "n"), event("Noted", "n"))

        async def contend(tag: str) -> str:
            await store.append([event("Won", tag)], AppendCondition(Query.of(tags=tag), start))
            return tag

        results = await gather_at_once(*(contend(f"boundary:{n % 4}") for n in range(12)))
        losers = [one for one in results if not isinstance(one, str)]
        assert [isinstance(one, Conflict) for one in losers] == [True] * 8
        won = sorted(one for one in results if isinstance(one, str))
        assert won == [f"boundary:{n}" for n in range(4)]
        assert sorted(tag for one in await read(store) if one.position > last for tag in one.tags) == won

    @rule(net=True)
    async def test_k2_self_proving_log(self, bench: Bench) -> None:
        """K2: forty writers race on random queries; afterwards each batch had relied on the truth."""
        store = await bench.open()
        results = await gather_at_once(*(write_claims(store, str(n), 8, seed=n) for n in range(WRITERS)))
        assert sum(results) >= WRITERS // 4
        assert check_claims(await read(store)) == sum(results)

    @rule()
    async def test_k3_no_false_conflicts(self, bench: Bench) -> None:
        """K3: appends that rely on different things never fail each other."""
        store = await bench.open()
        await fill(store, event("Noted", "n"))

        async def write(n: int) -> None:
            for nth in range(5):
                tag = f"tag:{n}.{nth}"
                query = Query.of(tags=tag)
                _, upto = await look(store, query)
                await asyncio.sleep(0)
                await store.append([event("Wrote", "w"), event("Wrote", "w")], AppendCondition(query, upto))

        results = await gather_at_once(*(write(n) for n in range(20)))
        assert results == [None] * 20
        assert len(await read(store)) == 201

    @rule(net=True)
    async def test_k4_nothing_appears_below(self, bench: Bench) -> None:
        """K4: once a position was seen, nothing appears below it: the last six events, read again and again, agree."""
        store = await bench.open()
        seen: dict[int, bytes] = {}

        async def watch() -> None:
            window = await read(store, backwards=True, limit=6)
            highest = max(seen, default=0)
            for one in window:
                assert one.position > highest or seen.get(one.position) == one.data, one
            lowest = min(positions(window), default=0)
            assert [at for at in sorted(seen) if at >= lowest] == [
                at for at in sorted(positions(window)) if at <= highest
            ]
            seen.update((one.position, one.data) for one in window if one.position > highest)
            for at in sorted(seen)[:-6]:
                del seen[at]

        writers = [write_batches(store, str(n), 10, size=1) for n in range(20)]
        assert await while_writing(list(writers), watch) > 1
        assert len(await read(store)) == 200

    @rule()
    async def test_k5_write_skew(self, bench: Bench) -> None:
        """K5: of two appends that each write what the other relies on, not both succeed."""
        store = await bench.open()
        start, _ = await fill(store, event("Noted", "n"), event("Noted", "n"))
        for n in range(10):
            a, b = f"a:{n}", f"b:{n}"
            results = await gather_at_once(
                store.append([event("Took", b)], AppendCondition(Query.of(tags=a), start)),
                store.append([event("Took", a)], AppendCondition(Query.of(tags=b), start)),
            )
            assert sorted(isinstance(one, Conflict) for one in results) == [False, True]

    @rule("failpoint")
    async def test_k6_delayed_commit(self, bench: Bench) -> None:
        """K6: while an append is held before its commit, nobody passes it unseen: no reader, no decision."""
        held = Failpoint()
        store = await bench.open(before_commit=held)
        query = Query.of(tags="t")
        first, second, decision = event("Noted", "t"), event("Noted", "u"), event("Decided", "d")
        try:
            holding = asyncio.create_task(store.append([first]))
            await held.reached()
            overtaking = asyncio.create_task(store.append([second]))
            await turns(200)
            _, upto = await look(store, query)
            head = await store.head()
            before = await read(store)
            deciding = asyncio.create_task(store.append([decision], AppendCondition(query, upto)))
            await turns(200)
        finally:
            held.release()
        await asyncio.gather(holding, overtaking)
        (decided,) = await asyncio.gather(deciding, return_exceptions=True)
        log = await read(store)
        assert first.data not in [one.data for one in before], "something was seen before it was committed"
        reached = max(head, upto, *positions(before))
        assert [one for one in log if one.position <= reached] == before, "something appeared below what was seen"
        order = [one.data for one in log]
        if isinstance(decided, Conflict):
            assert sorted(order) == sorted(data_of([first, second]))
        else:
            assert not isinstance(decided, BaseException), decided
            assert order.index(decision.data) < order.index(first.data), "a decision overlooked what it relied on"

    @rule(net=True)
    async def test_k7_whole_batches(self, bench: Bench) -> None:
        """K7: no reader ever sees part of a batch."""
        store = await bench.open()

        async def watch() -> None:
            check_whole(await read(store), size=5)

        writers = [write_batches(store, str(n), 4, size=5) for n in range(8)]
        assert await while_writing(list(writers), watch) > 1
        assert len(await read(store)) == 160

    @rule(net=True)
    async def test_k9_followers(self, bench: Bench) -> None:
        """K9: while writers race, a follower is given each event once and in order."""
        store = await bench.open()
        seen: list[StoredEvent] = []

        async def follow() -> None:
            async with closing(store.follow()) as following:
                async for page in following:
                    seen.extend(page)
                    if seen and seen[-1].type == "Last":
                        return

        following = asyncio.create_task(follow())
        await gather_at_once(*(write_claims(store, str(n), 8, seed=n) for n in range(20)))
        await fill(store, event("Last", "t"))
        await following
        assert seen == await read(store)

    @rule(net=True)
    async def test_k10_last_seats(self, bench: Bench) -> None:
        """K10: thirty students race for three seats, and try again when they are overtaken: three get one."""
        store = await bench.open()
        await fill(store, event("CourseDefined", "course:1"))
        course = Query.of(tags="course:1")

        async def subscribe(student: int) -> bool:
            while True:
                _, upto = await look(store, course)
                if len(await read(store, Query.of(types="Subscribed", tags="course:1"), upto=upto)) >= 3:
                    return False
                await asyncio.sleep(0)
                try:
                    batch = [event("Subscribed", "course:1", f"student:{student}")]
                    await store.append(batch, AppendCondition(course, upto))
                except Conflict:
                    continue
                return True

        results = await gather_at_once(*(subscribe(n) for n in range(30)))
        assert sorted(results) == [False] * 27 + [True] * 3
        assert len(await read(store, Query.of(types="Subscribed"))) == 3

    @rule(net=True)
    async def test_k11_numbers_without_gaps(self, bench: Bench) -> None:
        """K11: invoices that are numbered by what the log holds get every number once."""
        store = await bench.open()
        invoices = Query.of(types="InvoiceCreated")

        async def create() -> None:
            while True:
                (page,) = await pages(store, invoices, backwards=True, limit=1)
                number = msgspec.json.decode(page[0].data, type=int) + 1 if page else 1
                await asyncio.sleep(0)
                try:
                    batch = [event("InvoiceCreated", "invoice", data=b"%d" % number)]
                    await store.append(batch, AppendCondition(invoices, page.upto))
                except Conflict:
                    continue
                return

        await gather_at_once(*(create() for _ in range(20)))
        assert [int(one.data) for one in await read(store)] == list(range(1, 21))

    @rule(net=True)
    async def test_k12_checkpoints(self, bench: Bench) -> None:
        """K12: a reader that goes on from its checkpoint misses nothing, however many batches are under way."""
        store = await bench.open()
        seen: list[StoredEvent] = []
        checkpoint = 0

        async def watch() -> None:
            nonlocal checkpoint
            for page in await pages(store, after=checkpoint):
                seen.extend(page)
                checkpoint = page.upto

        writers = [write_batches(store, str(n), 8, size=5) for n in range(16)]
        assert await while_writing(list(writers), watch) > 1
        await watch()
        assert seen == await read(store)
        assert positions(seen) == sorted(set(positions(seen)))
        assert len(seen) == 16 * 8 * 5

    @rule()
    async def test_k14_conflicts_have_a_reason(self, bench: Bench) -> None:
        """K14: one conflict does not cause others: appends that come beside one that fails succeed."""
        store = await bench.open()
        at = await fill(store, *(event("Noted", tag) for tag in "nnt"))
        broken = AppendCondition(Query.of(tags="t"), at[0])
        holds = AppendCondition(Query.of(tags="u"), at[0])
        results = await gather_at_once(
            *(store.append([event("Tried", str(n))], broken if n % 3 == 1 else holds) for n in range(9))
        )
        assert [isinstance(one, Conflict) for one in results] == [n % 3 == 1 for n in range(9)]
        kept = {tag for one in (await read(store))[3:] for tag in one.tags}
        assert kept == {str(n) for n in range(9) if n % 3 != 1}
