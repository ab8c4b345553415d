/** Figures that signed test results hold: errors and speeds, drawn and in tables, with who measured them on what. */
import type { Policy } from "@kernlock/policies/trust";
import { z } from "zod";
import type { Attestation } from "./evidence.ts";
import { type Html, html } from "./html.ts";
import { date, digest } from "./layout.ts";
import {
  barPlot,
  dotPlot,
  figureText,
  legendMark,
  mostSeries,
  type PlotRow,
  type Series,
  scientific,
} from "./plots.ts";
import { bundlePath, keyName } from "./provenance.ts";
import type { Shown } from "./subject.ts";

const text = z.string().max(200);
const positive = z.number().min(1e-6).max(1e12);
const units = ["tokens/s", "GB/s", "TFLOP/s"] as const;

/** The member `measured` of a test result. What does not fit is left out as a whole. */
export const measuredSchema = z.looseObject({
  driver: text.nullable().optional(),
  errors: z
    .array(
      z.looseObject({
        op: text,
        cases: z.number().int().nonnegative(),
        failed: z.number().int().nonnegative(),
        worst: z.number().nonnegative().max(1e30),
      }),
    )
    .max(400)
    .default([]),
  speeds: z
    .array(
      z.looseObject({
        op: text,
        launch: text,
        unit: z.enum(units),
        value: positive,
        ceiling: positive.nullable().optional(),
      }),
    )
    .max(400)
    .default([]),
});

export type Measured = z.infer<typeof measuredSchema>;
type Said = NonNullable<Attestation["said"]>;
type Source = Attestation & { readonly said: Said & { readonly measured: Measured } };

const mostRows = 60;

export function measuredSection(shown: Shown, policy: Policy, attestations: readonly Attestation[]): Html | null {
  const sources = attestations.filter((one): one is Source => one.kind === "test" && one.said?.measured !== undefined);
  const exact = sources.filter(({ said }) => said.measured.errors.length > 0).slice(0, mostSeries);
  const timed = sources.filter(({ said }) => said.measured.speeds.length > 0).slice(0, mostSeries);
  if (exact.length + timed.length === 0) return null;
  return html`${exact.length === 0 ? null : numerics(shown, policy, exact)}${timed.length === 0 ? null : speeds(shown, policy, timed)}`;
}

function numerics(shown: Shown, policy: Policy, sources: readonly Source[]): Html {
  const series = seriesOf(sources);
  const nameOf = naming(sources.map(({ said }) => said.measured.errors));
  const ops = distinct(sources.flatMap(({ said }) => said.measured.errors.map(nameOf))).slice(0, mostRows);
  const find = (source: Source, op: string) => source.said.measured.errors.find((one) => nameOf(one) === op);
  const rows: PlotRow[] = ops.map((op) => ({ label: op, values: sources.map((one) => find(one, op)?.worst) }));
  const worst = Math.max(...rows.flatMap(({ values }) => values.filter((value) => value !== undefined)));
  return html`<section aria-labelledby="numerics">
<h2 id="numerics" class="section">Error against the reference</h2>
<p class="hint">The largest difference from a double-precision reference over all cases of an op, as a share of the row’s length. Further left is closer.</p>
${legend(shown, policy, sources, series)}
<div class="figure">
${dotPlot(
  {
    id: "errors",
    title: "Error against the reference, by op",
    description: `${ops.length} ops, ${sources.length} measurements; the largest error is ${scientific(worst)}. The table beside it has every number.`,
  },
  series,
  rows,
)}
${table(
  "Errors by op",
  ["Op", ...series.map(heading)],
  ops.map(
    (op) =>
      html`<tr><th scope="row"><code>${op}</code></th>${sources.map((source) => {
        const one = find(source, op);
        if (one === undefined) return html`<td class="number">–</td>`;
        const cases = html`<span class="aside">${one.cases} cases</span>`;
        return html`<td class="number">${scientific(one.worst)} ${one.failed === 0 ? cases : html`<span class="no">${one.failed} of ${one.cases} failed</span>`}</td>`;
      })}</tr>`,
  ),
)}</div>
</section>`;
}

function speeds(shown: Shown, policy: Policy, sources: readonly Source[]): Html {
  const used = units.filter((unit) =>
    sources.some(({ said }) => said.measured.speeds.some((one) => one.unit === unit)),
  );
  return html`<section aria-labelledby="speed">
<h2 id="speed" class="section">Speed</h2>
<p class="hint">By op and size of the launch. Longer is faster; the upright line is what the device reaches at most.</p>
${legend(shown, policy, sources, seriesOf(sources))}
${used.map((unit, i) => speed(unit, i, sources))}
</section>`;
}

function speed(unit: (typeof units)[number], i: number, sources: readonly Source[]): Html {
  const series = seriesOf(sources);
  const nameOf = naming(sources.map(({ said }) => said.measured.speeds));
  const keyOf = (one: { op: string; launch: string }) =>
    one.launch === "" ? nameOf(one) : `${nameOf(one)}, ${one.launch}`;
  const keys = distinct(
    sources.flatMap(({ said }) => said.measured.speeds.filter((one) => one.unit === unit).map(keyOf)),
  ).slice(0, mostRows);
  const find = ({ said }: Source, key: string) =>
    said.measured.speeds.find((one) => one.unit === unit && keyOf(one) === key);
  const rows: PlotRow[] = keys.map((key) => ({
    label: key,
    values: sources.map((one) => find(one, key)?.value),
    ceilings: sources.map((one) => find(one, key)?.ceiling ?? null),
  }));
  return html`<h3 class="section unit" id="speed-${i}">${unit}</h3>
<div class="figure">
${barPlot(
  {
    id: `speeds-${i}`,
    title: `Speed in ${unit}, by op and launch`,
    description: `${keys.length} launches, ${sources.length} measurements. The table beside it has every number.`,
  },
  series,
  rows,
  unit,
)}
${table(
  `Speed in ${unit}`,
  ["Op and launch", ...series.map(heading)],
  keys.map(
    (key) =>
      html`<tr><th scope="row"><code>${key}</code></th>${sources.map((source) => {
        const one = find(source, key);
        if (one === undefined) return html`<td class="number">–</td>`;
        const share = one.ceiling
          ? html` <span class="aside">${Math.round((100 * one.value) / one.ceiling)} %</span>`
          : null;
        return html`<td class="number">${figureText(one.value)}${share}</td>`;
      })}</tr>`,
  ),
)}</div>`;
}

/** Who measured, on what, and when. */
function legend(shown: Shown, policy: Policy, sources: readonly Source[], series: readonly Series[]): Html {
  return html`<ul class="legend">${sources.map(({ about, bundle, said }, s) => {
    const { driver } = said.measured;
    return html`<li>${legendMark(s)}<b>${series[s]!.letter}</b> <span>${about} on <b>${said.device ?? "a device that is not named"}</b>${driver ? html`, driver ${driver}` : null}<br>
<span class="aside">signed by ${keyName(policy, said.signer) ?? digest(said.signer, "signer")}${said.issued === undefined ? null : html`, ${date(said.issued)}`} · <a href="${bundlePath(shown, bundle)}" download>bundle</a></span></span></li>`;
  })}</ul>`;
}

function seriesOf(sources: readonly Source[]): Series[] {
  return sources.map(({ about, said }, s) => ({
    letter: String.fromCharCode(65 + s),
    label: `${about} on ${said.device ?? "an unnamed device"}`,
  }));
}

/** Ops go by their name alone, so that paths of several variants share a row; unless one of them has several paths. */
function naming(lists: readonly (readonly { op: string; launch?: string }[])[]): (one: { op: string }) => string {
  const base = (op: string) => op.split("/")[0]!;
  const several = lists.some((list) => {
    const paths = new Set(list.map(({ op }) => op));
    return new Set([...paths].map(base)).size < paths.size;
  });
  return ({ op }) => (several ? op : base(op));
}

const heading = ({ letter, label }: Series) => html`<span title="${label}">${letter}</span>`;

function table(label: string, heads: readonly (string | Html)[], rows: readonly Html[]): Html {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${label}"><table>
<thead><tr>${heads.map((one, i) => html`<th scope="col"${i === 0 ? null : html` class="number"`}>${one}</th>`)}</tr></thead>
<tbody>${rows}</tbody>
</table></div>`;
}

const distinct = (values: readonly string[]) => [...new Set(values)];
