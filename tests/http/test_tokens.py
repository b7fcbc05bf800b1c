"""Signed tokens of an identity provider: who they say is let in, and nobody else."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from refold import WiringError
from refold.http import Access, Jwt, Keys, tokens
from tests.http.serving import problem, served
from tests.http.shop import shop

KEYS = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("one", "two", "stranger")}
PUBLISHED = ["one"]
ISSUER = "https://login.shop.example"


class Provider(BaseHTTPRequestHandler):
    """Publishes its keys."""

    def do_GET(self) -> None:
        keys = [
            json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[name].public_key())) | {"kid": name, "use": "sig"}
            for name in PUBLISHED
        ]
        body = json.dumps({"keys": keys}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def keys() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()
        thread.join()


def token(key: str = "one", **claims: Any) -> str:
    given: dict[str, Any] = {"iss": ISSUER, "aud": "shop", "sub": "u-1", "exp": time.time() + 60, "roles": ["reader"]}
    given = {name: value for name, value in (given | claims).items() if value is not None}
    return jwt.encode(given, KEYS[key], "RS256", {"kid": key})


def access(keys: str, **options: Any) -> Access:
    return Access(Jwt(issuer=ISSUER, audience="shop", keys=keys, **options))


def headers(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_who_has_a_token_acts_in_its_role(keys: str) -> None:
    async with served(shop("memory:", projections=[]), access(keys)) as client:
        command = {"sku": "tea", "quantity": 1}
        reader, writer = token(), token(roles=["reader", "writer", "unknown"], email="ann@shop.example")
        assert (await client.get("/version", headers=headers(reader))).status_code == 200
        refused = await client.post("/commands/ReceiveStock", json=command, headers=headers(reader))
        problem(refused, 403, "FORBIDDEN")
        done = await client.post("/commands/ReceiveStock", json=command, headers=headers(writer))
        assert done.status_code == 200
        [event] = (await client.get("/log/events", headers=headers(reader))).json()["events"]
        assert event["metadata"]["actor"] == f"u-1@{ISSUER}", "not an address, which may be chosen"


async def test_groups_can_stand_for_roles(keys: str) -> None:
    allowed = access(keys, claim="groups", roles={"shop-staff": "writer"})
    async with served(shop("memory:", projections=[]), allowed) as client:
        staff, guest = token(groups="shop-staff"), token(groups=["guests", "writer"])
        command = {"sku": "tea", "quantity": 1}
        assert (await client.post("/commands/ReceiveStock", json=command, headers=headers(staff))).status_code == 200
        problem(await client.get("/version", headers=headers(guest)), 401, "UNAUTHENTICATED")


async def test_a_token_that_is_not_theirs_is_refused(keys: str) -> None:
    public = KEYS["one"].public_key()
    pem = jwt.algorithms.RSAAlgorithm.to_jwk(public).encode()
    wrong = {
        "of a stranger": token("stranger"),
        "signed by another under their name": jwt.encode(
            {"iss": ISSUER, "aud": "shop", "sub": "u", "exp": time.time() + 60, "roles": ["admin"]},
            KEYS["stranger"],
            "RS256",
            {"kid": "one"},
        ),
        "expired": token(exp=time.time() - 1),
        "without an end": token(exp=None),
        "of another issuer": token(iss="https://evil.example"),
        "for another audience": token(aud="bank"),
        "of nobody": token(sub=None),
        "without a role": token(roles=None),
        "with a role that is none": token(roles=5),
        "with roles that are none": token(roles=[{}, ["reader"], None]),
        "with roles by name": token(roles={"reader": True}),
        "unsigned": _forged({"alg": "none", "kid": "one"}, b""),
        "of another kind than their key": _forged({"alg": "ES256", "kid": "one"}, b""),
        "signed with their public key as a secret": _forged({"alg": "HS256", "kid": "one"}, pem),
        "cut": token()[:-4],
        "no token": "a.b.c",
    }
    async with served(shop("memory:", projections=[]), access(keys)) as client:
        for name, each in wrong.items():
            answer = await client.get("/version", headers=headers(each))
            assert answer.status_code == 401, name


async def test_a_new_key_of_theirs_is_learnt(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0)
    async with served(shop("memory:", projections=[]), access(keys)) as client:
        assert (await client.get("/version", headers=headers(token("one")))).status_code == 200
        assert (await client.get("/version", headers=headers(token("two")))).status_code == 401
        monkeypatch.setattr(f"{__name__}.PUBLISHED", ["two"])
        assert (await client.get("/version", headers=headers(token("two")))).status_code == 200


async def test_while_the_provider_says_no_keys_one_is_told_to_come_again(
    keys: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0)
    reader = headers(token())
    async with served(shop("memory:", projections=[]), access("http://127.0.0.1:9/jwks.json")) as client:
        problem(await client.get("/version", headers=reader), 503, "UNAVAILABLE")
    assert "nobody with a signed token is let in" in caplog.text
    async with served(shop("memory:", projections=[]), access(keys)) as client:
        with monkeypatch.context() as without:
            without.setattr(f"{__name__}.PUBLISHED", [])
            problem(await client.get("/version", headers=reader), 503, "UNAVAILABLE")
        assert (await client.get("/version", headers=reader)).status_code == 200


async def test_a_session_of_a_signed_token_does_not_hang_on_the_file_of_keys(
    keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0)
    file = tmp_path / "keys.json"
    tokens.create(file, "till-7", "writer")
    both = Access(Keys(file), Jwt(issuer=ISSUER, audience="shop", keys=keys))
    found = await both.owner(token())
    file.write_text("broken")
    assert await both.again(found.proof) == found


async def test_an_address_makes_nobody_another(keys: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = tokens.create(file, "till-7", "writer")
    both = Access(Keys(file), Jwt(issuer=ISSUER, audience="shop", keys=keys))
    app = shop("memory:", projections=[])
    async with served(app, both) as client:
        given: dict[str, Any] = {"roles": ["writer"], "email": "till-7", "preferred_username": "till-7"}
        for who in (key, token(sub="u-1", **given), token(sub="u-2", **given)):
            command = {"sku": "tea", "quantity": 1}
            answer = await client.post(
                "/commands/ReceiveStock", json=command, headers={**headers(who), "Idempotency-Key": "one"}
            )
            assert answer.status_code == 200
        assert await app.head() == 3, "the key of each is their own"
        found = await both.owner(token(sub="u-1", **given))
        assert (found.name, found.called) == (f"u-1@{ISSUER}", "till-7")
        assert await both.again(found.proof) == found


@pytest.mark.parametrize("way", ["gone", "broken", "locked away"])
async def test_while_keys_cannot_be_read_nobody_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0)
    file = tmp_path / "keys.json"
    key = tokens.create(file, "till-7", "reader")
    async with served(shop("memory:", projections=[]), Access(Keys(file))) as client:
        assert (await client.get("/version", headers=headers(key))).status_code == 200
        good = file.rename(tmp_path / "good.json")
        if way == "broken":
            file.write_bytes(good.read_bytes()[:-9])
        elif way == "locked away":
            file.mkdir()  # cannot be read by anybody, root among them
        for _ in range(3):
            answer = await client.get("/version", headers=headers(key))
            assert problem(answer, 503, "UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"
        [record] = caplog.records
        assert record.getMessage().startswith("nobody with a key is let in: ")
        if way == "locked away":
            file.rmdir()
        good.replace(file)
        assert (await client.get("/version", headers=headers(key))).status_code == 200


def test_keys_that_are_made_at_once_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "WAIT_SECONDS", 60.0)  # they take turns, in no order
    file = tmp_path / "keys.json"
    tokens.create(file, "old", "admin")

    def change(number: int) -> None:
        tokens.create(file, f"new-{number}", "reader")
        if not number:
            tokens.revoke(file, "old")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(24)))
    assert {key.name for key in tokens.keys_in(file)} == {f"new-{number}" for number in range(24)}
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


def test_a_change_that_was_never_ended_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "WAIT_SECONDS", 0.05)
    file = tmp_path / "keys.json"
    (tmp_path / "keys.json.new").touch()
    with pytest.raises(WiringError, match=r"one was stopped: remove .*keys\.json\.new"):
        tokens.create(file, "me", "admin")
    with pytest.raises(WiringError, match=r"cannot change the keys in .*: No such file or directory"):
        tokens.create(tmp_path / "nowhere" / "keys.json", "me", "admin")


def test_algorithms_of_one_secret_are_refused_at_wiring() -> None:
    with pytest.raises(WiringError, match="'HS256' is not accepted"):
        Jwt(issuer="", audience="", keys="http://127.0.0.1/", algorithms=["HS256"])
    with pytest.raises(WiringError, match="'boss' is no role; there are reader, writer, operator, admin"):
        Jwt(issuer="", audience="", keys="http://127.0.0.1/", roles={"x": "boss"})


def _forged(header: dict[str, str], secret: bytes) -> str:
    claims = {"iss": ISSUER, "aud": "shop", "sub": "u", "exp": time.time() + 60, "roles": ["admin"]}
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, claims)]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256) if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
