"""Who runs a subscription: one of many, handed over when it stops or dies, and fenced when it only seemed to."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from refold.runtime import lease, subscription
from refold.runtime.books import CHECKPOINTS, REQUESTS, Books, Checkpoint, Request
from refold.runtime.lease import Lease, LeaseLost
from refold.runtime.owner import Owner, is_gone, is_there, shown
from refold.view.api import Put
from refold.view.memory import MemoryViews
from tests.conftest import Log
from tests.runtime.clicks import Clicked, Clicks, clicks

ON_POSTGRES = True


@pytest.fixture
async def books() -> Books:
    books = Books(MemoryViews())
    await books.open()
    return books


async def test_one_app_runs_it_and_the_next_takes_over_when_it_stops(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1_000.0)  # so it is at once, not after a lease has run out
    first, second = clicks(log), clicks(log)
    await first.__aenter__()
    async with second:
        await first.record(Clicked("a"))
        await second.settle()
        assert [each.owned for each in first._now.subscriptions()] == [True]
        assert [each.owned for each in second._now.subscriptions()] == [False]
        await first.__aexit__(None, None, None)
        at = await second.record(Clicked("a"))
        assert await second.view(Clicks).get("a", at_least=at) == Clicks("a", 2)
        assert [each.owned for each in second._now.subscriptions()] == [True]


async def test_an_owner_that_was_replaced_writes_nothing(books: Books) -> None:
    stalled, next_one = Lease("s", books, Owner()), Lease("s", books, Owner())
    await stalled.claim_if_free()
    await stalled.write([], 5)
    await next_one.claim_if_free()
    assert next_one.row is None, "it is not free"
    assert await next_one._take(await books.checkpoint("s"))
    with pytest.raises(LeaseLost):
        await stalled.write([Put(CHECKPOINTS, [Checkpoint("other", 1)])], 6)
    assert await books.checkpoint("other") is None
    await next_one.write([], 7)
    row = await books.checkpoint("s")
    assert row is not None
    assert (row.position, row.epoch) == (7, 2)
    await stalled.release(99, "")
    assert (await books.checkpoint("s")) == row


async def test_an_owner_that_stands_still_is_replaced(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.1)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(lease, "VISIBLE_SECONDS", 0.05)
    stalled, waiting = Lease("s", books, Owner()), Lease("s", books, Owner())
    await stalled.claim_if_free()
    await stalled.write([], 5)
    seen: list[int] = []
    async with asyncio.timeout(60):
        await waiting.claim(seen.append)
    assert seen == [5]
    assert waiting.mine().position == 5


async def test_an_owner_that_is_asked_shows_that_it_lives(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease, "VISIBLE_SECONDS", 0.05)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr("refold.runtime.running.LOOK_SECONDS", 0.05)
    async with clicks(log) as first, clicks(log) as second:
        [mine] = first._now.subscriptions()
        begun = mine._lease.mine().beat
        while mine._lease.mine().beat < begun + 10:  # nothing happens, so that only who asks makes it write
            await asyncio.sleep(0.01)
        assert [each.owned for each in first._now.subscriptions()] == [True]
        assert [each.owned for each in second._now.subscriptions()] == [False]


@pytest.mark.parametrize("is_seen", [True, False])
async def test_only_an_owner_that_is_not_seen_is_asked_soon(
    books: Books, monkeypatch: pytest.MonkeyPatch, is_seen: bool
) -> None:
    """One who stands by writes nothing while the owner is there to be seen, and soon if it is on another machine."""
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    owner = Owner()
    if not is_seen:
        owner.name = f"elsewhere|{owner.name.partition('|')[2]}"
    running, waiting = Lease("s", books, owner), Lease("s", books, Owner())
    await running.claim_if_free()
    looks = 0
    checkpoint = books.checkpoint

    async def counted(subscription: str) -> Checkpoint | None:
        nonlocal looks
        looks += 1
        return await checkpoint(subscription)

    monkeypatch.setattr(books, "checkpoint", counted)
    claiming = asyncio.create_task(waiting.claim(lambda _: None))
    asked: list[Request] = []
    try:
        async with asyncio.timeout(30):
            while looks < 50 and not asked:
                await asyncio.sleep(0.01)
                asked = await books.find(REQUESTS)
    finally:
        claiming.cancel()
    assert asked == ([] if is_seen else [Request("s", "beat")])


async def test_of_many_that_claim_at_once_one_does(books: Books) -> None:
    leases = [Lease("s", books, Owner()) for _ in range(20)]
    await asyncio.gather(*(each.claim_if_free() for each in leases))
    assert sum(each.row is not None for each in leases) == 1


async def test_a_write_that_was_given_up_but_done_does_not_keep_it(books: Books) -> None:
    mine = Lease("s", books, Owner())
    await mine.claim_if_free()
    row = mine.mine()
    await mine.write([], 5)
    mine.row = row  # as if the write had been cancelled while it was done
    await mine.release(0, "")
    released = await books.checkpoint("s")
    assert released is not None
    assert (released.owner, released.position) == ("", 5)


WORKER = """
import asyncio, sys
from tests.runtime.clicks import Clicked, clicks

async def main(url):
    async with clicks(url) as app:
        at = await app.record(*[Clicked("a")] * 10)
        await app.wait(at)
        print("up", flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kill", [True, False])
async def test_a_process_that_is_gone_is_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: bool
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1_000.0)  # nobody waits until that has run out
    url = f"sqlite:///{tmp_path}/log.db"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    assert worker.stdout.readline() == "up\n"
    async with clicks(url) as app:
        assert [each.owned for each in app._now.subscriptions()] == [False]
        worker.kill() if kill else worker.terminate()
        worker.communicate()
        at = await app.record(Clicked("a"))
        assert await app.view(Clicks).get("a", at_least=at) == Clicks("a", 11)


def test_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Owner()
    assert not is_gone(mine.name)
    assert is_there(mine.name)
    assert not is_there(f"elsewhere|{mine.name.partition('|')[2]}"), "nobody can see it"
    assert shown(mine.name).endswith(f":{mine.name.split('|')[1]}")
    mine.close()
    assert is_gone(mine.name)
    assert not is_there(mine.name)
    machine, pid, _, name = mine.name.split("|")
    assert is_gone(f"{machine}|{pid}|123|{name}")
    assert is_gone(f"{machine}|4194304|1|x"), "there is no such process"
    assert not is_gone(f"elsewhere|{pid}|1|x"), "on another machine it may live"
    assert not is_gone("nonsense")
    assert not is_gone(f"{machine}|x|1|x")
    assert shown(mine.name) == "", "who is gone runs nothing"
    assert shown("") == ""


def test_times_fit_each_other() -> None:
    assert lease.BEAT_SECONDS * 2 < lease.LEASE_SECONDS
    assert lease.LEASE_SECONDS + 2 * lease.LOOK_SECONDS + lease.BEAT_SECONDS < 5, "handed over within 5 s"
    assert subscription.POLL_SECONDS < lease.LOOK_SECONDS


async def test_a_stranger_in_the_row_is_no_owner_of_mine(books: Books) -> None:
    mine = Lease("s", books, Owner())
    await mine.claim_if_free()
    await books.write(Put(CHECKPOINTS, [Checkpoint("s", 9, epoch=7, owner="elsewhere|1|1|x")]))
    await mine.refresh()
    assert mine.row is None
    with pytest.raises(LeaseLost):
        mine.mine()
    assert await mine.claim_if_free() == 9
