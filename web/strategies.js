// strategies.js - the parts of the job form that are a choice of rows of the daemon's tables with their options: the strategies of weights
// except WAS, which has a part of its own, and the modes to make.

import { $, el } from './dom.js';
import { desires } from './modes.js';
import { bound } from './spec.js';

// The input of an option. One that may be left out is empty at first.
export function optionInput(option) {
  if (option.type === 'boolean') return el('input', { type: 'checkbox', checked: option.default });
  if (Array.isArray(option.default)) return el('input', { type: 'text', value: option.default.join(', '), pattern: '[0-9.,\\s]+', required: true });
  if (option.choices) return el('select', {}, ...option.choices.map((c) => el('option', { selected: c === option.default }, c)));
  const field = el('input', { type: option.type === 'string' ? 'text' : 'number', ...('default' in option || option.required ? { required: true } : { placeholder: 'as usual' }) });
  bound(field, option);
  return field;
}

// undefined: left out.
export function optionValue(option, field) {
  if (field.type === 'checkbox') return field.checked;
  if (field.value === '') return undefined;
  if (Array.isArray(option.default)) return field.value.split(',').map(Number);
  return field.type === 'number' ? Number(field.value) : field.value;
}

// prefix: of the names of the boxes; member: of the spec; key: what names the row there.
function row({ name, summary, options: all }, { prefix, member, key }) {
  const on = el('input', { type: 'checkbox', name: `${prefix}_${name}` });
  const fields = all.map((o) => ({ o, field: optionInput(o) }));
  const options = el('fieldset', { class: 'mixture', hidden: true, disabled: true }, el('legend', { class: 'sr' }, `Options of ${name}`),
    el('div', { class: 'numbers' }, ...fields.map(({ o, field }) => el('label', { title: o.summary }, `${o.name.replaceAll('_', ' ')} `, field))));
  on.addEventListener('change', () => { options.hidden = options.disabled = !on.checked; });
  return {
    root: el('div', {}, el('fieldset', { class: 'choice' }, el('legend', {}, summary), el('label', {}, on, ` ${name}`)), options),
    on,
    // at: its index in the list sent to the daemon
    spec(at) {
      on.dataset.pointer = `/${member}/${at}`;
      for (const { o, field } of fields) field.dataset.pointer = `/${member}/${at}/${o.name}`;
      const given = fields.map(({ o, field }) => [o.name, optionValue(o, field)]).filter(([, v]) => v !== undefined);
      return { [key]: name, ...Object.fromEntries(given) };
    },
  };
}

function createRows(box, how) {
  let rows = [];
  return {
    fill(list) {
      rows = list.map((one) => row(one, how));
      box.replaceChildren(...rows.map((r) => r.root));
    },
    // The items that are chosen, in the order of the table.
    spec: () => rows.filter((r) => r.on.checked).map((r, at) => r.spec(at)),
  };
}

export function createStrategies() {
  const rows = createRows($('#strategies-rows'), { prefix: 'strategy', member: 'weights', key: 'type' });
  return { ...rows, fill: (strategies) => rows.fill(strategies.filter((s) => s.type !== 'was').map((s) => ({ ...s, name: s.type }))) };
}

export function createMakings() {
  const rows = createRows($('#makings-rows'), { prefix: 'making', member: 'modes', key: 'desire' });
  const base = { name: 'base', type: 'string', summary: 'the mode that it is made of; aom if empty' };
  return { ...rows, fill: (kinds) => rows.fill(desires(kinds).map((d) => ({ ...d, options: [...d.options, ...(d.based ? [base] : [])] }))) };
}
