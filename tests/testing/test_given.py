import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self, TypeAlias

import pytest

from refold import (
    Command,
    Event,
    Metadata,
    Of,
    Reader,
    Recorded,
    Rejected,
    Singleton,
    State,
    Tag,
    Unguarded,
    WiringError,
)
from refold.testing.given import NOW, given

AccountId: TypeAlias = Annotated[str, Tag("account")]


class Deposited(Event):
    account: AccountId
    amount: int


class Transferred(Event):
    source: AccountId
    target: AccountId
    amount: int


class Audited(Event):
    by: str
    at: datetime
    total: int


class Deposit(Command):
    account: AccountId
    amount: int


class Transfer(Command):
    source: AccountId
    target: AccountId
    amount: int


class Audit(Command):
    accounts: tuple[AccountId, ...]


class Refused(Rejected):
    """No"""


class Overdrawn(Rejected):
    def __init__(self, account: str, missing: int) -> None:
        super().__init__(f"{account} lacks {missing}", missing=missing)


class Account(State):
    account: AccountId
    balance: int = 0
    last: datetime | None = None

    def evolve(self, event: Deposited | Transferred, metadata: Metadata) -> Self:
        match event:
            case Deposited(amount=amount) | Transferred(target=self.account, amount=amount):
                return self.replace(balance=self.balance + amount, last=metadata.occurred_at)
            case Transferred(amount=amount):
                return self.replace(balance=self.balance - amount, last=metadata.occurred_at)


class Audits(Singleton):
    number: int = 0

    def evolve(self, event: Audited) -> Self:
        return self.replace(number=self.number + 1)


def deposit(cmd: Deposit, account: Account) -> Iterable[Deposited]:
    if cmd.amount > 0:
        yield Deposited(cmd.account, cmd.amount)


def transfer(
    cmd: Transfer, source: Annotated[Account, Of("source")], target: Annotated[Account, Of("target"), Unguarded]
) -> Transferred:
    if source.balance < cmd.amount:
        raise Overdrawn(cmd.source, cmd.amount - source.balance)
    return Transferred(cmd.source, cmd.target, cmd.amount)


def audit(cmd: Audit, metadata: Metadata, *accounts: Account, audits: Audits) -> Audited:
    return Audited(f"{metadata.actor}{audits.number}", metadata.occurred_at, sum(each.balance for each in accounts))


async def follow_the_money(cmd: Deposit, reader: Reader) -> list[Deposited]:
    account = await reader.load(Account(cmd.account))
    other = await reader.load(Account(f"a{account.balance}"))
    return [Deposited(other.account, other.balance)]


async def one_by_one(cmd: Deposit, reader: Reader) -> AsyncIterator[Deposited]:
    account = await reader.load(Account(cmd.account))
    for _ in range(account.balance):
        yield Deposited(cmd.account, 1)


def test_states_are_made_of_the_given_events_with_their_tags() -> None:
    past = given(Deposited("a", 5), Deposited("b", 7), Transferred("a", "b", 2))
    past.when(transfer, Transfer("a", "b", 3)).then(Transferred("a", "b", 3))
    past.when(transfer, Transfer("a", "b", 4)).rejected("a lacks 1")
    past.when(transfer, Transfer("c", "b", 1)).rejected("c lacks 1")


def test_a_decision_may_give_no_events() -> None:
    given().when(deposit, Deposit("a", 0)).then()


def test_any_number_of_states_metadata_and_a_parameter_by_name() -> None:
    past = given(Deposited("a", 5), Deposited("b", 7), Deposited("c", 9), Audited("eve", NOW, 0))
    past.when(audit, Audit(("a", "c")), Metadata(actor="ann")).then(Audited("ann1", NOW, 14))
    past.when(audit, Audit(())).then(Audited("1", NOW, 0))


def test_a_reader_reads_the_given_events() -> None:
    past = given(Deposited("a", 5), Deposited("a5", 7))
    past.when(follow_the_money, Deposit("a", 1)).then(Deposited("a5", 7))


def test_a_decision_may_be_an_async_generator() -> None:
    given(Deposited("a", 2)).when(one_by_one, Deposit("a", 1)).then(Deposited("a", 1), Deposited("a", 1))


async def test_it_works_inside_a_running_loop() -> None:
    given(Deposited("a", 1)).when(one_by_one, Deposit("a", 1)).then(Deposited("a", 1))


def test_the_past_has_times() -> None:
    moment = datetime(2020, 2, 2, tzinfo=UTC)
    assert given(Deposited("a", 1)).load(Account("a")).last == NOW
    assert given(Deposited("a", 1), now=moment).load(Account("a")).last == moment
    assert given((Deposited("a", 1), moment)).load(Account("a")).last == moment
    assert given((Deposited("a", 1), timedelta(hours=3)), now=moment).load(Account("a")).last == moment - timedelta(
        hours=3
    )
    recorded = Recorded[Event](9, NOW, Deposited("a", 1), Metadata(occurred_at=moment))
    assert given(recorded).load(Account("a")).last == moment


def test_now_is_the_decision_s_unless_its_metadata_say_otherwise() -> None:
    moment = datetime(2020, 2, 2, tzinfo=UTC)
    given(now=moment).when(audit, Audit(())).then(Audited("0", moment, 0))
    given().when(audit, Audit(()), Metadata(occurred_at=moment)).then(Audited("0", moment, 0))


def test_what_came_is_given_next() -> None:
    scenario = given(Deposited("a", 3)).when(transfer, Transfer("a", "b", 2)).then(Transferred("a", "b", 2))
    scenario = scenario.when(transfer, Transfer("a", "b", 2)).rejected(Overdrawn)
    scenario.when(transfer, Transfer("b", "a", 2)).then(Transferred("b", "a", 2))


def test_a_refusal_is_there_to_be_looked_at() -> None:
    refusal = given().when(transfer, Transfer("a", "b", 2)).refusal
    assert isinstance(refusal, Overdrawn)
    assert refusal.data == {"missing": 2}


def test_other_errors_are_the_test_s_own() -> None:
    def broken(cmd: Deposit) -> list[Event]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        given().when(broken, Deposit("a", 1))


def test_a_decision_does_no_io() -> None:
    async def sleepy(cmd: Deposit) -> None:
        await asyncio.sleep(0)

    with pytest.raises(WiringError, match="waited for something other than its Reader"):
        given().when(sleepy, Deposit("a", 1))


def test_a_decision_is_read_as_at_wiring() -> None:
    def wrong(cmd: Deposit, account: str) -> None: ...

    with pytest.raises(WiringError, match="'account' is annotated"):
        given().when(wrong, Deposit("a", 1))


def test_a_command_that_the_decision_does_not_take() -> None:
    with pytest.raises(WiringError, match="deposit does not take Audit"):
        given().when(deposit, Audit(()))  # type: ignore[arg-type]


def failure(call: object, *arguments: object) -> list[str]:
    assert callable(call)
    with pytest.raises(AssertionError) as caught:
        call(*arguments)
    return str(caught.value).splitlines()[1:]


def test_wrong_events_are_told() -> None:
    past = given(
        (Deposited("a", 5), timedelta(minutes=61)), (Deposited("b", 5), timedelta(minutes=-1)), Deposited("c", 1)
    )
    assert failure(past.when(deposit, Deposit("a", 1)).then, Deposited("a", 2), Deposited("a", 3)) == [
        "given     Deposited(account='a', amount=5), 1:01:00 ago",
        "          Deposited(account='b', amount=5), 0:01:00 ahead",
        "          Deposited(account='c', amount=1)",
        "when      deposit(Deposit(account='a', amount=1))",
        "expected  Deposited(account='a', amount=2)",
        "          Deposited(account='a', amount=3)",
        "got       Deposited(account='a', amount=1)",
    ]


def test_an_unexpected_refusal_is_told() -> None:
    assert failure(given().when(transfer, Transfer("a", "b", 1)).then) == [
        "given     nothing",
        "when      transfer(Transfer(source='a', target='b', amount=1))",
        "expected  no events",
        "got       rejected: a lacks 1 (Overdrawn)",
    ]


@pytest.mark.parametrize(
    ("reason", "expected"), [("a lacks 2", "rejected: a lacks 2"), ("a", "rejected: a"), (Refused, "rejected: Refused")]
)
def test_another_refusal_is_told(reason: str | type[Rejected], expected: str) -> None:
    assert failure(given().when(transfer, Transfer("a", "b", 1)).rejected, reason)[2:] == [
        f"expected  {expected}",
        "got       rejected: a lacks 1 (Overdrawn)",
    ]


def test_a_missing_refusal_is_told() -> None:
    assert failure(given().when(deposit, Deposit("a", 0)).rejected, Refused)[2:] == [
        "expected  rejected: Refused",
        "got       no events",
    ]
