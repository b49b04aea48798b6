// datasets.js - the data sets: state, counts, a strip of their images; making the built-in one; uploading an archive.

import { $, announce, busy, count, dropZone, el, keyed, setText, toast } from './dom.js';
import { call, datasetPath, upload } from './api.js';
import { showState, stateBadge } from './jobs.js';

const previews = 8;
export const ready = (dataset) => dataset.state === 'ready';

// The first of base, base-2, base-3, ... that is free.
export function freeName(base, taken) {
  const used = new Set(taken);
  for (let n = 1; ; n++) {
    const name = n === 1 ? base : `${base.slice(0, 56)}-${n}`;
    if (!used.has(name)) return name;
  }
}

// "CIFAR 10 images.tar.gz" -> "cifar-10-images"
export function slug(text) {
  return text.toLowerCase().replace(/\.(tar|tgz|zip|gz|bin|tar\.gz)$/g, '').replace(/\.tar$/, '').replace(/[^a-z0-9._-]+/g, '-').replace(/^[^a-z0-9]+|-+$/g, '').slice(0, 63) || 'dataset';
}

export function createDatasets({ refresh, list }) {
  function row(first) {
    let dataset = first, strip = '';
    const name = el('b'), badge = stateBadge(), facts = el('small'), problem = el('p', { class: 'notice bad', hidden: true });
    const images = el('div', { class: 'strip', 'aria-hidden': 'true' });
    const gone = el('button', { type: 'button', onclick: () => busy(gone, async () => {
      await call('DELETE', datasetPath(dataset.name));
      toast(`${dataset.name} is deleted.`);
      await refresh();
    }) }, 'Delete');
    const root = el('li', { class: 'dataset' }, el('div', { class: 'line' }, name, badge, facts, gone), problem, images);
    return { root, update(next) {
      dataset = next;
      setText(name, dataset.name);
      showState(badge, dataset);
      const [c, h, w] = dataset.shape ?? [];
      setText(facts, ready(dataset) ? `${count(dataset.train)} + ${count(dataset.test)} images · ${w}×${h}×${c} · ${dataset.classes?.length ?? 0} classes` : '');
      facts.title = dataset.classes?.join(', ') ?? '';
      gone.setAttribute('aria-label', `Delete the data set ${dataset.name}`);
      problem.hidden = !dataset.message;
      setText(problem, dataset.message ?? '');
      const wanted = ready(dataset) ? `${dataset.name}@${dataset.version}` : '';
      if (wanted === strip) return;
      strip = wanted;
      const step = Math.max(1, Math.floor(dataset.train / (previews + 2)));    // classes often come in turn: the strip should not show one alone
      images.replaceChildren(...(wanted ? Array.from({ length: Math.min(previews, dataset.train) }, (_, i) =>
        el('img', { src: datasetPath(dataset.name, `/preview?i=${i * step + i % 10}&version=${dataset.version}`), alt: '', width: w, height: h, loading: 'lazy' })) : []));
    } };
  }
  const show = keyed($('#dataset-rows'), row);

  async function makeGlyphs() {
    const name = freeName('glyphs', list().map((d) => d.name));
    await call('POST', '/v1/datasets', { json: { name, synthetic: { kind: 'glyphs', train: 4000, test: 1000, seed: 1 } } });
    announce(`Making the data set ${name}`);
    await refresh();
  }
  const button = $('#make-glyphs');
  button.addEventListener('click', () => busy(button, makeGlyphs));

  const file = $('#upload-file'), bar = $('#upload-progress');
  async function send([archive]) {
    const name = slug(archive.name);
    bar.hidden = false;
    bar.value = 0;
    try {
      await upload(datasetPath(name), archive, (part) => { bar.value = part; });
      announce(`${archive.name} is uploaded`);
      toast(`${archive.name} is uploaded as ${name} and being read.`);
    } catch (e) {
      toast(`${archive.name}: ${e.message}`, true);
    } finally {
      bar.hidden = true;
      file.value = '';
      await refresh();
    }
  }
  file.addEventListener('change', () => file.files.length && send([...file.files]));
  dropZone($('#upload .drop'), send);

  return {
    makeGlyphs,
    show(datasets) {
      $('#datasets-empty').hidden = datasets.length > 0;
      show(datasets, (d) => d.name);
    },
  };
}
