"""What an app tells of itself: spans that hang together across processes, and figures that two outlets share."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from refold import Conflict
from refold.bus.memory import MemoryBus
from refold.model.record import StoredEvent
from refold.model.schema import decode_metadata
from refold.runtime.instruments import COMMAND_SECONDS, COMMANDS, CONFLICTS, EVENTS, FAILED, HANDLED, INSTRUMENTS
from refold.runtime.telemetry import NOWHERE, traceparents
from tests.conftest import Log
from tests.runtime.watched import FAILS, MAILS, Paid, Pay, Place, Placed, Twice, shop

OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def meters(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)  # type: ignore[attr-defined]
    yield reader
    provider.shutdown()


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {each.name: each for each in exporter.get_finished_spans()}


def parent_of(span: ReadableSpan, among: dict[str, ReadableSpan]) -> str:
    found = [each.name for each in among.values() if span.parent and each.context.span_id == span.parent.span_id]
    return found[0] if found else ""


async def stored_in(app: Any) -> list[StoredEvent]:
    return [stored async for page in app.log.read() for stored in page]


async def test_a_command_is_one_trace_from_its_decision_to_the_last_effect(
    log: Log, spans: InMemorySpanExporter
) -> None:
    async with shop(log) as app:
        await app.execute(Place("o-1"))
        await app.settle()
        stored = await stored_in(app)
    found = named(spans)
    assert parent_of(found.pop("project Order"), found).startswith("execute "), "of the first event of the last batch"
    assert {each: parent_of(span, found) for each, span in found.items()} == {
        "execute Place": "",
        "decide place": "execute Place",
        "append": "execute Pay",
        "process collect": "execute Place",
        "execute Pay": "process collect",
        "decide pay": "execute Pay",
        "effect send_mail": "execute Pay",
        "call send_mail": "effect send_mail",
    }
    assert len({span.context.trace_id for span in spans.get_finished_spans()}) == 1, "one story, one trace"
    found = named(spans)
    kinds = {each: span.kind for each, span in found.items()}
    assert kinds["append"] == kinds["call send_mail"] == SpanKind.CLIENT
    assert kinds["process collect"] == kinds["project Order"] == SpanKind.CONSUMER
    assert dict(found["append"].attributes or {})["db.operation.name"] == "append"
    process = dict(found["process collect"].attributes or {})
    first, _ = (decode_metadata(each) for each in stored)
    assert process["messaging.message.id"] == first.event_id
    assert (process["messaging.operation.type"], process["refold.position"]) == ("process", 1)
    context = found["execute Place"].context
    assert first.traceparent == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


async def test_a_batch_of_several_traces_has_links_to_each(log: Log, spans: InMemorySpanExporter) -> None:
    async with shop(log, processes=[], effects=[]).passive() as app:
        for number in range(3):
            await app.execute(Place(f"o-{number}"))
    commands = {each.context.trace_id for each in spans.get_finished_spans() if each.name == "execute Place"}
    async with shop(log, processes=[], effects=[]) as app:
        await app.settle()
    batch = named(spans)["project Order"]
    assert batch.parent is None
    assert {link.context.trace_id for link in batch.links} == commands
    assert len(commands) == 3


async def test_what_is_under_way_outside_is_the_parent(log: Log, spans: InMemorySpanExporter) -> None:
    async with shop(log) as app:
        with app.telemetry.span("outside", parent=OUTSIDE):
            await app.record(Placed("o-1"))
        with app.telemetry.span("nonsense", parent="00-zz"):
            pass
    found = named(spans)
    assert f"{found['record'].context.trace_id:032x}" == OUTSIDE[3:35]
    assert found["nonsense"].parent is None


async def test_errors_are_named_by_code_and_no_text_is_told(log: Log, spans: InMemorySpanExporter) -> None:
    FAILS.append("the mailer wants password hunter2")
    async with shop(log) as app:
        await app.execute(Place("o-1", card="4111-1111"))
        with pytest.raises(Twice):
            await app.execute(Place("o-1", card="4111-1111"))
        await app.settle()
    failed = [each for each in spans.get_finished_spans() if "error.type" in (each.attributes or {})]
    told = {(each.name, (each.attributes or {})["error.type"], each.status.status_code) for each in failed}
    assert told == {
        ("execute Place", "REJECTED", StatusCode.UNSET),  # the domain says no: nothing is wrong
        ("decide place", "REJECTED", StatusCode.UNSET),
        ("call send_mail", "OSError", StatusCode.ERROR),
    }
    everything = "".join(each.to_json() for each in spans.get_finished_spans())
    assert "4111" not in everything
    assert "hunter2" not in everything


OTHER = """
import asyncio, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: (
    f"{span.name}|{span.context.trace_id:032x}|{span.parent.span_id:016x}\\n" if span.parent else f"{span.name}||\\n"
))))
trace.set_tracer_provider(provider)
from tests.runtime.watched import shop

async def main():
    async with shop(sys.argv[1]) as app:
        await app.settle()

asyncio.run(main())
"""


async def test_another_process_goes_on_with_the_trace(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    async with shop(url) as app:
        await app.settle()
    async with shop(url).passive() as app:
        await app.execute(Place("o-1"))
    command = named(spans)["execute Place"].context
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", OTHER, url],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert {name for name, _, _ in lines} >= {"process collect", "execute Pay", "project Order", "call send_mail"}
    assert {traced for _, traced, _ in lines} == {f"{command.trace_id:032x}"}
    assert ["process collect", f"{command.trace_id:032x}", f"{command.span_id:016x}"] in lines


async def test_a_trace_crosses_to_another_context(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    from refold import App, Inbox

    def note(event: Placed) -> Paid:
        return Paid(event.order_id)

    bus = MemoryBus()
    async with (
        shop(f"sqlite:///{tmp_path}/shop.db", processes=[], effects=[], outbox=[Placed], bus=bus) as mine,
        App(f"sqlite:///{tmp_path}/b.db", events=Paid, name="b", inbox=[Inbox("shop", [note])], bus=bus) as other,
    ):
        await mine.execute(Place("o-1"))
        await mine.settle()
        async with asyncio.timeout(60):
            async for _ in other.follow(Paid):
                break
    found = named(spans)
    assert found["send shop"].kind == SpanKind.PRODUCER
    assert (parent_of(found["send shop"], found), parent_of(found["process shop"], found)) == 2 * ("execute Place",)
    assert parent_of(found["record"], found) == "process shop"
    assert dict(found["send shop"].attributes or {})["messaging.system"] == "memory"


async def test_nothing_is_told_where_nobody_listens(log: Log) -> None:
    async with shop(log) as app:
        await app.execute(Place("o-1"))
        assert (app.telemetry.traces, app.telemetry.exports) == (False, False)
        assert app.telemetry.span("x") is NOWHERE
        [stored] = [stored async for page in app.log.read(upto=1) for stored in page]
        assert b"traceparent" not in stored.metadata


async def test_figures_say_what_was_done(log: Log) -> None:
    MAILS.clear()
    async with shop(log) as app:
        await app.execute(Place("o-1"))
        with pytest.raises(Twice):
            await app.execute(Place("o-1"))
        await app.settle()
        figures = app.telemetry.figures
        assert dict(figures.values(COMMANDS)) == {("Place", "ok"): 1, ("Place", "REJECTED"): 1, ("Pay", "ok"): 1}
        assert {labels: sum(spread.counts) for labels, spread in figures.spreads(COMMAND_SECONDS)} == {
            ("Place",): 2,
            ("Pay",): 1,
        }
        assert dict(figures.values(EVENTS)) == {("Placed",): 1, ("Paid",): 1}
        assert dict(figures.values(HANDLED)) == {("Order",): 2, ("collect",): 1, ("send_mail",): 1}
        assert list(figures.values(FAILED)) == []


async def test_conflicts_are_counted(tmp_path: Path) -> None:
    async with shop(f"sqlite:///{tmp_path}/log.db", processes=[], effects=[]) as app:
        await app.execute(Place("o-1"))
        done = await asyncio.gather(*(app.execute(Pay("o-1")) for _ in range(8)), return_exceptions=True)
        assert not any(isinstance(each, Conflict) for each in done)
        assert sum(value for _, value in app.telemetry.figures.values(CONFLICTS)) > 0


async def test_opentelemetry_reads_the_same_figures(log: Log, meters: InMemoryMetricReader) -> None:
    async with shop(log) as app:
        await app.execute(Place("o-1"))
        await app.settle()
        own = app.telemetry.figures
        found = meters.get_metrics_data()
        read = {
            each.name: each for part in found.resource_metrics for scope in part.scope_metrics for each in scope.metrics
        }
        [events] = [p for p in read["refold.events"].data.data_points if p.attributes["type"] == "Placed"]
        assert (events.value, events.attributes["refold.app"]) == (1, "shop")
        [spread] = [p for p in read["refold.command.duration"].data.data_points if p.attributes["command"] == "Place"]
        [mine] = [spread for labels, spread in own.spreads(COMMAND_SECONDS) if labels == ("Place",)]
        assert list(spread.bucket_counts) == mine.counts
        assert spread.sum == mine.total
        assert read["refold.command.duration"].unit == "s"
        assert set(read) <= {each.name for each in INSTRUMENTS}


def test_spans_are_found_in_stored_metadata_each_once() -> None:
    def stored(metadata: bytes) -> StoredEvent:
        from datetime import UTC, datetime

        return StoredEvent(1, datetime.now(UTC), "Placed", 1, (), b"{}", metadata)

    one = b'{"traceparent":"%s"}' % OUTSIDE.encode()
    assert traceparents([stored(one), stored(b""), stored(one), stored(b'{"traceparent":"00-x"}')]) == [OUTSIDE]
    many = [stored(b'{"traceparent":"00-%032x-%016x-01"}' % (n, n)) for n in range(1, 500)]
    assert len(traceparents(many)) == 128
