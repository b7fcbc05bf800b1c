"""`refold execute`: a command, decided from the terminal."""

import asyncio
import sys
from datetime import datetime

import click
import msgspec

from refold.cli.app import COMMAND_NAMES, STORE, chosen, loaded
from refold.cli.moment import MOMENT_OF_FACT
from refold.cli.operate import actor as me
from refold.contract.fields import rows_of
from refold.contract.shape import json_schema
from refold.errors import InvalidBody
from refold.model.body import command_of
from refold.model.message import Command
from refold.model.record import StoredEvent
from refold.runtime.ids import new_id
from refold.runtime.outcome import outcome


@click.command()
@click.argument("app")
@click.argument("command", shell_complete=COMMAND_NAMES)
@click.argument("body", default="{}", metavar="JSON")
@click.option("--id", "command_id", metavar="TEXT", help="One that comes again with the same id changes nothing.")
@click.option("--actor", default=me, help="Who asks; by default who sits at this terminal.")
@click.option("--occurred-at", type=MOMENT_OF_FACT, metavar="TIME", help="When it happened in the world, if not now.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@STORE
def execute(
    app: str,
    command: str,
    body: str,
    command_id: str | None,
    actor: str,
    occurred_at: datetime | None,
    store: str | None,
    *,
    as_json: bool,
) -> None:
    r"""Decide COMMAND of APP, whose fields are given as JSON, and show the events that it gave; `-` reads stdin.

    Projections and processes are left to those who run the app. Exits with 1 if it is refused, and with 2, telling
    each field, if it is written wrongly.

    \b
      refold execute shop.main:app PlaceOrder '{"order_id": "o-1", "sku": "tea", "quantity": 2}'
      refold execute shop.main:app PlaceOrder - --id import-7 --actor importer < order.json
    """
    if command_id == "":
        raise click.BadParameter("it is empty: name an id, or leave it out", param_hint="--id")
    found = loaded(app, store)
    kind = chosen(command, {each.__name__: each for each in found.commands}, "command", app)
    asked = _read(sys.stdin.buffer.read() if body == "-" else body.encode(errors="surrogateescape"), kind)
    own = new_id() if command_id is None else command_id

    async def work() -> tuple[int, list[StoredEvent]]:
        async with found.passive() as running:
            position = await running.execute(asked, id=own, actor=actor, occurred_at=occurred_at)
            return position, await outcome(running.log, own)

    position, events = asyncio.run(work())
    from refold.cli.show import Events, as_object

    if as_json:
        told = {"position": position, "id": own, "events": [as_object(event) for event in events]}
        click.echo(msgspec.json.encode(told).decode())
        return
    with Events(as_json=False) as shown:
        shown.show(events)
    said = f"gave {len(events)} event{'' if len(events) == 1 else 's'}" if events else "found nothing to do"
    click.echo(f"{command} {said}; that can be seen from position {position:,} on", err=True)


def _read(body: bytes, kind: type[Command]) -> Command:
    try:
        return command_of(body, kind)
    except InvalidBody as error:
        takes = ", ".join(f"{row.path} {row.type}" for row in rows_of(json_schema(kind))) or "no fields"
        raise InvalidBody(f"{error}. {kind.__name__} takes {takes}", **error.data) from None
