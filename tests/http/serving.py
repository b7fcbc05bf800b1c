"""An API served on loopback, as a program would reach it."""

import asyncio
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import uvicorn

from refold import App
from refold.http import Access, Api, Limits

LEAVING: defaultdict[str, list[Callable[[], Awaitable[None]]]] = defaultdict(list)
"""How the visitors of a server leave, by its address: a page that is open when the server ends would look for it."""


@asynccontextmanager
async def served(
    app: Any, access: Access | None = None, *, limits: Limits = Limits(), **options: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    application: Any = Api(app, access, limits=limits) if isinstance(app, App) else app
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    given = {"log_level": "error", "lifespan": "on", "timeout_graceful_shutdown": 1, **options}
    config = uvicorn.Config(application, **given)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listening])  # what `serve` does, without the tenth of a second at which it looks about
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            yield client
    finally:
        for leave in LEAVING.pop(url, ()):
            await leave()
        server.force_exit = True
        await server.shutdown([listening])
        await _ended(server)
        await server.lifespan.shutdown()
        listening.close()


async def _ended(server: uvicorn.Server) -> None:
    """End what still streams, which `force_exit` leaves to itself: no socket is left for the next test to find."""
    state = server.server_state
    for connection in state.connections:
        connection.transport.abort()
    for task in state.tasks:
        task.cancel()
    while state.connections or state.tasks:
        await asyncio.sleep(0.001)


async def sent(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Read the server-sent events of a response."""
    event: dict[str, Any] = {}
    async for line in response.aiter_lines():
        if not line and event:
            yield event
            event = {}
        name, _, value = line.partition(": ")
        if name:
            event[name] = value
        if name == "data":
            event |= {"text": value, "data": msgspec.json.decode(value)}


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the problem of a response, which must be of that status and code."""
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert (response.status_code, found["status"], found["code"]) == (status, status, code), found
    return found
