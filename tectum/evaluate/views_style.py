"""How a view's page looks and moves: one style sheet, light and dark, and one script that draws on a canvas."""

STYLE = """
body { margin: 0; padding: 1.25rem 1.5rem; height: 100vh; min-height: 30rem; display: flex; flex-direction: column; gap: .75rem; }
header p, footer { margin: .25rem 0 0; color: var(--soft); font-size: .85rem; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; }
button { display: inline-flex; align-items: center; gap: .45rem; padding: .3rem .75rem; border: 1px solid var(--line);
  border-radius: 999px; background: var(--card); color: var(--ink); font: inherit; font-size: .9rem; cursor: pointer;
  max-width: 24rem; overflow-wrap: anywhere; }
button svg { width: 1rem; height: 1rem; flex: none; }
button span { color: var(--soft); font-variant-numeric: tabular-nums; }
button[aria-pressed=false] { opacity: .45; text-decoration: line-through; }
button:focus-visible, canvas:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
#reset { margin-left: auto; color: var(--soft); }
main { position: relative; flex: 1; min-height: 0; border: 1px solid var(--line); border-radius: 10px; background: var(--card);
  overflow: hidden; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: grab; }
canvas.dragged { cursor: grabbing; }
#label { position: absolute; pointer-events: none; max-width: 22rem; padding: .35rem .6rem; border-radius: 6px;
  background: var(--ink); color: var(--ground); font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere;
  white-space: pre-wrap; }
#label b { display: block; font-weight: 600; opacity: .75; font-size: .75rem; }
"""

SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("view"), label = document.getElementById("label"), pen = canvas.getContext("2d");
const legend = [...document.querySelectorAll("button[aria-pressed]")];
const count = data.x.length, radius = count <= 300 ? 6 : count <= 3000 ? 4 : 2.5;
let width = canvas.clientWidth, height = canvas.clientHeight, zoom = 1, centre = [0, 0];
let held = null, pointed = -1, queued = false;

// A fixed shuffle, so that the last modality does not hide the others.
const order = Array.from({length: count}, (_, i) => i);
for (let i = count - 1, seed = 1; i > 0; i--) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  const j = Math.floor(seed / 4294967296 * (i + 1));
  [order[i], order[j]] = [order[j], order[i]];
}

const scale = () => 0.46 * Math.min(width, height) * zoom;
const place = i => [width / 2 + (data.x[i] - centre[0]) * scale(), height / 2 - (data.y[i] - centre[1]) * scale()];
const shown = i => legend[data.which[i]].getAttribute("aria-pressed") === "true";

const corners = {
  square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  triangle: [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
  diamond: [[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]],
};
function mark(x, y, r, shape) {
  pen.beginPath();
  if (shape === "circle") pen.arc(x, y, r, 0, 2 * Math.PI);
  else for (const [a, b] of corners[shape]) pen.lineTo(x + a * r, y + b * r);
  pen.fill();
}

function draw() {
  queued = false;
  const dense = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    canvas.width = Math.round(width * dense); canvas.height = Math.round(height * dense);
  }
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.globalAlpha = 0.85;
  for (const i of order) {
    if (!shown(i)) continue;
    const [x, y] = place(i), modality = data.modalities[data.which[i]];
    if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
    pen.fillStyle = modality.color;
    mark(x, y, radius, modality.shape);
  }
  pen.globalAlpha = 1;
  if (pointed >= 0) {
    const [x, y] = place(pointed);
    pen.lineWidth = 2;
    pen.strokeStyle = getComputedStyle(document.body).color;
    pen.beginPath(); pen.arc(x, y, radius + 4, 0, 2 * Math.PI); pen.stroke();
  }
}
function redraw() { if (!queued) { queued = true; requestAnimationFrame(draw); } }

function point(x, y) {
  let best = -1, nearest = (radius + 8) ** 2;
  for (const i of order) {
    if (!shown(i)) continue;
    const [a, b] = place(i), distance = (a - x) ** 2 + (b - y) ** 2;
    if (distance <= nearest) { best = i; nearest = distance; }
  }
  if (best !== pointed) { pointed = best; redraw(); }
  label.hidden = best < 0;
  if (best < 0) return;
  const name = document.createElement("b");
  name.textContent = data.modalities[data.which[best]].name;
  label.replaceChildren(name, document.createTextNode(data.labels[best] || "number " + best));
  const [a, b] = place(best);
  label.style.left = Math.max(4, Math.min(a + 14, width - label.offsetWidth - 4)) + "px";
  label.style.top = Math.max(4, Math.min(b + 14, height - label.offsetHeight - 4)) + "px";
}
function leave() { pointed = -1; label.hidden = true; redraw(); }
function zoomAt(x, y, factor) {
  const next = Math.min(500, Math.max(0.2, zoom * factor));
  const dx = (x - width / 2) / scale(), dy = (height / 2 - y) / scale();
  centre = [centre[0] + dx * (1 - zoom / next), centre[1] + dy * (1 - zoom / next)];
  zoom = next; leave();
}
function reset() { zoom = 1; centre = [0, 0]; leave(); }

canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
}, {passive: false});
canvas.addEventListener("pointerdown", event => {
  held = [event.offsetX, event.offsetY]; canvas.setPointerCapture(event.pointerId); point(event.offsetX, event.offsetY);
});
canvas.addEventListener("pointermove", event => {
  if (!held) { point(event.offsetX, event.offsetY); return; }
  canvas.classList.add("dragged");
  centre = [centre[0] - (event.offsetX - held[0]) / scale(), centre[1] + (event.offsetY - held[1]) / scale()];
  held = [event.offsetX, event.offsetY]; leave();
});
for (const name of ["pointerup", "pointercancel"])
  canvas.addEventListener(name, () => { held = null; canvas.classList.remove("dragged"); });
canvas.addEventListener("pointerleave", leave);
canvas.addEventListener("dblclick", reset);
canvas.addEventListener("keydown", event => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
  if (step) centre = [centre[0] + 0.15 * step[0] / zoom, centre[1] + 0.15 * step[1] / zoom];
  else if (event.key === "+" || event.key === "=") zoom = Math.min(500, zoom * 1.3);
  else if (event.key === "-") zoom = Math.max(0.2, zoom / 1.3);
  else return;
  event.preventDefault(); leave();
});
document.getElementById("reset").addEventListener("click", reset);
legend.forEach(button => button.addEventListener("click", () => {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true"); leave();
}));
new ResizeObserver(() => { width = canvas.clientWidth; height = canvas.clientHeight; leave(); }).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
redraw();
"""
