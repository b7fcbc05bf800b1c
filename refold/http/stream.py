"""Server-sent events: a stream that ends when its reader is gone or too slow, and can be taken up where it was."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

BEAT_SECONDS = 15.0
"""How often a stream on which nothing happens says that it is still there."""
SEND_SECONDS = 30.0
"""How long a reader may take nothing until it is let go; it can come back with `Last-Event-ID`."""
LOOK_SECONDS = 1.0
"""How often, at most, it is asked whether the reader may still have what comes."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
]


class Sent(Struct, frozen=True):
    """One event of a stream."""

    event: str
    id: str
    """Where to take the stream up behind it."""
    data: Any


class EventStream(Response):
    """Sends what an iterator gives, and closes it in the end.

    `may_go_on` is asked before anything is sent, once a second at most; the stream ends when it says no.
    """

    may_go_on: Callable[[], Awaitable[bool]] | None = None

    def __init__(self, events: AsyncIterator[Sent]) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._looked = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader is gone."""
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        if scope.get("method") == "HEAD":
            await _sent(send, b"", more=False)
            return
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
            if isinstance(self._events, AsyncGenerator):
                await self._events.aclose()
        if isinstance(results[0], Exception) and not isinstance(results[0], TimeoutError | OSError):
            raise results[0]

    async def _send_all(self, send: Send) -> None:
        coming = asyncio.ensure_future(anext(self._events, None))
        try:
            while True:
                came, _ = await asyncio.wait([coming], timeout=BEAT_SECONDS)
                if await self._is_over():
                    break
                if not came:
                    await _sent(send, b": still here\n\n")
                    continue
                event = coming.result()
                if event is None:
                    break
                await _sent(send, _text(event))
                coming = asyncio.ensure_future(anext(self._events, None))
            await _sent(send, b"", more=False)
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await coming

    async def _is_over(self) -> bool:
        now = time.monotonic()
        if self.may_go_on is None or now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return not await self.may_go_on()


async def _sent(send: Send, body: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _text(sent: Sent) -> bytes:
    data = msgspec.json.encode(sent.data)  # has no line breaks
    return b"event: %s\nid: %s\ndata: %s\n\n" % (sent.event.encode(), sent.id.encode(), data)
