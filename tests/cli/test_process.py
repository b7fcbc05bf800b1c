"""`refold process`, `refold effect`, and what is parked of an inbox: what operators see, and what they mend."""

import asyncio
import json
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold.bus.api import Message
from refold.cli import main
from tests.cli import billing
from tests.cli.billing import BROKEN, BUS, SENT, OrderPlaced

Call = Callable[..., Result]
APP = "tests.cli.billing:app"
ROOT = Path(__file__).parents[2]
HOSTILE = b"\x00\xff\x1b[31m not json"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Fill a log: o-1 waits for its timer, o-2 has failed with another event behind it, and an inbox has parked."""
    url = f"sqlite:///{tmp_path}/log.db"

    async def fill() -> None:
        BROKEN.add("o-2")
        async with billing.app(url) as app:
            await app.record(OrderPlaced("o-1"), OrderPlaced("o-2"), OrderPlaced("o-2"))
            await BUS.publish("parcels", [Message("m-1", "k", HOSTILE)])
            await app.settle(parked=True)
            async with asyncio.timeout(60):
                while len(await app.operations.parked()) < 3:
                    await asyncio.sleep(0.01)

    asyncio.run(fill())
    return url


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    BROKEN.clear()
    SENT.clear()
    vars(BUS)["_topics"].clear()


@pytest.fixture
def refold(url: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, arguments, env={"REFOLD_STORE": url})
        assert result.exit_code == code, result.output
        return result

    return call


def test_what_processes_wait_for_is_listed(refold: Call) -> None:
    rows = [line.split("\t") for line in refold("process", "list", APP).stdout.splitlines()]
    assert rows[0] == ["process", "key", "position", "waits for", "since", "due", "attempts", "error"]
    assert [row[:4] for row in rows[1:]] == [
        ["dun", "order:o-1", "1", "timer: Remind(order_id='o-1')"],
        ["dun", "order:o-2", "2", "OrderPlaced"],
        ["dun", "order:o-2", "3", "OrderPlaced, behind what failed"],
    ]
    assert rows[2][7] == r"ValueError('\x1b[31mo-2 is broken')"
    assert rows[1][5].startswith("20")
    stuck = json.loads(refold("process", "list", APP, "dun", "--stuck", "--json").stdout)
    assert [(each["key"], each["position"], each["is_stuck"]) for each in stuck] == [
        ("order:o-2", 2, True),
        ("order:o-2", 3, True),
    ]
    [timer] = [each for each in json.loads(refold("process", "list", APP, "--json").stdout) if each["name"]]
    assert timer["command"] == {"name": "Remind", "order_id": "o-1"}
    assert refold("process", "list", APP, "mail").stdout.splitlines()[1:] == []


def test_what_has_failed_is_tried_again(refold: Call) -> None:
    fails = refold("process", "retry", APP, "dun", "2", "--run", code=1)
    assert "dun position 2 still fails: ValueError" in fails.stderr
    BROKEN.clear()
    assert refold("process", "resume", APP, "dun", "order:o-2", "--run").stdout == "all of it is done\n"
    assert refold("process", "list", APP, "--stuck").stdout.splitlines()[1:] == []
    names = {each["name"] for each in json.loads(refold("process", "list", APP, "--json").stdout)}
    assert names == {"dun o-1", "dun o-2"}


def test_a_key_is_given_up_for_a_reason(refold: Call) -> None:
    asks = refold("process", "give-up", APP, "dun", "order:o-2", "--reason", "gone", code=1)
    assert "Say so with --yes" in asks.stderr
    done = refold("process", "give-up", APP, "dun", "order:o-2", "--reason", "gone", "--yes", "--run")
    assert done.stdout == "dun has given up 2 for order:o-2; the reason is kept\n"
    refold("process", "give-up", APP, "dun", "order:o-1", "--reason", "called", "--yes")
    assert refold("process", "list", APP).stdout.splitlines()[1:] == []
    kept = refold("parked", "list", APP, "--skipped").stdout
    assert "gone" in kept
    assert "called" in kept


def test_an_effect_is_repeated_when_it_is_asked_for_and_not_before(refold: Call) -> None:
    assert sorted(order for order, _ in SENT) == ["o-1", "o-2", "o-2"]
    again = ("effect", "repeat", APP, "mail", "--after", "0", "--upto", "1", "--reason", "lost")
    assert "although it may have been done" in refold(*again, code=1).stderr
    assert refold(*again, "--yes").stdout == "mail was done again for 1 event\n"
    assert sorted(order for order, _ in SENT) == ["o-1", "o-1", "o-2", "o-2"]
    assert len({once for _, once in SENT}) == 4


def test_a_message_that_is_parked_is_shown_with_its_bytes(refold: Call) -> None:
    shown = refold("parked", "show", APP, "1", "--of", "inbox.parcels").stdout
    assert "\x1b" not in shown
    assert "inbox.parcels" in shown
    [found] = json.loads(refold("parked", "show", APP, "1", "--of", "inbox.parcels", "--json").stdout)["parked"]
    assert b64decode(found["content"]["body"]) == HOSTILE
    assert found["content"]["bytes"] == len(HOSTILE)
    assert found["content"]["id"] == "m-1"
    [event] = json.loads(refold("parked", "show", APP, "2", "--json").stdout)["parked"]
    assert event["content"]["data"] == {"order_id": "o-2"}


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("process", "list", APP, "other"), "there is no process 'other'; there is dun, mail", 1),
        (("process", "retry", APP, "dun", "1"), "nothing of it has failed there", 1),
        (("process", "retry", APP, "dun"), "Missing argument", 2),
        (("process", "resume", APP, "mail"), "nothing of it has failed", 1),
        (
            ("process", "give-up", APP, "dun", "order:o-9", "--reason", "x", "--yes"),
            "has nothing to do for order:o-9",
            1,
        ),
        (("process", "give-up", APP, "dun", "order:o-1", "--reason", " ", "--yes"), "for a reason", 1),
        (("effect", "repeat", APP, "dun", "--after", "0", "--upto", "1", "--reason", "x", "--yes"), "no effect", 1),
        (("process", "resume", APP, "dun"), "nobody runs dun", 1),
    ],
)
def test_mistakes_are_told(refold: Call, arguments: tuple[str, ...], says: str, code: int) -> None:
    result = refold(*arguments, code=code)
    assert says in result.stderr


def test_examples_stand_as_they_are_written() -> None:
    def helps(path: tuple[str, ...], command: object) -> Iterator[tuple[tuple[str, ...], str]]:
        yield path, CliRunner().invoke(main, [*path, "--help"]).output
        for name, each in getattr(command, "commands", {}).items():
            yield from helps((*path, name), each)

    for path, text in helps((), main):
        assert "\\b" not in text, path
        examples = [line for line in text.splitlines() if line.startswith("    refold ")]
        assert not [line for line in examples if line.count(" refold ") > 1], path


@pytest.mark.parametrize(
    "asked",
    [
        ("projection", "list", APP),
        ("process", "list", APP),
        ("parked", "list", APP),
        ("parked", "show", APP, "1"),
        ("parked", "retry", APP, "--all"),
        ("process", "give-up", APP, "dun", "order:o-1", "--reason", "gone", "--yes"),
    ],
)
def test_on_a_log_that_no_app_has_run_on_that_is_said(refold: Call, store: str, asked: tuple[str, ...]) -> None:
    result = refold(*asked, "--store", store, code=1)
    assert "error [NOT_KEPT] no app has run on this log yet: `refold run module:app` does" in result.stderr
