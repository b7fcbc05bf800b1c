"""`refold log types` and `show`: events are understood without the code that wrote them."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from refold import App, Event, Tag, stored_as
from tests.cli.conftest import Refold


class Line(Event):
    sku: Annotated[str, Tag("product")]


class Placed(Event):
    """Somebody wants\x1b[31m something."""

    order_id: Annotated[str, Tag("order")]
    lines: tuple[Line, ...]
    total: Annotated[int | None, Meta(description="In cents.")] = None


@stored_as("Placed")
class PlacedOtherwise(Event):
    order_id: Annotated[str, Tag("order")]


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/typed.db"

    async def fill() -> None:
        async with App(url, events=Placed) as app:
            await app.record(Placed("o-1", (Line("tea"),), 100))
        async with App(url, events=PlacedOtherwise) as app:
            await app.record(PlacedOtherwise("o-2"))

    asyncio.run(fill())
    return url


def test_types_are_listed_and_a_change_without_a_version_is_told(refold: Refold) -> None:
    heading, first, second = refold("log", "types").stdout.splitlines()
    assert heading.split("\t")[:5] == ["type", "version", "from position", "fields", "tags"]
    assert first.split("\t")[:5] == [
        "Placed", "1", "1", "order_id string, lines Line[], total integer or null", "product:lines[].sku order:order_id"
    ] or first.split("\t")[:5] == [
        "Placed", "1", "1", "order_id string, lines Line[], total integer or null", "order:order_id product:lines[].sku"
    ]  # fmt: skip
    assert second.split("\t")[:4] == ["Placed", "1", "2", "order_id string"]
    assert first.endswith("changed without a new version")
    found = [json.loads(line) for line in refold("log", "types", "--json").stdout.splitlines()]
    assert [(each["position"], each["changed"]) for each in found] == [(1, True), (2, True)]
    assert found[0]["schema"]["properties"]["total"]["description"] == "In cents."


def test_an_event_is_shown_by_the_schema_that_it_was_stored_by(refold: Refold) -> None:
    text = refold("log", "show", "1").stdout
    assert "100  (integer or null: In cents.)" in text
    assert '"o-1"  (string)' in text
    assert "\x1b" not in text
    assert json.loads(refold("log", "show", "2", "--json").stdout)["schema"]["required"] == ["order_id"]
    result = refold("log", "show", "3")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no event at position 3" in result.stderr


def test_a_log_that_says_nothing_of_its_types_is_shown_as_it_is(refold: Refold, tmp_path: Path) -> None:
    from refold.model.record import NewEvent
    from refold.store.sqlite import SqliteStore

    async def fill() -> None:
        log = await SqliteStore.open(tmp_path / "bare.db")
        await log.append([NewEvent("Odd", b"\x00\xff"), NewEvent("Listed", b"[1]")])
        await log.close()

    asyncio.run(fill())
    url = f"sqlite:///{tmp_path}/bare.db"
    assert len(refold("log", "types", "--store", url).stdout.splitlines()) == 1
    for position in ("1", "2"):
        result = refold("log", "show", position, "--store", url)
        assert result.exit_code == 0
        assert "no app has written down" in result.stderr
