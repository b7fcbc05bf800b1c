"""Measuring sides by turns: A B C, then C B A, and so on; medians of the rates, ratios round by round."""

import gc
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import apsw
from rich.console import Console
from rich.table import Table

import refold

Run = Callable[[], Awaitable[float]]
"""Does some work, and returns how many units of it a second."""

WHERE = Path(refold.__file__).parent
"""What is measured: a path that leads nowhere falls back to what is installed, without a word."""

console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
missed: list[str] = []
"""The targets that were not met, by their words."""


class Target(NamedTuple):
    """How much of another side's rate a side must reach."""

    side: str
    against: str
    least: float


class Options(NamedTuple):
    """What the command line says about a run."""

    folder: Path
    rounds: int
    scale: float

    def size(self, count: int, of: int = 1) -> int:
        """Scale a count, to a multiple of `of`."""
        return max(of, round(count * self.scale) // of * of)


async def compare(
    title: str, unit: str, sides: Mapping[str, Run | None], targets: list[Target], *, rounds: int
) -> dict[str, float]:
    """Run the sides by turns, once to warm up and then for some rounds; print what came out, return the medians.

    A side that is None is a peer that is not installed.
    """
    present = {name: run for name, run in sides.items() if run is not None}
    rates: dict[str, list[float]] = {name: [] for name in present}
    for number in range(rounds + 1):
        for name in present if number % 2 else reversed(present):
            gc.collect()
            with console.status(f"{title}: round {number} of {rounds}, {name}"):
                rate = await present[name]()
            if number:
                rates[name].append(rate)
    table = Table("side", f"{unit}/s", "min - max", "ratio", "min - max", "target", "met", title=title)
    table.title_justify = "left"
    for column in table.columns[1:6]:
        column.justify = "right"
    for name in sides:
        _rows(table, name, rates, targets)
    console.print(table, "")
    return {name: statistics.median(found) for name, found in rates.items()}


def _rows(table: Table, name: str, rates: Mapping[str, list[float]], targets: list[Target]) -> None:
    if name not in rates:
        table.add_row(name, "not installed: pip install --group bench")
        return
    own = rates[name]
    cells = [name, _figure(statistics.median(own)), f"{_figure(min(own))} - {_figure(max(own))}"]
    aims = [aim for aim in targets if aim.side == name and aim.against in rates]
    for aim in aims:
        ratios = [ours / theirs for ours, theirs in zip(own, rates[aim.against], strict=True)]
        ratio = statistics.median(ratios)
        met = ratio >= aim.least
        if not met:
            missed.append(f"{table.title}: {name} is {ratio:.2f} of {aim.against}, to be {aim.least:.2f}")
        span = f"{min(ratios):.2f} - {max(ratios):.2f}"
        target = f">= {aim.least:.2f} of {aim.against}"
        verdict = "[green]yes" if met else "[red]no"
        table.add_row(*cells, f"{ratio:.2f}", span, target, verdict)
        cells = ["", "", ""]
    if not aims:
        table.add_row(*cells)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def machine() -> str:
    """Say on what this runs, and how busy it is."""
    names = ["refold", "msgspec", "umadb", "eventsourcing"]
    return (
        f"{os.cpu_count()} cores ({_cpu()}), load {os.getloadavg()[0]:.1f}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {apsw.sqlitelibversion()}, apsw {apsw.apswversion()}, "
        + ", ".join(f"{name} {_version(name)}" for name in names)
        + f", commit {_commit()}, of {WHERE}"
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=WHERE, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
