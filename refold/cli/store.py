"""`refold store`: the place where a log lies."""

import asyncio

import click

from refold.cli.log import STORE
from refold.store.open import open_store


@click.group()
def store() -> None:
    """Look after the place where a log lies."""


@store.command()
@STORE
def migrate(store: str) -> None:
    r"""Create a log, or bring one to the schema of this Refold.

    An app that runs does the same; commands that look into a log do not. This is for deployments in which the app's
    role may not: run it as the owner first.

    \b
      refold store migrate --store postgresql://owner@db.example/shop
    """

    async def work() -> int:
        log = await open_store(store)
        try:
            return await log.head()
        finally:
            await log.close()

    head = asyncio.run(work())
    click.echo(f"ready, with its head at position {head:,}")
