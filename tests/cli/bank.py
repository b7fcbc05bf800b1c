"""The bank of `tests.runtime.bank` for the command line: its accounts as rows, and as events."""

from refold import App
from tests.runtime.bank import Balance, bank


def rows(store: str) -> App:
    return bank(store, rows=[Balance])


def events(store: str) -> App:
    return bank(store)
