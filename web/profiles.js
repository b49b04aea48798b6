// profiles.js - DOM as a dial: the profiles of the chosen job's best checkpoint, in a table and as a chart of cost and accuracy, and
// the form that starts another search.

import { $, ask, busy, cards, el, isNumber, keyed, micros, percent, rate, setText, si, toast } from './dom.js';
import { call, get, profilePath } from './api.js';
import { showState, stateBadge } from './jobs.js';
import { createScatter } from './scatter.js';

const pollMs = 2000;
const searching = (p) => ['queued', 'searching'].includes(p.state);
// The kinds of budget: label, form field, request body, description.
const desires = {
  macs: { label: 'fewer multiply-adds', ask: 'Maximum, % of AOM\'s MACs', first: 70, max: 100, body: (v) => ({ budget: v / 100 }), told: (p) => `at most ${percent(p.budget, 0)} of the MACs` },
  latency: { label: 'low latency', ask: 'Maximum, ms for one image', first: 2, max: 60000, body: (v) => ({ budget_us: Math.round(1000 * v) }), told: (p) => `at most ${micros(p.budget_us)} for one image` },
};

export function createProfiles() {
  const root = $('#run-profiles'), form = $('#profile-form'), field = form.elements, measured = $('#profile-measured'), asCard = cards($('table', measured));
  const chart = createScatter($('#chart-pareto'), { title: 'Validation accuracy of AOM and of the profiles over their share of the multiply-adds',
    x: { label: 'share of AOM\'s MACs', format: (v) => percent(v, 0), least: 0.04 }, y: { label: 'validation accuracy', format: (v) => percent(v), least: 0.004 } });
  let checkpoint = null, timer = 0;

  field.desire.replaceChildren(...Object.entries(desires).map(([value, { label }]) => el('option', { value }, label)));
  function desire() {
    const { ask, first, max } = desires[field.desire.value];
    setText($('#profile-budget'), ask);
    Object.assign(field.budget, { min: 0.001, max, value: first });
  }
  field.desire.addEventListener('change', desire);
  desire();

  form.addEventListener('submit', (e) => {
    e.preventDefault();
    busy($('[type=submit]', form), async () => {
      const name = field.name.value.trim(), of = field.desire.value;     // if empty, the daemon names it after its budget
      await call('POST', profilePath(checkpoint), { json: { ...(name && { name }), desire: of, ...desires[of].body(Number(field.budget.value)) } });
      field.name.value = '';
      await load();
    });
  });

  async function remove(drawn) {
    if (!await ask(`Delete the profile ${drawn.name}?`, 'This deletes the result of its search permanently.', 'Delete the profile')) return;
    await call('DELETE', profilePath(drawn.checkpoint, `/${encodeURIComponent(drawn.name)}`));
    toast(`The profile ${drawn.name} was deleted.`);
    await load();
  }

  function row() {
    let profile;
    const name = el('b'), sub = el('small'), badge = stateBadge(), bar = el('progress', { max: 1 }), words = el('small');
    const [macs, one, many, accuracy] = ['num', 'num', 'num', 'num'].map((kind) => el('td', { class: kind }));
    const gone = el('button', { type: 'button', onclick: () => { const drawn = profile; busy(gone, () => remove(drawn)); } }, 'Delete');
    return {
      root: asCard(el('tr', {}, el('th', { scope: 'row' }, name, sub), macs, one, many, accuracy, el('td', { class: 'progress' }, badge, bar, words), el('td', { class: 'do' }, gone))),
      update(next) {
        profile = next;
        const { done = 0, of = 0 } = profile.progress ?? {}, plain = !profile.state;
        setText(name, profile.name);
        setText(sub, plain ? 'the plain weights' : desires[profile.desire]?.told(profile) ?? 'a given draw');
        setText(macs, isNumber(profile.macs) ? `${si(profile.macs)} (${percent(profile.macs_share, 0)})` : '–');
        setText(one, rate(profile.images_per_s_1));
        setText(many, rate(profile.images_per_s_64));
        setText(accuracy, percent(profile.val_acc));
        badge.hidden = plain;
        if (!plain) showState(badge, profile);
        bar.hidden = !searching(profile);
        bar.value = of ? done / of : 0;
        bar.setAttribute('aria-label', `Progress of the search for ${profile.name}`);
        setText(words, searching(profile) && of ? `${done} / ${of} draws` : profile.message ?? '');
        gone.hidden = plain;
        gone.setAttribute('aria-label', `Delete the profile ${profile.name}`);
      },
    };
  }
  const rows = keyed($('tbody', measured), row);

  function draw({ items, aom }) {
    const known = [...(aom ? [{ ...aom, name: 'AOM', macs_share: 1 }] : []), ...items];
    const share = (p) => (isNumber(p.macs_share) ? p.macs_share : -1);         // profiles still being searched come last
    rows(known.sort((a, b) => share(b) - share(a)), (p) => p.id ?? p.name);
    const points = known.filter((p) => isNumber(p.macs_share) && isNumber(p.val_acc));
    chart(points.map((p) => ({ x: p.macs_share, y: p.val_acc, label: p.name, kind: p.state ? 'dom' : 'aom' })));
    measured.hidden = !known.length;
    $('figure', measured).hidden = !points.length;
  }

  async function load() {
    clearTimeout(timer);
    const of = checkpoint;
    if (!of || !root.open) return;
    const found = await get(profilePath(of));
    if (checkpoint !== of) return;
    draw(found);
    clearTimeout(timer);
    if (found.items.some(searching) && !document.hidden) timer = setTimeout(() => load().catch(() => {}), pollMs);
  }
  root.addEventListener('toggle', () => load().catch((e) => toast(e.message, true)));

  return {
    load,
    show(next) {
      root.hidden = !next;
      if (next === checkpoint) return;
      checkpoint = next;
      draw({ items: [], aom: null });
      load().catch(() => {});
    },
  };
}
