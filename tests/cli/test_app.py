"""`refold state` and `refold check`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Refold


@pytest.mark.parametrize(
    ("when", "status"),
    [
        ((), "paid"),
        (("--as-of", "2"), "placed"),
        (("--as-of", "2026-03-02"), "placed"),
        (("--as-of", "2026-02-28"), "new"),
        (("--effective", "2026-03-01T12:00:00+00:00"), "placed"),
    ],
)
def test_a_state_now_and_then(refold: Refold, when: tuple[str, ...], status: str) -> None:
    result = refold("state", "shop:make_app", "Order", "o-1", *when, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["status"] == status


def test_a_state_without_json_is_a_line_a_field(refold: Refold) -> None:
    assert "status\tpaid" in refold("state", "shop:make_app", "Order", "o-1").stdout


def test_looking_at_a_state_writes_nothing(refold: Refold) -> None:
    before = json.loads(refold("log", "stats", "--json").stdout)
    refold("state", "shop:make_app", "Order", "o-1")
    assert json.loads(refold("log", "stats", "--json").stdout) == before


@pytest.mark.parametrize(
    "asked",
    [
        "state A Order o-1",
        "story A Order o-1",
        "audit list A",
        "parked list A",
        "parked retry A --all",
        "parked retry A --all --run",
        "projection list A",
        "projection rebuild A Order",
        "process list A",
    ],
)
def test_a_mistyped_address_makes_no_log(refold: Refold, asked: str, tmp_path: Path) -> None:
    result = refold(*asked.replace("A", "shop:make_app", 1).split(), "--store", f"sqlite:///{tmp_path}/shoop.db")
    assert result.exit_code == 1, result.output
    assert "[NOT_A_STORE] there is no log at" in result.stderr
    assert not [*tmp_path.glob("shoop*")]


def test_the_first_command_makes_the_log(refold: Refold, tmp_path: Path) -> None:
    command = ("PlaceOrder", '{"order_id": "o-9", "total": 1}')
    result = refold("execute", "shop:make_app", *command, "--store", f"sqlite:///{tmp_path}/new.db")
    assert result.exit_code == 0, result.output


def test_check_shows_what_the_app_is_made_of(refold: Refold) -> None:
    found = json.loads(refold("check", "shop:app", "--json").stdout)
    assert found["decisions"] == ["place_order(PlaceOrder)"]
    assert found["projections"] == ["Order"]


def test_check_finds_what_is_wired_wrongly(refold: Refold) -> None:
    result = refold("check", "shop:wrong")
    assert result.exit_code == 1
    assert "[WIRING]" in result.stderr
    assert "OrderPlaced" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check", "shop"), "module:attribute"),
        (("check", "nowhere:app"), "No module named 'nowhere'"),
        (("check", "shop:nothing"), "no 'nothing'"),
        (("check", "shop:not_an_app"), "not an App"),
        (("state", "shop:app", "Invoice", "1"), "it has Order"),
        (("state", "shop:app", "Order"), "the key of Order is order_id; 0 values were given"),
    ],
)
def test_a_wrong_name_is_told(refold: Refold, arguments: tuple[str, ...], says: str) -> None:
    result = refold(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_migrate_makes_a_log_ready(refold: Refold, tmp_path: Path) -> None:
    result = refold("store", "migrate", "--store", f"sqlite:///{tmp_path}/new.db")
    assert (result.exit_code, result.stdout) == (0, "ready, with its head at position 0\n")
    assert refold("log", "stats", "--store", f"sqlite:///{tmp_path}/new.db").exit_code == 0


def test_every_command_teaches_by_example(refold: Refold) -> None:
    for command in (("log", "tail"), ("log", "read"), ("state",), ("store", "migrate")):
        assert f"refold {' '.join(command)}" in refold(*command, "--help").stdout.split("Options:")[0].split("\n", 2)[2]
