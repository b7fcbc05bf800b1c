"""Rebuilds that run in the background of an open app, one at a time for each projection."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from refold.runtime.books import Version
from refold.runtime.parking import said
from refold.runtime.rebuild import Progress

Work: TypeAlias = Callable[[Callable[[Progress], None]], Coroutine[Any, Any, Version]]

logger = logging.getLogger("refold.projection")


class Rebuilds:
    """What is being rebuilt by this process, and what came of it."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Version]] = {}
        self._progress: dict[str, Progress] = {}
        self._failed: dict[tuple[str, str], str] = {}
        """Why the rebuild of a version ended before its time."""

    async def begin(self, projection: str, work: Work) -> bool:
        """Begin, and return when it is under way; False if it was. Raises what keeps it from beginning."""
        if projection in self._tasks:
            return False
        begun = asyncio.Event()

        def tell(progress: Progress) -> None:
            self._progress[projection] = progress
            begun.set()

        task = asyncio.create_task(work(tell), name=f"refold rebuild of {projection}")
        self._tasks[projection] = task
        task.add_done_callback(lambda done: self._ended(projection, done))
        waiting = asyncio.create_task(begun.wait())
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if task.done():
            await task
        return True

    def stage(self, version: Version) -> str:
        """Return what is done about a version just now; nothing if this process does nothing about it."""
        found = self._progress.get(version.projection)
        return found.stage if found is not None and _means(found, version) else ""

    def trouble(self, version: Version) -> str:
        """Return what holds a rebuild up, or has ended it."""
        found = self._progress.get(version.projection)
        if found is not None and _means(found, version) and found.stalled:
            return found.stalled
        return self._failed.get((version.projection, version.version), "")

    async def stop(self) -> None:
        """Interrupt what is under way: the next rebuild goes on from there."""
        tasks = list(self._tasks.values())
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, projection: str, task: asyncio.Task[Version]) -> None:
        del self._tasks[projection]
        progress = self._progress.pop(projection, None)
        version = progress.version if progress else None
        error = None if task.cancelled() else task.exception()
        if version is None:
            return
        if error is None:
            self._failed.pop((projection, version.version), None)
        else:
            logger.error("the rebuild of %s has ended: %s", projection, said(error))
            self._failed[projection, version.version] = f"the rebuild has ended: {said(error)}"


def _means(progress: Progress, version: Version) -> bool:
    return progress.version is not None and progress.version.version == version.version
