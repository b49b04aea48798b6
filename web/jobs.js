// jobs.js - the table of jobs: one row each, chosen by its name, with what can be done to it.

import { $, busy, duration, el, keyed, percent, rate, setText, toast } from './dom.js';
import { call, jobPath } from './api.js';

export const terminal = (job) => ['completed', 'failed', 'cancelled'].includes(job.state);
export const stoppable = (job) => !terminal(job) && job.state !== 'cancelling';
export const title = (job) => job.name || job.id;
const resting = (job) => terminal(job) || ['queued', 'held', 'paused'].includes(job.state);

// What a job is, in one line: network, data set, weights.
export function kind(job) {
  const dataset = typeof job.dataset === 'object' ? job.dataset?.name : job.dataset;
  return [job.model?.arch ?? job.model?.name, dataset, job.was ? 'WAS' : 'plain'].filter(Boolean).join(' · ');
}

export async function cancel(job) {
  await call('POST', jobPath(job.id, ':cancel'), { json: { mode: 'graceful', reason: 'asked for on the dashboard' } });
}

export async function remove(job) {
  await call('DELETE', jobPath(job.id));
  toast(`${title(job)} is deleted.`);
}

export const stateBadge = () => el('span', { class: 'badge' });
export function showState(badge, object) {
  badge.dataset.state = object.state;
  setText(badge, object.state);
  badge.title = [object.reason, object.message].filter(Boolean).join(': ');
}

export function createJobs({ select, deploy, refresh }) {
  const table = $('#jobs-table');

  function row(first) {
    let job = first;
    const name = el('button', { type: 'button', class: 'name', onclick: () => select(job.id) });
    const sub = el('small');
    const badge = stateBadge(), badgeSmall = stateBadge();
    const bar = el('progress', { max: 1 });
    const epoch = el('small', { class: 'epoch' });
    const [imgs, left, aom, dom] = [el('td', { class: 'num c-rate' }), el('td', { class: 'num c-eta' }), el('td', { class: 'num aom' }), el('td', { class: 'num dom' })];
    const act = (label, work) => {
      const button = el('button', { type: 'button', onclick: () => busy(button, async () => { await work(job); await refresh(); }) }, label);
      return button;
    };
    const stop = act('Cancel', cancel), serve = act('Deploy', deploy), gone = act('Delete', remove);
    const root = el('tr', {},
      el('th', { scope: 'row' }, name, el('span', { class: 'under' }, sub, badgeSmall)),
      el('td', { class: 'c-state' }, badge),
      el('td', { class: 'progress' }, bar, epoch), imgs, left, aom, dom,
      el('td', { class: 'do c-do' }, stop, serve, gone));
    root.addEventListener('click', (e) => { if (!e.target.closest('button')) select(job.id); });
    return {
      root,
      update(next) {
        job = next;
        const p = job.progress ?? {};
        setText(name, title(job));
        name.title = job.id;
        setText(sub, kind(job));
        showState(badge, job);
        showState(badgeSmall, job);
        // epoch is the one that is being worked on, step counts within its phase; what follows training is short
        const within = p.phase === 'train' ? p.step / p.steps : 1;
        bar.value = job.state === 'completed' ? 1 : p.epochs ? Math.min(1, (p.epoch - 1 + within) / p.epochs) : 0;
        bar.setAttribute('aria-label', `Progress of ${title(job)}`);
        setText(epoch, p.epochs ? `epoch ${p.epoch} / ${p.epochs}` : job.state === 'queued' ? 'waiting for a worker' : '');
        setText(imgs, resting(job) ? '–' : rate(p.img_per_s));
        setText(left, resting(job) ? '–' : duration(p.eta_s));
        setText(aom, percent(job.metrics_latest?.val_acc_aom));
        setText(dom, percent(job.metrics_latest?.val_acc_dom));
        stop.hidden = !stoppable(job);
        serve.hidden = !deployable(job);
        gone.hidden = !terminal(job);
        for (const [button, what] of [[stop, 'Cancel'], [serve, 'Deploy the best checkpoint of'], [gone, 'Delete']]) button.setAttribute('aria-label', `${what} ${title(job)}`);
      },
      mark(on) { root.classList.toggle('chosen', on); name.setAttribute('aria-pressed', String(on)); },
    };
  }

  const marks = new Map();
  const show = keyed($('tbody', table), (job) => {
    const made = row(job);
    marks.set(job.id, made.mark);
    return { ...made, close: () => marks.delete(job.id) };
  });
  return (jobs, chosen) => {
    table.hidden = jobs.length === 0;
    $('#jobs-empty').hidden = jobs.length > 0;
    show(jobs, (job) => job.id);
    marks.forEach((mark, id) => mark(id === chosen));
  };
}

// A job can be served once a checkpoint has been measured.
export const deployable = (job) => job.best != null && Object.keys(job.best).length > 0;
