"""What operators see and do over HTTP: the same as `app.operations`, recorded under the name of the key."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from refold.http import Access, Keys
from refold.http.operations import WITHHELD
from refold.http.tokens import create
from tests.cli import billing
from tests.cli.billing import BUS, SENT, OrderPlaced
from tests.http.serving import problem, served
from tests.runtime.clicks import BROKEN, Clicked, Failing, clicks


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    for each in (BROKEN, billing.BROKEN, SENT, vars(BUS)["_topics"]):
        each.clear()


class Client:
    """Somebody with a key."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str) -> httpx.Response:
        return await self._client.get(f"/operations/{path}", headers=self._headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self._client.post(f"/operations/{path}", json=body or {}, headers={**self._headers, **headers})

    async def acts(self) -> list[tuple[str, str, str, str]]:
        return [
            (each["acted"]["action"], each["acted"]["about"], each["acted"]["actor"], each["error"])
            for each in (await self.get("audit")).json()
        ]


@pytest.fixture
async def ann(tmp_path: Path) -> AsyncIterator[Client]:
    """Serve clicks of which two pages are broken; ann is an operator."""
    BROKEN.add("a")
    BROKEN.add("b")
    app = clicks(f"sqlite:///{tmp_path}/log.db")
    token = create(tmp_path / "keys.json", "ann", "operator")
    async with served(app, Access(Keys(tmp_path / "keys.json"))) as client:
        await app.record(Failing("a"), Clicked("a"), Failing("b"), Clicked("c"))
        await app.settle(parked=True)
        yield Client(client, token)


async def test_what_is_parked_is_seen_by_cause_and_whole(ann: Client) -> None:
    found = (await ann.get("parked")).json()
    assert [(each["name"], each["count"], each["behind"]) for each in found["groups"]] == [("Clicks", 2, 1)]
    assert [(each["position"], bool(each["error"])) for each in found["parked"]] == [(1, True), (2, False), (3, True)]
    assert found["count"] == 3
    assert len((await ann.get("parked?limit=1")).json()["parked"]) == 1
    assert (await ann.get("parked?of=Others")).json()["groups"] == []
    [one] = (await ann.get("parked/at/3")).json()
    assert one["event"]["data"] == {"page": "b", "times": 1}
    assert "ValueError: b is broken" in one["parked"]["traceback"]
    assert (await ann.get("parked/at/99")).json() == (await ann.get("parked/at/x")).json() == []


async def test_it_is_retried_and_skipped_and_asking_twice_does_no_harm(ann: Client) -> None:
    problem(await ann.post("parked/retry"), 400, "INVALID_QUERY")
    problem(await ann.post("parked/retry", {"position": 1}), 400, "INVALID_BODY")
    group = (await ann.get("parked")).json()["groups"][0]["id"]
    tried = (await ann.post("parked/retry", {"group": group})).json()
    assert (tried["tried"], [each["position"] for each in tried["failing"]]) == (2, [1, 3])
    problem(await ann.post("parked/skip", {"positions": [1]}), 400, "INVALID_BODY")
    problem(await ann.post("parked/skip", {"positions": [1], "reason": " "}), 400, "INVALID_QUERY")
    for count in (1, 0):
        assert (await ann.post("parked/skip", {"positions": [1], "reason": "sent twice"})).json() == {"count": count}
    problem(await ann.post("parked/skip", {"positions": [77], "reason": "x"}), 404, "NOT_FOUND")
    [skipped] = (await ann.get("skipped")).json()
    assert (skipped["position"], skipped["actor"], skipped["reason"]) == (1, "ann", "sent twice")
    BROKEN.clear()
    assert (await ann.post("parked/retry", {"all": True})).json() == {"tried": 1, "failing": []}
    assert (await ann.get("parked")).json() == {"groups": [], "parked": [], "count": 0}
    assert await ann.acts() == [
        ("retry", "Clicks", "ann", ""),
        ("skip", "Clicks", "ann", ""),
        ("retry", "Clicks", "ann", "2 of 2 fail again"),
    ]
    assert len((await ann.get("audit?limit=1")).json()) == 1
    assert (await ann.get("audit?actor=bob")).json() == []


async def test_a_projection_is_rebuilt_compared_switched_to_left_and_dropped(ann: Client) -> None:
    BROKEN.clear()
    assert (await ann.post("parked/retry", {"all": True})).json()["failing"] == []
    path = "projections/Clicks"
    [before] = (await ann.get(path)).json()
    begun = await ann.post(f"{path}/rebuild", {"hold": True})
    assert (begun.status_code, begun.json()) == (202, {"begun": True})
    async with asyncio.timeout(60):
        while not any(each["comparison"] for each in (await ann.get(path)).json()):
            await asyncio.sleep(0.01)
    after = next(each["version"] for each in (await ann.get(path)).json() if each["status"] == "building")
    standing = {each["version"]: each["status"] for each in (await ann.get("standing")).json()}
    assert standing == {before["version"]: "active", after: "building"}
    assert (await ann.post(f"{path}/compare")).json()["different"] == 0
    for _ in range(2):
        assert (await ann.post(f"{path}/switch", {"version": after})).json()["version"] == after
    for _ in range(2):
        assert (await ann.post(f"{path}/rollback", {"leaving": after})).json()["version"] == before["version"]
    for count in (1, 0):
        assert (await ann.post(f"{path}/drop", {"version": after})).json() == {"count": count}
    problem(await ann.post(f"{path}/drop", {"version": before["version"]}), 400, "INVALID_QUERY")
    problem(await ann.post("projections/Nothing/rebuild"), 404, "NOT_FOUND")
    problem(await ann.post(f"{path}/rebuild", {"workers": 0}), 400, "INVALID_BODY")
    [failed, *acts] = await ann.acts()
    assert "is the version that is read" in failed[3]
    assert [each[0] for each in acts] == ["drop", "rollback", "switch", "rebuild", "retry"]


async def test_processes_effects_and_the_outbox(tmp_path: Path) -> None:
    billing.BROKEN.add("o-2")
    app = billing.app(f"sqlite:///{tmp_path}/log.db")
    token = create(tmp_path / "keys.json", "ann", "operator")
    other = create(tmp_path / "keys.json", "bob", "reader")
    async with served(app, Access(Keys(tmp_path / "keys.json"))) as client:
        ann = Client(client, token)
        await app.settle()
        await app.record(OrderPlaced("o-1"), OrderPlaced("o-2"))
        await app.settle(parked=True)
        failed, timer = (await ann.get("waiting?process=dun")).json()
        assert (await ann.get("waiting?process=dun&limit=1")).json() == [failed], "what is stuck is told first"
        assert timer["command"] == {"name": "Remind", "order_id": "o-1"}
        assert (failed["key"], failed["is_stuck"]) == ("order:o-2", True)
        assert "o-2 is broken" in failed["error"]
        reader = Client(client, other)
        assert [each["error"] for each in (await reader.get("waiting?process=dun")).json()] == [WITHHELD, ""]
        body = {"key": "order:o-2", "reason": "the customer called"}
        for count in (1, 0):
            assert (await ann.post("processes/dun/give-up", body)).json() == {"count": count}
        problem(await ann.post("processes/none/give-up", body), 404, "NOT_FOUND")
        problem(await ann.post("effects/dun/repeat", {"after": 0, "upto": 1, "reason": "x"}), 404, "NOT_FOUND")
        sent = len(SENT)
        again = {"after": 0, "upto": 1, "reason": "the mailer lost a day"}
        for count in (1, 0):
            answer = await ann.post("effects/mail/repeat", again, **{"Idempotency-Key": "k-1"})
            assert answer.json() == {"count": count}
        other = await ann.post("effects/mail/repeat", {**again, "upto": 2}, **{"Idempotency-Key": "k-1"})
        problem(other, 409, "APPEND_ID_REUSED")
        assert len(SENT) == sent + 1
        assert await ann.acts() == [("repeat", "mail", "ann", ""), ("give_up", "dun", "ann", "")]
        problem(await ann.post("outbox/republish", again), 400, "INVALID_QUERY")


async def test_an_effect_that_failed_is_not_told_as_done_when_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError("the password is geheim")

    monkeypatch.setattr("refold.runtime.effect.Effect.repeat", fails)
    app = billing.app(f"sqlite:///{tmp_path}/log.db")
    token = create(tmp_path / "keys.json", "ann", "operator")
    async with served(app, Access(Keys(tmp_path / "keys.json"))) as client:
        ann = Client(client, token)
        await app.record(OrderPlaced("o-1"))
        again = {"after": 0, "upto": 1, "reason": "lost"}
        answers = [await ann.post("effects/mail/repeat", again, **{"Idempotency-Key": "k"}) for _ in range(2)]
        problem(answers[0], 500, "INTERNAL")
        assert "asked before, and failed: RuntimeError" in problem(answers[1], 400, "INVALID_QUERY")["detail"]
        assert all("geheim" not in each.text for each in (*answers, await ann.get("audit")))


async def test_who_sees_a_part_sees_nothing_here_and_a_reader_no_words_of_failures(tmp_path: Path) -> None:
    """Canaries: keys, errors and reasons are about all that there is."""
    keys = tmp_path / "keys.json"
    BROKEN.add("canary")
    app = clicks(f"sqlite:///{tmp_path}/log.db")
    tokens = [
        create(keys, "r", "reader"),
        create(keys, "t", "admin", tags=["page:tea"]),
        create(keys, "v", "admin", views=["Clicks"]),
    ]
    async with served(app, Access(Keys(keys))) as client:
        reader, *narrowed = [Client(client, token) for token in tokens]
        await app.record(Failing("canary"), Clicked("tea"))
        await app.settle(parked=True)
        await app.operations.skip(*await app.operations.parked(), reason="a test", actor="ann")
        await app.record(Failing("canary"))
        await app.settle(parked=True)
        await app.operations.begin_rebuild("Clicks")
        async with asyncio.timeout(60):
            while not any(each.trouble for each in await app.operations.standing()):
                await asyncio.sleep(0.01)
        for each in narrowed:
            for path in ("standing", "projections/Clicks", "parked", "parked/at/1", "skipped", "waiting", "audit"):
                answer = await each.get(path)
                problem(answer, 403, "FORBIDDEN")
                assert "canary" not in answer.text
            for path in ("parked/retry", "parked/skip", "projections/Clicks/rebuild", "processes/x/give-up"):
                problem(await each.post(path, {"all": True, "reason": "x"}), 403, "FORBIDDEN")
        troubles = [each["trouble"] for each in (await reader.get("standing")).json() if each["trouble"]]
        assert troubles == [WITHHELD]
        for path in ("parked", "parked?of=Clicks", "parked/at/4", "skipped"):
            text = (await reader.get(path)).text
            assert WITHHELD in text, path
            assert all(said not in text for said in ("is broken", "Traceback", "clicks")), path
        assert {each["error"] for each in (await reader.get("parked")).json()["groups"]} == {WITHHELD}
        log = await client.get("/log/events", headers=vars(reader)["_headers"])
        assert "is broken" not in log.text, "nor in the record of what operators did"


async def test_nobody_else_writes_what_operators_did(tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "root", "admin")
    async with served(clicks("memory:"), Access(Keys(tmp_path / "keys.json"))) as client:
        forged = {"events": [{"type": "refold.OperatorActed", "data": {"action": "skip", "about": "Clicks"}}]}
        answer = await client.post("/log/events", json=forged, headers={"Authorization": f"Bearer {token}"})
        problem(answer, 403, "FORBIDDEN")
