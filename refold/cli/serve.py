"""`refold serve` and `refold key`: an app over HTTP, and who may use it."""

import gc
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refold.cli.app import JSON, STORE, loaded
from refold.cli.logs import LOG_FORMAT, LOG_LEVEL

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from refold.http.serve import Served

ROLES = ("reader", "writer", "operator", "admin")
RARELY = (20_000, 20, 100)
"""After how many new objects, and then how many times, a server looks for circles of objects to be freed."""
KEYS = click.option(
    "--keys",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("keys.json"),
    show_default=True,
    help="The file of keys.",
)


@click.command()
@click.argument("app")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--keys", metavar="FILE", help="Let in who has one of these keys only; see `refold key`.")
@click.option("--tls-certificate", metavar="FILE")
@click.option("--tls-key", metavar="FILE")
@click.option("--plain", is_flag=True, help="Listen beyond this machine without TLS: a proxy in front does it.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option("--console/--no-console", default=True, show_default=True, help="Serve the console, too.")
@LOG_FORMAT
@LOG_LEVEL
@STORE
def serve(app: str, store: str | None, tls_certificate: str | None, tls_key: str | None, **given: Any) -> None:
    r"""Serve APP over HTTP, with a console for browsers; its projections and processes run along.

    Without keys, only programs on this machine are let in.

    \b
      refold serve shop.main:app
      refold serve shop.main:app --host 0.0.0.0 --keys keys.json --tls-certificate c.pem --tls-key k.pem
    """
    from refold.console.session import SECRET
    from refold.http.serve import Served
    from refold.http.serve import serve as run

    served = Served(app=app, store=store, certificate=tls_certificate, private_key=tls_key, **given)
    served.check()
    application = _application(served)  # a mistake is told here, not by each process
    os.environ.setdefault(SECRET, secrets.token_urlsafe(32))
    click.echo(f"{app} is served at {served.url}; {served.url}/openapi.json says what there is. Ctrl-C ends it.")
    if served.console:
        click.echo(f"Its console: {served.url}/console/")
    run(served, "refold.cli.serve:worker", application if served.workers == 1 else None)


def worker() -> "ASGIApp":
    """Return what one of several processes serves."""
    from refold.http.serve import from_environment

    return _application(from_environment())


def _application(served: "Served") -> "ASGIApp":
    from refold.http.serve import api_of
    from refold.runtime.logs import listen

    listen(served.log_format, served.log_level)
    api = api_of(served, loaded)
    # What is loaded stays, and requests leave few circles behind: looking for them as often as usual takes a tenth.
    gc.freeze()
    gc.set_threshold(*RARELY)
    if served.workers > 1:
        api.app.telemetry.worker = str(os.getpid())
    if not served.console:
        return api
    from refold.console import Console

    return Console(api, address=served.app)


@click.group()
def key() -> None:
    """Say who may use an app that is served."""


@key.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="reader < writer < operator < admin.")
@click.option("--days", type=click.IntRange(1), help="How long it is good for; for ever if not said.")
@click.option("--command", "commands", multiple=True, help="Only these commands; repeatable.")
@click.option("--view", "views", multiple=True, help="Only these views.")
@click.option("--tag", "tags", multiple=True, metavar="NAME:VALUE", help="Only what has one of these tags.")
@KEYS
def create(
    name: str,
    role: Any,
    days: int | None,
    commands: tuple[str, ...],
    views: tuple[str, ...],
    tags: tuple[str, ...],
    path: Path,
) -> None:
    r"""Make a key for NAME and show it, this once: what is kept is its hash.

    \b
      refold key create till-7 --role writer --command PlaceOrder
      refold key create customer-1 --role reader --tag customer:c-1
    """
    from refold.http.tokens import create as made

    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    rules = {"commands": commands or None, "views": views or None, "tags": tags or None}
    click.echo(made(path, name, role, expires=expires, **rules))
    click.echo(f"{name} may come in as {role}: Authorization: Bearer …", err=True)


@key.command("list")
@KEYS
@JSON
def list_command(path: Path, as_json: bool) -> None:
    r"""Show who has a key, and what it allows.

    \b
      refold key list --keys keys.json
    """
    import msgspec

    from refold.http.tokens import keys_in

    found = [{name: value for name, value in each.items() if name != "sha256"} for each in map(_shown, keys_in(path))]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    from rich.table import Table
    from rich.text import Text

    from refold.cli.show import cleaned, print_table

    table = Table()
    for column in ("name", "role", "expires", "commands", "views", "tags"):
        table.add_column(column)
    for each in found:
        table.add_row(*(Text(cleaned(_told(each[column]))) for column in ("name", "role", "expires")), *_rules(each))
    print_table(table)


@key.command()
@click.argument("name")
@KEYS
def revoke(name: str, path: Path) -> None:
    r"""Take NAME's key away; servers that run notice within a second.

    \b
      refold key revoke till-7
    """
    from refold.http.tokens import revoke as taken

    taken(path, name)
    click.echo(f"{name} has no key any more")


def _shown(key: Any) -> dict[str, Any]:
    return {name: getattr(key, name) for name in key.__struct_fields__}


def _rules(key: dict[str, Any]) -> list[str]:
    return [" ".join(key[name]) if key[name] is not None else "all" for name in ("commands", "views", "tags")]


def _told(value: Any) -> str:
    if value is None:
        return "never"
    return f"{value:%Y-%m-%d}" if isinstance(value, datetime) else str(value)
