"""`refold query`: the mirror brought up to date and asked, for people, programs and spreadsheets."""

import asyncio
import csv
import io
import json
import sys
from pathlib import Path

import polars as pl
import pytest

from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore
from tests.cli.conftest import Refold

APP = ("--app", "shop:make_app")


@pytest.fixture
def mirror(refold: Refold, tmp_path: Path) -> str:
    folder = str(tmp_path / "shop.mirror")
    result = refold("query", "--tables", "--mirror", folder, *APP)
    assert result.exit_code == 0, result.output
    return folder


def test_tables_are_shown_with_their_columns(refold: Refold, mirror: str) -> None:
    lines = [line.split("\t") for line in refold("query", "--tables", "--mirror", mirror).stdout.splitlines()]
    assert [line[0] for line in lines] == ["table", "events", "OrderPlaced", "OrderPaid", "_unread"]
    assert [line[2] for line in lines[1:]] == ["3", "2", "1", "1"]
    assert "order_id VARCHAR, total BIGINT" in lines[2][4]
    found = refold("query", "--tables", "--json", env={"REFOLD_MIRROR": mirror})
    assert json.loads(found.stdout.splitlines()[1])["columns"][-1] == {"name": "total", "type": "BIGINT"}


def test_rows_are_lines_with_tabs_where_nobody_sees_them(refold: Refold, mirror: str) -> None:
    result = refold("query", "select order_id, total, null as gone from OrderPlaced order by 1", "--mirror", mirror)
    assert result.stdout == "order_id\ttotal\tgone\no-1\t100\t\no-2\t200\t\n"


def test_numbers_stand_to_the_right_in_a_terminal(refold: Refold, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    sql = "select * from (values ('a', 1), ('bbbbb', 1000)) as t(some_text, some_number)"
    lines = refold("query", sql, "--mirror", mirror).stdout.splitlines()
    cells = [line.split("│")[1:3] for line in lines if "│" in line]
    assert cells == [[" a         ", "           1 "], [" bbbbb     ", "        1000 "]]


def test_json_is_a_line_for_each_row(refold: Refold, mirror: str) -> None:
    sql = "select 1.50::decimal(38,10) as money, [1.5::decimal(9,3)] as many, 'x'::blob as data, now() is null as no"
    result = refold("query", sql, "--json", "--mirror", mirror)
    assert result.stdout == '{"money":1.5,"many":[1.5],"data":"eA==","no":false}\n'


def test_csv_runs_no_formula(refold: Refold, mirror: str) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain", 'a"b,c']
    rows = ", ".join("('" + text.replace("'", "''") + "', -5, -1.50::decimal(9,2))" for text in texts)
    sql = f'select * from (values {rows}) as t(text, number, "=money")'
    found = [*csv.reader(io.StringIO(refold("query", sql, "--csv", "--mirror", mirror).stdout, newline=""))]
    assert found[0] == ["text", "number", "'=money"]
    assert [line[0] for line in found[1:]] == [
        *("'" + text for text in texts[:6]),
        "plain",
        'a"b,c',
    ]
    assert {tuple(line[1:]) for line in found[1:]} == {("-5", "-1.5")}


def test_parquet_keeps_the_types(refold: Refold, mirror: str, tmp_path: Path) -> None:
    target = tmp_path / "found.parquet"
    sql = "select position, recorded_at from events order by 1"
    result = refold("query", sql, "--parquet", str(target), "--mirror", mirror)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "3 rows" in result.stderr
    found = pl.read_parquet(target)
    assert found["position"].to_list() == [1, 2, 3]
    assert found["recorded_at"].dtype.is_temporal()


def test_the_mirror_goes_on_where_it_was(refold: Refold, mirror: str, store: str) -> None:
    async def append() -> None:
        log = await SqliteStore.open(Path(store.removeprefix("sqlite:///")))
        await log.append([NewEvent("OrderPaid", b'{"order_id":"o-2"}', ("order:o-2",))])
        await log.close()

    asyncio.run(append())
    sql = "select count(*) as n from events"
    assert refold("query", sql, "--mirror", mirror).stdout == "n\n3\n"
    assert refold("query", sql, "--mirror", mirror, *APP).stdout == "n\n4\n"


def test_what_is_left_out_is_said(refold: Refold, mirror: str) -> None:
    result = refold("query", "select position from events order by 1", "--limit", "2", "--mirror", mirror)
    assert result.stdout == "position\n1\n2\n"
    assert "only the first 2 rows" in result.stderr
    whole = refold("query", "select position from events", "--limit", "3", "--mirror", mirror)
    assert whole.stderr == ""


def test_nothing_in_the_data_reaches_the_terminal(refold: Refold, mirror: str) -> None:
    result = refold("query", 'select tags, tags[1] as "a\x1b[31m" from _unread', "--mirror", mirror)
    assert "\x1b" not in result.stdout
    assert r"odd:\x1b[31mred" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("select * from nope",), "There are the tables events, OrderPlaced", 1),
        (("copy events to 'x.csv'",), "a query is one SELECT, not COPY", 1),
        (("select * from read_text('/etc/passwd')",), "may not call read_text()", 1),
        (("select sum(a.range * b.range) from range(9999999) a, range(9999999) b", "--seconds", "0.1"), "0.1 s", 1),
        ((), "--tables", 2),
        (("select 1", "--tables"), "--tables", 2),
        (("select 1", "--json", "--csv"), "choose one", 2),
        (("select 1", "--limit", "-1"), "--limit", 2),
    ],
)
def test_a_mistake_is_told_on_stderr_only(
    refold: Refold, mirror: str, arguments: tuple[str, ...], says: str, code: int
) -> None:
    result = refold("query", *arguments, "--mirror", mirror)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_mirror_is_needed_and_a_log_to_make_it_from(refold: Refold, tmp_path: Path) -> None:
    assert "--mirror" in refold("query", "select 1").stderr
    missing = refold("query", "select 1", "--mirror", str(tmp_path / "none"))
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no mirror at" in missing.stderr
    nowhere = refold("query", "select 1", "--mirror", str(tmp_path / "none"), *APP, env={"REFOLD_STORE": None})
    assert nowhere.exit_code == 2
    assert "--store" in nowhere.stderr
    assert not (tmp_path / "none").exists()


def test_what_is_missing_is_named(refold: Refold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("refold.view.parquet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = refold("query", "select 1", "--mirror", str(tmp_path))
    assert result.exit_code == 2
    assert "pip install refold[analytics]" in result.stderr
