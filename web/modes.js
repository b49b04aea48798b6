// modes.js - how the modes of a model are called. One that was made is FAMILY:NAME; a profile is a named DOM: "dom:NAME". Auto and cascade choose one of the others for each request.

const known = {
  aom: { label: 'AOM', long: 'accuracy-oriented: the plain weights' },
  dom: { label: 'DOM', long: 'desire-oriented: one draw of shadow weights' },
  slim: { label: 'Slim', long: 'AOM without the network’s dead channels: the same answers' },
  auto: { label: 'Auto', chooses: true },
  cascade: { label: 'Cascade', chooses: true },
};

// What can be asked for without an option of a form of its own, such as a given draw, which is for the other interfaces.
export const desires = (kinds) => kinds.flatMap((k) => k.desires).filter((d) => d.options.every((o) => o.type !== 'form'));
export const named = (mode) => mode.includes(':');
export const chooses = (mode) => known[mode]?.chooses ?? false;
export const label = (mode) => known[mode]?.label ?? (mode.startsWith('dom:') ? `DOM ${mode.slice(4)}` : mode);
export const long = (mode) => known[mode]?.long ?? '';
