// api.js - talking to the daemon: JSON calls, uploads with progress, and the event stream.

// The text of a fault often begins with its pointer. A form shows the text beside the field, where the pointer is redundant.
function fault({ pointer, detail }) {
  const path = pointer ?? '', said = detail ?? '';
  return { pointer: path, text: path && said.startsWith(path) ? said.slice(path.length).replace(/^[:\s]+/, '') : said };
}
const where = (pointer) => (pointer.startsWith('/') ? pointer.slice(1).replaceAll('/', '.') : pointer);   // a member of the request, or a file of an archive
export const told = ({ pointer, text }) => [where(pointer), text].filter(Boolean).join(': ');

// An error response of the daemon (problem+json), or a network error. faults: [{pointer, text}], one per faulty field of the request;
// the message lists each of them once.
export class Problem extends Error {
  constructor(status, body, fallback) {
    const faults = (body?.errors ?? []).map(fault);
    super(faults.length ? faults.map(told).join('; ') : body?.detail ?? body?.title ?? fallback);
    this.status = status;
    this.code = body?.code ?? '';
    this.faults = faults;
  }
}

async function parse(response, as) {
  if (as === 'blob' && response.ok) return response.blob();
  const text = await response.text();
  if (!text) return null;
  return /json/.test(response.headers.get('Content-Type') ?? '') ? JSON.parse(text) : text;
}

// as: 'blob' if the response is a file. signal: aborts the request.
export async function call(method, path, { json, body, headers = {}, cache = 'no-cache', as, signal } = {}) {
  if (json !== undefined) { body = JSON.stringify(json); headers = { 'Content-Type': 'application/json', ...headers }; }
  let response;
  try {
    response = await fetch(path, { method, body, headers, cache, signal });
  } catch {
    throw new Problem(0, null, 'The daemon does not answer.');
  }
  const data = await parse(response, as);
  if (!response.ok) throw new Problem(response.status, typeof data === 'object' ? data : null, `${method} ${path}: ${response.status}`);
  return { data, headers: response.headers };
}

export const get = async (path) => (await call('GET', path)).data;
export const jobPath = (id, rest = '') => `/v1/jobs/${encodeURIComponent(id)}${rest}`;
export const sweepPath = (id, rest = '') => `/v1/sweeps/${encodeURIComponent(id)}${rest}`;
export const mergePath = (id) => `/v1/merges/${encodeURIComponent(id)}`;
export const datasetPath = (name, rest = '') => `/v1/datasets/${encodeURIComponent(name)}${rest}`;
export const checkpointPath = (id, rest = '') => `/v1/checkpoints/${encodeURIComponent(id)}${rest}`;
export const deploymentPath = (name, rest = '') => `/v1/deployments/${encodeURIComponent(name)}${rest}`;

// fetch cannot report how much of a body has been sent; XMLHttpRequest can.
export function upload(path, file, onProgress) {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    const body = () => { try { return JSON.parse(x.responseText); } catch { return null; } };
    x.open('PUT', path);
    x.upload.onprogress = (e) => e.lengthComputable && onProgress(e.loaded / e.total);
    x.onload = () => (x.status < 300 ? resolve(body()) : reject(new Problem(x.status, body(), `PUT ${path}: ${x.status}`)));
    x.onerror = () => reject(new Problem(0, null, 'The upload was interrupted.'));
    x.send(file);
  });
}

// Reads server-sent events with fetch (an EventSource cannot send headers): onEvent({type, data}), onState('live' | 'polling').
// An interrupted stream resumes after the last id seen; while it is down the caller polls. A stream that stays silent for two
// heartbeats of the daemon counts as dead.
export function events(path, onEvent, onState) {
  const silence = 40000;
  let last = '', wait = 2000, closed = false, abort;

  async function read() {
    abort = new AbortController();
    let timer;
    const alive = () => { clearTimeout(timer); timer = setTimeout(() => abort.abort(), silence); };
    alive();
    try {
      const response = await fetch(path, { headers: { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) }, signal: abort.signal, cache: 'no-store' });
      if (!response.ok || !response.body) throw new Error(`events: ${response.status}`);
      onState('live');
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        alive();
        text += value.replace(/\r\n?/g, '\n');
        let end;
        while ((end = text.indexOf('\n\n')) >= 0) {
          message(text.slice(0, end));
          text = text.slice(end + 2);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  function message(block) {
    let type = 'message';
    const data = [];
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'id') last = value;
      else if (field === 'event') type = value;
      else if (field === 'data') data.push(value);
      else if (field === 'retry' && /^\d+$/.test(value)) wait = Math.min(Number(value), 10000);
    }
    if (!data.length && type !== 'reset') return;
    let parsed = null;
    try { parsed = JSON.parse(data.join('\n')); } catch { /* even an event without JSON says that something changed */ }
    onEvent({ type, data: parsed ?? {} });
  }

  (async () => {
    while (!closed) {
      try { await read(); } catch { /* the loop reconnects */ }
      if (closed) return;
      onState('polling');
      await new Promise((resume) => setTimeout(resume, wait));
    }
  })();
  return () => { closed = true; abort?.abort(); };
}
