/** Rates, medians, and what a step must take at least. */
import { costOf, type Layout, type OpName } from "@kernlock/kernels/abi";
import { dtypeBytes, type Mode, type ModelFacts, modeTypes } from "@kernlock/policies/compatibility";

/** What a device reaches at best: bytes a second, and operations a second where that is known. */
export interface Ceiling {
  readonly bytes: number;
  readonly operations: number | null;
}

/**
 * Dense bf16 products a second that a good library reaches on a device (docs/performance.md says how that was measured);
 * null for a device on which nobody has measured it.
 */
export const tensorRate = (device: string | null): number | null =>
  device !== null && /H100|H200/.test(device) ? 798e12 : null;

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Seconds that moving and computing so much take at least: whichever is longer. */
export const atLeast = ({ bytes, operations }: { bytes: number; operations: number }, ceiling: Ceiling): number =>
  Math.max(bytes / ceiling.bytes, ceiling.operations === null ? 0 : operations / ceiling.operations);

export interface StepFacts {
  readonly tokens: number;
  /** Rows that sample. */
  readonly rows: number;
  /** Sequences, and the keys that each row of theirs sees in a full layer. For a prompt, 1 and its length. */
  readonly sequences: number;
  readonly context: number;
  /** Mean number of different experts in a layer. */
  readonly experts: number;
}

/**
 * Seconds that one launch of an op takes at least in a step: its weights and its part of the cache, or its operations. What
 * goes from op to op could stay on the chip, and is not counted. The numbers are those of `kernels/abi/costs.ts`. `kind`: of
 * the layer, where that decides about the keys that the op sees.
 */
export type LaunchFloor = (op: OpName, kind?: "full" | "sliding") => number;

export function launchFloors(
  model: ModelFacts,
  mode: Mode,
  layout: Layout,
  step: StepFacts,
  ceiling: Ceiling,
): LaunchFloor {
  const types = modeTypes[mode];
  const common = {
    ...{ tokens: step.tokens, rows: step.rows, layout, expertsUsed: step.experts },
    ...{ hidden: model.hidden, intermediate: model.intermediate, heads: model.heads, kvHeads: model.kvHeads },
    ...{ headDim: model.headDim, experts: model.experts, topK: model.topK, vocab: model.vocab },
    ...{ activation: dtypeBytes[types.activation], stream: dtypeBytes[types.stream], kv: dtypeBytes[types.kv] },
    ...{ read: 0, written: 0, keys: 0, pairs: 0 },
  };
  const keysOf = (kind: "full" | "sliding"): { keys: number; pairs: number } => {
    const window = kind === "full" ? step.context : Math.min(model.slidingWindow, step.context);
    const keys = step.sequences * window;
    if (step.tokens === step.sequences) return { keys, pairs: keys };
    return { keys: step.context, pairs: (window * (window + 1)) / 2 + (step.context - window) * window };
  };
  return (op, kind) => {
    const { weights, cache, operations } = costOf(op, kind === undefined ? common : { ...common, ...keysOf(kind) });
    return atLeast({ bytes: weights + cache, operations }, ceiling);
  };
}

/** Seconds of a whole step at least: of every node. */
export function stepFloor(model: ModelFacts, step: StepFacts, seconds: LaunchFloor): number {
  const attention = step.tokens > step.sequences ? "attn_prefill" : "attn_decode";
  const layers = model.layers.reduce((sum, kind) => sum + seconds(attention, kind), 0);
  const each = (["rmsnorm", "qkv_rope_kv", "o_proj", "rmsnorm", "router", "moe"] as const).reduce(
    (sum, op) => sum + seconds(op),
    0,
  );
  return seconds("embed") + layers + model.layers.length * each + seconds("rmsnorm") + seconds("lm_head");
}

export const fixed = (value: number | null, digits: number): string =>
  value === null || !Number.isFinite(value) ? "-" : value.toFixed(digits);

/** `12,345` */
export const grouped = (value: number | null): string =>
  value === null || !Number.isFinite(value) ? "-" : Math.round(value).toLocaleString("en-US");

export const percent = (value: number | null): string => (value === null ? "-" : `${(100 * value).toFixed(0)} %`);
