// report.js - what the best checkpoint of the chosen job gets right and wrong in each of its modes. It is computed when it is first opened.

import { $, el, isNumber, keyed, percent, setText, si } from './dom.js';
import { datasetPath, get, jobPath } from './api.js';

const cellsMost = 20;        // classes of a matrix that is shown

export function createReport() {
  const root = $('#run-report'), form = $('form', root).elements, state = $('#report-state'), body = $('#report-body');
  const matrix = $('.confusion', body), calibration = $('.calibration tbody', body), worst = $('.examples', body);
  let id = null, checkpoint = null, report = null, loading = '';

  const fact = keyed($('.facts', body), ([name]) => {
    const value = el('dd', {});
    return { root: el('div', {}, el('dt', {}, name), value), update: ([, next]) => setText(value, next) };
  });

  function drawMatrix(m) {
    const classes = report.classes ?? [], shown = m.confusion && m.confusion.length <= cellsMost;
    matrix.closest('.scroll').hidden = !shown;
    if (!shown) return;
    const head = el('tr', {}, el('td', {}), ...classes.map((name) => el('th', { scope: 'col', class: 'num' }, name)), el('th', { scope: 'col', class: 'num' }, 'right'));
    $('thead', matrix).replaceChildren(head);
    $('tbody', matrix).replaceChildren(...m.confusion.map((row, label) => el('tr', {}, el('th', { scope: 'row' }, classes[label] ?? label),
      ...row.map((n, said) => el('td', { class: `num ${said === label ? 'right' : n ? 'wrong' : 'none'}` }, n || '·')),
      el('td', { class: 'num' }, percent(m.per_class[label][1])))));
  }

  function draw() {
    body.hidden = !report;
    if (!report) return;
    if (form.mode.options.length !== Object.keys(report.modes).length || ![...form.mode.options].every((o) => o.value in report.modes)) {
      form.mode.replaceChildren(...Object.keys(report.modes).map((mode) => el('option', { value: mode }, mode.includes(':') ? mode : mode.toUpperCase())));
    }
    const m = report.modes[form.mode.value], classes = report.classes ?? [];
    fact([['Images', String(report.images)], ['Accuracy', percent(m.accuracy)], ['Loss', m.loss.toFixed(3)], ['Calibration error', percent(m.ece)], ['Multiply-adds', si(m.macs)]], ([name]) => name);
    drawMatrix(m);
    calibration.replaceChildren(...m.calibration.flatMap(([n, sure, right]) => (n ? [el('tr', {}, el('th', { scope: 'row' }, percent(sure)), el('td', { class: 'num' }, percent(right)), el('td', { class: 'num' }, n))] : [])));
    worst.replaceChildren(...m.worst.map(([image, label, said, p]) => el('li', {},
      el('img', { src: datasetPath(report.dataset, `/preview?i=${image}&split=${report.split}`), alt: `Image ${image}`, loading: 'lazy' }),
      el('span', {}, `${classes[label] ?? label}, answered ${classes[said] ?? said} with ${percent(p)}`))));
    $('a', body).href = jobPath(id, `/report?format=csv&mode=${encodeURIComponent(form.mode.value)}&split=${form.split.value}`);
  }

  async function load() {
    const of = id, split = form.split.value, wanted = `${id} ${checkpoint} ${split}`;
    if (!of || !checkpoint || !root.open || loading === wanted) return;
    loading = wanted;
    const current = () => loading === wanted && id === of;
    try {
      for (;;) {
        const answer = await get(jobPath(of, `/report?wait=30s&split=${split}`));
        if (!current()) return;
        report = answer.modes ? answer : null;
        setText(state, report ? '' : `It is being computed: ${isNumber(answer.of) && answer.of ? percent(answer.done / answer.of, 0) : 'waiting'}.`);
        draw();
        if (report) break;
      }
    } catch (e) {
      if (!current()) return;
      report = null;
      setText(state, e.message);
      draw();
    }
    if (loading === wanted) loading = '';
  }
  root.addEventListener('toggle', load);
  form.split.addEventListener('change', () => { loading = ''; load(); });
  form.mode.addEventListener('change', draw);

  return {
    load,
    // next: the best checkpoint of the job, or null.
    show(job, next) {
      root.hidden = !next;
      if (job === id && next === checkpoint) return;
      if (job !== id) { report = null; setText(state, ''); draw(); }
      id = job;
      checkpoint = next;
      loading = '';
      load();
    },
  };
}
