"""`kill -9` at random moments of three contexts, of the broker between them and of a database, while orders come in.

Whatever was killed: in the end every order has come to one end, and to the same one in every context; every event that
the shop has published came in once and in its order; no mail was delivered twice, and no money is kept for nothing.
`REFOLD_KILLS=100 REFOLD_SEED=1 python -m pytest tests/crash/test_contexts.py` repeats a run.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import chain
from pathlib import Path
from random import Random

import msgspec
import pytest

from examples.contexts.agree import disagreements, of_shop
from examples.contexts.customers import buy, fill, wishes
from examples.contexts.worker import CONTEXTS, Settings, make
from examples.contexts.world import World
from examples.shop.inventory import Stock, StockReceived
from examples.shop.orders import OrderCanceled, OrderFoundUnavailable, OrderPlaced, OrderShipped
from refold import App, StoreError
from refold.runtime.books import RECEIVED
from refold.testing import NatsServer
from refold.testing.postgres import PostgresServer, end_with_parent

KILLS = int(os.environ.get("REFOLD_KILLS", "6"))
SEED = int(os.environ.get("REFOLD_SEED") or Random().randrange(1 << 32))
VICTIMS = (*CONTEXTS, "broker", "database")
ORDERS_A_SECOND = 10
SETTLE_SECONDS = 150
"""How long it may take until all agree, once nothing is killed any more: what was parked is tried again by itself."""


class Scene:
    """Three processes, a broker and a database, each of which can be killed and is then started again."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.broker = NatsServer()
        # As durable as what is killed needs it: the machine stays up, and has what was written.
        safe = {"synchronous_commit": "on", "full_page_writes": "on"}
        self.database = PostgresServer(durable=False, settings=safe)
        self.settings = Settings(
            stores={
                "shop": self.database.url("shop"),
                "billing": self.database.url("billing"),
                "notifications": f"sqlite:///{folder}/notifications.db",
            },
            bus=self.broker.url,
            world=f"{folder}/world.db",
            pay_within=1.0,
            try_again=(0.2, 0.3),
            patience=0.3,
            trouble=0.1,
        )
        self.killed = Counter[str]()
        self._random = random
        self._workers: dict[str, list[subprocess.Popen[bytes]]] = {name: [] for name in CONTEXTS}
        self._file = folder / "settings.json"
        self._file.write_bytes(msgspec.json.encode(self.settings))

    def __enter__(self) -> "Scene":
        self.database.start()
        self.broker.start()
        for name in CONTEXTS:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in chain.from_iterable(self._workers.values()):
            worker.kill()
            worker.wait()
        self.broker.__exit__(None, None, None)
        self.database.remove()

    def start(self, victim: str) -> None:
        if victim == "broker":
            self.broker.start()
        elif victim == "database":
            self.database.start()
        else:
            with self._told(victim).open("ab") as told:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "examples.contexts.worker", victim, self._file],
                    stdout=subprocess.DEVNULL,
                    stderr=told,
                    preexec_fn=end_with_parent(os.getpid()),
                )
            self._workers[victim].append(worker)

    def kill(self, victim: str) -> None:
        self.killed[victim] += 1
        if victim == "broker":
            self.broker.kill()
        elif victim == "database":
            self.database.kill()
        else:
            worker = self._workers[victim].pop(0)
            assert worker.poll() is None, f"{victim} has ended by itself: {self._told(victim).read_text()[-3000:]}"
            worker.kill()
            worker.wait()

    def _told(self, victim: str) -> Path:
        return self._file.with_name(f"{victim}.log")

    async def kill_some(self) -> None:
        """Kill one or two at a random moment, and start them again a little later, or start another one before."""
        await asyncio.sleep(self._random.uniform(0.2, 1.5))
        victims = self._random.sample(VICTIMS, self._random.choice((1, 1, 1, 2)))
        if victims[0] in CONTEXTS and self._random.random() < 0.3:
            await asyncio.to_thread(self.start, victims[0])
            await asyncio.sleep(self._random.uniform(0, 1.5))
            await asyncio.to_thread(self.kill, victims.pop(0))
        for victim in victims:
            await asyncio.to_thread(self.kill, victim)
        await asyncio.sleep(self._random.choice((0, 0.1, 0.5)))
        for victim in victims:
            await asyncio.to_thread(self.start, victim)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path, Random(SEED)) as started:
        yield started


@pytest.mark.timeout(150 + SETTLE_SECONDS + KILLS * 6)
async def test_all_contexts_come_to_the_same_end(scene: Scene) -> None:
    print(f"REFOLD_KILLS={KILLS} REFOLD_SEED={SEED} python -m pytest {__file__}")
    settings = scene.settings
    world = World(settings.world)
    within = timedelta(seconds=settings.pay_within)
    async with AsyncExitStack() as exits:
        shop, billing, notifications = [
            await exits.enter_async_context(make(name, settings, settings.bus, world).passive()) for name in CONTEXTS
        ]
        await fill(shop)
        placed = 0
        async with asyncio.TaskGroup() as buying:

            async def order() -> None:
                nonlocal placed
                for wish in wishes(10**6, SEED):
                    buying.create_task(buy(shop, world, wish, within))
                    placed += 1
                    await asyncio.sleep(1 / ORDERS_A_SECOND)

            ordering = buying.create_task(order())
            while scene.killed.total() < KILLS:
                await scene.kill_some()
            await asyncio.sleep(0.5)
            ordering.cancel()
        begun = time.monotonic()
        while found := await disagreements_of(shop, billing, notifications, world):
            if time.monotonic() > begun + SETTLE_SECONDS:
                stands = await how_they_stand(shop, billing, notifications)
                pytest.fail("\n".join([f"{len(found)} disagreements after {SETTLE_SECONDS} s", *stands, *found[:20]]))
            await asyncio.sleep(0.5)
        seconds = time.monotonic() - begun
        heads = [await app.head() for app in (shop, billing, notifications)]
        await asyncio.sleep(within.total_seconds())
        assert not await disagreements_of(shop, billing, notifications, world), "they have agreed, and then not"
        assert heads == [await app.head() for app in (shop, billing, notifications)], "it has not settled"
        told, _ = await of_shop(shop)
        assert len(told) == placed, "an acknowledged order is lost, or one is there that nobody placed"
        await check_nothing_is_left(shop, billing, notifications)
        await check_all_came_in(shop, billing)
        await check_all_came_in(shop, notifications)
        await check_stock(shop)
    done = world.done()
    world.close()
    mails = Counter((each.order_id, each.detail) for each in done if each.kind == "mail")
    assert set(mails.values()) == {1}, "a mail was delivered twice"
    kinds = Counter(each.kind for each in done)
    ends = Counter(" ".join(story) for story in told.values())
    print(
        f"{scene.killed.total()} kills ({dict(scene.killed)}), {placed:,} orders ({dict(ends)}), {dict(kinds)}; "
        f"the world was asked {sum(each.calls for each in done):,} times for {len(done):,} things; "
        f"all agreed {seconds:.1f} s after the last kill"
    )


async def disagreements_of(shop: App, billing: App, notifications: App, world: World) -> list[str]:
    try:
        return await disagreements(shop, billing, notifications, world.done())
    except StoreError as error:  # the database is just coming up
        return [str(error)]


async def how_they_stand(*apps: App) -> list[str]:
    """Return what an operator would see."""
    return [
        f"{each.kind} {each.name}: {each.position} of {each.head}, {each.parked} parked, {each.owner} {each.trouble}"
        for app in apps
        for each in await app.operations.standing()
    ]


async def check_nothing_is_left(*apps: App) -> None:
    """No timer waits, and nothing is parked."""
    for app in apps:
        assert await app.operations.waiting() == []
        assert await app.operations.parked() == []
        assert await app.operations.skipped() == []


async def check_all_came_in(shop: App, other: App) -> None:
    """What the shop published is what the other has let in, each once, those of an order in its order."""
    published: dict[str, list[str]] = {}
    async for each in shop.events([OrderPlaced, OrderShipped, OrderCanceled, OrderFoundUnavailable]):
        published.setdefault(each.tags[0], []).append(f"shop/{each.metadata.event_id}")
    received = await other._now.books[0].find(RECEIVED)
    numbers = {row.id: row.number for row in received}
    assert len(numbers) == len(received)
    assert numbers.keys() == {each for ids in published.values() for each in ids}
    for ids in published.values():
        came = [numbers[each] for each in ids]
        assert came == sorted(came)


async def check_stock(shop: App) -> None:
    """What was received is there, or was shipped and not taken back."""
    left = Counter[str]()
    ordered: dict[str, list[str]] = {}
    shipped: dict[str, list[str]] = {}
    async for each in shop.events([StockReceived, OrderPlaced, OrderShipped, OrderCanceled]):
        match each.event:
            case StockReceived() as event:
                left[event.sku] += event.quantity
            case OrderPlaced() as event:
                ordered[event.order_id] = [line.sku for line in event.lines]
            case OrderShipped() as event:
                left.subtract(shipped.setdefault(event.order_id, ordered[event.order_id]))
            case OrderCanceled() as event:
                left.update(shipped.pop(event.order_id, []))
            case _:
                pass
    for sku, number in left.items():
        assert (await shop.load(Stock(sku))).available == number
