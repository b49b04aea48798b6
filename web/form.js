// form.js - the form that submits a job. Networks and their own settings come from the daemon's tables, so a new row there is
// offered here without an edit.

import { $, el, si } from './dom.js';
import { call, get } from './api.js';
import { ready } from './datasets.js';

export function createForm({ datasets, submitted }) {
  const dialog = $('#job-dialog'), form = $('#job-form'), error = $('#job-error'), hint = $('#arch-hint');
  const field = form.elements;
  let archs = [];

  const chosen = () => archs.find((a) => a.name === field.arch.value);
  const own = (a) => a.variants[0];          // with every option at its default
  function explain() {
    const a = chosen();
    hint.textContent = a ? `${a.summary} · ${si(own(a).params)} parameters · ${si(own(a).macs)} MACs${own(a).was ? '' : ' · its own setting is without WAS'}` : '';
  }
  field.arch.addEventListener('change', explain);

  async function open(dataset) {
    error.hidden = true;
    if (!archs.length) {
      archs = (await get('/v1/capabilities')).archs;
      field.arch.replaceChildren(...archs.map((a) => el('option', { value: a.name }, a.name)));
      if (archs.some((a) => a.name === 'vgg16')) field.arch.value = 'vgg16';
    }
    const usable = datasets().filter(ready);
    field.dataset.replaceChildren(...usable.map((d) => el('option', { value: d.name }, d.name)));
    if (!usable.length) field.dataset.replaceChildren(el('option', { value: '' }, 'no data set is ready'));
    if (dataset) field.dataset.value = dataset;
    explain();
    dialog.showModal();
  }

  function spec() {
    const number = (name) => Number(field[name].value);
    const arch = field.arch.value, dataset = field.dataset.value;
    const name = field.name.value.trim();      // without one the daemon calls the job after its network and data
    const job = { ...(name && { name }), dataset, model: { arch },
      train: { epochs: number('epochs'), batch: number('batch'), seed: number('seed'), optimizer: { type: 'sgd', lr: number('lr') } } };
    const was = field.was.value;
    if (was === 'off') job.was = false;
    if (was === 'on') job.was = own(chosen()).was === false ? { layers: 'all' } : {};
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
