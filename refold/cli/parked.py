"""`refold parked`: events that fail and wait, and what is done about them."""

import getpass
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from refold.cli.app import JSON, STORE, loaded
from refold.cli.projection import operate
from refold.errors import InvalidQuery
from refold.runtime.books import Parked, Skipped
from refold.runtime.operate import Operations
from refold.runtime.running import named

INBOX = "inbox."
"""What the subscriptions of inboxes are called; their positions count messages."""
RUN = click.option("--run", "active", is_flag=True, help="Run the app for this, if nothing else runs it.")
NAME = click.option("--of", "name", metavar="NAME", help="Of this projection, process, effect, outbox or inbox only.")


@click.group()
def parked() -> None:
    """See the events that fail and wait; try them again, or skip them with a reason."""


@parked.command("list")
@click.argument("app")
@NAME
@click.option("--skipped", is_flag=True, help="Those that were skipped instead, by whom and why.")
@STORE
@JSON
def list_command(app: str, name: str | None, skipped: bool, store: str | None, as_json: bool) -> None:
    r"""Show what is parked: each event that fails, and how many wait behind it.

    \b
      refold parked list shop.main:app
    """

    async def work(operations: Operations) -> tuple[list[Parked], list[Skipped]]:
        return await operations.parked(name), await operations.skipped()

    waiting, left_out = operate(loaded(app, store), work)
    if as_json:
        click.echo(msgspec.json.encode(left_out if skipped else waiting).decode())
        return
    from refold.cli.show import print_table

    print_table(_skipped(left_out) if skipped else _parked(waiting))


@parked.command()
@click.argument("app")
@click.argument("position", type=int)
@NAME
@STORE
@JSON
def show(app: str, position: int, name: str | None, store: str | None, as_json: bool) -> None:
    """Show what is parked at a position, whole: the event, or the message that came in, byte for byte; the state
    before it, the traceback, and what waits behind it.
    """  # noqa: D205
    running = loaded(app, store)

    async def work(operations: Operations) -> list[tuple[Parked, dict[str, Any]]]:
        found = [each for each in await operations.parked(name) if each.position == position]
        return [(each, await _content(operations, each)) for each in found]

    found = operate(running, work)
    if not found:
        raise InvalidQuery(f"nothing is parked at position {position}")
    if as_json:
        rows = [{**msgspec.to_builtins(each), "content": content} for each, content in found]
        click.echo(msgspec.json.encode({"parked": rows}).decode())
        return
    from refold.cli.show import cleaned, print_object

    for each, content in found:
        print_object(content, as_json=False, title=f"position {position}")
        fields = {"by": each.subscription, "key": " ".join(each.keys), "error": each.error, "attempts": each.attempts}
        fields |= {"tried again": each.retry_at, "state before": each.state}
        print_object(fields, as_json=False, title=f"parked by {named(each.subscription)}")
        for line in each.traceback.splitlines():
            click.echo(cleaned(line))


async def _content(operations: Operations, parked: Parked) -> dict[str, Any]:
    """Return what is parked, for people and programs: a timer, a message from another context, or an event."""
    from refold.cli.show import as_object, inlined

    if parked.timer:
        return {"timer": parked.timer, "command": parked.type, "position": parked.position}
    if parked.subscription.startswith(INBOX):
        message = await operations.message(parked)
        body = {"id": message.id, "key": message.key, "headers": message.headers, "body": inlined(message.body)}
        return {**body, "bytes": len(message.body)}
    async for stored in operations.events(after=parked.position - 1, upto=parked.position):
        return as_object(stored)
    raise InvalidQuery(f"the log has no event at position {parked.position}")


@parked.command()
@click.argument("app")
@click.argument("position", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that has failed.")
@NAME
@RUN
@STORE
def retry(
    app: str, position: tuple[int, ...], everything: bool, name: str | None, active: bool, store: str | None
) -> None:
    """Try parked events again, and what waits behind them; exits with 1 if some still fail."""
    if bool(position) == everything:
        raise click.UsageError("name positions, or say --all")

    async def work(operations: Operations) -> list[Parked]:
        wanted = [each for each in await operations.parked(name) if each.error]
        if position:
            wanted = [each for each in wanted if each.position in position]
            if missing := set(position) - {each.position for each in wanted}:
                raise InvalidQuery(
                    f"nothing has failed at position {min(missing)}; `refold parked list` shows what has"
                )
        left = await operations.retry(*wanted, actor=actor()) if wanted else []
        asked = {(each.subscription, each.position, each.key) for each in wanted}
        return [each for each in left if (each.subscription, each.position, each.key) in asked]

    left = operate(loaded(app, store), work, active=active)
    from refold.cli.show import cleaned

    for each in left:
        click.echo(f"{each.subscription} position {each.position} still fails: {cleaned(each.error)}", err=True)
    click.echo("nothing of it is parked any more" if not left else f"{len(left)} still wait")
    sys.exit(1 if left else 0)


@parked.command()
@click.argument("app")
@click.argument("position", type=int)
@click.option("--reason", required=True, help="Why; it is kept.")
@NAME
@RUN
@STORE
def skip(app: str, position: int, reason: str, name: str | None, active: bool, store: str | None) -> None:
    """Leave a parked event out for good, with a reason; what waits behind it goes on."""

    async def work(operations: Operations) -> int:
        found = [each for each in await operations.parked(name) if each.position == position]
        if not found:
            raise InvalidQuery(f"nothing is parked at position {position}")
        for each in found:
            await operations.skip(each, reason=reason, actor=actor())
        return len(found)

    count = operate(loaded(app, store), work, active=active)
    click.echo(f"position {position} is skipped{f' by {count}' if count > 1 else ''}; the reason is kept")


def actor() -> str:
    """Return who sits at this terminal."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{platform.node()}"


def _parked(rows: Sequence[Parked]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned

    failed = [each for each in rows if each.error]
    table = Table(title=f"{len(failed):,} failed, {len(rows) - len(failed):,} wait behind them", title_justify="left")
    for name in ("parked by", "position", "type", "key", "behind", "since", "attempts", "error"):
        table.add_column(name, justify="right" if name in ("position", "behind", "attempts") else "left")
    for each in failed:
        behind = sum(
            other.subscription == each.subscription and other.key == each.key and not other.error for other in rows
        )
        table.add_row(
            named(each.subscription),
            str(each.position),
            Text(cleaned(each.type)),
            Text(cleaned(" ".join(each.keys))),
            str(behind),
            ago(each.parked_at),
            str(each.attempts),
            Text(cleaned(each.error), style="red"),
        )
    return table


def _skipped(rows: Sequence[Skipped]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned

    table = Table(title=f"{len(rows):,} skipped", title_justify="left")
    for name in ("skipped by", "position", "type", "when", "by", "reason"):
        table.add_column(name)
    for each in rows:
        texts = (each.type, f"{each.skipped_at:%Y-%m-%d %H:%M:%S}", each.actor, each.reason)
        table.add_row(named(each.subscription), str(each.position), *(Text(cleaned(text)) for text in texts))
    return table


def ago(moment: datetime) -> str:
    """Say for how long something is past."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
