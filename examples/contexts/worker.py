"""One of the three contexts, in a process of its own: `python -m examples.contexts.worker CONTEXT SETTINGS`."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from examples.billing.main import make_app as make_billing
from examples.contexts.world import World
from examples.notifications.main import make_app as make_notifications
from examples.shop.main import make_live as make_shop
from refold import App, StoreError
from refold.bus.api import Bus

Context: TypeAlias = Literal["shop", "billing", "notifications"]
CONTEXTS: tuple[Context, ...] = ("shop", "billing", "notifications")

AGAIN_SECONDS = 0.2


class Settings(Struct, frozen=True):
    """What each of the processes needs to know."""

    stores: dict[Context, str]
    bus: str
    world: str
    """The file in which the world outside remembers what it did."""
    pay_within: float = 2.0
    """Seconds, as all times here."""
    try_again: tuple[float, float] = (0.3, 0.6)
    patience: float = 0.5
    trouble: float = 0.1
    """How often the world outside fails."""


def make(context: Context, settings: Settings, bus: str | Bus, world: World) -> App:
    """Return one of the contexts."""
    patience = timedelta(seconds=settings.patience)
    store = settings.stores[context]
    match context:
        case "shop":
            within = timedelta(seconds=settings.pay_within)
            again = [timedelta(seconds=seconds) for seconds in settings.try_again]
            return make_shop(store, world, bus, pay_within=within, try_again=again, patience=patience)
        case "billing":
            return make_billing(store, bus)
        case "notifications":
            return make_notifications(store, bus, world, patience=patience)


async def run(context: Context, settings: Settings) -> None:
    """Run it until it is killed; begin again while its database is away."""
    world = World(settings.world, trouble=settings.trouble, patience=settings.patience)
    while True:
        try:
            async with make(context, settings, settings.bus, world):
                print("open", flush=True)
                await asyncio.Event().wait()
        except StoreError:
            await asyncio.sleep(AGAIN_SECONDS)


if __name__ == "__main__":
    _, name, path = sys.argv
    asyncio.run(run(msgspec.convert(name, Context), msgspec.json.decode(Path(path).read_bytes(), type=Settings)))
