"""Signed tokens of an identity provider: who they say is let in, and nobody else."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from refold import WiringError
from refold.http import Access, Jwt, tokens
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
        assert event["metadata"]["actor"] == "ann@shop.example"


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
        "unsigned": _forged({"alg": "none", "kid": "one"}, b""),
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
