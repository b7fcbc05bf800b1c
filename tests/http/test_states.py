"""States over HTTP: now, as they were known, and as they were."""

from pathlib import Path

from tests.http.serving import problem, served
from tests.http.shop import shop


async def test_a_state_is_loaded_now_and_at_any_time(tmp_path: Path) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db", projections=[])) as client:
        for day, quantity in ((1, 3), (5, 4)):
            body, when = {"sku": "tea", "quantity": quantity}, {"occurred_at": f"2026-03-0{day}T12:00:00Z"}
            await client.post("/commands/ReceiveStock", json=body, params=when)
        now = await client.get("/states/Stock/tea")
        assert (now.json()["available"], now.headers["refold-position"]) == (7, "2")
        for asked, available in (
            ({"as_of": "1"}, 3),
            ({"as_of": "0"}, 0),
            ({"as_of": "2020-01-01T00:00:00Z"}, 0),
            ({"as_of": "2126-01-01T00:00:00Z"}, 7),
            ({"effective": "2026-03-02T00:00:00Z"}, 3),
            ({"effective": "2026-03-02T00:00:00Z", "as_of": "0"}, 0),
        ):
            assert (await client.get("/states/Stock/tea", params=asked)).json()["available"] == available, asked


async def test_a_key_may_be_any_text() -> None:
    async with served(shop("memory:", projections=[])) as client:
        for sku in ("a/b", "ä é", "%2F", "a?b", "..", "a+b"):
            await client.post("/commands/ReceiveStock", json={"sku": sku, "quantity": 1})
            quoted = "".join(f"%{byte:02X}" for byte in sku.encode())
            found = (await client.get(f"/states/Stock/{quoted}")).json()
            assert found == {"sku": sku, "available": 1, "name": ""}


async def test_a_key_is_given_whole() -> None:
    async with served(shop("memory:", projections=[])) as client:
        problem(await client.get("/states/Stock"), 400, "INVALID_QUERY")
        problem(await client.get("/states/Stock/a/b"), 400, "INVALID_QUERY")
        assert "there is Stock" in problem(await client.get("/states/Nope/a"), 404, "NOT_FOUND")["detail"]


async def test_a_time_needs_a_zone() -> None:
    async with served(shop("memory:", projections=[])) as client:
        for asked in ({"as_of": "2026-03-01"}, {"as_of": "soon"}, {"effective": "2026-03-01T12:00:00"}):
            problem(await client.get("/states/Stock/tea", params=asked), 400, "INVALID_QUERY")
