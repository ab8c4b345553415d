import type { Confinement, RunRecordEntry } from "@kernlock/engine";
import type { Plan, PlannedPtx } from "@kernlock/policies/compatibility";
import { bytesText, table } from "./output.ts";

/** A few lines: what runs, what is converted, what it takes. */
export function planSummary(plan: Plan): string {
  const kernels = [...new Set(plan.ops.map((op) => `${op.kernel} ${op.version}`))].join(", ");
  const lines = [
    `plan: ${plan.model} on ${plan.device}, mode ${plan.mode}, experts ${plan.expertLayout}, ${plan.workers} threads`,
    `  kernels: ${kernels}`,
    `  memory: weights ${bytesText(plan.memory.weights)}, cache ${bytesText(plan.memory.kv)}, workspace ${bytesText(plan.memory.workspace)} of ${bytesText(plan.memory.available)} available`,
    ...plan.conversions.map(
      (c) => `  decision: ${c.kind} ${c.tensors} to ${c.to} (${bytesText(c.bytes)}) by ${c.kernel}: ${c.reason.text}`,
    ),
    ...plan.ptx.map((one) => `  ${ptxText(one)}`),
  ];
  return lines.join("\n");
}

/** What the driver compiles, so that nobody takes it for what was signed. */
export const ptxText = (one: PlannedPtx): string =>
  `decision: compile PTX for ${one.target} of ${one.kernel} ${one.version} (${one.variant}): ${one.text}`;

/** The whole plan as a table. */
export function planText(plan: Plan): string {
  const rows = plan.ops.map((op) => [
    op.covers.join("+"),
    layersText(op.layers),
    op.bucket,
    op.op,
    `${op.kernel} ${op.version}`,
    op.variant,
    op.layout ?? "-",
    op.digest.slice(0, 19),
    op.reason.text,
  ]);
  return `${planSummary(plan)}\n\n${table([["nodes", "layers", "bucket", "op", "kernel", "variant", "layout", "digest", "reason"], ...rows])}`;
}

/** How the process that ran the kernels was confined. */
export function confinementText(confinement: Confinement | null): string {
  if (confinement === null) return "confinement: none";
  const { landlock, seccomp, no_new_privs, no_capabilities, effort } = confinement;
  const parts: [boolean, string][] = [
    [landlock > 0, `Landlock ${landlock}`],
    [seccomp, "seccomp"],
    [no_new_privs, "no new privileges"],
    [no_capabilities, "no capabilities"],
  ];
  const lacking = parts.filter(([holds]) => !holds).map(([, name]) => name);
  const holding = parts.filter(([holds]) => holds).map(([, name]) => name);
  return `confinement (${effort}): ${holding.join(", ")}${lacking.length === 0 ? "" : `; LACKING: ${lacking.join(", ")}`}`;
}

export function runRecordText(record: readonly RunRecordEntry[]): string {
  const rows = record.map((entry) => [
    entry.node,
    layersText(entry.layers),
    entry.bucket,
    entry.op,
    `${entry.kernel} ${entry.version}`,
    entry.digest.slice(0, 19),
    entry.signer.slice(0, 19),
  ]);
  return `run record\n${table([["node", "layers", "bucket", "op", "kernel", "digest", "signer"], ...rows])}`;
}

/** 0-5, 7 for [0, 1, 2, 3, 4, 5, 7]. */
export function layersText(layers: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const layer of [...layers].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last !== undefined && layer === last[1] + 1) last[1] = layer;
    else runs.push([layer, layer]);
  }
  return runs.length === 0 ? "-" : runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(", ");
}
