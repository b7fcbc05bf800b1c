"""Streams end with their readers: those that leave, that take nothing, and when the server stops."""

import asyncio
from typing import Any

import msgspec
import pytest

from refold.errors import SubscriptionFailed
from refold.http import stream
from refold.http.stream import EventStream, Sent
from refold.runtime.instruments import REQUEST_SECONDS, STREAMS
from tests.http.serving import served
from tests.http.shop import shop


async def forever() -> Any:
    try:
        number = 0
        while True:
            yield Sent("event", str(number), {"text": "a\nb", "number": number})
            number += 1
            await asyncio.sleep(0)
    finally:
        ENDED.append(True)


ENDED: list[bool] = []


@pytest.fixture(autouse=True)
def nothing_has_ended() -> None:
    ENDED.clear()


async def never() -> Any:
    await asyncio.Event().wait()
    yield None


async def until(event: asyncio.Event) -> dict[str, str]:
    await event.wait()
    return {"type": "http.disconnect"}


async def test_an_event_has_a_name_a_place_and_data_on_one_line() -> None:
    gone, bodies = asyncio.Event(), list[bytes]()

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))
        if len(bodies) > 3:
            gone.set()

    await EventStream(forever())({"type": "http"}, lambda: until(gone), send)  # type: ignore[arg-type, return-value]
    assert bodies[1] == b'event: event\nid: 0\ndata: {"text":"a\\nb","number":0}\n\n'
    assert ENDED == [True]


async def test_a_reader_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SEND_SECONDS", 0.05)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with asyncio.timeout(60):
        await EventStream(forever())({"type": "http"}, lambda: until(asyncio.Event()), send)  # type: ignore[arg-type, return-value]
    assert ENDED == [True]


async def test_one_on_which_nothing_happens_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BEAT_SECONDS", 0.01)
    gone, bodies = asyncio.Event(), list[bytes]()

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))
        if len(bodies) > 2:
            gone.set()

    async with asyncio.timeout(60):
        await EventStream(never())({"type": "http"}, lambda: until(gone), send)  # type: ignore[arg-type, return-value]
    assert bodies[1:3] == [b": still here\n\n"] * 2


@pytest.mark.parametrize(
    ("error", "code", "records"),
    [(RuntimeError("geheim"), "INTERNAL", 1), (SubscriptionFailed("it has stopped"), "SUBSCRIPTION_FAILED", 1)],
)
async def test_one_that_fails_says_so_and_ends(
    error: Exception, code: str, records: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> Any:
        yield Sent("event", "1", {})
        raise error

    bodies: list[bytes] = []

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))

    await EventStream(fails())({"type": "http"}, lambda: until(asyncio.Event()), send)  # type: ignore[arg-type, return-value]
    [_, _, told, end] = bodies
    head, _, data = told.partition(b"\ndata: ")
    assert (head, end) == (b"event: problem", b""), "without an id, so that who comes back begins where it was"
    assert msgspec.json.decode(data)["code"] == code
    assert b"geheim" not in told
    assert len(caplog.records) == records


async def test_none_lasts_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.05)
    bodies: list[bytes] = []

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))

    async with asyncio.timeout(20):
        await EventStream(never())({"type": "http"}, lambda: until(asyncio.Event()), send)  # type: ignore[arg-type, return-value]
    assert bodies[-1] == b""


async def test_one_whose_reader_has_asked_for_more_behind_it_ends_after_its_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.5)
    app = shop("memory:")
    asked = b"GET /log/follow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with served(app) as client, asyncio.timeout(30):
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(asked)
            await writer.drain()
            writer.close()
        figures = app.telemetry.figures
        while (
            sum(sum(spread.counts) for labels, spread in figures.spreads(REQUEST_SECONDS) if "/log/follow" in labels)
            < 10
        ):
            await asyncio.sleep(0.05)
        while dict(figures.values(STREAMS)).get((), 0):
            await asyncio.sleep(0.05)


async def test_whether_there_is_one_can_be_asked() -> None:
    async with served(shop("memory:")) as client, asyncio.timeout(60):
        for path in ("/log/follow", "/views/Stock/watch"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert (await client.get("/version")).status_code == 200, "the connection is free"
