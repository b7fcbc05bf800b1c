"""Serving an app: `refold serve` in one process, or in several that share the port."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from msgspec import Struct
from starlette.types import ASGIApp

from refold.app import App
from refold.errors import WiringError
from refold.http.access import Access, is_loopback
from refold.http.api import Api
from refold.http.tokens import Keys
from refold.runtime.logs import Form

VARIABLE = "REFOLD_SERVED"
"""Where a process that starts others says what they are to serve."""
STOP_SECONDS = 5
CONNECTIONS = 5_000
"""How many may be open, streams among them, of each process; who comes then gets 503."""
IDLE_SECONDS = 10
"""How long a connection is kept on which nothing is asked any more."""


class Served(Struct, frozen=True):
    """What is served, and how."""

    app: str
    """As `module:attribute`."""
    store: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    keys: str | None = None
    """A file; see `refold key`."""
    certificate: str | None = None
    private_key: str | None = None
    plain: bool = False
    """Whether to serve without TLS beyond this machine: something in front of it sees to that."""
    workers: int = 1
    log_format: Form = "text"
    log_level: str = "warning"
    console: bool = True
    """Whether the console is served beside the API."""

    def check(self) -> None:
        """Refuse, with `WiringError`, what would let strangers in, or let others listen."""
        if not self.keys and not is_loopback(self.host):
            raise WiringError(
                f"{self.host} can be reached from other machines, so that whoever comes needs a key: "
                "`refold key create NAME --role writer --keys keys.json`, and serve with --keys keys.json"
            )
        if not is_loopback(self.host) and not self.certificate and not self.plain:
            raise WiringError(
                f"{self.host} can be reached from other machines, so that keys must not be sent in the clear: give "
                "--tls-certificate and --tls-key, or say --plain if a proxy in front does it"
            )
        if bool(self.certificate) != bool(self.private_key):
            raise WiringError("TLS takes both a certificate and its key: --tls-certificate and --tls-key")
        for path in (self.certificate, self.private_key):
            if path and not Path(path).is_file():
                raise WiringError(f"there is no file {path}")

    @property
    def url(self) -> str:
        """The address to go to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


def api_of(served: Served, load: Callable[[str, str | None], App]) -> Api:
    """Return what is served."""
    access = Access(Keys(served.keys)) if served.keys else Access()
    return Api(load(served.app, served.store), access)


def serve(served: Served, factory: str, application: ASGIApp | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM; `factory` names what makes the app anew in each of several processes."""
    served.check()
    os.environ[VARIABLE] = msgspec.json.encode(served).decode()
    given: Any = factory if application is None else application
    uvicorn.run(
        given,
        factory=application is None,
        host=served.host,
        port=served.port,
        workers=served.workers,
        ssl_certfile=served.certificate,
        ssl_keyfile=served.private_key,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
        proxy_headers=False,  # who asks is the one who connects, whatever a header says
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        log_config=None,  # its records go where all others do
        log_level="warning",
        lifespan="on",
    )


def from_environment() -> Served:
    """Return what this process is to serve, as the one that started it says."""
    return msgspec.json.decode(os.environ[VARIABLE], type=Served)
