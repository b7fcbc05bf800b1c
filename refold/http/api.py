"""The app over HTTP: which endpoints there are, who may use them, and what every request goes through."""

import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from refold.app import App
from refold.http import causes, commands, health, log, metrics, operations, states, stories, views
from refold.http.access import Access, Principal, Role
from refold.http.call import Call, Limits, answer
from refold.http.openapi import document
from refold.http.problem import Refusal, response_to
from refold.http.routes import Routes
from refold.http.stream import EventStream
from refold.runtime.instruments import REQUEST_SECONDS, STREAMS, Figures

logger = logging.getLogger("refold.http")
Handle: TypeAlias = Callable[[Call], Awaitable[Response]]
MOST_KNOWN = 10_000
"""Of how many it is known what they have asked for, before those that have rested are forgotten."""
ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Headers of every answer."""


class Endpoint(Struct, frozen=True):
    """What can be asked, by whom, and what answers it."""

    method: str
    path: str
    role: Role | None
    """The least that one must be; None: anybody, even without a key."""
    handle: Handle
    asks: tuple[str, ...] | None = ()
    """The query parameters that it takes, and no others; None: it looks at them itself, or at none."""


async def described(call: Call) -> Response:
    """Return the OpenAPI document."""
    return answer(document(call.app))


WHEN = ("as_of", "effective")
STORY = ("after", "upto", "limit", "states", *WHEN)
ROW = ("at_least", "as_of")
QUERY = ("types", "tags", "query")
ENDPOINTS = (
    Endpoint("POST", "/commands/{name}", "writer", commands.execute, ("occurred_at",)),
    Endpoint("GET", "/states/{name}", "reader", states.load, WHEN),
    Endpoint("GET", "/states/{name}/{key:path}", "reader", states.load, WHEN),
    Endpoint("GET", "/stories/{name}", "reader", stories.tell, STORY),
    Endpoint("GET", "/stories/{name}/{key:path}", "reader", stories.tell, STORY),
    Endpoint("GET", "/causes/{position}", "reader", causes.tell),
    Endpoint("GET", "/views/{name}", "reader", views.find, None),
    Endpoint("GET", "/views/{name}/rows", "reader", views.get, ROW),
    Endpoint("GET", "/views/{name}/rows/{key:path}", "reader", views.get, ROW),
    Endpoint("GET", "/views/{name}/watch", "reader", views.watch, None),
    Endpoint("GET", "/log/events", "reader", log.read, (*QUERY, "after", "upto", "backwards", "limit")),
    Endpoint("POST", "/log/events", "admin", log.append),
    Endpoint("POST", "/log/read", "reader", log.read),
    Endpoint("GET", "/log/search", "reader", log.search, ("text", "since", "until", "before", "limit", *QUERY)),
    Endpoint("GET", "/log/appends/{id:path}", "admin", log.appended),
    Endpoint("GET", "/log/head", "reader", log.head),
    Endpoint("GET", "/log/follow", "reader", log.follow, (*QUERY, "after")),
    Endpoint("GET", "/operations/standing", "reader", operations.standing),
    Endpoint("GET", "/operations/projections/{name}", "reader", operations.versions),
    Endpoint("GET", "/operations/parked", "reader", operations.parked, ("of", "group", "limit")),
    Endpoint("GET", "/operations/parked/at/{position}", "reader", operations.inspect, ("of",)),
    Endpoint("GET", "/operations/skipped", "reader", operations.skipped, ("limit",)),
    Endpoint("GET", "/operations/waiting", "reader", operations.waiting, ("process", "limit")),
    Endpoint("GET", "/operations/audit", "reader", operations.audit, ("about", "actor", "before", "limit")),
    Endpoint("POST", "/operations/parked/retry", "operator", operations.retry),
    Endpoint("POST", "/operations/parked/skip", "operator", operations.skip),
    Endpoint("POST", "/operations/processes/{name}/give-up", "operator", operations.give_up),
    Endpoint("POST", "/operations/effects/{name}/repeat", "operator", operations.repeat),
    Endpoint("POST", "/operations/outbox/republish", "operator", operations.republish),
    Endpoint("POST", "/operations/projections/{name}/rebuild", "operator", operations.rebuild),
    Endpoint("POST", "/operations/projections/{name}/compare", "operator", operations.compare),
    Endpoint("POST", "/operations/projections/{name}/switch", "operator", operations.switch),
    Endpoint("POST", "/operations/projections/{name}/rollback", "operator", operations.rollback),
    Endpoint("POST", "/operations/projections/{name}/drop", "operator", operations.drop),
    Endpoint("GET", "/openapi.json", "reader", described),
    Endpoint("GET", "/health", None, health.alive, None),
    Endpoint("GET", "/ready", None, health.ready, None),
    Endpoint("GET", "/version", "reader", health.version),
    Endpoint("GET", "/metrics", "reader", metrics.scrape, None),
)


class Api:
    """An ASGI app: mount it in another, whose lifespan opens the app, or serve it by itself."""

    def __init__(self, app: App, access: Access | None = None, *, limits: Limits = Limits()) -> None:
        """Put an app on HTTP. Without `access` only programs on this machine are let in."""
        self.app = app
        self.access = access or Access()
        self.limits = limits
        self.watched = False
        """Whether a console shows the last minutes, so that they should be there when it is opened."""
        self._rates = Rates(limits.per_second)
        self._streams = Counter[str]()
        self._building = Counter[str]()
        self._routes = Routes((each.method, each.path, each) for each in ENDPOINTS)
        self._others = Router(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":  # the server starts or stops, or somebody wants a web socket
            await self._others(scope, receive, send)
            return

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *ALWAYS]
            await send(message)

        request = Request(scope, receive)
        try:
            response = await self._told(self._routes.find(request), request)
        except Refusal as refusal:
            response = response_to(refusal)
        await response(scope, receive, safely)

    async def _told(self, endpoint: Endpoint, request: Request) -> Response:
        """Have a request answered, measure how long that took, and go on with the trace of who asks."""
        telemetry, start = self.app.telemetry, time.perf_counter()
        method, path = endpoint.method, endpoint.path
        said: dict[str, str | int | float | bool] = {}
        parent = ""
        if telemetry.traces:
            # Not the path itself, which OpenTelemetry would have: keys in it may say who somebody is.
            said = {"http.request.method": method, "http.route": path, "url.scheme": request.scope["scheme"]}
            parent = request.headers.get("traceparent", "")
        with telemetry.span(f"{method} {path}", "server", parent=parent, said=said) as span:
            try:
                response = await self.answer(endpoint, request)
            except Exception as error:
                response = response_to(error)
            span.say("http.response.status_code", response.status_code)
            if response.status_code >= 500:
                span.fail(str(response.status_code))
            seconds = time.perf_counter() - start
            if logger.isEnabledFor(logging.INFO):
                more = telemetry.about(route=path, status=response.status_code)
                logger.info("%s %s: %s in %.1f ms", method, path, response.status_code, seconds * 1000, extra=more)
        telemetry.figures.time(REQUEST_SECONDS, method, path, str(response.status_code), seconds=seconds)
        return response

    async def answer(self, endpoint: Endpoint, request: Request) -> Response:
        """Let a request through what all have to pass, and have it answered."""
        principal = await self._let_in(endpoint, request)
        call = Call(self.app, request, principal, self.limits, self._building)
        if endpoint.asks is not None:
            call.must_ask(endpoint.asks)
        return self.counted(await endpoint.handle(call), principal)

    async def _let_in(self, endpoint: Endpoint, request: Request) -> Principal:
        if endpoint.role is None:
            return Principal("anybody", "reader")
        principal = await self.access.principal(request)
        self.admit(principal, endpoint.role)
        return principal

    def admit(self, principal: Principal, role: Role) -> None:
        """Refuse who may not, or has asked too much."""
        principal.must_be(role)
        self._rates.take(principal.name)

    def counted(self, response: Response, principal: Principal) -> Response:
        """Have a stream count as open until it ends, which it does when its reader would not be let in any more."""
        if not isinstance(response, EventStream):
            return response
        if self._streams[principal.name] >= self.limits.streams:
            raise Refusal(429, "TOO_MANY", f"{principal.name} has {self.limits.streams} open streams")
        if principal.proof:
            response.may_go_on = partial(self._is_let_in, principal)
        return _Counted(response, self._streams, principal.name, self.app.telemetry.figures)

    async def _is_let_in(self, principal: Principal) -> bool:
        try:
            return await self.access.again(principal.proof) == principal
        except Refusal:
            return False

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncGenerator[None]:
        async with self.app:
            if self.watched:
                self.app.pulse.start()
            yield


class _Counted(Response):
    """A stream that counts as open until it ends."""

    def __init__(self, stream: EventStream, open_: Counter[str], name: str, figures: Figures) -> None:
        self.status_code = stream.status_code
        self.background = None
        self._figures = figures
        self._stream, self._open, self._name = stream, open_, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._open[self._name] += 1
        self._figures.count(STREAMS)
        try:
            await self._stream(scope, receive, send)
        finally:
            self._open[self._name] -= 1
            if not self._open[self._name]:
                del self._open[self._name]
            self._figures.count(STREAMS, by=-1)


class Rates:
    """How much each may still ask now, by name: it fills up over time."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> None:
        """Count a request, or refuse it."""
        now = time.monotonic()
        if len(self._left) > MOST_KNOWN:  # who has asked for nothing for a second may ask for all, as if not known
            self._left = {each: known for each, known in self._left.items() if now - known[1] < 1}
        left, at = self._left.get(name, (self._per_second, now))
        left = min(left + (now - at) * self._per_second, self._per_second)
        if left < 1:
            raise Refusal(
                429, "TOO_MANY", f"more than {self._per_second:g} requests a second of {name}", {"Retry-After": "1"}
            )
        self._left[name] = (left - 1, now)
