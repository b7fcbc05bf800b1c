"""What is given with a request: read within bounds, or refused."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from refold.errors import StoreFull
from refold.http.call import MOST, whole
from tests.http.serving import problem, served
from tests.http.shop import shop

BEYOND = str(MOST + 1)
LONG = "9" * 5_000


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        (str(MOST), MOST),
        (BEYOND, None),
        (LONG, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1_0", None),
        ("\N{ARABIC-INDIC DIGIT ONE}", None),
        ("\N{SUPERSCRIPT TWO}", None),
        (None, None),
    ],
)
def test_a_whole_number_is_one_or_none(text: str | None, number: int | None) -> None:
    assert whole(text) == number
    assert whole(text, 0) == (0 if number == 0 else None)


@pytest.mark.parametrize("given", [BEYOND, "9" * 19, LONG])
async def test_a_number_that_no_store_can_take_is_refused(tmp_path: Path, given: str) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        for path in (
            f"/log/events?after={given}",
            f"/log/events?upto={given}",
            f"/log/search?before={given}",
            f"/log/follow?after={given}",
            f"/views/Order?offset={given}",
            f"/views/Order/watch?after={given}",
            f"/views/Order?as_of={given}",
            f"/stories/Order/o-1?after={given}",
            f"/operations/audit?before={given}",
        ):
            problem(await client.get(path), 400, "INVALID_QUERY")
        for path in ("/log/follow", "/views/Order/watch"):
            problem(await client.get(path, headers={"Last-Event-ID": given}), 400, "INVALID_QUERY")
        problem(await client.get(f"/causes/{given}"), 404, "NOT_FOUND")
        assert (await client.get(f"/operations/parked/at/{given}")).json() == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/log/read", {"after": 10**30}),
        ("/log/events", {"events": [{"type": "A", "version": 10**30}]}),
        ("/log/events", {"events": [{"type": "A", "data": {}, "data_base64": "e30="}]}),
        ("/log/events", {"events": [{"type": "A", "metadata": {}, "metadata_base64": "e30="}]}),
        ("/log/read", {"upto": 2**63}),
        ("/log/read", {"limit": 2**63}),
        ("/log/events", {"events": [{"type": "A"}], "condition": {"fail_if_match": {}, "after": 2**63}}),
        ("/operations/outbox/republish", {"after": 2**63, "upto": 2**63, "reason": "why"}),
    ],
)
async def test_so_is_one_in_a_body(tmp_path: Path, path: str, body: Any) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        assert (await client.post(path, json=body)).status_code in (400, 409, 413)


@pytest.mark.parametrize("end", [b"", b"\\"], ids=["open", "on a backslash"])
async def test_a_text_that_never_ends_is_looked_at_once(end: bytes) -> None:
    bomb = b"[" * 65 + b'"' + b'\\"' * 20_000 + end
    async with served(shop("memory:", projections=[])) as client:
        begun = time.process_time()
        answer = await client.post("/log/read", content=bomb, headers={"Content-Type": "application/json"})
        assert problem(answer, 413, "TOO_LARGE")
        assert time.process_time() - begun < 1


EXTREME = ("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00")


@pytest.mark.parametrize("moment", EXTREME)
async def test_a_time_that_is_none_in_utc_is_refused(moment: str) -> None:
    app = shop("memory:")
    async with served(app) as client:
        given = quote(moment)
        command = {"sku": "tea", "quantity": 1}
        problem(await client.post(f"/commands/ReceiveStock?occurred_at={given}", json=command), 400, "INVALID_QUERY")
        assert await app.head() == 0
        for path in (
            "/states/Stock/tea?effective",
            "/stories/Stock/tea?as_of",
            "/log/search?since",
            "/views/Stock?as_of",
        ):
            problem(await client.get(f"{path}={given}"), 400, "INVALID_QUERY")


@pytest.mark.parametrize(
    "asked",
    [
        "/log/events?type=OrderPlaced",
        "/log/events?after=1&after=2",
        "/log/events?query=%7B%7D&types=OrderPlaced",
        "/log/head?after=1",
        "/states/Stock/tea?asof=1",
        "/stories/Stock/tea?upto=1&upto=2",
        "/causes/1?limit=1",
        "/views/Stock?after=1",
        "/views/Stock?name=tea&name=cup",
        "/views/Stock?name=tea&where=%7B%22name%22%3A%22cup%22%7D",
        *(f"/views/Stock?search=tea&{more}" for more in ("as_of=1", "order=name", "count=true")),
        "/views/Stock/rows/tea?name=tea",
        *(f"/views/Stock/watch?{more}" for more in ("as_of=1", "order=name", "search=tea", "limit=1", "at_least=1")),
        "/operations/parked?name=Stock",
        "/version?x",
    ],
)
async def test_what_would_be_passed_over_in_silence_is_refused(tmp_path: Path, asked: str) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        await client.post("/commands/ReceiveStock", json={"sku": "tea", "quantity": 1})
        problem(await client.get(asked), 400, "INVALID_QUERY")
        wrong = await client.post("/commands/ReceiveStock?occured_at=now", json={"sku": "tea", "quantity": 1})
        assert "there is occurred_at" in problem(wrong, 400, "INVALID_QUERY")["detail"]


async def test_who_looks_after_a_server_may_ask_as_they_do(tmp_path: Path) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        for path in ("/health", "/ready", "/metrics"):
            assert (await client.get(f"{path}?_=1")).status_code == 200


async def test_what_a_store_says_of_its_files_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = shop(f"sqlite:///{tmp_path}/log.db")

    async def fails(*_: Any, **__: Any) -> int:
        raise StoreFull(f"there is no room for {tmp_path}/log.db")

    async with served(app) as client:
        with monkeypatch.context() as patch:
            patch.setattr(app, "head", fails)
            answer = await client.get("/log/head")
        assert str(tmp_path) not in answer.text
        assert "log of the server" in problem(answer, 507, "STORE_FULL")["detail"]


@pytest.mark.parametrize("asked", ["order=name,-name", f"order={',name' * 3_000}", "order=name&order=name"])
async def test_an_order_by_one_field_twice_is_none(tmp_path: Path, asked: str) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        problem(await client.get(f"/views/Stock?{asked}"), 400, "INVALID_QUERY")
        far = quote("9999-12-31T23:59:59-12:00")
        problem(await client.get(f"/views/Order?placed_at={far}"), 400, "INVALID_QUERY")
