// strategies.js - the part of the job form for the strategies of weights: one row of choices for each strategy of the daemon's table
// except WAS, which has a part of its own.

import { $, el } from './dom.js';
import { bound } from './spec.js';

// The input of an option. One that may be left out is empty at first.
export function optionInput(option) {
  if (option.type === 'boolean') return el('input', { type: 'checkbox', checked: option.default });
  if (Array.isArray(option.default)) return el('input', { type: 'text', value: option.default.join(', '), pattern: '[0-9.,\\s]+', required: true });
  if (option.choices) return el('select', {}, ...option.choices.map((c) => el('option', { selected: c === option.default }, c)));
  const field = el('input', { type: option.type === 'string' ? 'text' : 'number', ...('default' in option ? { required: true } : { placeholder: 'as usual' }) });
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

function row(strategy) {
  const on = el('input', { type: 'checkbox', name: `strategy_${strategy.type}` });
  const fields = strategy.options.map((o) => ({ o, field: optionInput(o) }));
  const options = el('fieldset', { class: 'mixture', hidden: true, disabled: true }, el('legend', { class: 'sr' }, `Options of ${strategy.type}`),
    el('div', { class: 'numbers' }, ...fields.map(({ o, field }) => el('label', { title: o.summary }, `${o.name.replaceAll('_', ' ')} `, field))));
  on.addEventListener('change', () => { options.hidden = options.disabled = !on.checked; });
  return {
    root: el('div', {}, el('fieldset', { class: 'choice' }, el('legend', {}, strategy.summary), el('label', {}, on, ` ${strategy.type}`)), options),
    on,
    // at: its index in the list sent to the daemon
    spec(at) {
      on.dataset.pointer = `/weights/${at}`;
      for (const { o, field } of fields) field.dataset.pointer = `/weights/${at}/${o.name}`;
      const given = fields.map(({ o, field }) => [o.name, optionValue(o, field)]).filter(([, v]) => v !== undefined);
      return { type: strategy.type, ...Object.fromEntries(given) };
    },
  };
}

export function createStrategies() {
  let rows = [];
  return {
    fill(strategies) {
      rows = strategies.filter((s) => s.type !== 'was').map(row);
      $('#strategies-rows').replaceChildren(...rows.map((r) => r.root));
    },
    // The entries of "weights" that are chosen, in the order of the table.
    spec: () => rows.filter((r) => r.on.checked).map((r, at) => r.spec(at)),
  };
}
