// One key to search: / goes to the field in the header, Ctrl-K opens a list of all places to go to.

const find = document.querySelector("#find");
const palette = document.querySelector("#palette");
const input = palette?.querySelector("input");
const list = palette?.querySelector("ul");
const MOST = 12;
let places = null;
let chosen = 0;

const inField = (element) => element.matches("input, select, textarea, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (!palette || event.defaultPrevented) return;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (palette.open) palette.close();
    else open();
  } else if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !inField(event.target)) {
    event.preventDefault();
    find.focus();
    find.select();
  }
});

async function open() {
  input.value = "";
  palette.showModal();
  show();
  if (places === null) {
    try {
      const answer = await fetch(palette.dataset.places, { headers: { Accept: "application/json" } });
      places = answer.ok ? await answer.json() : [];
    } catch { places = []; }
    show();
  }
}

// What is typed may be a place of its own: a position, a tag, or words.
function typed(text) {
  const found = [];
  const at = (base, name, value) => `${base}${name ? `?${name}=${encodeURIComponent(value)}` : `/${value}`}`;
  if (/^\d{1,18}$/.test(text)) found.push({ title: `Position ${text}`, kind: "event", url: at(palette.dataset.log, "", text) });
  if (/^[^\s:]+:\S+$/.test(text)) found.push({ title: `Events with the tag ${text}`, kind: "log", url: at(palette.dataset.log, "tags", text) });
  if (text) found.push({ title: `Search for ${text}`, kind: "search", url: at(palette.dataset.search, "text", text) });
  return found;
}

function matching(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const named = (places ?? []).filter((place) => words.every((word) => `${place.title} ${place.kind}`.toLowerCase().includes(word)));
  const [first, ...rest] = typed(text);
  const exact = first && first.kind !== "search" ? [first] : [];
  return [...exact, ...named.slice(0, MOST), ...(exact.length ? rest : first ? [first] : [])];
}

function show() {
  chosen = 0;
  list.replaceChildren(...matching(input.value.trim()).map((place, index) => {
    const item = document.createElement("li");
    item.id = `place-${index}`;
    item.role = "option";
    item.dataset.url = place.url;
    const title = document.createElement("span");
    title.textContent = place.title;
    const kind = document.createElement("span");
    kind.className = "badge";
    kind.textContent = place.kind;
    item.append(title, kind);
    return item;
  }));
  mark();
}

function mark() {
  [...list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === chosen)));
  const item = list.children[chosen];
  if (item) { input.setAttribute("aria-activedescendant", item.id); item.scrollIntoView({ block: "nearest" }); }
  else input.removeAttribute("aria-activedescendant");
}

function go(item) {
  if (item) location.assign(item.dataset.url);
}

input?.addEventListener("input", show);
input?.addEventListener("keydown", (event) => {
  const size = list.children.length;
  if (event.key === "ArrowDown") chosen = (chosen + 1) % Math.max(size, 1);
  else if (event.key === "ArrowUp") chosen = (chosen - 1 + size) % Math.max(size, 1);
  else if (event.key === "Enter") { event.preventDefault(); go(list.children[chosen]); return; }
  else return;
  event.preventDefault();
  mark();
});
list?.addEventListener("click", (event) => go(event.target.closest("li")));
palette?.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
