"""`refold audit`, and that all that operators do at the command line is recorded and can be told to programs."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from refold.bus.memory import MemoryBus
from refold.cli import main
from refold.cli.operate import actor
from tests.cli import billing, publishing
from tests.cli.clicking import app
from tests.runtime.clicks import BROKEN, Clicked, Failing

ROOT = Path(__file__).parents[2]
APP, DOUBLED = "tests.cli.clicking:app", "tests.cli.clicking:doubled"
Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    for each in (BROKEN, billing.BROKEN, billing.SENT, vars(billing.BUS)["_topics"]):
        each.clear()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
def refold(url: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call `refold … --json`, and return what it says."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: str, code: int = 0) -> Any:
        result: Result = CliRunner().invoke(main, [*arguments, "--json"], env={"REFOLD_STORE": url})
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    return call


def acts(refold: Call, app: str = APP) -> list[tuple[str, str, str]]:
    found = refold("audit", "list", app)
    assert {each["acted"]["actor"] for each in found} <= {actor()}
    return [(each["acted"]["action"], each["acted"]["about"], each["acted"]["reason"]) for each in found]


def test_parked_events_are_mended_by_group(refold: Call, url: str) -> None:
    async def fill() -> None:
        BROKEN.add("a")
        BROKEN.add("b")
        async with app(url) as running:
            await running.record(Failing("a"), Failing("b"), Clicked("b"), Failing("a"))
            await running.settle(parked=True)

    asyncio.run(fill())
    groups = refold("parked", "groups", APP, "--of", "Clicks")
    assert [(each["name"], each["count"], each["behind"], each["positions"]) for each in groups] == [
        ("Clicks", 2, 2, [1, 2])
    ]
    failed = refold("parked", "retry", APP, "--group", groups[0]["id"], "--run", code=1)
    assert (failed["tried"], [each["position"] for each in failed["failing"]]) == (2, [1, 2])
    skipped = refold("parked", "skip", APP, "--key", "page:a", "--of", "Clicks", "--reason", "a test", "--run")
    assert [each["position"] for each in skipped["skipped"]] == [1]
    BROKEN.clear()
    assert [each["position"] for each in refold("parked", "list", APP, "--skipped", "--of", "Clicks")] == [1]
    assert refold("parked", "list", APP, "--skipped", "--of", "Others") == []
    tried = refold("parked", "retry", APP, "--all", "--run")
    assert tried["failing"] == []
    assert acts(refold)[-1] == ("retry", "Clicks", "")
    assert ("skip", "Clicks", "a test") in acts(refold)
    listed = CliRunner().invoke(main, ["audit", "list", APP], env={"REFOLD_STORE": url}).stdout.splitlines()
    assert listed[0].split("\t") == ["position", "when", "who", "what", "about", "reason", "outcome"]
    assert listed[-1].split("\t")[3:] == ["retry", "Clicks 1, 2", "", "2 of 2 fail again"]


def test_one_way_to_say_which(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for said in ([], ["1", "--all"], ["--group", "x", "--key", "y"]):
        result = CliRunner().invoke(main, ["parked", "retry", APP, *said], env={"REFOLD_STORE": url})
        assert (result.exit_code, "name positions" in result.stderr) == (2, True)


def test_what_means_nothing_is_refused(refold: Call, url: str) -> None:
    async def fill() -> None:
        BROKEN.add("a")
        async with app(url) as running:
            await running.record(Failing("a"))
            await running.settle(parked=True)

    asyncio.run(fill())
    for said in (["--group", "3f9a0c1d2e4b"], ["--key", "page:b"], ["--key", "page:a", "--of", "Others"], ["7"]):
        for asked in (["retry"], ["skip", "--reason", "a test"]):
            result = CliRunner().invoke(main, ["parked", *asked, APP, *said], env={"REFOLD_STORE": url})
            assert result.exit_code == 1, (asked, said, result.output)
            assert "`refold parked list` shows what" in result.stderr
    assert acts(refold) == []


def test_projections(refold: Call, url: str) -> None:
    async def fill() -> None:
        async with app(url) as running:
            await running.record(Clicked("a", 3))
            await running.settle()

    asyncio.run(fill())
    held = refold("projection", "rebuild", DOUBLED, "Clicks", "--hold")
    assert refold("projection", "switch", DOUBLED, "Clicks", held["version"])["version"] == held["version"]
    back = refold("projection", "rollback", DOUBLED, "Clicks", "--leaving", held["version"], "--yes")
    assert back["version"] != held["version"]
    dropped = refold("projection", "drop", DOUBLED, "Clicks", held["version"], "--yes")
    assert dropped == {"projection": "Clicks", "dropped": held["version"]}
    assert [each[0] for each in acts(refold, DOUBLED)] == ["drop", "rollback", "switch", "rebuild"]


def test_processes_effects_and_the_outbox(refold: Call, url: str) -> None:
    async def fill() -> None:
        billing.BROKEN.add("o-2")
        async with billing.app(url) as running:
            await running.record(billing.OrderPlaced("o-1"), billing.OrderPlaced("o-2"))
            await running.settle(parked=True)

    asyncio.run(fill())
    name = "tests.cli.billing:app"
    assert refold("process", "retry", name, "dun", "2", "--run", code=1)["failing"][0]["position"] == 2
    billing.BROKEN.clear()
    assert refold("process", "resume", name, "dun", "--run")["tried"] == 1
    gave = refold("process", "give-up", name, "dun", "order:o-1", "--reason", "gone", "--yes")
    assert (gave["given_up"], gave["reason"]) == (1, "gone")
    again = ("--after", "0", "--upto", "1", "--reason", "lost", "--yes")
    assert refold("effect", "repeat", name, "mail", *again)["repeated"] == 1
    assert [each[:2] for each in acts(refold, name)] == [
        ("repeat", "mail"),
        ("give_up", "dun"),
        ("retry", "dun"),
        ("retry", "dun"),
    ]


def test_events_are_published_again(refold: Call, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = MemoryBus()
    monkeypatch.setattr(publishing, "BUS", bus)

    async def fill() -> None:
        async with publishing.app(url) as running:
            await running.record(publishing.OrderPlaced("o-1"), publishing.OrderPlaced("o-2"))
            await running.settle()

    asyncio.run(fill())
    name = "tests.cli.publishing:app"
    again = ("--after", "0", "--upto", "1", "--reason", "the broker lost a disk", "--yes")
    assert refold("outbox", "republish", name, *again)["republished"] == 1
    assert acts(refold, name) == [("republish", "outbox", "the broker lost a disk")]

    async def ids() -> list[str]:
        receiver = await bus.receive("shop", "test")
        return [message.id for message in await receiver.take(10, 1)]

    first, _, again_first = asyncio.run(ids())
    assert first == again_first, "under the id that it had"
