"use strict";
// Shows in the diagram what goes with what is pointed at.
(() => {
  const diagram = document.querySelector("svg.diagram");
  if (!diagram) return;
  const nodes = [...diagram.querySelectorAll(".node")];
  const edges = [...diagram.querySelectorAll(".edge")];
  function light(ids) {
    const beside = new Set(ids);
    for (const edge of edges) {
      const { from, to } = edge.dataset;
      const lit = ids.has(from) || ids.has(to);
      edge.classList.toggle("lit", lit);
      if (lit) beside.add(from).add(to);
    }
    for (const node of nodes) node.classList.toggle("lit", beside.has(node.dataset.node));
    diagram.classList.toggle("asked", ids.size > 0);
  }
  const same = (node) => nodes.filter((each) => each.getAttribute("href") === node.getAttribute("href"));
  for (const node of nodes) {
    const show = () => light(new Set(same(node).map((each) => each.dataset.node)));
    const hide = () => light(new Set());
    node.addEventListener("pointerenter", show);
    node.addEventListener("pointerleave", hide);
    node.addEventListener("focus", show);
    node.addEventListener("blur", hide);
  }
})();
