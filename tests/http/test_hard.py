"""What a server stands: requests that are made to be misread, to fill its memory, or to hold on to it."""

import asyncio
import resource
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from refold.http import Access, Keys, Limits
from refold.http.tokens import create
from refold.runtime.instruments import REQUEST_SECONDS
from tests.http.serving import served
from tests.http.shop import shop

COMMAND = b"POST /commands/ReceiveStock HTTP/1.1\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"sku": "tea", "quantity": 1}'
GOOD = COMMAND + b"Host: 127.0.0.1\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
HIDDEN = (
    b"POST /log/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    + JSON
    + b'Content-Length: 29\r\n\r\n{"events": [{"type": "Evil"}]}'
)


@asynccontextmanager
async def connected(client: httpx.AsyncClient) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def asked(client: httpx.AsyncClient, request: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    async with connected(client) as (reader, writer):
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(60):
            return await reader.read()


MISREAD = {
    "two lengths": COMMAND + b"Host: 127.0.0.1\r\n" + JSON + b"Content-Length: 0\r\nContent-Length: 29\r\n\r\n" + BODY,
    "a length and chunks": COMMAND
    + b"Host: 127.0.0.1\r\n"
    + JSON
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "chunks by another name": COMMAND
    + b"Host: 127.0.0.1\r\n"
    + JSON
    + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "chunks in two headers": COMMAND
    + b"Host: 127.0.0.1\r\n"
    + JSON
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "a space before the colon": COMMAND
    + b"Host: 127.0.0.1\r\n"
    + JSON
    + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "a folded header": COMMAND
    + b"Host: 127.0.0.1\r\n"
    + JSON
    + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "a negative length": COMMAND + b"Host: 127.0.0.1\r\n" + JSON + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length with a sign": COMMAND + b"Host: 127.0.0.1\r\n" + JSON + b"Content-Length: +29\r\n\r\n" + BODY,
    "a chunk of no size": COMMAND
    + b"Host: 127.0.0.1\r\n"
    + JSON
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "no host": COMMAND + JSON + b"Content-Length: 29\r\n\r\n" + BODY,
    "two hosts": COMMAND + b"Host: 127.0.0.1\r\nHost: evil.example\r\n" + JSON + b"Content-Length: 29\r\n\r\n" + BODY,
    "another host": COMMAND + b"Host: evil.example\r\n" + JSON + b"Content-Length: 29\r\n\r\n" + BODY,
    "a whole address": b"POST http://evil.example/commands/ReceiveStock HTTP/1.1\r\nHost: evil.example\r\n"
    + JSON
    + b"Content-Length: 29\r\n\r\n"
    + BODY,
    "a NUL in a header": COMMAND + b"Host: 127.0.0.1\r\nX: a\x00b\r\n" + JSON + b"Content-Length: 29\r\n\r\n" + BODY,
    "a line feed in a header": COMMAND
    + b"Host: 127.0.0.1\r\nX: a\rY: b\r\n"
    + JSON
    + b"Content-Length: 29\r\n\r\n"
    + BODY,
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no method": b"\x00\x00 / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


async def test_a_request_that_could_be_read_in_two_ways_does_nothing() -> None:
    app = shop("memory:", projections=[])
    async with served(app) as client:
        for name, request in MISREAD.items():
            answer = await asked(client, request)
            assert b"200 OK" not in answer, (name, answer)
            assert b" 500 " not in answer, (name, answer)
            assert await app.head() == 0, name
        assert (await asked(client, GOOD)).startswith(b"HTTP/1.1 200"), "the server goes on"


async def test_what_never_ends_is_stopped_before_it_fills_the_memory() -> None:
    app = shop("memory:", projections=[])
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    async with served(app) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with connected(client) as (reader, writer):
            writer.write(COMMAND + b"Host: 127.0.0.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n")
            sent = 0
            try:
                while sent < 1 << 30 and not reader.at_eof():
                    writer.write(chunk)
                    sent += 65536
                    async with asyncio.timeout(60):
                        await writer.drain()
                    await asyncio.sleep(0)
            except ConnectionError:
                pass
            try:
                answer = await reader.read()
            except ConnectionError:
                answer = b""
        assert answer.startswith(b"HTTP/1.1 413") or not answer
        assert sent < 64 << 20, "it took far more than it may"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


async def test_a_body_that_takes_its_time_is_not_waited_for() -> None:
    async with served(shop("memory:", projections=[]), limits=Limits(body_seconds=0.05)) as client:
        for path in (b"commands/ReceiveStock", b"log/events"):
            async with connected(client) as (reader, writer), asyncio.timeout(20):
                head = b"POST /" + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + JSON
                writer.write(head + b"Content-Length: 29\r\n\r\n{")
                answer = await reader.read()  # to the end: the connection is closed
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"TOO_SLOW" in answer


async def test_who_leaves_amid_a_body_is_no_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    app = shop("memory:", projections=[])

    def statuses() -> set[str]:
        return {labels[2] for labels, _ in app.telemetry.figures.spreads(REQUEST_SECONDS)}

    async with served(app) as client, asyncio.timeout(20):
        async with connected(client) as (_, writer):
            writer.write(COMMAND + b"Host: 127.0.0.1\r\n" + JSON + b"Content-Length: 29\r\n\r\n{")
            await writer.drain()
        while not statuses():
            await asyncio.sleep(0.01)
    assert statuses() == {"499"}
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


BOMBS = {
    "lists": b'{"sku": %s, "quantity": 1}' % (b"[" * 100_000 + b"]" * 100_000),
    "many lists": b'{"sku": [%s], "quantity": 1}' % b",".join([b"[]"] * 1_000_000),
    "a long number": b'{"sku": "tea", "quantity": %s}' % (b"9" * 1_000_000),
    "a great exponent": b'{"sku": "tea", "quantity": 1e999999}',
    "a great decimal": b'{"order_id": "o", "sku": "tea", "quantity": 1, "total": "1e999999999"}',
    "a long decimal": b'{"order_id": "o", "sku": "tea", "quantity": 1, "total": "%s"}' % (b"9" * 1_000_000),
    "many keys": b"{%s}" % b",".join(b'"k%d": 1' % number for number in range(200_000)),
    "one key often": b"{%s}" % b",".join([b'"sku": "tea"'] * 200_000),
    "a long text": b'{"sku": "%s", "quantity": 1}' % (b"\\u0000" * 500_000),
    "no number": b'{"sku": "tea", "quantity": NaN}',
    "half a pair": b'{"sku": "\\ud800", "quantity": 1}',
}


@pytest.mark.parametrize("to", ["/commands/ReceiveStock", "/commands/PlaceOrder", "/log/events", "/log/read"])
async def test_json_that_is_made_to_burst_is_answered_soon(to: str) -> None:
    async with served(shop("memory:", projections=[])) as client:
        for name, bomb in BOMBS.items():
            begun = time.process_time()
            answer = await client.post(to, content=bomb, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (name, answer.text[:300])
            assert time.process_time() - begun < 2, name
            assert len(answer.content) < 100_000, name


async def test_one_who_opens_streams_without_end_is_told_to_wait_and_others_are_not(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    one, other = create(keys, "one", "reader"), create(keys, "other", "reader")
    limits = Limits(streams=20, per_second=100_000)
    async with served(shop("memory:", projections=[]), Access(Keys(keys)), limits=limits) as client:
        head = "GET /log/follow HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\r\n"

        async def opened(exits: AsyncExitStack, token: str) -> bytes:
            reader, writer = await exits.enter_async_context(connected(client))
            writer.write(head.format(token).encode())
            return (await reader.readline())[9:12]

        async with AsyncExitStack() as exits:
            said = [await opened(exits, one) for _ in range(20)]
            for _ in range(48):
                async with AsyncExitStack() as refused:
                    said += await asyncio.gather(*(opened(refused, one) for _ in range(100)))
            assert (said.count(b"200"), said.count(b"429")) == (20, 4_800)
            assert await opened(exits, other) == b"200"
