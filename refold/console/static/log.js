// The live table: new events on top, no more rows than fit in a page, and a pause that keeps its place.

const MOST = 200;
const table = document.querySelector("[data-live]");
const body = table.tBodies[0];
const status = document.querySelector("[data-live-status]");
const pause = document.querySelector("[data-live-pause]");
let source = null;
let last = table.dataset.after; // the position behind which to go on
let again = 0;

function say(text, kind) {
  status.textContent = text;
  status.className = `badge ${kind}`;
}

function insert(html) {
  const rows = document.createElement("template");
  rows.innerHTML = html; // made by the server, which has escaped what is in it
  for (const row of rows.content.querySelectorAll("tr")) row.classList.add("new");
  body.prepend(rows.content);
  while (body.rows.length > MOST) body.rows[body.rows.length - 1].remove();
}

function open() {
  clearTimeout(again);
  const url = new URL(table.dataset.live, location.href);
  url.searchParams.set("after", last);
  source = new EventSource(url);
  source.addEventListener("open", () => say("Live", "good"));
  for (const name of ["rows", "gap", "upto"]) {
    source.addEventListener(name, (event) => {
      last = event.lastEventId;
      const html = JSON.parse(event.data);
      if (html) insert(html);
    });
  }
  source.addEventListener("error", () => {
    say("Connecting again", "warn");
    // A browser comes back by itself, with the last id, unless it was refused.
    if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 3000);
  });
}

function close() {
  clearTimeout(again);
  source?.close();
}

const paused = () => pause.getAttribute("aria-pressed") === "true";

pause.addEventListener("click", () => {
  const was = paused();
  pause.setAttribute("aria-pressed", String(!was));
  pause.textContent = was ? "Pause" : "Go on";
  if (was) open();
  else { close(); say("Paused", "warn"); }
});
document.addEventListener("visibilitychange", () => {
  if (paused()) return;
  close();
  if (!document.hidden) open();
});
addEventListener("pagehide", close);

document.querySelector("[data-live-controls]").hidden = false;
open();
