"""Life in the shop, made up: people order, pay late or never, change their minds, and review what a carrier brings.

The same seed on the same log gives the same orders, and the same answers of the provider.
"""

import asyncio
from contextlib import suppress
from decimal import Decimal
from hashlib import blake2b
from random import Random
from typing import Any

from examples.shop.checkout import AcceptPayment, PaymentRequested
from examples.shop.fulfilment import DeliverOrder
from examples.shop.inventory import ReceiveStock, Stock
from examples.shop.mistakes import SIMULATED
from examples.shop.orders import CancelOrder, Item, OrderDelivered, OrderShipped, PlaceOrder
from examples.shop.provider import Answer
from examples.shop.reviews import SubmitReview
from examples.shop.views import CatalogueEntry
from refold import App, Command, Conflict, Recorded, Rejected

PRODUCTS = 40
CUSTOMERS = 60
LOT = 15
"""How many of a product come in at once."""
FREE_SAMPLES = (30, 150, 400)
"""Which orders of a run are free samples; a view has a mistake that these bring to light."""
MENDED_AFTER = 22
"""Calls until the provider answers for an order that it is broken for: more than are made unless somebody asks."""
SCORES, SCORE_WEIGHTS = (5, 4, 3, 2, 1), (55, 22, 3, 8, 12)


def temper(seed: int, order_id: str) -> int:
    """Return a number below 100, always the same one for a seed and an order."""
    return int.from_bytes(blake2b(f"{seed} {order_id}".encode(), digest_size=4).digest()) % 100


class MoodyProvider:
    """A `Provider` that declines, takes its time, waits for a bank, or is out of order."""

    def __init__(self, seed: int = 1, *, patience: float = 1.5) -> None:
        self.seed = seed
        self._patience = patience
        self._calls: dict[str, int] = {}

    async def charge(self, order_id: str, attempt: int, amount: Decimal, once: str) -> Answer:
        self._calls[once] = calls = self._calls.get(once, 0) + 1
        mood = temper(self.seed, order_id)
        await asyncio.sleep(0.05 + mood / 400)
        if mood in (98, 99) and calls < MENDED_AFTER:
            raise ConnectionError("the provider answers with nonsense: <html>502 Bad Gateway</html>")
        if mood in (95, 96, 97) and calls == 1:
            await asyncio.sleep(self._patience * 2)
        return self.answer(order_id, attempt)

    async def refund(self, order_id: str, amount: Decimal, once: str) -> None:
        await asyncio.sleep(0.2)

    def answer(self, order_id: str, attempt: int) -> Answer:
        """Say whether a customer pays: most do, some at a later attempt, some never, and some at a bank."""
        match temper(self.seed, order_id):
            case mood if mood < 8:
                return Answer.DECLINED if attempt == 1 else Answer.PAID
            case mood if mood < 11:
                return Answer.DECLINED
            case mood if mood < 18:
                return Answer.PENDING
            case _:
                return Answer.PAID


class Simulation:
    """Keeps a shop busy: customers, a bank, a carrier, and a warehouse that is sometimes late."""

    def __init__(self, app: App, provider: MoodyProvider, *, orders_a_second: float = 2.0, pace: float = 1.0) -> None:
        """Begin with nothing done; at a pace of 10 a minute passes in six seconds."""
        self.orders = 0
        self._app = app
        self._provider = provider
        self._rate = orders_a_second
        self._pace = pace
        self._run = 0
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Go on until cancelled."""
        self._run = await self._app.head()  # so that a later run on the same log has other orders
        rows = await self._app.view(CatalogueEntry).find(order=["-units", "sku"], limit=PRODUCTS)
        skus = [row.sku for row in rows]
        for sku in skus:
            await self._do(ReceiveStock(sku, LOT), "warehouse")
        async with self._group:
            self._group.create_task(self._sell(skus))
            self._group.create_task(self._restock(skus))
            self._group.create_task(self._react())

    async def _sell(self, skus: list[str]) -> None:
        while True:
            random = self._random("order", self.orders)
            customer = f"{SIMULATED}customer-{random.randrange(CUSTOMERS):02}"
            order_id = f"{SIMULATED}{self._run}-{self.orders:04}"
            free = self.orders in FREE_SAMPLES
            items = tuple(_item(random, sku, free=free) for sku in random.sample(skus, random.choice((1, 1, 1, 2, 3))))
            await self._do(PlaceOrder(order_id, customer, items), customer, id=order_id)
            self.orders += 1
            if random.random() < 0.06:
                self._later(random.uniform(0.2, 15), CancelOrder(order_id), customer)
            await self._sleep(random.expovariate(self._rate))

    async def _restock(self, skus: list[str]) -> None:
        for number in range(1_000_000):
            await self._sleep(10)
            random = self._random("lots", number)
            for row in await self._app.view(Stock).find({"sku__in": skus, "available__lt": 4}):
                if random.random() < 0.5:  # the others stay sold out for a while
                    await self._do(ReceiveStock(row.sku, LOT), "warehouse")

    async def _react(self) -> None:
        """Do what follows from what happens: deliver what is shipped, pay at the bank, review what came."""
        async for recorded in self._app.follow(OrderShipped | PaymentRequested | OrderDelivered, after=self._run):
            event = recorded.event
            if not isinstance(event, OrderShipped | PaymentRequested | OrderDelivered):
                continue
            if not event.order_id.startswith(SIMULATED):
                continue
            random = self._random(type(event).__name__, event.order_id)
            match event:
                case OrderShipped():
                    self._later(random.uniform(4, 20), DeliverOrder(event.order_id), "carrier", recorded)
                case OrderDelivered():
                    score = random.choices(SCORES, SCORE_WEIGHTS)[0]
                    if random.random() < 0.6:
                        review = SubmitReview(event.order_id, f"review of {event.order_id}", score)
                        self._later(random.uniform(1, 10), review, "customer", recorded)
                case PaymentRequested():
                    pays = self._provider.answer(event.order_id, event.attempt) is Answer.PENDING
                    if pays and random.random() < 0.7:  # some of them when the order is canceled already
                        paid = AcceptPayment(event.order_id, event.attempt, event.amount)
                        self._later(random.uniform(5, 70), paid, "bank", recorded)

    def _later(self, seconds: float, command: Command, actor: str, because: Recorded[Any] | None = None) -> None:
        async def wait() -> None:
            await self._sleep(seconds)
            await self._do(command, actor, because=because)

        self._group.create_task(wait())

    async def _do(
        self, command: Command, actor: str, *, id: str | None = None, because: Recorded[Any] | None = None
    ) -> None:
        cause = because.metadata if because else None
        with suppress(Rejected, Conflict):  # as in life
            await self._app.execute(
                command,
                id=id,
                actor=actor,
                correlation_id=cause.correlation_id if cause else "",
                causation_id=cause.event_id if cause else "",
            )

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._pace)

    def _random(self, *of: object) -> Random:
        return Random(f"{self._provider.seed} {self._run} {of}")  # noqa: S311 - repeatable, not secret


def _item(random: Random, sku: str, *, free: bool) -> Item:
    price = Decimal(0) if free else Decimal(random.randrange(500, 20_000)) / 100
    return Item(sku, random.choice((1, 1, 1, 2)), price, Decimal(random.randrange(300, 3_000)) / 100)
