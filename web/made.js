// made.js - the modes of the chosen job's best checkpoint: a table, a chart of accuracy over what a mode costs, and the form that makes
// another. What can be asked for, and its options, are the daemon's table.

import { $, ask, busy, bytes, cards, el, isNumber, keyed, micros, percent, setText, si, toast } from './dom.js';
import { call, checkpointPath, get } from './api.js';
import { showState, stateBadge } from './jobs.js';
import { desires, label } from './modes.js';
import { createScatter } from './scatter.js';
import { optionInput, optionValue } from './strategies.js';

const pollMs = 2000;
const making = (m) => ['queued', 'searching'].includes(m?.state);
const modesPath = (checkpoint, rest = '') => checkpointPath(checkpoint, `/modes${rest}`);
// What the chart can show across.
const axes = {
  us_1: { name: 'time of one image', label: 'time of one image', format: (v) => micros(v), least: 5 },
  us_64: { name: 'time of 64 images', label: 'time of 64 images', format: (v) => micros(v), least: 50 },
  macs: { name: 'multiply-adds', label: 'multiply-adds', format: (v) => si(v), least: 1000 },
  bytes: { name: 'bytes', label: 'bytes of the weights', format: (v) => bytes(v), least: 1000 },
};
const words = (options) => Object.entries(options ?? {}).map(([name, v]) => (Array.isArray(v) ? name : `${name.replaceAll('_', ' ')} ${v}`)).join(', ');

export function createMade() {
  const root = $('#run-modes'), form = $('#mode-form'), field = form.elements, measured = $('#modes-measured'), asCard = cards($('table', measured));
  const across = $('#pareto-axis'), chart = createScatter($('#chart-pareto'), { title: 'Validation accuracy of the modes over what they cost', x: axes.us_1, y: { label: 'validation accuracy', format: (v) => percent(v), least: 0.004 } });
  let checkpoint = null, timer = 0, offered = null, inputs = [], shown = [];

  across.replaceChildren(...Object.entries(axes).map(([value, { name }]) => el('option', { value }, name)));
  across.addEventListener('change', () => plot());

  function options() {
    const desire = offered.find((d) => d.name === field.desire.value);
    inputs = desire.options.map((o) => ({ o, field: optionInput(o) }));
    $('#mode-options').replaceChildren(...inputs.map(({ o, field: f }) => el('label', { title: o.summary }, el('span', {}, o.name.replaceAll('_', ' ')), f)));
    for (const { o, field: f } of inputs) {
      f.name = `option_${o.name}`;
      if (o.required) f.required = true;
    }
    $('#mode-base').hidden = field.base.disabled = !desire.based;
  }
  field.desire.addEventListener('change', options);

  async function fill() {
    if (offered) return;
    offered = desires((await get('/v1/capabilities')).mode_kinds);
    field.desire.replaceChildren(...offered.map((d) => el('option', { value: d.name, title: d.summary }, `${d.name}: ${d.summary}`)));
    if (offered.length) options();
  }

  form.addEventListener('submit', (e) => {
    e.preventDefault();
    busy($('[type=submit]', form), async () => {
      const name = field.name.value.trim(), given = inputs.map(({ o, field: f }) => [o.name, optionValue(o, f)]).filter(([, v]) => v !== undefined);
      await call('POST', modesPath(checkpoint), { json: { desire: field.desire.value, ...(name && { name }), ...(!field.base.disabled && { base: field.base.value }), ...Object.fromEntries(given) } });
      field.name.value = '';
      await load();
    });
  });

  const measure = $('#mode-measure');
  measure.addEventListener('click', () => busy(measure, async () => {
    await call('POST', modesPath(checkpoint, ':measure'), { json: {} });
    await load();
  }));

  async function remove(mode) {
    if (!await ask(`Delete the mode ${mode.name}?`, 'This deletes what was made for it permanently.', 'Delete the mode')) return;
    await call('DELETE', modesPath(checkpoint, `/${encodeURIComponent(mode.name)}`));
    toast(`The mode ${mode.name} was deleted.`);
    await load();
  }

  function row() {
    let mode;
    const name = el('b'), sub = el('small'), badge = stateBadge(), bar = el('progress', { max: 1 }), said = el('small');
    const [accuracy, macs, size, one, many] = ['num', 'num', 'num', 'num', 'num'].map((kind) => el('td', { class: kind }));
    const gone = el('button', { type: 'button', onclick: () => { const drawn = mode; busy(gone, () => remove(drawn)); } }, 'Delete');
    return {
      root: asCard(el('tr', {}, el('th', { scope: 'row' }, name, sub), accuracy, macs, size, one, many, el('td', { class: 'progress' }, badge, bar, said), el('td', { class: 'do' }, gone))),
      update(next) {
        mode = next;
        const { done = 0, of = 0 } = mode.progress ?? {}, own = !mode.profile;
        setText(name, own ? label(mode.name) : mode.name);
        setText(sub, own ? mode.kind : [mode.desire, words(mode.options)].filter(Boolean).join(': '));
        setText(accuracy, percent(mode.val_acc));
        setText(macs, isNumber(mode.macs) ? si(mode.macs) + (isNumber(mode.macs_share) ? ` (${percent(mode.macs_share, 0)})` : '') : '–');
        setText(size, isNumber(mode.bytes) ? bytes(mode.bytes) : '–');
        setText(one, isNumber(mode.us_1) ? micros(mode.us_1) : '–');
        setText(many, isNumber(mode.us_64) ? micros(mode.us_64) : '–');
        badge.hidden = own;
        if (!own) showState(badge, mode);
        bar.hidden = !making(mode);
        bar.value = of ? done / of : 0;
        bar.setAttribute('aria-label', `Progress of ${mode.name}`);
        setText(said, making(mode) && of ? `${done} / ${of}` : mode.message ?? '');
        gone.hidden = own;
        gone.setAttribute('aria-label', `Delete the mode ${mode.name}`);
      },
    };
  }
  const rows = keyed($('tbody', measured), row);

  function plot() {
    const x = axes[across.value], points = shown.filter((m) => m.state === 'ready' && isNumber(m[across.value]) && isNumber(m.val_acc));
    chart(points.map((m) => ({ x: m[across.value], y: m.val_acc, label: m.profile ? m.name : label(m.name), kind: m.profile ? 'dom' : 'aom' })), x);
    $('#pareto-none').hidden = points.length > 0;
  }

  // What another can be made of. Options that stay are left alone, since the list may be open.
  function offer(names) {
    const { base } = field, before = base.value;
    if (base.dataset.offered === names.join()) return;
    base.replaceChildren(...names.map((name) => el('option', { value: name, selected: name === before }, name)));
    base.dataset.offered = names.join();
  }

  function draw({ items, measuring }) {
    shown = items;
    rows(items, (m) => m.profile ?? m.name);
    plot();
    measured.hidden = !items.length;
    setText($('#mode-measuring'), making(measuring) ? 'The checkpoint’s own modes are being measured …' : measuring?.message ?? '');
    offer(items.filter((m) => m.state === 'ready').map((m) => m.name));
  }

  async function load() {
    clearTimeout(timer);
    const of = checkpoint;
    if (!of || !root.open) return;
    await fill();
    const found = await get(modesPath(of));
    if (checkpoint !== of) return;
    draw(found);
    clearTimeout(timer);
    if ((found.items.some(making) || making(found.measuring)) && !document.hidden) timer = setTimeout(() => load().catch(() => {}), pollMs);
  }
  root.addEventListener('toggle', () => load().catch((e) => toast(e.message, true)));

  return {
    load,
    show(next) {
      root.hidden = !next;
      if (next === checkpoint) return;
      checkpoint = next;
      draw({ items: [], measuring: null });
      load().catch(() => {});
    },
  };
}
