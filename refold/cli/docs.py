"""`refold contract docs`: an app's contract, told to people and other teams."""

from pathlib import Path

import click

from refold.cli.app import STORE, loaded
from refold.contract.site import write_site


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
