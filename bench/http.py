"""An app over HTTP: commands against `execute` in the process, what idle followers cost, and first pages."""

import asyncio
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx

from bench.measure import Options, Run, Target, compare
from bench.orders import EVENTS_OF_ORDER, NOTE, Add, open_app, order_id
from bench.reads import BATCH, fill
from refold import App
from refold.store.sqlite import SqliteStore

CALLERS = 64
FOLLOWERS = 1_000
HERE = Path(__file__).parents[1]


@contextmanager
def serving(store: str, *options: str) -> Iterator[tuple[int, int]]:
    """Run `refold serve` in a process of its own; give its port and its id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    refold = Path(sys.executable).with_name("refold")
    command = [refold, "serve", "bench.orders:open_app", "--store", store, "--port", str(port), *options]
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL)
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


CASES: list[Callable[[Options], object]] = [http]
