"""One request: who asks, of which app, and what was given; reading it is bounded in size, depth and number."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import UTC, datetime, tzinfo
from itertools import accumulate
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from refold.app import App
from refold.errors import PositionAhead
from refold.http.access import Principal
from refold.http.problem import Refusal
from refold.model.body import UNFIT, invalid, misfit

T = TypeVar("T")
POSITION = "Refold-Position"
"""The header that says from which position on an outcome can be seen."""
SEVERAL = ("types", "tags", "order")
"""Query parameters that may be given several times."""
LONGEST_ID = 200
"""Characters of an `Idempotency-Key`."""
MOST = 2**63 - 1
"""The greatest whole number that is taken: stores count no further."""
STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, also one that never ends: none is looked at twice, however it is made, for that would take for ever."""
STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
OTHERS = bytes(each for each in range(256) if each not in STEP)


class Limits(Struct, frozen=True):
    """What one request, or one who asks, may take."""

    body: int = 4 << 20
    """Bytes."""
    depth: int = 64
    """How deeply JSON may be nested."""
    parts: int = 100_000
    """How many arrays and objects JSON may have."""
    rows: int = 1_000
    """How many rows or events one answer may have."""
    per_second: float = 5_000.0
    """How many requests of one principal, on average."""
    streams: int = 100
    """How many open streams of one principal."""
    building: int = 2
    """For how many views of the past, which are made anew from the log, one principal may wait at once."""
    body_seconds: float = 30.0
    """How long a body may take to come."""


class Call:
    """A request to an endpoint."""

    def __init__(
        self,
        app: App,
        request: Request,
        principal: Principal,
        limits: Limits,
        building: Counter[str] | None = None,
    ) -> None:
        self.app = app
        self.request = request
        self.principal = principal
        self.limits = limits
        self._building = Counter[str]() if building is None else building
        self.headers: dict[bytes, bytes] = dict(request.scope["headers"])

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    @property
    def raw_path(self) -> str:
        """The path as it was asked for, encoded."""
        scope = self.request.scope
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        return raw.decode("ascii", "replace").partition("?")[0]

    def keys(self, parts: int) -> list[str]:
        """Return what follows so many parts of the path, each decoded: a key may hold a slash, written %2F."""
        # This path is encoded, and the root that an app is mounted under is not; both have the same parts.
        root = str(self.request.scope.get("root_path", "")).rstrip("/").count("/")
        return [unquote(each) for each in self.raw_path.split("/")[root + parts + 1 :] if each]

    def header(self, name: str) -> str | None:
        """Return a header by its name in small letters, if it is there."""
        found = self.headers.get(name.encode())
        return None if found is None else found.decode("latin-1")

    def text(self, name: str) -> str | None:
        """Return a query parameter, if it is there."""
        return self.request.query_params.get(name) if self.request.scope["query_string"] else None

    def texts(self, name: str) -> list[str]:
        """Return all values of a query parameter."""
        return self.request.query_params.getlist(name) if self.request.scope["query_string"] else []

    def must_ask(self, names: Collection[str]) -> None:
        """Refuse parameters of other names, and what is given twice and taken once: it was meant to say something."""
        if not self.request.scope["query_string"]:
            return
        for name, count in Counter(name for name, _ in self.request.query_params.multi_items()).items():
            if name not in names:
                known = ", ".join(names) or "none"
                raise Refusal(400, "INVALID_QUERY", f"there is no parameter {name[:40]!r} here; there is {known}")
            if count > 1 and name not in SEVERAL:
                raise Refusal(400, "INVALID_QUERY", f"{name[:40]} is given {count} times, and means one thing")

    def number(self, name: str, otherwise: int | None = None) -> int | None:
        """Return a query parameter that is a whole number."""
        text = self.text(name)
        if text is None:
            return otherwise
        return _whole(name, text)

    def limit(self, otherwise: int) -> int:
        """Return how many rows or events are asked for, no more than there may be."""
        return min(self.number("limit", otherwise) or 0, self.limits.rows)

    async def resumed(self) -> int | None:
        """Return the position after which a stream goes on, if one is given; refuse one that is not there yet."""
        last = self.header("last-event-id")
        after = _whole("Last-Event-ID", last) if last else self.number("after")
        if after and after > (head := await self.app.head()):  # the stream itself could not say so any more
            raise PositionAhead(f"cannot go on after {after}: the head is {head}")
        return after

    async def at_least(self) -> int:
        """Return the position that an answer is to show; refuse one that nothing could, for it would be waited for."""
        position = self.number("at_least", 0) or 0
        if position and position > (head := await self.app.head()):
            raise PositionAhead(f"at_least={position}: the head is {head}")
        return position

    def flag(self, name: str) -> bool:
        """Return a query parameter that is true or false."""
        text = self.text(name) or "false"
        if text not in ("true", "false"):
            raise _bad(name, text, "true or false")
        return text == "true"

    def moment(self, name: str) -> datetime | None:
        """Return a query parameter that is a time with a zone."""
        return self.read_moment(name, self.text(name))

    def read_moment(self, name: str, text: str | None, zone: tzinfo | None = None) -> datetime | None:
        """Read a time, or refuse it by the name of its field; one without a zone is refused, too, or in this one."""
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None and zone is None:
                raise _bad(name, text, "a time with a zone: 2026-03-01T12:00:00Z, where + is written %2B")
            moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
            moment.astimezone(UTC)  # which fails for some hours of the first year and of the last
        except (ValueError, OverflowError):
            raise _bad(name, text[:40], "a time: 2026-03-01T12:00:00Z") from None
        return moment

    def as_of(self) -> datetime | int | None:
        """Return the past that is asked for: a position, or a recorded time."""
        text = self.text("as_of")
        return self.number("as_of") if text is not None and text.isdecimal() else self.moment("as_of")

    def own_id(self, what: str) -> str | None:
        """Return the id of what comes with an `Idempotency-Key`; the same key of two principals is not the same id."""
        key = self.header("idempotency-key")
        return None if key is None else self.id_of(what, key)

    def id_of(self, what: str, key: str) -> str:
        """Return the id of what comes with a key."""
        if not 0 < len(key) <= LONGEST_ID:
            raise Refusal(400, "INVALID_QUERY", f"Idempotency-Key has 1 to {LONGEST_ID} characters")
        return f"{self.principal.name}/{what}/{key}"

    async def built(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what takes long, and is done for one after another; refuse who has enough of it waiting already.

        It is given up if its client leaves.
        """
        name, most = self.principal.name, self.limits.building
        if self._building[name] >= most:
            work.close()
            said = f"{name} asks for {most} views as they were already, which are made one after another"
            raise Refusal(429, "TOO_MANY", said, {"Retry-After": "1"})
        self._building[name] += 1
        doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(self._left())
        try:
            await asyncio.wait([doing, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise ClientDisconnect
            return doing.result()
        finally:
            doing.cancel()
            leaving.cancel()
            await asyncio.gather(doing, leaving, return_exceptions=True)
            self._building[name] -= 1
            if not self._building[name]:
                del self._building[name]

    async def _left(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass

    async def json(self, decode: Callable[[bytes], T], what: str) -> T:
        """Decode the body; refuse what is too large, too deep, or does not fit."""
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, "NOT_JSON", f"the body is {kind or 'of no type'}; send Content-Type: application/json")
        body = await self.body()
        self.check_depth(body)
        try:
            return decode(body)
        except UNFIT as error:
            raise invalid(what, misfit(error)) from None

    async def body(self) -> bytes:
        """Read the body, and no more of it, nor for longer, than may be."""
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                return await self._body()
        except TimeoutError:
            said = f"the body has not come within {self.limits.body_seconds:g} s"
            raise Refusal(408, "TOO_SLOW", said, {"Connection": "close"}) from None

    async def _body(self) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await self.request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limits.body:
                raise Refusal(
                    413, "TOO_LARGE", f"the body has more than {self.limits.body:,} bytes", {"Connection": "close"}
                )
        return bytes(body)

    def check_depth(self, body: bytes) -> None:
        """Refuse JSON that is too deep, or has too many parts."""
        if body.count(b"{") + body.count(b"[") <= min(self.limits.depth, self.limits.parts):
            return  # even if all of them were nested, and none stood in a string
        brackets = STRINGS.sub(b"", body).translate(None, OTHERS)
        parts, most = len(brackets) // 2, self.limits.parts
        if parts > most:
            raise Refusal(413, "TOO_LARGE", f"the body has {parts:,} arrays and objects; {most:,} are allowed")
        depth = max(accumulate(STEP[each] for each in brackets), default=0)
        if depth > self.limits.depth:
            raise Refusal(413, "TOO_LARGE", f"the body is nested {depth:,} deep; {self.limits.depth} is allowed")


class Json(Response):
    """An answer of JSON, put together by hand, since every command is answered so."""

    def __init__(self, body: bytes, status: int = 200, position: int | None = None) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        if position is not None:
            self.raw_headers.append((POSITION.lower().encode(), b"%d" % position))


def answer(value: Any, *, status: int = 200, position: int | None = None) -> Response:
    """Return a value as JSON."""
    return Json(msgspec.json.encode(value), status, position)


def whole(text: str | None, most: int = MOST) -> int | None:
    """Return the whole number that a text is; None if it is none, is negative, or is more than there may be."""
    if text is None or not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST))):
        return None
    number = int(text)
    return number if number <= most else None


def found(name: str, known: Mapping[str, T], what: str) -> T:
    """Return what an app has under a name, or say what it has."""
    if name not in known:
        raise Refusal(404, "NOT_FOUND", f"there is no {what} {name!r}; there is {', '.join(sorted(known)) or 'none'}")
    return known[name]


def _whole(name: str, text: str) -> int:
    number = whole(text)
    if number is None:
        raise _bad(name, text[:40], f"a whole number up to {MOST}")
    return number


def _bad(name: str, text: str | None, wanted: str) -> Refusal:
    return Refusal(400, "INVALID_QUERY", f"{name}={text!r}: write {wanted}")
