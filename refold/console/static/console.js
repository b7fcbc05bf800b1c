// What all pages share: the theme, copying, one submission for one click, and what is fetched again.

// Over plain HTTP from elsewhere there is no clipboard: then it is selected, and copied as by hand.
async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    if (!document.execCommand("copy")) return "Selected";
  }
  return "Copied";
}

let copied;
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy !== undefined) {
    button.textContent = await copy(button);
    clearTimeout(copied);
    copied = setTimeout(() => {
      for (const each of document.querySelectorAll("[data-copy]")) each.textContent = "Copy";
    }, 1200);
  } else if (button?.dataset.themeSwitch !== undefined) {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("refold-theme", root.dataset.theme); } catch { /* it lasts for this page */ }
  }
});

document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  for (const button of event.target.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form button:disabled")) button.disabled = false;
});

const isLive = (element) => element.matches?.("[hx-trigger^='every']");

// Nothing is fetched for a page that nobody sees, nor changed under a selection or an open field.
document.addEventListener("htmx:before:request", (event) => {
  const element = event.target;
  if (!isLive(element)) return;
  const busy = element.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
  const selecting = getSelection()?.type === "Range" && element.contains(getSelection().anchorNode);
  if (document.hidden || busy || selecting) event.preventDefault();
});

// A page that cannot be fetched again stays as it is, and says so until it can.
function tell(isStale) {
  document.querySelector("[data-stale]").hidden = !isStale;
}
document.addEventListener("htmx:after:request", (event) => {
  if (isLive(event.target)) tell(event.detail.ctx.response.status >= 400);
});
document.addEventListener("htmx:error", (event) => { if (isLive(event.target)) tell(true); });
