"""What breaks others is found, by the rule meant for it; what breaks nobody passes."""

import re
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import pytest
from msgspec import Meta, Struct

from refold import Command, State, Tag
from refold.contract import compare as comparing
from refold.contract import fit
from refold.contract.compare import Mode, additions, compare
from refold.contract.describe import Contract, FollowerForm
from tests.contract.making import CustomerId, OrderId, made, placed, told


class Line(Struct):
    sku: str
    quantity: int


class LineWithNote(Struct):
    sku: str
    quantity: int
    note: str


class LineRenamed(Struct):
    product: str
    quantity: int


class Point(Struct, array_like=True):
    x: int
    y: int


class PointTurned(Struct, array_like=True):
    y: int
    x: int


class PointIn3D(Struct, array_like=True):
    x: int
    y: int
    z: int = 0


class Card(Struct, tag="card"):
    number: str


class Cash(Struct, tag="cash"):
    amount: int


class Coupon(Struct, tag="coupon"):
    code: str


class CashCalledMoney(Struct, tag="money"):
    amount: int


class Closed(Struct, forbid_unknown_fields=True):
    sku: str


class ClosedBefore(Struct, forbid_unknown_fields=True):
    sku: str
    note: str = ""


class Tree(Struct):
    name: str
    parts: "list[Tree]" = []


class TreeOfNumbers(Struct):
    name: int
    parts: "list[TreeOfNumbers]" = []


class Ship(Command):
    order_id: OrderId


class ShipTo(Command):
    order_id: OrderId
    address: str


class ShipPerhapsTo(Command):
    order_id: OrderId
    address: str = ""


ShipTo.__name__ = ShipPerhapsTo.__name__ = "Ship"  # what they would be called in two states of one program
OrderShipped = made("OrderShipped", ("order_id", OrderId))
Note = made("Noted", ("order_id", OrderId), ("customer_id", CustomerId))


def ship(cmd: Ship) -> Iterable[OrderShipped]: ...  # type: ignore[valid-type, empty-body]


def ship_to(cmd: ShipTo) -> Iterable[OrderShipped]: ...  # type: ignore[valid-type, empty-body]


def ship_perhaps_to(cmd: ShipPerhapsTo) -> Iterable[OrderShipped]: ...  # type: ignore[valid-type, empty-body]


class Notes(State):
    order_id: OrderId
    count: int = 0

    def evolve(self, event: Note) -> Self:  # type: ignore[valid-type]
        return self


class NotesByCustomer(State):
    customer_id: CustomerId
    count: int = 0

    def evolve(self, event: Note) -> Self:  # type: ignore[valid-type]
        return self


NotesByCustomer.__name__ = "Notes"
V1, V2, V3 = placed(), placed(("total", int, 0), version=2), placed(("total", int, 0), version=3)


def to_2(old: V1) -> V2: ...  # type: ignore[valid-type, empty-body]


def to_3(old: V2) -> V3: ...  # type: ignore[valid-type, empty-body]


def drop(old: V1) -> None: ...  # type: ignore[valid-type]


def fields(before: Any, after: Any) -> tuple[Contract, Contract]:
    """Return two contracts in which one field is of another type."""
    return told(placed(("it", before))), told(placed(("it", after)))


def does(kind: Literal["projection", "process", "effect"], name: str, *emits: str) -> Contract:
    """Return a contract in which something follows what was shipped."""
    return told(OrderShipped, followers=[FollowerForm(name, kind, f"shop:{name}", "", ("OrderShipped.v1",), emits)])


class PointInTime(Struct, array_like=True, forbid_unknown_fields=True):
    x: int
    y: int
    t: int = 0


class ClosedPoint(Struct, array_like=True, forbid_unknown_fields=True):
    x: int
    y: int


class PlaceToFill(Struct, array_like=True):
    x: int
    y: int
    z: int


class Case(NamedTuple):
    old: Contract
    new: Contract
    rule: str
    mode: Mode = "backward"
    words: str = ""


BREAKS = {
    "a renamed field": Case(
        told(placed(("total", int))), told(placed(("amount", int))), "field-renamed", words="is called 'amount' now"
    ),
    "a renamed field with a default": Case(
        told(placed(("total", int, 0))), told(placed(("totals", int, 0))), "field-renamed"
    ),
    "a renamed field of a nested struct": Case(*fields(list[Line], list[LineRenamed]), "field-renamed"),
    "a field that old code needs is removed": Case(
        told(placed(("total", int))), told(placed()), "field-removed", "forward", "programs that still run the old code"
    ),
    "a removed field that new code refuses": Case(*fields(ClosedBefore, Closed), "field-removed"),
    "a new required field": Case(told(placed()), told(placed(("total", int))), "field-required", words="no default"),
    "a new required field of a nested struct": Case(*fields(list[Line], list[LineWithNote]), "field-required"),
    "a default that is gone": Case(told(placed(("total", int, 0))), told(placed(("total", int))), "default-removed"),
    "another type": Case(*fields(int, str), "type-changed", words="was integer and is text"),
    "a wider type, for old code": Case(*fields(int, float), "type-widened", "forward"),
    "a narrower type": Case(*fields(float, int), "type-changed"),
    "None no more": Case(*fields(int | None, int), "type-narrowed", words="cannot be null any more"),
    "None, for old code": Case(*fields(int, int | None), "type-widened", "forward"),
    "another form of text": Case(*fields(str, Decimal), "type-narrowed", words="was a text and is a decimal"),
    "one that could be anything": Case(*fields(Any, int), "type-narrowed"),
    "the type of the parts of a list": Case(*fields(list[int], list[str]), "type-changed"),
    "the type of the values of a dict": Case(*fields(dict[str, int], dict[str, str]), "type-changed"),
    "a place more in a tuple": Case(*fields(tuple[int, str], tuple[int, str, int]), "length-changed"),
    "a value that is removed": Case(*fields(Literal["a", "b", "c"], Literal["a"]), "value-removed"),
    "a value that is added, for old code": Case(*fields(Literal["a"], Literal["a", "b"]), "value-added", "forward"),
    "a value that is renamed": Case(*fields(Literal["a", "b"], Literal["a", "c"]), "value-renamed"),
    "free text that is listed now": Case(*fields(str, Literal["a"]), "type-narrowed", words="must be one of 'a' now"),
    "a bound that is tighter": Case(
        *fields(Annotated[int, Meta(le=9)], Annotated[int, Meta(le=5)]), "bounds-tightened"
    ),
    "a pattern that was not there": Case(*fields(str, Annotated[str, Meta(pattern="^a")]), "bounds-tightened"),
    "positional fields in another order": Case(
        *fields(Point, PointTurned), "fields-reordered", words="stored by their order"
    ),
    "a member of a union that is removed": Case(*fields(Card | Cash, Card), "member-removed", words="type=cash"),
    "a member of a union that is added, for old code": Case(
        *fields(Card | Cash, Card | Cash | Coupon), "member-added", "forward"
    ),
    "a member of a union that has another tag": Case(*fields(Card | Cash, Card | CashCalledMoney), "member-removed"),
    "a tag taken from another field": Case(
        told(made("Noted", ("of", CustomerId), ("by", str))),
        told(made("Noted", ("of", str), ("by", CustomerId))),
        "tag-moved",
        words="takes its tag 'customer' from by where it took it from of",
    ),
    "a field that has no tag any more": Case(
        *fields(CustomerId, str), "tag-removed", words="those stored before keep theirs"
    ),
    "a field that has a tag now": Case(*fields(str, CustomerId), "tag-added", words="stored before are not found"),
    "a tag of another type": Case(
        *fields(Annotated[str, Tag("n")], Annotated[int, Tag("n")]), "tag-type", words="of a int where it was a str"
    ),
    "an event that is removed": Case(told(placed(), OrderShipped), told(placed()), "event-removed"),
    "an event that is renamed": Case(
        told(made("Placed", ("order_id", OrderId))),
        told(made("Ordered", ("order_id", OrderId))),
        "event-renamed",
        words="is called Ordered now",
    ),
    "an upcaster that is missing": Case(told(V1), told(V2), "version-unread", words="an upcaster is missing"),
    "an upcaster that is missing in a chain": Case(
        told(V2, upcasters=[to_2]), told(V3, upcasters=[to_3]), "version-unread"
    ),
    "an old class that is changed": Case(
        told(V2, upcasters=[to_2]),
        Contract("shop", (told(placed(("x", int))).events[0], *told(V2).events)),
        "field-required",
    ),
    "a version that is skipped": Case(told(V1), told(V1, V3), "version-skipped", words="nothing reads version 2"),
    "a version that is new, for old code": Case(told(V1), told(V2, upcasters=[to_2]), "version-added", "forward"),
    "a version below one that is used": Case(told(V2), told(V1, V2), "version-lowered"),
    "two classes that are stored as one": Case(
        told(V1), Contract("shop", (*told(V1).events, *told(V1).events)), "name-taken"
    ),
    "another key of a state": Case(
        told(Note, states=[Notes]), told(Note, states=[NotesByCustomer]), "key-changed", words="by 'customer'"
    ),
    "a command that is gone": Case(
        told(OrderShipped, decisions=[ship]), told(OrderShipped), "command-removed", words="who still sends it"
    ),
    "a command that asks for more": Case(
        told(OrderShipped, decisions=[ship]), told(OrderShipped, decisions=[ship_to]), "field-required"
    ),
    "something that is not published any more": Case(
        told(placed(), published=[OrderShipped]), told(placed(), published=[]), "publication-ended"
    ),
    "another topic": Case(told(placed(), published=[V1]), told(placed(), published=[V1], topic="store"), "topic-gone"),
    "what consumers need is gone": Case(
        told(V1, published=[placed(("total", int))]),
        told(V1, published=[placed()]),
        "field-removed",
        words="contexts that follow",
    ),
    "what consumers do not know is published": Case(
        told(V1, published=[placed(("how", Literal["a"]))]),
        told(V1, published=[placed(("how", Literal["a", "b"]))]),
        "value-added",
    ),
    "a bound where there was none, of another kind of number": Case(
        *fields(int, Annotated[float, Meta(ge=0)]), "bounds-tightened", words="minimum"
    ),
    "keys of another type": Case(*fields(dict[str, int], dict[int, int]), "type-narrowed"),
    "keys of another type, for old code": Case(*fields(dict[int, int], dict[str, int]), "type-widened", "forward"),
    "a moment that is one of some words now": Case(*fields(date, Literal["today"]), "type-changed", "forward"),
    "fewer positional fields than new code takes": Case(*fields(PointInTime, ClosedPoint), "field-removed"),
    "more positional fields than old code takes": Case(*fields(ClosedPoint, PointInTime), "field-added", "forward"),
    "a positional field that must be filled now": Case(*fields(PointIn3D, PlaceToFill), "default-removed"),
    "a zone that must be there now": Case(*fields(datetime, Annotated[datetime, Meta(tz=True)]), "bounds-tightened"),
    "an event of another context that must say more": Case(
        told(V1, taken=[placed()]), told(V1, taken=[placed(("x", int))]), "field-required", words="what other contexts"
    ),
    "an event of another context that is not taken any more": Case(
        told(V1, taken=[placed(), OrderShipped]), told(V1, taken=[placed()]), "taken-ended"
    ),
    "a context that is not listened to any more": Case(told(V1, taken=[placed()]), told(V1), "taken-ended"),
    "an event of another context in its new version only": Case(
        told(V1, taken=[V1]), told(V1, taken=[V2]), "taken-ended", words="although OrderPlaced.v2 is"
    ),
    "a process that is renamed": Case(
        does("process", "bill", "Ship"),
        does("process", "invoice", "Ship"),
        "follower-renamed",
        words="all its commands are given a second time",
    ),
    "an effect that is renamed": Case(
        does("effect", "mail"), does("effect", "send_mail"), "follower-renamed", words="what is not done by then"
    ),
    "a process that is gone": Case(does("process", "bill"), told(OrderShipped), "follower-removed", words="timers"),
    "an effect that is gone, where another is new": Case(
        does("effect", "mail"), does("effect", "count", "Ship"), "follower-removed", words="lead to nothing"
    ),
}
"""Each with the rule that tells of it, the mode in which it fails, and something of what is said."""

PASSES: dict[str, tuple[Contract, Contract, Mode]] = {
    "nothing": (told(placed()), told(placed()), "full"),
    "a new event": (told(placed()), told(placed(), OrderShipped), "full"),
    "a new field with a default": (told(placed()), told(placed(("total", int, 0))), "full"),
    "a new field that may be None": (told(placed()), told(placed(("total", int | None, None))), "full"),
    "another default": (told(placed(("total", int, 0))), told(placed(("total", int, 1))), "full"),
    "fields in another order": (
        told(placed(("a", int), ("b", str))),
        told(placed(("b", str), ("a", int))),
        "full",
    ),
    "a removed field that had a default": (told(placed(("note", str, ""))), told(placed()), "full"),
    "a removed field, for new code": (told(placed(("total", int))), told(placed()), "backward"),
    "a field that may be left out": (told(placed(("note", str))), told(placed(("note", str, ""))), "backward"),
    "a wider type": (*fields(int, float), "backward"),
    "whole numbers that become Decimals": (*fields(int, Decimal), "backward"),
    "a moment that becomes text": (*fields(Decimal, str), "backward"),
    "None as well": (*fields(int, int | None), "backward"),
    "None no more, for old code": (*fields(int | None, int), "forward"),
    "anything": (*fields(int, Any), "backward"),
    "a value more": (*fields(Literal["a"], Literal["a", "b"]), "backward"),
    "a value less, for old code": (*fields(Literal["a", "b", "c"], Literal["a"]), "forward"),
    "text that need not be listed": (*fields(Literal["a"], str), "backward"),
    "a member of a union more": (*fields(Card | Cash, Card | Cash | Coupon), "backward"),
    "a bound that is looser": (*fields(Annotated[int, Meta(ge=5)], Annotated[int, Meta(ge=1)]), "backward"),
    "a positional field more at the end": (*fields(Point, PointIn3D), "full"),
    "a new version with an upcaster": (told(V1), told(V2, upcasters=[to_2]), "backward"),
    "two new versions with upcasters": (told(V1), told(V3, upcasters=[to_2, to_3]), "backward"),
    "an old version that is kept": (told(V2, upcasters=[to_2]), told(V3, upcasters=[to_2, to_3]), "backward"),
    "facts that do not count any more": (told(V1, OrderShipped), told(OrderShipped, upcasters=[drop]), "full"),
    "a new command": (told(OrderShipped), told(OrderShipped, decisions=[ship]), "full"),
    "a command that may say more": (
        told(OrderShipped, decisions=[ship]),
        told(OrderShipped, decisions=[ship_perhaps_to]),
        "full",
    ),
    "something that is published, too": (told(V1, published=[V1]), told(V1, published=[V1, OrderShipped]), "full"),
    "a version that is published beside the old one": (
        told(V1, published=[V1]),
        told(V1, published=[V1, V2]),
        "full",
    ),
    "a value less for consumers": (
        told(V1, published=[placed(("how", Literal["a", "b", "c"]))]),
        told(V1, published=[placed(("how", Literal["a"]))]),
        "full",
    ),
    "keys that may be any text": (*fields(dict[int, int], dict[str, int]), "backward"),
    "whole numbers within wider bounds": (
        *fields(Annotated[int, Meta(ge=0)], Annotated[float, Meta(ge=-1)]),
        "backward",
    ),
    "an event of another context that need not say more": (
        told(V1, taken=[placed(("x", int))]),
        told(V1, taken=[placed(("x", int, 0), ("y", int, 0)), OrderShipped]),
        "full",
    ),
    "an event of another context that is looked at less closely": (
        told(V1, taken=[placed(("x", int))]),
        told(V1, taken=[placed()]),
        "full",
    ),
    "a projection that is renamed": (does("projection", "Sales"), does("projection", "Turnover"), "full"),
    "a projection that is gone": (does("projection", "Sales"), told(OrderShipped), "full"),
    "a process that is an effect now, and goes on": (does("process", "bill"), does("effect", "bill"), "full"),
    "a process that gives other commands": (does("process", "bill", "Ship"), does("process", "bill", "Bill"), "full"),
}


@pytest.mark.parametrize("case", BREAKS.values(), ids=list(BREAKS))
def test_what_breaks_others_is_found(case: Case) -> None:
    failing = [each for each in compare(case.old, case.new) if each.fails(case.mode)]
    found = [each for each in failing if each.rule == case.rule]
    assert found, failing
    assert case.words in f"{found[0].said} {found[0].breaks}"
    assert found[0].breaks
    assert found[0].advice


@pytest.mark.parametrize("name", PASSES)
def test_what_breaks_nobody_passes(name: str) -> None:
    old, new, mode = PASSES[name]
    assert not [each for each in compare(old, new) if each.fails(mode)]


def test_every_rule_has_a_case() -> None:
    planted = {case.rule for case in BREAKS.values()}
    harmless = {each.rule for old, new, _ in PASSES.values() for each in compare(old, new)}
    source = "".join(Path(each.__file__).read_text(encoding="utf-8") for each in (comparing, fit))
    about = "field|fields|default|type|value|bounds|member|length|tag|event|version|name|key|command|topic"
    about += "|upcast|taken|follower|projection"
    rules = set(re.findall(rf'"((?:{about}|publication)-[a-z]+)"', source))
    assert len(rules) > 25
    assert rules - planted - harmless == set()


def test_one_that_is_read_anew_is_found_by_who_looks_at_the_chain() -> None:
    [found] = compare(told(V2, upcasters=[to_2]), told(V3, upcasters=[to_2, to_3]))[:1]
    assert (found.rule, found.said) == ("upcast-changed", "became OrderPlaced.v2, and now becomes OrderPlaced.v3")


def test_what_is_new_is_told_though_it_breaks_nobody() -> None:
    assert additions(told(V1), told(V2, OrderShipped, upcasters=[to_2], published=[OrderShipped])) == [
        "event OrderPlaced.v2",
        "event OrderShipped.v1",
        "published OrderShipped.v1",
    ]


def test_the_advice_is_what_to_write() -> None:
    [found] = compare(told(placed()), told(placed(("total", int))))
    assert found.advice == (
        "keep the class that wrote what is stored, and give the new one a version of its own:\n"
        "@stored_as('OrderPlaced', version=1)\n"
        "class OrderPlacedV1(Event): ...  # as it was\n"
        "@stored_as('OrderPlaced', version=2)\n"
        "class OrderPlaced(Event): ...  # as it is to be\n"
        "def to_v2(old: OrderPlacedV1) -> OrderPlaced: ...  # in `upcasters`"
    )


def test_a_class_that_holds_itself_can_be_compared() -> None:
    assert not compare(told(placed(("it", Tree))), told(placed(("it", Tree))))
    [found] = compare(told(placed(("it", Tree))), told(placed(("it", TreeOfNumbers))))
    assert (found.path, found.rule) == ("it.name", "type-changed")


def test_a_projection_that_is_renamed_is_told() -> None:
    [found] = compare(does("projection", "Sales"), does("projection", "Turnover"))
    assert (found.rule, found.said) == ("projection-renamed", "is called Turnover now, and built anew under that name")
    [gone] = compare(does("projection", "Sales"), told(OrderShipped))
    assert gone.rule == "projection-removed"


def test_tags_are_told_in_their_order() -> None:
    def tagged(kind: type) -> Contract:
        return told(
            made("Noted", *((f"field_{number}", Annotated[kind, Tag(f"t{number:02}")]) for number in range(20)))
        )

    found = [each for each in compare(tagged(str), tagged(int)) if each.rule == "tag-type"]
    assert [re.findall(r"t\d\d", each.said)[0] for each in found] == [f"t{number:02}" for number in range(20)]
