"""`refold contract check APP --against URL`: what the check against real history has found, for people and programs."""

import asyncio

import click
import msgspec
from rich.table import Table
from rich.text import Text

from refold.app import App
from refold.contract.history import Report, check_history


def against(app: App, url: str, *, sample: int | None, keys: int | None, workers: int, as_json: bool) -> bool:
    """Check an app against the log at an address, and show what was found; return whether all of it can be read."""
    from refold.cli.show import progress

    with progress("decoding", 0) as move:
        checking = check_history(app.program, url, sample=sample, keys=keys, workers=workers, move=move)
        report = asyncio.run(checking)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(report)
    return not report.failed


def _show(report: Report) -> None:
    from refold.cli.show import cleaned, print_table

    types = Table(title=f"{report.events:,} events up to position {report.head:,}", title_justify="left")
    for name in ("type", "version", "becomes", "events", "decoded", "failed"):
        types.add_column(name, justify="left" if name in ("type", "becomes") else "right")
    for each in report.types:
        becomes = ", ".join(each.becomes) or ("?" if each.failed else "nothing: it is dropped")
        counts = (f"{each.events:,}", f"{each.decoded:,}", f"{each.failed:,}")
        types.add_row(Text(cleaned(each.type)), str(each.version), Text(cleaned(becomes)), *counts)
    print_table(types)
    if report.folded:
        folded = Table(title="folded", title_justify="left")
        for name in ("state", "keys", "events", "failed"):
            folded.add_column(name, justify="left" if name == "state" else "right")
        for state in report.folded:
            folded.add_row(Text(state.name), f"{state.keys:,}", f"{state.events:,}", f"{state.failed:,}")
        print_table(folded)
    for failure in report.failures:
        what = failure.what if failure.what != "decode" else "it cannot be read"
        version = f" version {failure.version}" if failure.version else ""
        where = f"position {failure.position}, {failure.type}{version}" if failure.type else "at the end"
        click.echo(f"{click.style('✗', fg='red', bold=True)} {cleaned(where)}: {cleaned(what)}")
        click.echo(f"    {cleaned(failure.error)}")
        click.echo(f"    {click.style('data', dim=True)} {cleaned(failure.data)}")
        click.echo(f"    {click.style('todo', dim=True)} {cleaned(failure.todo)}")
    for left_out in report.left_out:
        click.echo(f"{click.style('~', fg='yellow', bold=True)} left out: {left_out}")
    if report.failed:
        more = f"; the first {len(report.failures)} are shown" if report.failed > len(report.failures) else ""
        click.echo(f"{click.style('unreadable', fg='red', bold=True)}: {report.failed:,} failures{more}")
    else:
        click.echo(f"{click.style('readable', fg='green', bold=True)}: every event that was looked at, and every state")
