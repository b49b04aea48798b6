// sweeps.js - the sweeps: one line each that opens to its ranked trials and the curves of the best of them.

import { $, ask, busy, el, isNumber, keyed, percent, setText, toast } from './dom.js';
import { call, get, sweepPath } from './api.js';
import { createChart } from './charts.js';
import { showState, stateBadge, terminal } from './jobs.js';

const colors = ['--aom', '--dom', '--busy', '--ok', '--bad', '--train'];    // curves of the trials, the best first
const shown = ({ metric }) => (metric.includes('acc') ? (v) => percent(v) : (v) => (isNumber(v) ? v.toFixed(4) : '–'));
const counted = ['waiting', 'active', 'paused', 'completed', 'pruned', 'failed', 'cancelled'];

// "16 trials: 2 active, 9 pruned · best 91.2 %"
function summary({ counts, best, search }) {
  const some = counted.filter((name) => counts[name]).map((name) => `${counts[name]} ${name}`).join(', ');
  return `${counts.trials} trials${some && `: ${some}`}${best ? ` · best ${shown(search)(best.value)}` : ''}`;
}

// The members that differ, by the last part of their pointers: "lr 0.01 · batch 32". Null: not known yet.
function point(values) {
  return Object.entries(values ?? {}).map(([pointer, v]) => `${pointer.split('/').pop()} ${typeof v === 'object' ? JSON.stringify(v) : v}`).join(' · ');
}

async function cancel(sweep) {
  if (!await ask(`Cancel the sweep ${sweep.name}?`, 'Its trials that have not ended are cancelled. They keep their checkpoints.', 'Cancel the sweep')) return false;
  await call('POST', sweepPath(sweep.id, ':cancel'), { json: {} });
}

async function remove(sweep) {
  if (!await ask(`Delete the sweep ${sweep.name}?`, 'This deletes the ranking. The jobs of its trials stay.', 'Delete the sweep')) return false;
  await call('DELETE', sweepPath(sweep.id));
  toast(`${sweep.name} was deleted.`);
}

function trialRow() {
  const rank = el('td', { class: 'num' }), name = el('th', { scope: 'row' }), value = el('td', { class: 'num' }), epoch = el('td', { class: 'num' });
  const badge = stateBadge(), values = el('td');
  let job;       // of the link; undefined: none is drawn yet
  return {
    root: el('tr', {}, rank, name, value, epoch, el('td', {}, badge), values),
    update({ trial: t, format }) {
      setText(rank, String(t.rank));
      if (t.job !== job) name.replaceChildren(t.job ? el('a', { href: `#${t.job}` }, `trial ${t.trial}`) : `trial ${t.trial}`);
      job = t.job;
      setText(value, format(t.value));
      setText(epoch, `${t.epoch} of ${t.to_epoch}`);
      showState(badge, t.reason === 'pruned' ? { state: 'pruned' } : t);
      setText(values, point(t.values));
    },
  };
}

export function createSweeps({ refresh }) {
  const panel = $('#sweeps');

  function row(first) {
    let sweep = first, drawn = '';
    const name = el('span', { class: 'name' }), badge = stateBadge(), counts = el('small');
    const act = (label, work) => {
      const button = el('button', { type: 'button', onclick: () => busy(button, async () => { if (await work(sweep) !== false) await refresh(); }) }, label);
      return button;
    };
    const order = (verb) => (s) => call('POST', sweepPath(s.id, `:${verb}`), { json: {} });
    const pause = act('Pause', order('pause')), resume = act('Resume', order('resume')), stop = act('Cancel', cancel), gone = act('Delete', remove);
    const body = el('tbody'), box = el('div'), caption = el('figcaption');
    const table = el('table', { class: 'trials' }, el('thead', {}, el('tr', {},
      ...['Rank', 'Trial', 'Value', 'Epoch'].map((text) => el('th', { scope: 'col', class: text === 'Trial' ? null : 'num' }, text)),
      el('th', { scope: 'col' }, 'State'), el('th', { scope: 'col' }, 'Values'))), body);
    const region = el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Trials of ${first.name}` }, table);
    const root = el('details', { class: 'sweep', ontoggle: () => load() }, el('summary', {}, name, badge, counts),
      el('div', { class: 'do' }, el('span', { class: 'buttons' }, pause, resume, stop, gone)), el('figure', {}, caption, box), region);
    const show = keyed(body, trialRow), format = shown(first.search);
    const chart = createChart(box, { title: first.search.metric, format, tick: (v) => (first.search.metric.includes('acc') ? `${Number((100 * v).toFixed(1))} %` : String(Number(v.toPrecision(2)))),
      series: colors.map((color, i) => ({ name: String(i), label: `rank ${i + 1}`, color })) });

    async function load() {
      if (!root.open) return;
      const whole = await get(sweepPath(sweep.id)).catch(() => null);
      if (!whole) return;
      show(whole.trials.map((trial) => ({ trial, format })), ({ trial }) => trial.trial);
      const best = whole.trials.filter((t) => t.job && isNumber(t.value)).slice(0, colors.length), metric = sweep.search.metric;
      const data = best.length ? await get(`/v1/metrics:query?jobs=${best.map((t) => t.job).join(',')}&names=${metric}&max_points=200`).catch(() => null) : null;
      const curves = data?.series[0];
      chart.set(new Map(best.map((t, i) => [String(i), (curves?.x ?? []).map((x, k) => [x, curves.values[t.job]?.[k]]).filter(([, v]) => isNumber(v))])), 'No trial has a value yet.');
    }

    return {
      root,
      update(next) {
        if (next === sweep && drawn) return;
        const text = JSON.stringify(next);
        sweep = next;
        setText(name, sweep.name);
        showState(badge, sweep);
        setText(counts, summary(sweep));
        setText(caption, `${sweep.search.metric} of the best trials`);
        pause.hidden = sweep.state !== 'running';
        resume.hidden = !['pausing', 'paused'].includes(sweep.state);
        stop.hidden = terminal(sweep) || sweep.state === 'cancelling';
        gone.hidden = !terminal(sweep);
        for (const [button, what] of [[pause, 'Pause'], [resume, 'Resume'], [stop, 'Cancel'], [gone, 'Delete']]) button.setAttribute('aria-label', `${what} ${sweep.name}`);
        if (text !== drawn) load();
        drawn = text;
      },
      close: () => chart.close(),
    };
  }

  const show = keyed($('#sweep-rows'), row);
  return (sweeps) => {
    panel.hidden = sweeps.length === 0;
    show(sweeps, (sweep) => sweep.id);
  };
}
