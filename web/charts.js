// charts.js - a line chart over epochs, drawn by dygraphs. Our own legend shows the values under the pointer, or else the latest
// ones; dygraphs' legend sets style attributes from strings, which the page's content security policy forbids. Instead of a chart
// without points, a text says what the chart waits for.

import { el, isNumber } from './dom.js';

const Dygraph = window.Dygraph;
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);

const charts = new Set();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach((chart) => chart.restyle()));

// series: [{name: metric, label, color: CSS variable, dash?, thin?}]; format(value) for the legend, tick(value) for the axis. thin: a
// series with many points per epoch, drawn as a line without dots.
export function createChart(box, { title, series, format, tick, zero }) {
  const canvas = el('div', { class: 'plot', role: 'img' });
  const values = series.map(() => el('output', {}));
  const legend = el('div', { class: 'legend' }, ...series.map((s, i) => el('span', { class: `key ${s.dash ? 'dash' : ''} ${s.thin ? 'thin' : ''}`, 'data-color': s.color }, el('i'), s.label, ' ', values[i])));
  const empty = el('p', { class: 'plot-empty' });
  box.replaceChildren(legend, canvas, empty);

  let graph = null, rows = [], hovered = -1;

  function showValues() {
    const row = hovered >= 0 ? rows[hovered] : null;
    series.forEach((s, i) => {
      const latest = rows.findLast((r) => isNumber(r[i + 1]));
      const value = row ? row[i + 1] : latest?.[i + 1];
      values[i].textContent = isNumber(value) ? format(value) : '–';
      values[i].parentNode.hidden = !latest;
    });
  }

  function options() {
    const css = getComputedStyle(document.documentElement);
    const color = (name) => css.getPropertyValue(name).trim();
    return {
      colors: series.map((s) => color(s.color)),
      gridLineColor: color('--line'), axisLineColor: color('--line'),
      axes: {
        x: { drawGrid: false, pixelsPerLabel: 40, axisLabelWidth: 28, axisLabelFormatter: (v) => (Number.isInteger(v) || rows.at(-1)?.[0] < 2 ? String(Number(v.toFixed(2))) : ''), axisLabelFontSize: 11 },
        y: { axisLabelFormatter: (v) => tick(v), pixelsPerLabel: 28, axisLabelWidth: 40, axisLabelFontSize: 11 },
      },
      series: Object.fromEntries(series.map((s) => [s.label, { ...(s.dash && { strokePattern: [5, 4] }), ...(s.thin && { drawPoints: false, strokeWidth: 1 }) }])),
    };
  }

  function draw() {
    empty.hidden = rows.length > 0;
    canvas.hidden = legend.hidden = rows.length === 0;
    showValues();
    if (!rows.length) { graph?.destroy(); graph = null; delete canvas.dataset.rows; return; }
    const first = Math.min(rows[0][0], 1), last = rows.at(-1)[0];
    const range = { file: rows, dateWindow: [first < 1 ? 0 : 0.5, Math.max(last, first < 1 ? 0 : 2) + 0.02 * last] };
    if (graph) graph.updateOptions(range);
    else graph = new Dygraph(canvas, rows, {
      labels: ['epoch', ...series.map((s) => s.label)], ...options(), dateWindow: range.dateWindow,
      strokeWidth: 1.75, drawPoints: true, pointSize: 2, connectSeparatedPoints: true, includeZero: zero, yRangePad: 8, xRangePad: 0,
      highlightCircleSize: 3.5, interactionModel: {}, animatedZooms: false, rightGap: 8, xlabel: 'epoch', xLabelHeight: 16,
      highlightCallback: (e, x, points, row) => { hovered = row; showValues(); },
      unhighlightCallback: () => { hovered = -1; showValues(); },
    });
    canvas.dataset.rows = rows.length;
    canvas.setAttribute('aria-label', `${title} by epoch: ${series.flatMap((s, i) => (values[i].parentNode.hidden ? [] : [`${s.label} ${values[i].textContent}`])).join(', ')}`);
  }

  const chart = {
    // metrics: Map of metric name -> [[epoch, value], ...], with fractional epochs in a thin series; waiting: the text shown while there are no points
    set(metrics, waiting) {
      const byEpoch = new Map();
      series.forEach((s, i) => (metrics.get(s.name) ?? []).forEach(([epoch, value]) => {
        if (!byEpoch.has(epoch)) byEpoch.set(epoch, [epoch, ...series.map(() => null)]);
        byEpoch.get(epoch)[i + 1] = isNumber(value) ? value : null;
      }));
      rows = [...byEpoch.values()].sort((a, b) => a[0] - b[0]);
      empty.textContent = waiting;
      draw();
    },
    restyle() { graph?.updateOptions(options()); },
    close() { graph?.destroy(); graph = null; charts.delete(chart); },
  };
  new ResizeObserver(() => graph?.resize()).observe(canvas);
  charts.add(chart);
  draw();
  return chart;
}
