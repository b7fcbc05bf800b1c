"""A visit to a page: who comes, what they ask for or send, and what they are shown."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from refold.console.session import Sessions, root_of
from refold.contract.describe import Contract
from refold.http.access import Principal
from refold.http.api import Api
from refold.http.call import Call
from refold.http.problem import Refusal

FIELDS = 2_000
"""How many fields a form may have: more than a page ever shows, so that none is lost; see `refold.console.form`."""


class Desk:
    """What all visits to a console share."""

    def __init__(self, api: Api, sessions: Sessions, templates: Environment, address: str) -> None:
        self.api = api
        self.sessions = sessions
        self.templates = templates
        self.address = address
        """The app as the command line knows it: `shop.main:app`."""

    @cached_property
    def contract(self) -> Contract:
        """What the app is made of."""
        return self.api.app.contract()


class Visit(Call):
    """A request to a page."""

    def __init__(self, desk: Desk, request: Request, principal: Principal, nav: Sequence[tuple[str, str]]) -> None:
        super().__init__(desk.api.app, request, principal, desk.api.limits)
        self.desk = desk
        self.nav = nav
        """Paths and titles of the pages that this principal may see."""

    @cached_property
    def root(self) -> str:
        """The path under which the console stands."""
        return root_of(self.request)

    @property
    def here(self) -> str:
        """The path and query of this page, to come back to."""
        query = self.request.url.query
        return f"{self.raw_path}{'?' if query else ''}{query}"

    def url(self, *parts: Any, **query: Any) -> str:
        """Return where a page is: `url("stories", "Order", "o-1", as_of=42)`; parts are encoded, None left out."""
        said = {name: value for name, value in query.items() if value is not None and value != ""}
        path = "/".join(quote(str(part).encode(errors="replace"), safe="") for part in parts)
        return f"{self.root}/{path}{'?' if said else ''}{urlencode(said, doseq=True, errors='replace')}"

    def may(self, role: Any) -> bool:
        """Tell whether who comes may do what takes a role."""
        return self.principal.can_be(role)

    def moment(self, name: str) -> datetime | None:
        """Return a time that an address or a form has, in UTC, which it also means without a zone."""
        moment = self.read_moment(name, (self.text(name) or "").strip() or None, UTC)
        return moment and moment.astimezone(UTC)

    async def form(self) -> dict[str, str]:
        """Return the fields of the form that was sent; of several with a name the last."""
        return dict(await self.fields())

    async def fields(self) -> list[tuple[str, str]]:
        """Return the fields of the form that was sent, in their order."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Refusal(415, "NOT_A_FORM", f"this takes a form, and got {kind or 'nothing'}")
        body = await self.body()
        try:
            return parse_qsl(
                body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=FIELDS, errors="strict"
            )
        except ValueError as error:
            raise Refusal(400, "INVALID_BODY", f"this is no form: {error}") from None

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        sessions, request = self.desk.sessions, self.request
        notice = sessions.noted(request)
        text = self.desk.templates.get_template(template).render(visit=self, url=self.url, notice=notice, **values)
        response = HTMLResponse(text, status)
        if notice is not None:
            sessions.said(request, response)
        return response

    def go(self, *parts: Any, notice: str = "", good: bool = True, **query: Any) -> Response:
        """Send to another page, which says what has come of what was asked here."""
        response = RedirectResponse(self.url(*parts, **query), 303)
        if notice:
            self.desk.sessions.note(self.request, response, notice, good=good)
        return response

    def shell(self, *words: str, **options: Any) -> str:
        """Return what does the same on the command line: `refold parked retry shop.main:app …`."""
        return command_line(self.desk.address, words, options)


def command_line(app: str, words: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return a command line; `APP` among the words stands for the app."""
    said = [f"--{name.replace('_', '-')}={shlex.quote(str(value))}" for name, value in options.items() if value]
    return " ".join(["refold", *(app if word == "APP" else shlex.quote(word) for word in words), *said])
