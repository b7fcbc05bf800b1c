"""`refold process` and `refold effect`: what they have still to do, what holds them up, and what is done about it."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from refold.cli.app import JSON, PROCESS_NAMES, STORE, loaded
from refold.cli.operate import RUN, YES, actor, confirm, operate, tell
from refold.cli.parked import ago
from refold.errors import InvalidQuery
from refold.runtime.books import Parked
from refold.runtime.operate import Operations, still_failing
from refold.runtime.waiting import Waiting


@click.group()
def process() -> None:
    """See what processes and effects wait for; try again, resume, or give up what is stuck."""


@process.command("list")
@click.argument("app")
@click.argument("name", required=False, shell_complete=PROCESS_NAMES)
@click.option("--stuck", is_flag=True, help="Only what will not be done by itself in time.")
@STORE
@JSON
def list_command(app: str, name: str | None, store: str | None, *, stuck: bool, as_json: bool) -> None:
    r"""Show what the processes and effects of APP have still to do, of one or all: for what, and since when.

    That is timers, which are due at a time; events that have failed; and what waits behind those. Stuck is what has
    failed, what waits behind it, and timers that are overdue by a minute, for nobody runs them.

    \b
      refold process list shop.main:app
      refold process list shop.main:app --stuck
    """
    found = operate(loaded(app, store), lambda operations: operations.waiting(name))
    found = [each for each in found if each.is_stuck or not stuck]
    if as_json:
        click.echo(msgspec.json.encode([_told(each) for each in found]).decode())
        return
    from refold.cli.show import print_table

    print_table(_table(found))


@process.command()
@click.argument("app")
@click.argument("name", shell_complete=PROCESS_NAMES)
@click.argument("position", type=int, nargs=-1, required=True)
@RUN
@STORE
@JSON
def retry(app: str, name: str, position: tuple[int, ...], store: str | None, *, active: bool, as_json: bool) -> None:
    r"""Try again what has failed at a POSITION, event or timer; exits with 1 if it fails again.

    \b
      refold process retry shop.main:app check_out 4711
    """
    nothing = "nothing of it has failed there"
    _again(app, store, name, lambda each: each.position in position, nothing, active=active, as_json=as_json)


@process.command()
@click.argument("app")
@click.argument("name", shell_complete=PROCESS_NAMES)
@click.argument("key", required=False)
@RUN
@STORE
@JSON
def resume(app: str, name: str, key: str | None, store: str | None, *, active: bool, as_json: bool) -> None:
    r"""Try again all that has failed of a process or effect, or of one KEY, and what waits behind it.

    \b
      refold process resume shop.main:app check_out
      refold process resume shop.main:app check_out order:o-1
    """
    nothing = "nothing of it has failed"

    def meant(parked: Parked) -> bool:
        return key is None or key in parked.keys[:1]

    _again(app, store, name, meant, nothing, active=active, as_json=as_json)


@process.command("give-up")
@click.argument("app")
@click.argument("name", shell_complete=PROCESS_NAMES)
@click.argument("key")
@click.option("--reason", required=True, help="Why; it is kept.")
@YES
@RUN
@STORE
@JSON
def give_up(
    app: str, name: str, key: str, reason: str, store: str | None, *, yes: bool, active: bool, as_json: bool
) -> None:
    r"""Leave out all that a process or effect has still to do for a KEY: what has failed, what waits, and timers.

    It goes on with what comes of this key later. Who gave up, when and why is kept: `refold parked list --skipped`.

    \b
      refold process give-up shop.main:app check_out order:o-1 --reason "the customer has called"
    """
    confirm(f"Leave out all that {name} has still to do for {key}?", yes=yes)

    async def work(operations: Operations) -> int:
        return await operations.give_up(name, key, reason=reason, actor=actor())

    count = operate(loaded(app, store), work, active=active)
    if not count:
        raise InvalidQuery(f"{name} has nothing to do for {key}; `refold process list {app} {name}` shows what it has")
    said = f"{name} has given up {count:,} for {key}; the reason is kept"
    tell({"process": name, "key": key, "given_up": count, "reason": reason}, said, as_json=as_json)


@click.group()
def effect() -> None:
    """Look after what functions do in the world."""


@effect.command()
@click.argument("app")
@click.argument("name", shell_complete=PROCESS_NAMES)
@click.option("--after", type=click.IntRange(0), required=True, help="From behind this position on.")
@click.option("--upto", type=click.IntRange(1), required=True, help="Up to this position.")
@click.option("--reason", required=True, help="Why; it is part of the new idempotency keys, and logged.")
@YES
@STORE
@JSON
def repeat(
    app: str, name: str, after: int, upto: int, reason: str, store: str | None, *, yes: bool, as_json: bool
) -> None:
    r"""Do an effect again for events for which it may have been done, under new idempotency keys.

    Whatever it does in the world happens once more. It is done here and now, one event after the other.

    \b
      refold effect repeat shop.main:app send_mail --after 1200 --upto 1300 --reason "the mailer lost a day"
    """
    confirm(f"Do {name} again for positions {after + 1} to {upto}, although it may have been done?", yes=yes)

    async def work(operations: Operations) -> int:
        return await operations.repeat(name, after=after, upto=upto, reason=reason, actor=actor())

    count = operate(loaded(app, store), work)
    said = f"{name} was done again for {count:,} event{'' if count == 1 else 's'}"
    tell({"effect": name, "repeated": count, "reason": reason}, said, as_json=as_json)


@click.group()
def outbox() -> None:
    """Look after what leaves for other contexts."""


@outbox.command()
@click.argument("app")
@click.option("--after", type=click.IntRange(0), required=True, help="From behind this position on.")
@click.option("--upto", type=click.IntRange(1), required=True, help="Up to this position.")
@click.option("--reason", required=True, help="Why; it is kept.")
@YES
@STORE
@JSON
def republish(app: str, after: int, upto: int, reason: str, store: str | None, *, yes: bool, as_json: bool) -> None:
    r"""Publish events again, under the ids that they had: who has them passes them over.

    For when a broker, or the database of who receives, has lost some. It is done here and now, in the order of the log.

    \b
      refold outbox republish shop.main:app --after 1200 --upto 1300 --reason "the broker lost a disk"
    """
    confirm(f"Publish positions {after + 1} to {upto} again?", yes=yes)

    async def work(operations: Operations) -> int:
        return await operations.republish(after=after, upto=upto, reason=reason, actor=actor())

    count = operate(loaded(app, store), work)
    said = f"{count:,} event{' was' if count == 1 else 's were'} published again"
    tell({"republished": count, "reason": reason}, said, as_json=as_json)


def _again(
    app: str,
    store: str | None,
    name: str,
    means: Callable[[Parked], bool],
    nothing: str,
    *,
    active: bool,
    as_json: bool,
) -> None:
    """Try again some of what a process has failed at; exit with 1 if it fails again."""

    async def work(operations: Operations) -> tuple[int, list[Parked]]:
        await operations.waiting(name)  # refuses a name that there is not
        wanted = [each for each in await operations.parked(name) if each.error and means(each)]
        if not wanted:
            raise InvalidQuery(f"{nothing}; `refold process list {app} {name}` shows what there is")
        left = await operations.retry(*wanted, actor=actor())
        return len(wanted), still_failing(left, wanted)

    count, left = operate(loaded(app, store), work, active=active)
    from refold.cli.show import cleaned

    for each in left:
        click.echo(f"{name} position {each.position} still fails: {cleaned(each.error)}", err=True)
    failing = [{"position": each.position, "key": each.key, "error": each.error} for each in left]
    said = f"{len(left)} still fail" if left else "all of it is done"
    tell({"process": name, "tried": count, "failing": failing}, said, as_json=as_json)
    sys.exit(1 if left else 0)


def _told(waiting: Waiting) -> dict[str, Any]:
    fields = msgspec.structs.asdict(waiting)
    command = waiting.command
    if command is not None and not isinstance(command, str):
        fields["command"] = {"name": type(command).__name__, **msgspec.structs.asdict(command)}
    elif command is not None:
        fields["command"] = {"name": command}
    return fields


def _table(found: Sequence[Waiting]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned

    stuck = sum(each.is_stuck for each in found)
    table = Table(title=f"{len(found):,} to do, {stuck:,} stuck", title_justify="left")
    for name in ("process", "key", "position", "waits for", "since", "due", "attempts", "error"):
        table.add_column(name, justify="right" if name in ("position", "attempts") else "left")
    for each in found:
        table.add_row(
            Text(each.process, style="red" if each.is_stuck else ""),
            Text(cleaned(each.key)),
            str(each.position),
            Text(cleaned(_waits_for(each))),
            ago(each.since),
            _due(each),
            str(each.attempts or ""),
            Text(cleaned(each.error), style="red"),
        )
    return table


def _waits_for(waiting: Waiting) -> str:
    if waiting.event:
        return waiting.event if waiting.error else f"{waiting.event}, behind what failed"
    command = waiting.command
    return f"timer: {command if isinstance(command, str) else repr(command)}"


def _due(waiting: Waiting) -> str:
    if waiting.due is None:
        return "when asked" if waiting.error else ""
    seconds = (waiting.due - datetime.now(UTC)).total_seconds()
    return f"{waiting.due:%Y-%m-%d %H:%M:%S}{'' if seconds > 0 else f', {ago(waiting.due)}'}"
