// following.js - what follows when a job has completed: in words, and its part of the job form.

import { $ } from './dom.js';
import { usual } from './spec.js';

// {text, bad}: what will be done, what was done, or why nothing was; null for a job without on_complete.
export function following(job) {
  const f = job.on_complete;
  if (!f) return null;
  const { register, deploy, version, why } = f, done = f.state === 'done';
  const model = register && `${done && version ? `version ${version}` : 'a version'} of ${register.model}${register.alias ? `, alias ${register.alias}` : ''}`;
  const mode = deploy?.mode ? ` in mode ${deploy.mode}` : '';
  if (done) return { text: `Completed, and then: ${[model && `registered as ${model}`, deploy && `deployed as ${deploy.name}${mode}`].filter(Boolean).join('; ')}.`, bad: false };
  const conditions = (f.if ?? []).map((c) => `${c.metric} ${c.op} ${c.value}`).join(' and ');
  const which = `the ${f.checkpoint ?? 'best'} checkpoint`;
  const plan = `${[model && `register ${which} as ${model}`, deploy && `deploy ${model ? 'it' : which} as ${deploy.name}${mode}`].filter(Boolean).join('; ')}${conditions ? `, if ${conditions}` : ''}`;
  if (f.state === 'pending') return { text: `When it completes: ${plan}.`, bad: false };
  return { text: `On completion, ${f.state === 'failed' ? 'this failed' : 'this was not done'}: ${plan}${why ? `: ${why}` : ''}.`, bad: f.state === 'failed' };
}

// The member "on_complete" of the form's job; undefined: nothing follows.
export function createFollowing() {
  const inputs = [...$('#job-following').querySelectorAll('[data-pointer]')], root = '/on_complete/';
  return () => {
    const made = {};
    for (const input of inputs) {
      const text = input.value.trim(), path = input.dataset.pointer.slice(root.length).split('/');
      if (!text || (input.options && text === usual(input))) continue;
      const owner = path.slice(0, -1).reduce((o, key) => (o[key] ??= {}), made);
      owner[path.at(-1)] = text;
    }
    return Object.keys(made).length ? made : undefined;
  };
}
