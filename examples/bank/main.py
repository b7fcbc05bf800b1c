"""The bank, wired."""

import os
from collections.abc import Sequence

from examples.bank.accounts import (
    AccountOpened,
    AccountOverdrawn,
    Deposited,
    Transferred,
    Withdrawn,
    deposit,
    open_account,
    transfer,
    withdraw,
)
from examples.bank.statements import AccountSummary
from examples.replay import BatchReplayed, MisfitFound, MisfitSummary
from refold import App, State


def make_app(url: str, rows: Sequence[type[State]] = ()) -> App:
    """Wire the bank; `rows=[Account]` keeps its accounts as rows, and changes nothing else."""
    return App(
        url,
        events=AccountOpened | Deposited | Withdrawn | Transferred | AccountOverdrawn | MisfitFound | BatchReplayed,
        decisions=[open_account, deposit, withdraw, transfer],
        projections=[AccountSummary, MisfitSummary],
        rows=rows,
    )


STORE = os.environ.get("BANK_STORE", "sqlite:///bank.db")

app = make_app(STORE)
