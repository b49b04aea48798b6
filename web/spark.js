// spark.js - a small line over time: a name, the latest value, and the course between its least and its greatest value.

import { el, isNumber, setText, svg } from './dom.js';

const width = 120, height = 28;

// set(points): [[step, epoch, time, value], ...]. Hidden with fewer than two points. fixed: [low, high] of the axis, by default those of the values.
export function createSpark(name, label, format, fixed) {
  const latest = el('output', {}), line = svg('polyline', {});
  const root = el('figure', { class: 'spark', 'data-name': name, hidden: true }, el('figcaption', {}, label, ' ', latest),
    svg('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, line));
  return { root, set(points) {
    const known = points.filter((p) => isNumber(p[3])), values = known.map((p) => p[3]), times = known.map((p) => p[2]);
    root.hidden = known.length < 2;
    if (root.hidden) return;
    const low = fixed?.[0] ?? Math.min(...values), range = (fixed?.[1] ?? Math.max(...values)) - low, begin = times[0], span = times.at(-1) - begin;
    const x = (t) => (span ? (t - begin) / span : 1) * width, y = (v) => height - 1 - (range ? (v - low) / range : 0.5) * (height - 2);
    line.setAttribute('points', known.map((p) => `${x(p[2]).toFixed(1)},${y(p[3]).toFixed(1)}`).join(' '));
    setText(latest, format(values.at(-1)));
  } };
}
