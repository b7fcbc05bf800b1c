// The chart of the overview: events a second, and how far the last one is behind, drawn again as the figures come.
const SECONDS = 600;
const place = document.querySelector("[data-chart]");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const count = (value) => value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: 1 });
const clock = (at, upto) => at == null ? "–" : new Date(at * 1000).toISOString().slice(11, upto);
const whole = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((zeros) => [1, 2, 5].map((each) => each * 10 ** zeros));
const fromZero = (_, __, most) => [0, Math.max(most ?? 0, 1) * 1.1];

function options(width) {
  const line = { stroke: css("--line"), width: 1 };
  const axis = { stroke: css("--soft"), grid: line, ticks: line, size: 56, values: (_, all) => all.map(count) };
  const series = { width: 1.5, value: (_, value) => count(value), points: { show: false } };
  return {
    width, height: 200,
    scales: {
      x: { range: () => [Date.now() / 1000 - SECONDS, Date.now() / 1000] },
      y: { range: fromZero }, behind: { range: fromZero },
    },
    axes: [
      { ...axis, size: 32, values: (_, all) => all.map((at) => clock(at, 16)) },
      axis,
      { ...axis, scale: "behind", side: 1, incrs: whole, grid: { show: false } },
    ],
    series: [
      { label: "UTC", value: (_, at) => clock(at, 19) },
      { ...series, label: "Events a second", stroke: css("--accent"), fill: css("--accent-soft") },
      { ...series, label: "Positions behind, at most", scale: "behind", stroke: css("--warn"), dash: [4, 3] },
    ],
  };
}

function columns({ at, rate, behind }) {
  const all = Object.values(behind);
  return [at, rate, at.map((_, index) => Math.max(0, ...all.map((each) => each[index] ?? 0)))];
}

let chart, theme;

async function draw() {
  if (document.hidden && chart) return;
  const answer = await fetch(place.dataset.chart, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const found = columns(await answer.json());
  if (theme === css("--accent")) return chart.setData(found);
  theme = css("--accent");  // a canvas does not know of variables: it is made anew in the colours of the other theme
  chart?.destroy();
  place.replaceChildren();
  chart = new uPlot(options(place.clientWidth), found, place);
}

async function keepUp() {
  new ResizeObserver(() => chart?.setSize({ width: place.clientWidth, height: 200 })).observe(place);
  for (;;) {
    try { await draw(); } catch { /* the server is away; it is asked again */ }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

if (place) keepUp();
