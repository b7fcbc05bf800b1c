"""An app over HTTP: commands against `execute` in the process, what idle followers cost, and first pages."""

import asyncio
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx
import uvicorn

from bench.measure import Options, Run, Target, compare, console, missed
from bench.orders import EVENTS_OF_ORDER, NOTE, Add, open_app, order_id
from bench.reads import BATCH, fill
from refold import App
from refold.http import Api, Limits
from refold.store.sqlite import SqliteStore

CALLERS = 64
FOLLOWERS = 1_000
PAGES = ("/console/", "/console/log", "/log/events?backwards=true&limit=50", "/log/search?text=door&limit=50")
HERE = Path(__file__).parents[1]


@contextmanager
def serving(store: str, *options: str, app: str = "open_app") -> Iterator[tuple[int, int]]:
    """Run `refold serve` in a process of its own; give its port and its id."""
    refold = Path(sys.executable).with_name("refold")
    with _running(
        lambda port: [refold, "serve", f"bench.orders:{app}", "--store", store, "--port", port, *options]
    ) as at:
        yield at


@contextmanager
def _running(command: Callable[[str], Sequence[str | Path]]) -> Iterator[tuple[int, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(command(str(port)), cwd=HERE, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None, "the server does not start"
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.05)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def http(options: Options) -> None:
    """Execute the same commands from 64 tasks in the process, and over 64 connections, by one and two workers."""
    orders = options.size(10_000, of=BATCH)
    each = options.size(100)
    path = options.folder / "http.db"
    store = await SqliteStore.open(path)
    await fill(store, orders * EVENTS_OF_ORDER)
    await store.close()
    dice = random.Random(2)

    def inside(app: App) -> Run:
        async def run() -> float:
            async def caller(numbers: list[int]) -> None:
                for number in numbers:
                    await app.execute(Add(order_id(number), "sku-0001", 1, 100, NOTE))

            shares = [dice.choices(range(1, orders + 1), k=each) for _ in range(CALLERS)]
            start = time.perf_counter()
            await asyncio.gather(*map(caller, shares))
            return CALLERS * each / (time.perf_counter() - start)

        return run

    def outside(port: int) -> Run:
        async def run() -> float:
            arguments = [port, CALLERS, each, orders, dice.randrange(1 << 30)]
            asking = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.asking", *map(str, arguments), cwd=HERE, stdout=subprocess.PIPE
            )
            output, _ = await asking.communicate()
            return float(output)

        return run

    def copy(name: str) -> Path:
        return Path(shutil.copy(path, options.folder / name))

    async with AsyncExitStack() as exits:
        app = await exits.enter_async_context(open_app(path))
        sides = {"in the process": inside(app)}
        for workers in (1, 2):
            place = f"sqlite:///{copy(f'http-{workers}.db')}"
            port, _ = exits.enter_context(serving(place, "--workers", str(workers)))
            sides[f"over HTTP, {workers} worker{'s' * (workers > 1)}"] = outside(port)
        await compare(
            "64 commands at once, in the process and over HTTP",
            "commands",
            sides,
            [Target("over HTTP, 1 worker", "in the process", 0.5)],
            rounds=options.rounds,
        )


async def followers(options: Options) -> None:
    """Have 1,000 readers follow a log on which nothing happens, and see what that costs the server."""
    count = options.size(FOLLOWERS)
    path = options.folder / "followers.db"
    await _filled(path, BATCH)
    with _running(lambda port: [sys.executable, "-m", "bench.http", str(path), port]) as (port, process):
        warm = [_following(port) for _ in range(10)]
        before = _resident(process)
        connections = [_following(port) for _ in range(count)]
        await asyncio.sleep(1)
        cost = _resident(process) - before
        for connection in (*warm, *connections):
            connection.close()
    _within(f"{count:,} idle followers cost the server", cost / 1e6, 100 * count / FOLLOWERS, "MB")


async def pages(options: Options) -> None:
    """Ask for pages of a log of 1 M events: the first of the console, the newest events, a search."""
    path = options.folder / "pages.db"
    events = options.size(1_000_000, of=BATCH)
    await _filled(path, events)
    with serving(f"sqlite:///{path}", app="open_indexed") as (port, _):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            first = {page: await _seconds(client, page) for page in PAGES}
            while (await client.get("/operations/standing")).json()[0]["position"] < events:
                await asyncio.sleep(1)
            later = {page: [await _seconds(client, page) for _ in range(20)] for page in PAGES}
    for page in PAGES:
        most = 0.5 if "search" in page else 0.3
        _within(f"{page} of {events:,} events, asked first", first[page] * 1000, most * 1000, "ms")
        _within(f"{page} of {events:,} events, the slowest of 20", max(later[page]) * 1000, most * 1000, "ms")


async def _filled(path: Path, events: int) -> None:
    store = await SqliteStore.open(path)
    await fill(store, events)
    await store.close()


async def _seconds(client: httpx.AsyncClient, page: str) -> float:
    start = time.perf_counter()
    answer = await client.get(page)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - start


def _following(port: int) -> socket.socket:
    """Open a connection that follows the log from its end on, and is let in."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET /log/follow?after=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % BATCH)
    assert connection.recv(1024).startswith(b"HTTP/1.1 200")
    return connection


def _resident(process: int) -> int:
    """Return the bytes of memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


def _within(what: str, value: float, most: float, unit: str) -> None:
    met = value <= most
    if not met:
        missed.append(f"{what} {value:,.0f} {unit}, to be {most:,.0f}")
    console.print(f"{what}: {value:,.1f} {unit}; target {most:,.0f} {unit}: {'[green]yes' if met else '[red]no'}")


CASES: list[Callable[[Options], object]] = [http, followers, pages]

if __name__ == "__main__":  # serves more followers than one who asks may have otherwise
    api = Api(open_app(Path(sys.argv[1])), limits=Limits(streams=2 * FOLLOWERS))
    uvicorn.run(api, port=int(sys.argv[2]), log_level="error")
