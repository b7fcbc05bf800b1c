"""Streams end with their readers: those that leave, that take nothing, and when the server stops."""

import asyncio
from typing import Any

import pytest

from refold.http import stream
from refold.http.stream import EventStream, Sent
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


async def test_an_error_in_it_is_not_swallowed() -> None:
    async def fails() -> Any:
        yield Sent("event", "1", {})
        raise RuntimeError("broken")

    async def send(message: Any) -> None: ...

    with pytest.raises(RuntimeError, match="broken"):
        await EventStream(fails())({"type": "http"}, lambda: until(asyncio.Event()), send)  # type: ignore[arg-type, return-value]


async def test_whether_there_is_one_can_be_asked() -> None:
    async with served(shop("memory:")) as client, asyncio.timeout(60):
        for path in ("/log/follow", "/views/Stock/watch"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert (await client.get("/version")).status_code == 200, "the connection is free"
