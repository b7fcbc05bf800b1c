"""Notifications: a mail for each thing that a customer should know, sent once. It shares no code with the shop."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from refold import App, Command, Event, IdempotencyKey, Inbox, Tag, effect
from refold.bus.api import Bus
from refold.store.api import Store

OrderId: TypeAlias = Annotated[str, Tag("order")]

# From the shop.


class OrderPlaced(Event):
    order_id: OrderId


class OrderShipped(Event):
    order_id: OrderId


class OrderCanceled(Event):
    order_id: OrderId


# Our own.


class MailRequested(Event):
    order_id: OrderId
    subject: str


class MailSent(Event):
    order_id: OrderId
    subject: str


class NoteSent(Command):
    order_id: OrderId
    subject: str


def note_sent(cmd: NoteSent) -> MailSent:
    return MailSent(cmd.order_id, cmd.subject)


def tell(event: OrderPlaced | OrderShipped | OrderCanceled) -> MailRequested:
    match event:
        case OrderPlaced():
            return MailRequested(event.order_id, "Thank you for your order")
        case OrderShipped():
            return MailRequested(event.order_id, "Your order is on its way")
        case OrderCanceled():
            return MailRequested(event.order_id, "Your order was canceled")


Post: TypeAlias = Callable[[str, str, str], Awaitable[None]]
"""Takes an order, a subject, and a key: of two mails with one key the second is not delivered."""


def make_app(store: str | Store, bus: str | Bus, post: Post) -> App:
    async def send_mail(event: MailRequested, once: IdempotencyKey) -> NoteSent:
        await post(event.order_id, event.subject, once)
        return NoteSent(event.order_id, event.subject)

    return App(
        store,
        name="notifications",
        bus=bus,
        events=MailRequested | MailSent,
        decisions=[note_sent],
        inbox=[Inbox("shop", [tell])],
        effects=[effect(send_mail, from_start=True)],
    )
