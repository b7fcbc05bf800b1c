"""The judge of the other tests judges: each thing that may be missing, twice or out of order is found."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from examples.billing.accounts import AccountClosed, AccountOpened, InvoiceIssued
from examples.contexts.agree import disagreements
from examples.contexts.worker import CONTEXTS, Settings, make
from examples.contexts.world import Request, World
from examples.notifications.mails import MailRequested, MailSent
from examples.shop.orders import Line, OrderCanceled, OrderPlaced, OrderShipped
from refold import Event
from refold.bus.memory import MemoryBus

TOTAL = Decimal(9)
PLACED = OrderPlaced("o", "ann", (Line("tea", 2, Decimal(4), Decimal(1), "drinks"),))
THANKS, ON_ITS_WAY = "Thank you for your order", "Your order is on its way"
OPENED, ISSUED = AccountOpened("o", "ann", TOTAL), InvoiceIssued("o", "ann", TOTAL)
MAILS: list[Event] = [
    MailRequested("o", "ann", THANKS),
    MailSent("o", THANKS),
    MailRequested("o", "ann", ON_ITS_WAY),
    MailSent("o", ON_ITS_WAY),
]
CHARGED = Request("1", "charge", "o", "1", "9", "paid", 1)
DELIVERED = [Request("2", "mail", "o", THANKS, "", "ann", 3), Request("3", "mail", "o", ON_ITS_WAY, "", "ann", 1)]
REFUNDED = Request("4", "refund", "o", "", "9", "done", 1)
SHOP = [PLACED, OrderShipped("o")]


@pytest.mark.parametrize(
    ("shop", "billing", "mails", "world", "found"),
    [
        (SHOP, [OPENED, ISSUED], MAILS, [CHARGED, *DELIVERED], ""),
        ([PLACED], [OPENED], MAILS[:2], DELIVERED[:1], "which is no end"),
        (SHOP, [OPENED], MAILS, [CHARGED, *DELIVERED], "['placed'] in billing"),
        (SHOP, [OPENED, ISSUED, ISSUED], MAILS, [CHARGED, *DELIVERED], "['placed', 'shipped', 'shipped'] in billing"),
        (SHOP, [ISSUED, OPENED], MAILS, [CHARGED, *DELIVERED], "['shipped', 'placed'] in billing"),
        (SHOP, [OPENED, AccountClosed("o")], MAILS, [CHARGED, *DELIVERED], "['placed', 'canceled'] in billing"),
        ([], [OPENED], [], [], "[] in the shop, and ['placed'] in billing"),
        (SHOP, [OPENED, ISSUED], MAILS[:2], [CHARGED, *DELIVERED], "in the mails requested"),
        (SHOP, [OPENED, ISSUED], MAILS[:3], [CHARGED, *DELIVERED], "in the mails sent"),
        (SHOP, [OPENED, ISSUED], MAILS, [CHARGED, DELIVERED[0], *DELIVERED], "in the mails delivered"),
        (SHOP, [OPENED, ISSUED], MAILS, [CHARGED, *DELIVERED[::-1]], "in the mails delivered"),
        (SHOP, [OPENED, ISSUED], MAILS, [CHARGED, CHARGED, *DELIVERED], "has paid 18 where 9 is due"),
        (SHOP, [OPENED, ISSUED], MAILS, [CHARGED, REFUNDED, *DELIVERED], "has paid 0 where 9 is due"),
        ([PLACED, OrderCanceled("o")], [OPENED, AccountClosed("o")], [], [CHARGED], "has paid 9 where 0 is due"),
    ],
)
async def test_what_does_not_agree_is_found(
    tmp_path: Path,
    shop: Sequence[Event],
    billing: Sequence[Event],
    mails: Sequence[Event],
    world: Sequence[Request],
    found: str,
) -> None:
    settings = Settings(stores=dict.fromkeys(CONTEXTS, "memory:"), bus="", world=f"{tmp_path}/world.db")
    outside = World(settings.world)
    apps = [make(name, settings, MemoryBus(), outside).passive() for name in CONTEXTS]
    outside.close()
    async with apps[0] as first, apps[1] as second, apps[2] as third:
        for app, events in ((first, shop), (second, billing), (third, mails)):
            if events:
                await app.record(*events)
        told = await disagreements(first, second, third, world)
    assert found in "\n".join(told)
    assert bool(found) == bool(told)
