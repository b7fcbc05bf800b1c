"""The shop, open: served on this machine with its console, while life goes on in it."""

import asyncio
import logging
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress

import uvicorn

from examples.shop.main import make_demo
from examples.shop.simulate import MoodyProvider, Simulation
from examples.terminal import console
from refold.console import Console
from refold.http import Api

ADDRESS = "examples.shop.main:make_demo"
STOP_SECONDS = 2


class _Server(uvicorn.Server):
    """A server that leaves signals to who runs it."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def keep_open(store: str, *, port: int, seed: int, seconds: float | None = None) -> int:
    """Serve the shop until Ctrl-C, or for so many seconds; return how many orders came in."""
    logging.getLogger("refold").addHandler(logging.NullHandler())  # what fails is seen in the console
    provider = MoodyProvider(seed)
    app = make_demo(store, provider)
    listening = _listen(port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows has none; there Ctrl-C raises
            loop.add_signal_handler(number, stop.set)
    async with app:
        config = uvicorn.Config(
            Console(Api(app), address=f"{ADDRESS} --store={store}"),
            lifespan="off",
            log_level="critical",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        server = _Server(config)
        life = Simulation(app, provider)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        living = asyncio.create_task(life.run())
        stopping = asyncio.create_task(_pause(stop, seconds))
        console.print(f"\nThe shop is open: [bold]{url}/console/[/bold]  (the API: {url}/openapi.json)")
        console.print(
            "Orders come in, some payments fail, and two mistakes are in it: see what is parked, and mend it."
        )
        console.print(f"From another terminal: refold parked list {ADDRESS} --store {store}", soft_wrap=True)
        console.print("Ctrl-C closes it." if seconds is None else f"It closes in {seconds:g} s.")
        try:
            await asyncio.wait([serving, living, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            server.should_exit = True
            living.cancel()
            stopping.cancel()
            ended = await asyncio.gather(serving, living, stopping, return_exceptions=True)
        for found in ended:
            if isinstance(found, Exception):
                raise found
    console.print(f"The shop is closed, {life.orders:,} orders later; all of it is in {store}.")
    return life.orders


async def _pause(stop: asyncio.Event, seconds: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _listen(port: int) -> socket.socket:
    """Listen on this machine; if somebody else has the port, on any that is free."""
    for wanted in (port, 0):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listening.bind(("127.0.0.1", wanted))
            return listening
        listening.close()
    raise AssertionError("some port is always free")
