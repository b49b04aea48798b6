// merges.js - the merges of checkpoints: one line each that opens to loss and accuracy along the path between the two, and a form that begins another.

import { $, announce, ask, busy, el, isNumber, keyed, percent, setText, svg, toast } from './dom.js';
import { call, mergePath } from './api.js';
import { deployable, showState, stateBadge, title } from './jobs.js';

const width = 320, height = 120, edge = 8;
const points = 11;            // of the path that the form asks for

const ended = (m) => m.state === 'ready' || m.state === 'failed';

// A curve over lambda. format: of its values.
function createCurve(label, key, format) {
  const line = svg('polyline', {}), dots = svg('g', {}), ends = el('small'), box = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img' }, line, dots);
  return { root: el('figure', { class: 'along' }, el('figcaption', {}, label), box, ends), set(path) {
    const known = path.filter((p) => isNumber(p[key])), values = known.map((p) => p[key]), low = Math.min(...values), range = Math.max(...values) - low;
    const at = (p) => [edge + p.lambda * (width - 2 * edge), height - edge - (range ? (p[key] - low) / range : 0.5) * (height - 2 * edge)].map((v) => v.toFixed(1));
    line.setAttribute('points', known.map((p) => at(p).join(',')).join(' '));
    dots.replaceChildren(...known.map((p) => svg('circle', { cx: at(p)[0], cy: at(p)[1], r: 3 }, svg('title', {}, `λ ${p.lambda.toFixed(2)}: ${format(p[key])}`))));
    const words = known.length ? `λ 0: ${format(values[0])} · λ 1: ${format(values.at(-1))} · from ${format(low)} to ${format(low + range)}` : '';
    setText(ends, words);
    box.setAttribute('aria-label', `${label} along the path: ${words}`);
  } };
}

const loss = (v) => v.toFixed(3);

export function createMerges({ refresh, jobs, deploy }) {
  const panel = $('#merges'), form = $('#merge-form'), from = [form.elements.first, form.elements.second];

  function row(first) {
    let merge = first;
    const name = el('span', { class: 'name' }), badge = stateBadge(), facts = el('small'), curves = [createCurve('Loss', 'loss', loss), createCurve('Accuracy', 'accuracy', percent)];
    const act = (label, work) => {
      const button = el('button', { type: 'button', onclick: () => { const drawn = merge; busy(button, async () => { if (await work(drawn) !== false) await refresh(); }); } }, label);
      return button;
    };
    const serve = act('Deploy', (m) => deploy(m)), gone = act('Delete', remove);
    async function remove(m) {
      const sure = ended(m) ? await ask(`Delete the merge ${name.textContent}?`, 'This deletes its path. The checkpoint that it made is kept.', 'Delete the merge') :
        await ask(`Cancel the merge ${name.textContent}?`, 'Nothing of it is kept.', 'Cancel the merge');
      if (!sure) return false;
      await call('DELETE', mergePath(m.id));
    }
    const words = el('p', { class: 'hint' }), drawn = el('div', { class: 'curves' }, ...curves.map((c) => c.root));
    const root = el('details', { class: 'sweep' }, el('summary', {}, name, badge, facts), el('div', { class: 'do' }, el('span', { class: 'buttons' }, serve, gone)), words, drawn);
    return { root, update(next) {
      merge = next;
      const path = merge.merge?.path ?? [], done = merge.progress, known = (id) => jobs().find((j) => j.best?.checkpoint === id);
      setText(name, merge.checkpoints.map((id) => (known(id) ? title(known(id)) : id)).join(' + '));
      showState(badge, merge);
      setText(facts, [done && done.of ? `${done.done} of ${done.of} batches` : '', isNumber(merge.metrics?.val_acc_aom) ? `AOM ${percent(merge.metrics.val_acc_aom)}` : ''].filter(Boolean).join(' · '));
      setText(words, merge.message ?? [merge.checkpoint, path.length ? `barrier ${isNumber(merge.merge.barrier) ? loss(merge.merge.barrier) : '–'}` : '', path.length ? 'λ is the share of the first' : ''].filter(Boolean).join(' · '));
      words.classList.toggle('bad', merge.state === 'failed');
      drawn.hidden = !path.length;
      for (const c of curves) if (path.length) c.set(path);
      serve.hidden = merge.state !== 'ready' || merge.request.recalibrate === false;
      setText(gone, ended(merge) ? 'Delete' : 'Cancel');
      for (const button of [serve, gone]) button.setAttribute('aria-label', `${button.textContent} the merge ${name.textContent}`);
    } };
  }

  form.addEventListener('submit', (e) => {
    e.preventDefault();
    busy($('button', form), async () => {
      const checkpoints = from.map((s) => s.value);
      if (checkpoints[0] === checkpoints[1]) { toast('Choose two jobs.', true); return; }
      await call('POST', '/v1/checkpoints:merge', { json: { checkpoints, align: form.elements.align.value, path: points } });
      announce('The merge has begun');
      await refresh();
    });
  });

  // The best checkpoints of the jobs; a choice that is still offered stays.
  function offer() {
    const able = jobs().filter((j) => deployable(j) && j.best?.checkpoint), offered = able.map((j) => j.best.checkpoint);
    form.hidden = able.length < 2;
    if (from[0].dataset.offered === offered.join()) return;
    from.forEach((select, i) => {
      const before = select.value;
      select.replaceChildren(...able.map((j) => el('option', { value: j.best.checkpoint }, title(j))));
      select.value = offered.includes(before) ? before : offered.find((id) => !i || id !== from[0].value) ?? '';
    });
    from[0].dataset.offered = offered.join();
  }

  const show = keyed($('#merge-rows'), row);
  return (merges) => {
    offer();
    panel.hidden = !merges.length && form.hidden;
    show(merges, (m) => m.id);
  };
}
