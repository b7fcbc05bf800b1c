"""What Prometheus gets: the figures of this app, under names that stay, with labels that the program bounds."""

import asyncio
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from refold.http import Access, Keys
from refold.http.metrics import name_of
from refold.http.tokens import create
from refold.runtime.instruments import INSTRUMENTS
from refold.runtime.parking import RETRIES
from tests.http.serving import problem, served
from tests.http.shop import shop
from tests.runtime.clicks import BROKEN, Clicked, Failing, clicks
from tests.runtime.watched import shop as watched

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(client: httpx.AsyncClient, **headers: str) -> Samples:
    answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def of(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


async def test_a_scrape_says_what_was_done() -> None:
    app = watched("memory:")
    async with served(app) as client:
        done = await client.post("/commands/Place", json={"order_id": "o-1"})
        assert done.status_code == 200
        assert (await client.post("/commands/Place", json={"order_id": "o-1"})).status_code == 409
        assert (await client.get("/states/Order/o-1?as_of=1")).status_code == 200
        await app.settle()
        found = await scraped(client)
        while any(of(found, "refold_subscription_position", subscription=each) != 2 for each in ("send_mail", "Order")):
            await asyncio.sleep(0.05)
            found = await scraped(client)
    assert of(found, "refold_commands_total", command="Place", outcome="ok") == 1
    assert of(found, "refold_commands_total", command="Place", outcome="REJECTED") == 1
    assert of(found, "refold_command_duration_seconds_count", command="Place") == 2
    assert of(found, "refold_command_duration_seconds_bucket", command="Place", le="+Inf") == 2
    assert of(found, "refold_events_total", type="Paid") == 1
    assert of(found, "refold_log_head") == 2
    assert of(found, "refold_subscription_lag_seconds", subscription="Order") == 0
    assert of(found, "refold_subscription_owned", subscription="collect") == 1
    assert of(found, "refold_effect_attempts_total", effect="send_mail", outcome="ok") == 1
    route = {"http_request_method": "POST", "http_route": "/commands/{name}"}
    seconds = "refold_http_server_request_duration_seconds_count"
    assert of(found, seconds, **route, http_response_status_code="200") == 1
    assert of(found, seconds, **route, http_response_status_code="409") == 1
    assert any(name == "process_resident_memory_bytes" for name, _ in found)
    texts = {text for _, labels in found for _, text in labels}
    assert not any("o-1" in text for text in texts), "no id of anything is a label"


async def test_what_is_parked_and_stopped_is_seen() -> None:
    BROKEN.add("a")
    try:
        app = clicks("memory:")
        async with served(app) as client:
            await app.record(Failing("a"), Clicked("b"))
            await app.settle(parked=True)
            found = await scraped(client)
            assert of(found, "refold_parked", subscription="Clicks") == 1
            assert of(found, "refold_subscription_failed_total", subscription="Clicks") == 1
            assert (of(found, "refold_parked_oldest_seconds", subscription="Clicks") or 0) < RETRIES[0] + 5
            assert of(found, "refold_subscription_stopped", subscription="Clicks") == 0
            assert of(found, "refold_log_readable") == 1
            await app.log.close()
            while of(found, "refold_log_readable") != 0:  # it is not looked at for every scrape
                await asyncio.sleep(0.05)
                found = await scraped(client)
            assert of(found, "refold_parked", subscription="Clicks") is None, "what is not known is not shown"
    finally:
        BROKEN.clear()


async def test_two_apps_in_one_process_have_their_own_figures() -> None:
    async with served(watched("memory:")) as one, served(shop("memory:")) as other:
        await one.post("/commands/Place", json={"order_id": "o-1"})
        assert of(await scraped(one), "refold_commands_total", command="Place", outcome="ok") == 1
        assert all("Place" not in dict(labels).values() for _, labels in await scraped(other))


async def test_a_scraper_has_a_key_and_sees_all(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    scraper, narrow = create(keys, "prometheus", "reader"), create(keys, "c-1", "reader", tags=["customer:c-1"])
    async with served(shop("memory:"), Access(Keys(keys))) as client:
        problem(await client.get("/metrics"), 401, "UNAUTHENTICATED")
        problem(await client.get("/metrics", headers={"Authorization": f"Bearer {narrow}"}), 403, "FORBIDDEN")
        assert await scraped(client, Authorization=f"Bearer {scraper}")


async def test_openmetrics_is_given_if_it_is_asked_for() -> None:
    async with served(shop("memory:")) as client:
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert "refold_commands" in {family.name for family in openmetrics(answer.text)}


async def test_each_of_several_workers_says_which_it_is() -> None:
    app = shop("memory:")
    app.telemetry.worker = "4711"
    async with served(app) as client:
        found = await scraped(client)
    assert all(dict(labels).get("worker") == "4711" for name, labels in found if name.startswith("refold_"))


async def test_streams_are_counted_while_they_are_open() -> None:
    async with served(shop("memory:")) as client:
        async with client.stream("GET", "/log/follow"):
            assert of(await scraped(client), "refold_http_streams") == 1
        while of(await scraped(client), "refold_http_streams"):  # one that has ended counts no more
            await asyncio.sleep(0.02)


async def test_a_request_goes_on_with_the_trace_of_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with served(watched("memory:", processes=[], effects=[], projections=[])) as client:
        await client.post("/commands/Place", json={"order_id": "o-1"}, headers={"traceparent": outside})
        await client.get("/states/Order/o-1?effective=yesterday")
        await client.post("/commands/Place", json={"order_id": "o-2"}, headers={"traceparent": "nonsense"})
    found = exporter.get_finished_spans()
    first = [each for each in found if f"{each.context.trace_id:032x}" == outside[3:35]]
    assert {each.name for each in first} == {"POST /commands/{name}", "execute Place", "decide place", "append"}
    server = next(each for each in first if each.name.startswith("POST"))
    assert server.parent
    assert f"{server.parent.span_id:016x}" == outside[36:52]
    told: dict[str, Any] = dict(server.attributes or {})
    assert (told["http.route"], told["http.response.status_code"]) == ("/commands/{name}", 200)
    assert not any("o-1" in str(value) for each in found for value in (each.attributes or {}).values())
    assert any(each.name == "GET /states/{name}/{key:path}" for each in found)


ALERTS = files("refold.http") / "alerts.yml"
NAME = re.compile(r"\b(?:refold|process)_[a-z_]+\b")


def test_every_alert_asks_for_metrics_that_there_are() -> None:
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    known = {f"{name_of(each)}{end}": each for each in INSTRUMENTS for end in ends[each.kind]}
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    assert len(group["rules"]) >= 8
    for rule in group["rules"]:
        asked = NAME.findall(rule["expr"])
        assert asked, rule
        assert set(asked) <= set(known), rule["alert"]
        labels = {label.replace(".", "_") for name in asked for label in known[name].labels}
        used = {*re.findall(r"[{,](\w+)[=!]~?=?\"", rule["expr"]), *re.findall(r"by \((\w+)\)", rule["expr"])}
        used |= set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) - {"instance"}
        assert used <= labels, f"{rule['alert']} asks for labels that its metrics do not have"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_names_follow_the_conventions() -> None:
    names = [name_of(each) for each in INSTRUMENTS]
    assert len(set(names)) == len(names)
    for name, each in zip(names, INSTRUMENTS, strict=True):
        assert re.fullmatch(r"refold_[a-z_]+", name)
        assert name.endswith("_seconds") == (each.unit == "s")
        assert not name.endswith(("_total", "_count", "_sum", "_bucket")), "Prometheus adds these"
        assert len(each.about) > 10
        assert len(each.labels) <= 3
