"""`refold state` and `refold check`: an app, looked at from outside."""

import asyncio
import importlib
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from refold.app import App
from refold.cli.moment import MOMENT, MOMENT_OR_POSITION
from refold.errors import InvalidQuery, WiringError
from refold.model.state import State, state_kind

T = TypeVar("T")
STORE = click.option("--store", envvar="REFOLD_STORE", metavar="URL", help="Address of the log, if APP is a function.")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")


def names(of: Callable[[App], Iterable[str]]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes names of the app that was given before; of one that cannot be made, nothing."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        given: dict[str, Any] = ctx.params
        try:
            with redirect_stdout(io.StringIO()):  # a module that prints would be taken for names
                app = loaded(str(given.get("app")), given.get("store") or "memory:")
                return [name for name in sorted(of(app)) if name.startswith(incomplete)]
        except Exception:  # nobody looks for an error while they type
            return []

    return complete


COMMAND_NAMES = names(lambda app: [each.__name__ for each in app.commands])
STATE_NAMES = names(lambda app: [each.__name__ for each in app.states])
PROJECTION_NAMES = names(lambda app: app.describe()["projections"])
PROCESS_NAMES = names(lambda app: [*app.describe()["processes"], *app.describe()["effects"]])


@click.command()
@click.argument("app")
@click.argument("name", metavar="STATE", shell_complete=STATE_NAMES)
@click.argument("key", nargs=-1)
@click.option("--as-of", type=MOMENT_OR_POSITION, metavar="TIME|POSITION", help="What the log knew then.")
@click.option("--effective", type=MOMENT, metavar="TIME", help="What was true in the world then.")
@STORE
@JSON
def state(
    app: str,
    name: str,
    key: tuple[str, ...],
    as_of: datetime | int | None,
    effective: datetime | None,
    store: str | None,
    as_json: bool,
) -> None:
    r"""Show a state of APP by its key, now or at a time.

    TIME is 2026-03-01T12:00:00+01:00; without a zone it is UTC, and a day alone means its end. Nothing is written,
    and no projection or process runs.

    \b
      refold state shop.main:app Order o-1
      refold state shop.main:app Order o-1 --as-of 2026-03-01
      refold state bank.main:make_app Account 2378 --effective 1993-03-01 --store sqlite:///bank.db
    """
    found = loaded(app, store)
    initial = state_asked(found, app, name, key)

    async def work() -> State:
        async with found.passive(create=False) as running:
            return await running.load(initial, as_of=as_of, effective=effective)

    from refold.cli.show import print_object

    result = asyncio.run(work())
    fields = {field: getattr(result, field) for field in result.__struct_fields__}
    when = f" as of {as_of}" if as_of is not None else ""
    when += f" effective {effective}" if effective is not None else ""
    print_object(fields, as_json=as_json, title=f"{name} {' '.join(key)}{when}")


@click.command()
@click.argument("app")
@STORE
@JSON
def check(app: str, store: str | None, as_json: bool) -> None:
    r"""Wire APP without running it, and show what it is made of.

    Exits with 1, saying what to write, if it is put together wrongly.

    \b
      refold check shop.main:app
    """
    try:
        found = loaded(app, store)
    except WiringError as error:
        from refold.cli.show import cleaned

        click.echo(f"{click.style('error', fg='red', bold=True)} [{error.code}] {cleaned(str(error))}", err=True)
        sys.exit(1)
    from refold.cli.show import print_object

    print_object(found.describe(), as_json=as_json, title=f"{app} is wired well")


def loaded(path: str, store: str | None) -> App:
    """Import an app by `module:attribute`; raise `WiringError` if there is none."""
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise click.UsageError(f"{path!r} does not name an app: write module:attribute, as in shop.main:app")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error}; the modules in this folder and the installed ones were looked at") from error
    except AttributeError:
        raise click.UsageError(f"the module {module} has no {attribute!r}") from None
    if not isinstance(found, App) and callable(found):
        if store is None:
            raise click.UsageError(
                f"{path} is a function, so it needs the address of a store: --store sqlite:///shop.db"
            )
        found = found(store)
    if not isinstance(found, App):
        raise click.UsageError(f"{path} is a {type(found).__name__}, not an App")
    return found


def chosen(name: str, known: Mapping[str, T], what: str, path: str) -> T:
    """Return what an app has under a name, or say what it has, first what was perhaps meant."""
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        has = ", ".join(sorted(known)) or "none"
        raise click.UsageError(
            f"{path} has no {what} {name!r}; " + (f"did you mean {near[0]}? It has {has}" if near else f"it has {has}")
        )
    return known[name]


def state_asked(app: App, path: str, name: str, key: Sequence[str]) -> State:
    """Return a state of an app, before any event, by its name and key."""
    cls = chosen(name, {each.__name__: each for each in app.states}, "state", path)
    try:
        return state_kind(cls).parsed(key)
    except InvalidQuery as error:
        raise click.UsageError(str(error)) from None
