// run.js - the job named by the address: its settings and state, its warnings, what follows it, the accuracies of its best checkpoint, its
// live curves, its modes, its weights, its checkpoints and its log.

import { $, busy, bytes, cards, el, isNumber, keyed, percent, rate, setText, when } from './dom.js';
import { call, get, jobPath } from './api.js';
import { aliveMetrics, createAlive } from './alive.js';
import { createChart } from './charts.js';
import { following } from './following.js';
import { createKernels } from './kernels.js';
import { createMade } from './made.js';
import { createReport } from './report.js';
import { createSpark } from './spark.js';
import { cancel, deployable, progress, showState, stateBadge, stoppable, story, strategies, terminal, title } from './jobs.js';

const loss = (v) => v.toFixed(v < 10 ? 3 : 1);
const transform = (t) => (t.type === 'translate' ? `translate ${t.x}` : t.type === 'resized_crop' ? `crop-resize ${t.scale?.join('–')}` : t.type);

// The settings of a job: [[name, value], ...].
function facts(job) {
  const t = job.train ?? {}, o = t.optimizer ?? {}, held = job.data?.val_fraction, limit = job.data?.limit;
  return [
    ['Network', job.model?.arch && [job.model.arch, job.model.published && 'as published'].filter(Boolean).join(', ')],
    ['Data set', job.dataset && `${job.dataset.name}, version ${job.dataset.version}`],
    ['Held out', held === null ? 'the set’s own validation images' : isNumber(held) && (held > 0 ? `${percent(held, 0)} for validation` : 'nothing: validated on the test images')],
    ['Classes', job.data?.classes?.join(', ')],
    ['Training images', isNumber(limit) && (limit < 1 ? `${percent(limit)} of the set` : `at most ${limit}`)],
    ['Weights', strategies(job) ?? (job.was ? `WAS: ${(job.was.transforms ?? []).map(transform).join(' or ') || 'on'}` : 'plain')],
    ['Optimizer', o.type && `${o.type}${o.lr === undefined ? '' : `, rate ${o.lr}`}`],
    ['Batch', t.batch],
    ['Seed', t.seed],
    ['Submitted', job.created_at && when(job.created_at)],
    ['Deadline', job.deadline && when(job.deadline)],
  ].filter(([, value]) => value != null && value !== false);
}

// The accuracies of the best checkpoint on both sets of images: the checkpoint was chosen by validation; the test images had no influence.
function createBest() {
  const box = $('#run-best'), caption = $('caption', box), note = $('#run-best-note');
  const images = ['val', 'test'], modes = ['aom', 'dom'];
  const cells = modes.map((mode) => images.map(() => el('td', { class: `num ${mode}` })));
  $('tbody', box).append(...modes.map((mode, i) => el('tr', {}, el('th', { scope: 'row' }, mode.toUpperCase()), ...cells[i])));
  return (job) => {
    const b = job.best?.metrics, held = job.data?.val_fraction !== 0;
    box.hidden = !b;
    note.hidden = !b || (held && job.eval?.statistics !== 'batch');
    if (!b) return;
    setText(caption, `Best epoch: ${job.best.epoch}`);
    modes.forEach((mode, i) => images.forEach((of, k) => setText(cells[i][k], of === 'val' && !held ? '–' : percent(b[`${of}_acc_${mode}`]))));
    setText(note, [!held && 'Chosen by the test images, because none are held out.', job.eval?.statistics === 'batch' && 'Measured with statistics of the test batch and active dropout, as in the paper.'].filter(Boolean).join(' '));
  };
}

export function createRun({ deploy, refresh, named }) {
  const section = $('#run'), message = $('#run-message'), live = $('#run-live'), body = $('#run-body'), bar = $('#run-now progress');
  const losses = [
    { name: 'train_loss_step', label: 'training, by step', color: '--train', thin: true },
    { name: 'train_loss', label: 'training', color: '--train', dash: true },
    { name: 'val_loss_aom', label: 'validation AOM', color: '--aom' },
    { name: 'val_loss_dom', label: 'validation DOM', color: '--dom' }];
  const accuracies = [
    { name: 'train_acc', label: 'training', color: '--train', dash: true },
    { name: 'val_acc_aom', label: 'validation AOM', color: '--aom' },
    { name: 'val_acc_dom', label: 'validation DOM', color: '--dom' }];
  const lossChart = createChart($('#chart-loss'), { title: 'Loss', format: loss, tick: (v) => String(Number(v.toFixed(3))), zero: false, series: losses });
  const accuracyChart = createChart($('#chart-acc'), { title: 'Accuracy', format: percent, tick: (v) => `${Number((100 * v).toFixed(1))} %`, zero: true, series: accuracies });
  const usage = [['cpu_percent', 'Processor time', (v) => `${v.toFixed(0)} %`], ['rss_bytes', 'Memory', bytes], ['disk_free_bytes', 'Free disk space', bytes]].map((of) => [of[0], createSpark(...of)]);
  $('#run-usage').append(...usage.map(([, spark]) => spark.root));
  const names = [...[...losses, ...accuracies].map((s) => s.name), ...usage.map(([name]) => name)].join(',');
  const badge = stateBadge(), best = createBest(), alive = createAlive(), kernels = createKernels(), followed = $('#run-followed');
  // Acts on the job for which the button was drawn, and does nothing if the address names another job by now.
  const act = (label, work, kindOf = '') => {
    const button = el('button', { type: 'button', class: kindOf, onclick: () => {
      const drawn = job;
      if (drawn && drawn.id === named()) busy(button, async () => { if (await work(drawn) !== false) await refresh(); });
    } }, label);
    return button;
  };
  const stop = act('Cancel', cancel), serve = act('Deploy best', deploy, 'primary');
  $('#run-do').append(badge, stop, serve);

  let job = null, series = [], asked = '';     // asked: the names of the metrics of alive weights in the latest request

  // The texts shown instead of charts without points.
  function waiting() {
    if (!job) return ['', ''];
    if (terminal(job)) return ['The job ended before a loss was measured.', 'The job ended before an accuracy was measured.'];
    if (!job.progress?.epochs) return ['The loss appears after the first steps.', 'The accuracy appears after the first epoch.'];
    const held = job.data?.val_fraction !== 0;
    return ['The loss appears after the next steps.', `Measured on the ${held ? 'validation' : 'test'} images after every epoch: the first point appears at the end of epoch 1 of ${job.progress.epochs}.`];
  }

  function drawCharts() {
    // Steps are counted over the whole run; the point of an epoch gives the number of steps per epoch.
    const ended = series.find((s) => s.name === 'train_loss')?.points.at(-1), steps = ended ? ended[0] / ended[1] : job?.progress?.steps;
    const at = (s, [step, epoch]) => (s.name === 'train_loss_step' && steps ? step / steps : epoch);
    const byName = new Map(series.map((s) => [s.name, s.points.map((p) => [at(s, p), p[3]])]));
    const words = waiting();
    lossChart.set(byName, words[0]);
    accuracyChart.set(byName, words[1]);
  }

  function drawUsage() {
    alive(series);
    for (const [name, spark] of usage) spark.set(series.find((s) => s.name === name)?.points ?? []);
  }

  async function metrics() {
    const id = job?.id;
    if (!id) return;
    const groups = aliveMetrics(job);
    asked = groups.join(',');
    const answers = await Promise.all([names, ...groups].map((group) => get(jobPath(id, `/metrics?names=${group}`))));
    if (job?.id !== id) return;
    series = answers.flatMap((a) => a.series);
    drawCharts();
    drawUsage();
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

  const made = createMade(), report = createReport();

  const checkpoints = $('#run-checkpoints'), asCard = cards($('table', checkpoints));
  // What a checkpoint can be downloaded as; DOM and slim only where it has that mode.
  const downloads = [['safetensors', 'safetensors'], ['ONNX, AOM', 'onnx&mode=aom'], ['ONNX, DOM', 'onnx&mode=dom'], ['ONNX, slim', 'onnx&mode=slim'], ['as stored', 'wasd']];
  const showCheckpoints = keyed($('tbody', checkpoints), () => {
    const epoch = el('th', { scope: 'row' }), why = el('small');
    const cells = ['val_acc_aom', 'val_acc_dom', 'test_acc_aom', 'test_acc_dom'].map((name) => [name, el('td', { class: `num ${name.slice(-3)}` })]);
    const size = el('td', { class: 'num' }), files = downloads.map(([label]) => el('a', { download: '' }, label));
    epoch.append('', why);
    return { root: asCard(el('tr', {}, epoch, ...cells.map(([, cell]) => cell), size, el('td', { class: 'files' }, ...files))), update(c) {
      epoch.firstChild.data = `${c.epoch} `;
      setText(why, c.reason ?? '');
      cells.forEach(([name, cell]) => setText(cell, percent(c.metrics?.[name])));
      setText(size, bytes(c.bytes));
      files.forEach((file, i) => {
        const [label, format] = downloads[i];
        file.href = `/v1/checkpoints/${encodeURIComponent(c.id)}/file?format=${format}`;
        file.hidden = (format.endsWith('dom') && !c.info?.was) || (format.endsWith('slim') && !c.info?.macs?.slim);
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
  // A part that fails to load is loaded again at the next event or poll.
  const quietly = (work) => () => work().catch(() => {});
  log.addEventListener('toggle', quietly(showLog));
  checkpoints.addEventListener('toggle', quietly(loadCheckpoints));

  function drawNow() {
    const { part, words } = progress(job), speed = job.state === 'running' && isNumber(job.progress?.img_per_s) ? `${rate(job.progress.img_per_s)} images/s` : '';
    live.hidden = terminal(job);
    bar.value = part;
    setText($('#run-stage'), [words, speed].filter(Boolean).join(' · '));
  }

  function drawWords() {
    const words = story(job);
    setText(message, words);
    message.hidden = !words;
    message.classList.toggle('bad', job.state === 'failed');
    const next = following(job);
    followed.hidden = !next;
    setText(followed, next?.text ?? '');
    followed.classList.toggle('bad', next?.bad ?? false);
    const warnings = job.warnings ?? [];
    $('#run-warnings').hidden = !warnings.length;
    $('#run-warnings ul').replaceChildren(...warnings.map((w) => el('li', { 'data-code': w.code }, isNumber(w.epoch) && w.epoch > 0 ? el('b', {}, `Epoch ${w.epoch}: `) : null, w.message)));
  }

  function clear() {
    series = [];
    drawCharts();
    drawUsage();
    setText(pre, '');
    showCheckpoints([], (c) => c.id);
  }

  function pointsOf(name) {
    let s = series.find((known) => known.name === name);
    if (!s) series.push(s = { name, points: [] });
    return s.points;
  }

  return {
    get id() { return job?.id ?? null; },
    // next: the job, or null while unknown; id: the id in the address; missing: there is no such job.
    show(next, id, missing) {
      const changed = next?.id !== job?.id;
      job = next;
      section.hidden = !id;
      body.hidden = $('#run-do').hidden = !job;
      made.show(job?.best?.checkpoint ?? null);
      report.show(job?.id ?? null, job?.best?.checkpoint ?? null);
      kernels(job?.id ?? null, job?.best?.checkpoint ?? null);
      if (changed) clear();
      if (!job) {
        setText($('#run-title'), missing ? 'No such job' : 'Loading');
        setText(message, missing ? `There is no job ${id}: it was deleted, or the address is wrong. Choose a job from the list.` : '');
        message.hidden = !missing;
        return;
      }
      setText($('#run-title'), title(job));
      $('#run-facts').replaceChildren(...facts(job).map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, String(value)))));
      best(job);
      showState(badge, job);
      stop.hidden = !stoppable(job);
      serve.hidden = !deployable(job);
      drawNow();
      drawWords();
      if (changed) this.changed(['metric', 'log', 'checkpoint']);
      else if (aliveMetrics(job).join(',') !== asked) this.changed(['metric']);      // those of the first epoch have come
      else if (!series.some((s) => s.points.length)) drawCharts();
    },
    // Appends points of the loss by step, as delivered by an event.
    append(points) {
      const steps = pointsOf('train_loss_step'), last = steps.at(-1)?.[0] ?? 0;
      steps.push(...points.filter(([step]) => step > last));
      drawCharts();
    },
    // Appends a sample of what the process uses, as delivered by an event.
    sample({ step, epoch, ts, metrics: values }) {
      for (const [name, value] of Object.entries(values)) pointsOf(name).push([step, epoch, ts, value]);
      drawUsage();
    },
    // Reloads the parts that changed according to an event.
    changed(what) {
      if (what.includes('metric')) quietly(metrics)();
      if (what.includes('log')) quietly(showLog)();
      if (what.includes('checkpoint')) quietly(loadCheckpoints)();
      if (what.includes('profile')) { quietly(made.load)(); report.load(); }
    },
  };
}
