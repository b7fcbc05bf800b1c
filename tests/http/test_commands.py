"""Commands over HTTP: decided once, refused with a reason, and told exactly what does not fit."""

import asyncio
from pathlib import Path

import httpx
import pytest

from refold.http import Limits
from tests.http.serving import problem, served
from tests.http.shop import shop

TEA = {"sku": "tea", "quantity": 3}


async def test_an_outcome_can_be_seen_from_its_position_on(tmp_path: Path) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        done = await client.post("/commands/ReceiveStock", json=TEA)
        assert (done.status_code, done.json(), done.headers["refold-position"]) == (200, {"position": 1}, "1")
        seen = await client.get("/views/Stock/rows/tea", params={"at_least": done.json()["position"]})
        assert seen.json() == {"sku": "tea", "available": 3, "name": ""}


async def test_a_command_that_comes_again_with_its_key_changes_nothing(tmp_path: Path) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        headers = {"Idempotency-Key": "a"}
        answers = await asyncio.gather(
            *(client.post("/commands/ReceiveStock", json=TEA, headers=headers) for _ in range(10))
        )
        assert {each.json()["position"] for each in answers} == {1}
        other = await client.post("/commands/ReceiveStock", json=TEA, headers={"Idempotency-Key": "b"})
        assert other.json() == {"position": 2}
        coffee = await client.post("/commands/ReceiveStock", json={**TEA, "sku": "coffee"}, headers=headers)
        assert "with other fields" in problem(coffee, 409, "APPEND_ID_REUSED")["detail"]
        for key in ("", "x" * 201):
            headers = {"Idempotency-Key": key}
            problem(await client.post("/commands/ReceiveStock", json=TEA, headers=headers), 400, "INVALID_QUERY")


async def test_a_refusal_says_why() -> None:
    async with served(shop("memory:", projections=[])) as client:
        refused = await client.post("/commands/PlaceOrder", json={"order_id": "o-1", **TEA})
        assert problem(refused, 409, "REJECTED") == {
            "type": "urn:refold:problem:REJECTED",
            "title": "There is not enough of it.",
            "status": 409,
            "detail": "There is not enough of it.",
            "code": "REJECTED",
            "reason": "SoldOut",
            "sku": "tea",
            "available": 0,
        }


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        ({"sku": "tea", "quantity": "3"}, "$.quantity", "Expected `int`, got `str`"),
        ({"sku": "tea"}, "$.quantity", "Object missing required field `quantity`"),
        ({**TEA, "colour": 1}, "$.colour", "Unknown field; ReceiveStock has sku, quantity, name"),
        ([], "$", "Expected `object`, got `array`"),
    ],
)
async def test_what_does_not_fit_is_told_by_its_place(body: object, path: str, message: str) -> None:
    async with served(shop("memory:", projections=[])) as client:
        found = problem(await client.post("/commands/ReceiveStock", json=body), 400, "INVALID_BODY")
        assert found["errors"] == [{"path": path, "message": message}]
        assert (await client.get("/log/head")).json() == {"position": 0}


async def test_who_asked_when_and_why_is_kept() -> None:
    async with served(shop("memory:", projections=[])) as client:
        headers = {"Refold-Correlation-Id": "story", "Refold-Causation-Id": "cause"}
        when = {"occurred_at": "2026-03-01T12:00:00+01:00"}
        await client.post("/commands/ReceiveStock", json=TEA, headers=headers, params=when)
        [event] = (await client.get("/log/events")).json()["events"]
        del event["metadata"]["event_id"]
        kind, _, own_id = event["metadata"].pop("by").partition(" ")
        assert (kind, len(own_id)) == ("call", 36), "it tells commands of one cause apart"
        assert event["metadata"] == {
            "correlation_id": "story",
            "causation_id": "cause",
            "actor": "local",
            "occurred_at": "2026-03-01T12:00:00+01:00",
            "command": "ReceiveStock",
        }
        wrong = await client.post("/commands/ReceiveStock", json=TEA, params={"occurred_at": "2026-03-01T12:00:00"})
        assert "a time with a zone" in problem(wrong, 400, "INVALID_QUERY")["detail"]


async def test_an_error_of_the_program_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with served(shop("memory:", projections=[])) as client:
        failed = await client.post("/commands/Break", json={})
        problem(failed, 500, "INTERNAL")
        assert "geheim" not in failed.text
        assert "geheim" in caplog.text  # where operators look


async def test_what_is_not_there_is_told_with_what_is() -> None:
    async with served(shop("memory:", projections=[])) as client:
        found = problem(await client.post("/commands/Nope", json={}), 404, "NOT_FOUND")
        assert "Break, PlaceOrder, ReceiveStock" in found["detail"]
        assert "POST /commands/{name}" in problem(await client.get("/nope"), 404, "NOT_FOUND")["detail"]
        problem(await client.get("/commands/PlaceOrder"), 405, "NOT_FOUND")


async def test_a_body_is_json() -> None:
    async with served(shop("memory:", projections=[])) as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = await client.post("/commands/ReceiveStock", content=b"{}", headers={"Content-Type": kind})
            problem(answer, 415, "NOT_JSON")
        broken = await client.post(
            "/commands/ReceiveStock", content=b'{"sku"', headers={"Content-Type": "application/json"}
        )
        problem(broken, 400, "INVALID_BODY")


async def test_a_body_is_bounded_while_it_comes() -> None:
    taken = 0

    async def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield b" " * 10_000

    async with served(shop("memory:", projections=[]), limits=Limits(body=100_000)) as client:
        try:
            answer = await client.post(
                "/commands/ReceiveStock",
                content=endless(),  # type: ignore[arg-type]
                headers={"Content-Type": "application/json"},
            )
        except (httpx.WriteError, httpx.ReadError):
            pass  # it was closed while we were still sending
        else:
            problem(answer, 413, "TOO_LARGE")
        assert taken < 1_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100 + b"]" * 100,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" + b"[]," * 200_000 + b"[]]",
    ],
)
async def test_a_body_that_is_nested_deeply_or_in_many_parts_is_refused_soon(body: bytes) -> None:
    async with served(shop("memory:", projections=[])) as client:
        headers = {"Content-Type": "application/json"}
        problem(await client.post("/commands/ReceiveStock", content=body, headers=headers), 413, "TOO_LARGE")
        text = b'{"sku": "[[[[' + b"[" * 100 + b'\\"", "quantity": 1}'  # brackets in a text nest nothing
        assert (await client.post("/commands/ReceiveStock", content=text, headers=headers)).status_code == 200
