"""`refold rows`: comparing rows with events, and making them."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Refold
from tests.runtime.bank import Balance, Deposit, bank


@pytest.fixture
def url(tmp_path: Path) -> str:
    async def fill(url: str) -> str:
        async with bank(url) as app:
            for account in ("a", "b", "\x1b[31mc"):
                await app.execute(Deposit(account, 5))
        return url

    return asyncio.run(fill(f"sqlite:///{tmp_path}/bank.db"))


def test_rows_are_made_of_events_and_compared(refold: Refold, url: str) -> None:
    on = ("--store", url)
    refused = refold("rows", "check", "bank:rows", "Balance", *on)
    assert refused.exit_code == 2, refused.output
    assert "make its rows of them first" in refused.output
    assert refold("state", "bank:rows", "Balance", "a", *on).exit_code == 2
    assert refold("rows", "fill", "bank:rows", "Balance", *on).output == "3 rows of Balance are made; start the app\n"
    assert refold("rows", "fill", "bank:rows", "Balance", *on).output == "0 rows of Balance are made; start the app\n"
    checked = refold("rows", "check", "bank:rows", "Balance", *on)
    assert (checked.exit_code, checked.output) == (0, "every row of Balance is what its events add up to\n")
    assert json.loads(refold("state", "bank:rows", "Balance", "a", "--json", *on).output)["amount"] == 5
    past = refold("state", "bank:rows", "Balance", "a", "--as-of", "1", *on)
    assert past.exit_code == 1
    assert "have no past" in past.output

    async def bring() -> None:
        async with bank(url, rows=[Balance]) as app:
            await app.operations.import_rows([Balance("\x1b[31md", 7)])

    asyncio.run(bring())
    found = refold("rows", "check", "bank:rows", "Balance", *on)
    assert found.exit_code == 1
    assert "amount=7" in found.output
    assert "\x1b" not in found.output
    assert refold("rows", "leave", "bank:rows", "Balance", *on).exit_code == 1
    [difference] = json.loads(refold("rows", "check", "bank:rows", "Balance", "--json", *on).output)
    assert (difference["row"]["amount"], difference["folded"]["amount"]) == (7, 0)


def test_what_is_left_is_kept_as_events(refold: Refold, url: str) -> None:
    on = ("--store", url)
    assert refold("rows", "fill", "bank:rows", "Balance", *on).exit_code == 0
    assert "is kept as rows in this log" in refold("state", "bank:events", "Balance", "a", *on).output
    assert refold("rows", "leave", "bank:rows", "Balance", *on).output.startswith("Balance is kept as events")
    assert refold("state", "bank:events", "Balance", "a", *on).exit_code == 0
    assert "make its rows of them first" in refold("state", "bank:rows", "Balance", "a", *on).output


def test_what_is_not_kept_as_rows_is_told(refold: Refold, url: str) -> None:
    for command in ("check", "fill", "leave"):
        found = refold("rows", command, "bank:events", "Balance", "--store", url)
        assert found.exit_code == 1
        assert "no state 'Balance' is kept as rows; there is none" in found.output


def test_what_an_app_is_made_of_tells_its_rows(refold: Refold, url: str) -> None:
    found = refold("check", "bank:rows", "--json", "--store", url)
    assert json.loads(found.output)["rows"] == ["Balance"]
