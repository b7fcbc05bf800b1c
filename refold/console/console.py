"""The console as an ASGI app: which pages there are, who may see them, and what every visit goes through."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from refold.console import (
    audit,
    causes,
    commands,
    contract,
    log,
    login,
    overview,
    parked,
    processes,
    projections,
    search,
    story,
)
from refold.console.session import PREFIX, Sessions
from refold.console.template import FILES, environment
from refold.console.visit import Desk, Visit
from refold.http.access import Principal, Role, must_be_own_page
from refold.http.api import ALWAYS, Api
from refold.http.problem import Refusal, problem_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
GUARDS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Headers of every page, beside those of every answer."""
KEEP = (b"cache-control", b"public, max-age=31536000, immutable")
"""Of static files, whose addresses change with them."""
Handle: TypeAlias = Callable[[Visit], Awaitable[Response]]


class Page(Struct, frozen=True):
    """What can be seen or done in the console, by whom, and what makes it."""

    method: str
    path: str
    role: Role
    """The least that one must be."""
    handle: Handle
    title: str = ""
    """By which the navigation names it; empty for what is reached from another page."""
    narrowed: bool = False
    """Whether it minds the rules that narrow what somebody sees; otherwise only who sees all is let in."""


PAGES = (
    Page("GET", "/", "reader", overview.show, "Overview", narrowed=True),
    Page("GET", "/overview/data", "reader", overview.data),
    Page("GET", "/log", "reader", log.show, "Log", narrowed=True),
    Page("GET", "/log/live", "reader", log.live, narrowed=True),
    Page("GET", "/log/{position}", "reader", log.event, narrowed=True),
    Page("GET", "/search", "reader", search.show, narrowed=True),
    Page("GET", "/palette", "reader", search.palette, narrowed=True),
    Page("GET", "/stories", "reader", story.begin, "Stories", narrowed=True),
    Page("GET", "/stories/{name}", "reader", story.show, narrowed=True),
    Page("GET", "/stories/{name}/{key:path}", "reader", story.show, narrowed=True),
    Page("GET", "/causes/{position}", "reader", causes.show, narrowed=True),
    Page("GET", "/projections", "reader", projections.board, "Projections"),
    Page("GET", "/projections/{name}", "reader", projections.show),
    Page("GET", "/projections/{name}/compare", "operator", projections.compare),
    Page("POST", "/projections/{name}/rebuild", "operator", projections.rebuild),
    Page("POST", "/projections/{name}/switch", "operator", projections.switch),
    Page("POST", "/projections/{name}/rollback", "operator", projections.rollback),
    Page("GET", "/projections/{name}/drop", "operator", projections.ask_drop),
    Page("POST", "/projections/{name}/drop", "operator", projections.drop),
    Page("GET", "/parked", "reader", parked.show, "Parked"),
    Page("GET", "/parked/skipped", "reader", parked.skipped),
    Page("GET", "/parked/at/{position}", "reader", parked.inspect),
    Page("POST", "/parked/retry", "operator", parked.retry),
    Page("GET", "/parked/skip", "operator", parked.ask_skip),
    Page("POST", "/parked/skip", "operator", parked.skip),
    Page("GET", "/processes", "reader", processes.show, "Processes"),
    Page("POST", "/processes/resume", "operator", processes.resume),
    Page("GET", "/processes/give-up", "operator", processes.ask_give_up),
    Page("POST", "/processes/give-up", "operator", processes.give_up),
    Page("GET", "/audit", "reader", audit.show, "Audit"),
    Page("GET", "/commands", "writer", commands.show, "Commands", narrowed=True),
    Page("GET", "/commands/{name}", "writer", commands.ask, narrowed=True),
    Page("POST", "/commands/{name}", "writer", commands.run, narrowed=True),
    Page("GET", "/commands/{name}/outcomes/{key:path}", "writer", commands.came, narrowed=True),
    Page("GET", "/contract/", "reader", contract.show, "Contract"),
    Page("GET", "/contract/{path:path}", "reader", contract.file),
)
"""In the order of the navigation. Each page is in the tests' own table, too."""


class Console:
    """An ASGI app: the pages under /console/, and the API under all other paths."""

    def __init__(self, api: Api, *, address: str = "module:app") -> None:
        """Put a console over an API; `address` is what the command line calls the app: `shop.main:app`."""
        self.api = api
        api.watched = True
        sessions = Sessions(api.access)
        self._desk = Desk(api, sessions, environment(), address)
        routes = [Route(each.path, _Bound(self._desk, each), methods=[each.method]) for each in PAGES]
        doors = login.Doors(self._desk)
        routes += [
            Route("/login", doors.ask, methods=["GET"]),
            Route("/login", doors.enter, methods=["POST"]),
            Route("/logout", doors.leave, methods=["POST"]),
            Route("/static/{path:path}", _static, methods=["GET"]),
        ]
        missing = {404: self._missing, 405: self._missing}
        self._asgi = Starlette(routes=[Mount(PREFIX, routes=routes)], exception_handlers=missing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or not (path == "/" or path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self.api(scope, receive, send)
            return

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = path.startswith(f"{PREFIX}/static/") and message["status"] == 200
                always = (KEEP, *ALWAYS[1:]) if kept else ALWAYS
                message = {**message, "headers": [*message["headers"], *always, *GUARDS]}
            await send(message)

        if path in ("/", PREFIX):
            await RedirectResponse(f"{scope.get('root_path', '')}{PREFIX}/", 307)(scope, receive, safely)
        else:
            await self._asgi(scope, receive, safely)

    async def _missing(self, request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        return _told(self._desk, request, Refusal(status, "NOT_FOUND", "there is no such page"))


class _Bound:
    """A page of a console, as an ASGI app."""

    def __init__(self, desk: Desk, page: Page) -> None:
        self._desk = desk
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:
            response = _told(self._desk, request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "GET" and login.is_from_elsewhere(request):
            return login.over(self._desk, request)
        principal = await self._desk.sessions.principal(request)
        if principal is None:
            return login.first(self._desk, request)
        if request.method not in ("GET", "HEAD"):
            must_be_own_page(request)
        self._desk.api.admit(principal, self._page.role)
        if not (principal.sees_all or self._page.narrowed):
            raise Refusal(403, "FORBIDDEN", f"{principal.name} may see a part only, and this page shows the whole")
        response = await self._page.handle(Visit(self._desk, request, principal, navigation(principal)))
        return self._desk.api.counted(response, principal)


def navigation(principal: Principal) -> list[tuple[str, str]]:
    """Return paths and titles of the pages that somebody may see."""
    return [
        (page.path.strip("/"), page.title)
        for page in PAGES
        if page.title and principal.can_be(page.role) and (principal.sees_all or page.narrowed)
    ]


async def _static(request: Request) -> Response:
    file = FILES.get(request.path_params["path"])
    if file is None:
        raise HTTPException(404)
    return FileResponse(file)


def _told(desk: Desk, request: Request, error: Exception) -> Response:
    """Return the page that says what went wrong."""
    problem = problem_of(error)
    visit = Visit(desk, request, Principal("", "reader"), [])
    response = visit.page("problem.html", status=problem.status, problem=problem)
    response.headers.update(problem.headers)
    return response
