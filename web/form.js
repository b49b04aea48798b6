// form.js - the form that submits a job. Networks and their settings come from the daemon's tables, so a new row there appears here
// without an edit. Each error is shown once: at the field with its pointer, or else below the form.

import { $, el, si } from './dom.js';
import { call, get, told } from './api.js';
import { ready } from './datasets.js';
import { createEstimate } from './estimate.js';
import { createFollowing } from './following.js';
import { createNetwork } from './network.js';
import { createSelection } from './selection.js';
import { bound, boundAll, usual } from './spec.js';
import { createMakings, createStrategies } from './strategies.js';
import { createWas } from './was.js';

// Shows error messages at the fields of a form. A field takes the errors at its data-pointer and below.
export function createFaults(form, rest) {
  const said = [];
  function clear() {
    for (const { field, note } of said.splice(0)) {
      note.remove();
      field.removeAttribute('aria-invalid');
      field.removeAttribute('aria-describedby');
    }
    rest.hidden = true;
    rest.textContent = '';
  }
  const owner = (pointer) => [...form.querySelectorAll('[data-pointer]')].filter((f) => !f.disabled && `${pointer}/`.startsWith(`${f.dataset.pointer}/`))
    .sort((a, b) => b.dataset.pointer.length - a.dataset.pointer.length)[0];
  function at(field, text, i) {
    const id = `fault-${i}`, note = el('span', { class: 'fault', id }, text.charAt(0).toUpperCase() + text.slice(1));
    if (field.closest('label')) field.closest('label').append(note);
    else field.after(note);
    field.setAttribute('aria-invalid', 'true');
    field.setAttribute('aria-describedby', id);
    field.closest('details')?.setAttribute('open', '');
    said.push({ field, note });
  }
  function show(problem) {
    clear();
    const placed = (problem.faults ?? []).map((f) => ({ ...f, field: owner(f.pointer) })), homeless = placed.filter((f) => !f.field);
    placed.filter((f) => f.field).forEach((f, i) => at(f.field, f.text, i));
    if (!placed.length || homeless.length) {
      rest.textContent = placed.length ? homeless.map(told).join('; ') : problem.message;
      rest.hidden = false;
    }
    (said[0]?.field ?? rest).focus();
  }
  return { clear, show };
}

export function createForm({ datasets, submitted }) {
  const dialog = $('#job-dialog'), form = $('#job-form'), hint = $('#arch-hint');
  const field = form.elements, layers = createNetwork(), was = createWas(form), strategies = createStrategies(), makings = createMakings(), faults = createFaults(form, $('#job-error')), estimate = createEstimate(dialog, form, spec);
  const selection = createSelection(), following = createFollowing();
  let archs = [], optimizers = [];

  // Suggests the network's own WAS if it has one, else WAS on all its convolutions. With the form's defaults, adamw and a cosine
  // schedule, the built-in digits exceed 90 % in both modes. Another optimizer starts with its own default rate.
  function suggest() {
    was.suggest(own(chosen()).was);
    explain();
  }
  const dataset = () => datasets().find((d) => d.name === field.dataset.value);
  const chosen = () => archs.find((a) => a.name === field.arch.value);
  const own = (a) => a.variants[0];          // every option at its default
  function explain() {
    const a = chosen();
    layers(a, dataset());
    hint.textContent = a ? `${a.summary} · ${si(own(a).params)} parameters · ${si(own(a).macs)} MACs${own(a).was ? '' : ' · by default without WAS'}` : '';
  }
  // A set with its own validation images uses them, unless the user asks for a share to hold out.
  function suggestHeld() {
    if ('chosen' in field.held.dataset) return;
    const own = dataset()?.val > 0;
    field.held.value = own ? '' : field.held.defaultValue;
    field.held.placeholder = own ? 'its own' : '';
    field.held.required = !own;
  }
  field.arch.addEventListener('change', suggest);
  field.dataset.addEventListener('change', () => { explain(); suggestHeld(); selection.fill(dataset()); });
  field.held.addEventListener('input', () => { field.held.dataset.chosen = ''; });
  const rate = (optimizer) => optimizer?.options.find((o) => o.name === 'lr');
  field.optimizer.addEventListener('change', () => {
    const row = rate(optimizers.find((o) => o.name === field.optimizer.value));
    field.lr.disabled = field.schedule.disabled = !row;      // an optimizer that searches has no rate
    if (row) field.lr.value = row.default;
  });

  async function open() {
    faults.clear();
    const first = !archs.length;
    if (first) {
      let schedules, transforms, augment, members, listed, kinds;
      ({ archs, optimizers, schedules, transforms, augment, strategies: listed, mode_kinds: kinds, spec: members } = await get('/v1/capabilities'));
      boundAll(form, members);
      bound(field.lr, rate(optimizers[0]));
      was.fill(transforms, members);
      strategies.fill(listed);
      makings.fill(kinds);
      field.arch.replaceChildren(...archs.map((a) => el('option', { value: a.name }, a.name)));
      field.optimizer.replaceChildren(...optimizers.map((o) => el('option', { value: o.name, selected: o.name === 'adamw' }, o.name)));
      $('#job-augment').append(...augment.map((a) => el('label', { title: a.summary }, el('input', { type: 'checkbox', name: 'augment', value: a.name }), ` ${a.name.replaceAll('_', ' ')}`)));
      field.schedule.replaceChildren(...schedules.map((s) => el('option', { value: s.name, selected: s.name === 'cosine' }, s.name)));
    }
    const usable = datasets().filter(ready), before = field.dataset.value;
    field.dataset.replaceChildren(...usable.map((d) => el('option', { value: d.name, selected: d.name === before }, d.name)));
    if (!usable.length) field.dataset.replaceChildren(el('option', { value: '' }, 'no data set is ready'));
    if (first) suggest();
    else explain();
    suggestHeld();
    selection.fill(dataset());
    dialog.showModal();
    estimate();
  }

  function spec() {
    const number = (name) => Number(field[name].value);
    const arch = field.arch.value, classes = selection.spec(), follows = following(), modes = makings.spec();
    const split = { ...(field.split_seed.value && { seed: number('split_seed') }), ...(field.stratified.checked !== field.stratified.defaultChecked && { stratified: field.stratified.checked }) };
    const name = field.name.value.trim();      // if empty, the daemon names the job after its network and data
    const augment = [...form.querySelectorAll('[name=augment]:checked')].map((box) => box.value);
    const job = { ...(name && { name }), ...(field.deadline.value && { deadline: 3600 * number('deadline') }), dataset: field.dataset.value, model: { arch, ...(field.init.value !== usual(field.init) && { init: field.init.value }) }, ...(follows && { on_complete: follows }), ...(modes.length && { modes }),
      data: { ...(classes && { classes }), ...(Object.keys(split).length && { split }), ...(field.held.value && { val_fraction: number('held') / 100 }), ...(field.limit.value && { limit: number('limit') }), ...(field.normalize.value !== usual(field.normalize) && { normalize: field.normalize.value }) },
      train: { epochs: number('epochs'), batch: number('batch'), seed: number('seed'), optimizer: { type: field.optimizer.value, ...(!field.lr.disabled && { lr: number('lr') }) },
        ...(!field.schedule.disabled && { schedule: { type: field.schedule.value, warmup_epochs: 1 } }), ...(augment.length && { augment }), ...(field.class_weights.value && { class_weights: field.class_weights.value }) } };
    const how = was.spec();
    const list = strategies.spec(), drawn = how ?? own(chosen())?.was;
    if (list.length) job.weights = [...list, ...(drawn ? [{ type: 'was', ...drawn }] : [])];
    else if (how !== undefined) job.was = how;
    return job;
  }

  // Opens closed settings that contain a field the browser finds invalid.
  form.addEventListener('invalid', (e) => e.target.closest('details')?.setAttribute('open', ''), true);
  form.addEventListener('submit', async (e) => {
    e.preventDefault();
    const button = $('[type=submit]', form);
    if (button.hasAttribute('aria-busy')) return;
    faults.clear();
    button.setAttribute('aria-busy', 'true');
    try {
      const { data } = await call('POST', '/v1/jobs', { json: spec() });
      dialog.close();
      await submitted(data);
    } catch (problem) {
      faults.show(problem);
    } finally {
      button.removeAttribute('aria-busy');
    }
  });
  $('#job-close').addEventListener('click', () => dialog.close());
  return { open };
}
