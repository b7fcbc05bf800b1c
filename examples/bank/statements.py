"""Statements: what moved on an account between two days, with the balance after each movement."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Self

from msgspec import Struct

from examples.bank.accounts import (
    Account,
    AccountId,
    AccountOpened,
    AccountOverdrawn,
    Deposited,
    Transferred,
    Withdrawn,
)
from refold import App, Event, Metadata, Recorded, State


class AccountSummary(State):
    """A line in the list of accounts; other banks' accounts are in it, too, as far as we know them."""

    account_id: AccountId
    opened_at: datetime | None = None
    balance: Decimal = Decimal()
    movements: int = 0
    overdrafts: int = 0

    def evolve(
        self, event: AccountOpened | Deposited | Withdrawn | Transferred | AccountOverdrawn, metadata: Metadata
    ) -> Self:
        match event:
            case AccountOpened():
                return self.replace(opened_at=metadata.occurred_at)
            case AccountOverdrawn():
                return self.replace(overdrafts=self.overdrafts + 1)
            case _:
                account = Account(self.account_id, balance=self.balance).evolve(event)
                return self.replace(balance=account.balance, movements=self.movements + 1)


class Movement(Struct, frozen=True):
    day: date
    what: str
    change: Decimal
    balance: Decimal


class Statement(Struct, frozen=True):
    account_id: str
    opening: Decimal
    movements: list[Movement]

    @property
    def closing(self) -> Decimal:
        return self.movements[-1].balance if self.movements else self.opening


def end_of(day: date) -> datetime:
    """Return the last moment of a day."""
    return datetime.combine(day, time.max, UTC)


async def statement(app: App, account_id: str, first: date, last: date) -> Statement:
    """Write a statement; both days are in it. Movements stand in the order in which they happened."""
    account = await app.load(Account(account_id), effective=end_of(first - timedelta(days=1)))
    opening, movements = account.balance, list[Movement]()
    for recorded in await happened(app, account_id):
        if first <= recorded.occurred_at.date() <= last:
            before, account = account.balance, account.fold([recorded])
            if account.balance != before:
                what = described(recorded.event, account_id)
                movements.append(Movement(recorded.occurred_at.date(), what, account.balance - before, account.balance))
    return Statement(account_id, opening, movements)


async def happened(app: App, account_id: str) -> list[Recorded[Event]]:
    """Return the events of an account in the order in which they happened."""
    events = [recorded async for recorded in app.events(Account(account_id))]
    return sorted(events, key=lambda recorded: (recorded.occurred_at, recorded.position))


async def balances(app: App, day: date) -> dict[str, Decimal]:
    """Return the balance of each of our accounts that was open by the end of a day."""
    accounts = await app.view(AccountSummary).find({"opened_at__le": end_of(day)}, order="account_id")
    loaded = [await app.load(Account(each.account_id), effective=end_of(day)) for each in accounts]
    return {account.account_id: account.balance for account in loaded}


def described(event: Event, account_id: str) -> str:
    match event:
        case Deposited(purpose=purpose):
            return purpose or "deposit"
        case Withdrawn(purpose=purpose):
            return purpose or "withdrawal"
        case Transferred(source=source, target=target, purpose=purpose):
            other = f"to {target}" if source == account_id else f"from {source}"
            return f"{purpose or 'transfer'} {other}"
        case _:
            return type(event).__name__
