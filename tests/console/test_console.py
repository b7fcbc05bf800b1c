"""The console's frame: who comes in and how, what leaves with every page, and that nobody else may ask."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from refold.console import Console
from refold.console.console import PAGES
from refold.http import Access, Api, Keys
from refold.http.access import ROLES
from refold.http.tokens import create, revoke
from tests.http.serving import served
from tests.http.shop import ReceiveStock, shop

SEEN_IN_PART = {
    "GET /log",
    "GET /log/live",
    "GET /log/{position}",
    "GET /search",
    "GET /palette",
    "GET /stories",
    "GET /stories/{name}",
    "GET /stories/{name}/{key:path}",
    "GET /causes/{position}",
}
ALLOWED: dict[str, set[str]] = {
    "reader": {
        "GET /",
        "GET /overview/data",
        *SEEN_IN_PART,
        "GET /contract/",
        "GET /contract/{path:path}",
        "GET /projections",
        "GET /projections/{name}",
        "GET /parked",
        "GET /parked/skipped",
        "GET /parked/at/{position}",
        "GET /processes",
        "GET /audit",
    },
    "writer": {
        "GET /commands",
        "GET /commands/{name}",
        "POST /commands/{name}",
        "GET /commands/{name}/outcomes/{key:path}",
    },
    "operator": {
        "GET /projections/{name}/compare",
        "POST /projections/{name}/rebuild",
        "POST /projections/{name}/switch",
        "POST /projections/{name}/rollback",
        "GET /projections/{name}/drop",
        "POST /projections/{name}/drop",
        "POST /parked/retry",
        "GET /parked/skip",
        "POST /parked/skip",
        "POST /processes/resume",
        "GET /processes/give-up",
        "POST /processes/give-up",
    },
    "admin": set(),
}
"""What each role may do beyond those before it. A new page has to be put here by somebody who has thought of it."""
NARROWED = {"GET /", *SEEN_IN_PART, *ALLOWED["writer"]}
"""What those may see whose key narrows them to some tags or views: these pages mind the rules themselves."""
OWN = {"Sec-Fetch-Site": "same-origin"}


def console(keys: Path | None = None) -> Console:
    return Console(Api(shop("memory:"), Access(Keys(keys)) if keys else None), address="shop.main:app")


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("refold.http.tokens.LOOK_SECONDS", 0)
    return tmp_path / "keys.json"


async def entered(client: httpx.AsyncClient, token: str, **form: str) -> httpx.Response:
    return await client.post("/console/login", data={"key": token, **form}, headers=OWN)


def test_every_page_is_for_somebody() -> None:
    told = {(role, name) for role, names in ALLOWED.items() for name in names}
    assert told == {(each.role, f"{each.method} {each.path}") for each in PAGES}
    assert {f"{each.method} {each.path}" for each in PAGES if each.narrowed} == NARROWED


async def test_on_this_machine_no_key_is_needed() -> None:
    async with served(console()) as client:
        assert (await client.get("/")).headers["location"] == "/console/"
        assert (await client.get("/console")).headers["location"] == "/console/"
        answer = await client.get("/console/")
        assert answer.status_code == 200
        assert "local" in answer.text
        assert "Log out" not in answer.text
        assert (await client.head("/console/")).status_code == 200
        assert (await client.get("/log/head")).json() == {"position": 0}, "the API stands beside it"
        elsewhere = await client.get("/console/", headers={"Host": "shop.example"})
        assert elsewhere.status_code == 401


async def test_a_key_begins_a_session_that_ends_with_it(keys: Path) -> None:
    token = create(keys, "ann", "operator")
    async with served(console(keys)) as client:
        first = await client.get("/console/?a=b")
        assert (first.status_code, first.headers["location"]) == (303, "/console/login?next=%2Fconsole%2F%3Fa%3Db")
        assert (await client.get("/console/login")).status_code == 200
        assert (await entered(client, "refold_guessed")).status_code == 401
        assert "refold_session" not in client.cookies
        answer = await entered(client, token, next="/console/?a=b")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/?a=b")
        cookie = answer.headers["set-cookie"].lower()
        assert token not in cookie
        assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/console"))
        page = await client.get("/console/")
        assert "ann" in page.text
        assert "Log out" in page.text
        revoke(keys, "ann")
        assert (await client.get("/console/")).status_code == 303
        live = await client.get("/console/", headers={"HX-Request": "true"})
        assert (live.status_code, live.headers["hx-redirect"]) == (401, "/console/login?next=%2Fconsole%2F")


async def test_who_goes_out_is_out_and_a_changed_cookie_is_none(keys: Path) -> None:
    token = create(keys, "ann", "reader")
    async with served(console(keys)) as client:
        await entered(client, token)
        cookie = client.cookies["refold_session"]
        for at in range(len(cookie) - 1):  # the last character has bits that count for nothing
            changed = cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :]
            answer = await client.get("/console/", headers={"Cookie": f"refold_session={changed}"})
            assert answer.status_code == 303, at
        assert (await client.post("/console/logout", headers=OWN)).headers["location"] == "/console/login"
        assert (await client.get("/console/")).status_code == 303
        kept = {"Cookie": f"refold_session={cookie}"}
        assert (await client.get("/console/", headers=kept)).status_code == 303, "though somebody has kept the cookie"
        await entered(client, token)
        assert (await client.get("/console/")).status_code == 200, "another session of the same key goes on"


async def test_it_stands_under_any_path(keys: Path) -> None:
    token, app = create(keys, "ann", "reader"), shop("memory:")

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with app:
            yield

    site = Starlette(routes=[Mount("/my shop", Console(Api(app, Access(Keys(keys)))))], lifespan=lifespan)
    async with served(site) as client:
        await app.execute(ReceiveStock("a/b", 3))
        bearer = {"Authorization": f"Bearer {token}"}
        stock = await client.get("/my%20shop/states/Stock/a%2Fb", headers=bearer)
        assert stock.json()["available"] == 3
        first = await client.get("/my%20shop/console/")
        assert first.headers["location"] == "/my%20shop/console/login?next=%2Fmy%2520shop%2Fconsole%2F"
        to = "/my%20shop/console/stories/Stock/a%2Fb"
        answer = await client.post("/my%20shop/console/login", data={"key": token, "next": to}, headers=OWN)
        assert answer.headers["location"] == to
        assert "path=/my%20shop/console" in answer.headers["set-cookie"].lower()
        assert (await client.get(to)).status_code == 200


async def test_who_comes_in_late_gets_to_where_they_wanted(keys: Path) -> None:
    token, to = create(keys, "ann", "reader"), "/console/stories/Stock/a%2Fb?as_of=1"
    async with served(console(keys)) as client:
        for live in ({}, {"HX-Request": "true"}):
            answer = await client.get(to, headers=live)
            asked = answer.headers.get("location") or answer.headers["hx-redirect"]
            assert dict(httpx.URL(asked).params) == {"next": to}
        for answer in (await client.get(asked), await entered(client, "refold_guessed", next=to)):
            assert f'name="next" value="{to}"' in answer.text
        assert (await entered(client, token, next=to)).headers["location"] == to


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "/log/head", "/console/\n", "http://["]
)
async def test_nobody_is_led_elsewhere(keys: Path, to: str) -> None:
    token = create(keys, "ann", "reader")
    async with served(console(keys)) as client:
        assert (await entered(client, token, next=to)).headers["location"] == "/console/"


async def test_only_a_page_of_the_console_may_ask(keys: Path) -> None:
    token = create(keys, "ann", "admin")
    async with served(console(keys)) as client:
        url = str(client.base_url).rstrip("/")
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://a"}):
            answer = await client.post("/console/login", data={"key": token}, headers=headers)
            assert answer.status_code == 403, headers
            assert (await client.post("/console/logout", headers=headers)).status_code == 403
        answer = await client.post("/console/login", data={"key": token}, headers={"Origin": url})
        assert answer.status_code == 303, "a browser that does not say Sec-Fetch-Site says its origin"


async def test_whoever_comes_may_not_send_much(keys: Path) -> None:
    token = create(keys, "ann", "admin")
    async with served(console(keys)) as client:
        answer = await entered(client, token, next="/console/" + "a" * 9_000)
        assert (answer.status_code, "more than 8,192 bytes" in answer.text) == (413, True)


async def test_guessing_is_slowed_down_and_keeps_nobody_out(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refold.console.login.PER_SECOND", 1.0)  # a busy machine is slow to guess, too
    token = create(keys, "ann", "admin")
    async with served(console(keys)) as client:
        answers = [await entered(client, f"refold_{each}") for each in range(20)]
        assert {each.status_code for each in answers} == {401, 429}
        assert {each.headers.get("retry-after") for each in answers if each.status_code == 429} == {"1"}
        assert (await entered(client, token)).status_code == 303


@pytest.mark.parametrize(
    ("host", "is_secure"),
    [("shop.example", True), ("192.0.2.1:8080", True), ("localhost:8080", False), ("[::1]:8080", False)],
)
async def test_a_session_leaves_a_browser_over_tls_only(keys: Path, host: str, is_secure: bool) -> None:
    token = create(keys, "ann", "admin")
    async with served(console(keys)) as client:
        answer = await client.post("/console/login", data={"key": token}, headers={**OWN, "Host": host})
        assert ("; secure" in answer.headers["set-cookie"].lower()) == is_secure


async def test_what_fails_as_one_comes_in_is_told_where_one_comes_in(keys: Path) -> None:
    token = create(keys, "ann", "admin")
    async with served(console(keys)) as client:
        keys.unlink()
        answer = await entered(client, token)
        assert (answer.status_code, "the keys cannot be read now" in answer.text) == (503, True)


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_sees_and_does_what_it_may(keys: Path, role: Any) -> None:
    token = create(keys, "me", role)
    may = {name for each in ROLES[: ROLES.index(role) + 1] for name in ALLOWED[each]}
    async with served(console(keys)) as client:
        await entered(client, token)
        for page in PAGES:
            name = f"{page.method} {page.path}"
            status = await status_of(client, page)
            assert (status == 403) == (name not in may), (name, status)
            assert status < 500, name


async def test_who_is_narrowed_sees_pages_that_mind_it(keys: Path) -> None:
    token = create(keys, "me", "admin", tags=["product:tea"])
    async with served(console(keys)) as client:
        await entered(client, token)
        for page in PAGES:
            status = await status_of(client, page)
            assert page.narrowed or status == 403, page.path


async def test_every_answer_is_guarded(keys: Path) -> None:
    async with served(console(keys if create(keys, "me", "reader") else None)) as client:
        for path in ("/console/", "/console/login", "/console/nowhere", "/console/static/console.css"):
            headers = (await client.get(path)).headers
            assert headers["content-security-policy"].startswith(
                "default-src 'none'; script-src 'self'; style-src 'self'"
            )
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert ("immutable" in headers["cache-control"]) == path.endswith(".css")


@pytest.mark.parametrize(
    "path", ["../session.py", "%2e%2e/session.py", "%2Fetc%2Fpasswd", "", "vendor", "nothing.css", "a" * 300]
)
async def test_only_static_files_are_given(path: str) -> None:
    async with served(console()) as client:
        assert (await client.get(f"/console/static/{path}")).status_code == 404


def test_no_template_lets_markup_through_unescaped() -> None:
    folder = Path(__file__).parents[2] / "refold/console/templates"
    for path in folder.rglob("*.html"):
        text = path.read_text()
        for forbidden in ("|safe", "| safe", "autoescape false", "style=", "hx-on", "javascript:", "<script>"):
            assert forbidden not in text, (path.name, forbidden)


def asked(path: str) -> str:
    names = ("{name}", "{key:path}", "{position:int}", "{version}")
    for name, value in zip(names, ("Stock", "tea", "1", "v1"), strict=True):
        path = path.replace(name, value)
    return path


async def status_of(client: httpx.AsyncClient, page: Any) -> int:
    """Return how a page is answered; a live one has no end."""
    path = f"/console{asked(page.path)}"
    async with client.stream(page.method, path, headers=OWN, **body_of(page)) as answer:
        return answer.status_code


def body_of(page: Any) -> dict[str, Any]:
    return {"data": {}} if page.method == "POST" else {}


def test_what_others_wrote_is_as_they_wrote_it() -> None:
    folder = Path(__file__).parents[2] / "refold/console/static/vendor"
    sums = dict(reversed(line.split(maxsplit=1)) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name in sums} == sums
    assert {path.name for path in folder.iterdir()} == {*sums, "SHA256SUMS"}
