// The chart of the overview: events a second, and what is furthest behind, drawn again as the figures come.
const MINUTES = 10;
const place = document.querySelector("[data-chart]");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const count = (value) => value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: 1 });

function options(width) {
  const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 } };
  return {
    width, height: 200, cursor: { points: { size: 6 } }, legend: { live: true },
    scales: { x: { time: true, range: () => [Date.now() / 1000 - MINUTES * 60, Date.now() / 1000] },
      y: { range: (_, __, most) => [0, Math.max(most ?? 0, 1) * 1.1] }, behind: { range: (_, __, most) => [0, Math.max(most ?? 0, 1) * 1.1] } },
    axes: [axis, { ...axis, size: 56, values: (_, all) => all.map(count) },
      { ...axis, scale: "behind", side: 1, size: 56, grid: { show: false }, values: (_, all) => all.map(count) }],
    series: [{},
      { label: "Events a second", stroke: css("--accent"), fill: css("--accent-soft"), width: 1.5, value: (_, v) => count(v), points: { show: false } },
      { label: "Positions behind, at most", scale: "behind", stroke: css("--warn"), width: 1.5, dash: [4, 3], value: (_, v) => count(v), points: { show: false } }],
  };
}

function columns({ at, rate, behind }) {
  const most = at.map((_, index) => Math.max(0, ...Object.values(behind).map((each) => each[index] ?? 0)));
  return [at, rate, most];
}

async function keepUp() {
  let chart, theme;
  const draw = async () => {
    if (document.hidden && chart) return;
    const answer = await fetch(place.dataset.chart, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const found = columns(await answer.json());
    if (theme !== css("--accent")) {  // a canvas does not know of variables
      theme = css("--accent");
      chart?.destroy();
      place.replaceChildren();
      chart = new uPlot(options(place.clientWidth), found, place);
    } else chart.setData(found);
  };
  new ResizeObserver(() => chart?.setSize({ width: place.clientWidth, height: 200 })).observe(place);
  for (;;) {
    try { await draw(); } catch { /* the server is away; it is asked again */ }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

if (place) keepUp();
