"""Who may do what: a principal has a role, and perhaps rules that narrow it.

Without keys or tokens only programs on the same machine are let in, as admins. Every other request bears a token.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias, get_args

from msgspec import Struct
from starlette.requests import HTTPConnection

from refold.errors import WiringError
from refold.http.problem import Refusal
from refold.model.query import Query, QueryItem

Role: TypeAlias = Literal["reader", "writer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may: see; execute commands; operate; append to the log as it is."""
ASK = {"WWW-Authenticate": 'Bearer realm="refold"'}
FORWARDED = (b"forwarded", b"via", b"x-forwarded-", b"x-real-ip")
"""How the names of headers begin by which a proxy says that it is one; not all do."""
HOST = re.compile(r"(\[[^]]*\]|[^:]*)(:\d+)?")


class Principal(Struct, frozen=True):
    """Somebody who asks; of a rule that is None everything is allowed."""

    name: str
    role: Role
    commands: frozenset[str] | None = None
    """The names of the commands that may be executed."""
    views: frozenset[str] | None = None
    """The names of the views that may be seen."""
    tags: frozenset[str] | None = None
    """Only what has one of these tags may be seen or commanded: `customer:c-1`."""
    proof: str = ""
    """By what a session or an open stream knows them again: enough to look them up, nothing to come in with.

    See `Knows.again`. Without one a stream stays open until its reader leaves."""
    called: str = ""
    """How they are called, to be shown to themselves; it says nothing of who they are, which the name does."""

    @property
    def sees_all(self) -> bool:
        """Whether no rule narrows what may be seen."""
        return self.tags is None and self.views is None

    def can_be(self, role: Role) -> bool:
        """Tell whether this role or a higher one is theirs."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def must_be(self, role: Role) -> None:
        """Refuse what takes a higher role."""
        if not self.can_be(role):
            raise _forbidden(f"{self.name} is {self.role}, and this takes {role}")

    def must_see_all(self, what: str) -> None:
        """Refuse who may see a part only what shows the whole."""
        if not self.sees_all:
            raise _forbidden(f"{self.name} may see a part only, and {what} show the whole")

    def must_command(self, name: str, tags: Collection[str]) -> None:
        """Refuse a command that the rules exclude."""
        if self.commands is not None and name not in self.commands:
            raise _forbidden(f"{self.name} may not execute {name}")
        self.must_see(tags, f"this {name}")

    def must_view(self, name: str) -> None:
        """Refuse a view that the rules exclude; one is seen whole, so who sees some tags only needs to be let in."""
        if name not in self.views if self.views is not None else self.tags is not None:
            raise _forbidden(f"{self.name} may not see the view {name}")

    def must_see(self, tags: Collection[str], what: str) -> None:
        """Refuse what has none of the tags that may be seen."""
        if self.tags is not None and self.tags.isdisjoint(tags):
            raise _forbidden(f"{self.name} may not see {what}")

    def seen(self, query: Query) -> Query:
        """Return the part of a query that may be seen."""
        if self.tags is None:
            return query
        if not self.tags:
            raise _forbidden(f"{self.name} may see no events")
        items = query.items or (None,)
        return Query(tuple(_also(item, tag) for item in items for tag in sorted(self.tags)))


LOCAL = Principal("local", "admin")


class Knows(Protocol):
    """What can tell who a token belongs to."""

    async def principal(self, token: str) -> Principal | None:
        """Return whose token this is; None if it is none of these."""
        ...

    async def again(self, proof: str) -> Principal | None:
        """Return who was let in before, by their proof, if they still would be."""
        ...


class Access:
    """Lets in whose token one of those given knows: `Access(Keys("keys.json"))`; without any, all of this machine."""

    def __init__(self, *knows: Knows) -> None:
        self._knows = knows

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine are let in."""
        return not self._knows

    async def principal(self, connection: HTTPConnection) -> Principal:
        """Return who asks, or refuse."""
        if not self._knows:
            if not _is_local(connection):
                raise Refusal(401, "UNAUTHENTICATED", "only programs on this machine are let in without a key", ASK)
            return LOCAL
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(401, "UNAUTHENTICATED", "send a key or token: Authorization: Bearer …", ASK)
        return await self.owner(token.strip())

    async def owner(self, token: str) -> Principal:
        """Return whose key or token this is, or refuse."""
        for each in self._knows:
            if (principal := await each.principal(token)) is not None:
                return principal
        raise Refusal(401, "UNAUTHENTICATED", "this key or token is not known, or has expired", ASK)

    async def again(self, proof: str) -> Principal | None:
        """Return who was let in before, by their proof, if they still would be."""
        for each in self._knows:
            if proof and (principal := await each.again(proof)) is not None:
                return principal
        return None


def checked_role(text: str) -> Role:
    """Return a role by its name, or raise `WiringError`."""
    for role in ROLES:
        if role == text:
            return role
    raise WiringError(f"{text!r} is no role; there are {', '.join(ROLES)}")


def rule(names: Iterable[str] | None) -> frozenset[str] | None:
    """Return a rule of a principal; None stays None."""
    return None if names is None else frozenset(names)


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_local(connection: HTTPConnection) -> bool:
    """Tell whether a program of this machine asks for itself: not for others, and not for a page from elsewhere."""
    client = connection.scope.get("client")
    if client is not None and not is_loopback(client[0]):  # none: a socket in the file system
        return False
    hosts = 0
    for name, value in connection.scope["headers"]:
        if name == b"host":
            hosts += 1
            asked = HOST.fullmatch(value.decode("latin-1"))
            if asked is None or not is_loopback(asked[1]):
                return False
        elif name.startswith(FORWARDED) or (name == b"sec-fetch-site" and value not in (b"none", b"same-origin")):
            return False
    return hosts == 1


def must_be_own_page(connection: HTTPConnection) -> None:
    """Refuse what no page of this very site asks for, as a browser says; who says nothing is no browser of today."""
    url = connection.url
    site = connection.headers.get("sec-fetch-site")
    origin = connection.headers.get("origin")
    if not (site == "same-origin" if site is not None else origin == f"{url.scheme}://{url.netloc}"):
        raise _forbidden("only a page of this site may ask for this")


def _also(item: QueryItem | None, tag: str) -> QueryItem:
    return QueryItem(item.types, (*item.tags, tag)) if item else QueryItem((), (tag,))


def _forbidden(detail: str) -> Refusal:
    return Refusal(403, "FORBIDDEN", detail)
