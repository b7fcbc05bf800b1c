"""`GET /metrics`: an app's figures in the text format of Prometheus.

Each program has its own figures, and each API a registry of its own, so that two apps in one process do not meet. Of
several processes that serve one port a scrape reaches one: its number is the label `worker` then.
"""

import re
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response

import refold
from refold.http.call import Call
from refold.runtime.instruments import BOUNDS, INSTRUMENTS, Instrument, Labels, Spread
from refold.runtime.telemetry import Telemetry

UNITS = {"s": "_seconds"}
"""What the name of a unit becomes; what is counted has none."""


async def scrape(call: Call) -> Response:
    """Answer with all figures; gauges are looked up now, or are a second old."""
    call.principal.must_see_all("metrics")
    await call.app.pulse.beat()
    encode, kind = choose_encoder(call.request.headers.get("accept", ""))
    return Response(encode(registry_of(call.app.telemetry)), headers={"content-type": kind})


def registry_of(telemetry: Telemetry) -> CollectorRegistry:
    """Return a registry with the figures of an app and of its process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(telemetry))
    ProcessCollector(registry=registry)
    return registry


def name_of(what: Instrument) -> str:
    """Return what Prometheus calls an instrument: `refold_command_duration_seconds`."""
    name = re.sub(r"[^a-z0-9]+", "_", what.name) + UNITS.get(what.unit, "")
    return name if name.startswith("refold_") else f"refold_{name}"


class _Figures(Collector):
    """Reads the figures of an app when they are asked for."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._worker = (telemetry.worker,) if telemetry.worker else ()

    def collect(self) -> Iterable[Metric]:
        """Give all figures, each with its help."""
        about = {"app": self._telemetry.app, "version": refold.__version__}
        info = GaugeMetricFamily("refold_info", "Which app this is, and which Refold.", labels=self._named(*about))
        info.add_metric((*about.values(), *self._worker), 1)
        yield info
        for what in INSTRUMENTS:
            yield self._family(what)

    def _family(self, what: Instrument) -> Metric:
        figures = self._telemetry.figures
        name, labels = name_of(what), self._named(*(label.replace(".", "_") for label in what.labels))
        match what.kind:
            case "histogram":
                spreads = HistogramMetricFamily(name, what.about, labels=labels)
                for values, spread in figures.spreads(what):
                    spreads.add_metric((*values, *self._worker), list(_cumulated(spread)), spread.total)
                return spreads
            case "counter":
                return self._filled(CounterMetricFamily(name, what.about, labels=labels), figures.values(what))
            case "gauge":
                return self._filled(GaugeMetricFamily(name, what.about, labels=labels), figures.values(what))

    def _filled(
        self, family: CounterMetricFamily | GaugeMetricFamily, values: Iterable[tuple[Labels, float]]
    ) -> Metric:
        for labels, value in values:
            family.add_metric((*labels, *self._worker), value)
        return family

    def _named(self, *labels: str) -> list[str]:
        return [*labels, *(("worker",) if self._worker else ())]


def _cumulated(spread: Spread) -> Iterator[tuple[str, float]]:
    """Give how many took no longer than each bound."""
    count = 0
    for bound, more in zip((*map(str, BOUNDS), "+Inf"), spread.counts, strict=True):
        count += more
        yield bound, count
