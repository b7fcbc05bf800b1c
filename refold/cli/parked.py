"""`refold parked`: events that fail and wait, and what is done about them."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from refold.cli.app import JSON, STORE, loaded
from refold.cli.operate import RUN, actor, operate, tell
from refold.errors import InvalidQuery
from refold.runtime.books import Parked, Skipped
from refold.runtime.groups import Group, Which, groups
from refold.runtime.mend import named
from refold.runtime.operate import Operations, still_failing

INBOX = "inbox."
"""What the subscriptions of inboxes are called; their positions count messages."""
NAME = click.option("--of", "name", metavar="NAME", help="Of this projection, process, effect, outbox or inbox only.")
GROUP = click.option("--group", metavar="ID", help="All that has failed for one reason; see `refold parked groups`.")
KEY = click.option("--key", metavar="TAG", help="What holds up this tag, as in order:o-1.")


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
        left_out = await operations.skipped()
        return await operations.parked(name), [each for each in left_out if name in (None, named(each.subscription))]

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
    r"""Show what is parked at a position, whole, with the traceback and what waits behind it.

    That is the event, or the message that came in, byte for byte, and the state before it.

    \b
      refold parked show shop.main:app 4711
    """
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


@parked.command("groups")
@click.argument("app")
@NAME
@STORE
@JSON
def groups_command(app: str, name: str | None, store: str | None, as_json: bool) -> None:
    r"""Show what is parked by what went wrong, the most first; a group's id names all of it to `retry` and `skip`.

    \b
      refold parked groups shop.main:app
      refold parked retry shop.main:app --group 3f9a0c1d2e4b
    """
    found = groups(operate(loaded(app, store), lambda operations: operations.parked(name)))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    from refold.cli.show import print_table

    print_table(_groups(found))


@parked.command()
@click.argument("app")
@click.argument("position", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that has failed.")
@GROUP
@KEY
@NAME
@RUN
@STORE
@JSON
def retry(app: str, active: bool, store: str | None, as_json: bool, **chosen: Any) -> None:
    r"""Try parked events again, and what waits behind them; exits with 1 if some still fail, or none is meant.

    \b
      refold parked retry shop.main:app 42 43
      refold parked retry shop.main:app --group 3f9a0c1d2e4b
      refold parked retry shop.main:app --all --of OrderSummary
    """
    which = _which(**chosen)

    async def work(operations: Operations) -> tuple[int, list[Parked]]:
        wanted = [each for each in await operations.failing(which) if each.error]
        missing = set(which.positions) - {each.position for each in wanted}
        if missing or not (wanted or which.all):
            where = f"at position {min(missing)}" if missing else "that this means"
            raise InvalidQuery(f"nothing has failed {where}; `refold parked list` shows what has")
        left = await operations.retry(*wanted, actor=actor()) if wanted else []
        return len(wanted), still_failing(left, wanted)

    tried, left = operate(loaded(app, store), work, active=active)
    from refold.cli.show import cleaned

    for each in left:
        click.echo(f"{each.subscription} position {each.position} still fails: {cleaned(each.error)}", err=True)
    said = "nothing of it is parked any more" if not left else f"{len(left)} still wait"
    tell({"tried": tried, "failing": [_plain(each) for each in left]}, said, as_json=as_json)
    sys.exit(1 if left else 0)


@parked.command()
@click.argument("app")
@click.argument("position", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that has failed.")
@GROUP
@KEY
@click.option("--reason", required=True, help="Why; it is kept.")
@NAME
@RUN
@STORE
@JSON
def skip(app: str, reason: str, active: bool, store: str | None, as_json: bool, **chosen: Any) -> None:
    r"""Leave parked events out for good, with a reason; what waits behind them goes on.

    \b
      refold parked skip shop.main:app 42 --reason "sent twice"
      refold parked skip shop.main:app --group 3f9a0c1d2e4b --reason "a bad import"
    """
    which = _which(**chosen)

    async def work(operations: Operations) -> list[Parked]:
        found = await operations.failing(which)
        missing = set(which.positions) - {each.position for each in found}
        if missing or not found:
            where = f"at position {min(missing)}" if missing else "that this means"
            raise InvalidQuery(f"nothing is parked {where}; `refold parked list` shows what is")
        await operations.skip(*found, reason=reason, actor=actor())
        return found

    done = operate(loaded(app, store), work, active=active)
    if len(which.positions) == 1:
        by = f" by {len(done)}" if len(done) > 1 else ""
        said = f"position {which.positions[0]} is skipped{by}; the reason is kept"
    else:
        said = f"{len(done):,} are skipped; the reason is kept"
    tell({"skipped": [_plain(each) for each in done], "reason": reason}, said, as_json=as_json)


def _which(position: tuple[int, ...], everything: bool, group: str | None, key: str | None, name: str | None) -> Which:
    """Return which parked events are meant, which has to be said in one way."""
    if sum([bool(position), everything, group is not None, key is not None]) != 1:
        raise click.UsageError("name positions, or --group, or --key, or say --all")
    return Which(of=name, group=group, positions=position, key=key, all=everything)


def _plain(parked: Parked) -> dict[str, Any]:
    """Return a parked event as programs are told of it: without traceback and state, which `show` has."""
    found = msgspec.structs.asdict(parked)
    return {name: value for name, value in found.items() if name not in ("traceback", "state")}


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


def _groups(found: Sequence[Group]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned

    table = Table(title=f"{sum(each.count for each in found):,} failed in {len(found):,} ways", title_justify="left")
    for name in ("group", "parked by", "failed", "behind", "since", "types", "error"):
        table.add_column(name, justify="right" if name in ("failed", "behind") else "left")
    for each in found:
        table.add_row(
            each.id,
            each.name,
            str(each.count),
            str(each.behind),
            ago(each.since),
            Text(cleaned(" ".join(each.types))),
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
