"""`refold projection`: how views stand, their versions, and rebuilding them beside what is read."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from refold.cli.app import JSON, PROJECTION_NAMES, STORE, loaded
from refold.cli.operate import YES, actor, confirm, operate, tell
from refold.runtime.books import Comparison, Version
from refold.runtime.operate import MOST_WORKERS, Operations
from refold.runtime.rebuild import Progress
from refold.runtime.standing import Standing


@click.group()
def projection() -> None:
    """See how views stand; rebuild, compare, switch and go back."""


@projection.command("list")
@click.argument("app")
@STORE
@JSON
def list_command(app: str, store: str | None, as_json: bool) -> None:
    r"""Show how every projection and process of APP stands.

    \b
      refold projection list shop.main:app
    """
    found = operate(loaded(app, store), lambda operations: operations.standing())
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    from refold.cli.show import print_table

    print_table(standings(found))


@projection.command()
@click.argument("app")
@click.argument("name", shell_complete=PROJECTION_NAMES)
@STORE
@JSON
def show(app: str, name: str, store: str | None, as_json: bool) -> None:
    r"""Show the versions of a projection, and how the newest differs from the one before.

    \b
      refold projection show shop.main:app OrderSummary
    """

    async def work(operations: Operations) -> list[Standing]:
        await operations.versions(name)
        return [each for each in await operations.standing() if each.name == name]

    found = operate(loaded(app, store), work)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    from refold.cli.show import print_table

    print_table(standings(found))
    for each in found:
        if each.comparison is not None and each.status in ("active", "building"):
            print_comparison(each.comparison, each.version)


@projection.command()
@click.argument("app")
@click.argument("name", shell_complete=PROJECTION_NAMES)
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, MOST_WORKERS), help="Processes that share keys."
)
@click.option("--hold", is_flag=True, help="Build and compare; `refold projection switch` switches to it.")
@STORE
@JSON
def rebuild(app: str, name: str, workers: int, hold: bool, store: str | None, as_json: bool) -> None:
    r"""Build a projection anew beside the version that is read, compare the two, and switch.

    Reads go on all the while. Interrupted, it goes on where it was when it is started again.

    \b
      refold projection rebuild shop.main:app OrderSummary --workers 4 --hold
    """
    from refold.cli.show import progress

    with progress(f"Rebuilding {name}", 1) as advance:
        stalled: list[str] = []

        def told(at: Progress) -> None:
            advance(at.done, at.total, f"{name}: {at.stage}")
            if at.stalled and at.stalled.partition(":")[2] not in stalled:
                stalled.append(at.stalled.partition(":")[2])
                click.echo(f"{name}: {at.stalled}", err=True)

        try:
            version = operate(
                loaded(app, store),
                lambda operations: operations.rebuild(name, workers=workers, hold=hold, tell=told, actor=actor()),
            )
        except KeyboardInterrupt:
            raise click.ClickException(
                f"interrupted; what is built stays. `refold projection rebuild {app} {name}` goes on from there"
            ) from None
    if as_json:
        click.echo(msgspec.json.encode(version).decode())
        return
    if version.comparison is not None:
        print_comparison(version.comparison, version.version)
    if version.hold:
        click.echo(f"{name} {version.version} is built, and held: `refold projection switch {app} {name}`")
    else:
        click.echo(f"{name} is read as of version {version.version} now")


@projection.command()
@click.argument("app")
@click.argument("name", shell_complete=PROJECTION_NAMES)
@click.argument("version", required=False)
@STORE
@JSON
def compare(app: str, name: str, version: str | None, store: str | None, as_json: bool) -> None:
    r"""Compare a version, the newest that is not read if none is named, with the one that is read.

    Exits with 1 if their rows differ.

    \b
      refold projection compare shop.main:app OrderSummary
    """
    found = operate(loaded(app, store), lambda operations: operations.compare(name, version))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        print_comparison(found, version or "the newest")
    if found.different or found.only_old or found.only_new:
        raise SystemExit(1)


@projection.command()
@click.argument("app")
@click.argument("name", shell_complete=PROJECTION_NAMES)
@click.argument("version", required=False)
@STORE
@JSON
def switch(app: str, name: str, version: str | None, store: str | None, as_json: bool) -> None:
    r"""Let a version be the one that is read: the newest, if none is named.

    \b
      refold projection switch shop.main:app OrderSummary
    """
    done = operate(loaded(app, store), lambda operations: operations.switch(name, version, actor=actor()))
    tell(done, f"{name} is read as of version {done.version} now", as_json=as_json)


@projection.command()
@click.argument("app")
@click.argument("name", shell_complete=PROJECTION_NAMES)
@click.option("--leaving", metavar="VERSION", help="Which version is to be left; else nothing is done.")
@YES
@STORE
@JSON
def rollback(app: str, name: str, leaving: str | None, yes: bool, store: str | None, as_json: bool) -> None:
    r"""Let the version that was read before be read again, at once.

    \b
      refold projection rollback shop.main:app OrderSummary --yes
    """
    confirm(f"Read the version of {name} before this one again?", yes=yes)
    done: Version = operate(
        loaded(app, store), lambda operations: operations.rollback(name, leaving=leaving, actor=actor())
    )
    said = f"{name} is read as of version {done.version} again; deploy the code that keeps it up"
    tell(done, said, as_json=as_json)


@projection.command()
@click.argument("app")
@click.argument("name", shell_complete=PROJECTION_NAMES)
@click.argument("version")
@YES
@STORE
@JSON
def drop(app: str, name: str, version: str, yes: bool, store: str | None, as_json: bool) -> None:
    r"""Remove a version that is not read, with its rows.

    \b
      refold projection drop shop.main:app OrderSummary 4d4db05254e5 --yes
    """
    confirm(f"Remove version {version} of {name} with all its rows?", yes=yes)
    operate(loaded(app, store), lambda operations: operations.drop(name, version, actor=actor()))
    tell({"projection": name, "dropped": version}, f"version {version} of {name} is gone", as_json=as_json)


def standings(found: Sequence[Standing]) -> Any:
    """Return a table of how projections and processes stand."""
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned

    table = Table(title_justify="left")
    for name in ("name", "version", "status", "position", "behind", "seconds", "parked", "owner", "notes"):
        table.add_column(name, justify="right" if name in ("position", "behind", "seconds", "parked") else "left")
    colours = {"active": "green", "building": "yellow", "kept": "dim", "rejected": "red"}
    for each in found:
        notes = [cleaned(each.trouble)] if each.trouble else []
        if each.status == "building":
            left = f", {each.seconds_left:.0f} s left" if each.seconds_left is not None else ""
            notes.append(f"{each.rate:,.0f}/s{left}")
        if each.parked:
            notes.append(f"oldest parked {each.oldest_parked_seconds:,.0f} s ago")
        table.add_row(
            Text(each.name),
            each.version or each.kind,
            Text(each.status, style=colours[each.status]),
            f"{each.position:,}",
            f"{each.events_behind:,}",
            f"{each.seconds_behind:,.1f}",
            Text(f"{each.parked:,}", style="red" if each.parked else ""),
            Text(each.owner or "-"),
            Text("; ".join(notes)),
        )
    return table


def print_comparison(found: Comparison, version: str) -> None:
    """Print how two versions differ."""
    from refold.cli.show import print_object

    fields = msgspec.structs.asdict(found)
    sample = fields.pop("sample")
    fields |= {f"sample {number}": each for number, each in enumerate(sample, 1)}
    print_object(fields, as_json=False, title=f"version {version}, compared with the one before")
