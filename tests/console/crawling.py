"""Going through the console as a visitor does: from the overview along every link, so that new pages are found, too."""

from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from html.parser import HTMLParser
from urllib.parse import quote, urlencode, urljoin, urlsplit

import httpx
from msgspec import Struct
from starlette.routing import compile_path

from refold.console.console import PAGES, PREFIX
from tests.console.hostile import PAYLOADS
from tests.http.serving import sent

EACH = 6
"""How many addresses of one page are visited."""
BY_ACTION = (f"{PREFIX}/commands/Note/outcomes/{quote(PAYLOADS[0], safe='')}",)
"""Where only an action leads."""
STREAMS = ("/log/live",)
"""Pages that never end; the first that they send is taken for them."""
OTHERS = ("action", "hx-post")
"""Attributes that lead to what does something."""


class Element(Struct):
    """An element of a page."""

    name: str
    attributes: dict[str, str]


class Visited(Struct):
    """A page as it came."""

    url: str
    page: str
    """Its path in `PAGES`."""
    answer: httpx.Response
    elements: Sequence[Element]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))


def elements_of(text: str) -> list[Element]:
    """Return the elements of a page."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.elements


def page_of(url: str) -> str | None:
    """Return the path in `PAGES` of what can be seen at an address of the console."""
    path = urlsplit(url).path.removeprefix(PREFIX)
    seen = [(each.path, compile_path(each.path)[0]) for each in PAGES if each.method == "GET"]
    return next((to for to, pattern in seen if pattern.match(path) or pattern.match(f"{path}/")), None)


def forms(elements: Sequence[Element], text: str) -> list[str]:
    """Return where the forms of a page lead that only ask, with this text in each field that takes one."""
    found: list[str] = []
    fields: list[tuple[str, str]] = []
    action: str | None = None
    for each in elements:
        if each.name == "form":
            if action is not None:
                found.append(f"{action}?{urlencode(fields)}")
            fields, action = [], each.attributes.get("action", "")
            action = action if each.attributes.get("method", "get").lower() == "get" else None
        elif each.name in ("input", "textarea", "select") and (name := each.attributes.get("name")):
            kind = each.attributes.get("type", "text")
            own = each.attributes.get("value", "")
            if each.name == "input" and kind in ("text", "search"):
                fields.append((name, text))
            elif own:
                fields.append((name, own))
    if action is not None:
        found.append(f"{action}?{urlencode(fields)}")
    return found


def addresses(element: Element) -> list[str]:
    """Return what an element leads to: by a link, by what is fetched by itself, or for a script of ours."""
    return [
        value
        for name, value in element.attributes.items()
        if name in ("href", "hx-get") or (name not in OTHERS and value.startswith(PREFIX))
    ]


async def beginning(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """Return the first piece that a stream sends of what is there already, as a page."""
    async with client.stream("GET", url, headers={"Last-Event-ID": "0"}) as stream:
        if stream.status_code != 200:
            await stream.aread()
            return stream
        text = (await anext(sent(stream)))["data"]
        return httpx.Response(200, text=text, request=stream.request)


async def crawl(client: httpx.AsyncClient, text: str = "", *, each: int = EACH) -> AsyncGenerator[Visited]:
    """Visit what is linked, some addresses of each page; with a text, send it by every form that only asks."""
    waiting = deque([f"{PREFIX}/", *BY_ACTION])
    seen = set(waiting)
    visits = Counter[str]()
    asked = set[str]()
    while waiting:
        url = waiting.popleft()
        page = page_of(url)
        assert page is not None
        answer = await (beginning(client, url) if page in STREAMS else client.get(url, follow_redirects=True))
        url = answer.url.raw_path.decode()
        elements = elements_of(answer.text) if answer.headers["content-type"].startswith("text/") else []
        yield Visited(url, page, answer, elements)
        found = [urljoin(url, to) for each in elements for to in addresses(each)]
        if text and page not in asked:
            asked.add(page)
            found += [urljoin(url, to) for to in forms(elements, text)]
        for to in (each.partition("#")[0] for each in found):
            if to.startswith(f"{PREFIX}/") and to not in seen and (of := page_of(to)) and visits[of] < each:
                visits[of] += 1
                seen.add(to)
                waiting.append(to)
