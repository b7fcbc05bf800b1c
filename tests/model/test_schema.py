import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Self, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from refold.errors import InvalidEvent, UndecodableEvent, UnknownEvent, WiringError
from refold.model.message import Event, stored_as
from refold.model.query import Query
from refold.model.record import UNSAID, Metadata, NewEvent, StoredEvent
from refold.model.schema import MAX_DIGITS, Schema, decode_metadata, encode_metadata
from refold.model.state import State
from refold.model.tag import Tag

BERLIN = ZoneInfo("Europe/Berlin")
RECORDED_AT = datetime(2026, 3, 1, tzinfo=UTC)

OrderId: TypeAlias = Annotated[str, Tag("order")]


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(StrEnum):
    SMALL = "s"


class Money(Struct, frozen=True):
    amount: Decimal
    currency: str = "EUR"


class Card(Struct, frozen=True, tag=True):
    number: str
    valid_to: date


class Cash(Struct, frozen=True, tag=True):
    given: Money


class Tree(Struct, frozen=True):
    value: int
    children: tuple["Tree", ...] = ()


@dataclass(frozen=True)
class Point:
    at: datetime
    x: float = 0.0


class Everything(Event):
    text: str = ""
    number: int = 0
    real: float = 0.0
    flag: bool = False
    amount: Decimal = Decimal(0)
    moment: datetime = RECORDED_AT
    clock: time = time(tzinfo=UTC)
    day: date = date(2026, 3, 1)
    length: timedelta = timedelta(0)
    id: UUID = UUID(int=0)
    color: Color = Color.RED
    raw: bytes = b""
    money: Money = Money(Decimal(1))
    payment: Card | Cash | None = None
    tree: Tree = Tree(0)
    prices: dict[str, Money] = {}  # noqa: RUF012 - msgspec gives each its own
    by_day: dict[date, int] = {}  # noqa: RUF012
    colors: frozenset[Color] = frozenset()
    amounts: frozenset[Decimal] = frozenset()
    moments: tuple[datetime, ...] = ()
    pair: tuple[int, str] = (0, "")
    either: int | str = 0
    points: tuple[Point, ...] = ()


class Anything(Event):
    value: Any = None


class Sized(Event):
    size: Annotated[Size, Tag("size")]


SCHEMA = Schema(Everything | Anything | Sized)


def stored(new: NewEvent, position: int = 7) -> StoredEvent:
    return StoredEvent(position, RECORDED_AT, new.type, new.version, new.tags, new.data, new.metadata)


def again(event: Event, schema: Schema = SCHEMA) -> Event:
    [again] = schema.decode(stored(schema.encode(event)))
    return again


# What is encoded comes back.

TEXT = st.text(st.characters(codec="utf-8"))
AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**30), max_value=10**30)
ZONES = st.sampled_from(
    [UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu"), timezone(timedelta(hours=-3, minutes=-30))]
)
MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=ZONES, allow_imaginary=False)
MONEY = st.builds(Money, AMOUNTS, TEXT)
TREES = st.recursive(
    st.builds(Tree, st.integers()), lambda inner: st.builds(Tree, st.integers(), st.tuples(inner, inner))
)
EVERYTHING = st.builds(
    Everything,
    text=TEXT,
    number=st.integers(),
    real=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    amount=AMOUNTS,
    moment=MOMENTS,
    clock=st.times(timezones=st.just(UTC)),
    day=st.dates(),
    length=st.timedeltas(),
    id=st.uuids(),
    color=st.sampled_from(Color),
    raw=st.binary(),
    money=MONEY,
    payment=st.none() | st.builds(Card, TEXT, st.dates()) | st.builds(Cash, MONEY),
    tree=TREES,
    prices=st.dictionaries(TEXT, MONEY, max_size=3),
    by_day=st.dictionaries(st.dates(), st.integers(), max_size=3),
    colors=st.frozensets(st.sampled_from(Color)),
    amounts=st.frozensets(AMOUNTS, max_size=3),
    moments=st.lists(MOMENTS, max_size=3).map(tuple),
    pair=st.tuples(st.integers(), TEXT),
    either=st.integers() | TEXT,
    points=st.lists(st.builds(Point, MOMENTS, st.floats(allow_nan=False, allow_infinity=False)), max_size=2).map(tuple),
)


def _in_utc(value: Any) -> Any:
    # Where clocks are turned, Python takes one moment in two zones for two.
    match value:
        case datetime():
            return value.astimezone(UTC)
        case Struct():
            return type(value), [_in_utc(getattr(value, name)) for name in value.__struct_fields__]
        case Point():
            return _in_utc((value.at, value.x))
        case tuple() | list():
            return [_in_utc(each) for each in value]
        case _:
            return value


@given(EVERYTHING)
def test_what_is_encoded_comes_back(event: Everything) -> None:
    assert _in_utc(again(event)) == _in_utc(event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@given(JSON)
def test_any_json_comes_back(value: Any) -> None:
    assert again(Anything(value)) == Anything(value)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_moment_where_clocks_are_turned_back_comes_back(fold: int) -> None:
    moment = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold)
    event = again(Everything(moments=(moment,), points=(Point(moment),)))
    assert isinstance(event, Everything)
    assert event.moments[0].astimezone(UTC) == event.points[0].at.astimezone(UTC) == moment.astimezone(UTC)


def test_digits_of_a_decimal_are_kept() -> None:
    event = again(Everything(amount=Decimal("1.500")))
    assert isinstance(event, Everything)
    assert str(event.amount) == "1.500"
    limit = Decimal("9" * MAX_DIGITS)
    assert again(Everything(amount=limit)) == Everything(amount=limit)


def test_a_new_event_says_what_the_log_needs() -> None:
    assert SCHEMA.encode(Sized(Size.SMALL), Metadata(actor="ann")) == NewEvent(
        "Sized", b'{"size":"s"}', ("size:s",), 1, b'{"actor":"ann"}'
    )


def test_tags_are_of_what_will_be_read() -> None:
    assert SCHEMA.encode(Sized("s")).tags == ("size:s",)  # type: ignore[arg-type]


# What would not come back is refused.

NAIVE = datetime(2026, 3, 1)
ODD_ZONE = timezone(timedelta(seconds=3601))


def deep(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def deep_tree(depth: int) -> Tree:
    tree = Tree(0)
    for _ in range(depth):
        tree = Tree(0, (tree,))
    return tree


REFUSED: list[tuple[Event, str]] = [
    (Everything(moment=NAIVE), "Everything.moment is datetime.datetime(2026, 3, 1, 0, 0), which has no time zone"),
    (Everything(moments=(RECORDED_AT, NAIVE)), "Everything.moments[] is"),
    (Everything(points=(Point(NAIVE),)), "Everything.points[].at is"),
    (Everything(clock=time(9)), "Everything.clock is datetime.time(9, 0), which has no time zone"),
    (Everything(clock=time(9, tzinfo=BERLIN)), "Everything.clock is"),
    (Anything(NAIVE), "Anything.value is"),
    (Anything({"a": [{"b": NAIVE}]}), "Anything.value['a'][]['b'] is"),
    (Anything({NAIVE: 1}), "Anything.value, a key, is"),
    (Everything(real=math.nan), "Everything.real is nan, which JSON cannot hold"),
    (Everything(real=-math.inf), "Everything.real is -inf"),
    (Everything(points=(Point(RECORDED_AT, math.inf),)), "Everything.points[].x is inf"),
    (Anything([1.0, math.nan]), "Anything.value[] is nan"),
    (Everything(amount=Decimal("NaN")), "Everything.amount is Decimal('NaN')"),
    (Everything(amount=Decimal("sNaN")), "Everything.amount is Decimal('sNaN')"),
    (Everything(amount=Decimal("Infinity")), "Everything.amount is Decimal('Infinity')"),
    (Everything(amount=Decimal("1e999999")), "Everything.amount is Decimal('1E+999999'): at most 64 digits"),
    (Everything(amount=Decimal("1e-65")), "Everything.amount is"),
    (Everything(money=Money(Decimal("9" * 65))), "Everything.money.amount is"),
    (Everything(prices={"a": Money(Decimal("1e99"))}), "Everything.prices['a'].amount is"),
    (Everything(amounts=frozenset({Decimal("1e99")})), "Everything.amounts[] is"),
    (Everything(text="\ud800"), "Everything cannot be stored: 'utf-8' codec can't encode"),
    (Anything({"\udfff": 1}), "Anything cannot be stored: 'utf-8' codec can't encode"),
    (Everything(number="5"), "Everything cannot be stored: Expected `int`, got `str` - at `$.number`"),  # type: ignore[arg-type]
    (Everything(number=True), "Expected `int`, got `bool` - at `$.number`"),
    (Everything(text=None), "Expected `str`, got `null` - at `$.text`"),  # type: ignore[arg-type]
    (Everything(amount=0.1), "Everything.amount is 0.1, but would be read from the log as Decimal('0.1')"),  # type: ignore[arg-type]
    (Everything(amount=1e300), "Everything.amount is Decimal('1E+300'): at most 64 digits"),  # type: ignore[arg-type]
    (Everything(day=RECORDED_AT), "at `$.day`"),
    (Everything(moments=[RECORDED_AT]), "but would be read from the log as (datetime"),  # type: ignore[arg-type]
    (Everything(pair=(1, "a", 2)), "at `$.pair`"),  # type: ignore[arg-type]
    (Everything(color="green"), "at `$.color`"),  # type: ignore[arg-type]
    (Everything(color="red"), "Everything.color is 'red', but would be read from the log as <Color.RED"),  # type: ignore[arg-type]
    (Everything(moment=datetime(2026, 3, 1, tzinfo=ODD_ZONE)), "Everything.moment is"),
    (Anything((1, 2)), "Anything.value is (1, 2), but would be read from the log as [1, 2]: give it the type"),
    (Anything(UUID(int=0)), "Anything.value is UUID("),
    (Anything({"a": {1: 2}}), "Anything.value['a'] is {1: 2}, but would be read from the log as {'1': 2}"),
    (Anything(object()), "Anything cannot be stored: Encoding objects of type object is unsupported"),
    (Anything(deep(5_000)), "Anything cannot be stored: maximum recursion depth"),
    (Everything(tree=deep_tree(5_000)), "Everything cannot be stored: maximum recursion depth"),
]


@pytest.mark.parametrize(("event", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_what_would_not_come_back_is_refused(event: Event, message: str) -> None:
    with pytest.raises(InvalidEvent, match=re.escape(message)):
        SCHEMA.encode(event)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidEvent, match="maximum recursion depth"):
        SCHEMA.encode(Anything(value))


class Stranger(Event): ...


class SubclassOfSized(Sized): ...


@pytest.mark.parametrize("event", [Stranger(), SubclassOfSized(Size.SMALL)])
def test_an_event_that_the_schema_does_not_have_is_refused(event: Event) -> None:
    with pytest.raises(InvalidEvent, match=f"{type(event).__name__} is not among the events of this app: add it"):
        SCHEMA.encode(event)


# What the log holds but the program cannot read is told, with its place.


def test_an_unknown_type_is_told() -> None:
    with pytest.raises(
        UnknownEvent, match="position 7 is a Gone version 1, but this program has no such event"
    ) as caught:
        SCHEMA.decode(stored(NewEvent("Gone")))
    assert caught.value.data == {"position": 7, "type": "Gone", "version": 1}


def test_an_unknown_version_is_told() -> None:
    with pytest.raises(UnknownEvent, match=r"is a Sized version 2, but this program knows version 1\. Add its class"):
        SCHEMA.decode(stored(NewEvent("Sized", version=2)))


@pytest.mark.parametrize(
    ("type", "data", "why"),
    [
        ("Sized", b"{}", "missing required field `size`"),
        ("Sized", b'{"size":"xl"}', "Invalid enum value 'xl' - at `$.size`"),
        ("Sized", b"", "Input data was truncated"),
        ("Sized", b"null", "Expected `object`, got `null`"),
        ("Everything", b'{"text":"\xff"}', "invalid start byte"),
        ("Everything", b'{"moment":"yesterday"}', "Invalid RFC3339"),
        ("Everything", b'{"amount":"x"}', "Invalid decimal string - at `$.amount`"),
        ("Everything", b'{"payment":{"type":"Cheque"}}', "Invalid value 'Cheque' - at `$.payment.type`"),
        ("Anything", b'{"value":1e999}', "out of range"),
        ("Anything", b'{"value":' + b"[" * 100_000, "maximum recursion depth"),
    ],
)
def test_data_that_does_not_fit_is_told(type: str, data: bytes, why: str) -> None:
    with pytest.raises(UndecodableEvent) as caught:
        SCHEMA.decode(stored(NewEvent(type, data)))
    message = str(caught.value)
    assert message.startswith(f"the event at position 7, {type} version 1, does not fit ")
    assert why in message
    assert f"Its data begins {data[:120]!r}." in message
    assert message.endswith("If the class changed, keep the old one and write an upcaster")
    assert caught.value.data == {"position": 7, "type": type, "version": 1}
    assert len(message) < 1_000


def test_fields_that_are_new_or_gone_do_not_hurt() -> None:
    assert SCHEMA.decode(stored(NewEvent("Sized", b'{"size":"s","gone":1}'))) == (Sized(Size.SMALL),)
    assert SCHEMA.decode(stored(NewEvent("Anything", b"{}"))) == (Anything(None),)


# Metadata.


@given(
    st.builds(
        Metadata,
        TEXT,
        TEXT,
        TEXT,
        TEXT,
        MOMENTS | st.just(UNSAID),
        st.dictionaries(TEXT, JSON, max_size=3),
    )
)
def test_metadata_come_back(metadata: Metadata) -> None:
    read = decode_metadata(stored(NewEvent("A", metadata=encode_metadata(metadata))))
    said = RECORDED_AT if metadata.occurred_at is UNSAID else metadata.occurred_at
    assert read.occurred_at.astimezone(UTC) == said.astimezone(UTC)
    assert msgspec.structs.replace(read, occurred_at=UNSAID) == msgspec.structs.replace(metadata, occurred_at=UNSAID)


def test_without_metadata_it_occurred_when_it_was_recorded() -> None:
    assert decode_metadata(stored(NewEvent("A"))) == Metadata(occurred_at=RECORDED_AT)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            Metadata(occurred_at=NAIVE),
            "metadata.occurred_at is datetime.datetime(2026, 3, 1, 0, 0), which has no time zone",
        ),
        (Metadata(extra={"at": NAIVE}), "metadata.extra['at'] is"),
        (Metadata(extra={"n": [math.nan]}), "metadata.extra['n'][] is nan"),
        (Metadata(extra={"id": UUID(int=0)}), "metadata.extra['id'] is UUID("),
        (Metadata(extra={"x": object()}), "metadata cannot be stored: Encoding objects"),
        (Metadata(actor="\ud800"), "metadata cannot be stored: 'utf-8' codec"),
        (Metadata(actor=5), "metadata cannot be stored: Expected `str`, got `int` - at `$.actor`"),  # type: ignore[arg-type]
        (Metadata(extra={"deep": deep(5_000)}), "metadata cannot be stored: maximum recursion depth"),
    ],
)
def test_metadata_that_would_not_come_back_are_refused(metadata: Metadata, message: str) -> None:
    with pytest.raises(InvalidEvent, match=re.escape(message)):
        SCHEMA.encode(Sized(Size.SMALL), metadata)


@pytest.mark.parametrize("data", [b"{", b'{"actor":5}', b'{"actor":"\xff"}', b"[" * 100_000])
def test_metadata_that_cannot_be_read_are_told(data: bytes) -> None:
    with pytest.raises(
        UndecodableEvent, match="the event at position 7, A version 1, has metadata that cannot be read"
    ):
        decode_metadata(stored(NewEvent("A", metadata=data)))


def test_a_recorded_event_has_its_place_and_tags() -> None:
    [recorded] = SCHEMA.recorded(stored(SCHEMA.encode(Sized(Size.SMALL), Metadata(actor="ann"))))
    assert (recorded.position, recorded.recorded_at, recorded.tags) == (7, RECORDED_AT, ("size:s",))
    assert recorded.event == Sized(Size.SMALL)
    assert recorded.metadata == Metadata(actor="ann", occurred_at=RECORDED_AT)
    assert recorded.occurred_at == RECORDED_AT


# Upcasters.


@stored_as("Placed", version=1)
class PlacedV1(Event):
    order_id: OrderId
    total: int


@stored_as("Placed", version=2)
class PlacedV2(Event):
    order_id: OrderId
    total: Decimal


@stored_as("Placed", version=3)
class Placed(Event):
    order_id: OrderId
    total: Money


class Bought(Event):
    order_id: OrderId


class Cancelled(Event):
    order_id: OrderId


def to_decimal(old: PlacedV1) -> PlacedV2:
    return PlacedV2(old.order_id, Decimal(old.total) / 100)


def to_money(old: PlacedV2) -> Placed:
    return Placed(old.order_id, Money(old.total))


def renamed(old: Bought) -> Placed:
    return Placed(old.order_id, Money(Decimal(0)))


UPCASTERS: tuple[Callable[[Any], Event], ...] = (to_money, renamed, to_decimal)
EVOLVED = Schema([Placed, Cancelled], UPCASTERS)


class Order(State):
    order_id: OrderId

    def evolve(self, event: Placed | Cancelled) -> Self:
        return self


@pytest.mark.parametrize(
    ("new", "total"),
    [
        (NewEvent("Placed", b'{"order_id":"a","total":150}', ("order:a",), version=1), "1.5"),
        (NewEvent("Placed", b'{"order_id":"a","total":"1.50"}', ("order:a",), version=2), "1.50"),
        (NewEvent("Placed", b'{"order_id":"a","total":{"amount":"1.50"}}', version=3), "1.50"),
        (NewEvent("Bought", b'{"order_id":"a"}', ("order:a",)), "0"),
    ],
)
def test_every_version_becomes_the_one_that_is_known(new: NewEvent, total: str) -> None:
    assert EVOLVED.decode(stored(new)) == (Placed("a", Money(Decimal(total))),)


def test_a_new_event_has_the_newest_version() -> None:
    assert EVOLVED.encode(Placed("a", Money(Decimal(1)))).version == 3


def test_what_is_upcast_is_no_longer_recorded() -> None:
    with pytest.raises(InvalidEvent, match="PlacedV2 is not among the events of this app"):
        EVOLVED.encode(PlacedV2("a", Decimal(1)))


def test_queries_ask_for_the_old_names_too() -> None:
    assert EVOLVED.names([Placed]) == ("Placed", "Bought")
    assert EVOLVED.names([Cancelled, Placed]) == ("Cancelled", "Placed", "Bought")
    assert EVOLVED.query(Order("a")) == Query.of(types=["Bought", "Cancelled", "Placed"], tags=["order:a"])


def test_an_upcaster_that_fails_is_told() -> None:
    def breaks(old: Bought) -> Placed:
        raise KeyError("x")

    schema = Schema(Cancelled | Placed, [breaks, to_decimal, to_money])
    with pytest.raises(UndecodableEvent, match=r"position 7, Bought version 1, fails .*breaks: KeyError\('x'\)"):
        schema.decode(stored(NewEvent("Bought", b'{"order_id":"a"}')))


def test_an_upcaster_that_returns_something_else_is_told() -> None:
    def forgets(old: Bought) -> Placed:
        return None  # type: ignore[return-value]

    schema = Schema(Cancelled | Placed, [forgets, to_decimal, to_money])
    with pytest.raises(UndecodableEvent, match=r"is made None by .*forgets, but should be a Placed"):
        schema.decode(stored(NewEvent("Bought", b'{"order_id":"a"}')))


def test_events_are_a_union_a_list_of_them_or_one() -> None:
    for events in (Placed | Cancelled, [Placed, Cancelled], (Placed | Cancelled,), [Cancelled, Placed | Cancelled]):
        assert set(Schema(events, UPCASTERS).events) == {Placed, Cancelled}
    assert Schema(Cancelled).events == (Cancelled,)


def test_names_of_what_it_does_not_have_is_a_wiring_mistake() -> None:
    with pytest.raises(WiringError, match="Stranger is not among the events of this app: add it to `events`"):
        EVOLVED.names([Stranger])
