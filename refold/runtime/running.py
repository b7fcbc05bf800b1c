"""An open app: what it works with, and waiting for what it or another process keeps up."""

import asyncio
from typing import cast

from refold.errors import WaitTimeout
from refold.runtime.execute import Executor
from refold.runtime.load import Loader
from refold.runtime.subscription import Subscription
from refold.store.api import Store
from refold.view.api import Views

POLL_SECONDS = 0.02
"""How often the checkpoint of a subscription is looked at that another process keeps up."""


class Running:
    """What an open app works with."""

    def __init__(self, store: Store, views: Views | None, loader: Loader, executor: Executor) -> None:
        self.store = store
        self.views = views
        self.loader = loader
        self.executor = executor
        self.subscriptions: dict[str, Subscription] = {}

    async def reached(self, name: str, position: int, seconds: float | None) -> None:
        """Wait until a subscription, which may run in another process, has come to a position."""
        if name in self.subscriptions:
            await self.subscriptions[name].reached(position, seconds)
            return
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while (checkpoint := await cast(Views, self.views).checkpoint(name)) < position:
            if end is not None and loop.time() >= end:
                raise WaitTimeout(
                    f"{name}, which this app leaves to others, is saved at position {checkpoint} after {seconds:g} s, "
                    f"{position - checkpoint} short of {position}",
                    subscription=name,
                    position=checkpoint,
                )
            await asyncio.sleep(POLL_SECONDS)
