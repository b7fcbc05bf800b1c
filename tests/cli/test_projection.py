"""`refold projection`, `refold parked` and `refold run`: what an operator sees and does."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold.cli import main
from refold.runtime.books import CHECKPOINTS
from tests.cli.clicking import app, doubled
from tests.runtime.clicks import BROKEN, Busy, Clicked, Clicks, Failing

Call = Callable[..., Result]
ROOT = Path(__file__).parents[2]
APP, DOUBLED = "tests.cli.clicking:app", "tests.cli.clicking:doubled"


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/log.db"

    async def fill() -> None:
        BROKEN.add("b")
        async with app(url) as running:
            await running.record(*[Clicked(f"p-{n}", n) for n in range(5)], Failing("b\x1b[31m"), Clicked("b", 4))
            await running.settle()
            await running.record(Failing("b"), Clicked("b", 7))
            await running.settle(parked=True)

    asyncio.run(fill())
    return url


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    BROKEN.clear()


@pytest.fixture
def refold(url: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env={"REFOLD_STORE": url})

    return call


def test_how_everything_stands(refold: Call) -> None:
    found = json.loads(refold("projection", "list", APP, "--json").stdout)
    assert [(each["name"], each["status"], each["events_behind"], each["parked"]) for each in found] == [
        ("Clicks", "active", 0, 1),
        ("BusyPages", "active", 0, 1),
    ]
    lines = refold("projection", "list", APP).stdout.splitlines()
    assert lines[0].split("\t")[:4] == ["name", "version", "status", "position"]
    assert "oldest parked" in lines[1]


def test_a_rebuild_is_held_compared_switched_to_and_undone(refold: Call, url: str) -> None:
    BROKEN.clear()
    mended = refold("parked", "retry", APP, "--all", "--run")
    assert mended.exit_code == 0, mended.output
    held = refold("projection", "rebuild", DOUBLED, "Clicks", "--workers", "2", "--hold")
    assert held.exit_code == 0, held.output
    assert "held: `refold projection switch" in held.stdout
    assert "sample 1\tClicks b: clicks was 12, is 24" in held.stdout
    compared = refold("projection", "compare", DOUBLED, "Clicks")
    assert compared.exit_code == 1, "they differ"
    assert "different\t6" in compared.stdout
    assert "read as of version" in refold("projection", "switch", DOUBLED, "Clicks").stdout
    shown = refold("projection", "show", DOUBLED, "Clicks").stdout
    assert "\tactive\t" in shown
    assert "\tkept\t" in shown

    async def read() -> object:
        async with doubled(url).passive() as running:
            return await running.view(doubled_clicks()).get("p-4")

    assert "clicks=8" in repr(asyncio.run(read()))
    refused = refold("projection", "rollback", DOUBLED, "Clicks")
    assert (refused.exit_code, "--yes" in refused.stderr) == (1, True)
    assert refold("projection", "rollback", DOUBLED, "Clicks", "--yes").exit_code == 0
    assert "clicks=4" in repr(asyncio.run(read()))
    version = next(
        each["version"]
        for each in json.loads(refold("projection", "show", DOUBLED, "Clicks", "--json").stdout)
        if each["status"] == "rejected"
    )
    assert refold("projection", "drop", DOUBLED, "Clicks", version, "--yes").exit_code == 0
    assert len(json.loads(refold("projection", "show", DOUBLED, "Clicks", "--json").stdout)) == 1


def doubled_clicks() -> type[Clicks]:
    from tests.runtime.clicks import Doubled

    return Doubled  # type: ignore[return-value]


def test_what_is_parked_is_shown_tried_again_and_skipped(refold: Call, url: str) -> None:
    listed = refold("parked", "list", APP)
    assert listed.stdout.splitlines()[1].split("\t")[1:5] == ["8", "Failing", "page:b", "1"]
    shown = refold("parked", "show", APP, "8", "--of", "Clicks")
    assert "raise ValueError" in shown.stdout
    assert '"clicks":4' in shown.stdout
    nobody = refold("parked", "retry", APP, "8")
    assert nobody.exit_code == 1
    assert "nobody runs" in nobody.stderr
    fails = refold("parked", "retry", APP, "8", "--run")
    assert fails.exit_code == 1
    assert "position 8 still fails: ValueError('b is broken')" in fails.stderr
    skipped = refold("parked", "skip", APP, "8", "--reason", "sent\x1b twice", "--run")
    assert skipped.exit_code == 0, skipped.output
    assert "\\x1b twice" in refold("parked", "list", APP, "--skipped").stdout
    assert json.loads(refold("parked", "list", APP, "--json").stdout) == []

    async def read() -> object:
        async with app(url).passive() as running:
            return await running.view(Busy).get("b")

    assert asyncio.run(read()) == Busy("b", 11)


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("projection", "show", APP, "Other"), "there is no projection 'Other'; there is Clicks, BusyPages", 1),
        (("projection", "switch", APP, "Clicks"), "there is no such version", 1),
        (("projection", "rollback", APP, "Clicks", "--yes"), "no earlier version", 1),
        (("parked", "show", APP, "1"), "nothing is parked at position 1", 1),
        (("parked", "show", APP, "99"), "nothing is parked at position 99", 1),
        (("parked", "retry", APP), "name positions, or --group", 2),
        (("parked", "retry", APP, "1", "--run"), "nothing has failed at position 1", 1),
        (("parked", "skip", APP, "8"), "--reason", 2),
        (("parked", "skip", APP, "8", "--reason", " ", "--run"), "skipped for a reason", 1),
    ],
)
def test_mistakes_are_told(refold: Call, arguments: tuple[str, ...], says: str, code: int) -> None:
    result = refold(*arguments)
    assert says in result.stderr
    assert result.exit_code == code


def test_run_until_idle(refold: Call) -> None:
    result = refold("run", APP, "--until-idle")
    assert result.exit_code == 0, result.output
    assert "Clicks" in result.stdout
    assert "caught up, 1 parked" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_stops_when_it_is_told_and_hands_over(url: str, number: int) -> None:
    command = [sys.executable, "-c", "from refold.cli import main; main()", "run", APP]
    runs = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "REFOLD_STORE": url}, stdout=subprocess.PIPE, text=True
    )
    assert runs.stdout
    assert "Clicks" in runs.stdout.readline()
    runs.send_signal(number)
    runs.communicate(timeout=100)
    assert runs.returncode == 0

    async def next_one() -> None:
        async with app(url).passive() as looking:
            assert {row.owner for row in await looking._now.books[0].find(CHECKPOINTS)} == {""}, "it has let go"
        async with app(url) as running:
            await running.wait(await running.head())
            assert all(each.owned for each in running._now.subscriptions())

    asyncio.run(next_one())
