// Runs before the page is drawn, so that it is drawn once: the theme that was chosen, or the system's.
try {
  const chosen = localStorage.getItem("refold-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* without storage the system's theme it is */ }
