"""What both examples need of a terminal: progress with rate and time left, tables, and plain text where it is piped."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from refold import App, RefoldError

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 160  # what is piped has no edge


class RateColumn(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "-/s", style="cyan")


@contextmanager
def progress(what: str, total: int) -> Generator[Callable[[int], None]]:
    """Show how far something is; gives the function to call with each number of steps done."""
    if not console.is_terminal:
        yield Lines(what, total).advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


class Lines:
    """Progress as plain lines, one for each tenth."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._done, self._shown = 0, 0
        self._start = time.monotonic()

    def advance(self, steps: int) -> None:
        self._done += steps
        tenth = self._done * 10 // self._total
        if tenth > self._shown:
            self._shown = tenth
            seconds = time.monotonic() - self._start
            rate = self._done / max(seconds, 1e-9)
            left = timedelta(seconds=round((self._total - self._done) / rate))
            console.print(f"{self._what}: {tenth * 10:3} %  {self._done:,}/{self._total:,}  {rate:,.0f}/s  {left} left")


def must_exist(store: str, hint: str) -> None:
    """Refuse to look into an SQLite store that is not there, rather than make an empty one."""
    prefix, _, path = store.partition(":///")
    if prefix == "sqlite" and not Path(path).exists():
        raise click.ClickException(f"there is no store at {store} yet. Fill it: {hint}")


def run(app: App, work: Callable[[App], Coroutine[None, None, None]]) -> None:
    """Open an app and do something with it."""

    async def inside() -> None:
        async with app:
            await work(app)

    try:
        asyncio.run(inside())
    except Exception as error:
        first = first_of(error)
        if not isinstance(first, RefoldError):
            raise
        raise click.ClickException(str(first)) from error
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; start it again, and it goes on from there") from None


def first_of(error: BaseException) -> BaseException:
    """Return the first error of tasks that ran side by side."""
    return first_of(cast(BaseException, error.exceptions[0])) if isinstance(error, BaseExceptionGroup) else error


def made(title: str, *columns: str) -> Table:
    """Make a table; columns that begin with `-` hold numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        number = column.startswith("-")
        table.add_column(
            column.removeprefix("-"), justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    return table


def amount(value: Decimal) -> str:
    """Write money."""
    return f"{value:,.2f}"
