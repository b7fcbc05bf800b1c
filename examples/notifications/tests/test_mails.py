"""Mails: to whom, about what, and each delivered once, although the post fails and messages come twice."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from examples.notifications.mails import (
    Correspondence,
    MailRequested,
    MailSent,
    MarkMailSent,
    NobodyToWriteTo,
    RequestMail,
    mark_mail_sent,
    request_mail,
)
from examples.notifications.main import make_app
from refold.bus.api import Message
from refold.bus.memory import MemoryBus
from refold.runtime import effect
from refold.testing import given

THANKED = MailRequested("o", "ann", "Thank you")


def test_a_mail_goes_to_whom_we_wrote_before() -> None:
    thanked = given().when(request_mail, RequestMail("o", "Thank you", "ann")).then(THANKED)
    told = thanked.when(request_mail, RequestMail("o", "On its way")).then(MailRequested("o", "ann", "On its way"))
    sent = told.when(mark_mail_sent, MarkMailSent("o", "Thank you")).then(MailSent("o", "Thank you"))
    assert sent.load(Correspondence("o")) == Correspondence("o", "ann", requested=2, sent=1)


def test_nobody_is_written_to_who_is_not_known() -> None:
    given().when(request_mail, RequestMail("o", "On its way")).rejected(NobodyToWriteTo)


class ShakyPost:
    """Delivers the first time, and says that it failed."""

    def __init__(self) -> None:
        self.delivered: dict[str, tuple[str, str, str]] = {}
        self.calls = Counter[str]()

    async def deliver(self, order_id: str, customer_id: str, subject: str, once: str) -> None:
        self.delivered[once] = (order_id, customer_id, subject)
        self.calls[once] += 1
        if self.calls[once] == 1:
            raise ConnectionError


def published(kind: str, order_id: str, **data: object) -> Message:
    event = {
        "specversion": "1.0",
        "id": f"{kind} {order_id}",
        "source": "shop",
        "type": f"{kind}.v1",
        "data": {"order_id": order_id, **data},
    }
    return Message(str(event["id"]), f"order:{order_id}", json.dumps(event).encode())


async def test_the_shops_customers_hear_of_their_orders_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effect, "FIRST_PAUSE", 0.01)
    post, bus = ShakyPost(), MemoryBus()
    messages = [
        published("OrderPlaced", "a", customer_id="ann"),
        published("OrderPlaced", "b", customer_id="bob"),
        published("OrderShipped", "a"),
        published("OrderCanceled", "b"),
    ]
    async with make_app(f"sqlite:///{tmp_path}/notifications.db", bus, post) as app:
        await bus.publish("shop", messages)
        await bus.publish("shop", messages)
        view = app.view(Correspondence)
        async with asyncio.timeout(60):
            while {row.order_id: row.sent for row in await view.find()} != {"a": 2, "b": 2}:
                await asyncio.sleep(0.01)
        assert await app.operations.parked() == []
    assert sorted(post.delivered.values()) == [
        ("a", "ann", "Thank you for your order"),
        ("a", "ann", "Your order is on its way"),
        ("b", "bob", "Thank you for your order"),
        ("b", "bob", "Your order was canceled"),
    ]
    assert set(post.calls.values()) == {2}, "each was tried again, under its key"
