// run.js - the chosen job: what it is, its live curves, its profiles, its checkpoints and its log.

import { $, busy, bytes, el, isNumber, keyed, percent, setText, when } from './dom.js';
import { call, get, jobPath } from './api.js';
import { createChart } from './charts.js';
import { createProfiles } from './profiles.js';
import { cancel, deployable, kind, showState, stateBadge, stoppable, title } from './jobs.js';

const loss = (v) => v.toFixed(v < 10 ? 3 : 1);
const transform = (t) => (t.type === 'translate' ? `translate ${t.x}` : t.type === 'resized_crop' ? `crop-resize ${t.scale?.join('–')}` : t.type);

export function createRun({ deploy, refresh }) {
  const section = $('#run'), message = $('#run-message');
  const charts = [
    createChart($('#chart-loss'), { format: loss, tick: (v) => String(Number(v.toFixed(3))), zero: false, series: [
      { name: 'train_loss', label: 'training', color: '--train', dash: true },
      { name: 'val_loss_aom', label: 'AOM', color: '--aom' },
      { name: 'val_loss_dom', label: 'DOM', color: '--dom' }] }),
    createChart($('#chart-acc'), { format: percent, tick: (v) => `${Number((100 * v).toFixed(1))} %`, zero: true, series: [
      { name: 'train_acc', label: 'training', color: '--train', dash: true },
      { name: 'val_acc_aom', label: 'AOM', color: '--aom' },
      { name: 'val_acc_dom', label: 'DOM', color: '--dom' }] }),
  ];
  const names = 'train_loss,val_loss_aom,val_loss_dom,train_acc,val_acc_aom,val_acc_dom';
  const badge = stateBadge();
  const act = (label, work, kindOf = '') => {
    const button = el('button', { type: 'button', class: kindOf, onclick: () => busy(button, async () => { await work(job); await refresh(); }) }, label);
    return button;
  };
  const stop = act('Cancel', cancel), serve = act('Deploy best', deploy, 'primary');
  $('#run-do').append(badge, stop, serve);

  let job = null;

  async function metrics() {
    const id = job?.id;
    if (!id) return;
    const { series } = await get(jobPath(id, `/metrics?names=${names}`));
    if (job?.id !== id) return;
    const byName = new Map(series.map((s) => [s.name, s.points.map(([, epoch, , value]) => [epoch, value])]));
    charts.forEach((chart) => chart.set(byName));
  }

  const log = $('#run-log'), pre = $('pre', log);
  async function showLog() {
    const id = job?.id;
    if (!id || !log.open) return;
    const { data } = await call('GET', jobPath(id, '/logs?tail=200'), { headers: { Accept: 'text/plain' } });
    if (job?.id !== id) return;
    const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24;
    setText(pre, typeof data === 'string' && data ? data : 'The log is empty.');
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  }

  const profiles = createProfiles();

  const checkpoints = $('#run-checkpoints');
  // What a checkpoint can be downloaded as; DOM only where the run has that mode.
  const downloads = [['safetensors', 'safetensors'], ['ONNX, AOM', 'onnx&mode=aom'], ['ONNX, DOM', 'onnx&mode=dom'], ['as stored', 'wasd']];
  const showCheckpoints = keyed($('ul', checkpoints), () => {
    const text = el('span'), files = downloads.map(([label]) => el('a', { download: '' }, label));
    return { root: el('li', {}, text, el('span', { class: 'files' }, ...files)), update(c) {
      const test = isNumber(c.metrics?.test_acc_aom) ? ` · test AOM ${percent(c.metrics.test_acc_aom)} · DOM ${percent(c.metrics.test_acc_dom)}` : '';
      setText(text, `epoch ${c.epoch} · validation AOM ${percent(c.metrics?.val_acc_aom)} · DOM ${percent(c.metrics?.val_acc_dom)}${test} · ${bytes(c.bytes)} · ${c.reason ?? ''}`);
      files.forEach((file, i) => {
        const [label, format] = downloads[i];
        file.href = `/v1/checkpoints/${encodeURIComponent(c.id)}/file?format=${format}`;
        file.hidden = format.endsWith('dom') && !c.info?.was;
        file.setAttribute('aria-label', `Download the checkpoint of epoch ${c.epoch}, ${label}`);
      });
    } };
  });
  async function loadCheckpoints() {
    const id = job?.id;
    if (!id || !checkpoints.open) return;
    const { items } = await get(jobPath(id, '/checkpoints'));
    if (job?.id === id) showCheckpoints(items, (c) => c.id);
  }
  // A part that cannot be loaded now is loaded at the next event or poll.
  const quietly = (work) => () => work().catch(() => {});
  log.addEventListener('toggle', quietly(showLog));
  checkpoints.addEventListener('toggle', quietly(loadCheckpoints));

  function facts() {
    const t = job.train ?? {}, o = t.optimizer ?? {};
    const was = job.was ? `WAS ${(job.was.transforms ?? []).map(transform).join(' or ') || 'on'}` : 'plain weights';
    const list = [kind(job).split(' · ').slice(0, 2).join(' on '), was, t.batch && `batch ${t.batch}`, o.type && `${o.type} ${o.lr}`,
      t.seed != null && `seed ${t.seed}`, job.created_at && `submitted ${when(job.created_at)}`].filter(Boolean);
    return list.join('  ·  ');
  }

  // What the best checkpoint was chosen by, and what it does on images that had no part in anything.
  function best() {
    const b = job.best?.metrics, own = job.data?.val_fraction !== 0;
    const pair = (of) => ['aom', 'dom'].filter((mode) => isNumber(b[`${of}_acc_${mode}`])).map((mode) => `${mode.toUpperCase()} ${percent(b[`${of}_acc_${mode}`])}`).join(' · ');
    const parts = b ? [own && ['validation', pair('val')], ['test', pair('test')]].filter((p) => p && p[1]) : [];
    const how = job.eval?.statistics === 'batch' ? ' (statistics of the test batch and active dropout, the protocol of the paper)' : '';
    return parts.length ? `Best epoch ${job.best.epoch}:  ${parts.map((p) => p.join(' ')).join(',  ')}${own ? '' : ' (chosen by the test images: none are held out)'}${how}` : '';
  }

  return {
    get id() { return job?.id ?? null; },
    show(next) {
      const changed = next?.id !== job?.id;
      job = next;
      profiles.show(job?.best?.checkpoint ?? null);
      section.hidden = !job;
      if (!job) return;
      setText($('#run-title'), title(job));
      setText($('#run-facts'), facts());
      setText($('#run-best'), best());
      $('#run-best').hidden = !best();
      showState(badge, job);
      stop.hidden = !stoppable(job);
      serve.hidden = !deployable(job);
      const words = [job.state === 'completed' ? '' : job.reason, job.message].filter(Boolean).join(': ');
      setText(message, words);
      message.hidden = !words;
      message.classList.toggle('bad', job.state === 'failed');
      if (changed) {
        charts.forEach((chart) => chart.set(new Map()));
        setText(pre, '');
        showCheckpoints([], (c) => c.id);
        this.changed(['metric', 'log', 'checkpoint']);
      }
    },
    // Loads again what an event says has changed.
    changed(what) {
      if (what.includes('metric')) quietly(metrics)();
      if (what.includes('log')) quietly(showLog)();
      if (what.includes('checkpoint')) quietly(loadCheckpoints)();
      if (what.includes('profile')) quietly(profiles.load)();
    },
  };
}
