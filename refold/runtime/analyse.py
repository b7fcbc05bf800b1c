"""Analytics of an open app: a mirror of its log and views in Parquet files, kept up beside them, and asked in SQL."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from refold.errors import NotKept, RefoldError, StoreError, WaitTimeout
from refold.model.schema import Schema
from refold.runtime.upkeep import Upkeep
from refold.store.api import Store
from refold.view.find import Find, conditions_of
from refold.view.table import LARGEST, Key, Table

if TYPE_CHECKING:  # heavy, and an extra: imported when an app has analytics
    from refold.view.parquet import Answer

VIEWS_SECONDS = 30.0
"""How often views that have changed are mirrored."""
RETRY_SECONDS = 5.0
LOOK_SECONDS = 0.02
ROWS_AT_ONCE = 10_000

logger = logging.getLogger("refold.analytics")


class Analytics:
    """The mirror of an open app."""

    def __init__(self, folder: Path, schema: Schema, store: Store, upkeeps: Sequence[Upkeep]) -> None:
        from refold.view.parquet import Mirror

        self.mirror = Mirror(folder, schema)
        self._store = store
        self._upkeeps = upkeeps
        self._mirrored: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the log; while another process does, wait to take over."""
        self._task = asyncio.create_task(self._run(), name="refold analytics")

    async def stop(self) -> None:
        """Write what was read, and let others go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self.mirror.close()
        except StoreError as error:  # what was not written is read from the log the next time
            logger.warning("the mirror could not write what it had read last: %s", error)

    async def query(
        self, sql: str, values: Sequence[Any] | Mapping[str, Any], *, at_least: int, seconds: float, wait: float
    ) -> "Answer":
        """Ask, once the mirror has come to a position."""
        end = asyncio.get_running_loop().time() + wait
        while self.mirror.position < at_least:
            if asyncio.get_running_loop().time() > end:
                raise WaitTimeout(
                    f"the mirror is at position {self.mirror.position} after {wait:g} s, "
                    f"{at_least - self.mirror.position} short of {at_least}",
                    position=self.mirror.position,
                )
            await asyncio.sleep(LOOK_SECONDS)
        return await asyncio.to_thread(self.mirror.query, sql, values, seconds=seconds)

    async def _run(self) -> None:
        while True:
            try:
                await self.mirror.hold()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.mirror.run(self._store))
                    tasks.create_task(self._mirror_views())
            except* StoreError as errors:
                logger.warning("the mirror waits %s s: %s", RETRY_SECONDS, errors.exceptions[0])
            except* RefoldError:
                logger.exception("the mirror stopped; it is tried again in %s s", RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)

    async def _mirror_views(self) -> None:
        while True:
            for upkeep in self._upkeeps:
                try:
                    await self._mirror_view(upkeep)
                except NotKept:  # there is no version to be read yet
                    continue
            await asyncio.sleep(VIEWS_SECONDS)

    async def _mirror_view(self, upkeep: Upkeep) -> None:
        """Put the rows of a view in place of those that were mirrored, if it has moved.

        They are as they are at its position or, those that change while they are read, a little later.
        """
        shown = await upkeep.versions.shown()
        position = await upkeep.position()
        if self._mirrored.get(shown.projection) == position:
            return
        for table in upkeep.definition.tables(shown.version):
            await self.mirror.keep_rows(table.name, table.cls, _rows(upkeep, table), position=position)
        self._mirrored[shown.projection] = position


async def _rows(upkeep: Upkeep, table: Table) -> AsyncIterator[Sequence[Struct]]:
    """Go through the current rows of a table by key."""
    is_dated = table.key[-1:] == ("valid_to",)
    where = conditions_of(table, {"valid_to": LARGEST}) if is_dated else ()
    after: Key | None = None
    while True:
        page = await upkeep.versions.books.views.find(table, Find(where, limit=ROWS_AT_ONCE, after=after))
        if page:
            after = table.key_of(page[-1])
            yield [row.row for row in page] if is_dated else page
        if len(page) < ROWS_AT_ONCE or not table.key:
            return
