"""`refold rows`: states that are kept as rows, compared with their events, and made of them."""

from typing import Any

import click
import msgspec

from refold.cli.app import JSON, STATE_NAMES, STORE, loaded
from refold.cli.operate import actor, operate, tell
from refold.runtime.moving import Difference


@click.group()
def rows() -> None:
    """Compare states that are kept as rows with their events; move them to events, or back."""


@rows.command()
@click.argument("app")
@click.argument("state", shell_complete=STATE_NAMES)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="Stop after so many.")
@STORE
@JSON
def check(app: str, state: str, limit: int, store: str | None, as_json: bool) -> None:
    r"""Show the rows of STATE that are not what its events add up to; exits with 1 if there are any.

    If there are none, STATE can be kept as events, and is the same. The others are those that were imported, or
    changed by another program. Others may write meanwhile.

    \b
      refold rows check bank.main:app Account
    """
    found: list[Difference] = operate(loaded(app, store), lambda each: each.differences(state, limit=limit))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    elif found:
        from refold.cli.show import print_table

        print_table(_differences(state, found))
    else:
        click.echo(f"every row of {state} is what its events add up to")
    if found:
        raise SystemExit(1)


@rows.command()
@click.argument("app")
@click.argument("state", shell_complete=STATE_NAMES)
@STORE
@JSON
def fill(app: str, state: str, store: str | None, as_json: bool) -> None:
    r"""Make rows of the events of STATE, which is to be kept as rows from now on, where there are none.

    Stop whatever writes to the log before. Interrupted, it goes on where it was.

    \b
      refold rows fill bank.main:app Account
    """
    made = operate(loaded(app, store), lambda each: each.fill_rows(state, actor=actor()))
    tell({"state": state, "made": made}, f"{made:,} rows of {state} are made; start the app", as_json=as_json)


@rows.command()
@click.argument("app")
@click.argument("state", shell_complete=STATE_NAMES)
@STORE
@JSON
def leave(app: str, state: str, store: str | None, as_json: bool) -> None:
    r"""Keep STATE as events from now on, if its rows are what its events add up to.

    APP still has it in `rows`. Stop whatever runs so before; what is started after has it there no more.

    \b
      refold rows leave bank.main:app Account
    """
    operate(loaded(app, store), lambda each: each.leave_rows(state, actor=actor()))
    said = f"{state} is kept as events; take it out of `rows`, and start the app"
    tell({"state": state, "kept_as": "events"}, said, as_json=as_json)


def _differences(state: str, found: list[Difference]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned

    table = Table(title=f"{len(found):,} rows of {state} differ from their events", title_justify="left")
    for name in ("row", "its events"):
        table.add_column(name)
    for each in found:
        table.add_row(Text(cleaned(repr(each.row))), Text(cleaned(repr(each.folded))))
    return table
