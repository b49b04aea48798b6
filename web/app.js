// app.js - holds what the daemon has told and keeps it fresh. Events say *that* something changed, GETs say what it is now, so
// every view has one source; while a job runs its progress is polled, and when the event stream is down everything is.

import { $, announce, busy, el, setText, toast } from './dom.js';
import { call, events, get, jobPath } from './api.js';
import { createDatasets, freeName, ready, slug } from './datasets.js';
import { createDeployments } from './deployments.js';
import { createForm } from './form.js';
import { createJobs, deployable, terminal, title } from './jobs.js';
import { createRun } from './run.js';

const page = 25;                       // jobs shown at first, and more by each "Show older jobs"
const pollMs = { active: 2000, polling: 4000, quiet: 30000 };
const state = { jobs: [], datasets: [], deployments: [], shown: page, more: false, chosen: location.hash.slice(1) || null, live: false, reachable: true };

const latest = {};
// Loads one list; a slower answer to an older question does not overwrite a newer one.
async function load(name, path) {
  const ask = latest[name] = (latest[name] ?? 0) + 1;
  try {
    const data = await get(path);
    if (latest[name] !== ask) return;
    state[name] = data.items;
    if (name === 'jobs') state.more = data.next_cursor != null;
    reach(true);
  } catch (e) {
    if (e.status === 0) reach(false);
    else throw e;
  }
}
const loaders = {
  jobs: () => load('jobs', `/v1/jobs?limit=${state.shown}&sort=-created_at`),
  datasets: () => load('datasets', '/v1/datasets?limit=200'),
  deployments: () => load('deployments', '/v1/deployments?limit=100'),
};

async function refresh(...names) {
  await Promise.all((names.length ? names : Object.keys(loaders)).map((n) => loaders[n]()));
  if (state.chosen && !state.jobs.some((j) => j.id === state.chosen)) {
    const job = await get(jobPath(state.chosen)).catch(() => null);
    if (!job) state.chosen = null; else state.jobs.push(job);
  }
  if (!state.chosen && state.jobs.length) state.chosen = state.jobs[0].id;
  draw();
}

function reach(on) {
  if (on === state.reachable) return;
  state.reachable = on;
  drawLink();
}

function drawLink() {
  const link = $('#link'), is = !state.reachable ? 'offline' : state.live ? 'live' : 'polling';
  link.dataset.state = is;
  setText(link, is);
}

// ---- views ----

function select(id) {
  state.chosen = id;
  history.replaceState(null, '', `#${id}`);
  draw();
}
async function deploy(job) {
  const name = freeName(slug(title(job)), state.deployments.map((d) => d.name));
  await call('POST', '/v1/deployments', { json: { name, source: { job: job.id, follow: 'best' }, mode: 'aom' } });
  announce(`Deploying ${name}`);
  await refresh('deployments');
  $('#deployments').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}
const drawJobs = createJobs({ select, deploy, refresh });
const run = createRun({ deploy, refresh });
const datasets = createDatasets({ refresh: () => refresh('datasets'), list: () => state.datasets });
const drawDeployments = createDeployments({ refresh: () => refresh('deployments'), datasets: () => state.datasets });
const form = createForm({ datasets: () => state.datasets, submitted: async (job) => {
  toast(`${title(job)} is submitted.`);
  state.chosen = job.id;
  await refresh('jobs');
} });
$('#new-job').addEventListener('click', (e) => busy(e.currentTarget, () => form.open()));
$('#jobs-more').addEventListener('click', (e) => busy(e.currentTarget, () => { state.shown += page; return refresh('jobs'); }));

// What a newcomer does first, in three steps; gone once a model is live.
const steps = [
  { text: 'Make a data set', done: () => state.datasets.some(ready), act: () => datasets.makeGlyphs(), label: 'Make glyphs', able: () => !state.datasets.length },
  { text: 'Train a network on it', done: () => state.jobs.some(deployable), act: () => form.open(), label: 'New job', able: () => state.datasets.some(ready) },
  { text: 'Deploy it and switch its mode', done: () => false, act: () => deploy(state.jobs.find(deployable)), label: 'Deploy best', able: () => state.jobs.some(deployable) },
].map((step) => {
  const button = el('button', { type: 'button', onclick: () => busy(button, step.act) }, step.label);
  return { ...step, button, root: el('li', {}, el('span', {}, step.text), button) };
});
$('#start-steps').append(...steps.map((s) => s.root));
function drawStart() {
  $('#start').hidden = state.deployments.length > 0;
  for (const s of steps) {
    s.root.classList.toggle('done', s.done());
    s.button.hidden = s.done();
    if (!s.button.hasAttribute('aria-busy')) s.button.disabled = !s.able();
  }
}

function draw() {
  drawStart();
  drawJobs(state.jobs, state.chosen);
  $('#jobs-more').hidden = !state.more;
  run.show(state.jobs.find((j) => j.id === state.chosen) ?? null);
  datasets.show(state.datasets);
  drawDeployments(state.deployments);
}

// ---- events and polls ----

// Events that arrive together cost one round of GETs.
const due = { lists: new Set(), run: new Set(), timer: null };
function soon(lists, ofRun = []) {
  lists.forEach((n) => due.lists.add(n));
  ofRun.forEach((n) => due.run.add(n));
  due.timer ??= setTimeout(() => {
    const names = [...due.lists], what = [...due.run];
    due.lists.clear(); due.run.clear(); due.timer = null;
    if (names.length) refresh(...names).catch(() => {});
    if (what.length) run.changed(what);
  }, 120);
}

function onEvent({ type, data }) {
  const [topic, what] = type.split('.');
  if (topic === 'job') {
    const mine = (data.job ?? data.id) === run.id;
    if (what === 'log') { if (mine) soon([], ['log']); return; }
    soon(['jobs'], mine ? [what] : []);
    if (what === 'checkpoint') soon(['deployments']);
  } else if (topic === 'deployment') soon(['deployments']);
  else if (topic === 'checkpoint') {
    soon(['deployments'], ['profile']);
    setTimeout(() => soon(['deployments']), 1500);     // a live model takes a profile up, or drops it, a moment after the event
  }
  else if (topic === 'dataset') soon(['datasets']);
  else soon(Object.keys(loaders), ['metric', 'log', 'checkpoint', 'profile']);
}

function moving() {
  const lists = [];
  if (state.jobs.some((j) => !terminal(j))) lists.push('jobs');
  if (state.datasets.some((d) => d.state === 'scanning')) lists.push('datasets');
  if (state.deployments.some((d) => !['ready', 'failed', 'unloaded'].includes(d.state))) lists.push('deployments');
  return lists;
}
function poll() {
  const lists = moving(), down = !state.live || !state.reachable;
  const wait = lists.length ? pollMs.active : down ? pollMs.polling : pollMs.quiet;
  setTimeout(async () => {
    if (!document.hidden) {
      const all = down || !lists.length;
      await (all ? refresh() : refresh(...lists)).catch(() => {});
      if (down) run.changed(['metric', 'log', 'checkpoint', 'profile']);
    }
    poll();
  }, wait);
}
document.addEventListener('visibilitychange', () => { if (!document.hidden) soon(Object.keys(loaders), ['metric', 'log', 'checkpoint', 'profile']); });

get('/v2').then((v) => setText($('#version'), `${v.name ?? 'wasd'} ${v.version ?? ''}`), () => {});
events('/v1/events?topics=jobs,deployments,datasets,checkpoints', onEvent, (is) => {
  const was = state.live;
  state.live = is === 'live';
  drawLink();
  if (state.live && !was) soon(Object.keys(loaders), ['metric', 'log', 'checkpoint', 'profile']);
});
refresh().catch((e) => toast(e.message, true)).finally(poll);
