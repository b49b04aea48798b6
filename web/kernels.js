// kernels.js - the weights of the best checkpoint of the chosen job: what is alive in each layer, and the kernels of one of them with
// what was removed. Fetched when the view is opened.

import { $, count, el, keyed, percent, setText, svg } from './dom.js';
import { checkpointPath, get } from './api.js';

const across = 16;            // outputs in one line
const range = (from, n) => (n > 1 ? `${from} to ${from + n - 1}` : from);

// Draws a window of kernels: outputs from left to right, in lines, inputs from top to bottom. A cross is a removed weight.
function picture({ shape: [, , kh = 1, kw = 1], outputs, inputs, weights }) {
  const taps = kh * kw, gap = taps > 1 ? 1 : 0, line = taps > 1 ? Math.min(outputs, across) : outputs, lines = Math.ceil(outputs / line);
  const high = inputs * (kh + gap) + (lines > 1 ? gap : 0), width = line * (kw + gap) - gap, height = lines * high - gap;
  const largest = Math.max(...weights.map(Math.abs)) || 1, cells = [], crosses = [];
  weights.forEach((v, at) => {
    const kernel = Math.floor(at / taps), output = Math.floor(kernel / inputs), tap = at % taps;
    const x = (output % line) * (kw + gap) + (tap % kw), y = Math.floor(output / line) * high + (kernel % inputs) * (kh + gap) + Math.floor(tap / kw);
    if (v === null) crosses.push(`M${x + 0.25} ${y + 0.25}l.5 .5m0-.5l-.5 .5`);
    else cells.push(svg('rect', { x, y, width: 1, height: 1, class: v < 0 ? 'minus' : 'plus', 'fill-opacity': (Math.abs(v) / largest).toFixed(2) }));
  });
  const frames = Array.from({ length: outputs * inputs }, (_, k) => svg('rect', { class: 'frame', width: kw, height: kh,
    x: (Math.floor(k / inputs) % line) * (kw + gap), y: Math.floor(k / inputs / line) * high + (k % inputs) * (kh + gap) }));
  return svg('svg', { viewBox: `-.5 -.5 ${width + 1} ${height + 1}`, width: Math.min(14 * width, 720), role: 'img' }, ...frames, ...cells, svg('path', { class: 'cross', d: crosses.join('') }));
}

export function createKernels() {
  const root = $('#run-weights'), state = $('.hint', root), body = $('.body', root), form = $('form', root).elements, figure = $('figure', root);
  let job = null, checkpoint = null, layers = null, asked = '';

  const rows = keyed($('tbody', root), () => {
    const name = el('th', { scope: 'row' }), cells = Array.from({ length: 4 }, () => el('td', { class: 'num' })), share = el('meter', { min: 0, max: 1 });
    return { root: el('tr', {}, name, ...cells, el('td', { class: 'share' }, share)), update(l) {
      [l.name, l.shape.join('×'), count(l.weights), count(l.alive), percent(l.share)].forEach((text, i) => setText([name, ...cells][i], text));
      share.value = l.share;
      share.setAttribute('aria-label', `Alive in ${l.name}`);
    } };
  });

  function fail(e) {
    setText(state, e.message);
    body.hidden = true;
    layers = null;              // the next opening asks again
  }

  const chosen = () => layers.layers.find((l) => l.name === form.layer.value);
  // Keeps the first output and input inside the layer.
  function limit() {
    ['output', 'input'].forEach((name, axis) => {
      const last = chosen().shape[axis] - 1;
      form[name].max = last;
      form[name].value = Math.min(Math.max(0, Math.floor(Number(form[name].value)) || 0), last);
    });
  }
  async function kernels() {
    limit();
    const path = checkpointPath(checkpoint, `/layers/${encodeURIComponent(form.layer.value)}?output=${form.output.value}&input=${form.input.value}`);
    asked = path;
    try {
      const k = await get(path);
      if (asked !== path) return;
      const alive = k.weights.filter((v) => v !== null).length, drawn = picture(k);
      const words = `${k.name}: outputs ${range(k.output, k.outputs)} of ${k.shape[0]} from left to right, inputs ${range(k.input, k.inputs)} of ${k.shape[1]} from top to bottom. ${count(alive)} of these ${count(k.weights.length)} weights are alive.`;
      drawn.setAttribute('aria-label', words);
      figure.replaceChildren(el('figcaption', { class: 'hint' }, words), drawn);
      figure.dataset.shows = `${k.name} ${k.output} ${k.input}`;
    } catch (e) {
      if (asked === path) fail(e);
    }
  }

  async function load() {
    const of = checkpoint;
    if (!of || !root.open || layers?.of === of) return;
    try {
      const answer = await get(checkpointPath(of, '/layers'));
      if (of !== checkpoint) return;
      layers = { ...answer, of };
    } catch (e) {
      if (of === checkpoint) fail(e);
      return;
    }
    const before = form.layer.value;
    setText(state, `${count(layers.alive)} of ${count(layers.weights)} weights are alive (${percent(layers.share)}); ${count(layers.params)} parameters with biases and batch normalisation.`);
    rows(layers.layers, (l) => l.name);
    form.layer.replaceChildren(...layers.layers.map((l) => el('option', { selected: l.name === before }, l.name)));
    body.hidden = false;
    await kernels();
  }
  root.addEventListener('toggle', load);
  form.layer.addEventListener('change', () => { form.output.value = form.input.value = 0; kernels(); });
  for (const name of ['output', 'input']) form[name].addEventListener('change', kernels);

  // next: the best checkpoint of the job, or null. What is shown of the one before stays until that of the next has come.
  return (id, next) => {
    root.hidden = !next;
    if (id === job && next === checkpoint) return;
    if (id !== job) { layers = null; body.hidden = true; setText(state, ''); }
    job = id;
    checkpoint = next;
    asked = '';
    load();
  };
}
