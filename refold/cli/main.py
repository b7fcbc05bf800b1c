"""`refold`: the commands, how they are asked for help, and how errors are told."""

import sys
from typing import Any

import click

import refold
from refold.cli.app import check, state
from refold.cli.audit import audit
from refold.cli.causes import causes_command
from refold.cli.complete import completion
from refold.cli.contract import contract
from refold.cli.docs import docs, stubs
from refold.cli.doctor import doctor
from refold.cli.execute import execute
from refold.cli.log import log
from refold.cli.move import carry_command, export_command, import_command, transform_command
from refold.cli.new import new
from refold.cli.parked import parked
from refold.cli.process import effect, outbox, process
from refold.cli.projection import projection
from refold.cli.query import query
from refold.cli.rows import rows
from refold.cli.run import run
from refold.cli.serve import key, serve
from refold.cli.store import store
from refold.cli.story import story
from refold.cli.types import show_command, types_command
from refold.errors import InvalidBody, InvalidLock, RefoldError, WiringError


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


main.add_command(new)
main.add_command(log)
log.add_command(export_command)
log.add_command(import_command)
log.add_command(transform_command)
log.add_command(carry_command)
log.add_command(types_command)
log.add_command(show_command)
log.add_command(causes_command)
main.add_command(execute)
main.add_command(state)
main.add_command(story)
main.add_command(store)
main.add_command(check)
main.add_command(doctor)
main.add_command(completion)
main.add_command(run)
main.add_command(serve)
main.add_command(key)
main.add_command(projection)
main.add_command(process)
main.add_command(effect)
main.add_command(outbox)
main.add_command(parked)
main.add_command(audit)
main.add_command(rows)
main.add_command(query)
main.add_command(contract)
contract.add_command(docs)
contract.add_command(stubs)


def _lay_out(command: click.Command) -> None:
    """Have examples stand as they are written: click knows them by a backspace, which no source should hold."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        _lay_out(each)


_lay_out(main)
