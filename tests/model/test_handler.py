from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from typing import Annotated, Any, Self, TypeAlias, TypeVar

import pytest
from msgspec import Struct

from refold.errors import WiringError
from refold.model.handler import Handler, Of, Reader, StateParameter, Unguarded, read_decision, read_process
from refold.model.message import Command, Event
from refold.model.record import Metadata
from refold.model.state import Singleton, State, state_kind
from refold.model.tag import Tag

S = TypeVar("S", bound=State)

AccountId: TypeAlias = Annotated[str, Tag("account")]
Sku: TypeAlias = Annotated[str, Tag("product")]
StoreId: TypeAlias = Annotated[int, Tag("store")]


class Line(Struct, frozen=True):
    sku: Sku


class Moved(Event):
    account: AccountId
    sku: Sku
    store: StoreId


class Closed(Event):
    account: AccountId


class Close(Command):
    account: AccountId


class Transfer(Command):
    source: AccountId
    target: AccountId
    store: StoreId = 1


class Order(Command):
    account: AccountId
    lines: tuple[Line, ...]
    stores: tuple[StoreId, ...] = ()
    gift: Sku | None = None


class Account(State):
    account: AccountId

    def evolve(self, event: Moved | Closed) -> Self:
        return self


class Stock(State):
    sku: Sku
    store: StoreId

    def evolve(self, event: Moved) -> Self:
        return self


class Product(State):
    sku: Sku

    def evolve(self, event: Moved) -> Self:
        return self


class Till(State):
    account: AccountId
    store: StoreId

    def evolve(self, event: Moved) -> Self:
        return self


class Moves(Singleton):
    def evolve(self, event: Moved) -> Self:
        return self


class NoReader:
    async def load(self, state: S) -> S:
        return state


async def called(handler: Handler, message: Event | Command, metadata: Metadata = Metadata()) -> list[Any]:
    states = [state for _, asked in handler.states(message) for state in asked]
    loaded = {state_kind(type(state)).identity(state): state for state in states}
    return await handler.call(message, loaded, metadata, NoReader())


def asked(handler: Handler, message: Event | Command) -> list[State]:
    return [state for _, states in handler.states(message) for state in states]


def test_a_state_is_found_by_its_tag() -> None:
    def close(cmd: Close, one: Account) -> None: ...

    assert asked(read_decision(close), Close("a")) == [Account("a")]


def test_of_says_which_of_two() -> None:
    def transfer(
        cmd: Transfer,
        to: Annotated[Account, Of("target")],
        by: Annotated[Account, Of("source")],
        till: Annotated[Till, Of("target")],
    ) -> None: ...

    assert asked(read_decision(transfer), Transfer("a", "b", 3)) == [Account("b"), Account("a"), Till("b", 3)]


def test_of_may_name_a_place_inside() -> None:
    class Ship(Command):
        line: Line
        gift: Sku

    def ship(cmd: Ship, product: Annotated[Product, Of("line.sku")], gift: Annotated[Product, Of("gift")]) -> None: ...

    assert asked(read_decision(ship), Ship(Line("a"), "b")) == [Product("a"), Product("b")]


def test_a_star_takes_each_value_once_from_everywhere() -> None:
    def order(cmd: Order, *products: Product) -> None: ...

    message = Order("a", (Line("x"), Line("y"), Line("x")), gift="z")
    assert asked(read_decision(order), message) == [Product("x"), Product("y"), Product("z")]
    assert asked(read_decision(order), Order("a", ())) == []


def test_a_star_takes_every_combination_of_a_key() -> None:
    def order(cmd: Order, *stock: Stock) -> None: ...

    message = Order("a", (Line("x"), Line("y")), (1, 2))
    assert asked(read_decision(order), message) == [Stock("x", 1), Stock("x", 2), Stock("y", 1), Stock("y", 2)]


def test_of_narrows_a_star() -> None:
    def order(cmd: Order, *products: Annotated[Product, Of("lines")]) -> None: ...

    assert asked(read_decision(order), Order("a", (Line("x"),), gift="z")) == [Product("x")]


def test_a_singleton_needs_no_key() -> None:
    def close(cmd: Close, moves: Moves) -> None: ...

    assert asked(read_decision(close), Close("a")) == [Moves()]


def test_a_message_without_a_value_for_a_key_is_told() -> None:
    class Give(Command):
        gift: Sku | None = None

    def give(cmd: Give, product: Product) -> None: ...

    assert asked(read_decision(give), Give("x")) == [Product("x")]
    with pytest.raises(WiringError, match=r"needs a Product, but Give\(gift=None\) leaves its key empty.*\*product"):
        asked(read_decision(give), Give())


def test_a_parameter_is_guarded_unless_it_says_otherwise() -> None:
    def close(cmd: Close, one: Account, other: Annotated[Account, Unguarded]) -> None: ...

    parameters = [each for each in read_decision(close).parameters if isinstance(each, StateParameter)]
    assert [(each.name, each.guarded) for each in parameters] == [("one", True), ("other", False)]


def test_a_handler_of_several_messages_binds_each_of_them() -> None:
    def either(cmd: Close | Transfer, account: Annotated[Account, Of("account")]) -> None: ...

    def both(cmd: Close | Order, account: Account) -> None: ...

    handler = read_decision(both)
    assert handler.messages == (Close, Order)
    assert asked(handler, Close("a")) == asked(handler, Order("a", ())) == [Account("a")]
    with pytest.raises(WiringError, match="said to be of 'account', but Transfer has no field"):
        read_decision(either)


async def test_everything_arrives_where_it_should() -> None:
    seen: list[object] = []

    async def order(
        cmd: Order, metadata: Metadata, account: Account, reader: Reader, *products: Product, moves: Moves
    ) -> None:
        seen.extend((cmd, metadata, account, type(reader), products, moves))

    message, metadata = Order("a", (Line("x"), Line("y"))), Metadata(actor="ann")
    assert await called(read_decision(order), message, metadata) == []
    assert seen == [message, metadata, Account("a"), NoReader, (Product("x"), Product("y")), Moves()]


async def test_events_come_out_of_every_kind_of_function() -> None:
    def one(cmd: Close) -> Closed:
        return Closed("a")

    def none(cmd: Close) -> Closed | None:
        return None

    def many(cmd: Close) -> tuple[Closed, Closed]:
        return Closed("a"), Closed("b")

    def generated(cmd: Close) -> Iterator[Closed]:
        yield Closed("a")

    async def awaited(cmd: Close) -> list[Closed]:
        return [Closed("a")]

    async def generated_later(cmd: Close) -> AsyncIterator[Closed]:
        yield Closed("a")

    def hands_on(cmd: Close) -> Awaitable[list[Closed]]:
        return awaited(cmd)

    for function in (one, generated, awaited, generated_later, hands_on):
        assert await called(read_decision(function), Close("a")) == [Closed("a")], function
    assert await called(read_decision(none), Close("a")) == []
    assert await called(read_decision(many), Close("a")) == [Closed("a"), Closed("b")]


async def test_what_is_no_message_is_told() -> None:
    def wrong(cmd: Close):  # type: ignore[no-untyped-def]
        return 5

    with pytest.raises(WiringError, match="wrong returned 5, which is no message"):
        await called(read_decision(wrong), Close("a"))


def test_what_it_emits_is_read_off_its_annotation() -> None:
    def one(cmd: Close) -> Closed: ...

    def maybe(cmd: Close) -> Closed | Moved | None: ...

    def many(cmd: Close) -> Iterable[Closed | Moved]: ...

    def pair(cmd: Close) -> tuple[Closed, Moved]: ...

    def several(cmd: Close) -> tuple[Closed, ...]: ...

    def base(cmd: Close) -> Iterable[Event]: ...

    def nothing(cmd: Close) -> None: ...

    def unsaid(cmd: Close): ...  # type: ignore[no-untyped-def]

    def anything(cmd: Close) -> Any: ...

    said = {each.__name__: read_decision(each).emits for each in (one, maybe, many, pair, several)}
    assert said == {
        "one": (Closed,),
        "maybe": (Closed, Moved),
        "many": (Closed, Moved),
        "pair": (Closed, Moved),
        "several": (Closed,),
    }
    assert [read_decision(each).emits for each in (base, nothing, unsaid, anything)] == [None] * 4


async def test_a_process_takes_events_and_gives_commands() -> None:
    def close_it(event: Moved | Closed, account: Account) -> Iterable[Close]:
        yield Close(account.account)

    handler = read_process(close_it)
    assert handler.messages == (Moved, Closed)
    assert handler.emits == (Close,)
    assert handler.name == "close_it"
    assert await called(handler, Moved("a", "x", 1)) == [Close("a")]
