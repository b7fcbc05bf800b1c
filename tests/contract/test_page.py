"""The page is whole by itself, its links lead somewhere, and nothing that it tells of can become a part of it."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as Xml

import pytest

from examples.shop.main import make_app as make_shop
from examples.shop.main import make_selling
from refold.contract.describe import Contract
from refold.contract.fields import rows_of
from refold.contract.graph import graph_of
from refold.contract.markup import VOID, anchor, element, escaped, prose
from refold.contract.site import files_of, write_site
from tests.contract.node import NODE, node
from tests.contract.telling import HOSTILE, make_app

CONTRACT = make_app().contract()
CONTRACTS = [CONTRACT, make_selling("memory:").contract(), make_shop("memory:").contract(), Contract("empty", ())]
FOREIGN = {"img", "iframe", "object", "embed", "form", "base", "foreignobject", "use", "image", "b"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and refuses what is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda each: f"{each.app} {len(each.events)}")
def test_every_link_leads_to_what_is_there(contract: Contract) -> None:
    files = files_of(contract)
    page = Reader(files["index.html"].decode())
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    links = [link for link in page.all("href") if not link.startswith("data:")]
    assert {link for link in links if link.startswith("#")} <= {f"#{each}" for each in ids}
    assert {unquote(link) for link in links if not link.startswith("#")} <= set(files)
    told = {anchor("event", each.id) for each in contract.events}
    told |= {anchor("command", each.name) for each in contract.commands}
    told |= {anchor("state", each.name) for each in contract.states}
    told |= {anchor(each.kind, each.name) for each in contract.followers}
    assert told <= set(ids)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda each: f"{each.app} {len(each.events)}")
def test_nothing_but_its_own_style_and_script_may_run(contract: Contract) -> None:
    page = Reader(files_of(contract)["index.html"].decode())
    names = [name for name, _ in page.elements]
    assert FOREIGN.isdisjoint(names)
    assert (names.count("style"), names.count("script")) == (1, 1)
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on") or key == "style"]
    [policy] = [each["content"] for name, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        text = "".join(page.texts[kind])
        assert f"{kind}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert all(
        link.startswith(("#", "data:,", "schemas/", "diagram.svg", "asyncapi.json")) for link in page.all("href")
    )
    assert page.all("src") == []


def test_hostile_names_are_shown_and_are_nothing_else() -> None:
    page = Reader(files_of(CONTRACT)["index.html"].decode())
    assert HOSTILE in page.texts["a"]
    assert any("<img src=x onerror=alert(1)> and " in text for text in page.texts["p"])
    assert "</style>" in page.texts["code"]


def test_an_event_says_its_fields_who_emits_it_and_who_follows() -> None:
    text = files_of(CONTRACT)["index.html"].decode()
    noted = re.sub(r"<[^>]+>", " ", text[text.index('id="event-OrderNoted.v1"') :].partition("</article>")[0])
    said = " ".join(noted.split())
    for part in (
        "upcast from OrderPlaced.v1",
        "emitted by PlaceOrder (place_order)",
        "folded by Order",
        "kept by Order",
        "published as OrderNoted",
    ):
        assert part in said


def test_fields_are_told_with_those_inside_them() -> None:
    [form] = [each for each in CONTRACT.events if each.id == "OrderPlaced.v2"]
    rows = {row.path: row for row in rows_of(form.schema)}
    assert rows["lines"].type == "tuple[Line, ...]"
    assert (rows["lines[].quantity"].type, rows["lines[].quantity"].said) == ("int", "How many, *never* none. ≥ 1")
    assert rows["paid_by"].type == "Card | Cash"
    assert rows["paid_by.amount"].type == "Decimal"
    assert rows["colour"].type == "Colour: 'light blue' | 'red'"
    assert rows["where.y"].default == 1
    assert rows["tree.children"].type == "tuple[Tree, ...]"
    assert "tree.children[].name" not in rows
    assert (rows["order_id"].required, rows["gift"].required) == (True, False)
    assert rows["pair"].type == "tuple[int, str] | None"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda each: f"{each.app} {len(each.events)}")
def test_the_diagram_is_an_image_by_itself_that_shows_every_event(contract: Contract) -> None:
    image = Xml.fromstring(files_of(contract)["diagram.svg"])
    texts = {each.text for each in image.iter("{http://www.w3.org/2000/svg}text")}
    for event in contract.events:
        if event.becomes is None and len(event.id) < 32:
            assert event.id.removesuffix(".v1") in texts
    paths = list(image.iter("{http://www.w3.org/2000/svg}path"))
    assert len(paths) == len(graph_of(contract).edges)


def test_the_graph_leads_from_commands_to_what_comes_of_their_events() -> None:
    graph = graph_of(CONTRACT)
    column = {node.id: node.column for node in graph.nodes}
    assert all(column[start] < column[end] for start, end in graph.edges)
    assert ("command PlaceOrder", "event OrderNoted.v1") in graph.edges
    assert ("event Replied.v1", "process again") in graph.edges
    assert ("process again", "given PlaceOrder") in graph.edges
    assert ("inbox parcels", "command PlaceOrder") in graph.edges
    assert ("inbox parcels", f"event {HOSTILE}.v1") in graph.edges
    assert ("outbox", "published OrderPlaced.v2") in graph.edges
    assert "event OrderPlaced.v1" not in column


def test_files_are_written_and_say_the_same_every_time(tmp_path: Path) -> None:
    count = write_site(CONTRACT, tmp_path / "site")
    found = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert found == set(files_of(CONTRACT))
    assert len(found) == count
    assert files_of(CONTRACT) == files_of(make_app().contract())


def test_the_script_is_one(tmp_path: Path) -> None:
    assert NODE.exists()
    script = Path("refold/contract/page.js").resolve()
    assert node("--check", script, cwd=tmp_path).returncode == 0


def test_markup_escapes_what_it_did_not_make() -> None:
    assert escaped("<b>&\"'\0\x1b\ud800") == "&lt;b&gt;&amp;&quot;&#x27;\ufffd\ufffd\ufffd"
    made = element("a", "<", element("b", "&"), None, href='"x"', hidden=True, title=None)
    assert made == '<a href="&quot;x&quot;" hidden>&lt;<b>&amp;</b></a>'
    assert prose("One `x < y`\n\n\nTwo") == "<p>One <code>x &lt; y</code></p><p>Two</p>"


@pytest.mark.parametrize(("one", "other"), [("a b", "a~20b"), ("a", "A"), ("é", "e"), ("a/b", "a-b"), ("~", "~7E")])
def test_no_two_things_have_one_anchor(one: str, other: str) -> None:
    assert anchor("event", one) != anchor("event", other)
    assert re.fullmatch(r"[\w.~-]+", anchor("event", one))
