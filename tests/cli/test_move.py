"""`refold log export`, `import` and `transform`: a log moves, and people are told how far it is and what is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Refold
from tests.cli.test_log import positions


def test_a_log_moves_through_files(refold: Refold, tmp_path: Path) -> None:
    result = refold("log", "export", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "4 events in 1 files, up to position 4" in result.stdout
    target = f"sqlite:///{tmp_path}/other.db"
    result = refold("log", "import", str(tmp_path / "out"), "--store", target)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "4 events appended")
    assert f"positions are the same as before: {tmp_path}/out/positions.csv" in result.stdout
    assert (
        "0 events appended; 4 were there already"
        in refold("log", "import", str(tmp_path / "out"), "--store", target).stdout
    )
    lines = refold("log", "read", "--store", target).stdout
    assert positions(lines) == [1, 2, 3, 4]
    before = [json.loads(line) for line in refold("log", "read", "--json").stdout.splitlines()]
    after = [json.loads(line) for line in refold("log", "read", "--store", target, "--json").stdout.splitlines()]
    assert [each["data"] for each in after] == [each["data"] for each in before]
    assert [each["metadata"]["occurred_at"] for each in after] == [each["recorded_at"] for each in before]


def test_some_events_are_exported_to_one_file(refold: Refold, tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    result = refold("log", "export", str(path), "--tag", "order:o-1", "--after", "1", "--json")
    found = json.loads(result.stdout)
    assert (found["events"], found["selection"]["tags"], found["first"]) == (1, ["order:o-1"], 3)
    assert [json.loads(line)["position"] for line in path.read_text().splitlines()] == [3]
    result = refold("log", "import", str(path), "--store", f"sqlite:///{tmp_path}/o.db", "--json")
    assert (json.loads(result.stdout)["appended"], json.loads(result.stdout)["shifted"]) == (1, True)
    assert (tmp_path / "orders.jsonl.positions.csv").read_text() == "old,new\n3,1\n"


def test_a_password_is_not_written_down(refold: Refold, tmp_path: Path) -> None:
    from refold.cli.move import _without_password  # pyright: ignore[reportPrivateUsage]

    assert _without_password("postgresql://app:secret@db/shop?password=x") == "postgresql://app@db/shop"
    assert _without_password("sqlite:///shop.db") == "sqlite:///shop.db"


def test_a_log_is_transformed_by_a_function(refold: Refold, store: str, tmp_path: Path) -> None:
    target, path = f"sqlite:///{tmp_path}/new.db", tmp_path / "map.csv"
    result = refold("log", "transform", store, target, "rewriting:without_odd", "--positions", str(path))
    assert result.exit_code == 0, result.output
    assert "4 events read: 3 kept as they are, 1 dropped; 3 in the target, 3 of them from this run" in result.stdout
    assert path.read_text() == "old,new\n1,1\n2,2\n3,3\n4,\n"
    doubled = f"sqlite:///{tmp_path}/doubled.db"
    options = ("--app", "shop:make_app", "--positions", str(tmp_path / "2.csv"), "--json")
    result = refold("log", "transform", target, doubled, "rewriting:doubled", *options)
    assert json.loads(result.stdout)["written"] == 3
    read = refold("log", "read", "--store", doubled, "--json").stdout
    assert [json.loads(line)["data"].get("total") for line in read.splitlines()] == [200, 400, 300]


def test_what_follows_a_log_is_carried_over(refold: Refold, store: str, tmp_path: Path) -> None:
    target, path = f"sqlite:///{tmp_path}/new.db", str(tmp_path / "map.csv")
    assert refold("log", "transform", store, target, "--positions", path).exit_code == 0
    result = refold("log", "carry", store, target, "--positions", path)
    assert (result.exit_code, result.stdout) == (0, "0 timers, 0 parked events, 0 ids of messages\n")
    found = json.loads(refold("log", "carry", store, target, "--positions", path, "--json").stdout)
    assert found == {"checkpoints": {}, "timers": 0, "parked": 0, "lost": 0, "received": 0}


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("log", "import", "nowhere"), "does not exist", 2),
        (("log", "import", "."), r"there is no export at", 1),
        (("log", "export", "x", "--tag", "order"), "name:value", 1),
        (("log", "export", "x", "--format", "csv"), "'csv' is not one of 'jsonl'", 2),
        (("log", "export", "x.parquet", "--format", "parquet"), "takes a folder", 1),
        (("log", "transform", "sqlite:///a.db", "sqlite:///a.db"), "the same log", 2),
        (("log", "transform", "sqlite:///a.db", "sqlite:///b.db"), "there is no log at", 1),
        (("log", "transform", "sqlite:///a.db", "sqlite:///b.db", "rewriting"), "write module:function", 2),
        (("log", "transform", "sqlite:///a.db", "sqlite:///b.db", "rewriting:no"), "has no 'no'", 2),
        (("log", "transform", "sqlite:///a.db", "sqlite:///b.db", "rewriting:NUMBER"), "is no function", 2),
        (("log", "transform", "sqlite:///a.db", "sqlite:///b.db", "--app", "shop:app"), "what a function takes", 2),
    ],
)
def test_a_mistake_is_told_on_stderr_only(
    refold: Refold, arguments: tuple[str, ...], says: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    result = refold(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_an_interrupted_move_says_how_it_goes_on(store: str, tmp_path: Path) -> None:
    """The function interrupts its own process, as Ctrl-C would."""
    command = [
        sys.executable,
        "-c",
        "from refold.cli import main; main()",
        "log",
        "transform",
        store,
        f"sqlite:///{tmp_path}/new.db",
    ]
    done = subprocess.run(
        [*command, "rewriting:interrupting", "--positions", str(tmp_path / "map.csv")],
        cwd=Path(__file__).parent, capture_output=True, text=True, env={**os.environ, "INTERRUPT": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode in (130, -signal.SIGINT), done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    again = subprocess.run(
        [*command, "rewriting:interrupting", "--positions", str(tmp_path / "map.csv")],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "4 kept as they are" in again.stdout, again.stderr
