// spec.js - inputs whose limits and initial values come from the daemon's table of the job spec (GET /v1/capabilities). Attributes that
// the page gives itself stay: they are narrower limits of the form, or values that it suggests.

import { el } from './dom.js';

// row: the member's row, or that of an option; shows: what the input shows for 1 of the member.
export function bound(input, row, shows = 1) {
  const give = (name, value) => { if (value !== undefined && !input.hasAttribute(name)) input.setAttribute(name, value); };
  if (input.type === 'checkbox') {
    input.defaultChecked = row.default === true;
    return;
  }
  if (input.type === 'number') {
    give('min', row.min * shows);
    give('max', row.max * shows);
    give('step', row.type === 'integer' ? 1 : 'any');
  } else {
    give('maxlength', row.max);
  }
  if (typeof row.default === 'number') give('value', row.default * shows);
  else if (typeof row.default === 'string') give('value', row.default);
}

// Every input of the form that is a member of the spec by its pointer; data-shows: see above. A selection without options gets the choices.
export function boundAll(form, spec) {
  const row = (input) => spec.find((r) => r.path === input.dataset.pointer);
  for (const input of form.querySelectorAll('input[data-pointer]')) if (row(input)) bound(input, row(input), Number(input.dataset.shows ?? 1));
  for (const select of form.querySelectorAll('select[data-pointer]')) {
    const { choices, default: usually } = row(select) ?? {};
    if (choices && !select.options.length) select.replaceChildren(...choices.map((c) => el('option', { value: c, selected: c === usually }, c)));
  }
}
// The daemon's default among the options of a selection.
export const usual = (select) => [...select.options].find((o) => o.defaultSelected)?.value;
