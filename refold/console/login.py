"""Coming in with a key, and going out again."""

from urllib.parse import urlsplit

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from refold.console.visit import Desk, Visit
from refold.http.access import Principal, must_be_own_page
from refold.http.api import Rates
from refold.http.problem import Refusal, problem_of

LONGEST = 8 << 10
"""Bytes of what one comes in with: anybody may send it."""
NOBODY = Principal("", "reader")
PER_SECOND = 5.0
"""How many wrong keys are looked into; more are told to wait, but never one who has a right key.

No rate would matter to who guesses 256 bits; and by its address, everybody behind a proxy is one.
"""


class Doors:
    """Where one comes in and goes out."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rates = Rates(PER_SECOND)

    async def ask(self, request: Request) -> Response:
        """Show the form that takes a key."""
        return self._form(request)

    async def enter(self, request: Request) -> Response:
        """Begin a session, or say that this is no key."""
        visit, wanted = Visit(self._desk, request, NOBODY, []), ""
        try:
            must_be_own_page(request)
            visit.limits = replace(visit.limits, body=LONGEST)
            form = await visit.form()
            wanted = form.get("next", "")
            response = RedirectResponse(_own(wanted, visit), 303)
            await self._desk.sessions.begin(request, response, form.get("key", "").strip())
        except Exception as error:
            return self._refused(request, error, wanted)
        return response

    async def leave(self, request: Request) -> Response:
        """End a session."""
        try:
            must_be_own_page(request)
        except Refusal as refusal:
            return self._refused(request, refusal)
        response = Visit(self._desk, request, NOBODY, []).go("login")
        self._desk.sessions.end(request, response)
        return response

    def _refused(self, request: Request, error: Exception, wanted: str = "") -> Response:
        problem = problem_of(error)
        if problem.status == 401:
            try:
                self._rates.take("wrong keys")
            except Refusal as refusal:
                problem = problem_of(refusal)
        response = self._form(request, problem.status, problem.detail, wanted)
        response.headers.update(problem.headers)
        return response

    def _form(self, request: Request, status: int = 200, said: str = "", wanted: str = "") -> Response:
        visit = Visit(self._desk, request, NOBODY, [])
        return visit.page(
            "login.html",
            status=status,
            said=said,
            next=wanted or request.query_params.get("next", ""),
            is_local=self._desk.api.access.is_local,
        )


def first(desk: Desk, request: Request) -> Response:
    """Send somebody who has no session to where they come in, and from there to where they wanted to go."""
    visit = Visit(desk, request, NOBODY, [])
    to = visit.url("login", next=visit.here if request.method == "GET" else None)
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": to})
    return RedirectResponse(to, 303)


def is_from_elsewhere(request: Request) -> bool:
    """Tell whether a link of another site leads here, by which browsers bring no cookie of ours."""
    said = {name: request.headers.get(f"sec-fetch-{name}", "") for name in ("site", "mode", "dest")}
    return said == {"site": "cross-site", "mode": "navigate", "dest": "document"}


def over(desk: Desk, request: Request) -> Response:
    """Answer somebody from elsewhere with a page that asks for this one again: then this site leads here."""
    return Visit(desk, request, NOBODY, []).page("over.html")


def _own(wanted: str, visit: Visit) -> str:
    """Return where somebody wanted to go, if that is in this console."""
    try:
        parts = urlsplit(wanted)
    except ValueError:  # of what no address looks like
        return visit.url("")
    inside = wanted.startswith(f"{visit.root}/") and not parts.scheme and not parts.netloc and "\\" not in wanted
    return wanted if inside and wanted.isprintable() else visit.url("")
