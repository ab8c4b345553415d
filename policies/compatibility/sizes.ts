/**
 * Every size that follows from a model and its limits. The planner adds them up, the engine allocates by them: one place,
 * so that the plan cannot be wrong about what the engine does.
 */
import type { Dim, Dtype, Layout } from "@kernlock/kernels/abi";
import type { LayerKind, Mode, ModelFacts } from "./types.ts";

/** Positions of a KV page (layout paged64.hnd). */
export const pageTokens = 64;

export interface ModeTypes {
  readonly activation: Dtype;
  readonly stream: Dtype;
  readonly kv: Dtype;
}

/**
 * Element types of each mode. `q8` quantises inside ops; between them it is f32. In `bf16` the residual stream is f32: it is
 * small, every op that adds to it takes it so, and near-ties of experts flip less often.
 */
export const modeTypes: Readonly<Record<Mode, ModeTypes>> = {
  f32: { activation: "f32", stream: "f32", kv: "f32" },
  bf16: { activation: "bf16", stream: "f32", kv: "bf16" },
  q8: { activation: "f32", stream: "f32", kv: "f32" },
};

export const dtypeBytes: Readonly<Record<Dtype, number>> = { f32: 4, bf16: 2, u8: 1, i32: 4, i64: 8 };

export interface Limits {
  readonly maxContext: number;
  readonly maxSequences: number;
  readonly maxBatchTokens: number;
  readonly workers: number;
}

/** The bucket a size falls into: the next power of two. */
export const bucketOf = (size: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, size)));

/** Rows of logits in one step: as many as 64 MiB hold, but never fewer than there are sequences. */
export function maxRows(model: ModelFacts, limits: Limits): number {
  const fit = 2 ** Math.floor(Math.log2(Math.max(1, (64 << 20) / (4 * model.vocab))));
  return Math.min(bucketOf(limits.maxBatchTokens), Math.max(bucketOf(limits.maxSequences), fit));
}

/** Pages that one sequence of `tokens` tokens may hold at once in a layer group. */
export function pagesPerSequence(kind: LayerKind, model: ModelFacts, limits: Limits, tokens: number): number {
  const all = Math.ceil(tokens / pageTokens);
  if (kind === "full") return all;
  // The last window - 1 keys and one chunk of new ones; one page more, since they need not begin at a page's edge.
  return Math.min(all, Math.ceil((model.slidingWindow - 1 + limits.maxBatchTokens) / pageTokens) + 1);
}

export function arenaPages(model: ModelFacts, limits: Limits): Record<LayerKind, number> {
  const pages = (kind: LayerKind): number =>
    model.layers.includes(kind) ? limits.maxSequences * pagesPerSequence(kind, model, limits, limits.maxContext) : 0;
  return { full: pages("full"), sliding: pages("sliding") };
}

/** Bytes of one page of one layer: keys and values. */
export const pageBytes = (model: ModelFacts, mode: Mode): number =>
  2 * model.kvHeads * pageTokens * model.headDim * dtypeBytes[modeTypes[mode].kv];

export function kvBytes(model: ModelFacts, mode: Mode, limits: Limits): number {
  const pages = arenaPages(model, limits);
  return model.layers.reduce((sum, kind) => sum + pages[kind] * pageBytes(model, mode), 0);
}

/** What the experts' matrices take in a layout, scales and all, over all layers. */
export function expertBytes(model: ModelFacts, layout: Layout): number {
  const matrices = [
    { rows: 2 * model.intermediate, columns: model.hidden },
    { rows: model.hidden, columns: model.intermediate },
  ];
  const bytes = ({ rows, columns }: { rows: number; columns: number }): number => {
    switch (layout) {
      case "bf16.rows":
        return rows * columns * 2;
      case "mxfp4.rows":
        return rows * (columns / 32) * 17;
      case "mxfp4.tiles":
        return (rows / 8) * Math.ceil(columns / 64) * 272;
    }
  };
  return model.layers.length * model.experts * matrices.reduce((sum, matrix) => sum + bytes(matrix), 0);
}

/** Values of every size that variant.json may name, at the largest step of a kind. */
export function stepDims(model: ModelFacts, limits: Limits, tokens: number): Record<Dim, number> {
  return {
    tokens,
    seqs: bucketOf(limits.maxSequences),
    rows: maxRows(model, limits),
    max_context: bucketOf(Math.max(limits.maxContext, pageTokens)),
    workers: limits.workers,
    hidden: model.hidden,
    intermediate: model.intermediate,
    heads: model.heads,
    kv_heads: model.kvHeads,
    head_dim: model.headDim,
    experts: model.experts,
    top_k: model.topK,
    vocab: model.vocab,
  };
}

/** What a step's launches are made for. */
export interface StepSizes {
  readonly tokens: number;
  readonly seqs: number;
  /** Rows that sample; may be 0. */
  readonly rows: number;
  /** Entries of a sequence's block table. */
  readonly pages: number;
}

/** Arrays that a step's inputs or results consist of: element bytes and counts, by name. */
type Arrays = Readonly<Record<string, readonly [elementBytes: number, count: number]>>;

/** Written by TypeScript before a step. */
const inputArrays = ({ tokens, seqs, rows, pages }: StepSizes) =>
  ({
    token_ids: [4, tokens],
    row_seq: [4, tokens],
    positions: [4, tokens],
    context: [4, seqs],
    query_start: [4, seqs + 1],
    block_table_full: [4, seqs * pages],
    block_table_sliding: [4, seqs * pages],
    sample_rows: [4, rows],
    temperature: [4, rows],
    top_p: [4, rows],
    top_k: [4, rows],
    seeds: [8, rows],
    counters: [8, rows],
  }) as const satisfies Arrays;

/** Read by TypeScript after a step. */
const resultArrays = ({ rows }: StepSizes) => ({ sampled: [4, rows], logprobs: [4, rows] }) as const satisfies Arrays;

export interface PackedLayout<N extends string> {
  /** Where each array begins. */
  readonly offsets: Readonly<Record<N, number>>;
  readonly bytes: number;
}

/** Arrays one after another, each at a multiple of 64 bytes, so that one copy moves them all. */
function packed<A extends Arrays>(arrays: A): PackedLayout<keyof A & string> {
  let bytes = 0;
  const offsets: Record<string, number> = {};
  for (const [name, [element, count]] of Object.entries(arrays)) {
    offsets[name] = bytes;
    bytes += Math.ceil((element * count) / 64) * 64;
  }
  return { offsets: offsets as Record<keyof A & string, number>, bytes };
}

export const inputLayout = (sizes: StepSizes) => packed(inputArrays(sizes));
export const resultLayout = (sizes: StepSizes) => packed(resultArrays(sizes));
export type InputName = keyof ReturnType<typeof inputLayout>["offsets"];
export type ResultName = keyof ReturnType<typeof resultLayout>["offsets"];

/** Sets of step inputs and results: one is filled or read while the device works on the other. */
export const stepSlots = 2;

/** Buffers of the largest step, by name: bytes of each. */
export function bufferBytes(model: ModelFacts, mode: Mode, limits: Limits) {
  const tokens = bucketOf(limits.maxBatchTokens);
  const rows = maxRows(model, limits);
  const act = dtypeBytes[modeTypes[mode].activation];
  const pages = Math.ceil(limits.maxContext / pageTokens);
  const largest = { tokens, seqs: bucketOf(limits.maxSequences), rows, pages };
  return {
    inputs: stepSlots * inputLayout(largest).bytes,
    results: stepSlots * resultLayout(largest).bytes,
    // Between ops.
    stream: dtypeBytes[modeTypes[mode].stream] * tokens * model.hidden,
    normed: act * tokens * model.hidden,
    q: act * tokens * model.heads * model.headDim,
    attended: act * tokens * model.heads * model.headDim,
    branch: act * tokens * model.hidden,
    expert_ids: 4 * tokens * model.topK,
    expert_weights: 4 * tokens * model.topK,
    logits: 4 * rows * model.vocab,
  } as const satisfies Record<string, number>;
}
export type BufferName = Exclude<keyof ReturnType<typeof bufferBytes>, "inputs" | "results">;
