// scatter.js - a scatter plot of named points, with a line through the Pareto front. Drawn as SVG in the box's own pixels, so that the
// text stays readable on a phone. Colours are CSS classes, so they follow the page's theme.

import { svg } from './dom.js';

const edge = { left: 62, right: 14, top: 12, bottom: 36 }, height = 240, letter = 6.3;

// Round numbers from lo to hi, about `count` of them.
export function ticks(lo, hi, count) {
  const rough = (hi - lo) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const first = Math.ceil(lo / step - 1e-9);
  return Array.from({ length: Math.floor(hi / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

// The Pareto front, cheapest first: points for which no other is as cheap (x) and better (y).
export function front(points) {
  let most = -Infinity;
  return [...points].sort((a, b) => a.x - b.x || b.y - a.y).filter((p) => p.y > most && ((most = p.y), true));
}

// A range that keeps points off the frame; never empty.
function range(values, least) {
  const lo = Math.min(...values), hi = Math.max(...values), pad = Math.max(0.12 * (hi - lo), least);
  return [lo - pad, hi + pad];
}

// Places a label above, below, right or left of its point: the first position that is free and inside.
function place(p, taken, width) {
  const w = letter * p.label.length, sides = [[p.px - w / 2, p.py - 19], [p.px - w / 2, p.py + 6], [p.px + 8, p.py - 7], [p.px - 8 - w, p.py - 7]];
  const boxes = sides.map(([left, top]) => ({ left: Math.max(2, Math.min(left, width - 2 - w)), top, right: Math.max(2, Math.min(left, width - 2 - w)) + w, bottom: top + 13 }));
  const hits = (a) => taken.some((b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom);
  const box = boxes.find((b) => b.top >= 0 && b.bottom <= height - edge.bottom && !hits(b)) ?? boxes[0];
  taken.push(box);
  return box;
}

// x, y: {label, format(value), least: minimal padding of the range}
export function createScatter(box, { title, x, y }) {
  let points = [], drawn = 0;

  function draw() {
    const width = drawn = box.clientWidth;
    if (!width || !points.length) { box.replaceChildren(); return; }
    const [x0, x1] = range(points.map((p) => p.x), x.least), [y0, y1] = range(points.map((p) => p.y), y.least);
    const at = (p) => ({ ...p, px: edge.left + (p.x - x0) / (x1 - x0) * (width - edge.left - edge.right), py: height - edge.bottom - (p.y - y0) / (y1 - y0) * (height - edge.top - edge.bottom) });
    const all = points.map(at), foot = height - edge.bottom;
    const across = ticks(x0, x1, Math.max(2, Math.floor(width / 90))).map((v) => ({ v, px: at({ x: v, y: y0 }).px }));
    const up = ticks(y0, y1, 4).map((v) => ({ v, py: at({ x: x0, y: v }).py }));
    const taken = all.map((p) => ({ left: p.px - 5, right: p.px + 5, top: p.py - 5, bottom: p.py + 5 }));
    const best = front(all);
    box.replaceChildren(svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-labelledby': `${box.id}-title ${box.id}-desc` },
      svg('title', { id: `${box.id}-title` }, title),
      svg('desc', { id: `${box.id}-desc` }, points.map((p) => `${p.label}: ${x.format(p.x)}, ${y.format(p.y)}`).join('; ')),
      ...up.flatMap(({ v, py }) => [svg('line', { class: 'grid', x1: edge.left, x2: width - edge.right, y1: py, y2: py }), svg('text', { class: 'tick', x: edge.left - 6, y: py + 4, 'text-anchor': 'end' }, y.format(v))]),
      svg('line', { class: 'axis', x1: edge.left, x2: width - edge.right, y1: foot, y2: foot }),
      ...across.map(({ v, px }) => svg('text', { class: 'tick', x: px, y: foot + 15, 'text-anchor': 'middle' }, x.format(v))),
      svg('text', { class: 'tick', x: (edge.left + width - edge.right) / 2, y: height - 4, 'text-anchor': 'middle' }, x.label),
      svg('text', { class: 'tick', transform: `translate(10 ${(edge.top + foot) / 2}) rotate(-90)`, 'text-anchor': 'middle' }, y.label),
      svg('polyline', { class: 'front', points: best.map((p) => `${p.px.toFixed(1)},${p.py.toFixed(1)}`).join(' ') }),
      ...all.map((p) => svg('circle', { class: `point ${p.kind}`, cx: p.px, cy: p.py, r: 4.5, 'data-name': p.label }, svg('title', {}, `${p.label}: ${x.format(p.x)}, ${y.format(p.y)}`))),
      ...all.map((p) => { const b = place(p, taken, width); return svg('text', { class: 'label', x: b.left, y: b.bottom - 3 }, p.label); })));
  }

  new ResizeObserver(() => box.clientWidth !== drawn && draw()).observe(box);
  // points: [{x, y, label, kind: a class}]; axis: another x from now on
  return (next, axis) => { points = next; x = axis ?? x; draw(); };
}
