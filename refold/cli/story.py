"""`refold story`: how a state came to be what it is."""

import asyncio
import sys
from datetime import datetime
from typing import Any

import click
import msgspec

from refold.cli.app import JSON, STATE_NAMES, STORE, loaded, state_asked
from refold.cli.moment import MOMENT, MOMENT_OR_POSITION
from refold.model.change import FieldChange
from refold.runtime.story import MOST_STEPS, Step, Story

LONGEST = 60
"""How many characters of a value are shown in a terminal."""


@click.command()
@click.argument("app")
@click.argument("name", metavar="STATE", shell_complete=STATE_NAMES)
@click.argument("key", nargs=-1)
@click.option("--as-of", type=MOMENT_OR_POSITION, metavar="TIME|POSITION", help="What the log knew then.")
@click.option("--effective", type=MOMENT, metavar="TIME", help="What was true in the world then, as it happened.")
@click.option("--after", type=click.IntRange(0), metavar="POSITION", help="The first steps behind this position.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, MOST_STEPS), default=100, show_default=True, help="At most so many steps."
)
@STORE
@JSON
def story(
    app: str,
    name: str,
    key: tuple[str, ...],
    as_of: datetime | int | None,
    effective: datetime | None,
    after: int | None,
    limit: int,
    store: str | None,
    as_json: bool,
) -> None:
    r"""Show the events of a state of APP in order, each with what it changed, up to now or to a time.

    Where they are more than --limit, the last ones are shown, or with --after the first behind a position. Piped,
    each change is a line: position, time, type, field, before and after. Nothing is written, and nothing runs.

    \b
      refold story shop.main:app Order o-1
      refold story shop.main:app Order o-1 --as-of 2026-03-01 --limit 20
      refold story shop.main:app Stock tea --after 0 --json | jq '.steps[].changes'
    """
    found = loaded(app, store)
    initial = state_asked(found, app, name, key)

    async def work() -> Story[Any]:
        async with found.passive(create=False) as running:
            return await running.story(initial, as_of=as_of, effective=effective, after=after, limit=limit)

    told = asyncio.run(work())
    if as_json:
        sys.stdout.write(msgspec.json.encode(_as_object(told)).decode() + "\n")
    else:
        _show(told, f"{name} {' '.join(key)}".strip())


def _as_object(told: Story[Any]) -> dict[str, Any]:
    from refold.cli.show import as_object

    steps = [
        {
            **as_object(step.stored),
            "occurred_at": step.occurred_at,
            "changes": step.changes,
            "state": step.state,
            **({"error": step.error} if step.error else {}),
        }
        for step in told.steps
    ]
    more = told.steps[-1].position if told.has_later else None
    return {
        "start": told.start,
        "steps": steps,
        "state": told.state,
        "upto": told.upto,
        "has_earlier": told.has_earlier,
        "next": more,
    }


def _show(told: Story[Any], name: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from refold.cli.show import cleaned

    console = Console(highlight=False)
    if not console.is_terminal:
        for step in told.steps:
            _plain(step)
        return
    console.print(Text.assemble((cleaned(name), "bold"), (f"  as of position {told.upto}", "dim")))
    if told.has_earlier:
        console.print(Text("          … earlier steps: ask for more with --limit, or --after 0", "dim"))
    for step in told.steps:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{step.position:>8} ", "bold")
        line.append(f"{step.occurred_at.astimezone():%Y-%m-%d %H:%M:%S} ", "dim")
        line.append(cleaned(step.stored.type), "red" if step.error else "cyan")
        line.append(f"  by {cleaned(step.metadata.actor)}" if step.metadata.actor else "", "dim")
        console.print(line)
        if step.error:
            console.print(Text(f"           passed over: {cleaned(step.error)}", "red"))
        for change in step.changes:
            console.print(_coloured(change))
    if not told.steps:
        console.print(Text("          nothing has happened to it", "dim"))
    if told.has_later:
        console.print(Text(f"          … later steps: --after {told.steps[-1].position}", "dim"))


def _coloured(change: FieldChange) -> Any:
    from rich.text import Text

    from refold.cli.show import cleaned

    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"           {cleaned(change.path)}  ", "yellow")
    before, after = _text(change.before), _text(change.after)
    if change.before is not msgspec.UNSET:
        line.append(_short(before), "red")
    if change.after is not msgspec.UNSET:
        line.append(" → " if change.before is not msgspec.UNSET else "+ ", "dim")
        line.append(_short(after), "green")
    else:
        line.append(" gone", "dim")
    return line


def _plain(step: Step[Any]) -> None:
    from refold.cli.show import cleaned

    begin = (str(step.position), step.recorded_at.isoformat(timespec="microseconds"), step.stored.type)
    changes = [(each.path, _text(each.before), _text(each.after)) for each in step.changes]
    for change in [("error", "", step.error)] if step.error else changes or [("", "", "")]:
        sys.stdout.write("\t".join(cleaned(field) for field in (*begin, *change)) + "\n")


def _text(value: Any) -> str:
    return "" if value is msgspec.UNSET else msgspec.json.encode(value).decode()


def _short(text: str) -> str:
    from refold.cli.show import cleaned

    return cleaned(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
