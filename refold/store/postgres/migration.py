"""Bringing a database to the schema of this Refold: by its owner, once, whoever comes first."""

from pathlib import Path

import asyncpg

from refold.errors import NotAStore, StoreError, StoreReadOnly, StoreTooNew, StoreTooOld
from refold.store.postgres.address import Address, quoted, read_address
from refold.store.postgres.connections import Connection, closed, connect
from refold.store.postgres.failure import DRIVER, is_passing, translated

_HERE = Path(__file__).parent
MIGRATIONS: tuple[str, ...] = ((_HERE / "schema.sql").read_text() + (_HERE / "append.sql").read_text(),)
"""Script n brings a schema from version n to n + 1; a new one is at version 0."""

VERSION = "SELECT version FROM {}.refold"
# From the catalog's tables: to_regclass and the like may answer from what the session remembers from before the lock.
TABLES = """
SELECT relname FROM pg_class INNER JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = $1 AND relkind = 'r'"""
SCHEMA_EXISTS = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
MAY_CREATE = "SELECT has_schema_privilege($1, 'CREATE') AND has_schema_privilege($1, 'USAGE')"
# One log at a time in a database: several processes may come up at once.
LOCK = "SELECT pg_advisory_xact_lock(1382377072, 0)"


async def migrate(url: str) -> int:
    """Create the log at an address, or bring it to this Refold's schema; return its version.

    Needs a role that owns the schema, or may create it. Raises `StoreError`: `NotAStore`, `StoreTooNew`,
    `StoreReadOnly` for a role that may not.
    """
    address = read_address(url)
    try:
        connection = await connect(address)
    except DRIVER as error:
        raise translated(error, address) from error
    try:
        return await prepare(connection, address)
    except DRIVER as error:
        raise translated(error, address) from error
    finally:
        await closed(connection)


async def prepare(connection: Connection, address: Address, *, create: bool = True) -> int:
    """Migrate if need be; a log that is up to date is not written to, and needs no rights beyond using it.

    Where it should not `create` a log, it raises `NotAStore` if there is none, and `StoreTooOld` for one to migrate.
    """
    try:
        version = await _version(connection, address)
        if version == 0 and not create:
            raise NotAStore(f"there is no log in {address}", absent=True)
        if version < len(MIGRATIONS) and not create:
            raise StoreTooOld(
                f"{address} has schema version {version}; this Refold's is {len(MIGRATIONS)}. `refold store migrate` "
                "upgrades it, as every app does that runs"
            )
        if version < len(MIGRATIONS):
            async with connection.transaction(isolation="read_committed"):
                await connection.execute(LOCK)
                await _migrate(connection, address)
    except asyncpg.InsufficientPrivilegeError as error:
        raise _denied(address, str(error)) from error
    except asyncpg.PostgresError as error:
        if is_passing(error):
            raise
        raise translated(error, address) from error
    return len(MIGRATIONS)


async def _version(connection: Connection, address: Address) -> int:
    tables: set[str] = {name for (name,) in await connection.fetch(TABLES, address.schema)}
    if "refold" not in tables:
        if tables:
            raise NotAStore(f"{address} holds tables of another program; choose another schema for the log")
        return 0
    version: int = await connection.fetchval(VERSION.format(quoted(address.schema)))
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"{address} has schema version {version}; this Refold knows {len(MIGRATIONS)}. Upgrade Refold to open it"
        )
    return version


async def _migrate(connection: Connection, address: Address) -> None:
    version = await _version(connection, address)
    if version == len(MIGRATIONS):  # another process has done it meanwhile
        return
    encoding: str = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise StoreError(f"{address}: the database's encoding is {encoding}, which cannot hold every text; use UTF8")
    for schema in (address.schema, address.view_schema):
        if not await connection.fetchval(SCHEMA_EXISTS, schema):
            await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
    if not await connection.fetchval(MAY_CREATE, address.schema):  # else tables would go to the next schema
        raise _denied(address, "it has no right to create tables there")
    if version == 0:
        await connection.execute("CREATE TABLE refold (version integer NOT NULL)")
        await connection.execute("INSERT INTO refold VALUES (0)")
    for script in MIGRATIONS[version:]:
        await connection.execute(script)
    await connection.execute(f"UPDATE refold SET version = {len(MIGRATIONS)}")  # noqa: S608 - a number


def _denied(address: Address, reason: str) -> StoreReadOnly:
    return StoreReadOnly(
        f"{address}: this role may not create or upgrade the log ({reason}). Run `refold store migrate` once with the "
        "role that owns it"
    )
