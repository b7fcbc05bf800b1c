"use strict";
// Searches what the page says. Without it all is there, too.
(() => {
  const input = document.querySelector("input[type=search]");
  const found = document.querySelector(".found");
  const articles = [...document.querySelectorAll("article")];
  const texts = articles.map((each) => each.textContent.toLowerCase());
  const links = [...document.querySelectorAll("nav li")];
  const sections = [...document.querySelectorAll("main > section, nav details")];
  const narrow = matchMedia("(max-width: 52rem)");

  function search() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const gone = new Set();
    articles.forEach((article, at) => {
      article.hidden = !words.every((word) => texts[at].includes(word));
      if (article.hidden) gone.add(`#${article.id}`);
    });
    for (const link of links) link.hidden = gone.has(link.firstChild.getAttribute("href"));
    for (const each of sections) {
      const parts = [...each.querySelectorAll("article, li.entry")];
      each.hidden = words.length > 0 && parts.every((part) => part.hidden);
    }
    found.textContent = words.length ? `${articles.length - gone.size} of ${articles.length}` : "";
  }

  document.querySelector(".search").hidden = false;
  input.addEventListener("input", search);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== input && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
      input.select();
    } else if (event.key === "Escape" && document.activeElement === input) {
      input.value = "";
      search();
    }
  });
  function reveal() {
    let target = null;
    try {
      target = document.getElementById(location.hash.slice(1));
    } catch {}
    if (target && target.hidden) {
      input.value = "";
      search();
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link) setTimeout(reveal);
  });
  if (narrow.matches) for (const each of document.querySelectorAll("nav details")) each.open = false;
})();
