"""The port of stores, spoken over HTTP as `docs/http.md` says: what a client in any language would do."""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec.structs import replace

import refold.errors
from refold.http.log import Wired
from refold.http.openapi import Position
from refold.model.query import Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Appended, Capability, Conditions, Page, bounded, conditions, is_name
from tests.http.serving import sent

ERRORS = {
    each.code: each
    for each in vars(refold.errors).values()
    if isinstance(each, type) and issubclass(each, refold.errors.RefoldError)
}


class EventPage(msgspec.Struct):
    events: list[Wired]
    upto: int
    next: dict[str, int] | None


T = TypeVar("T")


class HttpStore:
    """A log that is somewhere else."""

    capabilities = frozenset[Capability]()

    def __init__(
        self,
        client: httpx.AsyncClient,
        close: Callable[[], Coroutine[Any, Any, None]] | None = None,
        streaming: Callable[[], Coroutine[Any, Any, httpx.AsyncClient]] | None = None,
    ) -> None:
        self._client = client
        self._close = close
        self._streaming = streaming
        self._closed = False

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        body = {
            "events": [
                {
                    "type": each.type,
                    "version": each.version,
                    "tags": each.tags,
                    "data_base64": b64encode(each.data).decode(),
                    "metadata_base64": b64encode(each.metadata).decode(),
                }
                for each in events
            ],
            "condition": [replace(each, after=bounded(each.after)) for each in conditions(condition)],
            "append_id": append_id,
        }
        return await self._ask(Appended, "POST", "/log/events", body)

    async def appended(self, append_id: str) -> Appended | None:
        if not is_name(append_id):
            return None
        try:
            return await self._ask(Appended, "GET", f"/log/appends/{_quoted(append_id)}")
        except KeyError:
            return None

    async def read(
        self,
        query: Query = Query(),
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Page]:
        end = None if upto is None else bounded(upto)
        asked: dict[str, Any] = {"query": query, "after": bounded(after), "upto": end, "backwards": backwards}
        first: int | None = None
        while True:
            asked["limit"] = 700 if limit is None else min(limit, 700)
            page = await self._ask(EventPage, "POST", "/log/read", asked)
            first = page.upto if first is None else first
            limit = None if limit is None else limit - len(page.events)
            yield Page([_event(each) for each in page.events], first if backwards else page.upto)
            if page.next is None or limit == 0:
                return
            asked |= page.next

    async def head(self) -> int:
        return (await self._ask(Position, "GET", "/log/head")).position

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        params = {"query": msgspec.json.encode(query).decode(), "after": bounded(after)}
        self._check()
        client = self._client if self._streaming is None else await self._streaming()
        try:
            async with client.stream("GET", "/log/follow", params=params, timeout=None) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _error(response)
                async for each in sent(response):
                    if each["event"] == "event":
                        event = msgspec.json.decode(each["text"], type=Wired)
                        yield Page([_event(event)], event.position)
                    else:
                        yield Page([], int(each["id"]))
        except httpx.HTTPError:
            self._check()
            raise
        self._check()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._close is not None:
                await self._close()
            await asyncio.sleep(0)

    async def _ask(self, kind: type[T], method: str, path: str, body: Any = None) -> T:
        self._check()
        try:
            content = None if body is None else msgspec.json.encode(body)
        except UnicodeEncodeError as error:
            raise refold.errors.InvalidEvent(f"no JSON can hold this: {error}") from None
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            response = await self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError:
            self._check()
            raise
        if response.status_code != 200:
            raise _error(response)
        return msgspec.json.decode(response.content, type=kind)

    def _check(self) -> None:
        if self._closed:
            raise refold.errors.StoreClosed


def _event(given: Wired) -> StoredEvent:
    return StoredEvent(
        given.position,
        given.recorded_at,
        given.type,
        given.version,
        tuple(given.tags),
        _bytes(given.data, given.data_base64),
        _bytes(given.metadata, given.metadata_base64),
    )


def _bytes(raw: msgspec.Raw | msgspec.UnsetType, base64: str | None) -> bytes:
    if base64 is not None:
        return b64decode(base64)
    return b"" if isinstance(raw, msgspec.UnsetType) else bytes(raw)


def _error(response: httpx.Response) -> Exception:
    problem = response.json()
    if problem["code"] == "NOT_FOUND":
        return KeyError(problem["detail"])
    kind = ERRORS.get(problem["code"])
    if kind is None:
        return refold.errors.InvalidEvent(f"{problem['code']}: {problem['detail']}")
    return kind(problem["detail"], **{"position": problem["position"]} if "position" in problem else {})


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())
