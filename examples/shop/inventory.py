"""Inventory: stock comes in, and is reserved for orders, all of their products or none."""

from collections.abc import Iterable
from typing import Self

from msgspec import Struct

from examples.shop.catalogue import Sku
from examples.shop.orders import OPEN, Order, OrderId
from refold import Command, Event, Rejected, State


class Units(Struct, frozen=True):
    sku: Sku
    quantity: int


class StockReceived(Event):
    sku: Sku
    quantity: int


class InventoryReserved(Event):
    order_id: OrderId
    units: tuple[Units, ...]


class InventoryRefused(Event):
    order_id: OrderId
    missing: tuple[Sku, ...]


class InventoryReleased(Event):
    order_id: OrderId
    units: tuple[Units, ...]


class ReceiveStock(Command):
    sku: Sku
    quantity: int


class ReserveInventory(Command):
    order_id: OrderId
    units: tuple[Units, ...]


class ReleaseInventory(Command):
    order_id: OrderId


class NothingReceived(Rejected):
    """Stock comes in in quantities above zero."""


class Stock(State):
    """How many of a product can still be promised. The shop keeps it as a view, too."""

    sku: Sku
    available: int = 0

    def evolve(self, event: StockReceived | InventoryReserved | InventoryReleased) -> Self:
        match event:
            case StockReceived():
                return self.replace(available=self.available + event.quantity)
            case InventoryReserved():
                return self.replace(available=self.available - self._mine(event.units))
            case InventoryReleased():
                return self.replace(available=self.available + self._mine(event.units))

    def _mine(self, units: Iterable[Units]) -> int:
        return sum(each.quantity for each in units if each.sku == self.sku)


class Reservation(State):
    """What is set aside for an order."""

    order_id: OrderId
    units: tuple[Units, ...] = ()

    def evolve(self, event: InventoryReserved | InventoryReleased) -> Self:
        return self.replace(units=event.units if isinstance(event, InventoryReserved) else ())


def receive_stock(cmd: ReceiveStock) -> Iterable[StockReceived]:
    if cmd.quantity <= 0:
        raise NothingReceived
    yield StockReceived(cmd.sku, cmd.quantity)


def reserve_inventory(
    cmd: ReserveInventory, order: Order, reservation: Reservation, *stock: Stock
) -> Iterable[InventoryReserved | InventoryRefused]:
    # A process asks for this, not a person: its refusal is a fact, too, and not an error.
    if order.status not in OPEN or reservation.units:
        return
    wanted = {each.sku: each.quantity for each in cmd.units}
    missing = tuple(each.sku for each in stock if each.available < wanted[each.sku])
    if missing:
        yield InventoryRefused(cmd.order_id, missing)
    else:
        yield InventoryReserved(cmd.order_id, cmd.units)


def release_inventory(cmd: ReleaseInventory, reservation: Reservation) -> Iterable[InventoryReleased]:
    if reservation.units:
        yield InventoryReleased(cmd.order_id, reservation.units)
