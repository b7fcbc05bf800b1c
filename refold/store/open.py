"""From an address to a store; a backend's driver is imported only when it is asked for."""

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from refold.errors import WiringError, hidden, parts_of
from refold.store.api import Clock, Store, utc_now

EXAMPLES = (
    "sqlite:///shop.db (a file beside you), sqlite:////var/lib/shop.db (an absolute path), "
    "postgresql://user@host/database, memory:"
)
POSTGRES = ("postgresql", "postgres")


async def open_store(url: str, *, clock: Clock = utc_now, create: bool = True) -> Store:
    """Open the log at an address: `sqlite:///shop.db`, with `?durability=relaxed` if power loss matters little.

    `postgresql://user@host/database` is one in a schema of that database, `?schema=refold` unless another is named.
    `memory:` is a log that ends with the process. Raises `WiringError` for an address of no backend. Where it should
    not `create` a log, it raises `NotAStore` if there is none yet, and `StoreTooOld` for one that it would upgrade.
    """
    check_url(url)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        from refold.store.memory import MemoryStore

        return MemoryStore(clock=clock)
    if parts.scheme in POSTGRES:
        from refold.store.postgres import PostgresStore

        # Machines do not agree on the time, so it is the server's unless another clock is asked for.
        return await PostgresStore.open(url, clock=None if clock is utc_now else clock, create=create)
    from refold.store.sqlite import SqliteStore

    durability = parse_qs(parts.query).get("durability", ["durable"])[0]
    path = Path(unquote(parts.path[1:]))
    return await SqliteStore.open(path, durability=durability, clock=clock, create=create)


def check_url(url: str) -> None:
    """Refuse an address that `open_store` could not open, without opening it."""
    parts = parts_of(url)
    if parts.scheme == "memory":
        return
    if parts.scheme in POSTGRES:
        _check_postgres(url)
        return
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2:
        raise WiringError(f"{hidden(url)!r} is not the address of a store. Write {EXAMPLES}")
    options = parse_qs(parts.query)
    unknown = sorted(options.keys() - {"durability"})
    if unknown:
        raise WiringError(f"{hidden(url)!r}: there is no option {unknown[0]!r}; there is durability=durable|relaxed")
    if options.get("durability", ["durable"])[0] not in ("durable", "relaxed"):
        raise WiringError(f"{hidden(url)!r}: durability is durable or relaxed")


def _check_postgres(url: str) -> None:
    try:
        from refold.store.postgres import read_address
    except ModuleNotFoundError as error:
        raise WiringError(f"a log in PostgreSQL needs a driver ({error}): pip install refold[postgres]") from None
    read_address(url)
