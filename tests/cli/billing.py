"""Orders that are reminded of, mailed about and published, for the command line to operate."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, TypeAlias

from refold import App, Command, Event, IdempotencyKey, Inbox, Tag, effect, later
from refold.bus.memory import MemoryBus

OrderId: TypeAlias = Annotated[str, Tag("order")]
BROKEN: set[str] = set()
"""Orders that nothing can be done for."""
SENT: list[tuple[str, str]] = []
BUS = MemoryBus()


class OrderPlaced(Event):
    order_id: OrderId


class CustomerReminded(Event):
    order_id: OrderId


class ParcelSeen(Event):
    order_id: OrderId


class ParcelSent(Event):
    order_id: OrderId


class Remind(Command):
    order_id: OrderId


def remind(cmd: Remind) -> CustomerReminded:
    return CustomerReminded(cmd.order_id)


def dun(event: OrderPlaced) -> Iterable[Command]:
    if event.order_id in BROKEN:
        raise ValueError(f"\x1b[31m{event.order_id} is broken")
    yield later(Remind(event.order_id), after=timedelta(days=30), name=f"dun {event.order_id}")


async def mail(event: OrderPlaced, once: IdempotencyKey) -> None:
    SENT.append((event.order_id, once))


def see(event: ParcelSent) -> ParcelSeen:
    return ParcelSeen(event.order_id)


def app(store: str) -> App:
    return App(
        store,
        name="billing",
        bus=BUS,
        events=OrderPlaced | CustomerReminded | ParcelSeen,
        decisions=[remind],
        processes=[dun],
        effects=[effect(mail, from_start=True)],
        inbox=[Inbox("parcels", [see])],
    )
