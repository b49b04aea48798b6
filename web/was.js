// was.js - the part of the job form for weight augmentation: the transforms with their weights and options, the layers, and how often.
// Transforms and their options come from the daemon's table.

import { $, el } from './dom.js';
import { bound } from './spec.js';

const usual = ['translate', 'resized_crop'];   // enabled at first: the mixture used by the authors of the method

// One number of an option; a range [low, high] takes two.
function input(transform, option, i) {
  const value = option.n === 2 ? option.default[i] : option.default;
  const label = `${transform.type} ${option.name}${option.n === 2 ? (i ? ', to' : ', from') : ''}`;
  const field = el('input', { type: 'number', value: Number(value.toFixed(4)), required: true, 'aria-label': label });
  bound(field, option);
  return field;
}

// share: the row of a transform's weight, which here may be 0: the transform is left out.
function row(transform, share) {
  const weight = el('input', { type: 'number', value: usual.includes(transform.type) ? share.default : 0, required: true, 'aria-label': `weight of ${transform.type}` });
  bound(weight, share);
  const options = transform.options.map((o) => ({ o, fields: Array.from({ length: o.n }, (_, i) => input(transform, o, i)) }));
  const cell = el('td', {}, ...options.flatMap(({ o, fields }) => [el('span', {}, o.name), ...fields]));
  const root = el('tr', {}, el('th', { scope: 'row' }, transform.type.replace('_', ' ')), el('td', {}, weight), cell);
  const follow = () => {
    const off = !(Number(weight.value) > 0);
    root.classList.toggle('off', off);
    for (const { fields } of options) for (const f of fields) f.disabled = off;
  };
  weight.addEventListener('input', follow);
  follow();
  return {
    root,
    // null if its weight is 0; at: its index among the transforms sent to the daemon
    spec(at) {
      if (!(Number(weight.value) > 0)) return null;
      weight.dataset.pointer = `/was/transforms/${at}`;
      for (const { o, fields } of options) for (const f of fields) f.dataset.pointer = `/was/transforms/${at}/${o.name}`;
      const values = Object.fromEntries(options.map(({ o, fields }) => [o.name, o.n === 2 ? fields.map((f) => Number(f.value)) : Number(fields[0].value)]));
      return { type: transform.type, ...values, weight: Number(weight.value) };
    },
  };
}

export function createWas(form) {
  const box = $('#was-mixture'), field = form.elements;
  let rows = [];
  const show = () => {
    const on = field.was.value === 'on';
    $('#was-more').hidden = !on;
    box.disabled = !on;                        // disabled fields are not validated
    field.was_epochs.disabled = !on || field.was_from.value === field.was_to.value;
  };
  for (const radio of form.querySelectorAll('[name=was]')) radio.addEventListener('change', show);
  for (const name of ['was_from', 'was_to']) field[name].addEventListener('input', show);

  return {
    fill(transforms, members) {
      const member = (path) => members.find((r) => r.path === path);
      rows = transforms.map((t) => row(t, member('/was/transforms/N/weight')));
      field.was_from.defaultValue = field.was_to.defaultValue;       // no ramp
      for (const [select, path, first] of [[field.was_draw, '/was/draw', null], [field.was_alpha, '/was/alpha', 'fixed']]) {
        const { choices, default: usually } = member(path);
        select.replaceChildren(...choices.map((c) => el('option', { selected: c === (first ?? usually) }, c)));
      }
      $('tbody', box).replaceChildren(...rows.map((r) => r.root));
    },
    // own: the authors' setting for the network, false if they transform nothing
    suggest(own) {
      field.was.value = own ? 'default' : 'on';
      field.was_layers.value = own ? 'paper' : 'all';
      show();
    },
    // The job's "was"; undefined: the network's default.
    spec() {
      if (field.was.value === 'default') return undefined;
      if (field.was.value === 'off') return false;
      const names = field.was_layers.value.split(/[\s,]+/).filter(Boolean), number = (name) => Number(field[name].value);
      const [from, to] = [number('was_from'), number('was_to')];
      const transforms = [];
      for (const r of rows) transforms.push(...[r.spec(transforms.length)].filter(Boolean));
      return { transforms, layers: names.length === 1 ? names[0] : names, alpha: field.was_alpha.value,
        draw: field.was_draw.value, probability: from === to ? to : { from, to, epochs: number('was_epochs') }, groups: number('was_groups') };
    },
  };
}
