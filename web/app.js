// app.js - holds the daemon's state and keeps it fresh. The address (#id) alone says which job is shown. Events say that something
// changed and GETs fetch the new state, so every view has a single source. While the event stream is up, only the list of jobs is
// polled, and only while a job runs without progress events. A hidden page sends no requests.

import { $, announce, busy, el, setText, toast, unask } from './dom.js';
import { call, events, get, jobPath } from './api.js';
import { createDatasets, freeName, ready, slug } from './datasets.js';
import { createDeployments } from './deployments.js';
import { createForm } from './form.js';
import { createJobs, deployable, title } from './jobs.js';
import { createMerges } from './merges.js';
import { createRun } from './run.js';
import { createSweeps } from './sweeps.js';

const page = 25;                       // jobs shown at first, and added by each "Show older jobs"
const pollMs = 4000, restMs = 1000;    // between polls without a stream; between two rounds of GETs triggered by events
const state = { jobs: [], sweeps: [], merges: [], datasets: [], deployments: [], shown: page, more: false, live: false, reachable: true };
const other = { job: null, missing: null };    // the job named by the address if it is not in the list, or its id if it does not exist

// The id in the address.
function named() {
  try { return decodeURIComponent(location.hash.slice(1)) || null; } catch { return location.hash.slice(1); }
}

// ---- loading ----

const latest = {};
// Loads one list; a late response to an older request does not overwrite a newer one.
async function load(name, path) {
  const question = latest[name] = (latest[name] ?? 0) + 1;
  try {
    const data = await get(path);
    if (latest[name] !== question) return;
    state[name] = data.items;
    if (name === 'jobs') state.more = data.next_cursor != null;
    reach(true);
  } catch (e) {
    if (e.status === 0) reach(false);
    else throw e;
  }
}
// Says that jobs pause for lack of room.
async function loadDisk() {
  try {
    const { disk } = await get('/v1/system');
    setText($('#disk'), disk.low ? `Jobs are paused and new work is refused: ${disk.message}.` : '');
    $('#disk').hidden = !disk.low;
  } catch { /* the lists report what is wrong */ }
}
const loaders = {
  jobs: () => load('jobs', `/v1/jobs?limit=${state.shown}&sort=-created_at`).then(loadNamed),
  sweeps: () => load('sweeps', '/v1/sweeps?limit=20'),
  merges: () => load('merges', '/v1/merges'),
  datasets: () => load('datasets', '/v1/datasets?limit=200'),
  deployments: () => load('deployments', '/v1/deployments?limit=100'),
  disk: loadDisk,
};

async function refresh(...names) {
  await Promise.all((names.length ? names : Object.keys(loaders)).map((n) => loaders[n]()));
  draw();
}

const shown = () => state.jobs.find((j) => j.id === named()) ?? (other.job?.id === named() ? other.job : null);

// Selects the newest job if the address names none; fetches a job that is not in the list.
async function loadNamed() {
  if (!named() && state.jobs.length) history.replaceState(null, '', `#${state.jobs[0].id}`);
  const id = named();
  if (!id || state.jobs.some((j) => j.id === id)) return;
  try {
    const job = await get(jobPath(id));
    if (id === named()) Object.assign(other, { job, missing: null });
  } catch (e) {
    if (id === named() && e.status && e.status < 500) Object.assign(other, { job: null, missing: id });
  }
}

// Removes what was drawn for another job at once.
function follow() {
  unask();
  draw();
  if (!shown()) loadNamed().then(draw);
}
addEventListener('hashchange', follow);

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

async function deploy(job) {
  const name = freeName(slug(title(job)), state.deployments.map((d) => d.name));
  await call('POST', '/v1/deployments', { json: { name, source: { job: job.id, follow: 'best' }, mode: 'aom' } });
  announce(`Deploying ${name}`);
  await refresh('deployments');
  $('#deployments').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}
const drawJobs = createJobs({ deploy, refresh });
const drawSweeps = createSweeps({ refresh: () => refresh('sweeps', 'jobs') });
async function deployCheckpoint(merge) {
  const name = freeName('merged', state.deployments.map((d) => d.name));
  await call('POST', '/v1/deployments', { json: { name, source: { checkpoint: merge.checkpoint }, mode: 'aom' } });
  announce(`Deploying ${name}`);
  await refresh('deployments');
}
const drawMerges = createMerges({ refresh: () => refresh('merges'), jobs: () => state.jobs, deploy: deployCheckpoint });
const run = createRun({ deploy, refresh, named });
const datasets = createDatasets({ refresh: () => refresh('datasets'), list: () => state.datasets });
const drawDeployments = createDeployments({ refresh: () => refresh('deployments'), datasets: () => state.datasets });
const form = createForm({ datasets: () => state.datasets, submitted: async (job) => {
  toast(`${title(job)} was submitted.`);
  location.hash = job.id;
  await refresh('jobs');
} });
$('#new-job').addEventListener('click', (e) => busy(e.currentTarget, () => form.open()));
$('#jobs-more').addEventListener('click', (e) => busy(e.currentTarget, () => { state.shown += page; return refresh('jobs'); }));
$('.skip').addEventListener('click', (e) => { e.preventDefault(); $('#main').focus(); });     // keeps the job in the address

// The first three steps for a newcomer; hidden once a model is live.
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
    s.button.disabled = !s.able();
  }
}

function draw() {
  const job = shown();
  drawStart();
  drawJobs(state.jobs, named());
  $('#jobs-more').hidden = !state.more;
  drawSweeps(state.sweeps);
  drawMerges(state.merges);
  run.show(job, named(), other.missing === named());
  datasets.show(state.datasets);
  drawDeployments(state.deployments);
  document.title = job ? `${title(job)}: ${job.state} · wasd` : 'wasd';
}

// ---- events and polls ----

const everything = ['metric', 'log', 'checkpoint', 'profile'];
// Events that arrive close together cause one round of GETs. A hidden page sends its GETs when it becomes visible again.
const due = { lists: new Set(), run: new Set(), timer: null, last: 0 };
function soon(lists, ofRun = []) {
  lists.forEach((n) => due.lists.add(n));
  ofRun.forEach((n) => due.run.add(n));
  if (document.hidden) return;
  due.timer ??= setTimeout(() => {
    due.timer = null;
    if (document.hidden) return;
    const names = [...due.lists], what = [...due.run];
    due.lists.clear(); due.run.clear(); due.last = Date.now();
    if (names.length) refresh(...names).catch(() => {});
    if (what.length) run.changed(what);
  }, Math.max(120, due.last + restMs - Date.now()));
}

// A progress event carries the progress, so it needs no request. told: time of the last one.
let told = 0;
function advance(id, progress) {
  const job = state.jobs.find((j) => j.id === id) ?? (other.job?.id === id ? other.job : null);
  if (!job || !progress) return;
  job.progress = progress;
  told = Date.now();
  if (!document.hidden) draw();
}

function onEvent({ type, data }) {
  const [topic, what] = type.split('.');
  if (topic === 'job') {
    const id = data.job ?? data.id, mine = id === run.id;
    if (what === 'log') { if (mine) soon([], ['log']); return; }
    if (what === 'progress') { advance(id, data.progress); return; }
    if (what === 'sample') { if (mine) run.sample(data); return; }
    if (what === 'metric' && data.points) { if (mine) run.append(data.points); return; }       // the loss by step
    const trial = state.jobs.find((j) => j.id === id)?.sweep !== null;       // or a job that is not in the list
    soon(what === 'metric' && trial && state.sweeps.some((s) => s.state === 'running') ? ['jobs', 'sweeps'] : ['jobs'], mine ? [what] : []);
    if (what === 'checkpoint') soon(['deployments']);
  } else if (topic === 'deployment') soon(['deployments']);
  else if (topic === 'checkpoint') {
    soon(['deployments', 'merges'], ['profile']);
    setTimeout(() => soon(['deployments']), 1500);     // a live model loads or drops a profile shortly after the event
  }
  else if (topic === 'dataset') soon(['datasets']);
  else if (topic === 'sweep') soon(['sweeps']);
  else if (topic === 'system') soon(['disk']);
  else soon(Object.keys(loaders), everything);
}

// Polls at most one list at a time; without a stream all in turn, the jobs every other time.
const turns = ['jobs', 'deployments', 'jobs', 'datasets', 'jobs', 'sweeps', 'merges'];
function poll(turn = 0) {
  const merging = () => state.merges.some((m) => m.state === 'queued' || m.state === 'running');       // tells its progress to those who ask
  const silent = () => state.jobs.some((j) => j.state === 'running') && Date.now() - told > pollMs;
  setTimeout(async () => {
    const name = document.hidden ? null : !state.live ? turns[turn % turns.length] : silent() ? 'jobs' : merging() ? 'merges' : null;
    if (name) await refresh(name).catch(() => {});
    if (name && !state.live) run.changed(['metric']);
    poll(turn + 1);
  }, pollMs);
}
document.addEventListener('visibilitychange', () => soon(Object.keys(loaders), everything));

get('/v2').then((v) => setText($('#version'), `${v.name ?? 'wasd'} ${v.version ?? ''}`), () => {});
events('/v1/events?topics=jobs,sweeps,deployments,datasets,checkpoints,system', onEvent, (is) => {
  const was = state.live;
  state.live = is === 'live';
  drawLink();
  if (state.live && !was) soon(Object.keys(loaders), everything);
});
refresh().catch((e) => toast(e.message, true)).finally(poll);
