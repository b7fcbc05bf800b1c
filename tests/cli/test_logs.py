"""What a server tells about itself, at its most talkative, has none of the secrets that it was given."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from refold.http.tokens import create
from tests.http.test_serve import HERE, REFOLD, free_port

CANARY = "canary-7a3e"


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_is_in_any_output(tmp_path: Path, form: str) -> None:
    keys, port = tmp_path / "keys.json", free_port()
    token = create(keys, "me", "admin")
    command = [REFOLD, "serve", "tests.http.shop:shop", "--store", f"sqlite:///{tmp_path}/log.db", "--keys", str(keys)]
    told = [*command, "--port", str(port), "--log-format", form, "--log-level", "debug"]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(told, stdout=out, stderr=out, cwd=HERE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        answers = []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            end = time.monotonic() + 60
            while True:
                try:
                    assert client.get("/ready").status_code == 200
                    break
                except httpx.TransportError:
                    assert time.monotonic() < end
                    time.sleep(0.05)
            mine = {"Authorization": f"Bearer {token}", "X-Secret": CANARY, "Cookie": f"a={CANARY}"}
            tea = {"sku": "tea", "quantity": 1, "name": CANARY}
            answers.append(client.post("/commands/ReceiveStock", json=tea, headers=mine))
            assert answers[0].status_code == 200
            answers.append(client.post("/commands/Break", json={}, headers=mine))
            assert answers[1].status_code == 500
            answers.append(client.get("/log/head", headers={"Authorization": f"Bearer {CANARY}-wrong"}))
            answers.append(client.get("/metrics", headers=mine))
            assert 'command="ReceiveStock"' in answers[-1].text
            answers.append(client.get("/console/", headers=mine))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    written = (tmp_path / "out").read_text()
    assert "refold.http" in written
    assert "a request failed" in written
    everything = written + "".join(f"{each.text}{each.headers}" for each in answers)
    assert CANARY not in everything
    assert token not in everything
    if form == "json":
        lines = [msgspec.json.decode(line) for line in written.splitlines() if line.startswith("{")]
        asked = [each for each in lines if each.get("route") == "/commands/{name}"]
        assert [each["status"] for each in asked] == [200, 500]
        assert any(each.get("code") for each in lines)


IMPATIENT = """
from datetime import timedelta
from refold.cli import main
from refold.store.postgres import PostgresStore
PostgresStore.open.__func__.__kwdefaults__["patience"] = timedelta(seconds=1)
main()
"""
"""The command line, which does not wait half a minute for a server that is not there."""
ADDRESSES = (
    f"postgresql://me:{CANARY}@127.0.0.1:1/shop",
    f"postgresql://me:{CANARY}@127.0.0.1:99999/shop",
    f"nonsense://me:{CANARY}@127.0.0.1/shop",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_password_of_an_address_is_in_an_error(address: str) -> None:
    told = ["run", "tests.http.shop:shop", "--store", address, "--log-level", "debug", "--until-idle"]
    command = [sys.executable, "-c", IMPATIENT, *told]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE, timeout=100)
    assert done.returncode != 0
    assert "error [" in done.stderr
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_brokers_are_not_named_with_their_passwords() -> None:
    program = f"""
import asyncio, logging
logging.basicConfig(level="DEBUG")
from refold.bus.open import open_bus
async def main():
    for address in ("nats://me:{CANARY}@127.0.0.1:1", "valkey://me:{CANARY}@127.0.0.1:1", "amqp://me:{CANARY}@127.0.0.1:1"):
        try:
            async with asyncio.timeout(60):
                bus = await open_bus(address)
                await bus.publish("t", [])
        except Exception as error:
            print(type(error).__name__, error)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=HERE)
    assert done.stdout.count("\n") >= 1, done.stderr
    assert CANARY not in done.stdout + done.stderr
