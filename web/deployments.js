// deployments.js - a card for every live model: its mode switch, the cost and accuracy of each mode, and a box that classifies
// images. After a switch the last image is classified again, to show the effect.

import { $, announce, ask, busy, bytes, count, dropZone, el, isNumber, keyed, micros, percent, setText, si, toast } from './dom.js';
import { call, datasetPath, deploymentPath, get } from './api.js';
import { ready } from './datasets.js';
import { showState, stateBadge } from './jobs.js';
import { chooses, label, long, named } from './modes.js';
import { draw as drawImage } from './picture.js';
import { choice, createTraffic } from './traffic.js';
import { createVersions } from './versions.js';

const titles = { Degraded: 'Degraded', UpdateFailed: 'Update failed', QueueFull: 'Queue full', NotFollowing: 'Does not follow its job', Suspended: 'Suspended' };

function origin({ source: from = {}, job, job_name: name }) {
  if (from.job) return `${from.follow ?? 'best'} of ${name ?? from.job}`;
  if (from.model) return from.alias ? `${from.alias} of ${from.model}` : `version ${from.version} of ${from.model}`;
  return from.checkpoint && job ? `a checkpoint of ${name ?? job}` : 'imported';
}

// What a mode costs beside the plain weights: multiply-adds and bytes of weights.
function costs(bundle, plain) {
  const less = (one, all) => (all && one < all ? ` (−${percent(1 - one / all, 0)})` : '');
  return `${si(bundle.macs)} MACs${less(bundle.macs, plain?.macs)}, ${bytes(bundle.bytes)}${less(bundle.bytes, plain?.bytes)}`;
}

function option(group, put) {
  return ({ mode }) => {
    const input = el('input', { type: 'radio', name: group, value: mode, onchange: () => put(mode) });
    const accuracy = el('b', { class: 'acc' }), images = el('small'), cost = el('span', { class: 'cost' }), meter = el('meter', { min: 0, max: 1, 'aria-hidden': 'true' });
    const about = el('small');
    return { root: el('label', { class: `mode ${named(mode) ? 'dom named' : chooses(mode) ? 'chooses named' : mode}` }, el('span', { class: 'name' }, input, el('b', {}, label(mode))),
      el('span', { class: 'reach' }, accuracy, ' ', images), meter, cost, about), update({ bundle, plain, chosen, loaded, told }) {
      input.checked = chosen;
      input.disabled = !bundle && !chooses(mode);
      setText(about, told ?? long(mode));
      about.hidden = !about.textContent;
      if (chooses(mode)) { meter.hidden = true; return; }
      setText(accuracy, isNumber(bundle?.acc) ? percent(bundle.acc) : '');
      setText(images, bundle ? (bundle.acc_images ? `${bundle.acc_images} accuracy` : 'accuracy not measured') : loaded ? 'trained without WAS: mode not available' : 'loading');
      meter.hidden = !bundle;
      meter.value = bundle && plain ? bundle.macs / plain.macs : 0;
      setText(cost, bundle ? costs(bundle, plain) : '');
    } };
  };
}

// Test images for a model: those of the data set version that it was trained on. An imported model does not name its data, so the user
// chooses among the sets that match its input and its number of classes.
function createSamples({ datasets, classify, truth }) {
  let deployment = null;
  const picker = el('select', { 'aria-label': 'Data set to take test images from', hidden: true, onchange: () => update(deployment) });
  const button = el('button', { type: 'button', onclick: () => busy(button, take) }, 'Random test image');
  const none = el('small', { hidden: true });

  const fits = (d) => ready(d) && d.test > 0 && String(d.shape) === String(deployment.input) && d.classes?.length === deployment.classes?.length;
  const chosen = () => (deployment.dataset ? { name: deployment.dataset, version: deployment.dataset_version } : datasets().find((d) => d.name === picker.value));

  function update(next) {
    deployment = next;
    const usable = deployment.dataset ? [] : datasets().filter(fits), names = ['', ...usable.map((d) => d.name)];
    if (String(names) !== String([...picker.options].map((o) => o.value))) {
      const before = picker.value;
      picker.replaceChildren(...names.map((name) => el('option', { value: name, selected: name === before }, name || 'choose a data set')));
    }
    picker.hidden = !usable.length;
    button.hidden = !deployment.dataset && !usable.length;
    button.disabled = deployment.state !== 'ready' || !chosen();
    none.hidden = !button.hidden || !deployment.input;
    if (!none.hidden) setText(none, `No data set here has matching images (${deployment.input?.slice(1).reverse().join('×')}×${deployment.input?.[0]}) and ${deployment.classes?.length} classes.`);
  }

  async function take() {
    const { name, version } = chosen();
    const set = await get(datasetPath(name, `/versions/${version}`));
    if (!(set.test > 0)) throw new Error(`${name} has no test images.`);
    const index = Math.floor(Math.random() * set.test);
    const { data, headers } = await call('GET', datasetPath(name, `/preview?split=test&i=${index}&version=${version}`), { as: 'blob' });
    const known = headers.get('X-Class') ?? '';
    setText(truth, `${name}, test image ${count(index)}${known ? `: ${known}` : ''}`);
    await classify(data);
  }
  return { nodes: [picker, button, none], update };
}

function card(first, { refresh, datasets }) {
  let deployment = first, image = null, asked = 0;

  const name = el('h3'), badge = stateBadge(), source = el('small');
  const generation = el('output', { class: 'generation', 'aria-live': 'polite' });
  const again = el('button', { type: 'button', onclick: () => { const drawn = deployment; busy(again, async () => { await call('POST', deploymentPath(drawn.name, ':reload')); await refresh(); }); } }, 'Try again now');
  const conditions = el('div', { class: 'notice warn', role: 'status', hidden: true }, el('ul'), again), failed = el('p', { class: 'notice bad', hidden: true }), problem = el('p', { class: 'notice bad', role: 'alert', hidden: true });
  const gone = el('button', { type: 'button', onclick: () => { const drawn = deployment; busy(gone, () => remove(drawn)); } }, 'Stop serving');
  const options = el('div', { class: 'modes' }), group = el('fieldset', { class: 'switch' }, el('legend', { class: 'sr' }, 'Mode'), options);
  const offer = keyed(options, option(`switch-${first.name}`, put));

  const canvas = el('canvas', { hidden: true, 'aria-hidden': 'true' });
  const file = el('input', { type: 'file', accept: 'image/png,image/jpeg', class: 'image-file', onchange: () => file.files.length && own(file.files[0]) });
  const drop = el('label', { class: 'drop image' }, canvas, el('span', {}, 'Drop a PNG or JPEG, or ', el('u', {}, 'choose one')), file);
  const traffic = createTraffic(), versions = createVersions({ refresh });
  const truth = el('small', { class: 'truth' });
  const samples = createSamples({ datasets, classify, truth });
  const bars = el('ol', { class: 'answers', 'aria-label': 'Most likely classes' }), stamp = el('p', { class: 'stamp' });
  const result = el('div', { class: 'result', 'aria-live': 'polite', hidden: true }, bars, stamp);

  const root = el('article', { class: 'deployment' },
    el('div', { class: 'line' }, name, badge, gone), el('div', { class: 'line sub' }, source, generation),
    conditions, failed, group, drop, el('div', { class: 'line sub' }, ...samples.nodes, truth), problem, result, traffic.root, versions.root);

  async function remove(drawn) {
    if (!await ask(`Stop serving ${drawn.name}?`, 'Further requests to it will be rejected. Its checkpoint is kept and can be deployed again.', 'Stop serving')) return;
    await call('DELETE', deploymentPath(drawn.name));
    toast(`${drawn.name} is no longer served.`);
    await refresh();
  }

  async function put(mode) {
    const drawn = deployment;
    try {
      const { data } = await call('PUT', deploymentPath(drawn.name, '/mode'), { json: { mode, reason: 'dashboard' }, headers: { 'If-Match': `"g${drawn.generation}"` } });
      announce(`${drawn.name} now answers in ${label(mode)}, generation ${data.generation}${isNumber(data.swap_us) ? `, switched in ${micros(data.swap_us)}` : ''}`);
      await refresh();
      if (image) await classify(image);
    } catch (e) {
      toast(e.status === 412 ? `${drawn.name} was switched by someone else in the meantime.` : e.message, true);
      await refresh();
    }
  }

  async function classify(blob) {
    image = blob;
    const mine = ++asked;
    root.classList.add('asking');
    try {
      await drawImage(canvas, blob, deployment).then(() => { canvas.hidden = false; }, () => { canvas.hidden = true; });
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

  function own(f) { setText(truth, f.name); return classify(f); }
  dropZone(drop, ([f]) => own(f));

  return { root, update(next) {
    deployment = next;
    const { conditions: told = [], modes: bundles = {}, state } = deployment;
    setText(name, deployment.name);
    showState(badge, deployment);
    setText(source, [deployment.arch, origin(deployment)].filter(Boolean).join(' · '));
    setText(generation, `generation ${deployment.generation}`);
    gone.setAttribute('aria-label', `Stop serving ${deployment.name}`);
    root.dataset.mode = deployment.mode;
    const message = told.some((c) => c.reason === deployment.message) ? '' : deployment.message ?? '';
    failed.hidden = !message;
    setText(failed, message);
    const warned = told.filter((c) => c.type !== 'Switching');       // that a version is being loaded is no fault
    conditions.hidden = !warned.length;
    $('ul', conditions).replaceChildren(...warned.map((c) => el('li', { 'data-type': c.type }, titles[c.type] ? el('b', {}, `${titles[c.type]}: `) : null, c.reason ?? c.type)));
    again.hidden = !told.some((c) => c.type === 'Suspended');
    group.disabled = state !== 'ready';
    const all = ['aom', 'dom', ...(bundles.slim ? ['slim'] : []), ...Object.keys(bundles).filter(named), ...['auto', 'cascade'].filter((m) => deployment.traffic?.[m] || m === deployment.mode)];
    offer(all.map((mode) => ({ mode, bundle: bundles[mode], plain: bundles.aom, chosen: mode === deployment.mode, loaded: state === 'ready',
      told: chooses(mode) ? choice({ ...deployment, mode }) : null })), (o) => o.mode);
    samples.update(deployment);
    traffic.update(deployment);
    versions.update(deployment);
  } };
}

export function createDeployments(context) {
  const show = keyed($('#deployment-cards'), (d) => card(d, context));
  return (deployments) => {
    $('#deployments-empty').hidden = deployments.length > 0;
    show(deployments, (d) => d.name);
  };
}
