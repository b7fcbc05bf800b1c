"""What all commands of operators share: opening an app for them, who they are, asking first, telling what was done."""

import asyncio
import getpass
import platform
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec

from refold.app import App
from refold.errors import InvalidQuery
from refold.runtime.operate import Operations
from refold.store.open import open_store

T = TypeVar("T")
YES = click.option("--yes", is_flag=True, help="Do not ask.")
RUN = click.option("--run", "active", is_flag=True, help="Run the app for this, if nothing else runs it.")


def operate(app: App, work: Callable[[Operations], Awaitable[T]], *, active: bool = False) -> T:
    """Open an app on a log that is there, keeping nothing up unless `active`, and do something as its operator."""

    async def run() -> T:
        if active and app.address:  # a mistyped address makes no log
            await (await open_store(app.address, create=False)).close()
        async with app if active else app.passive(create=False) as running:
            return await work(running.operations)

    return asyncio.run(run())


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; where nobody can answer, it has to be said beforehand."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidQuery(f"{question} Say so with --yes")
    click.confirm(question, abort=True)


def actor() -> str:
    """Return who sits at this terminal."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{platform.node()}"


def tell(done: Any, said: str, *, as_json: bool) -> None:
    """Say what was done: in words, or as one JSON object."""
    click.echo(msgspec.json.encode(done).decode() if as_json else said)
