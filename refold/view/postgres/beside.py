"""A write that is one with an append to the log: the same statement, in the transaction of the append."""

from collections.abc import Callable, Sequence

import asyncpg

from refold.store.postgres.connections import Connection
from refold.view.api import Expect, Put, Write
from refold.view.postgres.failure import VALUES, value_error
from refold.view.postgres.layout import Layout
from refold.view.postgres.step import step_of
from refold.view.table import Table, not_kept


class AppendStep:
    """What an append does to rows."""

    def __init__(
        self, writes: Sequence[Write], expects: Sequence[Expect], layout_of: Callable[[Table], Layout]
    ) -> None:
        self._tables = [each.table for each in (*writes, *expects)]
        self._step = step_of(writes, expects, layout_of)
        put = {
            (each.table.stored, each.table.key_of(row)) for each in writes if isinstance(each, Put) for row in each.rows
        }
        # No lock keeps a row from being there, unless this puts it: another append may, until this has the log's.
        missing = [each for each in expects if each.absent and (each.table.stored, each.key) not in put]
        self._again = step_of([], missing, layout_of) if missing else None

    async def write(self, connection: Connection) -> bool:
        """Do the writes, if what they expect holds."""
        try:
            return bool(await connection.fetchval(self._step.sql, *self._step.bound))
        except asyncpg.UniqueViolationError:  # another was faster to write what must not be there
            return False
        except asyncpg.UndefinedTableError as error:
            raise not_kept(next(each for each in self._tables if each.stored in str(error))) from None
        except VALUES as error:
            if (said := value_error(error)) is None:
                raise
            raise said from error

    async def holds(self, connection: Connection) -> bool:
        """Look again at rows that must not be there, and are not put."""
        return self._again is None or bool(await connection.fetchval(self._again.sql, *self._again.bound))
