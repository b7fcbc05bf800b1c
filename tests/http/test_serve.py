"""`refold serve`: an app over HTTP in processes of their own, and no door that was left open."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from refold import WiringError
from refold.http.serve import Served
from refold.http.tokens import create

REFOLD = Path(sys.executable).parent / "refold"
HERE = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(tmp_path: Path, *options: str) -> Iterator[tuple[httpx.Client, "subprocess.Popen[str]"]]:
    port = free_port()
    command = [REFOLD, "serve", "tests.http.shop:shop", "--store", f"sqlite:///{tmp_path}/log.db"]
    process = subprocess.Popen(
        [*command, "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            end = time.monotonic() + 60
            while True:
                try:
                    assert client.get("/ready").status_code == 200
                    break
                except httpx.TransportError:
                    assert process.poll() is None, process.stdout and process.stdout.read()
                    assert time.monotonic() < end
                    time.sleep(0.05)
            yield client, process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_and_stops_when_it_is_told_to(tmp_path: Path, workers: str) -> None:
    with running(tmp_path, "--workers", workers) as (client, process):
        for number in range(20):
            body = {"sku": f"p-{number % 3}", "quantity": 1}
            assert client.post("/commands/ReceiveStock", json=body).status_code == 200
        head = client.get("/log/head").json()["position"]
        rows = client.get("/views/Stock", params={"at_least": head}).json()["rows"]
        assert sum(row["available"] for row in rows) == 20
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
        assert process.stdout is not None
        output = process.stdout.read()
    assert re.search(r"is served at http://127\.0\.0\.1:\d+; .*/openapi\.json says what there is", output)
    assert "Traceback" not in output


def test_a_server_with_keys_asks_for_one(tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "me", "reader")
    with running(tmp_path, "--keys", str(tmp_path / "keys.json")) as (client, _):
        assert client.get("/version").status_code == 401
        assert client.get("/version", headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "0.0.0.0"}, "whoever comes needs a key: `refold key create"),
        ({"host": "192.0.2.1"}, "can be reached from other machines"),
        ({"host": "shop.example"}, "can be reached from other machines"),
        ({"host": "0.0.0.0", "keys": "keys.json"}, "keys must not be sent in the clear"),
        ({"certificate": "c.pem"}, "both a certificate and its key"),
        ({"certificate": "c.pem", "private_key": "k.pem"}, "there is no file c.pem"),
    ],
)
def test_a_door_that_would_stand_open_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(WiringError, match=re.escape(said)):
        Served("shop:app", **given).check()


def test_what_is_safe_is_not(tmp_path: Path) -> None:
    for given in ({}, {"host": "::1"}, {"host": "localhost"}, {"host": "0.0.0.0", "keys": "k", "plain": True}):
        Served("shop:app", **given).check()  # type: ignore[arg-type]


def test_keys_are_made_listed_and_taken_away(tmp_path: Path) -> None:
    keys = ["--keys", str(tmp_path / "keys.json")]

    def refold(*arguments: str, code: int = 0) -> str:
        done = subprocess.run([REFOLD, "key", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + (done.stderr if code else "")

    token = refold("create", "till", "--role", "writer", "--command", "PlaceOrder", "--days", "7", *keys).strip()
    assert token.startswith("refold_")
    assert "there is a key 'till'" in refold("create", "till", "--role", "reader", *keys, code=2)
    shown = refold("list", *keys)
    assert "till" in shown
    assert "PlaceOrder" in shown
    assert token not in shown + (tmp_path / "keys.json").read_text()
    assert '"commands":["PlaceOrder"]' in refold("list", "--json", *keys)
    assert refold("revoke", "till", *keys) == "till has no key any more\n"
    assert "there is no key 'till'" in refold("revoke", "till", *keys, code=2)
