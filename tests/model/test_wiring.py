"""Every wiring mistake that `refold.model` can tell, with what it says; the last test finds those without a case."""

import ast
import asyncio
import inspect
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypedDict, cast

import pytest
from msgspec import Struct

import refold.model
from refold.errors import WiringError
from refold.model.handler import Of, Reader, read_decision, read_effect, read_process, read_translation
from refold.model.message import Command, Event, stored_as
from refold.model.record import Metadata
from refold.model.schema import Schema
from refold.model.state import Singleton, State, state_kind
from refold.model.tag import Tag, tag_paths
from refold.model.timer import at, cancel
from refold.model.timer import later as execute_later

Sku: TypeAlias = Annotated[str, Tag("product")]
StoreId: TypeAlias = Annotated[int, Tag("store")]

CASES: dict[str, tuple[Callable[[], object], str]] = {}


def says(message: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    def add(mistake: Callable[[], object]) -> Callable[[], object]:
        assert mistake.__name__ not in CASES
        CASES[mistake.__name__] = mistake, message
        return mistake

    return add


class Received(Event):
    sku: Sku
    store: StoreId


class Opened(Event):
    store: StoreId


class Receive(Command):
    sku: Sku
    store: StoreId = 1


class Move(Command):
    source: Sku
    target: Sku


class Order(Command):
    name: str
    skus: tuple[Sku, ...]


class Product(State):
    sku: Sku

    def evolve(self, event: Received) -> Self:
        return self


class Stock(State):
    sku: Sku
    store: StoreId

    def evolve(self, event: Received) -> Self:
        return self


class Node(Struct, frozen=True):
    sku: Sku
    children: tuple["Node", ...] = ()


@dataclass
class Row:
    sku: Sku


class Entry(TypedDict):
    sku: Sku


# Annotations


class Hidden(State):
    sku: "Skuu"  # type: ignore[name-defined]  # noqa: F821


class Absent(State):
    sku: "pytest.Sku"  # type: ignore[name-defined]


class Broken(State):
    sku: "Sku |"  # type: ignore[valid-type]  # noqa: F722


class NotAType(State):
    sku: "str | 'Sku'"  # type: ignore[valid-type]


@says("Hidden has an annotation that cannot be resolved: name 'Skuu' is not defined. Import the name, and define it")
def a_name_that_is_not_there() -> object:
    return state_kind(Hidden)


@says("Absent has an annotation that cannot be resolved: module 'pytest' has no attribute 'Sku'")
def a_name_that_a_module_does_not_have() -> object:
    return state_kind(Absent)


@says("Broken has an annotation that cannot be resolved: Forward reference must be an expression")
def an_annotation_with_a_typing_error() -> object:
    return state_kind(Broken)


@says("NotAType has an annotation that is not a type: unsupported operand type(s) for |")
def an_annotation_that_is_no_type() -> object:
    return state_kind(NotAType)


# Tags


@says("Tag(''): a tag needs a name, without a colon")
def a_tag_without_a_name() -> object:
    return Tag("")


@says("Tag('a:b'): a tag needs a name, without a colon")
def a_tag_with_a_colon() -> object:
    return Tag("a:b")


def tagged(annotation: Any) -> object:
    return tag_paths(type("Sold", (Event,), {"__annotations__": {"field": annotation}, "__module__": __name__}))


WRONG_TAGS = {
    "float": float,
    "Decimal": Decimal,
    "bool": bool,
    "datetime": datetime,
    "Node": Node,
    "Literal": Literal["a"],
    "Any": Any,
    "list": list,
}
for name, kind in WRONG_TAGS.items():
    CASES[f"a_tag_on_a_{name}"] = (
        lambda kind=kind: tagged(Annotated[kind, Tag("x")]),
        f"Sold.field is tagged 'x' but is a {name}; a tag is made of a str, int, UUID, date or enum",
    )


@says("Sold.field[] is tagged 'x' but is a float")
def a_tag_on_a_collection_of_floats() -> object:
    return tagged(Annotated[list[float] | None, Tag("x")])


@says("Sold.field[].sku is tagged, but tags are found in structs only: make Row a msgspec.Struct")
def a_tag_in_a_dataclass() -> object:
    return tagged(tuple[Row, ...])


@says("Sold.field.sku is tagged, but tags are found in structs only: make Entry a msgspec.Struct")
def a_tag_in_a_typed_dict() -> object:
    return tagged(Entry | None)


@says("Sold.field.children[].sku is tagged, but Node contains itself")
def a_tag_at_any_depth() -> object:
    return tagged(Node)


# Events


@says("stored_as('', version=1): an event needs a name, and versions start at 1")
def stored_without_a_name() -> object:
    return stored_as("")


@says("stored_as('A', version=0): an event needs a name, and versions start at 1")
def stored_as_version_0() -> object:
    return stored_as("A", version=0)


# States


@says("NoKey has no key. Give it one or more fields without a default, each with a tag: `order_id: Annotated[str")
def a_state_without_a_key() -> object:
    class NoKey(State):
        number: int = 0

        def evolve(self, event: Received) -> Self: ...

    return state_kind(NoKey)


@says("Keyed is a Singleton, so it has no key: give 'sku' a default, or make it a `State`")
def a_singleton_with_a_key() -> object:
    class Keyed(Singleton):
        sku: Sku

        def evolve(self, event: Received) -> Self: ...

    return state_kind(Keyed)


@says(
    "Untagged.order_id has no default, so it is part of the key, but it has no tag. "
    "Write `order_id: Annotated[str, Tag('order')]`"
)
def a_key_without_a_tag() -> object:
    class Untagged(State):
        order_id: str

        def evolve(self, event: Received) -> Self: ...

    return state_kind(Untagged)


@says("Several.skus is part of the key, so it must be a str, int, UUID, date or enum, not tuple")
def a_key_of_many_values() -> object:
    class Several(State):
        skus: Annotated[tuple[str], Tag("product")]

        def evolve(self, event: Received) -> Self: ...

    return state_kind(Several)


@says("Perhaps.sku is part of the key, so it must be a str, int, UUID, date or enum, not str | None")
def a_key_that_may_be_none() -> object:
    class Perhaps(State):
        sku: Annotated[str | None, Tag("product")]

        def evolve(self, event: Received) -> Self: ...

    return state_kind(Perhaps)


@says("NoEvolve has no evolve. Write `def evolve(self, event: SomethingHappened) -> Self`")
def a_state_without_evolve() -> object:
    class NoEvolve(State):
        sku: Sku

    return state_kind(NoEvolve)


@says("Later.evolve must be a plain method: `def evolve(self, event: …) -> Self`")
def an_async_evolve() -> object:
    class Later(State):
        sku: Sku

        async def evolve(self, event: Received) -> Self: ...

    return state_kind(Later)


@says("Silent.evolve must say which events it folds: `def evolve(self, event: OrderPlaced | OrderShipped) -> Self`")
def an_evolve_that_does_not_say_its_events() -> object:
    class Silent(State):
        sku: Sku

        def evolve(self, event): ...  # type: ignore[no-untyped-def]

    return state_kind(Silent)


@says("Commanded.evolve takes <class 'tests.model.test_wiring.Receive'>, which is not a class of events")
def an_evolve_of_commands() -> object:
    class Commanded(State):
        sku: Sku

        def evolve(self, event: Received | Receive) -> Self: ...

    return state_kind(Commanded)


@says("All.evolve takes <class 'refold.model.message.Event'>, which is not a class of events")
def an_evolve_of_any_event() -> object:
    class All(State):
        sku: Sku

        def evolve(self, event: Event) -> Self: ...

    return state_kind(All)


@says("Curious.evolve has a parameter 'product'; besides the event it may take `Metadata` only")
def an_evolve_that_takes_something_else() -> object:
    class Curious(State):
        sku: Sku

        def evolve(self, event: Received, product: Product) -> Self: ...

    return state_kind(Curious)


@says("Named.evolve takes parameters by name; take them by position, without `*`")
def an_evolve_with_parameters_by_name() -> object:
    class Named(State):
        sku: Sku

        def evolve(self, event: Received, *, metadata: Metadata) -> Self: ...

    return state_kind(Named)


@says("Double.evolve takes Metadata twice")
def an_evolve_that_takes_metadata_twice() -> object:
    class Double(State):
        sku: Sku

        def evolve(self, event: Received, one: Metadata, two: Metadata) -> Self: ...

    return state_kind(Double)


@says(
    "Deaf is kept by 'product', but tests.model.test_wiring.Opened has no field with that tag, so it could never "
    "reach it. Tag the field: `Annotated[str, Tag('product')]`"
)
def an_event_that_never_reaches_its_state() -> object:
    class Deaf(State):
        sku: Sku

        def evolve(self, event: Received | Opened) -> Self: ...

    return state_kind(Deaf)


@says("Numbered.sku is of type int, but tests.model.test_wiring.Received.sku, with the same tag, is of type str")
def a_key_of_another_type_than_its_event_s() -> object:
    class Numbered(State):
        sku: Annotated[int, Tag("product")]

        def evolve(self, event: Received) -> Self: ...

    return state_kind(Numbered)


@says("Lost.evolve returned None for Received: give each event of its annotation a case that returns a state, or end")
def an_evolve_that_returns_nothing() -> object:
    class Lost(State):
        sku: Sku

        def evolve(self, event: Received) -> Self: ...

    return Lost("a").fold([Received("a", 1)])


# Handlers


@says("is not a function; decisions and processes are plain functions")
def a_decision_that_is_a_class() -> object:
    return read_decision(Product)


@says("decide must take a Command first, and say which: `decide(command: PlaceOrder, order: Order)`")
def a_decision_without_a_command() -> object:
    def decide() -> None: ...

    return read_decision(decide)


@says("decide must take a Command first")
def a_decision_that_does_not_say_its_command() -> object:
    def decide(cmd): ...  # type: ignore[no-untyped-def]

    return read_decision(decide)


@says("decide must take a Command first")
def a_decision_of_any_command() -> object:
    def decide(cmd: Command) -> None: ...

    return read_decision(decide)


@says("decide must take a Command first")
def a_decision_of_an_event() -> object:
    def decide(cmd: Receive | Received) -> None: ...

    return read_decision(decide)


@says("decide must take a Command first")
def a_decision_that_takes_its_command_by_name() -> object:
    def decide(*, cmd: Receive) -> None: ...

    return read_decision(decide)


@says("react must take an Event first, and say which: `react(event: OrderPlaced, order: Order)`")
def a_process_of_a_command() -> object:
    def react(event: Receive) -> None: ...

    return read_process(react)


@says("decide: say what 'product' is, as in `(command: PlaceOrder, order: Order)`")
def a_parameter_that_does_not_say_what_it_is() -> object:
    def decide(cmd: Receive, product) -> None: ...  # type: ignore[no-untyped-def]

    return read_decision(decide)


@says("decide: write `*products` for several states of one kind")
def two_stars() -> object:
    def decide(cmd: Receive, **products: Product) -> None: ...

    return read_decision(decide)


@says("decide: write `*metadata`")
def two_stars_of_metadata() -> object:
    def decide(cmd: Receive, **metadata: Metadata) -> None: ...

    return read_decision(decide)


@says("decide takes a Reader, so it must be an `async def`")
def a_reader_in_a_plain_function() -> object:
    def decide(cmd: Receive, reader: Reader) -> None: ...

    return read_decision(decide)


@says("decide: 'product' is annotated <class 'str'>; besides the message a handler takes states, `Metadata` and, in")
def a_parameter_that_is_no_state() -> object:
    def decide(cmd: Receive, product: str) -> None: ...

    return read_decision(decide)


@says("decide: 'product' is annotated tests.model.test_wiring.Product | None")
def a_state_that_may_be_none() -> object:
    def decide(cmd: Receive, product: Product | None) -> None: ...

    return read_decision(decide)


@says("decide: 'product' is said to be of 'skuu', but Receive has no field of that name tagged 'product'")
def of_a_field_that_is_not_there() -> object:
    def decide(cmd: Receive, product: Annotated[Product, Of("skuu")]) -> None: ...

    return read_decision(decide)


@says("decide: 'stock' is said to be of 'skuu', but Receive has no field of that name tagged 'product' or 'store'")
def of_a_field_that_is_not_there_for_any_of_the_key() -> object:
    def decide(cmd: Receive, stock: Annotated[Stock, Of("skuu")]) -> None: ...

    return read_decision(decide)


@says(
    "decide: the key of stock: Stock is tagged 'store', but Order has no field with that tag. "
    "Give it one: `store: Annotated[int, Tag('store')]`"
)
def a_state_that_the_message_does_not_name() -> object:
    def decide(cmd: Order, *stock: Stock) -> None: ...

    return read_decision(decide)


@says("decide: Product.sku is of type str, but Numbered.sku, with the same tag, is of type int")
def a_key_of_another_type_than_the_message_s() -> object:
    class Numbered(Command):
        sku: Annotated[int, Tag("product")]

    def decide(cmd: Numbered, product: Product) -> None: ...

    return read_decision(decide)


@says("decide: Order.skus[] may name many Products. Take them all: `*product: Product`")
def one_state_where_there_are_many() -> object:
    def decide(cmd: Order, product: Product) -> None: ...

    return read_decision(decide)


@says(
    "decide: product: Product could come from source or target of Move. "
    "Say which: `product: Annotated[Product, Of('source')]`"
)
def a_state_that_could_come_from_two_fields() -> object:
    def decide(cmd: Move, product: Product) -> None: ...

    return read_decision(decide)


@says("decide is annotated to return Receive, which is not an Event")
def a_decision_that_gives_commands() -> object:
    def decide(cmd: Receive) -> Iterable[Received | Receive]: ...

    return read_decision(decide)


@says("react is annotated to return Received, which is not a Command")
def a_process_that_gives_events() -> object:
    def react(event: Received) -> Received: ...

    return read_process(react)


@says(
    "the parameter 'product' needs a Product, but Perhaps(sku=None) leaves its key empty. "
    "Take any number of them: `*product: Product`"
)
def a_message_that_leaves_a_key_empty() -> object:
    class Perhaps(Command):
        sku: Sku | None = None

    def decide(cmd: Perhaps, product: Product) -> None: ...

    return read_decision(decide).states(Perhaps())


@says("decide returned 5, which is no message")
def a_decision_that_returns_no_message() -> object:
    def decide(cmd: Receive) -> Any:
        return 5

    return asyncio.run(read_decision(decide).call(Receive("a"), {}, Metadata(), cast(Reader, None)))


# Schemas


@stored_as("Placed", version=1)
class PlacedV1(Event): ...


@stored_as("Placed", version=2)
class PlacedV2(Event): ...


@stored_as("Placed", version=3)
class Placed(Event): ...


class Bought(Event): ...


def first(old: PlacedV1) -> PlacedV2: ...


def second(old: PlacedV2) -> Placed: ...


def renamed(old: Bought) -> Placed: ...


@says("an app needs events: events=OrderPlaced | OrderShipped, or a list of their classes")
def no_events() -> object:
    return Schema([])


@says("events= holds <class 'tests.model.test_wiring.Receive'>, which is not a class of events")
def a_command_among_the_events() -> object:
    return Schema(Opened | Receive)


@says("events= holds <class 'refold.model.message.Event'>, which is not a class of events")
def the_base_among_the_events() -> object:
    return Schema(Event)


@says("events= holds 'O', which is not a class of events")
def a_name_for_events() -> object:
    return Schema("Opened")


@says("PlacedV1 is upcast, so nothing may record it any more: take it out of `events`")
def an_event_that_is_also_upcast() -> object:
    return Schema([PlacedV1, Placed], [first, second])


@says("again and tests.model.test_wiring.second both upcast tests.model.test_wiring.PlacedV2: leave one of them")
def two_upcasters_of_one_event() -> object:
    def again(old: PlacedV2) -> Placed: ...

    return Schema(Placed, [first, second, again])


@says(
    "test_wiring.Placed are both stored as 'Placed' version 3: give one another name or version, as in "
    "`@stored_as('Placed', version=4)`"
)
def two_events_of_one_name_and_version() -> object:
    @stored_as("Placed", version=3)
    class Other(Event): ...

    return Schema([Placed, Other])


@says(
    "Placed is at version 3, but nothing reads version 1. Keep its class as `@stored_as('Placed', version=1)` "
    "and add an upcaster"
)
def a_version_that_nothing_reads() -> object:
    return Schema(Placed, [second])


@says("upcasters go in a circle: PlacedV1 → PlacedV2 → PlacedV1")
def upcasters_in_a_circle() -> object:
    def back(old: PlacedV2) -> PlacedV1: ...

    return Schema(Placed, [first, back])


@says("itself leads from tests.model.test_wiring.Bought to itself")
def an_upcaster_to_itself() -> object:
    def itself(old: Bought) -> Bought: ...

    return Schema(Placed, [itself])


@says(
    "renamed leads to tests.model.test_wiring.Placed, which is not among the events of this app: add it to `events`, or"
)
def an_upcaster_to_nowhere() -> object:
    return Schema(Opened, [renamed])


def unannotated(old): ...  # type: ignore[no-untyped-def]


def unreturning(old: Bought): ...  # type: ignore[no-untyped-def]


def curious(old: Bought, at) -> Placed: ...  # type: ignore[no-untyped-def]


def mixed(old: Bought | Receive) -> Placed: ...


def with_a_store(old: Bought, metadata: Metadata, app: Any) -> Placed: ...


def by_name(old: Bought, *, metadata: Metadata) -> Placed: ...


def says_not_which(old: Bought) -> Iterable[Event]: ...


def bare(old: Bought) -> Iterable: ...  # type: ignore[type-arg]


def to_a_command(old: Bought) -> tuple[Placed, Receive]: ...


async def later(old: Bought) -> Placed: ...


NOT_UPCASTERS = (unannotated, unreturning, curious, mixed, with_a_store, by_name, says_not_which, bare, to_a_command)

for function in (*NOT_UPCASTERS, later, Bought, "bought"):
    CASES[f"an_upcaster_{getattr(function, '__name__', 'text')}"] = (
        lambda function=cast(Any, function): Schema(Placed, [function]),
        "is no upcaster. Write `def add_currency(old: OrderPlacedV1) -> OrderPlaced`",
    )


@says("one_or_several gives either one event or several: write `-> Iterable[OrderPlaced | GiftAdded]`, and yield one")
def an_upcaster_to_one_or_several() -> object:
    def one_or_several(old: Bought) -> Placed | Iterable[Opened]: ...

    return Schema(Placed | Opened, [first, second, one_or_several])


@says("upcasters go in a circle: PlacedV2 → Bought → PlacedV2")
def upcasters_in_a_circle_behind_a_split() -> object:
    def split(old: PlacedV2) -> Iterable[Placed | Bought]: ...

    def back(old: Bought) -> tuple[Opened, PlacedV2]: ...

    return Schema(Placed | Opened, [first, split, back])


@says("test_wiring.PlacedV2 is old: tests.model.test_wiring.second makes it a Placed: write that in its place")
def a_state_of_old_events() -> object:
    return Schema(Placed, [first, second]).names([PlacedV2])


@says("test_wiring.Bought is old: a_state_of_events_that_are_dropped.<locals>.drop drops it: leave it out")
def a_state_of_events_that_are_dropped() -> object:
    def drop(old: Bought) -> None: ...

    drop.__module__ = ""
    return Schema(Placed, [first, second, drop]).names([Bought])


@says(
    "Product is found by the tag 'product', but Opened version 1 (tests.model.test_wiring.Opened), which becomes a "
    "Received, is stored without it, so that it would be missed without a word. Keep the state as a projection"
)
def a_state_that_would_miss_old_events() -> object:
    def stocked(old: Opened) -> Received: ...

    return Schema(Received, [stocked]).query(Product("a"))


@says("Holder cannot be stored as JSON: Type unions may not contain more than one dict-like type")
def an_event_that_json_cannot_hold() -> object:
    class Holder(Event):
        value: dict[str, int] | Node

    return Schema(Holder)


@says("Holder cannot be stored as JSON")
def an_old_event_that_json_cannot_hold() -> object:
    class Holder(Event):
        value: dict[str, int] | Node

    def up(old: Holder) -> Opened: ...

    return Schema(Opened, [up])


@says("Received is not among the events of this app: add it to `events`")
def a_state_of_events_that_the_app_does_not_have() -> object:
    return Schema(Opened).query(Product("a"))


@says("touches the world, so it waits: `async def mail(event: OrderShipped, once: IdempotencyKey)`")
def an_effect_that_does_not_wait() -> object:
    def mail(event: Opened) -> None: ...

    return read_effect(mail)


@says(
    "translates an event, and sees nothing but it and its `Metadata`; what depends on a state is for a decision to say"
)
def a_translation_that_asks_for_a_state() -> object:
    def public(event: Received, product: Product) -> Opened: ...

    return read_translation(public)


@says("is no command that could be executed later")
def an_event_to_be_executed_later() -> object:
    return execute_later(cast(Any, Opened(1)), after=timedelta(1))


@says("has no time zone: use datetime(…, tzinfo=UTC)")
def a_timer_without_a_zone() -> object:
    return at(Receive("a"), datetime(2026, 1, 1))


@says("cancel('') names no timer: give it the name that its `later` or `at` has")
def a_timer_without_a_name_to_cancel() -> object:
    return cancel("")


@pytest.mark.parametrize(("mistake", "message"), CASES.values(), ids=list(CASES))
def test_it_is_told(mistake: Callable[[], object], message: str) -> None:
    with pytest.raises(WiringError) as caught:
        mistake()
    assert message in str(caught.value)


def test_every_mistake_has_a_case() -> None:
    told: set[tuple[str, int]] = set()
    for mistake, _ in CASES.values():
        try:
            mistake()
        except WiringError as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            told.add((Path(last.filename).name, last.lineno or 0))
    assert told >= _raised()


def _raised() -> set[tuple[str, int]]:
    """Return the lines of `refold.model` where a `WiringError` is raised."""
    folder = Path(inspect.getfile(refold.model)).parent
    return {
        (file.name, node.lineno)
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id == "WiringError"
    }
