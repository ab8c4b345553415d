import type { Layout } from "@kernlock/kernels/abi";
import { fail, KernlockError } from "@kernlock/kernels/format";
import { type Candidate, candidatesOf, fitsMachine, gpuOf, type Misfit, misfits } from "./candidates.ts";
import { origin, plannedConversions } from "./conversions.ts";
import type { Gap } from "./cover.ts";
import { capabilityNumber, codeFor } from "./gpu.ts";
import { type MatrixFacts, type MatrixRow, speakingRow } from "./matrix.ts";
import { plannedMemory } from "./memory.ts";
import { coverModel, declinedOps, type Placed } from "./model-cover.ts";
import { arenaPages, expertBytes, type Limits, maxRows } from "./sizes.ts";
import type {
  Gpu,
  KernelFacts,
  MachineFacts,
  Mode,
  ModelFacts,
  Plan,
  PlannedDevice,
  PlannedOp,
  PlannedPtx,
  PlanRequest,
} from "./types.ts";

export interface PlanFacts {
  readonly model: ModelFacts;
  readonly machine: MachineFacts;
  readonly kernels: readonly KernelFacts[];
  readonly request: PlanRequest;
}

/**
 * Which op of which kernel runs each node of the model, how its weights are used, and what it all takes; or a refusal.
 * Where any GPU will do, it is the first that can; why the others before it cannot stands in the plan.
 *
 * @throws KL_PLAN_NO_DRIVER, KL_PLAN_PLATFORM, KL_PLAN_GPU, KL_PLAN_DRIVER, KL_PLAN_UNTESTED, KL_PLAN_UNAVAILABLE,
 *   KL_PLAN_CONFLICT, KL_PLAN_DEQUANT_FORBIDDEN, KL_PLAN_LIMIT, KL_PLAN_MEMORY; `row` names the row of the matrix that spoke
 */
export function plan(facts: PlanFacts): Plan {
  const { machine, kernels, request } = facts;
  const lockedCuda = kernels.some(({ descriptor }) => descriptor.backend.kind === "cuda");
  if (request.device === "cpu" || (request.device === "auto" && !lockedCuda)) return planOn(facts, "cpu");
  const gpus = machine.cuda?.devices ?? [];
  const asked = /^cuda:(\d+)$/.exec(request.device)?.[1];
  if (asked !== undefined || gpus.length < 2) {
    const made = planOn(facts, `cuda:${Number(asked ?? 0)}`);
    const text = asked === undefined ? "the only device" : "asked for";
    return {
      ...made,
      devices: gpus.map((gpu, i) => verdict(gpu, i, made.device, `cuda:${i}` === made.device ? text : "not asked for")),
    };
  }
  const refusals: KernlockError[] = [];
  for (const i of gpus.keys()) {
    try {
      const made = planOn(facts, `cuda:${i}`);
      const reasons = [...refusals.map((error) => error.message), "the first device that can run this"];
      return {
        ...made,
        devices: gpus.map((gpu, k) => verdict(gpu, k, made.device, reasons[k] ?? "another device came first")),
      };
    } catch (error) {
      if (!(error instanceof KernlockError)) throw error;
      refusals.push(error);
    }
  }
  const [first] = refusals as [KernlockError];
  const devices = gpus.map((gpu, i) => verdict(gpu, i, null, refusals[i]!.message));
  throw new KernlockError(first.code, first.message, {
    ...(first.remedy === undefined ? {} : { remedy: first.remedy }),
    ...(first.row === undefined ? {} : { row: first.row }),
    details: { ...first.details, devices },
  });
}

const verdict = (gpu: Gpu, i: number, chosen: Plan["device"] | null, reason: string): PlannedDevice => ({
  device: `cuda:${i}`,
  name: gpu.name,
  chosen: `cuda:${i}` === chosen,
  reason,
});

function planOn({ model, machine, kernels, request }: PlanFacts, device: Plan["device"]): Plan {
  const lockedBackends = [...new Set(kernels.map(({ descriptor }) => descriptor.backend.kind))].sort();
  const deviceAsked = request.device.startsWith("cuda") ? "cuda" : (request.device as "auto" | "cpu");
  const kind = device === "cpu" ? "cpu" : "cuda";
  const mode = request.mode ?? (kind === "cpu" ? "f32" : "bf16");
  const limits = chooseLimits(model, machine, request);
  const ours = kernels.filter(({ descriptor }) => descriptor.backend.kind === kind);
  const gpu = kind === "cuda" ? gpuOf(machine, device) : undefined;
  const facts: MatrixFacts = {
    device: kind,
    deviceAsked,
    lockedBackends,
    driver: machine.cuda !== undefined,
    platform: { os: machine.os, arch: machine.arch },
    otherGpus: (machine.otherGpus ?? []).length > 0,
    capability: gpu === undefined ? null : capabilityNumber(gpu.capability),
    misfit: null,
    expertMisfit: null,
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
  const candidates = candidatesOf(
    fitting.filter(({ answer }) => answer.supported).map(({ kernel }) => kernel),
    gpu?.capability ?? null,
  );
  const unfit = fitting.flatMap(({ kernel, answer }): Unfit[] =>
    answer.supported
      ? []
      : [
          {
            kernel,
            label: `${kernel.name} (${kernel.descriptor.variant})`,
            reason: answer.reason,
            about: answer.about,
          },
        ],
  );
  const need = { model, mode, limits };

  const [layouts, foreign] = expertLayouts(model, kind);
  // Of two layouts of the very numbers, the one for which less has to be compiled.
  const compiledFor = (layout: Layout): number => {
    const covered = coverModel(candidates, request.pins, { ...need, expertLayout: layout });
    return covered.ok ? covered.ops.filter(({ choice }) => choice.candidate.ptx !== null).length : 1 << 20;
  };
  const native = candidates.every(({ ptx }) => ptx === null)
    ? layouts
    : layouts.toSorted((a, b) => compiledFor(a) - compiledFor(b));
  let expertLayout = native[0]!;
  let covers = coverModel(candidates, request.pins, { ...need, expertLayout });
  for (const layout of [...native, ...foreign].slice(1)) {
    if (covers.ok || !isMoe(covers.gap)) break;
    const other = coverModel(candidates, request.pins, { ...need, expertLayout: layout });
    if (!other.ok) continue;
    const moe = other.ops.find(({ choice }) => choice.candidate.op.covers.includes("moe_up"));
    const readers = unfit.filter(({ kernel }) =>
      kernel.descriptor.ops.some(
        (op) => op.covers.includes("moe_up") && op.layouts?.some((one) => native.includes(one)),
      ),
    );
    obey({ ...facts, moeLayout: layout, expertMisfit: nearest(readers) }, model, {
      kernel: moe?.choice.candidate.kernel.name,
      ...(readers.length === 0 ? {} : { answers: readers.map(({ label, reason }) => ({ label, reason })) }),
    });
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
    devices: [],
    mode,
    expertLayout,
    ...limits,
    pages,
    maxRows: maxRows(model, limits),
    workspace: shared,
    ops: covers.ops.map((one) => describe(one, mode, expertLayout)),
    declined: declinedOps(candidates, covers.ops, request.pins, { ...need, expertLayout }),
    conversions,
    ptx: plannedPtx(candidates, [...covers.ops.map(({ choice }) => origin(choice.candidate.kernel)), ...conversions]),
    memory,
  };
}

/** Of the variants that are used, those that the driver has to compile first. */
function plannedPtx(
  candidates: readonly Candidate[],
  used: readonly { readonly kernel: string; readonly variant: string }[],
): PlannedPtx[] {
  const compiled = new Map<KernelFacts, string>();
  for (const { kernel, ptx } of candidates) if (ptx !== null) compiled.set(kernel, ptx);
  return [...compiled]
    .map(([kernel, target]) => ({ ...origin(kernel), target, text: ptxText }))
    .filter((one) => used.some(({ kernel, variant }) => kernel === one.kernel && variant === one.variant));
}
/** Of variants that are not planned for but run one by one: what the driver of a device has to compile, where it may. */
export function compiledPtx(
  kernels: readonly KernelFacts[],
  machine: MachineFacts,
  device: Plan["device"],
): PlannedPtx[] {
  const gpu = device === "cpu" ? undefined : gpuOf(machine, device);
  return kernels.flatMap((kernel) => {
    const { backend } = kernel.descriptor;
    if (gpu === undefined || backend.kind !== "cuda" || kernel.permits?.ptx !== true) return [];
    const code = codeFor(backend, gpu.capability);
    return code?.kind === "ptx" ? [{ ...origin(kernel), target: code.target, text: ptxText }] : [];
  });
}
const ptxText = "the driver compiles this PTX on this machine; no digest covers what it makes of it";

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
  const priced = row.id === "K1" || row.id === "K1-policy" || row.id === "K1-device";
  const reason = details.kernel === undefined ? capital(row.reason) : `${details.kernel}: ${row.reason}`;
  const answers = (details.answers as Gap["answers"] | undefined)?.map((one) => `${one.label} ${one.reason}`) ?? [];
  const who = answers.length === 0 ? "" : ` (${answers.join("; ")})`;
  fail(row.code ?? "KL_PLAN_UNAVAILABLE", `${reason}${priced ? cost : ""}${who}.`, {
    row: row.id,
    remedy: row.remedy,
    details: priced ? { ...details, ...prices } : details,
  });
}

/** A variant that does not run on this machine or device, and why. */
type Unfit = Gap["answers"][number] & { readonly kernel: KernelFacts };

/** Of reasons why variants do not run here, the one that is closest to being mended. */
function nearest(unfit: readonly Unfit[]): Misfit | null {
  return misfits.find((misfit) => unfit.some(({ about }) => about === misfit)) ?? null;
}

/** A node that nothing runs: the answer of every op that might have, so that nobody has to guess. */
function refuseGap({ node, answers }: Gap, unfit: readonly Unfit[], facts: MatrixFacts, model: ModelFacts): never {
  const all = [...answers, ...unfit].map(({ label, reason }) => ({ label, reason }));
  // Attention that only decodes says nothing about sinks in other steps.
  const relevant = answers.filter(({ about }) => about !== "bucket");
  if (node === "attn" && relevant.length > 0 && relevant.every(({ about }) => about === "feature")) {
    obey({ ...facts, attentionWithoutSinks: true }, model, { answers: all });
  }
  // Nothing that runs here could have run the node by itself: say what keeps from running here what would.
  const would = unfit.filter(({ kernel }) => kernel.descriptor.ops.some((op) => op.covers.includes(node)));
  if (answers.every(({ about }) => about === "neighbour"))
    obey({ ...facts, misfit: nearest(would) }, model, { node, answers: all });
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
