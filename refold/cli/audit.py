"""`refold audit`: what operators did, by which way ever."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from refold.cli.app import JSON, STORE, loaded
from refold.cli.operate import operate
from refold.runtime.audit import Act
from refold.runtime.operate import Operations


@click.group()
def audit() -> None:
    """See what operators did: retried, skipped, gave up, rebuilt, switched to, repeated; each is an event."""


@audit.command("list")
@click.argument("app")
@click.option("--about", default="", metavar="NAME", help="Of this projection, process, effect, inbox or state only.")
@click.option("--actor", default="", metavar="WHO", help="Of this operator only.")
@click.option("--before", type=click.IntRange(1), help="Only what was done before this position.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="No more than so many.")
@STORE
@JSON
def list_command(
    app: str, about: str, actor: str, before: int | None, limit: int, store: str | None, as_json: bool
) -> None:
    r"""Show what operators of APP did, the newest first: over HTTP, in the console, here, and from programs.

    \b
      refold audit list shop.main:app
      refold audit list shop.main:app --about OrderSummary --actor ann
    """

    async def work(operations: Operations) -> list[Act]:
        return await operations.audit(about=about, actor=actor, before=before, limit=limit)

    found = operate(loaded(app, store), work)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    from refold.cli.show import print_table

    print_table(_table(found))


def _table(found: Sequence[Act]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned

    table = Table(title_justify="left")
    for name in ("position", "when", "who", "what", "about", "reason", "outcome"):
        table.add_column(name, justify="right" if name == "position" else "left")
    for each in found:
        acted = each.acted
        words = (acted.actor or "-", acted.action, f"{acted.about} {acted.particulars}".strip(), acted.reason)
        outcome = Text(cleaned(each.error) or "done", style="red" if each.error else "green")
        when = f"{each.recorded_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(each.position), when, *(Text(cleaned(word)) for word in words), outcome)
    return table
