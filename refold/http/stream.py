"""Server-sent events: a stream that ends when its reader is gone or too slow, and can be taken up where it was."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from refold.http.problem import encoded, problem_of

logger = logging.getLogger("refold.http")
BEAT_SECONDS = 15.0
"""How often a stream on which nothing happens says that it is still there."""
SEND_SECONDS = 30.0
"""How long a reader may take nothing until it is let go; it can come back with `Last-Event-ID`."""
LOOK_SECONDS = 1.0
"""How often, at most, it is asked whether the reader may still have what comes."""
LIFE_SECONDS = 1800.0
"""How long a stream lasts at most, some a little less: its reader takes it up again.

A reader that has sent another request behind it may be gone without the server telling the stream.
"""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
]


class Sent(Struct, frozen=True):
    """One event of a stream."""

    event: str
    id: str | None
    """Where to take the stream up behind it; None: where it was."""
    data: Any


class EventStream(Response):
    """Sends what an iterator gives, and closes it in the end; if it fails, a `problem` is the last that is sent.

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
        end = time.monotonic() + LIFE_SECONDS * random.uniform(0.8, 1)  # noqa: S311
        coming = asyncio.ensure_future(anext(self._events, None))
        try:
            while (left := end - time.monotonic()) > 0:
                came, _ = await asyncio.wait([coming], timeout=min(BEAT_SECONDS, left))
                if await self._is_over():
                    break
                if not came:
                    await _sent(send, b": still here\n\n")
                    continue
                event = _came(coming)
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


def _came(coming: asyncio.Future[Sent | None]) -> Sent | None:
    """Return what has come, or the problem that nothing more will."""
    try:
        return coming.result()
    except Exception as error:
        told = problem_of(error)
        if told.code != "INTERNAL":  # which is in the log already
            logger.warning("a stream ends: %s", told.code)
        return Sent("problem", None, msgspec.Raw(encoded(told)))


def _text(sent: Sent) -> bytes:
    data = msgspec.json.encode(sent.data)  # has no line breaks
    place = b"" if sent.id is None else b"id: %s\n" % sent.id.encode()
    return b"event: %s\n%sdata: %s\n\n" % (sent.event.encode(), place, data)
