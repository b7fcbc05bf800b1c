"""Sessions: who has come in with a key stays in for some hours, by a signed cookie that no other site can send.

The cookie says by which proof they are known again, and the keys are asked each time: who is revoked is out.
"""

import os
import secrets
from urllib.parse import quote

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from refold.http.access import Access, Principal, is_loopback

PREFIX = "/console"
SECRET = "REFOLD_CONSOLE_SECRET"  # noqa: S105 - the name of a variable
"""What cookies are signed with, if several processes serve one console; else each makes its own."""
SESSION = "refold_session"
NOTICE = "refold_notice"
SECONDS = 12 * 3600
NOTICE_SECONDS = 60
MOST_ENDED = 10_000
"""How many sessions that were ended are remembered."""


def root_of(request: Request) -> str:
    """Return the path under which the console of a request stands, encoded."""
    root = quote(str(request.scope.get("root_path", "")).rstrip("/"))
    return root if root.endswith(PREFIX) else root + PREFIX


class Sessions:
    """Begins, knows and ends sessions, and carries what is said on the page after an action."""

    def __init__(self, access: Access) -> None:
        self._access = access
        secret = os.environ.get(SECRET) or secrets.token_urlsafe(32)
        self._sessions = URLSafeTimedSerializer(secret, salt=SESSION)
        self._ended: dict[str, None] = {}
        """By their numbers, the oldest first."""
        self._notices = URLSafeTimedSerializer(secret, salt=NOTICE)

    async def principal(self, request: Request) -> Principal | None:
        """Return who asks; None if they have to come in first."""
        if self._access.is_local:
            return await self._access.principal(request)
        cookie = request.cookies.get(SESSION, "")
        try:
            proof, number = self._sessions.loads(cookie, max_age=SECONDS)
        except (BadData, TypeError, ValueError):
            return None
        return None if number in self._ended else await self._access.again(str(proof))

    async def begin(self, request: Request, response: Response, token: str) -> Principal:
        """Let in who has this key or token, or refuse; the response brings the cookie."""
        principal = await self._access.owner(token)
        self._set(
            request, response, SESSION, str(self._sessions.dumps([principal.proof, secrets.token_hex(8)])), SECONDS
        )
        return principal

    def end(self, request: Request, response: Response) -> None:
        """Forget who has come in; the cookie is good for nothing from now on, as far as this process knows."""
        try:
            _, number = self._sessions.loads(request.cookies.get(SESSION, ""), max_age=SECONDS)
        except (BadData, TypeError, ValueError):
            pass
        else:
            self._ended[str(number)] = None
            while len(self._ended) > MOST_ENDED:
                del self._ended[next(iter(self._ended))]
        self._set(request, response, SESSION, "", 0)

    def note(self, request: Request, response: Response, text: str, *, good: bool) -> None:
        """Have the next page say what has come of an action."""
        self._set(request, response, NOTICE, str(self._notices.dumps([text[:500], good])), NOTICE_SECONDS)

    def noted(self, request: Request) -> tuple[str, bool] | None:
        """Return what the page before wanted to be said, and whether it is good news."""
        try:
            text, good = self._notices.loads(request.cookies.get(NOTICE, ""), max_age=NOTICE_SECONDS)
        except (BadData, TypeError, ValueError):
            return None
        return str(text), bool(good)

    def said(self, request: Request, response: Response) -> None:
        """Forget what was to be said."""
        self._set(request, response, NOTICE, "", 0)

    def _set(self, request: Request, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=root_of(request),
            # Who is not on this machine comes over TLS, though a proxy that ends it may not say so.
            secure=request.url.scheme == "https" or not is_loopback(request.url.hostname or ""),
            httponly=True,
            samesite="strict",
        )
