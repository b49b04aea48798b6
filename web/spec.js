// spec.js - inputs whose limits and initial values come from the daemon's table of the job spec (GET /v1/capabilities). Attributes that
// the page gives itself stay: they are narrower limits of the form, or values that it suggests.

// row: the member's row, or that of an option; shows: what the input shows for 1 of the member.
export function bound(input, row, shows = 1) {
  const give = (name, value) => { if (value !== undefined && !input.hasAttribute(name)) input.setAttribute(name, value); };
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

// Every input of the form that is a member of the spec by its pointer; data-shows: see above.
export function boundAll(form, spec) {
  for (const input of form.querySelectorAll('input[data-pointer]')) {
    const row = spec.find((r) => r.path === input.dataset.pointer);
    if (row) bound(input, row, Number(input.dataset.shows ?? 1));
  }
}
