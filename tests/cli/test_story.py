"""`refold story`."""

import json

import pytest

from tests.cli.conftest import Refold


def test_piped_each_change_is_a_line(refold: Refold) -> None:
    result = refold("story", "shop:make_app", "Order", "o-1")
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(line[0], *line[2:]) for line in lines] == [
        ("1", "OrderPlaced", "status", '"new"', '"placed"'),
        ("1", "OrderPlaced", "total", "0", "100"),
        ("3", "OrderPaid", "status", '"placed"', '"paid"'),
    ]


@pytest.mark.parametrize(
    ("asked", "positions", "status"),
    [
        ((), [1, 3], "paid"),
        (("--as-of", "2"), [1], "placed"),
        (("--as-of", "2026-03-02"), [1], "placed"),
        (("--effective", "2026-03-01T12:00:00+00:00"), [1], "placed"),
        (("--limit", "1"), [3], "paid"),
        (("--after", "0", "--limit", "1"), [1], "placed"),
        (("--after", "1"), [3], "paid"),
    ],
)
def test_as_json_it_is_one_object(refold: Refold, asked: tuple[str, ...], positions: list[int], status: str) -> None:
    result = refold("story", "shop:make_app", "Order", "o-1", *asked, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [each["position"] for each in found["steps"]] == positions
    assert found["state"]["status"] == found["steps"][-1]["state"]["status"] == status
    assert found["next"] == (1 if asked[:2] == ("--after", "0") else None)


def test_in_a_terminal_it_is_a_timeline(refold: Refold) -> None:
    result = refold("story", "shop:make_app", "Order", "o-1", env={"FORCE_COLOR": "1", "COLUMNS": "100"})
    assert "\x1b[" in result.stdout
    words = " ".join(result.stdout.split())
    for said in ("Order o-1", "OrderPlaced", "total", "100", "OrderPaid", "as of position 4"):
        assert said in words


def test_a_thing_without_events_has_a_story_without_steps(refold: Refold) -> None:
    assert refold("story", "shop:make_app", "Order", "o-9").stdout == ""
    shown = refold("story", "shop:make_app", "Order", "o-9", env={"FORCE_COLOR": "1"}).stdout
    assert "nothing has happened to it" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("shop:make_app", "Order"), "the key of Order is order_id"),
        (("shop:make_app", "Nope", "1"), "it has Order"),
        (("shop:make_app", "Order", "o-1", "--limit", "0"), "--limit"),
    ],
)
def test_what_is_asked_wrongly(refold: Refold, arguments: tuple[str, ...], says: str) -> None:
    result = refold("story", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
