"""A bank of few words, for the tests of the runtime: what it does is easily computed by hand."""

from collections.abc import Iterable
from typing import Annotated, Any, Self, TypeAlias

from refold import App, Command, Event, Metadata, Of, Reader, Rejected, Singleton, State, Tag, Unguarded
from refold.store.api import Store

AccountId: TypeAlias = Annotated[str, Tag("account")]


class Deposited(Event):
    account_id: AccountId
    amount: int


class Withdrawn(Event):
    account_id: AccountId
    amount: int


class Transferred(Event):
    source: AccountId
    target: AccountId
    amount: int


class FeeSet(Event):
    fee: int


class Closed(Event):
    account_ids: tuple[AccountId, ...]


BankEvent: TypeAlias = Deposited | Withdrawn | Transferred | FeeSet | Closed


class Deposit(Command):
    account_id: AccountId
    amount: int


class Withdraw(Command):
    account_id: AccountId
    amount: int


class Transfer(Command):
    source: AccountId
    target: AccountId
    amount: int


class SetFee(Command):
    fee: int


class Close(Command):
    account_ids: tuple[AccountId, ...]


class Drain(Command):
    """Move everything into another account, which is told by the first: `next-<account>`."""

    account_id: AccountId


class Note(Command):
    account_id: AccountId


class Balance(State):
    account_id: AccountId
    amount: int = 0
    closed: bool = False

    def evolve(self, event: Deposited | Withdrawn | Transferred | Closed) -> Self:
        match event:
            case Deposited():
                return self.replace(amount=self.amount + event.amount)
            case Withdrawn():
                return self.replace(amount=self.amount - event.amount)
            case Transferred():
                gained = event.amount * ((event.target == self.account_id) - (event.source == self.account_id))
                return self.replace(amount=self.amount + gained)
            case Closed():
                return self.replace(closed=True)


class Fee(Singleton):
    fee: int = 0

    def evolve(self, event: FeeSet) -> Self:
        return self.replace(fee=event.fee)


class LastActor(State):
    """Needs metadata, which an append alone does not tell."""

    account_id: AccountId
    actor: str = ""
    when: str = ""

    def evolve(self, event: Deposited, metadata: Metadata) -> Self:
        return self.replace(actor=metadata.actor, when=str(metadata.occurred_at))


class Overdrawn(Rejected):
    """There is not enough money."""


def deposit(cmd: Deposit, balance: Balance) -> Deposited:
    if balance.closed:
        raise Rejected("closed")
    return Deposited(cmd.account_id, cmd.amount)


def withdraw(cmd: Withdraw, balance: Balance, fee: Annotated[Fee, Unguarded]) -> Withdrawn:
    if balance.amount < cmd.amount + fee.fee:
        raise Overdrawn
    return Withdrawn(cmd.account_id, cmd.amount + fee.fee)


def transfer(
    cmd: Transfer, source: Annotated[Balance, Of("source")], target: Annotated[Balance, Of("target")]
) -> Iterable[Transferred]:
    if source.amount >= cmd.amount and not target.closed and source != target:
        yield Transferred(cmd.source, cmd.target, cmd.amount)


def set_fee(cmd: SetFee) -> FeeSet:
    return FeeSet(cmd.fee)


def close(cmd: Close, *balances: Balance) -> Closed:
    if any(each.amount for each in balances):
        raise Rejected(f"{sum(each.amount for each in balances)} are left")
    return Closed(cmd.account_ids)


async def drain(cmd: Drain, balance: Balance, reader: Reader) -> Iterable[Transferred]:
    target = await reader.load(Balance(f"next-{cmd.account_id}"))
    if target.closed:
        raise Rejected("closed")
    return [Transferred(cmd.account_id, target.account_id, balance.amount)] if balance.amount else []


def note(cmd: Note, last: LastActor, metadata: Metadata) -> Deposited:
    """Deposit one for each character of who came before, and of who comes now."""
    return Deposited(cmd.account_id, len(last.actor) + len(metadata.actor))


DECISIONS: list[Any] = [deposit, withdraw, transfer, set_fee, close, drain, note]


def bank(log: str | Store, **options: Any) -> App:
    return App(log, **{"events": BankEvent, "decisions": DECISIONS} | options)
