// The slider through time: each place is an address, whose page brings the part of this one that tells of it.

const slider = document.getElementById("place");
let asking = new AbortController();
let waiting;

function address() {
  const { marks, name, pin } = slider.dataset;
  const url = new URL(pin, location.href);
  url.searchParams.set(name, marks.split(" ")[slider.value]);
  return url;
}

// The place that is looked at stands in the middle of the list.
function center() {
  const here = document.querySelector(".timeline .here");
  const list = here?.parentElement;
  if (here) list.scrollTop = here.offsetTop - list.offsetTop - (list.clientHeight - here.clientHeight) / 2;
}

async function show(url) {
  asking.abort();
  asking = new AbortController();
  try {
    const answer = await fetch(url, { signal: asking.signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const told = page.getElementById("told");
    if (!told || answer.redirected) { location.assign(url); return; }
    document.getElementById("told").replaceWith(told);
    slider.setAttribute("aria-valuetext", page.getElementById("place").getAttribute("aria-valuetext"));
    document.querySelector('.filter [name="as_of"]').value = page.querySelector('.filter [name="as_of"]').value;
    document.querySelector('.filter [name="effective"]').value = page.querySelector('.filter [name="effective"]').value;
    center();
    history.replaceState(null, "", url);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

slider?.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => show(address()), 40);
});

// A step in the timeline moves the slider, if it is within its reach.
document.addEventListener("click", (event) => {
  const link = event.target.closest("#told a.go");
  if (!slider || !link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const wanted = new URL(link.href).searchParams.get(slider.dataset.name);
  const at = slider.dataset.marks.split(" ").indexOf(wanted);
  if (at < 0) return;
  event.preventDefault();
  slider.value = at;
  show(address());
  slider.focus({ preventScroll: true });
});

center();
