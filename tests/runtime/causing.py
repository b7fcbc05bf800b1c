"""A shop in which one thing leads to another: commands, processes, timers, effects, and what fails."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, Self, TypeAlias

from refold import App, Cancel, Command, Event, Inbox, Later, State, Tag, cancel, effect, later

OrderId: TypeAlias = Annotated[str, Tag("order")]
CustomerId: TypeAlias = Annotated[str, Tag("customer")]


class Placed(Event):
    order_id: OrderId
    customer: CustomerId
    lines: int = 1


class Reserved(Event):
    order_id: OrderId
    number: int


class Paid(Event):
    order_id: OrderId


class Shipped(Event):
    order_id: OrderId


class Expired(Event):
    order_id: OrderId


class Mailed(Event):
    order_id: OrderId


class Place(Command):
    order_id: OrderId
    customer: CustomerId = "c-1"
    lines: int = 1


class Reserve(Command):
    order_id: OrderId
    number: int


class Pay(Command):
    order_id: OrderId


class Ship(Command):
    order_id: OrderId


class Expire(Command):
    order_id: OrderId


class NoteMail(Command):
    order_id: OrderId


class Order(State):
    order_id: OrderId
    status: str = "new"
    reserved: tuple[int, ...] = ()

    def evolve(self, event: Placed | Reserved | Paid | Shipped | Expired) -> Self:
        if isinstance(event, Reserved):
            return self.replace(reserved=(*self.reserved, event.number))
        return self.replace(status=type(event).__name__.lower())


def place(command: Place, order: Order) -> Placed:
    return Placed(command.order_id, command.customer, command.lines)


def reserve(command: Reserve) -> Reserved:
    return Reserved(command.order_id, command.number)


def pay(command: Pay) -> Paid:
    return Paid(command.order_id)


def ship(command: Ship) -> Shipped:
    return Shipped(command.order_id)


def expire(command: Expire, order: Order) -> Iterable[Expired]:
    if order.order_id.endswith("late"):
        raise ZeroDivisionError("too late")
    yield Expired(command.order_id)


def note_mail(command: NoteMail) -> Mailed:
    return Mailed(command.order_id)


def fulfil(event: Placed | Paid) -> Iterable[Reserve | Later | Cancel]:
    name = f"expire {event.order_id}"
    if isinstance(event, Placed):
        for number in range(event.lines):
            yield Reserve(event.order_id, number)
        yield later(Expire(event.order_id), after=timedelta(hours=1), name=name)
    elif not event.order_id.endswith(("expires", "late")):
        yield cancel(name)


def bill(event: Placed) -> Iterable[Pay]:
    if event.order_id.startswith("bad"):
        raise ZeroDivisionError("no money")
    yield Pay(event.order_id)


def deliver(event: Paid) -> Ship:
    return Ship(event.order_id)


async def send_mail(event: Shipped) -> NoteMail:
    return NoteMail(event.order_id)


def shop(store: Any, **options: Any) -> App:
    given: dict[str, Any] = {
        "decisions": [place, reserve, pay, ship, expire, note_mail],
        "processes": [fulfil, bill, deliver],
        "effects": [effect(send_mail, attempts=1)],
        "projections": [Order],
    }
    return App(store, events=Placed | Reserved | Paid | Shipped | Expired | Mailed, **given | options)


class Owed(Event):
    order_id: OrderId


class Owe(Command):
    order_id: OrderId


def owe(command: Owe) -> Owed:
    return Owed(command.order_id)


def owing(event: Placed) -> Owe:
    return Owe(event.order_id)


def billing(store: Any, **options: Any) -> App:
    return App(store, name="billing", events=[Owed], decisions=[owe], inbox=[Inbox("shop", [owing])], **options)
