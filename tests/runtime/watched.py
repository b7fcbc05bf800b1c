"""A shop whose orders go from a command through a process and an effect, for the tests of telemetry."""

from typing import Annotated, Any, Self, TypeAlias

from refold import App, Command, Event, Rejected, State, Tag

OrderId: TypeAlias = Annotated[str, Tag("order")]


class Placed(Event):
    order_id: OrderId
    card: str = ""


class Paid(Event):
    order_id: OrderId


class Place(Command):
    order_id: OrderId
    card: str = ""


class Pay(Command):
    order_id: OrderId


class Order(State):
    order_id: OrderId
    placed: bool = False
    paid: bool = False

    def evolve(self, event: Placed | Paid) -> Self:
        return self.replace(placed=True, paid=self.paid or isinstance(event, Paid))


class Twice(Rejected):
    """It was placed before."""


MAILS: list[str] = []
FAILS: list[str] = []


def place(command: Place, order: Order) -> Placed:
    if order.placed:
        raise Twice(f"{command.order_id} was placed before, with {command.card}")
    return Placed(command.order_id, command.card)


def pay(command: Pay, order: Order) -> Paid | None:
    return None if order.paid else Paid(command.order_id)


def collect(event: Placed) -> Pay:
    return Pay(event.order_id)


async def send_mail(event: Paid) -> None:
    if FAILS:
        raise OSError(FAILS.pop())
    MAILS.append(event.order_id)


def shop(log: Any, **options: Any) -> App:
    given: dict[str, Any] = {"processes": [collect], "effects": [send_mail], "projections": [Order]}
    return App(log, events=Placed | Paid, decisions=[place, pay], name="shop", **(given | options))
