"""Log records are lines that programs can read, say what they are about, and tell no secrets."""

import io
import logging
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from refold.runtime.logs import JsonLines, TextLines, cleaned
from tests.conftest import Log
from tests.runtime.clicks import BROKEN, Clicked, Failing, clicks

CANARY = "canary-5f1d"
IN = "https://a.example/in?access_token=***&Client-Secret=***#x"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    text, root = io.StringIO(), logging.getLogger("refold")
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    before, root.level = root.level, logging.DEBUG
    logging.getLogger("refold.subscription").setLevel(logging.NOTSET)
    yield text
    root.removeHandler(handler)
    root.level = before
    BROKEN.clear()


def read(text: io.StringIO) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in text.getvalue().splitlines()]


def record(message: str, *values: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("refold.test", logging.WARNING, "x.py", 1, message, values, None)
    vars(made).update(more)
    return made


async def test_what_is_parked_says_of_what_where_and_why(log: Log, lines: io.StringIO) -> None:
    BROKEN.add("a")
    async with clicks(log, name="web") as app:
        await app.record(Clicked("b"), Failing("a"), correlation_id="story-1")
        await app.settle(parked=True)
    [parked] = [each for each in read(lines) if "parks" in each["message"]]
    assert (
        parked.items()
        >= {
            "level": "error",
            "logger": "refold.subscription",
            "app": "web",
            "subscription": "Clicks",
            "position": 2,
            "correlation_id": "story-1",
            "code": "ValueError",
        }.items()
    )
    assert parked["at"].endswith("Z")
    assert "a is broken" not in lines.getvalue(), "what programs say of events is kept with the event"


async def test_what_begins_is_told(log: Log, lines: io.StringIO) -> None:
    async with clicks(log) as app:
        await app.settle()
    assert any("goes on behind position 0" in each["message"] for each in read(lines))


def test_the_trace_under_way_is_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    with trace.get_tracer("x").start_as_current_span("y") as span:
        found = msgspec.json.decode(JsonLines().format(record("hello")))
        assert found["trace_id"] == f"{span.get_span_context().trace_id:032x}"
        assert f"trace_id={found['trace_id']}" in TextLines().format(record("hello"))
    assert "trace_id" not in msgspec.json.decode(JsonLines().format(record("hello")))


def test_one_record_is_one_line_whatever_it_says() -> None:
    hostile = "first\nsecond\x1b[31m\ud800 \u202e"
    for form in (JsonLines(), TextLines()):
        line = form.format(record("%s", hostile, about=hostile))
        assert "\n" not in line
        assert "\x1b" not in line
        line.encode()


def test_an_error_comes_with_its_traceback() -> None:
    def fails() -> None:
        raise ValueError(f"postgresql://me:{CANARY}@db/shop is away")

    try:
        fails()
    except ValueError as error:
        made = record("failed", exc_info=(ValueError, error, error.__traceback__), nothing=None, path=["a"])
    found = msgspec.json.decode(JsonLines().format(made))
    assert "Traceback" in found["error"]
    assert found["path"] == "['a']"
    assert "nothing" not in found
    for line in (JsonLines().format(made), TextLines().format(made)):
        assert CANARY not in line
        assert "postgresql://me:***@db/shop is away" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nats://ann:s3cret@broker:4222", "nats://ann:***@broker:4222"),
        ("redis://:s3cret@cache/0", "redis://:***@cache/0"),
        ("Authorization: Bearer refold_abcdefgh12", "Authorization: Bearer ***"),
        ("authorization: basic YWxhZGRpbjpvcGVu", "authorization: basic ***"),
        ("sqlite:///shop.db at 12:30:00 by me@here.example", "sqlite:///shop.db at 12:30:00 by me@here.example"),
        ("http://127.0.0.1:8080/a@b", "http://127.0.0.1:8080/a@b"),
        ("http://broker.example:8080/a@b and [::1]", "http://broker.example:8080/a@b and [::1]"),
        ("postgresql://ann:p/w@db/x is away", "postgresql://ann:***@db/x is away"),
        ("postgresql://ann:p@w/2@db/x?schema=s", "postgresql://ann:***@db/x?schema=s"),
        ("postgresql://db/x?user=a&password=geheim", "postgresql://db/x?user=a&password=***"),
        ("postgresql://db/x?sslpassword=geheim&schema=s", "postgresql://db/x?sslpassword=***&schema=s"),
        ("https://a.example/in?access_token=geheim&Client-Secret=geheim#x", IN),
        ("basic authentication is needed", "basic authentication is needed"),
        ("the bearer. Authentication failed", "the bearer. Authentication failed"),
        ("Bearer eyJhbGciOi.J9-x is refused", "Bearer *** is refused"),
        ("'authorization': 'Basic onlylettersinit'", "'authorization': 'Basic ***"),
    ],
)
def test_passwords_and_tokens_are_taken_out(text: str, expected: str) -> None:
    assert cleaned(text) == expected


@pytest.mark.parametrize("text", ["://a:", "?passpass", "Basic a.a.a.", "authorization ", "&token"])
def test_no_text_takes_long_to_clean(text: str) -> None:
    started = time.process_time()
    cleaned(text * 20_000)
    assert time.process_time() - started < 1
