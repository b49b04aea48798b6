// estimate.js - what the job of the form would take: its sizes while one types, the times of its steps after a pause. A change of the
// form aborts the request under way, and with it the measurement.

import { $, bytes, count, duration, el, rate, setText, si } from './dom.js';
import { call } from './api.js';

const SIZES_MS = 250, TIMES_MS = 900;
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? '' : 's'}`;

function memory({ bytes: need, limit_bytes: limit, available_bytes: left }) {
  const most = [limit, left].filter((v) => v !== null);
  return most.length ? `${bytes(need)} of ${bytes(Math.min(...most))}` : bytes(need);
}
function start({ eta_s: eta, position, message }) {
  if (eta === 0) return 'at once';
  return `${eta === null ? message : `in ${duration(eta)}`}${position > 1 ? `, as number ${position} in the queue` : ''}`;
}
const seconds = (s) => (s < 1 ? `${Math.max(1, Math.round(1000 * s))} ms` : duration(s));

function facts(e) {
  const { aom, dom } = e.macs;
  return [
    ['Parameters', si(e.params)],
    ['Multiply-adds per image', dom === undefined ? si(aom) : `${si(aom)} AOM, ${si(dom)} DOM`],
    ['Memory', memory(e.memory)],
    ['Checkpoints kept', `${bytes(e.checkpoints.kept_bytes)} of ${bytes(e.checkpoints.free_bytes)}`],
    ['Steps', `${count(e.steps_per_epoch)} per epoch on ${plural(e.threads, 'thread')}`],
    ['Start', start(e.queue)],
    ['One epoch', e.time ? `${seconds(e.time.epoch_s)}, ${rate(e.time.images_per_s)} images/s` : null],
    [`All ${plural(e.epochs, 'epoch')}`, e.time ? seconds(e.time.total_s) : null],
    ...(e.modes.length ? [['Then made', e.modes.join(', ')]] : []),
  ];
}

export function createEstimate(dialog, form, spec) {
  const root = $('#job-estimate'), list = $('dl', root), note = $('p', root);
  let timer, abort;

  function stop() {
    clearTimeout(timer);
    abort?.abort();
  }
  // missing: what stands where a time is not known.
  function show(e, missing) {
    list.replaceChildren(...facts(e).map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value ?? missing))));
    const beside = e.time?.measured.beside;
    setText(note, [...e.warnings.map((w) => w.message), beside && `measured while ${plural(beside, 'job')} ${beside === 1 ? 'trains' : 'train'}`].filter(Boolean).join('; '));
    root.classList.toggle('warn', !e.memory.fits || !e.checkpoints.fits);
  }
  async function ask(bench) {
    const mine = abort = new AbortController();
    try {
      const { data } = await call('POST', `/v1/jobs?dry_run=true&bench=${bench}`, { json: spec(), signal: mine.signal });
      if (mine.signal.aborted) return;
      show(data.estimate, bench ? '–' : 'measuring…');
      root.dataset.state = bench ? 'whole' : 'sizes';
      if (bench && !data.estimate.time) setText(note, [note.textContent, data.estimate.time_missing].filter(Boolean).join('; '));
      if (!bench) timer = setTimeout(() => ask(true), TIMES_MS);
    } catch (problem) {
      if (!mine.signal.aborted) refused(problem.message);
    }
  }
  function refused(text) {
    list.replaceChildren();
    setText(note, text);
    root.dataset.state = 'refused';
  }
  // Asking for the validity of a field, unlike that of the form, opens no closed settings.
  const valid = () => [...form.elements].every((f) => f.disabled || !f.validity || f.validity.valid);
  function changed() {
    stop();
    if (!dialog.open) return;
    root.dataset.state = 'waiting';
    timer = setTimeout(() => (valid() ? ask(false) : refused('')), SIZES_MS);
  }
  form.addEventListener('input', changed, true);
  form.addEventListener('change', changed, true);
  dialog.addEventListener('close', stop);
  return changed;
}
