/**
 * Plots as SVG: no script, no style of their own, both themes by classes. Every plot has a title and a description that
 * say what a reader would see in it, and stands beside a table with the same numbers.
 */
import { type Html, html, trusted } from "./html.ts";

/** What is compared: one shape and letter each, so that colour is never the only difference. */
export interface Series {
  readonly letter: string;
  readonly label: string;
}

export interface PlotRow {
  readonly label: string;
  /** One a series; undefined where it has none. */
  readonly values: readonly (number | undefined)[];
  /** The most that was possible, by series. */
  readonly ceilings?: readonly (number | null)[];
}

export interface PlotText {
  /** Unique on the page. */
  readonly id: string;
  readonly title: string;
  readonly description: string;
}

export const mostSeries = 6;
/** Labels stand above their marks, so that a phone shows both. */
const left = 12;
const plotWidth = 384;
const numberWidth = 112;
const width = left + plotWidth + numberWidth;
const head = 30;
const labelHeight = 22;

/** Small positive numbers on a logarithmic axis: the further left, the better. 0 stands at the left edge. */
export function dotPlot(text: PlotText, series: readonly Series[], rows: readonly PlotRow[]): Html {
  const all = rows.flatMap(({ values }) => values.filter((value) => value !== undefined && value > 0)) as number[];
  const least = Math.floor(Math.log10(Math.min(...all, 1e-6)));
  const most = Math.max(Math.ceil(Math.log10(Math.max(...all, 1e-12))), least + 2);
  const x = (value: number) => left + (value <= 0 ? 0 : ((Math.log10(value) - least) / (most - least)) * plotWidth);
  const lane = 16;
  const rowHeight = labelHeight + series.length * lane + 8;
  const height = head + rows.length * rowHeight + 6;
  const step = Math.ceil((most - least) / 6);
  const decades = Array.from({ length: Math.floor((most - least) / step) + 1 }, (_, i) => least + i * step);
  return figure(
    text,
    width,
    height,
    html`${decades.map(
      (
        power,
      ) => html`<line class="grid" x1="${x(10 ** power)}" x2="${x(10 ** power)}" y1="${head - 6}" y2="${height - 4}"/>
<text class="tick" x="${x(10 ** power)}" y="${head - 12}" text-anchor="middle">${powerOfTen(power)}</text>`,
    )}
${rows.map(({ label, values }, i) => {
  const top = head + i * rowHeight;
  return html`${stripe(i, top, rowHeight)}${rowLabel(label, top)}
${values.map((value, s) => {
  if (value === undefined) return null;
  const y = top + labelHeight + s * lane + lane / 2;
  return html`<g class="series${s + 1}">${marker(s, x(value), y)}<text class="value" x="${left + plotWidth + 16}" y="${y + 4}">${series.length > 1 ? `${series[s]!.letter} ` : null}${scientific(value)}</text></g>`;
})}`;
})}`,
  );
}

/** Positive numbers as bars from zero: the longer, the better. A tick marks the ceiling. */
export function barPlot(text: PlotText, series: readonly Series[], rows: readonly PlotRow[], unit: string): Html {
  const numbers = rows.flatMap(({ values, ceilings }) => [...values, ...(ceilings ?? [])]);
  const most = nice(Math.max(...numbers.filter((n) => typeof n === "number"), 1e-6));
  const lane = 20;
  const rowHeight = labelHeight + series.length * lane + 8;
  const height = head + rows.length * rowHeight + 6;
  const x = (value: number) => left + (value / most) * plotWidth;
  return figure(
    text,
    width,
    height,
    html`${[0, 0.25, 0.5, 0.75, 1].map(
      (
        part,
      ) => html`<line class="grid" x1="${x(part * most)}" x2="${x(part * most)}" y1="${head - 6}" y2="${height - 4}"/>
<text class="tick" x="${x(part * most)}" y="${head - 12}" text-anchor="middle">${figureText(part * most)}</text>`,
    )}
<text class="tick" x="${width - 10}" y="${head - 12}" text-anchor="end">${unit}</text>
${rows.map(({ label, values, ceilings }, i) => {
  const top = head + i * rowHeight;
  return html`${stripe(i, top, rowHeight)}${rowLabel(label, top)}
${values.map((value, s) => {
  if (value === undefined) return null;
  const y = top + labelHeight + s * lane;
  const ceiling = ceilings?.[s] ?? null;
  const end = Math.max(x(value), left + 2);
  return html`<g class="series${s + 1}"><rect class="bar" x="${left}" y="${y + 2}" width="${round(end - left)}" height="${lane - 5}" rx="2"/>${
    ceiling === null
      ? null
      : html`<line class="ceiling" x1="${x(ceiling)}" x2="${x(ceiling)}" y1="${y}" y2="${y + lane - 1}"/>`
  }<text class="value" x="${left + plotWidth + 16}" y="${y + lane - 6}">${series.length > 1 ? `${series[s]!.letter} ` : null}${figureText(value)}</text></g>`;
})}`;
})}`,
  );
}

/** Suites down, devices across: how many of each passed. */
export function gridPlot(
  text: PlotText,
  rows: readonly string[],
  columns: readonly string[],
  cell: (row: string, column: string) => { readonly passed: number; readonly all: number } | undefined,
): Html {
  const [first, width, height] = [116, 132, 40];
  return figure(
    text,
    first + columns.length * width,
    height * (rows.length + 1),
    html`${columns.map((column, i) => html`<text x="${first + i * width + width / 2}" y="25" text-anchor="middle">${short(column, 16)}</text>`)}
${rows.map(
  (row, j) =>
    html`<text x="${left}" y="${(j + 1) * height + 25}">${short(row, 14)}</text>${columns.map((column, i) => {
      const found = cell(row, column);
      if (found === undefined) return null;
      const good = found.passed === found.all;
      const [x, top] = [first + i * width, (j + 1) * height];
      return html`<g class="${good ? "good" : "bad"}"><rect x="${x + 3}" y="${top + 3}" width="${width - 6}" height="${height - 6}" rx="6"/><text x="${x + width / 2}" y="${top + 25}" text-anchor="middle">${good ? "✓" : "✗"} ${found.passed} of ${found.all}</text></g>`;
    })}`,
)}`,
  );
}

/** A series' shape beside its letter, for legends and tables. */
export function legendMark(s: number): Html {
  return html`<svg class="mark-of series${s + 1}" viewBox="0 0 14 14" width="14" height="14" aria-hidden="true">${marker(s, 7, 7)}</svg>`;
}

function figure({ id, title, description }: PlotText, width: number, height: number, body: Html): Html {
  return html`<div class="scroll plot" tabindex="0" role="region" aria-label="${title}, as a plot">
<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="${id}-title ${id}-desc">
<title id="${id}-title">${title}</title>
<desc id="${id}-desc">${description}</desc>
${body}
</svg>
</div>`;
}

function stripe(i: number, top: number, height: number): Html | null {
  return i % 2 === 1 ? null : html`<rect class="stripe" x="0" y="${top}" width="${width}" height="${height}"/>`;
}

function rowLabel(label: string, top: number): Html {
  return html`<text class="label" x="${left}" y="${top + 17}">${short(label, 62)}</text>`;
}

function marker(s: number, x: number, y: number): Html {
  const [a, b] = [round(x), round(y)];
  switch (s % mostSeries) {
    case 0:
      return html`<circle class="dot" cx="${a}" cy="${b}" r="5"/>`;
    case 1:
      return html`<rect class="dot" x="${a - 5}" y="${b - 5}" width="10" height="10"/>`;
    case 2:
      return html`<path class="dot" d="M${a} ${b - 6} l6 11 h-12 z"/>`;
    case 3:
      return html`<path class="dot" d="M${a} ${b - 7} l6 7 l-6 7 l-6 -7 z"/>`;
    case 4:
      return html`<path class="dot" d="M${a} ${b + 6} l6 -11 h-12 z"/>`;
    default:
      return html`<path class="dot" d="M${a - 6} ${b - 2} h4 v-4 h4 v4 h4 v4 h-4 v4 h-4 v-4 h-4 z"/>`;
  }
}

const round = (value: number) => Math.round(value * 10) / 10;
const short = (label: string, most: number) => (label.length > most ? `${label.slice(0, most - 1)}…` : label);

const raised = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function powerOfTen(power: number): Html {
  if (power === 0) return trusted("1");
  const digits = [...String(Math.abs(power))].map((digit) => raised[Number(digit)]).join("");
  return trusted(`10${power < 0 ? "⁻" : ""}${digits}`);
}

/** `3.1e-7`, and 0 as what it is. */
export function scientific(value: number): string {
  return value === 0 ? "0 (exact)" : value.toExponential(1).replace("e+", "e");
}

/** Three significant digits, whole from 100 on. */
export function figureText(value: number): string {
  if (value === 0) return "0";
  return value >= 100 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(3)));
}

/** The next round number; its quarters are round enough. */
function nice(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * power >= value) ?? 10) * power;
}
