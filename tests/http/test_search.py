"""Searching the log over HTTP: by words, filters and ids, page by page, and nothing that one may not see."""

from pathlib import Path
from typing import Any

import pytest

from refold.http import Access, Keys
from refold.http.tokens import create
from refold.runtime import index
from tests.http.serving import problem, served
from tests.http.shop import shop

EVENTS = [
    {"type": "Placed", "tags": [f"order:{n}", f"customer:{n % 3}"], "data": {"of": ["green tea", "Café"][n % 2]}}
    for n in range(1, 10)
]


@pytest.mark.parametrize("kept", [True, False])
async def test_what_is_found_is_found_page_by_page(kept: bool, tmp_path: Path) -> None:
    app = shop(f"sqlite:///{tmp_path}/log.db", projections=[], index=kept)
    async with served(app) as client:
        await client.post("/log/events", json={"events": EVENTS})
        await app.settle()
        found: list[list[int]] = []
        asked: dict[str, Any] | None = {}
        while asked is not None:
            page = (await client.get("/log/search", params={"text": "cafe", "limit": 2, **asked})).json()
            found.append([each["position"] for each in page["events"]])
            asked = page["next"]
        assert [each for each in found if each] == [[9, 7], [5, 3], [1]]
        page = (await client.get("/log/search?text=tea&tags=customer:2&types=Placed&types=Paid")).json()
        assert [each["position"] for each in page["events"]] == [8, 2]
        assert (page["after"], page["upto"], page["next"]) == (0, 9, None)
        assert page["events"][0]["data"] == {"of": "green tea"}
        recorded = page["events"][1]["recorded_at"]
        late = (await client.get("/log/search", params={"since": recorded})).json()
        assert late["events"] == []
        early = (await client.get("/log/search", params={"until": recorded, "before": 4, "text": '"green tea"'})).json()
        assert [each["position"] for each in early["events"]] == [2]
        problem(await client.get("/log/search?text=***"), 400, "INVALID_QUERY")
        problem(await client.get("/log/search?since=2026-03-01T12:00:00"), 400, "INVALID_QUERY")
        problem(await client.get("/log/search?before=x"), 400, "INVALID_QUERY")
        assert (await client.get("/log/search?before=0")).json()["events"] == []


@pytest.mark.parametrize("kept", [True, False])
async def test_nobody_finds_what_they_may_not_see(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "GLANCE_SECONDS", 0.0)
    keys = tmp_path / "keys.json"
    tokens = {
        "admin": create(keys, "boss", "admin"),
        "one": create(keys, "one", "reader", tags=["customer:1"]),
        "two": create(keys, "two", "reader", tags=["customer:1", "customer:2"]),
        "none": create(keys, "none", "reader", tags=[]),
    }
    app = shop(f"sqlite:///{tmp_path}/log.db", projections=[], index=kept)
    async with served(app, Access(Keys(keys))) as client:

        async def ask(who: str, **params: Any) -> Any:
            headers = {"Authorization": f"Bearer {tokens[who]}"}
            return await client.get("/log/search", params=params, headers=headers)

        boss = {"Authorization": f"Bearer {tokens['admin']}"}
        secret = {"type": "Placed", "tags": ["customer:3"], "metadata": {"correlation_id": "customer:1"}}
        await client.post("/log/events", json={"events": [*EVENTS, secret]}, headers=boss)
        await app.settle()
        seen = {"one": [7, 4, 1], "two": [8, 7, 5, 4, 2, 1], "admin": [*range(10, 0, -1)]}
        for who, positions in seen.items():
            for asked in ({}, {"text": "placed"}, {"text": "placed", "types": "Placed"}):
                answer = (await ask(who, **asked)).json()
                assert [each["position"] for each in answer["events"]] == positions, (who, asked)
            named = (await ask(who, text="customer:1")).json()
            assert [each["position"] for each in named["events"]] == [
                each for each in positions if each in (1, 4, 7, 10)
            ], "neither by words nor as an id"
            others = (await ask(who, text="placed", tags="customer:3")).json()["events"]
            assert [each["position"] for each in others] == ([10] if who == "admin" else [])
        problem(await ask("none", text="placed"), 403, "FORBIDDEN")
