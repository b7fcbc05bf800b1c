"""`refold run`: an app kept up until it is told to stop."""

import asyncio
import contextlib
import signal
import sys

import click

from refold.app import App
from refold.cli.app import STORE, loaded
from refold.cli.logs import LOG_FORMAT, LOG_LEVEL
from refold.errors import StoreError
from refold.runtime.logs import Form, listen
from refold.runtime.operate import Operations
from refold.runtime.standing import Standing

LOOK_SECONDS = 1.0


@click.command()
@click.argument("app")
@click.option("--until-idle", is_flag=True, help="Stop when nothing is behind and nothing is being built.")
@LOG_FORMAT
@LOG_LEVEL
@STORE
def run(app: str, until_idle: bool, log_format: Form, log_level: str, store: str | None) -> None:
    r"""Keep the projections and processes of APP going, until Ctrl-C or SIGTERM.

    Several of these share the work: each projection and process has one owner at a time, and others take over within
    seconds when it dies, at once when it stops.

    \b
      refold run shop.main:app
      refold run shop.main:app --log-format json --log-level info
    """
    listen(log_format, log_level)
    asyncio.run(_run(loaded(app, store), until_idle=until_idle))


async def _run(app: App, *, until_idle: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows has none; there Ctrl-C raises
            loop.add_signal_handler(number, stop.set)
    async with app:
        show = _live(app.operations, stop) if sys.stdout.isatty() else _lines(app.operations, stop)
        showing = asyncio.create_task(show)
        if until_idle:
            while not stop.is_set() and await _is_busy(app.operations):
                await _pause(stop, 0.1)
            stop.set()
        await stop.wait()
        await showing


async def _is_busy(operations: Operations) -> bool:
    found = await operations.standing()
    return any(each.status == "building" or (each.status == "active" and each.events_behind) for each in found)


class _Looking:
    """Looks time and again at how all stands; what is in the way of a look is said once, and may pass."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._trouble = ""

    async def look(self) -> list[Standing] | None:
        """Return how all stands, or None if that cannot be told now."""
        try:
            found = await self._operations.standing()
        except StoreError as error:
            if (trouble := f"[{error.code}] {error}") != self._trouble:
                from refold.cli.show import cleaned

                self._trouble = trouble
                click.echo(f"how all stands cannot be told for now: {cleaned(trouble)}", err=True)
            return None
        self._trouble = ""
        return found


async def _lines(operations: Operations, stop: asyncio.Event) -> None:
    """Say what changes: who has caught up, what is parked."""
    said: dict[tuple[str, str], str] = {}
    looking = _Looking(operations)
    while True:
        for each in await looking.look() or ():
            state = f"{each.status}, {'behind' if each.events_behind else 'caught up'}, {each.parked} parked"
            state += f", {each.trouble}" if each.trouble else ""
            if said.get((each.name, each.version)) != state:
                said[each.name, each.version] = state
                click.echo(f"{each.name} {each.version or each.kind} at {each.position:,}: {state}")
        if stop.is_set():
            return
        await _pause(stop, LOOK_SECONDS)


async def _live(operations: Operations, stop: asyncio.Event) -> None:
    """Show how everything stands, again every second."""
    from rich.live import Live

    from refold.cli.projection import standings

    looking = _Looking(operations)
    with Live(standings(await looking.look() or []), auto_refresh=False) as live:
        while not stop.is_set():
            await _pause(stop, LOOK_SECONDS)
            if (found := await looking.look()) is not None:
                live.update(standings(found), refresh=True)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
