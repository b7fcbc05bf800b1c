"""`python -m bench [case…]`: run the cases and show which targets are met."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench import (
    analytics,
    appends,
    growth,
    history,
    http,
    processes,
    projections,
    reads,
    runtime,
    search,
    upcasting,
)
from bench.measure import Options, console, machine, missed

CASES: dict[str, Callable[[Options], Any]] = {
    case.__name__.replace("_", "-"): case
    for case in (
        *appends.CASES,
        *reads.CASES,
        *runtime.CASES,
        *projections.CASES,
        *processes.CASES,
        *analytics.CASES,
        *upcasting.CASES,
        *search.CASES,
        *history.CASES,
        *http.CASES,
    )
}
APART = {"growth": growth.growth}
"""Cases that take minutes, run only when they are named."""
BESIDE = Path(__file__).parents[2]


@click.command(help="Compare Refold with a raw apsw loop and with its peers, side by side, round after round.")
@click.argument("cases", nargs=-1, type=click.Choice([*CASES, *APART]))
@click.option("--rounds", default=7, show_default=True, help="How often each side runs, after a warm-up.")
@click.option("--scale", default=1.0, show_default=True, help="Multiplies the amount of work.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the files go; on the disk to measure.")
def main(cases: tuple[str, ...], rounds: int, scale: float, folder: Path | None) -> None:
    console.print(machine())
    console.print(f"$ python -m bench {' '.join(sys.argv[1:])}\n", markup=False)
    # /tmp may be memory, where commits cost nothing.
    base = folder or os.environ.get("TMPDIR") or BESIDE
    for name in cases or CASES:
        with tempfile.TemporaryDirectory(prefix="refold-bench-", dir=base) as found:
            asyncio.run((CASES | APART)[name](Options(Path(found), rounds, scale)))
    for each in missed:
        console.print(f"[red]missed[/] {each}")
    if not missed:
        console.print("[green]every target is met")


if __name__ == "__main__":
    main()
