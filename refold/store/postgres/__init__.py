"""The log in PostgreSQL: for many processes and machines."""

from refold.store.postgres.address import read_address
from refold.store.postgres.log import PostgresStore
from refold.store.postgres.migration import migrate

__all__ = ["PostgresStore", "migrate", "read_address"]
