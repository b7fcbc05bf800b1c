"""`refold contract`: what an app stores, takes and publishes, locked, and checked before it changes for others."""

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from refold.cli.app import STORE, loaded
from refold.contract.compare import Finding, Mode, additions, compare
from refold.contract.lock import NAME, read, write, written

PATH = click.option(
    "--path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(NAME),
    show_default=True,
    help="The file of the lock.",
)


@click.group()
def contract() -> None:
    """Lock what an app stores, takes and publishes, and check what a change would break."""


@contract.command()
@click.argument("app")
@PATH
@STORE
def lock(app: str, path: Path, store: str | None) -> None:
    r"""Write the contract of APP to a file, to be committed beside its code; say what changed.

    \b
      refold contract lock shop.main:app
    """
    now = loaded(app, store).contract()
    before = read(path) if path.exists() else None
    write(now, path)
    if before is None:
        click.echo(f"{path} is written, with {_counted(len(now.events), 'event')}. Commit it.")
        return
    findings, added = compare(before, now), additions(before, now)
    for name in added:
        click.echo(f"{_mark('+', 'green')} {name}")
    for each in findings:
        click.echo(f"{_mark('~', 'yellow')} {each.kind} {_place(each)} {each.said}")
    if not added and not findings:
        click.echo(f"{path} says the same as before" if written(before) == written(now) else f"{path} is written")


@contract.command()
@click.argument("app")
@PATH
@click.option("--mode", type=click.Choice(["backward", "forward", "full"]), default="backward", show_default=True)
@click.option("--strict", is_flag=True, help="Fail, too, if anything is not locked yet.")
@click.option("--format", "form", type=click.Choice(["text", "github", "json"]), default="text", show_default=True)
@click.option("--against", metavar="URL", help="Check APP against the log at this address, and not against the lock.")
@click.option("--sample", type=click.IntRange(1), help="Decode about so many events of each type and version.")
@click.option("--keys", type=click.IntRange(0), help="Fold the states of about so many keys.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="In so many processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@STORE
def check(
    app: str,
    path: Path,
    mode: Mode,
    form: str,
    against: str | None,
    sample: int | None,
    keys: int | None,
    workers: int,
    store: str | None,
    *,
    strict: bool,
    as_json: bool,
) -> None:
    r"""Compare APP with its lock, and say what a change breaks, whom, and what to do; exits with 1 if it does.

    It exits with 2 if there is no lock, or one that cannot be read.

    backward: this code reads what is stored, and takes what is sent. forward: old code that still runs reads what this
    code writes. What is published is always held to its consumers, which are old code.

    \b
      refold contract check shop.main:app
      refold contract check shop.main:app --mode full --format github

    With --against every event that a log holds is decoded and upcast, and every state and view of APP folded. Nothing
    is written, nothing of APP runs, and the log may be in use. Exits with 1 if anything fails, saying where.

    \b
      refold contract check shop.main:app --against postgresql://db.example/shop --workers 4
      refold contract check shop.main:app --against sqlite:///shop.db --sample 1000 --keys 200
    """
    if against is not None:
        from refold.cli.history import against as check_against

        found = loaded(app, store or against)
        well = check_against(found, against, sample=sample, keys=keys, workers=workers, as_json=as_json)
        sys.exit(0 if well else 1)
    if sample is not None or keys is not None or workers > 1:
        raise click.UsageError("--sample, --keys and --workers are of a check --against a log")
    form = "json" if as_json else form
    before, now = read(path), loaded(app, store).contract()
    findings, added = compare(before, now), additions(before, now)
    failing = [each for each in findings if each.fails(mode)]
    outdated = strict and not failing and written(before) != written(now)
    show: dict[str, Callable[[Sequence[Finding], Sequence[str], Mode], None]]
    show = {"text": _text, "github": _github, "json": _json}
    show[form](findings, added, mode)
    if form != "json":
        _sum_up(len(failing), findings, added, f"refold contract lock {app} --path {path}", outdated=outdated)
    sys.exit(1 if failing or outdated else 0)


def _sum_up(failing: int, findings: Sequence[Finding], added: Sequence[str], command: str, *, outdated: bool) -> None:
    if failing:
        click.echo(f"{_mark('incompatible', 'red')}: {_counted(failing, 'change')} break what is there")
    elif outdated:
        click.echo(f"{_mark('outdated', 'red')}: the lock does not say what the code does; `{command}` writes it")
    else:
        more = f"; `{command}` locks what is new" if added or findings else ""
        click.echo(f"{_mark('compatible', 'green')}{more}")


def _text(findings: Sequence[Finding], added: Sequence[str], mode: Mode) -> None:
    for each in findings:
        fails = each.fails(mode)
        mark = _mark("✗", "red") if fails else _mark("~", "yellow")
        click.echo(f"{mark} {each.kind} {click.style(_place(each), bold=True)} {each.said}  [{each.rule}]")
        if fails:
            click.echo(f"    {each.breaks}")
            for line in each.advice.splitlines():
                click.echo(f"    {click.style(line, dim=True)}")
    for name in added:
        click.echo(f"{_mark('+', 'green')} {name}")


def _github(findings: Sequence[Finding], added: Sequence[str], mode: Mode) -> None:
    """Write annotations, as GitHub's runners read them."""
    for each in findings:
        level = "error" if each.fails(mode) else "notice"
        where = _where(each.source)
        place = f"file={_property(where[0])},line={where[1]}," if where else ""
        message = ". ".join(part for part in (f"{_place(each)} {each.said}", each.breaks, each.advice) if part)
        title = _property(f"{each.kind} {each.about}: {each.rule}")
        click.echo(f"::{level} {place}title={title}::{_data(message)}")


def _json(findings: Sequence[Finding], added: Sequence[str], mode: Mode) -> None:
    rows = [{**msgspec.to_builtins(each), "fails": each.fails(mode)} for each in findings]
    content = {"compatible": not any(row["fails"] for row in rows), "mode": mode, "findings": rows, "added": added}
    click.echo(msgspec.json.encode(content).decode())


def _place(finding: Finding) -> str:
    return f"{finding.about} {finding.path}" if finding.path else finding.about


def _where(source: str) -> tuple[str, int] | None:
    """Return the file and line of a class, from the folder that one is in."""
    module, _, name = source.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        path = Path(inspect.getfile(found)).resolve()
        line = inspect.getsourcelines(found)[1]
    except (ImportError, AttributeError, OSError, TypeError, ValueError):
        return None
    here = Path.cwd()
    return (str(path.relative_to(here)) if path.is_relative_to(here) else str(path)), line


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _mark(text: str, colour: str) -> str:
    return click.style(text, fg=colour, bold=True)


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"
