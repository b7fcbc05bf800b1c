from datetime import UTC, date, datetime
from enum import Enum
from typing import Annotated, Self, TypeAlias
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.errors import InvalidEvent, WiringError
from refold.model.message import Event, stored_as
from refold.model.query import Query
from refold.model.record import UNSAID, Metadata, Recorded
from refold.model.state import Singleton, State, state_kind
from refold.model.tag import Tag, tags_of

Sku: TypeAlias = Annotated[str, Tag("product")]
StoreId: TypeAlias = Annotated[int, Tag("store")]


class Received(Event):
    sku: Sku
    store: StoreId
    quantity: int


class Reserved(Event):
    skus: tuple[Sku, ...]
    store: StoreId


@stored_as("Counted", version=3)
class StockCounted(Event):
    sku: Sku
    store: StoreId
    quantity: int


class StoreOpened(Event):
    store: StoreId


class ReceivedAgain(Received): ...


StockEvent: TypeAlias = Received | Reserved


class Stock(State):
    sku: Sku
    store: StoreId
    available: int = 0

    def evolve(self, event: StockEvent | StockCounted) -> Self:
        match event:
            case Received(quantity=quantity):
                return self.replace(available=self.available + quantity)
            case Reserved():
                return self.replace(available=self.available - 1)
            case StockCounted(quantity=quantity):
                return self.replace(available=quantity)


class LastSeen(State):
    sku: Sku
    by: str = ""
    at: datetime | None = None

    def evolve(self, event: Received, metadata: Metadata) -> Self:
        return self.replace(by=metadata.actor, at=metadata.occurred_at)


class Stores(Singleton):
    number: int = 0

    def evolve(self, event: StoreOpened) -> Self:
        return self.replace(number=self.number + 1)


class Shape(Enum):
    ROUND = "round"


class Thing(Event):
    shape: Annotated[Shape, Tag("shape")]
    day: Annotated[date, Tag("day")]
    id: Annotated[UUID, Tag("id")]


class Things(State):
    shape: Annotated[Shape, Tag("shape")]
    day: Annotated[date, Tag("day")]
    id: Annotated[UUID, Tag("id")]
    number: int = 0

    def evolve(self, event: Thing) -> Self:
        return self.replace(number=self.number + 1)


EVENTS = st.one_of(
    st.builds(Received, st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 9)),
    st.builds(Reserved, st.lists(st.sampled_from("ab"), max_size=2).map(tuple), st.integers(1, 2)),
    st.builds(StockCounted, st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 9)),
    st.builds(ReceivedAgain, st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 9)),
    st.builds(StoreOpened, st.integers(1, 2)),
)


def test_a_class_says_its_key_its_events_and_its_query() -> None:
    kind = state_kind(Stock)
    assert [(key.name, key.tag.name, key.type) for key in kind.keys] == [
        ("sku", "product", str),
        ("store", "store", int),
    ]
    assert kind.events == (Received, Reserved, StockCounted)
    assert Stock("tea", 1).query() == Query.of(
        types=["Received", "Reserved", "Counted"], tags=["product:tea", "store:1"]
    )


def test_a_state_of_its_key_alone_is_the_initial_state() -> None:
    assert state_kind(Stock).initial("tea", 1) == Stock("tea", 1, available=0)


def test_identity_is_the_class_and_the_key() -> None:
    kind = state_kind(Stock)
    assert kind.identity(Stock("tea", 1, 5)) == kind.identity(Stock("tea", 1, 9)) == (Stock, "tea", 1)
    assert state_kind(Stores).identity(Stores(3)) == (Stores,)


@given(st.lists(EVENTS))
def test_a_fold_takes_what_the_query_matches_in_order(events: list[Event]) -> None:
    state = Stock("a", 1)
    query = state.query()
    matched = [each for each in events if query.matches(type(each).__name__.replace("Stock", ""), tags_of(each))]
    expected = state
    for each in matched:
        assert isinstance(each, Received | Reserved | StockCounted)
        expected = expected.evolve(each)
    assert state.fold(events) == expected


@given(st.lists(EVENTS), st.integers(0, 5))
def test_a_fold_may_be_interrupted_anywhere(events: list[Event], at: int) -> None:
    assert Stock("a", 1).fold(events) == Stock("a", 1).fold(events[:at]).fold(events[at:])


@given(EVENTS)
def test_an_event_belongs_to_the_states_whose_keys_are_in_it(event: Event) -> None:
    kind = state_kind(Stock)
    keys = kind.keys_in(event)
    if isinstance(event, kind.events):
        for sku in "ab":
            for store in (1, 2):
                belongs = set(kind.tags(Stock(sku, store))) <= set(tags_of(event))
                assert ((sku, store) in keys) is belongs


def test_keys_in_an_event_are_each_there_once() -> None:
    assert state_kind(Stock).keys_in(Reserved(("a", "b", "a"), 1)) == [("a", 1), ("b", 1)]
    assert state_kind(Stock).keys_in(Reserved((), 1)) == []
    assert state_kind(Stores).keys_in(StoreOpened(1)) == [()]


def test_a_subclass_of_an_event_is_another_event() -> None:
    assert Stock("a", 1).fold([ReceivedAgain("a", 1, 5)]) == Stock("a", 1)


def test_a_singleton_folds_every_event_of_its_types() -> None:
    assert Stores().fold([StoreOpened(1), Received("a", 1, 1), StoreOpened(2)]) == Stores(2)
    assert Stores().query() == Query.of(types=["StoreOpened"])


def test_metadata_reach_evolve() -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    recorded = Recorded[Event](1, moment, Received("a", 1, 1), Metadata(actor="ann", occurred_at=moment))
    assert LastSeen("a").fold([recorded]) == LastSeen("a", "ann", moment)
    assert LastSeen("a", "x").fold([Received("a", 1, 1)]) == LastSeen("a", "", UNSAID)


def test_keys_of_every_type_find_their_events() -> None:
    key = Shape.ROUND, date(2026, 3, 1), UUID(int=7)
    assert Things(*key).fold([Thing(*key)]).number == 1
    assert Things(*key).query().items[0].tags == (
        "day:2026-03-01",
        "id:00000000-0000-0000-0000-000000000007",
        "shape:round",
    )


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="'product' has an empty value"):
        Stock("", 1).query()


class Forgetful(State):
    sku: Sku

    def evolve(self, event: StockEvent) -> Self:
        match event:
            case Received():
                return self
            case _:
                return None  # type: ignore[return-value]


class Confused(State):
    sku: Sku

    def evolve(self, event: Received) -> Self:
        return 7  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("state", "event", "message"),
    [
        (Forgetful("a"), Reserved(("a",), 1), "Forgetful.evolve returned None for Reserved: give each event"),
        (Confused("a"), Received("a", 1, 1), "Confused.evolve returned 7 for Received"),
    ],
)
def test_evolve_returns_a_state(state: State, event: Event, message: str) -> None:
    with pytest.raises(WiringError, match=message):
        state.fold([event])
