"""The log over HTTP: pages of one view of it, conditions, and streams that can be taken up again."""

import asyncio
from base64 import b64encode
from typing import Any

from refold import NewEvent
from refold.store.memory import MemoryStore
from tests.http.serving import problem, sent, served
from tests.http.shop import shop
from tests.http.store import HttpStore


def event(number: int, **more: object) -> dict[str, object]:
    return {"type": "Counted", "tags": [f"parity:{number % 2}"], "data": {"number": number}, **more}


async def test_pages_are_of_one_view_of_the_log() -> None:
    async with served(shop("memory:", projections=[])) as client:
        await client.post("/log/events", json={"events": [event(number) for number in range(1, 8)]})
        asked: dict[str, object] | None = {"limit": 3}
        positions: list[list[int]] = []
        while asked is not None:
            page = (await client.get("/log/events", params={"limit": 3, **asked})).json()  # type: ignore[dict-item]
            positions.append([each["position"] for each in page["events"]])
            await client.post("/log/events", json={"events": [event(0)]})
            asked = page["next"]
        assert positions == [[1, 2, 3], [4, 5, 6], [7]]
        page = (await client.get("/log/events?tags=parity:1&backwards=true&limit=2&upto=7")).json()
        assert [each["position"] for each in page["events"]] == [7, 5]
        assert page["next"] == {"after": 0, "upto": 4}


async def test_a_page_ends_before_it_is_too_large() -> None:
    app = shop("memory:", projections=[])
    data = b'{"name": "%s"}' % (b"x" * 900_000)
    async with served(app) as client:
        await app.log.append([NewEvent("StockReceived", data) for _ in range(20)])
        for asked in ("", "?backwards=true"):
            found, params, sizes = list[int](), dict[str, Any](), list[int]()
            while True:
                answer = await client.get(f"/log/events{asked}", params=params)
                page = answer.json()
                found += [each["position"] for each in page["events"]]
                sizes.append(len(answer.content))
                if page["next"] is None:
                    break
                params = page["next"] | ({"backwards": "true"} if asked else {})
            assert sorted(found) == list(range(1, 21)), asked
            assert len(set(found)) == 20
            assert max(sizes) < 10 << 20, asked
        newest = (await client.get("/log/search", params={"limit": 20})).json()
        older = (await client.get("/log/search", params={"limit": 20, **newest["next"]})).json()
        assert [each["position"] for each in (*newest["events"], *older["events"])] == list(range(20, 2, -1))
        assert newest["after"] == older["upto"], "nothing is left out between"


async def test_a_long_query_goes_in_the_body() -> None:
    async with served(shop("memory:", projections=[])) as client:
        await client.post("/log/events", json={"events": [event(1), event(2, type="Other")]})
        items = [{"types": ["Other"]}, {"tags": ["parity:1"]}, *({"tags": [f"x:{n}"]} for n in range(5_000))]
        page = (await client.post("/log/read", json={"query": {"items": items}})).json()
        assert [each["position"] for each in page["events"]] == [1, 2]
        wrong = await client.post("/log/read", json={"query": {"items": [{}]}})
        problem(wrong, 400, "INVALID_QUERY")


async def test_an_append_is_conditional_and_comes_once() -> None:
    async with served(shop("memory:", projections=[])) as client:
        condition = {"fail_if_match": {"items": [{"tags": ["parity:1"]}]}, "after": 0}
        batch = {"events": [event(1), event(3)], "condition": condition, "append_id": "first"}
        done = await client.post("/log/events", json=batch)
        assert done.json() == {"first": 1, "last": 2}
        assert (await client.post("/log/events", json=batch)).json() == {"first": 1, "last": 2}
        again = await client.post("/log/events", json={**batch, "append_id": "second"})
        assert problem(again, 409, "CONFLICT")["position"] == 1
        other = await client.post("/log/events", json={**batch, "events": [event(5)]})
        problem(other, 409, "APPEND_ID_REUSED")
        assert (await client.get("/log/appends/first")).json() == {"first": 1, "last": 2}
        problem(await client.get("/log/appends/none"), 404, "NOT_FOUND")
        ahead = {**batch, "append_id": None, "condition": {**condition, "after": 99}}
        problem(await client.post("/log/events", json=ahead), 409, "POSITION_AHEAD")


async def test_data_are_bytes_that_come_back_as_they_were() -> None:
    async with served(shop("memory:", projections=[])) as client:
        datas = (b'{ "a" : 1.0 ,"b":[ ]}', b"\x00\xff", b"", b"null", b" 1", b"not json", b'"\\u0000"')
        for data in datas:
            text = b64encode(data).decode()
            given = {"type": "Bytes", "data_base64": text, "metadata_base64": text}
            assert (await client.post("/log/events", json={"events": [given]})).status_code == 200
        raw = b'{"events":[{"type":"Bytes","data":{ "x" :  1e2}}]}'
        await client.post("/log/events", content=raw, headers={"Content-Type": "application/json"})
        stored = [each.data async for page in HttpStore(client).read() for each in page]
        assert stored == [*datas, b'{ "x" :  1e2}']
        for text in ("?", "\xa6", "YQ"):
            wrong = await client.post("/log/events", json={"events": [{"type": "Bytes", "data_base64": text}]})
            problem(wrong, 400, "INVALID_EVENT")


async def test_a_follower_gets_what_is_there_and_what_comes_and_goes_on_where_it_was() -> None:
    store = MemoryStore()
    async with served(shop(store, projections=[])) as client:
        await client.post("/log/events", json={"events": [event(number) for number in range(1, 5)]})
        seen: list[tuple[str, str]] = []
        last = None
        async with asyncio.timeout(60):
            for wanted in (2, 5):
                headers = {} if last is None else {"Last-Event-ID": last}
                async with client.stream("GET", "/log/follow?tags=parity:1", headers=headers) as response:
                    async for each in sent(response):
                        seen.append((each["event"], last := each["id"]))
                        if each["id"] == "4":
                            await client.post("/log/events", json={"events": [event(5), event(6)]})
                        if len(seen) >= wanted:
                            break
        assert seen == [("event", "1"), ("event", "3"), ("upto", "4"), ("event", "5"), ("upto", "6")]
