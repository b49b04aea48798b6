// form.js - the form that submits a job. Networks and their own settings come from the daemon's tables, so a new row there is
// offered here without an edit.

import { $, el, si } from './dom.js';
import { call, get } from './api.js';
import { ready } from './datasets.js';
import { createNetwork } from './network.js';
import { createWas } from './was.js';

export function createForm({ datasets, submitted }) {
  const dialog = $('#job-dialog'), form = $('#job-form'), error = $('#job-error'), hint = $('#arch-hint');
  const field = form.elements, layers = createNetwork(), was = createWas(form);
  let archs = [], optimizers = [];

  // What to begin with: the network's own WAS where it has one, else WAS on all its convolutions; the optimizer's own rate.
  function suggest() {
    was.suggest(own(chosen()).was);
    explain();
  }
  const chosen = () => archs.find((a) => a.name === field.arch.value);
  const own = (a) => a.variants[0];          // with every option at its default
  function explain() {
    const a = chosen();
    layers(a, datasets().find((d) => d.name === field.dataset.value));
    hint.textContent = a ? `${a.summary} · ${si(own(a).params)} parameters · ${si(own(a).macs)} MACs${own(a).was ? '' : ' · its own setting is without WAS'}` : '';
  }
  field.arch.addEventListener('change', suggest);
  field.dataset.addEventListener('change', explain);
  field.optimizer.addEventListener('change', () => {
    const rate = optimizers.find((o) => o.name === field.optimizer.value)?.options.find((o) => o.name === 'lr');
    if (rate) field.lr.value = rate.default;
  });

  async function open() {
    error.hidden = true;
    const first = !archs.length;
    if (first) {
      let transforms;
      ({ archs, optimizers, transforms } = await get('/v1/capabilities'));
      was.fill(transforms);
      field.arch.replaceChildren(...archs.map((a) => el('option', { value: a.name }, a.name)));
      field.optimizer.replaceChildren(...optimizers.map((o) => el('option', { value: o.name, selected: o.name === 'adamw' }, o.name)));
      field.optimizer.dispatchEvent(new Event('change'));
    }
    const usable = datasets().filter(ready);
    field.dataset.replaceChildren(...usable.map((d) => el('option', { value: d.name }, d.name)));
    if (!usable.length) field.dataset.replaceChildren(el('option', { value: '' }, 'no data set is ready'));
    if (first) suggest();
    else explain();
    dialog.showModal();
  }

  function spec() {
    const number = (name) => Number(field[name].value);
    const arch = field.arch.value, dataset = field.dataset.value;
    const name = field.name.value.trim();      // without one the daemon calls the job after its network and data
    const job = { ...(name && { name }), dataset, model: { arch },
      data: { val_fraction: number('held') / 100 },
      train: { epochs: number('epochs'), batch: number('batch'), seed: number('seed'), optimizer: { type: field.optimizer.value, lr: number('lr') },
        schedule: { type: 'constant', warmup_epochs: 1 } } };
    const how = was.spec();
    if (how !== undefined) job.was = how;
    return job;
  }

  form.addEventListener('submit', async (e) => {
    e.preventDefault();
    const button = $('[type=submit]', form);
    error.hidden = true;
    button.disabled = true;
    try {
      const { data } = await call('POST', '/v1/jobs', { json: spec() });
      dialog.close();
      await submitted(data);
    } catch (problem) {
      error.textContent = problem.message;
      error.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
  $('#job-close').addEventListener('click', () => dialog.close());
  return { open };
}
