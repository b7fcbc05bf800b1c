"""`refold`: the commands, how they are asked for help, and how errors are told.

A command is imported when it is asked for, so that the others need not be waited for.
"""

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import click

import refold
from refold.errors import InvalidBody, InvalidLock, RefoldError, WiringError

COMMANDS = {
    "audit": "refold.cli.audit:audit",
    "check": "refold.cli.app:check",
    "completion": "refold.cli.complete:completion",
    "contract": "refold.cli.contract:contract",
    "doctor": "refold.cli.doctor:doctor",
    "effect": "refold.cli.process:effect",
    "execute": "refold.cli.execute:execute",
    "key": "refold.cli.serve:key",
    "log": "refold.cli.log:log",
    "new": "refold.cli.new:new",
    "outbox": "refold.cli.process:outbox",
    "parked": "refold.cli.parked:parked",
    "process": "refold.cli.process:process",
    "projection": "refold.cli.projection:projection",
    "query": "refold.cli.query:query",
    "rows": "refold.cli.rows:rows",
    "run": "refold.cli.run:run",
    "serve": "refold.cli.serve:serve",
    "state": "refold.cli.app:state",
    "store": "refold.cli.store:store",
    "story": "refold.cli.story:story",
}
"""Where each command is."""
BELOW = {
    "log": {
        "carry": "refold.cli.move:carry_command",
        "causes": "refold.cli.causes:causes_command",
        "export": "refold.cli.move:export_command",
        "import": "refold.cli.move:import_command",
        "show": "refold.cli.types:show_command",
        "transform": "refold.cli.move:transform_command",
        "types": "refold.cli.types:types_command",
    },
    "contract": {
        "docs": "refold.cli.docs:docs",
        "stubs": "refold.cli.docs:stubs",
    },
}
"""Where those are that stand in another file than their group."""


class _Lazily(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is taken."""

    def __init__(self, later: Mapping[str, str], now: Mapping[str, click.Command] | None = None) -> None:
        self._later = later
        self._now = dict(now or {})

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._now:
            module, _, attribute = self._later[name].partition(":")
            self._now[name] = _laid_out(getattr(import_module(module), attribute))
        return self._now[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._now[name] = command

    def __delitem__(self, name: str) -> None:
        del self._now[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._now, *self._later}))

    def __len__(self) -> int:
        return len({*self._now, *self._later})


def _laid_out(command: click.Command) -> click.Command:
    """Have examples stand as they are written: click knows them by a backspace, which no source should hold."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _laid_out(each)
        if later := BELOW.get(str(command.name)):
            command.commands = _Lazily(later, command.commands)
    return command


class _Commands(click.Group):
    """Tells what went wrong in one line on stderr; 1 means an error or a finding, 2 wrong usage."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RefoldError as error:
            from refold.cli.show import cleaned

            click.echo(f"{click.style('error', fg='red', bold=True)} [{error.code}] {cleaned(str(error))}", err=True)
            wrongly = isinstance(error, WiringError | InvalidLock | InvalidBody) and not ctx.params.get("finding")
            sys.exit(2 if wrongly else 1)
        except UnicodeEncodeError as error:
            if not any("\ud800" <= letter <= "\udfff" for letter in error.object[error.start : error.end]):
                raise
            raise click.UsageError(f"{error.object!r} is no text in UTF-8") from None
        except BrokenPipeError:
            sys.stderr.close()  # `refold log read | head`: nobody listens any more
            sys.exit(0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(refold.__version__, prog_name="refold")
def main() -> None:
    r"""Look into a Refold log and at the app that writes it.

    A log is named by its address, sqlite:///shop.db, with --store or in the environment as REFOLD_STORE. An app is
    named as module:attribute, the attribute being an App, or a function that takes an address and returns one.

    \b
      refold new shop
      refold log tail --store sqlite:///shop.db --follow
      refold log read --tag order:o-1 --json | jq .data
      refold log search green tea
      refold state shop.main:app Order o-1 --as-of 2026-03-01
      refold execute shop.main:app PlaceOrder '{"order_id": "o-1", "total": 5}'
      refold story shop.main:app Order o-1
      refold check shop.main:app
      refold doctor shop.main:app
      refold run shop.main:app
      refold serve shop.main:app
      refold projection list shop.main:app
      refold process list shop.main:app --stuck
      refold parked list shop.main:app
      refold audit list shop.main:app
      refold rows check shop.main:app Account
      refold contract check shop.main:app
      refold query "select type, count(*) from events group by type" --mirror shop.mirror
    """


_laid_out(main)
main.commands = _Lazily(COMMANDS)
