"""`refold log causes`."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refold.cli import main
from tests.runtime.causing import Place, shop


@pytest.fixture
def log(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/log.db"

    async def fill() -> None:
        async with shop(url, effects=[]) as app:
            await app.execute(Place("bad-\x1b[31m1"), actor="ann")
            await app.settle(parked=True)

    asyncio.run(fill())
    return url


def refold(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, ["log", "causes", *arguments], env=env)


def test_piped_it_is_an_indented_list_with_positions(log: str) -> None:
    result = refold("1", "--store", log)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "1\tPlace by ann"
    assert lines[1] == "1\t  Placed order:bad-\\x1b[31m1 customer:c-1"
    assert any("bill failed: " in line and "no money" in line for line in lines)
    assert any(line.startswith("1\t    Expire waits, by timer fulfil") for line in lines)
    assert any("Reserve by process fulfil" in line for line in lines)
    assert "\x1b" not in result.stdout


def test_in_a_terminal_it_is_coloured(log: str) -> None:
    result = refold("1", "--store", log, FORCE_COLOR="1", COLUMNS="120")
    assert "\x1b[1;31m" in result.stdout
    assert "│ " in result.stdout


def test_as_json_it_is_one_object(log: str) -> None:
    found = json.loads(refold("2", "--store", log, "--json").stdout)
    assert (found["position"], found["complete"]) == (2, True)
    assert [each["kind"] for each in found["nodes"]].count("failed") == 1


def test_where_there_is_no_event(log: str) -> None:
    result = refold("99", "--store", log)
    assert result.exit_code == 1
    assert "no event at position 99" in result.stderr
