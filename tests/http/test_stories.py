"""Stories over HTTP: the steps of a state, what each has changed, in parts, and not to those who may not see it."""

from pathlib import Path
from typing import Any

from refold.http import Access, Keys
from refold.http.tokens import create
from tests.http.serving import problem, served
from tests.http.shop import shop


async def test_a_story_is_told_with_what_each_event_has_changed(tmp_path: Path) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db", projections=[])) as client:
        await client.post("/commands/ReceiveStock", json={"sku": "a/b", "quantity": 3, "name": "Tea"})
        await client.post("/commands/ReceiveStock", json={"sku": "other", "quantity": 3})
        await client.post("/commands/PlaceOrder", json={"order_id": "o-1", "sku": "a/b", "quantity": 2})
        answer = await client.get("/stories/Stock/a%2Fb", params={"states": "true"})
        found = answer.json()
        assert answer.headers["refold-position"] == "3"
        assert [(each["event"]["position"], each["event"]["type"]) for each in found["steps"]] == [
            (1, "StockReceived"),
            (3, "OrderPlaced"),
        ]
        assert found["steps"][0]["changes"] == [
            {"path": "available", "before": 0, "after": 3},
            {"path": "name", "before": "", "after": "Tea"},
        ]
        assert found["steps"][1]["changes"] == [{"path": "available", "before": 3, "after": 1}]
        assert found["steps"][1]["event"]["data"]["order_id"] == "o-1"
        assert [each["state"]["available"] for each in found["steps"]] == [3, 1]
        assert found["start"] == {"sku": "a/b", "available": 0, "name": ""}
        assert found["state"] == (await client.get("/states/Stock/a%2Fb")).json()
        assert (found["upto"], found["has_earlier"], found["next"]) == (3, False, None)


async def test_a_story_is_told_in_parts_and_as_it_was() -> None:
    async with served(shop("memory:", projections=[])) as client:
        for day in (5, 1, 3):
            when = {"occurred_at": f"2026-03-0{day}T12:00:00Z"}
            await client.post("/commands/ReceiveStock", json={"sku": "tea", "quantity": day}, params=when)

        async def ask(**params: Any) -> tuple[list[int], int, int | None]:
            found = (await client.get("/stories/Stock/tea", params=params)).json()
            assert not any("state" in each for each in found["steps"])
            return [each["event"]["position"] for each in found["steps"]], found["state"]["available"], found["next"]

        assert await ask() == ([1, 2, 3], 9, None)
        assert await ask(limit=1) == ([3], 9, None)
        assert await ask(after=0, limit=2) == ([1, 2], 6, 2)
        assert await ask(after=2, limit=2) == ([3], 9, None)
        assert await ask(as_of=2) == ([1, 2], 6, None)
        assert await ask(upto=1) == ([1], 5, None)
        assert await ask(as_of="2020-01-01T00:00:00Z") == ([], 0, None)
        assert await ask(effective="2026-03-04T00:00:00Z") == ([2, 3], 4, None)
        for wrong in ({"limit": "0"}, {"after": "x"}, {"effective": "2026-03-04"}, {"states": "perhaps"}):
            problem(await client.get("/stories/Stock/tea", params=wrong), 400, "INVALID_QUERY")
        problem(await client.get("/stories/Stock"), 400, "INVALID_QUERY")
        assert "there is Stock" in problem(await client.get("/stories/Nope/a"), 404, "NOT_FOUND")["detail"]


async def test_an_event_that_cannot_be_read_is_a_step_of_the_story() -> None:
    async with served(shop("memory:", projections=[])) as client:
        await client.post("/commands/ReceiveStock", json={"sku": "tea", "quantity": 3})
        events = [{"type": "StockReceived", "version": 9, "tags": ["product:tea"], "data_base64": "AP8="}]
        await client.post("/log/events", json={"events": events})
        problem(await client.get("/states/Stock/tea"), 500, "INTERNAL")
        found = (await client.get("/stories/Stock/tea")).json()
        assert found["steps"][1]["event"]["data_base64"] == "AP8="
        assert "version 9" in found["steps"][1]["error"]
        assert found["state"]["available"] == 3


async def test_who_may_see_one_thing_is_told_no_other_story(tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "tea", "reader", tags=["product:tea"])
    async with served(shop("memory:"), Access(Keys(tmp_path / "keys.json"))) as client:
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/stories/Stock/tea", headers=bearer)).status_code == 200
        for hidden in ("/stories/Stock/milk", "/stories/Order/o-1", "/stories/Sales"):
            problem(await client.get(hidden, headers=bearer), 403, "FORBIDDEN")
