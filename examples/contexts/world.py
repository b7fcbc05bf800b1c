"""The world outside: a payment provider and a post, who remember in a file what they were asked under which key.

Now and then they fail, or are slow, before they have done what was asked or just after: who asks cannot know which.
"""

import asyncio
import sqlite3
from decimal import Decimal
from hashlib import blake2b
from random import Random

from msgspec import Struct

from examples.shop.provider import Answer

SCHEMA = """
CREATE TABLE IF NOT EXISTS request (
    once TEXT PRIMARY KEY, kind TEXT, order_id TEXT, detail TEXT, amount TEXT, answer TEXT, calls INTEGER
)"""
ASK = """
INSERT INTO request VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (once) DO UPDATE SET calls = calls + 1 RETURNING answer"""


class Request(Struct, frozen=True):
    """What the world did, once, and how often it was asked to."""

    once: str
    kind: str
    order_id: str
    detail: str
    """The number of an attempt to pay, or the subject of a mail."""
    amount: str
    answer: str
    calls: int


class World:
    """A `Provider` and a `Post`."""

    def __init__(self, path: str, *, trouble: float = 0.0, patience: float = 1.0, seed: object = None) -> None:
        """Open the file; `trouble` is how often something fails, from 0 to 1, and `patience` what is too slow."""
        self._database = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(SCHEMA)
        self._trouble = trouble
        self._patience = patience
        self._random = Random(str(seed))  # noqa: S311 - repeatable, not secret

    async def charge(self, order_id: str, attempt: int, amount: Decimal, once: str) -> Answer:
        """Take the money, if this customer has it."""
        answer = answer_of(order_id, attempt)
        return Answer(await self._ask(once, "charge", order_id, str(attempt), str(amount), answer))

    async def refund(self, order_id: str, amount: Decimal, once: str) -> None:
        """Give money back."""
        await self._ask(once, "refund", order_id, "", str(amount), "done")

    async def deliver(self, order_id: str, customer_id: str, subject: str, once: str) -> None:
        """Deliver a mail."""
        await self._ask(once, "mail", order_id, subject, "", customer_id)

    def transfer(self, order_id: str, amount: Decimal) -> bool:
        """Pay at a bank, as one does who was asked to; return whether that was so."""
        [[asked]] = self._database.execute(
            "SELECT count(*) FROM request WHERE kind='charge' AND order_id=?", (order_id,)
        )
        if asked:
            self._database.execute(ASK, (f"bank {order_id}", "transfer", order_id, "", str(amount), "done")).fetchall()
        return bool(asked)

    def done(self) -> list[Request]:
        """Return all that was done."""
        return [Request(*row) for row in self._database.execute("SELECT * FROM request ORDER BY rowid")]

    def close(self) -> None:
        self._database.close()

    async def _ask(self, once: str, *asked: str) -> str:
        await self._go_wrong()
        [[answer]] = self._database.execute(ASK, (once, *asked)).fetchall()
        await self._go_wrong()
        return str(answer)

    async def _go_wrong(self) -> None:
        if self._random.random() < self._trouble / 2:
            if self._random.random() < 0.3:
                await asyncio.sleep(self._patience * 2)
            raise ConnectionError("out of order")


def answer_of(order_id: str, attempt: int) -> Answer:
    """Say whether a customer pays: most do, some at a later attempt, some never, and some at a bank, see `late`."""
    match temper(order_id):
        case 0 | 1 | 2:
            return Answer.PAID if attempt == 2 else Answer.DECLINED
        case 3:
            return Answer.PAID if attempt == 3 else Answer.DECLINED
        case 4 | 5:
            return Answer.DECLINED
        case 6 | 7 | 8:
            return Answer.PENDING
        case _:
            return Answer.PAID


def pays_late(order_id: str) -> bool:
    """Tell whether the money comes from a bank after the reservation has ended."""
    return temper(order_id) == 8


def temper(order_id: str) -> int:
    """Return a number below 20, always the same one for an order."""
    return blake2b(order_id.encode()).digest()[0] % 20
