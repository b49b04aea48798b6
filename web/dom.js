// dom.js - builds and updates the page. Text from the server only goes through textContent or attributes set by name, so it can
// never become markup.

export const $ = (selector, root = document) => root.querySelector(selector);

// el('button', {class: 'x', onclick: f, hidden: true}, 'text', child, ...): properties that start with "on" are listeners, the others
// are attributes (false and null omit an attribute).
function furnish(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((c) => c != null));
  return node;
}
export const el = (tag, props = {}, ...children) => furnish(document.createElement(tag), props, children);
export const svg = (tag, props = {}, ...children) => furnish(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children);

// Keeps the container's children in step with a list. create(item) returns {root, update(item)}. Rows are kept by key, so focus, open
// details and running animations survive an update.
export function keyed(container, create) {
  const rows = new Map();
  return (items, keyOf) => {
    const wanted = new Set(items.map(keyOf));
    for (const [key, row] of rows) if (!wanted.has(key)) { row.root.remove(); row.close?.(); rows.delete(key); }
    let at = container.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let row = rows.get(key);
      if (!row) rows.set(key, row = create(item));
      row.update(item);
      if (row.root === at) at = at.nextElementSibling;
      else container.insertBefore(row.root, at);
    }
  };
}

// Turns the rows of a table into cards on a phone. Each cell then shows its column's name, and ARIA roles keep it a table for screen
// readers. Returns the function that prepares a new row.
export function cards(table) {
  const heads = [...table.tHead.rows[0].cells];
  table.classList.add('cards');
  table.setAttribute('role', 'table');
  for (const group of [table.tHead, table.tBodies[0]]) group.setAttribute('role', 'rowgroup');
  table.tHead.rows[0].setAttribute('role', 'row');
  heads.forEach((th) => th.setAttribute('role', 'columnheader'));
  return (row) => {
    row.setAttribute('role', 'row');
    [...row.cells].forEach((cell, i) => {
      cell.setAttribute('role', cell.tagName === 'TH' ? 'rowheader' : 'cell');
      cell.dataset.label = heads[i].textContent;
    });
    return row;
  };
}

export function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

export function announce(text) { $('#announce').textContent = text; }

export function toast(text, bad = false) {
  const close = el('button', { type: 'button', 'aria-label': 'Dismiss', onclick: () => box.remove() }, '×');
  const box = el('div', { class: bad ? 'toast bad' : 'toast' }, el('span', {}, text), close);
  $('#toasts').append(box);
  setTimeout(() => box.remove(), bad ? 15000 : 6000);
}

// Runs a button's work, one run at a time, and shows a failure as a toast. The button keeps its focus meanwhile.
export async function busy(button, work) {
  if (button.hasAttribute('aria-busy')) return;
  button.setAttribute('aria-busy', 'true');
  try { return await work(); } catch (e) { toast(e.message, true); } finally { button.removeAttribute('aria-busy'); }
}

// Asks before something is lost; resolves to true if the answer is yes. "No" has the focus, and Escape means no.
export function ask(question, consequence, yes) {
  const dialog = $('#question');
  setText($('h2', dialog), question);
  setText($('p', dialog), consequence);
  setText($('[value=yes]', dialog), yes);
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}
// Closes a question about an object that is no longer shown.
export function unask() { $('#question').close('no'); }

// Accepts files dropped on an element.
export function dropZone(zone, onFiles) {
  let depth = 0;
  const over = (on) => zone.classList.toggle('over', on);
  zone.addEventListener('dragenter', (e) => { e.preventDefault(); depth++; over(true); });
  zone.addEventListener('dragover', (e) => e.preventDefault());
  zone.addEventListener('dragleave', () => { if (--depth <= 0) { depth = 0; over(false); } });
  zone.addEventListener('drop', (e) => {
    e.preventDefault();
    depth = 0;
    over(false);
    if (e.dataTransfer.files.length) onFiles([...e.dataTransfer.files]);
  });
}

// ---- numbers for people ----

const dash = '–';
export const isNumber = (v) => typeof v === 'number' && Number.isFinite(v);

export function si(v, digits = 1) {
  if (!isNumber(v)) return dash;
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]]) if (Math.abs(v) >= size) return `${(v / size).toFixed(digits)} ${unit}`;
  return String(Math.round(v));
}

export function bytes(v) {
  if (!isNumber(v)) return dash;
  for (const [unit, size] of [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]]) if (v >= size) return `${(v / size).toFixed(1)} ${unit}`;
  return `${v} B`;
}

export const count = (v) => (isNumber(v) ? v.toLocaleString('en') : dash);
export const percent = (v, digits = 1) => (isNumber(v) ? `${(100 * v).toFixed(digits)} %` : dash);
export const rate = (v) => (isNumber(v) && v > 0 ? (v >= 100 ? Math.round(v).toLocaleString('en') : v.toFixed(1)) : dash);

export function duration(s) {
  if (!isNumber(s) || s < 0) return dash;
  s = Math.round(s);
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 10) return `${m} min ${String(s % 60).padStart(2, '0')} s`;
  if (m < 60) return `${Math.round(s / 60)} min`;
  return `${Math.floor(m / 60)} h ${String(m % 60).padStart(2, '0')} min`;
}

export function micros(us) {
  if (!isNumber(us)) return dash;
  return us >= 1e6 ? `${(us / 1e6).toFixed(2)} s` : us >= 1000 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us)} µs`;
}

export function when(iso) {
  const t = new Date(iso);
  return Number.isNaN(t.getTime()) ? dash : t.toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
}
