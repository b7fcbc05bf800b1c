"""`refold doctor`: what is well, what is not and what to do; with no secret in it, and nothing made by looking."""

import json
from datetime import UTC, datetime, timedelta
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

from refold.cli import checkup
from refold.cli.checkup import file_system, of_file, of_keys, secrets_of
from refold.cli.doctor import doctor as command
from refold.http.tokens import create
from refold.runtime.diagnose import Diagnosis
from refold.store.sqlite import opening
from refold.testing.postgres import PostgresServer
from tests.cli.conftest import Refold

URL = "postgresql://ann:geh%40eim@db.invalid:1/x?sslpassword=auch-geheim&schema=s"


@pytest.fixture
def looked(refold: Refold, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def look(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = refold("doctor", *arguments, "--keys", str(tmp_path / "keys.json"), "--json", env={"REFOLD_STORE": None})
        assert done.exit_code in (0, 1), done.output
        found = json.loads(done.stdout)
        return done.exit_code, {each["id"]: each for each in found["findings"]} | {"fine": found["fine"]}

    return look


def test_without_an_app_nothing_is_connected_to(looked: Any, refold: Refold) -> None:
    code, found = looked()
    assert code == 0
    assert {each["about"] for each in found["fine"]} == {"versions", "SQLite", "extras"}
    text = refold("doctor")
    assert text.stdout.endswith("nothing to see to\n")


def test_an_app_that_has_not_run_yet_is_well_and_gets_no_log(looked: Any, tmp_path: Path) -> None:
    code, found = looked("shop:make_app", "--store", f"sqlite:///{tmp_path}/new.db")
    assert code == 0
    assert found.keys() == {"fine", "NO_LOCK"}
    assert not (tmp_path / "new.db").exists()
    assert found["NO_LOCK"]["command"] == "refold contract lock shop:make_app"


def test_an_app_that_never_ran_on_a_log_is_found(looked: Any, refold: Refold, store: str) -> None:
    code, found = looked("shop:make_app", "--store", store)
    assert code == 1
    assert found["NEVER_RUN"]["command"] == "refold run shop:make_app"
    assert refold("run", "shop:make_app", "--until-idle", "--store", store).exit_code == 0
    assert refold("execute", "shop:make_app", "PlaceOrder", '{"order_id": "o-9", "total": 1}').exit_code == 0
    found = looked("shop:make_app", "--store", store)[1]
    assert "NEVER_RUN" not in found
    assert [each["found"] for each in found["fine"] if each["about"] == "clock"] == ["not behind the log"]


def test_nothing_is_made_on_a_server_either(looked: Any, postgres: PostgresServer) -> None:
    code, found = looked("shop:make_app", "--store", postgres.url("not_there_yet"))
    assert code == 0
    assert {"about": "log", "found": "is not there yet; the app makes it when it starts"} in found["fine"]
    assert looked("shop:make_app", "--store", postgres.url("not_there_yet")) == (code, found)


def test_a_log_of_an_older_refold_is_told_and_left_as_it_is(
    looked: Any, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MIGRATIONS", (*opening.MIGRATIONS, "CREATE TABLE newer (x)"))
    for _ in range(2):
        code, found = looked("shop:make_app", "--store", store)
        assert (code, found["STORE_TOO_OLD"]["command"]) == (1, f"refold store migrate --store '{store}'")


def test_what_cannot_be_made_is_told(looked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked("nope:app")[1]["NO_APP"]["severity"] == "critical"
    assert looked("shop:not_an_app")[0] == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('\\x1b[31mno')")
    code, found = looked("broken_one:app")
    assert (code, found["IMPORT"]["command"]) == (1, "python -c 'import broken_one'")


def test_a_file_that_is_no_log_is_told(looked: Any, tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"something else" * 100)
    code, found = looked("shop:make_app", "--store", f"sqlite:///{tmp_path}/other.db")
    assert code == 1
    assert {"NOT_A_STORE", "STORE_DAMAGED", "STORE"} & found.keys()


def test_no_secret_is_shown(refold: Refold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refold.cli.doctor.OPEN_SECONDS", 1.0)
    for form in ((), ("--json",)):
        done = refold("doctor", "shop:make_app", "--store", URL, *form)
        assert done.exit_code == 1
        assert "geh" not in done.stdout.replace("geht", "")
        assert "cannot be opened" in done.stdout
        assert "postgresql://ann:***@db.invalid:1/x?sslpassword=***&schema=s" in done.stdout
    assert secrets_of(URL) == ["auch-geheim", "geh%40eim", "geh@eim"]


def found_in(found: Any) -> dict[str, Diagnosis]:
    return {each.id: each for each in found if isinstance(each, Diagnosis)}


@pytest.mark.parametrize(("mode", "id"), [(0o666, "WRITABLE_BY_ALL"), (0o644, "READABLE_BY_ALL"), (0o600, None)])
def test_who_else_can_reach_a_log_is_told(tmp_path: Path, mode: int, id: str | None) -> None:
    path = tmp_path / "a.db"
    path.touch()
    path.chmod(mode)
    assert found_in(of_file(path)).keys() == ({id} if id else set())


def test_a_disk_that_a_log_should_not_be_on_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_system(tmp_path)
    monkeypatch.setattr(checkup, "file_system", lambda _: "nfs4")
    monkeypatch.setattr(checkup, "LITTLE", 1 << 60)
    found = found_in(of_file(tmp_path / "a.db"))
    assert (found["NETWORK_DISK"].severity, found["LITTLE_SPACE"].severity) == ("critical", "warning")
    assert found_in(of_file(tmp_path / "no" / "a.db")).keys() == {"NO_FOLDER"}


def test_keys_are_looked_after(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    assert list(of_keys(path)) == []
    token = create(path, "ann", "admin")
    create(path, "old", "reader", expires=datetime.now(UTC) - timedelta(days=1))
    assert found_in(of_keys(path)).keys() == {"KEY_EXPIRED"}
    path.chmod(0o644)
    found = found_in(of_keys(path))
    assert found["KEYS_OPEN"].command == f"chmod 600 {path}"
    assert token not in str(list(of_keys(path)))
    path.write_text("{")
    assert found_in(of_keys(path))["KEYS_UNREADABLE"].severity == "critical"


def test_a_clock_that_is_behind_the_log_is_told(looked: Any, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Early(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Early":
            return cls(2020, 1, 1, tzinfo=UTC)

    monkeypatch.setitem(command.callback.__globals__, "datetime", Early)  # type: ignore[union-attr]
    assert looked("shop:make_app", "--store", store)[1]["CLOCK_BEHIND"]["command"] == "timedatectl"


def test_every_extra_is_looked_for() -> None:
    assert set(checkup.EXTRAS) == set(metadata("refold").get_all("Provides-Extra") or [])
