// jobs.js - the table of jobs: one row per job, with a link to #id and its actions; and a job's state in words.

import { $, ask, busy, cards, duration, el, keyed, percent, setText, toast } from './dom.js';
import { call, jobPath } from './api.js';

export const terminal = (job) => ['completed', 'failed', 'cancelled'].includes(job.state);
export const stoppable = (job) => !terminal(job) && job.state !== 'cancelling';
export const title = (job) => job.name || job.id;
// A job can be deployed once one of its checkpoints has been evaluated.
export const deployable = (job) => job.best != null && Object.keys(job.best).length > 0;

// The strategies in the list of a job, in words and in their order; undefined for a job without such a list.
export const strategies = (job) => job.weights?.map((w) => (w.type === 'was' ? 'WAS' : w.sparsity ? `${w.type} ${percent(w.sparsity, 0)}` : w.type)).join(' + ');

// Describes a job in one line: network, data set, weights.
export function kind(job) {
  return [job.model?.arch, job.dataset?.name, strategies(job) ?? (job.was ? 'WAS' : 'plain weights')].filter(Boolean).join(' · ');
}

// ---- a job's state in words ----

const reasons = {
  user: 'on request', kill: 'by force, on request', early_stopped: 'no further improvement', nan_loss: 'its loss became NaN or infinite',
  deadline_exceeded: 'it exceeded its deadline', oom: 'it ran out of memory', bad_data: 'its data cannot be read', retries_exhausted: 'every attempt failed',
  daemon_stopped: 'the daemon was stopped', retry: 'another attempt', pruned: 'not among the best of its sweep', rung: 'compared with the others of its sweep',
  sweep: 'with its sweep', promoted: 'among the best of its sweep', error: '', done: '',
};
const verbs = { cancelled: 'Cancelled', cancelling: 'Being cancelled', failed: 'Failed', completed: 'Ended early', queued: 'Waiting', retry_wait: 'Waiting' };

// Says why a job is in its state and how far it got; '' if the state says it all.
export function story(job) {
  const { epoch, epochs } = job.progress ?? {}, why = reasons[job.reason] ?? job.reason?.replaceAll('_', ' ');
  const waits = job.state === 'queued' ? job.queue?.message : '';
  if (!(why || job.message || waits) || (job.state === 'completed' && !why && !job.message)) return '';
  const head = [verbs[job.state] ?? job.state, why && ` ${job.state === 'cancelled' || job.state === 'cancelling' ? why : `(${why})`}`,
    ['cancelled', 'failed'].includes(job.state) && epochs ? ` in epoch ${epoch} of ${epochs}` : ''].filter(Boolean).join('');
  return [head, job.message ?? waits].filter(Boolean).join(': ');
}

// The progress of a job: {part: 0 to 1, words}. epoch is the current epoch, step counts its training steps.
const phases = { train: 'training', eval: 'evaluating' }, trained = /^(eval|measuring statistics|saving|searching)/;    // phases after an epoch's training
function phase({ phase: name, phase_done: done, phase_total: total }) {
  const words = phases[name] ?? name;
  return words && (words !== 'training' && total > 1 ? `${words}, ${done} of ${total}` : words);
}
export function progress(job) {
  const p = job.progress ?? {}, live = job.state === 'running';
  if (job.state === 'completed') {
    const all = p.epochs ? `${p.epochs} ${p.epochs === 1 ? 'epoch' : 'epochs'}` : '';
    return p.epoch < p.epochs ? { part: p.epoch / p.epochs, words: `${p.epoch} of ${all}` } : { part: 1, words: all };    // stopped early, or pruned
  }
  if (!p.epochs) return { part: 0, words: job.state === 'queued' ? 'waiting for a worker' : terminal(job) ? '' : (live && phase(p)) || 'starting' };
  const part = Math.min(1, (p.epoch - 1 + (trained.test(p.phase) ? 1 : p.steps ? p.step / p.steps : 0)) / p.epochs);
  return { part, words: [`epoch ${p.epoch} of ${p.epochs}`, live && phase(p), live && p.eta_s > 0 && `${duration(p.eta_s)} left`].filter(Boolean).join(' · ') };
}

export const stateBadge = () => el('span', { class: 'badge' });
export function showState(badge, object) {
  badge.dataset.state = object.state;
  setText(badge, object.state.replaceAll('_', ' '));
}

// ---- actions on a job; false if the user declined ----

export async function cancel(job) {
  const sure = await ask(`Cancel ${title(job)}?`, 'The job stops after the current mini-batch and keeps its best checkpoint. It cannot be resumed.', 'Cancel the job');
  if (!sure) return false;
  await call('POST', jobPath(job.id, ':cancel'), { json: { mode: 'graceful' } });
}

async function remove(job) {
  if (!await ask(`Delete ${title(job)}?`, 'This deletes its curves, its log and its checkpoints permanently.', 'Delete the job')) return false;
  await call('DELETE', jobPath(job.id));
  toast(`${title(job)} was deleted.`);
}

export function createJobs({ deploy, refresh }) {
  const table = $('#jobs-table'), asCard = cards(table);

  function row(first) {
    let job = first;
    const name = el('a', { class: 'name' }), sub = el('small'), badge = stateBadge(), warns = el('span', { class: 'warns', hidden: true });
    const bar = el('progress', { max: 1 }), stage = el('small');
    const aom = el('td', { class: 'num aom' }), dom = el('td', { class: 'num dom' });
    const act = (label, work) => {
      const button = el('button', { type: 'button', onclick: () => { const drawn = job; busy(button, async () => { if (await work(drawn) !== false) await refresh(); }); } }, label);
      return button;
    };
    const stop = act('Cancel', cancel), serve = act('Deploy', deploy), gone = act('Delete', remove);
    const root = el('tr', {},
      el('th', { scope: 'row' }, name, sub),
      el('td', { class: 'c-state' }, badge, warns),
      el('td', { class: 'progress' }, bar, stage), aom, dom,
      el('td', { class: 'do' }, el('span', { class: 'buttons' }, stop, serve, gone)));
    root.addEventListener('click', (e) => { if (!e.target.closest('button, a')) name.click(); });
    return {
      root: asCard(root),
      update(next) {
        job = next;
        const { part, words } = progress(job), warnings = job.warnings ?? [];
        setText(name, title(job));
        name.href = `#${job.id}`;
        setText(sub, kind(job));
        showState(badge, job);
        warns.hidden = !warnings.length;
        setText(warns, warnings.length === 1 ? '1 warning' : `${warnings.length} warnings`);
        bar.value = part;
        bar.setAttribute('aria-label', `Progress of ${title(job)}`);
        setText(stage, words);
        const reached = (terminal(job) && job.best?.metrics) || job.metrics_latest;   // once the job has ended: the checkpoint that Deploy takes
        setText(aom, percent(reached?.val_acc_aom));
        setText(dom, percent(reached?.val_acc_dom));
        stop.hidden = !stoppable(job);
        serve.hidden = !deployable(job);
        gone.hidden = !terminal(job);
        for (const [button, what] of [[stop, 'Cancel'], [serve, 'Deploy the best checkpoint of'], [gone, 'Delete']]) button.setAttribute('aria-label', `${what} ${title(job)}`);
      },
      mark(on) {
        root.classList.toggle('chosen', on);
        if (on) name.setAttribute('aria-current', 'true'); else name.removeAttribute('aria-current');
      },
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
