import type { Layout } from "@kernlock/kernels/abi";
import { fail } from "@kernlock/kernels/format";
import { candidatesOf, fitsMachine } from "./candidates.ts";
import { origin, plannedConversions } from "./conversions.ts";
import type { Gap } from "./cover.ts";
import { type MatrixFacts, type MatrixRow, speakingRow } from "./matrix.ts";
import { plannedMemory } from "./memory.ts";
import { coverModel, declinedOps, type Placed } from "./model-cover.ts";
import { arenaPages, expertBytes, type Limits, maxRows } from "./sizes.ts";
import type { KernelFacts, MachineFacts, Mode, ModelFacts, Plan, PlannedOp, PlanRequest } from "./types.ts";

export interface PlanFacts {
  readonly model: ModelFacts;
  readonly machine: MachineFacts;
  readonly kernels: readonly KernelFacts[];
  readonly request: PlanRequest;
}

/**
 * Which op of which kernel runs each node of the model, how its weights are used, and what it all takes; or a refusal.
 *
 * @throws KL_PLAN_NO_DRIVER, KL_PLAN_UNAVAILABLE, KL_PLAN_CONFLICT, KL_PLAN_DEQUANT_FORBIDDEN, KL_PLAN_LIMIT,
 *   KL_PLAN_MEMORY; `row` names the row of the matrix that spoke
 */
export function plan({ model, machine, kernels, request }: PlanFacts): Plan {
  const lockedBackends = [...new Set(kernels.map(({ descriptor }) => descriptor.backend.kind))].sort();
  const deviceAsked = request.device.startsWith("cuda") ? "cuda" : (request.device as "auto" | "cpu");
  const kind = deviceAsked === "auto" ? (lockedBackends.includes("cuda") ? "cuda" : "cpu") : deviceAsked;
  const device = kind === "cpu" ? "cpu" : (`cuda:${Number(request.device.split(":")[1] ?? 0)}` as const);
  const mode = request.mode ?? (kind === "cpu" ? "f32" : "bf16");
  const limits = chooseLimits(model, machine, request);
  const ours = kernels.filter(({ descriptor }) => descriptor.backend.kind === kind);
  const facts: MatrixFacts = {
    device: kind,
    deviceAsked,
    lockedBackends,
    driver: machine.cuda !== undefined,
    mode,
    lockedModes: [...new Set(ours.flatMap(({ descriptor }) => descriptor.ops.map((op) => op.mode)))],
    experts: model.expertFormat,
    moeLayout: null,
    allowDequant: request.allowDequant,
    policyAllowsDequant: request.policyAllowsDequant,
    attentionWithoutSinks: false,
    largestScale: null,
    confinable:
      machine.confinement === undefined ? null : machine.confinement.landlock > 0 && machine.confinement.seccomp,
    confinement: request.confinement ?? "required",
  };
  obey(facts, model);

  const fitting = ours.map((kernel) => ({ kernel, answer: fitsMachine(kernel, machine, device) }));
  const candidates = candidatesOf(fitting.filter(({ answer }) => answer.supported).map(({ kernel }) => kernel));
  const unfit = fitting.flatMap(({ kernel, answer }) =>
    answer.supported ? [] : [{ label: `${kernel.name} (${kernel.descriptor.variant})`, ...answer }],
  );
  const need = { model, mode, limits };

  const [native, foreign] = expertLayouts(model, kind);
  let expertLayout = native[0]!;
  let covers = coverModel(candidates, request.pins, { ...need, expertLayout });
  for (const layout of [...native, ...foreign].slice(1)) {
    if (covers.ok || !isMoe(covers.gap)) break;
    const other = coverModel(candidates, request.pins, { ...need, expertLayout: layout });
    if (!other.ok) continue;
    const moe = other.ops.find(({ choice }) => choice.candidate.op.covers.includes("moe_up"));
    obey({ ...facts, moeLayout: layout }, model, { kernel: moe?.choice.candidate.kernel.name });
    expertLayout = layout;
    covers = other;
  }
  if (!covers.ok) refuseGap(covers.gap, unfit, facts, model);

  const pages = arenaPages(model, limits);
  const row = speakingRow({ ...facts, moeLayout: expertLayout })!;
  const conversions = plannedConversions({ model, candidates, expertLayout, row });
  const { memory, shared } = plannedMemory({
    model,
    mode,
    limits,
    expertLayout,
    machine,
    device,
    ops: covers.ops.map(({ bucket, choice }) => ({ bucket, op: choice.candidate.op })),
  });
  return {
    model: model.name,
    device,
    mode,
    expertLayout,
    ...limits,
    pages,
    maxRows: maxRows(model, limits),
    workspace: shared,
    ops: covers.ops.map((one) => describe(one, mode, expertLayout)),
    declined: declinedOps(candidates, covers.ops, request.pins, { ...need, expertLayout }),
    conversions,
    memory,
  };
}

/** Layouts that hold the experts' very numbers, best first; then those that would need another number format. */
function expertLayouts(model: ModelFacts, device: "cpu" | "cuda"): [native: Layout[], foreign: Layout[]] {
  const four: Layout[] = device === "cuda" ? ["mxfp4.tiles", "mxfp4.rows"] : ["mxfp4.rows", "mxfp4.tiles"];
  return model.expertFormat === "mxfp4" ? [four, ["bf16.rows"]] : [["bf16.rows"], four];
}

function chooseLimits(model: ModelFacts, machine: MachineFacts, request: PlanRequest): Limits {
  const whole = (name: string, value: number, max: number): number => {
    if (Number.isInteger(value) && value >= 1 && value <= max) return value;
    fail("KL_PLAN_LIMIT", `${name} is ${value}; it has to be a whole number from 1 to ${max}.`, {
      remedy: `Ask for ${name} between 1 and ${max}.`,
    });
  };
  const maxContext = request.maxContext ?? Math.min(model.maxPositions, 8192);
  return {
    maxContext: whole("maxContext", maxContext, model.maxPositions),
    maxSequences: whole("maxSequences", request.maxSequences ?? 8, 1024),
    maxBatchTokens: whole("maxBatchTokens", Math.max(request.maxBatchTokens ?? 512, request.maxSequences ?? 8), 65536),
    workers: whole("workers", request.workers ?? machine.cpu.cores, 1024),
  };
}

/** Lets the matrix speak; a refusal ends the planning. */
function obey(facts: MatrixFacts, model: ModelFacts, details: Record<string, unknown> = {}): void {
  const row = speakingRow(facts);
  if (row?.outcome === "refuse") refuse(row, model, details);
}

function refuse(row: MatrixRow, model: ModelFacts, details: Record<string, unknown>): never {
  const now = model.bytes.experts;
  const then = expertBytes(model, "bf16.rows");
  const prices = { expert_bytes: now, dequantized_bytes: then, extra_bytes: then - now };
  const cost = `; dequantised, they would take ${megabytes(then)} instead of ${megabytes(now)} (${times(then, now)} times)`;
  const priced = row.id === "K1" || row.id === "K1-policy";
  const reason = "kernel" in details ? `${details.kernel}: ${row.reason}` : capital(row.reason);
  fail(row.code ?? "KL_PLAN_UNAVAILABLE", `${reason}${priced ? cost : ""}.`, {
    row: row.id,
    remedy: row.remedy,
    details: priced ? { ...details, ...prices } : details,
  });
}

/** A node that nothing runs: the answer of every op that might have, so that nobody has to guess. */
function refuseGap({ node, answers }: Gap, unfit: Gap["answers"], facts: MatrixFacts, model: ModelFacts): never {
  const all = [...answers, ...unfit].map(({ label, reason }) => ({ label, reason }));
  // Attention that only decodes says nothing about sinks in other steps.
  const relevant = answers.filter(({ about }) => about !== "bucket");
  if (node === "attn" && relevant.length > 0 && relevant.every(({ about }) => about === "feature")) {
    obey({ ...facts, attentionWithoutSinks: true }, model, { answers: all });
  }
  const said = all.map(({ label, reason }) => `${label} ${reason}`);
  fail(
    "KL_PLAN_UNAVAILABLE",
    said.length === 0
      ? `No locked kernel has an op for "${node}".`
      : `No locked kernel runs "${node}" here: ${said.join("; ")}.`,
    {
      remedy: "Lock a kernel that does, or change what was asked for (--kernel, --mode, --device).",
      details: { node, answers: all },
    },
  );
}

const isMoe = ({ node }: Gap): boolean => node === "moe_up" || node === "moe_down";

function describe({ choice, ...where }: Placed, mode: Mode, expertLayout: Layout): PlannedOp {
  const { kernel, op } = choice.candidate;
  return {
    ...where,
    covers: op.covers,
    op: `${op.name}/${op.path}`,
    ...origin(kernel),
    mode,
    layout: op.layouts === undefined ? null : expertLayout,
    reason: choice.reason,
  };
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
const times = (a: number, b: number): string => (a / b).toFixed(2);
