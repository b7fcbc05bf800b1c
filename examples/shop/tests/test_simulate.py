"""The simulated shop: everything in it moves, the same seed makes the same orders, and it closes when told to."""

import asyncio
import os
import signal
import socket
from collections import Counter
from pathlib import Path

import httpx
import pytest

from examples.replay import replay
from examples.shop.data import OPENING, SPAN, stages
from examples.shop.main import make_app, make_demo
from examples.shop.opened import keep_open
from examples.shop.orders import OrderPlaced
from examples.shop.provider import Answer
from examples.shop.sample import made_up
from examples.shop.simulate import MoodyProvider, Simulation


@pytest.fixture
async def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/shop.db"
    async with make_app(url) as app:
        await replay(app, stages(made_up(30)), span=SPAN, opening=OPENING)
        await app.settle()
    return url


WANTED = frozenset(
    {
        "StockReceived",
        "InventoryReserved",
        "InventoryReleased",
        "PaymentRequested",
        "PaymentCaptured",
        "OrderShipped",
        "OrderDelivered",
        "OrderCanceled",
        "ReviewSubmitted",
    }
)


async def simulated(store: str, orders: int, *, wanted: frozenset[str] = frozenset(), seed: int = 1) -> list[str]:
    """Let time pass until so many orders are placed, and events of all these kinds are there; return the orders."""
    provider = MoodyProvider(seed)
    async with make_demo(store, provider) as app:
        before = await app.head()
        life = asyncio.create_task(Simulation(app, provider, orders_a_second=4, pace=20).run())
        async with asyncio.timeout(90):
            while True:
                events = [recorded.event async for recorded in app.events(after=before)]
                placed = [each for each in events if isinstance(each, OrderPlaced)]
                if len(placed) >= orders and wanted <= {type(each).__name__ for each in events}:
                    break
                await asyncio.wait([life], timeout=0.1)
                assert not life.done()
        life.cancel()
        assert isinstance((await asyncio.gather(life, return_exceptions=True))[0], asyncio.CancelledError)
        await app.settle(parked=True)
    return [f"{each.order_id} {each.lines}" for each in placed]


async def test_everything_moves(store: str) -> None:
    await simulated(store, 32, wanted=WANTED)  # the 31st is a free sample
    async with make_demo(store).passive() as app:
        parked = {each.subscription.partition("@")[0] for each in await app.operations.parked()}
        waiting = [each.name for each in await app.operations.waiting() if each.process == "check_out"]
    assert "FreightShare" in parked, "a view cannot fold a free sample"
    assert any(name.startswith("unpaid sim-") for name in waiting)
    assert not any("order-0" in name for name in waiting), "what was replayed is left alone"


async def test_a_seed_makes_the_same_orders_on_the_same_log(store: str, tmp_path: Path) -> None:
    copies = [tmp_path / "one.db", tmp_path / "two.db", tmp_path / "three.db"]
    for copy in copies:
        copy.write_bytes((tmp_path / "shop.db").read_bytes())
    first, second, other = [
        (await simulated(f"sqlite:///{copy}", 4, seed=seed))[:4] for copy, seed in zip(copies, (1, 1, 2), strict=True)
    ]
    assert first == second
    assert first != other


def test_the_provider_answers_a_seed_and_an_order_the_same() -> None:
    orders = [f"sim-{number}" for number in range(1000)]
    one, two = MoodyProvider(7), MoodyProvider(7)
    answers = [one.answer(order, 1) for order in orders]
    assert answers == [two.answer(order, 1) for order in orders]
    counts = Counter(answers)
    assert counts[Answer.PAID] > 700
    assert min(counts[Answer.DECLINED], counts[Answer.PENDING]) > 20


async def test_it_is_served_until_it_is_told_to_close(store: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    opened = asyncio.create_task(keep_open(store, port=port, seed=1))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        while True:
            try:
                page = await client.get("/console/")
                break
            except httpx.ConnectError:
                assert not opened.done()
                await asyncio.sleep(0.05)
        assert page.status_code == 200
        assert (await client.get("/ready")).json() == {"status": "ready"}
        asked = {"types": "InventoryReserved", "backwards": "true", "limit": "1"}
        while "sim-" not in (await client.get("/log/events", params=asked)).text:
            await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(opened, 60) > 0


async def test_it_closes_by_itself_and_takes_another_port_if_one_is_taken(store: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert await keep_open(store, port=taken.getsockname()[1], seed=1, seconds=0.5) >= 0
