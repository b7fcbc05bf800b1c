"""`refold log causes`: what led to an event, and all that came of it."""

import asyncio
import sys
from datetime import UTC, datetime

import click
import msgspec

from refold.cli.log import STORE, opened
from refold.errors import InvalidQuery, MissingCapability
from refold.model.query import Query
from refold.runtime.books import Books
from refold.runtime.causes import MOST, Cause, Causes, causes
from refold.runtime.index import Index
from refold.store.api import Store
from refold.view.open import open_views

STYLES = {"command": "cyan", "failed": "bold red", "waiting": "yellow", "skipped": "magenta", "elsewhere": "dim"}
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")


@click.command("causes")
@click.argument("position", type=click.IntRange(1))
@STORE
@JSON
def causes_command(position: int, store: str, as_json: bool) -> None:
    r"""Show what led to an event, and all that came of it: commands, events, what processes gave because of them.

    What has failed, was skipped, or waits for its time is shown at the event that it is about. Whatever app wrote the
    log, its code is not needed. Piped, each line has the position and, indented, what stands there.

    \b
      refold log causes 4711 --store sqlite:///shop.db
      refold log causes 4711 --json | jq -r '.nodes[] | select(.kind == "failed") | .trouble'
    """

    async def work() -> Causes | None:
        async with opened(store) as log:
            return await causes(log, Index.beside(log), _books(log), position, Query(), datetime.now(UTC))

    found = asyncio.run(work())
    if found is None:
        raise InvalidQuery(f"the log has no event at position {position}")
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        _show(found)


def _books(store: Store) -> list[Books]:
    try:
        return [Books(open_views(store))]
    except MissingCapability:
        return []


def _show(found: Causes) -> None:
    from rich.console import Console
    from rich.text import Text

    from refold.cli.show import cleaned

    console = Console(highlight=False)
    for node in found.nodes:
        said = cleaned(said_of(node))
        if not console.is_terminal:
            sys.stdout.write(f"{node.position or ''}\t{'  ' * node.depth}{said}\n")
            continue
        is_asked = node.kind == "event" and node.position == found.position
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{node.position or '':>8} {'│ ' * node.depth}", "dim")
        line.append(said, "reverse bold" if is_asked else STYLES.get(node.kind, ""))
        line.append(f"  {node.at.astimezone():%Y-%m-%d %H:%M:%S}" if node.at and node.kind != "command" else "", "dim")
        console.print(line)
    if not found.complete:
        click.echo(
            f"there may be more: a tree has at most {MOST:,} events, and is looked for in about a second", err=True
        )


def said_of(node: Cause) -> str:
    """Return what a node is, for people."""
    command = node.name or "a command without a name"
    match node.kind:
        case "event":
            return " ".join([node.name, *node.tags])
        case "command":
            by = node.by if node.by not in ("", "call") else node.actor
            return f"{command} by {by}" if by else command
        case "elsewhere":
            return f"from {node.by}: {node.name}" if node.by else f"because of {node.name}, which is not in this log"
        case "waiting":
            late = f": {node.trouble}" if node.trouble else ""
            return f"{command} waits, by timer {node.by}{late}"
        case "failed":
            what = f"{command}, by timer {node.by}," if node.name else node.by
            return f"{what} failed: {node.trouble}"
        case "skipped":
            return f"{node.by} was skipped: {node.trouble}"
