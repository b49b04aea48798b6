// selection.js - the part of the job form that chooses among the classes of the data set.

import { $, el } from './dom.js';

const most = 500;             // that are listed

export function createSelection() {
  const root = $('#job-classes'), legend = $('legend', root);
  const chosen = () => [...root.querySelectorAll('input:checked')].map((b) => b.value);
  let all = [];
  function say() {
    const n = chosen().length;
    legend.textContent = `Classes: ${n ? `${n} of ${all.length}` : `all ${all.length}`}`;
  }
  root.addEventListener('change', say);
  return {
    // dataset: the chosen one, if any. Classes of the same name stay chosen. Too few or too many of them are not offered: all are used.
    fill(dataset) {
      const names = dataset?.classes ?? [], next = names.length < 3 || names.length > most ? [] : names, before = new Set(chosen());
      root.hidden = !next.length;
      if (next.join('\n') !== all.join('\n')) {
        all = next;
        root.replaceChildren(legend, ...all.map((name) => el('label', {}, el('input', { type: 'checkbox', value: name, checked: before.has(name) }), ` ${name}`)));
      }
      say();
    },
    // The member "classes"; undefined: all.
    spec() {
      const names = chosen();
      return names.length ? names : undefined;
    },
  };
}
