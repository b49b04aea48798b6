// traffic.js - how a live model answers its requests: batches and queue, the traffic policy in words, what each mode answered in the last
// minutes, and how often the shadow agreed. Its numbers are fetched only while the section is open and the page is visible.

import { count, duration, el, isNumber, keyed, micros, percent, setText } from './dom.js';
import { deploymentPath, get } from './api.js';
import { chooses, label } from './modes.js';

const pollMs = 2000, examplesMost = 8;

// ---- settings and policy in words ----

function settings({ batching, queue, limits, required }) {
  const { max_batch: most, max_queue_delay_us: delay = 0 } = batching ?? {};
  return [
    !(most > 1) ? 'Each request is computed alone.'
      : `Up to ${most} images of several requests are computed together; ${delay ? `a request waits at most ${micros(delay)} for others.` : 'no request waits for others.'}`,
    queue?.max > 0 ? `At most ${count(queue.max)} requests wait.` : '',
    queue?.default_timeout_us > 0 ? `A request that names no time limit has ${micros(queue.default_timeout_us)}.` : '',
    limits?.threads > 0 ? `Limited to ${limits.threads} threads.` : '',
    required === false ? 'Readiness of the daemon does not depend on it.' : '',
  ].filter(Boolean).join(' ');
}

const cheap = (policy) => label(policy?.cheap ?? 'dom');

// What happens to a request that names no mode.
export function choice({ mode, traffic }) {
  const { split, sticky_header: sticky, auto, cascade } = traffic ?? {};
  if (mode === 'auto') return `AOM, or ${cheap(auto)} while the queue's p99 is above ${micros(auto?.target_p99_us ?? 50000)}`;
  if (mode === 'cascade') return `${cheap(cascade)} first, then AOM for images whose two likeliest classes are close${isNumber(cascade?.threshold) ? ` (margin below ${cascade.threshold})` : ''}`;
  if (!split) return label(mode);
  const all = Object.values(split).reduce((a, b) => a + b, 0);
  return `${Object.entries(split).map(([m, share]) => `${label(m)} ${percent(share / all, 0)}`).join(', ')}${sticky ? `, always the same for one value of ${sticky}` : ''}`;
}

function shadowing({ shadow }, seen) {
  if (!shadow) return '';
  const told = seen && seen.agree + seen.disagree > 0
    ? `agreed on ${count(seen.agree)} of ${count(seen.agree + seen.disagree)} (${percent(seen.agreement)})${seen.dropped ? `; ${count(seen.dropped)} were skipped under load` : ''}`
    : 'nothing compared yet';
  return `Shadow: ${shadow.percent} % of the requests are also computed in ${label(shadow.mode)}; ${told}.`;
}

// ---- the section ----

function row() {
  const cells = Array.from({ length: 4 }, () => el('td', { class: 'num' })), name = el('th', { scope: 'row' });
  return { root: el('tr', {}, name, ...cells), update({ mode, w }) {
    setText(name, label(mode));
    const text = [isNumber(w.rps) ? w.rps.toFixed(w.rps < 1 ? 2 : w.rps < 10 ? 1 : 0) : '–', micros(w.total_us?.p50), micros(w.total_us?.p99), micros(w.queue_us?.p99)];
    cells.forEach((cell, i) => setText(cell, text[i]));
  } };
}

export function createTraffic() {
  let deployment = null, stats = null, timer = 0, asking = 0;
  const now = el('span', { class: 'now' }), set = el('p'), sums = el('p'), shadow = el('p', { hidden: true }), worst = el('p', { hidden: true });
  const heads = ['Mode', 'Per s', 'p50', 'p99', 'Queue p99'].map((h, i) => el('th', { scope: 'col', class: i ? 'num' : null }, h));
  const body = el('tbody'), table = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Requests by mode', hidden: true }, el('table', {}, el('thead', {}, el('tr', {}, ...heads)), body));
  const show = keyed(body, row), examples = el('ul', { class: 'examples', hidden: true });
  const root = el('details', { class: 'told traffic', ontoggle: () => { clearTimeout(timer); if (root.open) ask(); } },
    el('summary', {}, 'Traffic ', now), set, sums, table, shadow, worst, examples);
  const showExamples = keyed(examples, () => {
    const image = el('img', { alt: '', loading: 'lazy', width: 32, height: 32 }), words = el('span');
    return { root: el('li', {}, image, words), update(e) {
      const src = deploymentPath(deployment.name, `/shadow/examples/${e.id}`);
      image.hidden = !/^image\//.test(e.type);
      if (!image.hidden && image.getAttribute('src') !== src) image.src = src;
      setText(words, `${e.answer}, shadow ${e.shadow}`);
    } };
  });

  async function ask() {
    clearTimeout(timer);
    const mine = ++asking;
    if (root.open && !document.hidden && deployment?.state === 'ready') {
      try {
        const next = await get(deploymentPath(deployment.name, '/stats'));
        if (mine !== asking) return;
        stats = next;
        draw();
      } catch { /* the page says when the daemon is gone; the next round asks again */ }
    }
    if (root.open && root.isConnected && mine === asking) timer = setTimeout(ask, pollMs);
  }

  function draw() {
    const { traffic } = deployment, modes = Object.entries(stats?.window?.modes ?? {}).filter(([, w]) => w.count > 0), seen = stats?.shadow;
    setText(now, traffic?.split || chooses(deployment.mode) ? choice(deployment) : `all in ${label(deployment.mode)}`);
    setText(set, settings(deployment));
    setText(sums, !stats ? '' : !stats.requests ? 'No request since the daemon started.'
      : `${count(stats.requests)} requests since the daemon started, ${count(stats.failed)} failed, ${count(stats.waiting ?? 0)} waiting.${stats.window ? ` In the last ${duration(stats.window.seconds)}${modes.length ? ':' : ' none.'}` : ''}`);
    table.hidden = !modes.length;
    show(modes.map(([mode, w]) => ({ mode, w })), (m) => m.mode);
    shadow.hidden = !traffic?.shadow;
    setText(shadow, shadowing(traffic ?? {}, seen));
    const differing = Object.entries(traffic?.shadow && seen?.classes ? seen.classes : {}).filter(([, c]) => c.disagree > 0).sort(([, a], [, b]) => b.disagree - a.disagree).slice(0, 3);
    worst.hidden = !differing.length;
    if (differing.length) setText(worst, `Most often different: ${differing.map(([name, c]) => `${name} (${percent(c.disagree / (c.agree + c.disagree), 0)})`).join(', ')}.`);
    const kept = (traffic?.shadow && seen?.examples ? seen.examples : []).slice(0, examplesMost);
    examples.hidden = !kept.length;
    showExamples(kept, (e) => e.id);
  }

  return { root, update(next) {
    deployment = next;
    draw();
  } };
}
