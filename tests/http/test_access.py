"""Who is let in: nobody from elsewhere without a key, and with one only to what it allows."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from refold.http import Access, Api, Keys, Limits
from refold.http.access import ROLES
from refold.http.api import ENDPOINTS, Rates
from refold.http.problem import Refusal
from refold.http.tokens import create, revoke
from tests.http.serving import problem, sent, served
from tests.http.shop import ReceiveStock, shop

LONG_AGO = "2020-01-01T00:00:00Z"
OPEN = {"/health", "/ready"}
ALLOWED = {
    "reader": {
        "GET /states/{name}",
        "GET /states/{name}/{key:path}",
        "GET /stories/{name}",
        "GET /stories/{name}/{key:path}",
        "GET /causes/{position}",
        "GET /views/{name}",
        "GET /views/{name}/rows",
        "GET /views/{name}/rows/{key:path}",
        "GET /views/{name}/watch",
        "GET /log/events",
        "POST /log/read",
        "GET /log/search",
        "GET /log/head",
        "GET /log/follow",
        "GET /operations/standing",
        "GET /operations/projections/{name}",
        "GET /operations/parked",
        "GET /operations/parked/at/{position}",
        "GET /operations/skipped",
        "GET /operations/waiting",
        "GET /operations/audit",
        "GET /openapi.json",
        "GET /version",
        "GET /metrics",
    },
    "writer": {"POST /commands/{name}"},
    "operator": {
        "POST /operations/parked/retry",
        "POST /operations/parked/skip",
        "POST /operations/processes/{name}/give-up",
        "POST /operations/effects/{name}/repeat",
        "POST /operations/outbox/republish",
        "POST /operations/projections/{name}/rebuild",
        "POST /operations/projections/{name}/compare",
        "POST /operations/projections/{name}/switch",
        "POST /operations/projections/{name}/rollback",
        "POST /operations/projections/{name}/drop",
    },
    "admin": {"POST /log/events", "GET /log/appends/{id:path}"},
}
"""What each role may do beyond those before it. A new endpoint has to be put here by somebody who has thought of it."""


def test_every_endpoint_has_a_role() -> None:
    assert {each.path for each in ENDPOINTS if each.role is None} == OPEN
    told = {(role, name) for role, names in ALLOWED.items() for name in names}
    assert told == {(each.role, f"{each.method} {each.path}") for each in ENDPOINTS if each.role is not None}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def asked(path: str) -> str:
    return (
        path.replace("{name}", "Stock")
        .replace("{key:path}", "tea")
        .replace("{id:path}", "a")
        .replace("{position}", "1")
    )


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_what_it_may_and_nothing_else(role: Any, keys: Path) -> None:
    token = create(keys, "me", role)
    may = {name for each in ROLES[: ROLES.index(role) + 1] for name in ALLOWED[each]}
    async with served(shop("memory:", projections=[]), Access(Keys(keys))) as client:
        for endpoint in ENDPOINTS:
            if endpoint.path.endswith(("/watch", "/follow")) and endpoint.role in ROLES[: ROLES.index(role) + 1]:
                continue  # it would go on for ever
            request: dict[str, Any] = {"headers": bearer(token), **({"json": {}} if endpoint.method == "POST" else {})}
            answer = await client.request(endpoint.method, asked(endpoint.path), **request)
            name = f"{endpoint.method} {endpoint.path}"
            assert (answer.status_code == 403) == (endpoint.path not in OPEN and name not in may), name
            assert answer.status_code != 401
            anonymous = await client.request(endpoint.method, asked(endpoint.path))
            assert (anonymous.status_code == 401) == (endpoint.path not in OPEN), name


async def test_a_key_is_known_by_its_hash_and_can_be_taken_away(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refold.http.tokens.LOOK_SECONDS", 0)
    token, other = create(keys, "me", "reader"), create(keys, "other", "reader")
    assert token not in keys.read_text()
    assert keys.stat().st_mode & 0o777 == 0o600
    async with served(shop("memory:", projections=[]), Access(Keys(keys))) as client:
        assert (await client.get("/version", headers=bearer(token))).status_code == 200
        for wrong in (token[:-1], f"{token}x", "refold_", "Bearer", token.upper()):
            problem(await client.get("/version", headers=bearer(wrong)), 401, "UNAUTHENTICATED")
        basic = await client.get("/version", headers={"Authorization": f"Basic {token}"})
        assert problem(basic, 401, "UNAUTHENTICATED")
        assert basic.headers["www-authenticate"] == 'Bearer realm="refold"'
        revoke(keys, "me")
        problem(await client.get("/version", headers=bearer(token)), 401, "UNAUTHENTICATED")
        assert (await client.get("/version", headers=bearer(other))).status_code == 200


async def test_a_key_expires(keys: Path) -> None:
    past, future = datetime.now(UTC) - timedelta(seconds=1), datetime.now(UTC) + timedelta(days=1)
    late, good = create(keys, "late", "reader", expires=past), create(keys, "good", "reader", expires=future)
    async with served(shop("memory:", projections=[]), Access(Keys(keys))) as client:
        problem(await client.get("/version", headers=bearer(late)), 401, "UNAUTHENTICATED")
        assert (await client.get("/version", headers=bearer(good))).status_code == 200


async def test_rules_narrow_what_a_key_allows(keys: Path, tmp_path: Path) -> None:
    boss = create(keys, "boss", "admin")
    tea = create(keys, "tea", "admin", tags=["product:tea"])
    till = create(keys, "till", "writer", commands=["PlaceOrder"], views=["Stock"])
    async with served(shop(f"sqlite:///{tmp_path}/log.db"), Access(Keys(keys))) as client:

        async def ask(token: str, path: str, body: Any = None) -> httpx.Response:
            request: dict[str, Any] = {} if body is None else {"json": body}
            return await client.request("GET" if body is None else "POST", path, headers=bearer(token), **request)

        for sku in ("tea", "canary"):
            assert (await ask(boss, "/commands/ReceiveStock", {"sku": sku, "quantity": 9})).status_code == 200
        # By tag: of the log, of states and of commands only what is about tea.
        assert (await ask(tea, "/commands/ReceiveStock", {"sku": "tea", "quantity": 1})).status_code == 200
        problem(await ask(tea, "/commands/ReceiveStock", {"sku": "canary", "quantity": 1}), 403, "FORBIDDEN")
        assert (await ask(tea, "/states/Stock/tea")).json()["available"] == 10
        problem(await ask(tea, "/states/Stock/canary"), 403, "FORBIDDEN")
        for path, body in (
            ("/log/events", None),
            ("/log/events?types=StockReceived", None),
            ("/log/events?tags=product:canary", None),
            ("/log/read", {}),
            ("/log/read", {"query": {"items": [{"tags": ["product:canary"]}, {"types": ["StockReceived"]}]}}),
        ):
            answer = await ask(tea, path, body)
            assert answer.status_code == 200
            assert "canary" not in answer.text, path
        # What is appended past decisions, and its condition, would reach beyond the tag.
        for tags in (["product:canary"], ["product:tea", "product:canary"], ["product:tea"]):
            batch = {"events": [{"type": "StockReceived", "tags": tags, "data": {"sku": "tea", "quantity": 1}}]}
            problem(await ask(tea, "/log/events", batch), 403, "FORBIDDEN")
        problem(await ask(tea, "/log/appends/a-1"), 403, "FORBIDDEN")
        problem(await ask(tea, "/views/Stock"), 403, "FORBIDDEN")
        # By name.
        problem(await ask(till, "/commands/ReceiveStock", {"sku": "tea", "quantity": 1}), 403, "FORBIDDEN")
        order = {"order_id": "o-1", "sku": "tea", "quantity": 1}
        assert (await ask(till, "/commands/PlaceOrder", order)).status_code == 200
        assert (await ask(till, "/views/Stock")).status_code == 200
        problem(await ask(till, "/views/Order"), 403, "FORBIDDEN")
        # Who acts is who has the key.
        page = (await ask(boss, "/log/events?types=OrderPlaced")).json()
        assert page["events"][0]["metadata"]["actor"] == "till"


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (("192.0.2.1", 1), {}),
        (("127.0.0.1", 1), {"Host": "shop.example"}),  # a name that was made to lead here
        (("127.0.0.1", 1), {"Host": "localhost.shop.example"}),
        (("127.0.0.1", 1), {"Host": "localhost:80@shop.example"}),
        (("127.0.0.1", 1), {"Host": ""}),
        (("127.0.0.1", 1), {"X-Forwarded-For": "192.0.2.1"}),  # a proxy asks for somebody
        (("127.0.0.1", 1), {"Forwarded": "for=192.0.2.1"}),
        (("127.0.0.1", 1), {"Via": "1.1 proxy"}),
        (("127.0.0.1", 1), {"X-Forwarded-Proto": "https"}),
        (("127.0.0.1", 1), {"X-Real-IP": "192.0.2.1"}),
        (("127.0.0.1", 1), {"Sec-Fetch-Site": "cross-site"}),  # a page from elsewhere
    ],
)
async def test_without_keys_only_this_machine_is_let_in(client: tuple[str, int], headers: dict[str, str]) -> None:
    app = shop("memory:", projections=[])
    async with app:
        api = Api(app)
        for given, extra, status in ((client, headers, 401), (("127.0.0.1", 1), {}, 200), (("::1", 1), {}, 200)):
            transport = httpx.ASGITransport(api, client=given)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
                assert (await asking.get("/version", headers=extra)).status_code == status


async def test_who_asks_too_much_is_told_to_wait_and_others_are_not(keys: Path) -> None:
    one, other = create(keys, "one", "reader"), create(keys, "other", "reader")
    limits = Limits(per_second=1)  # however slowly a busy machine asks
    async with served(shop("memory:", projections=[]), Access(Keys(keys)), limits=limits) as client:
        answers = [await client.get("/version", headers=bearer(one)) for _ in range(30)]
        refused = [each for each in answers if each.status_code == 429]
        assert len(refused) >= 15
        assert problem(refused[0], 429, "TOO_MANY")
        assert refused[0].headers["retry-after"] == "1"
        assert (await client.get("/version", headers=bearer(other))).status_code == 200


def test_who_has_asked_once_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr("refold.http.api.MOST_KNOWN", 100)
    monkeypatch.setattr("refold.http.api.time.monotonic", lambda: next(clock) / 100)
    rates = Rates(2)
    for number in range(1_000):
        rates.take(f"u-{number}")
    assert len(vars(rates)["_left"]) <= 101
    rates.take("often")
    rates.take("often")
    with pytest.raises(Refusal, match="more than 2 requests a second of often"):
        rates.take("often")


async def test_who_has_too_many_streams_open_gets_no_more_until_one_ends(keys: Path) -> None:
    one, other = create(keys, "one", "reader"), create(keys, "other", "reader")
    limits = Limits(streams=2)
    async with served(shop("memory:", projections=[]), Access(Keys(keys)), limits=limits) as client:
        async with (
            client.stream("GET", "/log/follow", headers=bearer(one)) as first,
            client.stream("GET", "/log/follow", headers=bearer(one)) as second,
        ):
            assert (first.status_code, second.status_code) == (200, 200)
            async with client.stream("GET", "/log/follow", headers=bearer(one)) as third:
                assert third.status_code == 429
            async with client.stream("GET", "/log/follow", headers=bearer(other)) as fourth:
                assert fourth.status_code == 200
            assert (await client.get("/version", headers=bearer(one))).status_code == 200, "all else goes on"
        for _ in range(100):
            async with client.stream("GET", "/log/follow", headers=bearer(one)) as again:
                if again.status_code == 200:
                    break
        assert again.status_code == 200


@pytest.mark.parametrize("path", ["/log/follow", "/views/Stock/watch"])
@pytest.mark.parametrize("change", ["revoked", "narrowed", "expired"])
async def test_an_open_stream_ends_with_what_its_key_allows(
    keys: Path, monkeypatch: pytest.MonkeyPatch, path: str, change: str
) -> None:
    monkeypatch.setattr("refold.http.tokens.LOOK_SECONDS", -1)
    monkeypatch.setattr("refold.http.stream.LOOK_SECONDS", 0)
    one, other = create(keys, "one", "reader"), create(keys, "other", "reader")
    app = shop("memory:")
    async with (
        served(app, Access(Keys(keys))) as client,
        asyncio.timeout(60),
        client.stream("GET", path, headers=bearer(one)) as mine,
        client.stream("GET", path, headers=bearer(other)) as others,
    ):
        of_mine, of_others = sent(mine), sent(others)
        await app.execute(ReceiveStock("tea", 1))
        if path == "/views/Stock/watch":
            assert ((await anext(of_mine))["event"], (await anext(of_others))["event"]) == ("begun", "begun")
        assert "tea" in (await anext(of_mine))["text"]
        assert "tea" in (await anext(of_others))["text"]
        if change == "revoked":
            revoke(keys, "one")
        else:
            found = msgspec.json.decode(keys.read_bytes())
            found["keys"][0] |= {"narrowed": {"tags": ["product:cup"]}, "expired": {"expires": LONG_AGO}}[change]
            keys.write_bytes(msgspec.json.encode(found))
        await app.execute(ReceiveStock("canary", 1))
        assert "canary" in (await anext(of_others))["text"]
        assert [each async for each in of_mine] == []


async def test_no_page_from_elsewhere_may_read_an_answer(keys: Path) -> None:
    token = create(keys, "me", "reader")
    async with served(shop("memory:", projections=[]), Access(Keys(keys))) as client:
        answer = await client.get("/version", headers={**bearer(token), "Origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        preflight = await client.options("/commands/PlaceOrder", headers={"Origin": "https://evil.example"})
        assert problem(preflight, 405, "NOT_FOUND")
        assert preflight.headers["allow"] == "POST"
        for each in (answer, await client.get("/nope"), await client.get("/health")):
            assert each.headers["cache-control"] == "no-store"
            assert each.headers["x-content-type-options"] == "nosniff"
