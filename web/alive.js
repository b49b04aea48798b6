// alive.js - the share of alive weights over the epochs of a job whose strategy removes some: one line for the network, and one for each layer.

import { $, percent } from './dom.js';
import { createSpark } from './spark.js';

const whole = /_alive$/, part = /_alive\/(.+)$/, most = 30;      // names in one request
// What a metric is about: a layer, all of them, or what else a strategy counts (structured_alive).
const label = (name) => part.exec(name)?.[1] ?? (name === 'prune_alive' ? 'all layers' : name.replaceAll('_', ' '));

// The names of such metrics of a job, that of the whole network first, joined in groups of which each is asked for by a request.
export function aliveMetrics(job) {
  const all = Object.keys(job.metrics_latest ?? {}), names = [...all.filter((n) => whole.test(n)), ...all.filter((n) => part.test(n))];
  return Array.from({ length: Math.ceil(names.length / most) }, (_, i) => names.slice(most * i, most * (i + 1)).join(','));
}

export function createAlive() {
  const root = $('#run-alive'), box = $('.sparks', root), sparks = new Map();
  // series: those of the job, others among them.
  return (series) => {
    const mine = series.filter((s) => whole.test(s.name) || part.test(s.name)), names = new Set(mine.map((s) => s.name));
    for (const [name, spark] of sparks) if (!names.has(name)) { spark.root.remove(); sparks.delete(name); }
    for (const { name, points } of mine) {
      if (!sparks.has(name)) {
        sparks.set(name, createSpark(name, label(name), percent, [0, 1]));
        box.append(sparks.get(name).root);
      }
      sparks.get(name).set(points.map(([step, epoch, , value]) => [step, epoch, epoch, value]));
    }
    root.hidden = ![...sparks.values()].some((spark) => !spark.root.hidden);
  };
}
