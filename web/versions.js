// versions.js - which checkpoint a live model serves, and the way to another one: a checkpoint of its job, the job's best or latest from now on, or
// the one served before. The daemon loads it beside the running one and swaps.

import { announce, busy, el, isNumber, percent, setText } from './dom.js';
import { call, deploymentPath, get, jobPath } from './api.js';

const follows = { best: 'follow the best of its job', latest: 'follow the latest of its job' };
const short = (id) => (id ? `…${id.slice(-6)}` : 'none');

export function createVersions({ refresh }) {
  let deployment = null, listed = '';
  const now = el('span', { class: 'now' }), words = el('p');
  const picker = el('select', { 'aria-label': 'Checkpoint to serve' }), swap = el('button', { type: 'button', onclick: () => busy(swap, () => to(JSON.parse(picker.value))) }, 'Swap');
  const back = el('button', { type: 'button', onclick: () => busy(back, rollback) }, 'Back to the one before');
  const form = el('div', { class: 'line' }, picker, swap, back);
  const root = el('details', { class: 'told versions', ontoggle: () => { if (root.open) list().catch(() => {}); } }, el('summary', {}, 'Versions ', now), words, form);

  async function list() {
    const { job, checkpoint } = deployment, at = `${job} ${checkpoint} ${deployment.update?.checkpoint ?? ''}`;
    if (at === listed) return;
    listed = at;
    const known = job ? (await get(jobPath(job, '/checkpoints'))).items : [];
    if (at !== listed) return;
    const options = [...(job ? Object.keys(follows).map((follow) => [{ job, follow }, follows[follow]]) : []),
      ...known.filter((c) => c.id !== checkpoint).map((c) => [{ checkpoint: c.id }, `epoch ${c.epoch}${isNumber(c.metrics?.val_acc_aom) ? `, ${percent(c.metrics.val_acc_aom)} in AOM` : ''}, ${short(c.id)}`])];
    picker.replaceChildren(...options.map(([source, text]) => el('option', { value: JSON.stringify(source) }, text)));
    picker.hidden = swap.hidden = !options.length;
  }

  async function to(source) {
    const { name } = deployment;
    await call('PATCH', deploymentPath(name), { json: { source, reason: 'dashboard' } });
    announce(`${name} is getting another version`);
    await refresh();
  }

  async function rollback() {
    const { name } = deployment;
    await call('POST', deploymentPath(name, ':rollback'), { json: { reason: 'dashboard' } });
    announce(`${name} goes back to the version before`);
    await refresh();
  }

  return { root, update(next) {
    deployment = next;
    const { version, checkpoint, previous, update, source = {} } = deployment;
    setText(now, `version ${version}`);
    setText(words, [`Serves ${checkpoint ?? 'no checkpoint yet'}${source.follow ? `, and each new ${source.follow} checkpoint of its job` : ''}.`,
      update ? (update.state === 'failed' ? `${update.checkpoint} could not be loaded.` : `${update.checkpoint} is being loaded.`) : '', previous ? `Before: ${previous}.` : 'No version before this one.'].filter(Boolean).join(' '));
    back.hidden = !previous;
    if (root.open) list().catch(() => {});
  } };
}
