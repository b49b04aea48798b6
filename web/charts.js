// charts.js - one line chart over epochs, drawn by dygraphs, with a legend of our own: the values follow the pointer, else they
// are the latest ones. dygraphs' own legend sets style attributes from strings, which the page's content security policy forbids.

import { el, isNumber } from './dom.js';

const Dygraph = window.Dygraph;
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);

const charts = new Set();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach((chart) => chart.restyle()));

// series: [{name: metric, label, color: CSS variable, dash?}]; format(value) for the legend, tick(value) for the axis.
export function createChart(box, { series, format, tick, zero }) {
  const canvas = el('div', { class: 'plot', role: 'img' });
  const values = series.map(() => el('output', {}));
  const legend = el('div', { class: 'legend' }, ...series.map((s, i) => el('span', { class: `key ${s.dash ? 'dash' : ''}`, 'data-color': s.color }, el('i'), s.label, ' ', values[i])));
  const empty = el('p', { class: 'plot-empty' }, 'The first epoch has not ended yet.');
  box.replaceChildren(legend, canvas, empty);

  let graph = null, rows = [], hovered = -1;

  function showValues() {
    const row = hovered >= 0 ? rows[hovered] : null;
    series.forEach((s, i) => {
      const latest = rows.findLast((r) => isNumber(r[i + 1]));
      const value = row ? row[i + 1] : latest?.[i + 1];
      values[i].textContent = isNumber(value) ? format(value) : '–';
    });
  }

  function options() {
    const css = getComputedStyle(document.documentElement);
    const color = (name) => css.getPropertyValue(name).trim();
    return {
      colors: series.map((s) => color(s.color)),
      gridLineColor: color('--line'), axisLineColor: color('--line'),
      axes: {
        x: { drawGrid: false, pixelsPerLabel: 40, axisLabelFormatter: (v) => (Number.isInteger(v) ? String(v) : ''), axisLabelFontSize: 11 },
        y: { axisLabelFormatter: (v) => tick(v), pixelsPerLabel: 28, axisLabelWidth: 40, axisLabelFontSize: 11 },
      },
      series: Object.fromEntries(series.filter((s) => s.dash).map((s) => [s.label, { strokePattern: [5, 4] }])),
    };
  }

  function draw() {
    empty.hidden = rows.length > 0;
    canvas.classList.toggle('blank', rows.length === 0);
    showValues();
    if (!rows.length) { graph?.destroy(); graph = null; return; }
    const last = rows[rows.length - 1][0];
    const range = { file: rows, dateWindow: [Math.max(0, Math.min(rows[0][0], 1) - 0.5), Math.max(last, 2) + 0.25] };
    if (graph) graph.updateOptions(range);
    else graph = new Dygraph(canvas, rows, {
      labels: ['epoch', ...series.map((s) => s.label)], ...options(), dateWindow: range.dateWindow,
      strokeWidth: 1.75, drawPoints: true, pointSize: 2, connectSeparatedPoints: true, includeZero: zero, yRangePad: 8, xRangePad: 0,
      highlightCircleSize: 3.5, interactionModel: {}, animatedZooms: false, rightGap: 8,
      highlightCallback: (e, x, points, row) => { hovered = row; showValues(); },
      unhighlightCallback: () => { hovered = -1; showValues(); },
    });
    canvas.dataset.rows = rows.length;
    canvas.setAttribute('aria-label', series.map((s, i) => `${s.label} ${values[i].textContent}`).join(', '));
  }

  const chart = {
    // metrics: Map of metric name -> [[epoch, value], ...]
    set(metrics) {
      const byEpoch = new Map();
      series.forEach((s, i) => (metrics.get(s.name) ?? []).forEach(([epoch, value]) => {
        if (!byEpoch.has(epoch)) byEpoch.set(epoch, [epoch, ...series.map(() => null)]);
        byEpoch.get(epoch)[i + 1] = isNumber(value) ? value : null;
      }));
      rows = [...byEpoch.values()].sort((a, b) => a[0] - b[0]);
      draw();
    },
    restyle() { graph?.updateOptions(options()); },
  };
  new ResizeObserver(() => graph?.resize()).observe(canvas);
  charts.add(chart);
  draw();
  return chart;
}
