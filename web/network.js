// network.js - shows the chosen network layer by layer: the operation, its output and its share of the multiply-adds. The data is
// fetched when the view is opened, for the shape and classes of the chosen data set.

import { $, el, si } from './dom.js';
import { get } from './api.js';

// Layers that only modify the values of the previous layer (batch norm, activation, dropout) share its line.
export function lines(layers) {
  const readers = layers.map(() => 0), all = [];
  for (const l of layers) for (const i of l.inputs) readers[i]++;
  layers.forEach((l, i) => {
    const before = layers[i - 1];
    const same = i > 1 && l.inputs.length === 1 && l.inputs[0] === i - 1 && readers[i - 1] === 1 && !l.macs && String(l.shape) === String(before.shape);
    if (same) all.at(-1).ops.push(l.op);
    else all.push({ ...l, ops: [l.op] });
  });
  return all;
}

function what({ ops, kernel, stride, groups, shape }) {
  const [first, ...rest] = ops;
  const window = kernel ? ` ${kernel.join('×')}${stride > 1 ? `/${stride}` : ''}` : '';
  return [`${groups === shape[0] ? 'depthwise ' : ''}${first}${window}`, ...rest].join(', ');
}

export function createNetwork() {
  const root = $('#arch-layers'), body = $('tbody', root), note = $('p', root), known = new Map();
  let wanted = null;

  function draw(network) {
    const all = lines(network.layers), most = Math.max(...all.map((l) => l.macs));
    const { layers, share, dom_macs: dom } = network.augmented;
    const less = (macs) => `${(100 * (1 - macs / network.macs)).toFixed(0)} %`;
    note.textContent = layers ? `${layers} augmented convolutions with ${(100 * share).toFixed(0)} % of ${si(network.macs)} MACs; ` +
      `with all of them shifted by one tap, DOM saves ${less(dom.one_axis)} (one axis) or ${less(dom.both_axes)} (both axes).` : `${si(network.macs)} MACs; no layer is augmented by default.`;
    body.replaceChildren(...all.map((l) => el('tr', { class: l.augmented ? 'augmented' : false },
      el('th', { scope: 'row' }, l.name ?? ''), el('td', {}, what(l)), el('td', { class: 'num' }, l.shape.join('×')),
      el('td', { class: 'num' }, l.macs ? si(l.macs) : ''),
      el('td', { class: 'share' }, l.macs ? el('i', { style: `width:${(100 * l.macs / most).toFixed(1)}%` }) : null))));
  }

  async function show() {
    if (!root.open || !wanted) return;
    const url = wanted;
    try {
      if (!known.has(url)) known.set(url, await get(url));
      if (url === wanted) draw(known.get(url));
    } catch (problem) {
      if (url !== wanted) return;
      body.replaceChildren();
      note.textContent = problem.message;
    }
  }
  root.addEventListener('toggle', show);

  // arch: a row of the capabilities; dataset: the chosen data set, if any.
  return (arch, dataset) => {
    const [c, h, w] = dataset?.shape ?? [];
    wanted = arch?.links?.layers && `${arch.links.layers}${c ? `?input=${c}x${h}x${w}&classes=${dataset.classes.length}` : ''}`;
    root.hidden = !wanted;
    show();
  };
}
