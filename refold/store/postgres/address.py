"""The address of a log in PostgreSQL: where the server is, and which schema of which database.

This file needs no driver: an address is checked before anything is opened.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from refold.errors import WiringError, hidden, parts_of

SCHEMES = ("postgresql", "postgres")
EXAMPLE = "postgresql://user@host/database?schema=refold"
MAX_SCHEMA_BYTES = 63 - len("_view")
"""PostgreSQL cuts longer names off."""


class Address(Struct, frozen=True):
    """Where a log is."""

    dsn: str
    """For the driver."""
    schema: str
    durable: bool

    @property
    def view_schema(self) -> str:
        """The schema in which the views are kept."""
        return f"{self.schema}_view"

    def __str__(self) -> str:
        """Name it without its password."""
        parts = urlsplit(self.dsn)
        host = parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host", "localhost")
        return f"PostgreSQL schema {self.schema!r} of {parts.path.lstrip('/') or 'the default database'!r} on {host}"


def read_address(url: str) -> Address:
    """Read `postgresql://user@host/database?schema=…&durability=durable|relaxed`; other options go to the driver.

    Raises `WiringError` for an address that makes no sense.
    """
    parts = parts_of(url)
    if parts.scheme not in SCHEMES:
        raise WiringError(f"{hidden(url)!r} is not the address of a log in PostgreSQL. Write {EXAMPLE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = options.pop("schema", "refold")
    durability = options.pop("durability", "durable")
    if durability not in ("durable", "relaxed"):
        raise WiringError(f"{hidden(url)!r}: durability is durable or relaxed")
    if not schema or "\0" in schema or len(schema.encode()) > MAX_SCHEMA_BYTES or schema.startswith("pg_"):
        raise WiringError(f"{hidden(url)!r}: a schema has 1 to {MAX_SCHEMA_BYTES} bytes, and no pg_ at its beginning")
    options.setdefault("target_session_attrs", "read-write")  # of several hosts the one that is the primary now
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(options), ""))
    return Address(dsn, schema, durability == "durable")


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
