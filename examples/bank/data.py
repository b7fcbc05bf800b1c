"""The data: each row of the bank's transactions becomes a command, on the day when it happened.

The file is of the PKDD'99 Discovery Challenge (see ../shared/data/README.md). An account's first row opens it.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

from msgspec import Struct

from examples.bank.accounts import Deposit, OpenAccount, Purpose, Transfer, Withdraw
from examples.replay import MisfitFound, Step
from refold import Command

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "bank"


class Row(Struct, frozen=True):
    transaction_id: str
    account_id: str
    day: date
    direction: str  # credit or debit
    operation: str
    amount: Decimal
    balance_after: Decimal  # the oracle
    symbol: str = ""
    partner: str = ""


def steps(rows: Iterable[Row]) -> Iterator[Step]:
    """Turn rows into commands; the rows of an account stay in their order."""
    opened: set[str] = set()
    seen: set[str] = set()
    for row in rows:
        if row.account_id not in opened:
            opened.add(row.account_id)
            at = datetime.combine(row.day, time.min, UTC)
            yield Step(f"{row.account_id}/open", row.account_id, at, OpenAccount(row.account_id))
        # The data has days. Noon stands for all the day; the order within it is that of the rows.
        at = datetime.combine(row.day, time(12), UTC)
        if row.transaction_id in seen:
            twice = MisfitFound(row.account_id, "A transaction that is there twice.", refused=True)
            yield Step(f"transaction/{row.transaction_id}/twice", row.account_id, at, twice)
            continue
        seen.add(row.transaction_id)
        yield Step(f"transaction/{row.transaction_id}", row.account_id, at, command(row))


def command(row: Row) -> Command | MisfitFound:
    if row.symbol not in set(Purpose):
        return MisfitFound(row.account_id, f"The symbol {row.symbol!r} is unknown.", refused=True)
    purpose = Purpose(row.symbol)
    match row.operation, row.direction:
        case "transfer_out", "debit":
            return Transfer(row.account_id, row.partner, row.amount, purpose)
        case "transfer_in", "credit":
            return Transfer(row.partner, row.account_id, row.amount, purpose)
        case _, "debit":
            return Withdraw(row.account_id, row.amount, purpose)
        case _, "credit":
            return Deposit(row.account_id, row.amount, purpose)
        case _:
            return MisfitFound(row.account_id, f"The direction {row.direction!r} is unknown.", refused=True)


def oracle(rows: Iterable[Row]) -> dict[str, dict[date, Decimal]]:
    """Return for each account the bank's own balance at the end of each day on which something moved."""
    found: dict[str, dict[date, Decimal]] = {}
    for row in rows:
        found.setdefault(row.account_id, {})[row.day] = row.balance_after
    return found


def read_rows(folder: Path) -> list[Row]:
    with (folder / "transactions.csv").open(encoding="utf-8-sig", newline="") as lines:
        return [read_row(row) for row in csv.DictReader(lines)]


def read_row(row: dict[str, str]) -> Row:
    return Row(
        transaction_id=row["transaction_id"],
        account_id=row["account_id"],
        day=date.fromisoformat(row["date"]),
        direction=row["direction"],
        operation=row["operation"],
        amount=Decimal(row["amount"]),
        balance_after=Decimal(row["balance_after"]),
        symbol=row["symbol"],
        partner=f"{row['partner_bank']}/{row['partner_account']}",
    )


def made_up(accounts: int = 200, seed: int = 1) -> list[Row]:
    """Make up fifteen months of transactions, for where the data is not at hand."""
    random = Random(seed)  # noqa: S311
    rows = [row for number in range(1, accounts + 1) for row in life(random, str(number))]
    return sorted(rows, key=lambda row: row.day)


def life(random: Random, account_id: str) -> Sequence[Row]:
    """Make up the transactions of an account; it begins with a deposit."""
    day, balance, rows = date(1993, 1, 1) + timedelta(days=random.randrange(300)), Decimal(), list[Row]()
    while day < date(1994, 4, 1):
        direction, operation, symbol = random.choice(KINDS) if rows else KINDS[0]
        amount = Decimal(random.randrange(1_000, 500_000, 10)).scaleb(-2)
        balance += amount if direction == "credit" else -amount
        partner = f"XY/{random.randrange(10**7)}"
        number = f"{account_id}-{len(rows) + 1}"
        rows.append(Row(number, account_id, day, direction, operation, amount, balance, symbol, partner))
        day += timedelta(days=random.randrange(14))
    return rows


KINDS = (
    ("credit", "cash_deposit", ""),
    ("credit", "transfer_in", "pension"),
    ("credit", "", "interest"),
    ("debit", "cash_withdrawal", ""),
    ("debit", "cash_withdrawal", "statement_fee"),
    ("debit", "transfer_out", "household"),
)
