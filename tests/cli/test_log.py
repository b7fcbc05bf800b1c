"""`refold log`: what it selects, and how it shows it."""

import asyncio
import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from refold import App
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.runtime.scan import Stretch
from refold.store.api import Store
from tests.cli.conftest import Refold
from tests.runtime.clicks import Clicked


def positions(text: str) -> list[int]:
    return [int(line.split("\t")[0]) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [1, 2, 3, 4]),
        (("--type", "OrderPlaced"), [1, 2]),
        (("--type", "OrderPlaced", "--type", "OrderPaid"), [1, 2, 3]),
        (("--tag", "order:o-1"), [1, 3]),
        (("--tag", "order:o-1", "--tag", "order:o-2"), []),
        (("--after", "1", "--upto", "3"), [2, 3]),
        (("--backwards", "--limit", "2"), [4, 3]),
        (("--since", "2026-03-01"), [2, 3, 4]),
        (("--until", "2026-03-02"), [1, 2]),
        (("--until", "2026-03-02T12:00:00+00:00", "--upto", "1"), [1]),
        (("--until", "2026-03-02T11:59:59.999999"), [1]),
    ],
)
def test_read_selects(refold: Refold, arguments: tuple[str, ...], expected: list[int]) -> None:
    result = refold("log", "read", *arguments)
    assert result.exit_code == 0, result.output
    assert positions(result.stdout) == expected


def test_read_as_json_keeps_data_that_is_json_and_encodes_what_is_not(refold: Refold) -> None:
    lines = [json.loads(line) for line in refold("log", "read", "--json").stdout.splitlines()]
    assert lines[0]["data"] == {"order_id": "o-1", "total": 100}
    assert lines[0]["recorded_at"] == "2026-03-01T12:00:00Z"
    assert lines[3]["data"] == "AP8="


def test_nothing_in_the_data_reaches_the_terminal(refold: Refold) -> None:
    result = refold("log", "read", "--type", "Odd")
    assert "\x1b" not in result.stdout
    assert r"odd:\x1b[31mred" in result.stdout


def test_tail_shows_the_newest_in_order(refold: Refold) -> None:
    assert positions(refold("log", "tail", "-n", "2").stdout) == [3, 4]
    assert positions(refold("log", "tail", "-n", "0").stdout) == []
    assert positions(refold("log", "tail", "-n", "1", "--type", "OrderPaid").stdout) == [3]


def test_stats_count_by_type(refold: Refold) -> None:
    found = json.loads(refold("log", "stats", "--json").stdout)
    assert found["head"] == 4
    assert {each["type"]: each["events"] for each in found["types"]} == {"OrderPlaced": 2, "OrderPaid": 1, "Odd": 1}
    assert refold("log", "stats").stdout.splitlines()[0].split("\t")[0] == "type"


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("log", "read", "--tag", "order"), "name:value", 1),
        (("log", "read", "--since", "yesterday"), "2026-03-01", 2),
        (("log", "read", "--store", "sqlite:///none.db"), "there is no log at", 1),
        (("log", "read", "--store", "shop.db"), "sqlite:///shop.db", 2),
        (("log", "raed"), "'read'", 2),
    ],
)
def test_a_mistake_is_told_on_stderr_only(refold: Refold, arguments: tuple[str, ...], says: str, code: int) -> None:
    result = refold(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_log_that_is_not_there_is_not_made(refold: Refold, tmp_path: object) -> None:
    refold("log", "stats", "--store", f"sqlite:///{tmp_path}/none.db")
    result = refold("log", "stats", "--store", f"sqlite:///{tmp_path}/none.db")
    assert "there is no log" in result.stderr


def test_search_finds_the_newest_first(refold: Refold) -> None:
    assert positions(refold("log", "search", "O-1").stdout) == [3, 1]
    assert positions(refold("log", "search", "o-1", "100").stdout) == [1]
    assert positions(refold("log", "search", "o-1", "--type", "OrderPaid").stdout) == [3]
    assert positions(refold("log", "search", "order*", "--tag", "order:o-2").stdout) == [2]
    assert positions(refold("log", "search", "order*", "--limit", "1").stdout) == [3]
    assert positions(refold("log", "search", "order*", "--before", "3").stdout) == [2, 1]
    assert positions(refold("log", "search", "order*", "--since", "2026-03-01", "--until", "2026-03-02").stdout) == [2]
    found = refold("log", "search", "300", "--json")
    assert json.loads(found.stdout)["data"] == {"order_id": "o-1", "total": 300}
    assert refold("log", "search", "nowhere").stdout == ""
    wrong = refold("log", "search", "***")
    assert wrong.exit_code == 1
    assert "no word to search for" in wrong.stderr


def test_search_goes_on_to_the_beginning(refold: Refold, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[int, int]] = []

    @contextmanager
    def progress(_: str, total: int) -> Generator[Any]:
        yield lambda done: moved.append((done, total))

    monkeypatch.setattr("refold.cli.show.progress", progress)
    monkeypatch.setattr("refold.runtime.index.LOOK_SECONDS", -1.0)
    monkeypatch.setattr("refold.store.sqlite.log.FIRST_PAGE", 1)
    assert positions(refold("log", "search", "order*").stdout) == [3, 2, 1]
    assert moved == [(1, 4), (2, 4), (3, 4)], "of the whole log, not of what is left"


def test_search_uses_the_index_that_an_app_keeps(refold: Refold, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep() -> None:
        async with App(store, events=Clicked, index=True) as app:
            await app.settle()

    asyncio.run(keep())

    async def scan(
        store: Store, query: Query, within: Stretch, *_: Any, **how: Any
    ) -> tuple[list[StoredEvent], Stretch]:
        return [], within  # has no time to look at anything

    monkeypatch.setattr("refold.runtime.index.scan", scan)
    assert positions(refold("log", "search", "o-1").stdout) == [3, 1]
