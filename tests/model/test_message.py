import msgspec
import pytest

from refold.model.message import Command, Event, StoredAs, stored_as, stored_name


class OrderPlaced(Event):
    order_id: str
    note: str = ""


@stored_as("OrderPlaced", version=2)
class OrderPlacedInEuros(Event):
    order_id: str


class OrderPlacedTwice(OrderPlacedInEuros): ...


class PlaceOrder(Command):
    order_id: str


def test_messages_are_frozen_values() -> None:
    event = OrderPlaced("o-1", note="x")
    assert event == OrderPlaced(order_id="o-1", note="x")
    assert hash(event) == hash(OrderPlaced("o-1", "x"))
    with pytest.raises(AttributeError):
        event.note = "y"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        PlaceOrder("o-1").order_id = "o-2"  # type: ignore[misc]


def test_messages_of_two_classes_are_never_equal() -> None:
    assert OrderPlaced("o-1") != PlaceOrder("o-1")


def test_a_name_is_the_class_s_and_the_version_1() -> None:
    assert stored_name(OrderPlaced) == StoredAs("OrderPlaced", 1)


def test_stored_as_says_otherwise() -> None:
    assert stored_name(OrderPlacedInEuros) == StoredAs("OrderPlaced", 2)


def test_a_subclass_is_another_event() -> None:
    assert stored_name(OrderPlacedTwice) == StoredAs("OrderPlacedTwice", 1)


def test_how_it_is_stored_is_not_part_of_the_value() -> None:
    assert msgspec.json.encode(OrderPlacedInEuros("o-1")) == b'{"order_id":"o-1"}'
