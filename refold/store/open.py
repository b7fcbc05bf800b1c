"""From an address to a store; a backend's driver is imported only when it is asked for."""

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from refold.errors import NotAStore, WiringError
from refold.store.api import Clock, Store, utc_now

EXAMPLES = "sqlite:///shop.db (a file beside you), sqlite:////var/lib/shop.db (an absolute path), memory:"


async def open_store(url: str, *, clock: Clock = utc_now, create: bool = True) -> Store:
    """Open the log at an address: `sqlite:///shop.db`, with `?durability=relaxed` if power loss matters little.

    `memory:` is a log that ends with the process. Raises `WiringError` for an address of no backend, and `NotAStore`
    for a log that does not exist yet where it should not be created.
    """
    check_url(url)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        from refold.store.memory import MemoryStore

        return MemoryStore(clock=clock)
    from refold.store.sqlite import SqliteStore

    durability = parse_qs(parts.query).get("durability", ["durable"])[0]
    path = _file(parts.path, create=create)
    return await SqliteStore.open(path, durability=durability, clock=clock)


def _file(path: str, *, create: bool) -> Path:
    file = Path(unquote(path[1:]))
    if not create and not file.exists():
        raise NotAStore(f"there is no log at {file.absolute()}")
    return file


def check_url(url: str) -> None:
    """Refuse an address that `open_store` could not open, without opening it."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2:
        raise WiringError(f"{url!r} is not the address of a store. Write {EXAMPLES}")
    options = parse_qs(parts.query)
    unknown = sorted(options.keys() - {"durability"})
    if unknown:
        raise WiringError(f"{url!r}: there is no option {unknown[0]!r}; there is durability=durable|relaxed")
    if options.get("durability", ["durable"])[0] not in ("durable", "relaxed"):
        raise WiringError(f"{url!r}: durability is durable or relaxed")
