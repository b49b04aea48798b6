// datasets.js - the data sets: state, counts, a strip of sample images; creating the built-in set; uploading an archive.

import { $, announce, ask, busy, count, dropZone, el, keyed, setText, toast } from './dom.js';
import { call, datasetPath, upload } from './api.js';
import { showState, stateBadge } from './jobs.js';

const previews = 8;
export const ready = (dataset) => dataset.state === 'ready';

// The first free name of base, base-2, base-3, ...
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

// Up to n different indices below `of`, spread over the range. Classes often alternate, so the steps are uneven.
export function spread(of, n) {
  const some = Math.min(n, of), step = Math.floor(of / some);
  return Array.from({ length: some }, (_, i) => i * step + i % step);
}

// The report on an archive: files with errors, files left out, and remarks with a count and examples.
function createTold() {
  const part = (kind) => {
    const summary = el('summary'), list = el('ul');
    return { summary, list, root: el('details', { class: `told ${kind}`, hidden: true }, summary, list) };
  };
  const files = part('files'), remarks = part('remarks');
  function fill({ root, summary, list }, what, items) {
    root.hidden = !items.length;
    setText(summary, what);
    const before = [...list.children].map((li) => li.textContent);
    if (String(items.map((texts) => texts.join(''))) !== String(before)) list.replaceChildren(...items.map(([head, rest]) => el('li', {}, el('b', {}, head), rest)));
  }
  const some = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
  return { nodes: [files.root, remarks.root], update({ error, skipped, remarks: said = [] }) {
    const wrong = error?.errors ?? [], listed = wrong.length ? wrong : skipped ?? [], all = Math.max(error?.count ?? 0, listed.length);
    fill(files, `${some(all, 'file', 'files')} ${wrong.length ? 'cannot be read' : 'left out'}${all > listed.length ? `, the first ${listed.length}` : ''}`, listed.map((f) => [f.file, `: ${f.detail}`]));
    const rest = said.filter((r) => !(r.code === 'bad_skipped' && skipped?.length));      // the list of files shows these
    fill(remarks, some(rest.length, 'remark', 'remarks'), rest.map((r) => [r.message, r.examples?.length ? ` (${count(r.count)}: ${r.examples.join(', ')}${r.count > r.examples.length ? ', …' : ''})` : '']));
  } };
}

// The query with the form's options for reading the archive; fields at their default are left to the daemon.
function options(form) {
  const query = new URLSearchParams();
  for (const { name, value, dataset } of form.elements)
    if (name && value && value !== dataset.usual) query.set(name, 'percent' in dataset ? Number(value) / 100 : value.replace('#', ''));
  return query.size ? `?${query}` : '';
}

export function createDatasets({ refresh, list }) {
  function row(first) {
    let dataset = first, strip = '';
    const name = el('h3'), badge = stateBadge(), facts = el('small', { class: 'facts' }), problem = el('p', { class: 'notice bad', hidden: true });
    const images = el('div', { class: 'strip', 'aria-hidden': 'true' }), told = createTold();
    const gone = el('button', { type: 'button', onclick: () => { const drawn = dataset; busy(gone, () => remove(drawn)); } }, 'Delete');
    const root = el('li', { class: 'dataset' }, el('div', { class: 'line' }, name, badge, gone), facts, problem, ...told.nodes, images);
    return { root, update(next) {
      dataset = next;
      setText(name, dataset.name);
      showState(badge, dataset);
      const [c, h, w] = dataset.shape ?? [];
      setText(facts, ready(dataset) ? `${count(dataset.train)} training${dataset.val ? ` (${count(dataset.val)} of them validation)` : ''} + ${count(dataset.test)} test images · ${w}×${h}×${c} · ${dataset.classes?.length ?? 0} classes` : '');
      facts.title = dataset.classes?.join(', ') ?? '';
      gone.setAttribute('aria-label', `Delete the data set ${dataset.name}`);
      const words = dataset.error?.errors ? 'The archive was rejected: some of its files have errors.' : [dataset.error?.file, dataset.message].filter(Boolean).join(': ');
      problem.hidden = !words;
      setText(problem, words);
      told.update(dataset);
      const wanted = ready(dataset) ? `${dataset.name}@${dataset.version}` : '';
      if (wanted === strip) return;
      strip = wanted;
      images.replaceChildren(...(wanted ? spread(dataset.train, previews) : []).map((i) =>
        el('img', { src: datasetPath(dataset.name, `/preview?i=${i}&version=${dataset.version}`), alt: '', width: w, height: h, loading: 'lazy' })));
    } };
  }

  async function remove(drawn) {
    if (!await ask(`Delete the data set ${drawn.name}?`, 'This deletes all its versions permanently. Finished jobs keep their checkpoints.', 'Delete the data set')) return;
    await call('DELETE', datasetPath(drawn.name));
    toast(`${drawn.name} was deleted.`);
    await refresh();
  }
  const show = keyed($('#dataset-rows'), row);

  async function makeGlyphs() {
    const name = freeName('glyphs', list().map((d) => d.name));
    await call('POST', '/v1/datasets', { json: { name, synthetic: { kind: 'glyphs', train: 6000, test: 1000, seed: 1 } } });
    announce(`Creating the data set ${name}`);
    await refresh();
  }
  const button = $('#make-glyphs');
  button.addEventListener('click', () => busy(button, makeGlyphs));

  const form = $('#upload'), file = $('#upload-file'), bar = $('#upload-progress');
  form.addEventListener('submit', (e) => e.preventDefault());
  async function send([archive]) {
    if (!form.reportValidity()) return;
    const name = slug(archive.name);
    bar.hidden = false;
    bar.value = 0;
    try {
      await upload(datasetPath(name, options(form)), archive, (part) => { bar.value = part; });
      announce(`${archive.name} was uploaded`);
      toast(`${archive.name} was uploaded as ${name} and is being read.`);
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
