"""Customers: they order, change their minds now and then, and repeat what was not acknowledged, under the same id."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from random import Random

from msgspec import Struct

from examples.contexts.world import World, pays_late
from examples.shop.catalogue import ListProduct
from examples.shop.checkout import AcceptPayment
from examples.shop.inventory import ReceiveStock
from examples.shop.orders import CancelOrder, Item, PlaceOrder, total_of
from refold import App, Command, Conflict, Rejected, StoreError

PRODUCTS, PIECES = 20, 100
"""Of the last product there is nothing."""
AGAIN_SECONDS = 0.2
PATIENCE = 5


class Wish(Struct, frozen=True):
    """An order to be placed, and whether its customer takes it back a little later."""

    order: PlaceOrder
    canceled_after: float | None = None


def wishes(count: int, seed: int) -> Iterator[Wish]:
    """Make up orders; the same seed gives the same ones."""
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    for number in range(count):
        item = Item(f"product-{random.randrange(PRODUCTS)}", 1, Decimal(random.randrange(5, 90)), Decimal(3))
        order = PlaceOrder(f"{seed}-{number:04}", f"customer-{random.randrange(50)}", (item,))
        yield Wish(order, random.uniform(0, 2) if random.random() < 0.08 else None)


async def fill(shop: App) -> None:
    """List the products, and have stock of all but one."""
    for number in range(PRODUCTS):
        sku = f"product-{number}"
        await insist(shop, ListProduct(sku, "things"), f"list {sku}")
        if number < PRODUCTS - 1:
            await insist(shop, ReceiveStock(sku, PIECES), f"receive {sku}")


async def buy(shop: App, world: World, wish: Wish, pay_within: timedelta) -> None:
    """Place an order; take it back, or pay it too late, if that is what its customer does."""
    order = wish.order
    await insist(shop, order, f"place {order.order_id}")
    if wish.canceled_after is not None:
        await asyncio.sleep(wish.canceled_after)
        await insist(shop, CancelOrder(order.order_id), f"cancel {order.order_id}")
    elif pays_late(order.order_id):
        for _ in range(PATIENCE):  # until the shop has asked for the money
            await asyncio.sleep(pay_within.total_seconds() * 1.2)
            if world.transfer(order.order_id, total_of(order.items)):
                await insist(shop, AcceptPayment(order.order_id, 1, total_of(order.items)), f"bank {order.order_id}")
                break


async def insist(shop: App, command: Command, id: str) -> None:
    """Repeat a command until it is acknowledged, or refused."""
    while True:
        try:
            await shop.execute(command, id=id)
        except (StoreError, Conflict):
            await asyncio.sleep(AGAIN_SECONDS)
        except Rejected:
            return
        else:
            return
