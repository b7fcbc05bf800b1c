"""Upcasters: what an old event becomes, by annotations alone, and that nothing else comes of it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.errors import UndecodableEvent
from refold.model.fingerprint import fingerprint
from refold.model.message import Event, stored_as, stored_name
from refold.model.query import Query
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import Schema, encode_metadata
from refold.model.state import State, state_kind
from refold.model.tag import Tag, tags_of

RECORDED_AT = datetime(2026, 3, 1, tzinfo=UTC)
AccountId: TypeAlias = Annotated[str, Tag("account")]
Owner: TypeAlias = Annotated[str, Tag("owner")]


@stored_as("Transferred", version=1)
class TransferredV1(Event):
    source: AccountId
    target: AccountId
    cents: int


@stored_as("Transferred", version=2)
class TransferredV2(Event):
    source: AccountId
    target: AccountId
    amount: Decimal


@stored_as("Transferred", version=3)
class TransferredV3(Event):
    source: AccountId
    target: AccountId
    amount: Decimal
    currency: str


class Withdrawn(Event):
    account: AccountId
    amount: Decimal
    currency: str


class Deposited(Event):
    account: AccountId
    amount: Decimal
    currency: str
    note: str = ""


class PaidIn(Event):
    """What a deposit was called once."""

    account: AccountId
    cents: int


class Credited(Event):
    """And before that."""

    account: AccountId
    cents: int


class Reconciled(Event):
    """What does not count any more."""

    account: AccountId


class Corrected(Event):
    account: AccountId
    by: int


def to_decimal(old: TransferredV1) -> TransferredV2:
    return TransferredV2(old.source, old.target, Decimal(old.cents) / 100)


def with_currency(old: TransferredV2, metadata: Metadata) -> TransferredV3:
    # What was transferred before the currency changed was in the old one: the event itself does not say.
    return TransferredV3(old.source, old.target, old.amount, "EUR" if metadata.occurred_at.year >= 2002 else "DEM")


def split(old: TransferredV3) -> tuple[Withdrawn, Deposited]:
    return (
        Withdrawn(old.source, old.amount, old.currency),
        Deposited(old.target, old.amount, old.currency),
    )


def renamed(old: PaidIn | Credited) -> Deposited:
    return Deposited(old.account, Decimal(old.cents) / 100, "EUR")


def drop(old: Reconciled) -> None:
    """Reconciling was done in here until 2020; other software does it now."""


def corrected(old: Corrected) -> Iterator[Withdrawn | Deposited]:
    for _ in range(min(abs(old.by), 9)):
        yield (Deposited if old.by > 0 else Withdrawn)(old.account, Decimal(1), "EUR")


UPCASTERS: list[Any] = [split, drop, with_currency, to_decimal, renamed, corrected]
SCHEMA = Schema(Withdrawn | Deposited, UPCASTERS)


class Balance(State):
    account: AccountId
    amount: Decimal = Decimal()

    def evolve(self, event: Withdrawn | Deposited) -> Self:
        return self.replace(amount=self.amount + (event.amount if isinstance(event, Deposited) else -event.amount))


def stored(event: Event, *, occurred_at: datetime = RECORDED_AT, tags: Sequence[str] | None = None) -> StoredEvent:
    """Return an event as a program stored it for which its class was the newest."""
    name, version = stored_name(type(event))
    metadata = encode_metadata(Metadata(occurred_at=occurred_at))
    found = tags_of(event) if tags is None else tuple(tags)
    return StoredEvent(7, RECORDED_AT, name, version, found, msgspec.json.encode(event), metadata)


NAMES = st.text(min_size=1, max_size=5)
CENTS = st.integers(-(10**12), 10**12)


@given(NAMES, NAMES, CENTS, st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_old_data_through_the_chain_are_the_new_ones(source: str, target: str, cents: int, when: datetime) -> None:
    amount, currency = Decimal(cents) / 100, "EUR" if when.year >= 2002 else "DEM"
    new = (Withdrawn(source, amount, currency), Deposited(target, amount, currency))
    for old in (
        TransferredV1(source, target, cents),
        TransferredV2(source, target, amount),
        TransferredV3(source, target, amount, currency),
    ):
        assert SCHEMA.decode(stored(old, occurred_at=when)) == new
        assert SCHEMA.decode(stored(old, occurred_at=when)) == new, "and again the same"


@given(NAMES, CENTS)
def test_several_old_types_become_one(account: str, cents: int) -> None:
    for old in (PaidIn(account, cents), Credited(account, cents)):
        assert SCHEMA.decode(stored(old)) == (Deposited(account, Decimal(cents) / 100, "EUR"),)


@given(NAMES, st.integers(-5, 5))
def test_one_becomes_none_or_any_number_in_its_order(account: str, by: int) -> None:
    kind = Deposited if by > 0 else Withdrawn
    assert SCHEMA.decode(stored(Corrected(account, by))) == (kind(account, Decimal(1), "EUR"),) * abs(by)
    assert SCHEMA.decode(stored(Reconciled(account))) == ()


@given(NAMES, CENTS, st.text())
def test_what_is_new_comes_back_as_without_upcasters(account: str, cents: int, note: str) -> None:
    event = Deposited(account, Decimal(cents) / 100, "EUR", note)
    new, plain = SCHEMA.encode(event), Schema(Withdrawn | Deposited).encode(event)
    assert new == plain
    assert SCHEMA.decode(stored(event)) == (event,)


def test_a_state_folds_of_several_those_that_are_about_it() -> None:
    transfer = stored(TransferredV1("a", "b", 500))
    kind = state_kind(Balance)
    for account, kinds in (("a", [Withdrawn]), ("b", [Deposited]), ("c", [])):
        found = SCHEMA.decode_for(kind, kind.tags(Balance(account)), transfer)
        assert [type(each) for each in found] == kinds
    assert SCHEMA.query(Balance("a")) == Query.of(
        types=["Withdrawn", "Deposited", "Transferred", "PaidIn", "Credited", "Corrected"], tags=["account:a"]
    ), "what is dropped is not even read"


def test_a_field_has_another_name_in_the_log_than_in_the_code() -> None:
    class Named(Event):
        account: AccountId = msgspec.field(name="acct")

    schema = Schema(Named)
    assert schema.encode(Named("a")).data == b'{"acct":"a"}'
    assert schema.decode(stored(Named("a"))) == (Named("a"),)


# What an upcaster returns is checked against its annotation.


class Other(Event):
    account: AccountId


def wrongly(gives: Any, result: Any) -> Schema:
    def up(old: PaidIn) -> Any:
        return result

    up.__annotations__["return"] = gives
    return Schema([Withdrawn, Deposited], [up])


DEPOSIT, WITHDRAWAL = Deposited("a", Decimal(1), "EUR"), Withdrawn("a", Decimal(1), "EUR")


@pytest.mark.parametrize(
    ("gives", "result", "why"),
    [
        (Deposited, WITHDRAWAL, "but should be a Deposited"),
        (Deposited, None, "is made None by"),
        (Deposited, [DEPOSIT], "but should be a Deposited"),
        (Deposited | None, WITHDRAWAL, "but should be a Deposited"),
        (None, DEPOSIT, "but should be nothing"),
        (Withdrawn | Deposited, Other("a"), "but should be a Deposited or a Withdrawn"),
        (Iterable[Deposited], [DEPOSIT, WITHDRAWAL], "but should be several, each a Deposited"),
        (Iterable[Deposited], None, "'NoneType' object is not iterable"),
        (Iterable[Deposited], DEPOSIT, "'Deposited' object is not iterable"),
        (tuple[Withdrawn, Deposited], (DEPOSIT, WITHDRAWAL), "but should be Withdrawn, Deposited"),
        (tuple[Withdrawn, Deposited], (WITHDRAWAL,), "but should be Withdrawn, Deposited"),
        (tuple[Withdrawn, Deposited], (), "but should be Withdrawn, Deposited"),
        (tuple[Deposited, ...], (WITHDRAWAL,), "but should be several, each a Deposited"),
    ],
)
def test_what_is_not_as_annotated_is_told(gives: Any, result: Any, why: str) -> None:
    with pytest.raises(UndecodableEvent, match=re.escape(why)) as caught:
        wrongly(gives, result).decode(stored(PaidIn("a", 1)))
    assert str(caught.value).startswith("the event at position 7, PaidIn version 1, ")


@pytest.mark.parametrize(
    ("gives", "result"),
    [
        (Deposited | None, None),
        (Withdrawn | Deposited, WITHDRAWAL),
        (Iterable[Withdrawn | Deposited], [DEPOSIT, WITHDRAWAL, DEPOSIT]),
        (Iterable[Deposited] | None, None),
        (list[Deposited], []),
        (tuple[Deposited, ...], (DEPOSIT, DEPOSIT)),
        (tuple[Withdrawn | Deposited, Deposited], (DEPOSIT, DEPOSIT)),
        (tuple[Withdrawn, Deposited] | None, None),
    ],
)
def test_what_is_as_annotated_is_taken(gives: Any, result: Any) -> None:
    expected = () if result is None else (result,) if isinstance(result, Event) else tuple(result)
    assert wrongly(gives, result).decode(stored(PaidIn("a", 1))) == expected


def test_one_that_fails_in_the_middle_of_its_events_is_told() -> None:
    def half(old: PaidIn) -> Iterable[Deposited]:
        yield DEPOSIT
        raise KeyError(old.account)

    with pytest.raises(UndecodableEvent, match=r"PaidIn version 1, fails .*half: KeyError\('a'\)"):
        Schema([Deposited], [half]).decode(stored(PaidIn("a", 1)))


# By the tags that an old event was stored with it is found, whatever it has become.


def test_an_upcaster_that_makes_up_a_tag_is_told() -> None:
    def capitals(old: PaidIn) -> Deposited:
        return Deposited(old.account.upper(), Decimal(old.cents), "EUR")

    schema = Schema(Deposited, [capitals])
    assert schema.decode(stored(PaidIn("A", 1))) == (Deposited("A", Decimal(1), "EUR"),)
    with pytest.raises(UndecodableEvent, match="a Deposited about account:A, but was stored about account:a, by which"):
        schema.decode(stored(PaidIn("a", 1)))
    with pytest.raises(UndecodableEvent, match="was stored about nothing, by which it is found"):
        schema.decode(stored(PaidIn("a", 1), tags=()))
    with pytest.raises(
        UndecodableEvent, match="is upcast to a Deposited, of which the tag 'account' has an empty value"
    ):
        schema.decode(stored(PaidIn("", 1), tags=("account:a",)))
    foreign = Schema(Deposited, [capitals], own=False)
    assert foreign.decode(stored(PaidIn("a", 1), tags=())), "in the events of others nothing is found by tags"


class Opened(Event):
    account: AccountId
    owner: Owner


class OpenedV0(Event):
    account: AccountId
    name: str


class Holdings(State):
    owner: Owner
    accounts: int = 0

    def evolve(self, event: Opened) -> Self:
        return self.replace(accounts=self.accounts + 1)


def owned(old: OpenedV0) -> Opened:
    return Opened(old.account, old.name)


def test_a_new_tag_may_be_read_by_what_reads_everything() -> None:
    schema = Schema(Opened, [owned])
    assert schema.decode(stored(OpenedV0("a", "ann"))) == (Opened("a", "ann"),)
    assert schema.missed(state_kind(Holdings)) == ("owner", OpenedV0, Opened)
    assert Schema(Opened).missed(state_kind(Holdings)) is None


# A state's fingerprint changes with what its old events become.


def test_a_fingerprint_covers_upcasters_and_what_they_take() -> None:
    def of(*upcasters: Any) -> str:
        return fingerprint(Balance, Schema(Withdrawn | Deposited, upcasters).upcasters(state_kind(Balance).events))

    def doubled(old: PaidIn) -> Deposited:
        return Deposited(old.account, Decimal(old.cents) / 50, "EUR")

    class Paid(Event):
        account: AccountId
        cents: int = 5

    def of_another(old: Paid) -> Deposited:
        return Deposited(old.account, Decimal(old.cents) / 50, "EUR")

    of_another.__name__, of_another.__qualname__ = doubled.__name__, doubled.__qualname__
    assert len({of(), of(renamed), of(doubled), of(of_another), of(to_decimal, with_currency, split)}) == 5
    assert of(renamed) == of(renamed, drop), "what is dropped is no part of it"
    assert SCHEMA.upcasters([Deposited]) == [split, with_currency, to_decimal, renamed, corrected]
