"""Commands in the console: filled in, refused at their fields, done once, and shown with what came of them."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Struct

from refold import App, Command
from refold.console import Console
from refold.errors import StoreBusy, TooLarge
from refold.http import Access, Api, Keys
from refold.http.tokens import create
from tests.http.serving import served
from tests.http.shop import StockReceived, shop

OWN = {"Sec-Fetch-Site": "same-origin"}
TEA = {"sent": "1", "f.sku": "tea", "f.quantity": "3", "f.name": "Green <b>tea</b>"}


def console(store: str = "memory:", keys: Path | None = None) -> Console:
    return Console(Api(shop(store, projections=[]), Access(Keys(keys)) if keys else None), address="shop.main:app")


async def send(client: httpx.AsyncClient, name: str, form: dict[str, str]) -> httpx.Response:
    return await client.post(f"/console/commands/{name}", data=form, headers=OWN)


def key_of(page: httpx.Response) -> str:
    found = re.search(r'name="key" value="([^"]+)"', page.text)
    assert found
    return found[1]


async def test_a_command_is_filled_in_and_done_once() -> None:
    async with served(console()) as client:
        listed = (await client.get("/console/commands")).text
        assert "Asks for so many of a product." in listed
        form = await client.get("/console/commands/ReceiveStock")
        key = key_of(form)
        assert key != key_of(await client.get("/console/commands/ReceiveStock"))
        first = await send(client, "ReceiveStock", TEA | {"key": key})
        again = await send(client, "ReceiveStock", TEA | {"key": key})
        assert (first.status_code, first.headers["location"]) == (303, again.headers["location"])
        assert (await client.get("/log/head")).json() == {"position": 1}
        outcome = (await client.get(first.headers["location"])).text
        assert 'href="/console/log/1"' in outcome
        assert "Green &lt;b&gt;tea&lt;/b&gt;" in outcome
        [event] = (await client.get("/log/events")).json()["events"]
        assert event["metadata"]["actor"] == "local"


async def test_what_does_not_fit_stands_at_its_field_and_nothing_is_lost() -> None:
    async with served(console()) as client:
        answer = await send(client, "ReceiveStock", TEA | {"f.quantity": "three", "key": "k"})
        assert answer.status_code == 400
        assert 'aria-describedby="e.quantity"' in answer.text
        assert "Expected `int`, got `str`" in answer.text
        assert 'value="three"' in answer.text
        assert key_of(answer) == "k"
        assert (await client.get("/log/head")).json() == {"position": 0}


async def test_a_refusal_says_why() -> None:
    async with served(console()) as client:
        form = {"sent": "1", "f.order_id": "o-1", "f.sku": "tea", "f.quantity": "1", "key": "k"}
        refused = await send(client, "PlaceOrder", form)
        assert refused.status_code == 409
        assert "Refused: There is not enough of it." in refused.text
        assert "SoldOut" in refused.text
        assert 'value="o-1"' in refused.text
        await send(client, "ReceiveStock", TEA | {"key": "s"})
        assert (await send(client, "PlaceOrder", form)).status_code == 303, "the same form, once there is some"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (StoreBusy("geheim.db is locked"), 503, "Not done: Another program holds the store"),
        (TooLarge("the batch is too large"), 413, "Refused: the batch is too large"),
        (RuntimeError("the password is geheim"), 500, "Not done: The request failed; the log of the server says why."),
    ],
)
async def test_whatever_goes_wrong_nothing_that_was_written_is_lost(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    async def fails(*_: object, **__: object) -> int:
        raise error

    async with served(console()) as client:
        with monkeypatch.context() as patch:
            patch.setattr(App, "execute", fails)
            answer = await send(client, "ReceiveStock", TEA | {"key": "k"})
        assert answer.status_code == status
        assert said in answer.text
        assert "geheim" not in answer.text
        assert 'value="tea"' in answer.text
        assert key_of(answer) == "k"
        assert (await send(client, "ReceiveStock", TEA | {"key": key_of(answer)})).status_code == 303


class Bundle(Struct, frozen=True):
    sku: str
    a: str = ""
    b: str = ""
    c: str = ""
    d: str = ""


class Pack(Command):
    bundles: tuple[Bundle, ...]
    more: dict[str, Any] = msgspec.field(default_factory=dict)


def pack(command: Pack) -> Iterable[StockReceived]:
    for each in command.bundles:
        yield StockReceived(each.sku, 1)


async def test_as_many_entries_as_a_form_shows_are_taken_and_json_is_bounded_in_depth() -> None:
    app = App("memory:", events=StockReceived, decisions=[pack])
    async with served(Console(Api(app))) as client:
        form = {"sent": "1", "n.bundles": "40", "f.more": ""}
        form |= {f"f.bundles.{at}.{name}": f"{at}" for at in range(40) for name in ("sku", "a", "b", "c", "d")}
        done = await send(client, "Pack", form | {"key": "k"})
        assert done.status_code == 303
        assert (await client.get("/log/head")).json() == {"position": 40}
        deep = await send(client, "Pack", form | {"key": "j", "f.more": f'{{"a": {"[" * 64}{"]" * 64}}}'})
        assert deep.status_code == 413
        assert "nested 66 deep; 64 is allowed" in deep.text
        assert 'name="f.bundles.39.d" value="39"' in deep.text


async def test_it_says_what_does_the_same_and_can_be_linked_to() -> None:
    async with served(console()) as client:
        page = (await client.get("/console/commands/PlaceOrder", params={"f.order_id": "o'1", "f.sku": "tea"})).text
        assert 'value="o&#39;1"' in page
        assert "refold execute shop.main:app PlaceOrder" in page
        assert "/commands/PlaceOrder -H &#39;content-type: application/json&#39;" in page
        assert "/console/commands/PlaceOrder -H" not in page


async def test_when_it_happened_can_be_said() -> None:
    async with served(console()) as client:
        await send(client, "ReceiveStock", TEA | {"key": "k", "occurred_at": "2026-03-01T12:00"})
        [event] = (await client.get("/log/events")).json()["events"]
        assert event["metadata"]["occurred_at"] == "2026-03-01T12:00:00Z"
        wrong = await send(client, "ReceiveStock", TEA | {"key": "j", "occurred_at": "yesterday"})
        assert wrong.status_code == 400


@pytest.mark.parametrize(
    "payload", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{1234567*7}}", "\x00\x1b"]
)
async def test_what_is_written_is_shown_as_text(payload: str) -> None:
    async with served(console()) as client:
        for answer in (
            await send(client, "ReceiveStock", {"f.sku": payload, "f.quantity": payload, "key": payload, "sent": "1"}),
            await client.get("/console/commands/ReceiveStock", params={"f.sku": payload, "n.x": payload}),
            await client.get("/console/commands/" + "nope"),
        ):
            assert "<script>alert" not in answer.text
            assert "<img src=x" not in answer.text
            assert "8641969" not in answer.text


async def test_who_comes_in_does_what_their_key_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refold.http.tokens.LOOK_SECONDS", 0)
    keys = tmp_path / "keys.json"
    till = create(keys, "till", "writer", commands=["ReceiveStock"], tags=["product:tea"])
    other = create(keys, "other", "writer")
    async with served(console(keys=keys)) as client:
        await client.post("/console/login", data={"key": till}, headers=OWN)
        listed = (await client.get("/console/commands")).text
        assert "ReceiveStock" in listed
        assert "PlaceOrder" not in listed
        form = {"sent": "1", "f.order_id": "o-1", "f.sku": "tea", "f.quantity": "1", "key": "k"}
        assert (await client.get("/console/commands/ReceiveStock")).status_code == 200
        assert (await client.get("/console/commands/PlaceOrder")).status_code == 403, "before it is filled in"
        assert (await send(client, "PlaceOrder", form)).status_code == 403
        assert (await send(client, "ReceiveStock", TEA | {"f.sku": "cup", "key": "k"})).status_code == 403
        done = await send(client, "ReceiveStock", TEA | {"key": "k"})
        assert done.status_code == 303
        assert "StockReceived" in (await client.get(done.headers["location"])).text
        client.cookies.clear()
        await client.post("/console/login", data={"key": other}, headers=OWN)
        theirs = (await client.get(done.headers["location"])).text
        assert "StockReceived" not in theirs.partition("<main")[2], "an outcome is for who asked"
        assert (await client.post("/console/commands/ReceiveStock", data=TEA)).status_code == 403, "from another site"


async def test_a_command_that_finds_nothing_to_do_says_so_and_entries_come_without_a_script() -> None:
    async with served(console()) as client:
        page = await client.get("/console/commands/ReceiveStock/outcomes/none", params={"position": 7})
        assert "It gave no events" in page.text
        more = await send(client, "PlaceOrder", {"sent": "1", "f.order_id": "o-1", "add": "lines", "key": "k"})
        assert more.status_code == 200
        assert 'value="o-1"' in more.text
        assert (await client.get("/log/head")).json() == {"position": 0}
