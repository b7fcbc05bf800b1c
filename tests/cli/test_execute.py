"""`refold execute` and `refold log append`: facts from the terminal, through decisions and past them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from refold.cli import main
from tests.cli.conftest import Refold

APP = "shop:make_app"


@pytest.fixture
def on(tmp_path: Path) -> tuple[str, str]:
    return "--store", f"sqlite:///{tmp_path}/new.db"


def test_a_command_is_decided_and_its_events_are_shown(refold: Refold, on: tuple[str, str]) -> None:
    done = refold("execute", APP, "PlaceOrder", '{"order_id": "o-1", "total": 5}', "--actor", "ann", *on)
    assert done.exit_code == 0, done.output
    [line] = done.stdout.splitlines()
    assert line.split("\t")[2:] == ["OrderPlaced", "order:o-1", '{"order_id":"o-1","total":5}']
    assert "position 1 on" in done.stderr
    stored = json.loads(refold("log", "show", "1", "--json", *on).stdout)
    assert stored["metadata"]["actor"] == "ann"
    again = refold("execute", APP, "PlaceOrder", '{"order_id": "o-1", "total": 5}', *on)
    assert (again.exit_code, again.stdout) == (0, "")
    assert "found nothing to do" in again.stderr


def test_one_that_comes_again_with_its_id_is_answered_as_before(refold: Refold, on: tuple[str, str]) -> None:
    asked = ("execute", APP, "PlaceOrder", '{"order_id": "o-1", "total": 5}', "--id", "a", "--json", *on)
    first, second = json.loads(refold(*asked).stdout), json.loads(refold(*asked).stdout)
    assert first == second
    assert (first["position"], first["id"], len(first["events"])) == (1, "a", 1)


def test_another_command_under_its_id_is_refused_and_so_is_an_empty_id(refold: Refold, on: tuple[str, str]) -> None:
    refold("execute", APP, "PlaceOrder", '{"order_id": "o-1", "total": 5}', "--id", "a", *on)
    reused = refold("execute", APP, "PlaceOrder", '{"order_id": "o-2", "total": 5}', "--id", "a", *on)
    assert (reused.exit_code, reused.stdout) == (1, "")
    assert "[APPEND_ID_REUSED] the id 'a' was used before, for a PlaceOrder with other fields" in reused.stderr
    empty = refold("execute", APP, "PlaceOrder", '{"order_id": "o-2", "total": 5}', "--id", "", *on)
    assert (empty.exit_code, empty.stdout) == (2, "")
    assert "--id: it is empty" in empty.stderr


def test_a_command_is_read_from_stdin(on: tuple[str, str], refold: Refold) -> None:
    given = ["execute", APP, "PlaceOrder", "-", "--json", *on]
    done = CliRunner().invoke(main, given, input='{"order_id": "ö-1", "total": 5}')
    assert json.loads(done.stdout)["events"][0]["tags"] == ["order:ö-1"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"order_id": 3, "total": "x"}', ["Expected `str`, got `int` at $.order_id", "got `str` at $.total"]),
        ('{"order_id": "o-1", "colour": 1}', ["Unknown field; PlaceOrder has order_id, total at $.colour"]),
        (
            "{}",
            ["missing required field `order_id` at $.order_id", "`total` at $.total", "takes order_id str, total int"],
        ),
        ("[]", ["Expected `object`, got `array` at $"]),
        ("{", ["at $"]),
        ("\x1b[31m", ["at $"]),
        ("[" * 100_000, ["at $"]),
    ],
)
def test_what_does_not_fit_is_told_by_its_field(
    refold: Refold, on: tuple[str, str], body: str, said: list[str]
) -> None:
    refused = refold("execute", APP, "PlaceOrder", body, *on)
    assert (refused.exit_code, refused.stdout) == (2, "")
    for each in said:
        assert each in refused.stderr
    assert "\x1b" not in refused.stderr


def test_when_it_happened_is_a_time_and_no_day(refold: Refold, on: tuple[str, str]) -> None:
    asked = ("execute", APP, "PlaceOrder", '{"order_id": "o-1", "total": 5}', *on, "--occurred-at")
    for value, said in (
        ("2026-11-27", "'2026-11-27' is a whole day: write at what time, as in 2026-11-27T12:00:00+01:00"),
        ("noon", "'noon' is not a time: write 2026-03-01T12:00:00+01:00"),
    ):
        refused = refold(*asked, value)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in " ".join(refused.stderr.split())
    assert refold(*asked, "2026-11-27T08:30").exit_code == 0
    stored = json.loads(refold("log", "show", "1", "--json", *on).stdout)
    assert stored["metadata"]["occurred_at"] == "2026-11-27T08:30:00Z"


def test_a_refusal_exits_with_1(refold: Refold, on: tuple[str, str]) -> None:
    refused = refold("execute", "bank:events", "Withdraw", '{"account_id": "a", "amount": 5}', *on)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "error [REJECTED]" in refused.stderr


def test_what_was_perhaps_meant_is_told(refold: Refold, on: tuple[str, str]) -> None:
    refused = refold("execute", APP, "PlaceOrdr", "{}", *on)
    assert refused.exit_code == 2
    assert "did you mean PlaceOrder?" in refused.stderr
    assert "did you mean Order?" in refold("state", APP, "Ordr", "o-1", *on).stderr


def test_an_event_is_appended_without_any_code(refold: Refold, on: tuple[str, str], store: str) -> None:
    event = ("log", "append", "OrderPlaced", '{"order_id": "o-9", "total": 7}', "--tag", "order:o-9", "--id", "x")
    done = refold(*event)
    assert (done.exit_code, done.stdout) == (0, "5\n")
    assert json.loads(refold(*event, "--json").stdout) == {"position": 5}
    assert json.loads(refold("state", APP, "Order", "o-9", "--json", "--store", store).stdout)["total"] == 7
    for wrong in ("[1]", "{", "\x1b"):
        refused = refold("log", "append", "OrderPlaced", wrong)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "is a JSON object" in refused.stderr
    assert refold("log", "append", "OrderPlaced", "{}", *on).exit_code == 1  # no log is made by a mistyped address
