"""What programs say of their failures is for operators: no page and no answer tells it to anybody else."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

import httpx
import pytest

from refold import App, Command, Event, NewEvent, State, Tag, effect, later, stored_as
from refold.console import Console
from refold.console.console import PAGES
from refold.http import Access, Api, Keys
from refold.http.api import ENDPOINTS
from refold.http.tokens import create
from tests.http.serving import sent, served

CANARY = "canary-7c1e"
Thing = Annotated[str, Tag("thing")]
STREAMS = {"/log/follow", "/log/live", "/views/{name}/watch"}
UNLOADABLE = {"/states/{name}/{key:path}", "/views/{name}/rows/{key:path}"}
"""Where there is nothing to tell, since the states cannot be loaded."""
NAMES = ("Known", "Kept", "Missing", "asks", "acts", "Fail")
WAYS: dict[str, list[str]] = {
    "/states/{name}/{key:path}": ["", "?as_of=3", "?effective=2100-01-01T00:00:00Z"],
    "/stories/{name}/{key:path}": ["", "?as_of=3", "?effective=2100-01-01T00:00:00Z"],
    "/views/{name}": ["", "?as_of=3", "?as_of=3&count=true", "?search=t"],
    "/views/{name}/rows/{key:path}": ["", "?as_of=3", "?at_least=3"],
    "/log/search": ["", "?text=thing"],
    "/search": ["?text=t-1", "?text=1"],
    "/processes": ["", "?process=asks", "?stuck=yes"],
    "/parked": ["", "?of=Kept"],
}
"""In which ways a path is asked, if there are several."""


@stored_as("Changed", version=1)
class Old(Event):
    thing: Thing


@stored_as("Changed", version=2)
class Changed(Event):
    thing: Thing
    text: str = ""


class Happened(Event):
    thing: Thing


class Fail(Command):
    thing: Thing


class Look(Command):
    thing: Thing


def fails() -> NoReturn:
    raise ValueError(f"the password is {CANARY}")


def changed(old: Old) -> Changed:
    fails()


class Known(State):
    thing: Thing
    count: int = 0

    def evolve(self, event: Changed | Happened) -> Self:
        return fails() if isinstance(event, Happened) else self


class Kept(State):
    thing: Thing
    count: int = 0

    def evolve(self, event: Changed | Happened) -> Self:
        fails()


def fail(command: Fail) -> Happened:
    fails()


def look(command: Look, known: Known) -> Happened:
    fails()


def asks(event: Happened) -> Iterable[Command]:
    yield later(Fail(event.thing), after=timedelta(seconds=-1), name="by time")
    if event.thing != "t-1":
        yield Fail(event.thing)


async def acts(event: Happened) -> None:
    fails()


def paths(path: str) -> Iterable[str]:
    """Return addresses of an endpoint or page, for each of what it may be about."""
    names = NAMES if "{name}" in path else ("",)
    for name, position in product(names, "123" if "{position}" in path else "1"):
        given = {"{name}": name, "{key:path}": "t-1", "{position}": position, "{id:path}": "a", "{path:path}": ""}
        made = path
        for part, value in given.items():
            made = made.replace(part, value)
        assert "{" not in made, "say how this is addressed"
        yield made


def addresses() -> Iterator[tuple[str, str]]:
    """Return all that can be seen, each with what it is an address of."""
    api = [("", each.path) for each in ENDPOINTS if each.method == "GET"]
    console = [("/console", each.path) for each in PAGES if each.method == "GET"]
    for start, path in (*api, *console):
        for made in paths(path):
            yield from ((path, f"{start}{made}{way}") for way in WAYS.get(path, [""]))


async def text_of(client: httpx.AsyncClient, path: str, url: str, headers: dict[str, str]) -> str:
    """Return what is told at an address; of a stream its first two events."""
    if path not in STREAMS:
        answer = await client.get(url, headers=headers)
        assert answer.status_code < 500 or path in UNLOADABLE, url
        return answer.text
    async with client.stream("GET", url, headers={**headers, "Last-Event-ID": "0"}) as stream:
        if stream.status_code != 200:
            return (await stream.aread()).decode()
        events = sent(stream)
        return "".join([(await anext(events))["text"] for _ in range(1 if path == "/log/live" else 2)])


@pytest.mark.timeout(300)
async def test_no_word_of_a_failure_is_told_to_who_cannot_be_an_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    keys = tmp_path / "keys.json"
    seers: dict[str, dict[str, Any]] = {
        "reader": {"role": "reader"},
        "narrowed": {"role": "reader", "tags": ["thing:t-1"]},
        "writer": {"role": "writer"},
        "operator": {"role": "operator"},
    }
    tokens = {name: create(keys, name, **given) for name, given in seers.items()}
    app = App(
        f"sqlite:///{tmp_path}/log.db",
        events=[Changed, Happened],
        decisions=[fail, look],
        upcasters=[changed],
        processes=[asks],
        effects=[effect(acts, from_start=True)],
        projections=[Kept],
    )
    told: dict[str, set[str]] = {name: set() for name in seers}
    async with served(Console(Api(app, Access(Keys(keys))))) as client:
        old = NewEvent("Changed", b'{"thing":"t-1"}', ("thing:t-1",), 1)
        await app.log.append([old, NewEvent("Happened", b'{"thing":"t-1"}', ("thing:t-1",), 1)])
        await app.record(Happened("t-2"))
        await app.settle(parked=True)
        for name, token in tokens.items():
            client.cookies.clear()
            await client.post("/console/login", data={"key": token}, headers={"Sec-Fetch-Site": "same-origin"})
            bearer = {"Authorization": f"Bearer {token}"}
            for path, url in addresses():
                with suppress(StopAsyncIteration):
                    if CANARY in await text_of(client, path, url, bearer):
                        told[name].add(path)
    everywhere = {"/stories/{name}/{key:path}", "/log/{position}", "/causes/{position}", "/parked", "/processes"}
    assert told.pop("operator") >= {*everywhere, "/operations/parked", "/operations/waiting"}, "the test tests nothing"
    assert told == {"reader": set(), "narrowed": set(), "writer": set()}
