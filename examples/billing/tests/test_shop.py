"""Billing by itself: the shop is nothing but messages on a broker, written here as anybody might write them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

from examples.billing.accounts import Account, Stage
from examples.billing.main import make_app
from refold.bus.api import Message
from refold.bus.memory import MemoryBus


def published(kind: str, order_id: str, **data: object) -> Message:
    event = {
        "specversion": "1.0",
        "id": f"{kind} {order_id}",
        "source": "shop",
        "type": f"{kind}.v1",
        "data": {"order_id": order_id, **data},
    }
    return Message(str(event["id"]), f"order:{order_id}", json.dumps(event).encode())


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.01)


async def test_accounts_follow_what_the_shop_publishes(tmp_path: Path) -> None:
    bus = MemoryBus()
    # It has more to say of an order than billing needs, and of other things, too.
    placed = [published("OrderPlaced", order, total="9.50", customer_id="ann", gift=True) for order in "abcd"]
    news = [published("OrderShipped", "a"), published("OrderCanceled", "b"), published("ShopClosed", "c")]
    returned = [published("OrderShipped", "d"), published("OrderCanceled", "d")]
    async with make_app(f"sqlite:///{tmp_path}/billing.db", bus) as app:
        await bus.publish("shop", [*placed, *news, *returned, *placed, *news])
        view = app.view(Account)

        async def is_done() -> bool:
            found = {row.order_id: row.stage for row in await view.find()}
            return found == {"a": Stage.INVOICED, "b": Stage.CLOSED, "c": Stage.OPEN, "d": Stage.CREDITED}

        await until(is_done)
        assert await view.get("a") == Account("a", Stage.INVOICED, "ann", Decimal("9.50"))
        assert await app.operations.parked() == []
