"""`refold new`: what it makes runs, is tested, typed and formatted; what it should not touch it does not."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from refold.cli import new
from refold.cli.new import TEMPLATE
from tests.cli.conftest import Refold

BIN = Path(sys.executable).parent


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, as a person would who has just made it: nothing else is on the path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REFOLD", "PYTEST"))}
    return subprocess.run(
        [BIN / command[0], *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    done = run(folder, "refold", "new", "tea_shop")
    assert (done.returncode, done.stderr) == (0, "")
    assert "refold serve tea_shop.main:app" in done.stdout
    return folder / "tea_shop"


def test_its_tests_pass(project: Path) -> None:
    done = run(project, "python", "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_its_tests_notice_what_is_broken(project: Path) -> None:
    path = project / "tea_shop" / "orders.py"
    text = path.read_text()
    path.write_text(text.replace("<= stock.available", "<= stock.available + 9"))
    try:
        done = run(project, "python", "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider")
    finally:
        path.write_text(text)
    assert done.returncode == 1
    assert "2 failed" in done.stdout


def test_it_is_typed_and_formatted(project: Path) -> None:
    for command in (["ruff", "format", "--check", "."], ["ruff", "check", "--select", "E,F,I,UP,B,SIM", "."], ["mypy"]):
        done = run(project, *command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_it_is_small() -> None:
    lines = {
        path.name: sum(bool(line.strip()) for line in path.read_text().splitlines())
        for path in (TEMPLATE / "package").iterdir()
    }
    assert lines["orders.py.txt"] <= 40
    assert sum(lines.values()) <= 150


@pytest.fixture
def address(project: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [BIN / "refold", "serve", "tea_shop.main:app", "--port", str(port)]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True, umask=0o077) as serving:
        try:
            assert serving.stdout
            assert f"http://127.0.0.1:{port}" in serving.stdout.readline()
            while serving.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            serving.terminate()


def test_it_is_served_and_keeps_what_happens(project: Path, address: str) -> None:
    def post(name: str, **fields: object) -> object:
        request = urllib.request.Request(f"{address}/commands/{name}", json.dumps(fields).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    assert post("ReceiveStock", sku="tea", quantity=3) == {"position": 1}
    post("PlaceOrder", order_id="o-1", sku="tea", quantity=2)
    paid = post("PayOrder", order_id="o-1", amount="9.00")
    assert isinstance(paid, dict)
    with urllib.request.urlopen(f"{address}/views/OrderSummary/rows/o-1?at_least={paid['position']}") as row:
        assert json.load(row)["paid"] == "9.00"
    log = run(project, "refold", "log", "read", "--store", "sqlite:///tea_shop.db", "--json")
    types = [json.loads(line)["type"] for line in log.stdout.splitlines()]
    assert types[:4] == ["StockReceived", "OrderPlaced", "StockReserved", "OrderPaid"]
    assert run(project, "refold", "state", "tea_shop.main:app", "Stock", "tea", "--json").stdout == (
        '{"sku":"tea","available":1}\n'
    )
    modes = {stat.S_IMODE(path.stat().st_mode) for path in project.glob("tea_shop.db*")}
    assert modes == {0o600}  # by the umask of who serves it


@pytest.mark.parametrize("name", ["../up", "/tmp/x", "a/b", "", ".", "Shop", "1st", "a-b", "x" * 41, "класс", "a\x1b"])
def test_what_is_no_name_is_refused(refold: Refold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    refused = refold("new", "--", name)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "as in my_shop" in refused.stderr
    assert "\x1b" not in refused.stderr
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("shop.db")]


@pytest.mark.parametrize(
    ("name", "why"),
    [("class", "word of Python"), ("match", "word"), ("json", "hide"), ("click", "hide"), ("tests", "hide")],
)
def test_what_would_be_in_the_way_is_refused(
    refold: Refold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = refold("new", name)
    assert refused.exit_code == 2
    assert why in refused.stderr
    assert not (tmp_path / name).exists()


def test_a_folder_that_is_there_is_not_touched(refold: Refold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    for name in ("there", "link", "file"):
        refused = refold("new", name)
        assert refused.exit_code == 2
        assert "is left as it is" in refused.stderr
    assert list((tmp_path / "there").iterdir()) == []
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "a.py.txt").write_text("fine")
    (tmp_path / "template" / "b.py.txt").write_text("$unknown")
    monkeypatch.setattr(new, "TEMPLATE", tmp_path / "template")
    with pytest.raises(KeyError):
        new.make("shop", tmp_path / "shop")
    assert not (tmp_path / "shop").exists()
