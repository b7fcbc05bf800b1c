"""The shop, as notifications understands it: of its contract, what a customer should hear of."""

from examples.notifications.mails import RequestMail
from refold import Event, Inbox


class OrderPlaced(Event):
    order_id: str
    customer_id: str


class OrderShipped(Event):
    order_id: str


class OrderCanceled(Event):
    order_id: str


def thank(event: OrderPlaced) -> RequestMail:
    return RequestMail(event.order_id, "Thank you for your order", event.customer_id)


def announce(event: OrderShipped) -> RequestMail:
    return RequestMail(event.order_id, "Your order is on its way")


def regret(event: OrderCanceled) -> RequestMail:
    return RequestMail(event.order_id, "Your order was canceled")


SHOP = Inbox("shop", [thank, announce, regret])
