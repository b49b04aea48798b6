// deployments.js - a card for every live model: its mode switch, what each mode costs and reaches, and a box that classifies
// images. After a switch the last image is classified again, so that the effect is seen.

import { $, announce, busy, count, dropZone, el, isNumber, keyed, micros, percent, setText, si, toast, when } from './dom.js';
import { call, datasetPath, deploymentPath } from './api.js';
import { showState, stateBadge } from './jobs.js';

const modes = { aom: { label: 'AOM', long: 'accuracy-oriented: the plain weights' }, dom: { label: 'DOM', long: 'desire-oriented: one draw of shadow weights' } };
// A profile is a DOM with a name: "dom:NAME".
const named = (mode) => mode.startsWith('dom:');
const label = (mode) => modes[mode]?.label ?? (named(mode) ? `DOM ${mode.slice(4)}` : mode);

// Draws an image file; a canvas needs no URL, so the content security policy stays closed.
async function thumbnail(canvas, blob) {
  const bitmap = await createImageBitmap(blob);
  const side = Math.min(bitmap.width, bitmap.height);
  canvas.width = canvas.height = 128;
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = side > 128;
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, 128, 128);
  bitmap.close();
}

function card(first, { refresh, datasets }) {
  let deployment = first, live = null, image = null, asked = 0;
  const id = `switch-${first.name}`;

  const name = el('h3'), badge = stateBadge(), source = el('small');
  const generation = el('output', { class: 'generation', 'aria-live': 'polite' });
  const problem = el('p', { class: 'notice bad', hidden: true });
  const gone = el('button', { type: 'button', onclick: () => busy(gone, async () => {
    await call('DELETE', deploymentPath(deployment.name));
    toast(`${deployment.name} is no longer served.`);
    await refresh();
  }) }, 'Remove');

  function option({ mode }) {
    const input = el('input', { type: 'radio', name: id, value: mode, onchange: () => put(mode) });
    const cost = el('span', { class: 'cost' }), meter = el('meter', { min: 0, max: 1, 'aria-hidden': 'true' }), accuracy = el('span', { class: 'acc' });
    const long = modes[mode]?.long;
    return { root: el('label', { class: `mode ${named(mode) ? 'dom named' : mode}` }, input, el('b', {}, label(mode)), accuracy, meter, cost, long ? el('small', {}, long) : null), update({ bundle, full, chosen }) {
      input.checked = chosen;
      input.disabled = !bundle;
      setText(accuracy, isNumber(bundle?.acc) ? percent(bundle.acc) : bundle ? '' : 'not trained');
      meter.value = bundle && full ? bundle.macs / full : 0;
      const saved = bundle && full ? 1 - bundle.macs / full : 0;
      setText(cost, bundle ? `${si(bundle.macs)} MACs${mode !== 'aom' ? (saved > 0 ? ` (−${percent(saved, 0)})` : ' (none saved)') : ''}` : '');
    } };
  }
  const options = el('div', { class: 'modes' }), group = el('fieldset', { class: 'switch' }, el('legend', { class: 'sr' }, 'Mode'), options), offer = keyed(options, option);

  const canvas = el('canvas', { width: 128, height: 128, hidden: true, 'aria-hidden': 'true' });
  const file = el('input', { type: 'file', accept: 'image/png,image/jpeg', class: 'image-file', onchange: () => file.files.length && own(file.files[0]) });
  const drop = el('label', { class: 'drop image' }, canvas, el('span', {}, 'Drop a PNG or JPEG, or ', el('u', {}, 'choose one')), file);
  const sample = el('button', { type: 'button', onclick: () => busy(sample, anyImage) }, 'Random test image');
  const truth = el('small', { class: 'truth' });
  const bars = el('ol', { class: 'answers', 'aria-label': 'Most likely classes' }), stamp = el('p', { class: 'stamp' });
  const result = el('div', { class: 'result', 'aria-live': 'polite', hidden: true }, bars, stamp);

  const root = el('article', { class: 'deployment' },
    el('div', { class: 'line' }, name, badge, gone), el('div', { class: 'line sub' }, source, generation),
    problem, group, drop, el('div', { class: 'line sub' }, sample, truth), result);

  async function load() {
    // The ETag names the generation, and profiles come and go within one: what the browser has kept may be without them.
    const { data, headers } = await call('GET', deploymentPath(deployment.name, '/mode'), { cache: 'no-store' });
    show({ ...data, etag: headers.get('ETag') ?? data.etag });
  }

  function show(next) {
    live = next;
    setText(generation, `generation ${live.generation}`);
    generation.title = [live.since && `since ${when(live.since)}`, live.by && `by ${live.by}`].filter(Boolean).join(' ');
    choices(live.bundles ?? {});
    root.dataset.mode = live.mode;
  }

  function choices(bundles) {
    const all = [...Object.keys(modes), ...Object.keys(bundles).filter(named)];
    offer(all.map((mode) => ({ mode, bundle: bundles[mode], full: bundles.aom?.macs, chosen: mode === live?.mode })), (o) => o.mode);
  }
  choices({});

  async function put(mode) {
    try {
      const { data } = await call('PUT', deploymentPath(deployment.name, '/mode'), { json: { mode, reason: 'dashboard' }, headers: live?.etag ? { 'If-Match': live.etag } : {} });
      announce(`${deployment.name} answers in ${label(mode)} now, generation ${data.generation}${isNumber(data.swap_us) ? `, switched in ${micros(data.swap_us)}` : ''}`);
      await load();
      if (image) await classify(image);
    } catch (e) {
      toast(e.status === 412 ? `${deployment.name} was switched by someone else in the meantime.` : e.message, true);
      await load().catch(() => {});
    }
  }

  async function classify(blob) {
    image = blob;
    const mine = ++asked;
    root.classList.add('asking');
    try {
      await thumbnail(canvas, blob).then(() => { canvas.hidden = false; }, () => { canvas.hidden = true; });
      const { data } = await call('POST', deploymentPath(deployment.name, '/classify?k=5'), { body: blob, headers: { 'Content-Type': blob.type || 'application/octet-stream' } });
      if (mine !== asked) return;
      problem.hidden = true;
      answer(data);
    } catch (e) {
      if (mine !== asked) return;
      result.hidden = true;
      setText(problem, e.message);
      problem.hidden = false;
    } finally {
      if (mine === asked) { root.classList.remove('asking'); file.value = ''; }
    }
  }

  function answer(data) {
    const top = data.results[0].top;
    bars.replaceChildren(...top.map((t) => el('li', {}, el('span', { class: 'label' }, t.label), el('meter', { min: 0, max: 1, value: t.p, 'aria-hidden': 'true' }), el('span', { class: 'num' }, percent(t.p)))));
    const t = data.timing_us ?? {};
    result.dataset.mode = data.mode;
    result.dataset.generation = data.generation;
    setText(stamp, `${label(data.mode)} · generation ${data.generation} · ${si(data.macs)} MACs · decode ${micros(t.decode)} · queue ${micros(t.queue)} · compute ${micros(t.compute)}`);
    result.hidden = false;
  }

  async function anyImage() {
    const of = deployment.dataset, known = datasets().find((d) => d.name === of && d.state === 'ready') ?? datasets().find((d) => d.state === 'ready');
    if (!known) throw new Error('No data set is ready to take an image from.');
    const index = Math.floor(Math.random() * known.test);
    const response = await fetch(datasetPath(known.name, `/preview?split=test&i=${index}`));
    if (!response.ok) throw new Error(`The data set ${known.name} gave no image.`);
    const label = response.headers.get('X-Class') ?? '';
    setText(truth, `${known.name} test image ${count(index)}${label ? `: ${label}` : ''}`);
    await classify(await response.blob());
  }

  function own(f) { setText(truth, f.name); return classify(f); }
  dropZone(drop, ([f]) => own(f));

  return { root, update(next) {
    deployment = next;
    setText(name, deployment.name);
    showState(badge, deployment);
    const from = deployment.source ?? {};
    setText(source, [deployment.arch, from.job ? `${from.follow ?? 'best'} of ${deployment.job_name ?? from.job}` : from.model].filter(Boolean).join(' · '));
    gone.setAttribute('aria-label', `Stop serving ${deployment.name}`);
    const words = deployment.message ?? '';
    if (words) { setText(problem, words); problem.hidden = false; }
    group.disabled = deployment.state !== 'ready';
    if (deployment.state === 'ready') load().catch(() => {});
  } };
}

export function createDeployments(context) {
  const show = keyed($('#deployment-cards'), (d) => card(d, context));
  return (deployments) => {
    $('#deployments-empty').hidden = deployments.length > 0;
    show(deployments, (d) => d.name);
  };
}
