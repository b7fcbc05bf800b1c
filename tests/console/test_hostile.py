"""What somebody sends who wants to run scripts in an operator's browser: it is shown as it is, everywhere."""

import re
from urllib.parse import quote, urlsplit

import httpx
import pytest

from refold.console.console import PAGES, PREFIX
from tests.console.browsing import Browser
from tests.console.crawling import STREAMS, Element, crawl, elements_of
from tests.console.hostile import PAYLOADS

pytestmark = pytest.mark.timeout(600)
EVIL = re.compile(r"__xss|evil|7 \* 1234567|8641969")
ATTRIBUTES = re.compile(r"on\w|hx-on|style|srcdoc|formaction|background|xlink:href")
"""Attributes that no page of ours has."""
OURS = re.compile(r"/console/|[?#]|data:image/|[\w-][\w./%-]*(#|$)")
"""Where addresses of ours lead."""
ADDRESSES = ("href", "src", "action", "hx-get", "hx-post")


def wrong(element: Element) -> str:
    """Say what is wrong with an element; nothing if it is one of ours."""
    if element.name in ("iframe", "object", "embed", "base", "math"):
        return f"<{element.name}>"
    if element.name == "meta" and element.attributes.get("http-equiv"):
        return "a meta that does something"
    if element.name == "script" and "src" not in element.attributes:
        return "a script in the page"
    for name, value in element.attributes.items():
        if ATTRIBUTES.match(name):
            return f"{name}={value}"
        if name in ADDRESSES and not OURS.match(value):
            return f"{name}={value}"
        if name.startswith("hx-") and EVIL.search(value) and name not in ADDRESSES:
            return f"{name}={value}"
    return ""


async def test_every_page_is_reached_and_shows_what_was_sent_as_text(hostile_site: httpx.AsyncClient) -> None:
    reached: set[str] = set()
    text = PAYLOADS[1]
    async for visited in crawl(hostile_site, text):
        assert visited.answer.status_code < 500, (visited.url, visited.answer.text[-500:])
        for element in visited.elements:
            assert not wrong(element), (visited.url, element, wrong(element))
        assert "8641969" not in visited.answer.text, visited.url
        if visited.answer.status_code == 200:
            reached.add(visited.page)
    assert reached == {page.path for page in PAGES if page.method == "GET"}, "no link leads to the others"


async def test_addresses_and_words_that_are_hostile_are_answered_harmlessly(hostile_site: httpx.AsyncClient) -> None:
    for page in PAGES:
        if page.path in STREAMS:
            continue
        for payload in PAYLOADS[::12]:
            path = re.sub(r"{[^}]*}", quote(payload, safe=""), page.path)
            words = {
                "q": payload,
                "search": payload,
                "words": payload,
                "tag": payload,
                "type": payload,
                "as_of": payload,
            }
            answer = await hostile_site.request(
                page.method,
                f"{PREFIX}{path}",
                params=words if page.method == "GET" else None,
                data=words if page.method == "POST" else None,
                headers={"Sec-Fetch-Site": "same-origin"},
            )
            assert answer.status_code < 500, (path, answer.text[-500:])
            if answer.headers.get("content-type", "").startswith("text/html"):
                for element in elements_of(answer.text):
                    assert not wrong(element), (path, element)


async def test_nothing_runs_in_a_browser(hostile_site: httpx.AsyncClient, browser: Browser) -> None:
    page = await browser.open(hostile_site.base_url)
    browser.expect("404 (Not Found)", "400 (Bad Request)", "403 (Forbidden)")
    browser.expect("/console/contract/diagram.svg")  # an image, which opened by itself is shown without its style
    visits = crawl(hostile_site, PAYLOADS[1], each=2)
    urls = [visited.url async for visited in visits if visited.page not in STREAMS]
    for url in urls:
        await page.goto(url)
        await page.wait_for_timeout(50)
        assert await page.evaluate("window.__xss") is None, url
        assert not browser.trouble, url
    assert not [each for each in browser.requests if "/evil" in urlsplit(each).path]
