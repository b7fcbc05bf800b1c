"""`refold log export`, `import`, `transform` and `carry`: logs that move to files, out of them, and to other stores."""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from refold.cli.app import loaded
from refold.cli.log import STORE, TAGS, TYPES, opened, query_of
from refold.errors import WiringError
from refold.move.carry import Carried, carry
from refold.move.exports import PER_FILE, export
from refold.move.form import FORMS, FormName
from refold.move.imports import import_
from refold.move.manifest import Selection
from refold.move.transform import Function, decoded, transform
from refold.store.open import open_store

T = TypeVar("T")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
MAP = click.option("--positions", type=click.Path(path_type=Path, dir_okay=False), help="Where the map is written.")
AGAIN = "stopped; run the same command again, and it goes on where it was"


@click.command("export")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE_OR_FOLDER")
@STORE
@TYPES
@TAGS
@click.option("--after", default=0, show_default=True, metavar="POSITION", help="Begin behind this position.")
@click.option("--upto", type=int, metavar="POSITION", help="End with this position.")
@click.option("--format", "form", type=click.Choice(FORMS), default="jsonl", show_default=True)
@click.option("--per-file", type=click.IntRange(1), default=PER_FILE, show_default=True, help="Events of a file.")
@JSON
def export_command(
    path: Path,
    store: str,
    types: tuple[str, ...],
    tags: tuple[str, ...],
    after: int,
    upto: int | None,
    form: FormName,
    per_file: int,
    as_json: bool,
) -> None:
    r"""Write events to files, with a manifest by which an import checks them.

    A folder gets several files; a name that ends in .jsonl is one file. What is appended meanwhile is left out.

    \b
      refold log export shop-2026-11-27 --store sqlite:///shop.db
      refold log export orders.jsonl --tag order:o-1
      refold log export for-analysts --format parquet --type OrderPlaced
    """
    query_of(types, tags)
    selection = Selection(types, tags, after, upto)

    async def work() -> Any:
        from refold.cli.show import progress

        async with opened(store) as source:
            with progress("exporting", 0) as move:
                return await export(
                    source,
                    path,
                    form=form,
                    selection=selection,
                    source=_without_password(store),
                    per_file=per_file,
                    moved=move,
                )

    done = _run(work)
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    click.echo(f"{done.events:,} events in {len(done.files):,} files, up to position {done.last:,}")
    click.echo(f"sha256 {done.sha256}")


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path, exists=True), metavar="FILE_OR_FOLDER")
@STORE
@MAP
@JSON
def import_command(path: Path, store: str, positions: Path | None, as_json: bool) -> None:
    r"""Append exported events to a log, each once, however often this is run.

    All files are checked before anything is written. Where each event stood and stands now is written to a map,
    positions.csv beside the export unless --positions names another place.

    \b
      refold log import shop-2026-11-27 --store postgresql://app@db.example/shop
    """

    async def work() -> Any:
        from refold.cli.show import progress

        target = await open_store(store)
        try:
            with progress("checking", 0) as move:
                return await import_(
                    path,
                    target,
                    positions=positions,
                    checked=move,
                    moved=lambda done, total: move(done, total, "importing"),
                )
        finally:
            await target.close()

    done = _run(work)
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    there = f"; {done.there:,} were there already" if done.there else ""
    click.echo(f"{done.appended:,} events appended{there}")
    click.echo(_told(done.shifted, done.positions))


@click.command("transform")
@click.argument("source", metavar="SOURCE_URL")
@click.argument("target", metavar="TARGET_URL")
@click.argument("function", required=False, metavar="[MODULE:FUNCTION]")
@click.option("--app", metavar="APP", help="The function takes events as this app decodes them, and gives such.")
@MAP
@JSON
def transform_command(
    source: str, target: str, function: str | None, app: str | None, positions: Path | None, as_json: bool
) -> None:
    r"""Copy a log to another store, through a function that keeps, changes, splits or drops events; then verify it.

    The function takes a StoredEvent and returns it, another, a list, or None; without a function all is copied.
    The target is empty, or begun by the same command, which also brings it up to what the source got since. The
    source is only read. Where each event stood and stands is written to positions.csv, or to --positions.

    \b
      refold log transform sqlite:///shop.db postgresql://app@db.example/shop
      refold log transform sqlite:///shop.db sqlite:///new.db shop.rewrite:drop_tests
      refold log transform sqlite:///shop.db sqlite:///new.db shop.rewrite:in_cents --app shop.main:app
    """
    if source == target:
        raise click.UsageError("source and target are the same log; a transformation writes to another")
    if app and not function:
        raise click.UsageError("--app says what a function takes: name one, as in shop.rewrite:drop_tests")
    apply = _function(function, app, source) if function else None
    path = positions or Path("positions.csv")

    async def work() -> Any:
        from refold.cli.show import progress

        async with opened(source) as log:
            into = await open_store(target)
            try:
                with progress("copying", 0) as move:
                    return await transform(
                        log,
                        into,
                        apply,
                        positions=path,
                        moved=move,
                        verified=lambda done, total: move(done, total, "verifying"),
                    )
            finally:
                await into.close()

    done = _run(work)
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    click.echo(
        f"{done.read:,} events read: {done.kept:,} kept as they are, {done.dropped:,} dropped; "
        f"{done.written:,} in the target, {done.appended:,} of them from this run"
    )
    click.echo(f"verified, sha256 {done.sha256}")
    click.echo(_told(done.shifted, str(path)))


@click.command("carry")
@click.argument("source", metavar="SOURCE_URL")
@click.argument("target", metavar="TARGET_URL")
@click.option(
    "--positions",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=Path("positions.csv"),
    show_default=True,
    help="The map that the copy was made with.",
)
@JSON
def carry_command(source: str, target: str, positions: Path, as_json: bool) -> None:
    r"""Take over, to a copy of a log, how far processes, effects, outbox and inbox have come, and their timers.

    Between `refold log transform` and the first start of the app on the copy; no app may run on either. Without it
    each process would begin with the first event again. Views are built anew from the copy.

    \b
      refold log carry sqlite:///shop.db postgresql://app@db.example/shop
    """

    async def work() -> Carried:
        async with opened(source) as old, opened(target) as new:
            return await carry(old, new, positions)

    done = _run(work)
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    for name, position in done.checkpoints.items():
        click.echo(f"{name} goes on behind {position:,}")
    lost = f", {done.lost:,} more are not in the copy" if done.lost else ""
    click.echo(f"{done.timers:,} timers, {done.parked:,} parked events{lost}, {done.received:,} ids of messages")


def _function(name: str, app: str | None, store: str) -> Function:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise click.UsageError(f"{name!r} does not name a function: write module:function, as in shop.rewrite:drop")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error}; the modules in this folder and the installed ones were looked at") from error
    except AttributeError:
        raise click.UsageError(f"the module {module} has no {attribute!r}") from None
    if not callable(found):
        raise WiringError(f"{name} is no function: {found!r}")
    function: Any = found
    return decoded(function, loaded(app, store).schema) if app else function


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        return await work()

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        click.echo(f"\n{AGAIN}", err=True)
        sys.exit(130)


def _told(shifted: bool, positions: str) -> str:
    return f"positions {'have changed' if shifted else 'are the same as before'}: {positions}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    # Not `urlunsplit`, which takes away slashes of sqlite:///shop.db.
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"
