"""Ending tasks: a cancellation may be lost on its way, so it is sent again until the task has ended."""

import asyncio
from typing import Any


async def ended(task: "asyncio.Future[Any]", again_seconds: float) -> None:
    """Cancel a task, and wait until it has ended, however that is.

    Clients of brokers and databases wait by `asyncio.wait_for`, which until Python 3.12 swallows a cancellation that
    comes at the same moment as what it waits for. A loop around it would go on for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again_seconds)
    if not task.cancelled():
        task.exception()  # it has been seen
