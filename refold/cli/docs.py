"""`refold contract docs` and `refold contract stubs`: an app's contract, told to people and other teams."""

from collections.abc import Callable
from pathlib import Path

import click

from refold.cli.app import STORE, loaded
from refold.contract.describe import Published
from refold.contract.python_stubs import python_stubs
from refold.contract.site import write_site
from refold.contract.typescript_stubs import typescript_stubs

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("app")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder; files of the same names in it are replaced.",
)
@click.option("--base", metavar="URL", default="", help="Where the schemas will be: https://example.com/shop/schemas/")
@STORE
def docs(app: str, folder: Path, base: str, store: str | None) -> None:
    r"""Write down what APP is made of: a page to search, a diagram, an AsyncAPI document, JSON Schemas.

    index.html needs no server, no network and no build.

    \b
      refold contract docs shop.main:app --to site
    """
    count = write_site(loaded(app, store).contract(), folder, base)
    click.echo(f"{folder / 'index.html'} is written, and {count - 1} files beside it")


@click.command()
@click.argument("app")
@click.option("--python", type=FILE, help="Write frozen dataclasses, and what parses messages, without dependencies.")
@click.option("--typescript", type=FILE, help="Write interfaces, and what parses messages, without dependencies.")
@STORE
def stubs(app: str, python: Path | None, typescript: Path | None, store: str | None) -> None:
    r"""Write types for those who follow what APP publishes, with what reads and checks its messages.

    \b
      refold contract stubs shop.main:app --python shop_events.py
      refold contract stubs shop.main:app --typescript shop-events.ts
    """
    published = loaded(app, store).contract().published
    if python is None and typescript is None:
        raise click.UsageError("say what to write: --python FILE, --typescript FILE, or both")
    if published is None or not published.events:
        raise click.UsageError(f"{app} publishes nothing: give its App an `outbox`")
    files: list[tuple[Path | None, Callable[[Published], str]]]
    files = [(python, python_stubs), (typescript, typescript_stubs)]
    for path, make in files:
        if path is not None:
            path.write_text(make(published), encoding="utf-8")
            count = len(published.events)
            click.echo(f"{path} is written, with {count:,} event{'' if count == 1 else 's'}")
