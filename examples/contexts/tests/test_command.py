"""The command shows it: one context is killed, and in the end all agree."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from examples.contexts.__main__ import main, running_of
from examples.contexts.running import OneProcess, Processes
from examples.contexts.worker import CONTEXTS, Settings
from examples.terminal import console


@pytest.mark.parametrize(
    "options", [[], ["--one-process", "--away", "notifications"]], ids=["processes", "one process"]
)
def test_one_is_killed_and_catches_up(options: list[str], tmp_path: Path) -> None:
    with console.capture() as shown:
        done = CliRunner().invoke(main, ["--orders", "16", "--rate", "40", "--folder", str(tmp_path), *options])
    out, away = shown.get(), options[-1] if options else "billing"
    assert done.exit_code == 0, (out, done.exception)
    assert f"{away} is {'stopped' if options else 'killed'}; the others go on" in out
    assert f"{away} is started again, and catches up" in out
    assert "All agree on each order" in out
    assert "mails were delivered, each once" in out
    assert f"sqlite:///{tmp_path}/billing.db" in out.replace("\n", "")


def test_a_folder_that_is_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "billing.db").touch()
    done = CliRunner().invoke(main, ["--folder", str(tmp_path)])
    assert done.exit_code == 1
    assert "is not empty" in done.output


def test_without_a_broker_all_run_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_broker(*_: object) -> None:
        raise RuntimeError("there is no nats-server")

    monkeypatch.setattr(Processes, "__init__", no_broker)
    settings = Settings(stores=dict.fromkeys(CONTEXTS, "memory:"), bus="", world=f"{tmp_path}/world.db")
    with console.capture() as shown:
        assert isinstance(running_of(settings, tmp_path, one_process=False), OneProcess)
    assert "there is no nats-server. So all run in one process" in shown.get()
