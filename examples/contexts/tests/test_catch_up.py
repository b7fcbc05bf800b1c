"""Each context may be away for a while, on a real broker: nothing is lost, nothing done twice, and all catch up."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from examples.contexts.agree import CANCELED, PLACED, SHIPPED, disagreements, of_shop
from examples.contexts.customers import buy, fill, wishes
from examples.contexts.worker import CONTEXTS, Context, Settings, make
from examples.contexts.world import World
from refold import App
from refold.testing import NatsServer

EACH = 20
"""So many orders are placed while each of the contexts is away, and before and after that."""


async def test_each_may_be_away_for_a_while(tmp_path: Path) -> None:
    with NatsServer() as server:
        settings = Settings(
            stores={name: f"sqlite:///{tmp_path}/{name}.db" for name in CONTEXTS},
            bus=server.url,
            world=f"{tmp_path}/world.db",
            pay_within=0.4,
            try_again=(0.05, 0.1),
            patience=0.1,
        )
        world = World(settings.world, trouble=0.1, patience=settings.patience, seed=1)
        async with AsyncExitStack() as exits:
            # Who only looks on, and the customers, do not mind which of them runs.
            passive = {name: make(name, settings, server.url, world).passive() for name in CONTEXTS}
            for app in passive.values():
                await exits.enter_async_context(app)
            running = {name: await started(name, settings, world) for name in CONTEXTS}
            await fill(passive["shop"])
            orders = wishes(EACH * 5, seed=1)
            within = timedelta(seconds=settings.pay_within)
            async with asyncio.TaskGroup() as buying:
                for away in (None, *CONTEXTS, None):
                    if away is not None:
                        await running.pop(away).__aexit__(None, None, None)
                    before = await passive[away or "shop"].head()
                    for _ in range(EACH):
                        buying.create_task(buy(passive["shop"], world, next(orders), within))
                        await asyncio.sleep(0.01)
                    if away is not None:
                        await asyncio.sleep(0.2)
                        assert away == "shop" or await passive[away].head() == before, "it was away"
                        running[away] = await started(away, settings, world)
            shop, billing, notifications = (passive[name] for name in CONTEXTS)
            async with asyncio.timeout(60):
                while await disagreements(shop, billing, notifications, world.done()):
                    await asyncio.sleep(0.1)
            told, _ = await of_shop(passive["shop"])
            assert len(told) == EACH * 5
            assert {PLACED, SHIPPED, CANCELED} == {each for story in told.values() for each in story}
            for app in running.values():
                assert await app.operations.parked() == []
                await app.__aexit__(None, None, None)
        mails = Counter((each.order_id, each.detail) for each in world.done() if each.kind == "mail")
        assert set(mails.values()) == {1}
        assert sum(each.calls for each in world.done()) > len(world.done()), "the world has failed now and then"
        world.close()


async def started(name: Context, settings: Settings, world: World) -> App:
    return await make(name, settings, settings.bus, world).__aenter__()
