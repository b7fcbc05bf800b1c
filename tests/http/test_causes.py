"""Causes over HTTP: the tree of an event, and of it only what one may see."""

from pathlib import Path

from refold.http import Access, Keys
from refold.http.tokens import create
from tests.http.serving import problem, served
from tests.runtime.causing import shop


async def test_the_tree_of_an_event_is_told() -> None:
    app = shop("memory:", effects=[])
    async with served(app) as client:
        await client.post("/commands/Place", json={"order_id": "o-1"})
        await app.settle()
        found = (await client.get("/causes/1")).json()
        assert (found["position"], found["complete"]) == (1, True)
        root, placed, *others = found["nodes"]
        assert root == {
            "id": "c1",
            "parent": "",
            "depth": 0,
            "kind": "command",
            "name": "Place",
            "position": 1,
            "at": placed["at"],
            "actor": "local",
        }
        assert (placed["id"], placed["parent"], placed["tags"]) == ("e1", "c1", ["order:o-1", "customer:c-1"])
        assert {"Reserve", "Pay", "Ship"} <= {each["name"] for each in others}
        for nothing in ("0", "99", "x", "%D9%A1", "9" * 30):
            problem(await client.get(f"/causes/{nothing}"), 404, "NOT_FOUND")


async def test_of_a_tree_one_sees_what_one_may(tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "ann", "reader", tags=["customer:c-1"])
    boss = create(tmp_path / "keys.json", "boss", "admin")
    reader = create(tmp_path / "keys.json", "reader", "reader")
    app = shop("memory:")
    async with served(app, Access(Keys(tmp_path / "keys.json"))) as client:

        async def ask(path: str, who: str) -> list[dict[str, str]]:
            answer = await client.get(path, headers={"Authorization": f"Bearer {who}"})
            nodes: list[dict[str, str]] = answer.json()["nodes"]
            return nodes

        for order, customer in (("bad-1", "c-1"), ("o-2", "c-2")):
            await client.post(
                "/commands/Place",
                json={"order_id": order, "customer": customer},
                headers={"Authorization": f"Bearer {boss}", "Refold-Correlation-Id": "both"},
            )
        await app.settle(parked=True)
        mine = await ask("/causes/1", token)
        assert [each["tags"] for each in mine if each["kind"] == "event"] == [["order:bad-1", "customer:c-1"]]
        assert {each["kind"] for each in mine} == {"command", "event", "failed", "waiting"}
        assert not any("trouble" in each for each in mine)
        everything = await ask("/causes/1", boss)
        assert len([each for each in everything if each["kind"] == "event"]) > 5
        assert any("no money" in each.get("trouble", "") for each in everything)
        assert await ask("/causes/1", reader) == [
            {name: value for name, value in each.items() if name != "trouble"} for each in everything
        ], "why something failed is for operators"
        hidden = await client.get("/causes/2", headers={"Authorization": f"Bearer {token}"})
        problem(hidden, 404, "NOT_FOUND")
