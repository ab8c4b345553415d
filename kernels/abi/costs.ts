/**
 * What an op has to move and to compute, at least: the one place where that is written down. Benchmarks hold measured
 * times against it, and the floor of a whole step is the sum over its ops.
 *
 * Bytes: every weight that is used is read once, what comes in is read once, what goes out is written once. Operations: a
 * multiplication and an addition are two. Norms, activations and softmaxes are not counted among the operations.
 */
import type { Layout, OpName } from "./ops.ts";

/** Sizes of one launch. What an op does not have may be anything. */
export interface CostSizes {
  readonly tokens: number;
  /** Rows that sample. */
  readonly rows: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly experts: number;
  readonly topK: number;
  readonly vocab: number;
  readonly layout: Layout;
  /** Different experts that the tokens of this launch go to. */
  readonly expertsUsed: number;
  /** Keys that attention reads: over all sequences, those that any of its rows sees. */
  readonly keys: number;
  /** Pairs of a query row and a key that it sees. */
  readonly pairs: number;
  /** Bytes of an element of activations, of the residual stream, of the cache. */
  readonly activation: number;
  readonly stream: number;
  readonly kv: number;
  /** Ops that prepare weights: bytes that they read and write. */
  readonly read: number;
  readonly written: number;
}

export interface Cost {
  /** Bytes of weights. */
  readonly weights: number;
  /** Bytes of the KV cache. */
  readonly cache: number;
  /** Bytes of everything else that goes in or out. */
  readonly values: number;
  readonly operations: number;
}

export const costBytes = ({ weights, cache, values }: Cost): number => weights + cache + values;

/** Bytes of a matrix [out, in] of weights. */
export function matrixBytes(layout: Layout, out: number, columns: number): number {
  switch (layout) {
    case "bf16.rows":
      return 2 * out * columns;
    case "mxfp4.rows":
      return (out * columns * 17) / 32;
    case "mxfp4.tiles":
      return (out / 8) * Math.ceil(columns / 64) * 272;
  }
}

type Formula = (sizes: CostSizes) => Cost;
const bf16 = (count: number): number => 2 * count;

const none: Cost = { weights: 0, cache: 0, values: 0, operations: 0 };
const add = (...parts: readonly Cost[]): Cost =>
  parts.reduce(
    (sum, one) => ({
      weights: sum.weights + one.weights,
      cache: sum.cache + one.cache,
      values: sum.values + one.values,
      operations: sum.operations + one.operations,
    }),
    none,
  );

const norm: Formula = (s) => ({
  ...none,
  weights: bf16(s.hidden),
  values: s.tokens * s.hidden * (s.stream + s.activation),
});

const qkv: Formula = (s) => {
  const out = (s.heads + 2 * s.kvHeads) * s.headDim;
  return {
    weights: bf16(out * s.hidden + out) + 2 * s.headDim,
    cache: s.tokens * 2 * s.kvHeads * s.headDim * s.kv,
    values: s.tokens * (s.hidden + s.heads * s.headDim) * s.activation,
    operations: 2 * s.tokens * out * s.hidden,
  };
};

const attention: Formula = (s) => ({
  weights: bf16(s.heads),
  cache: s.keys * 2 * s.kvHeads * s.headDim * s.kv,
  values: 2 * s.tokens * s.heads * s.headDim * s.activation,
  operations: 4 * s.pairs * s.heads * s.headDim,
});

const outProjection: Formula = (s) => {
  const columns = s.heads * s.headDim;
  return {
    weights: bf16(s.hidden * columns + s.hidden),
    cache: 0,
    values: s.tokens * (columns + s.hidden) * s.activation,
    operations: 2 * s.tokens * s.hidden * columns,
  };
};

/** Reads the stream and writes it, in place of a write of activations. */
const intoStream =
  (of: Formula): Formula =>
  (s) =>
    add(of(s), { ...none, values: s.tokens * s.hidden * (2 * s.stream - s.activation) });

const residual: Formula = (s) => ({ ...none, values: s.tokens * s.hidden * (s.activation + 2 * s.stream) });

const router: Formula = (s) => ({
  weights: bf16(s.experts * s.hidden + s.experts),
  cache: 0,
  values: s.tokens * (s.hidden * s.activation + 8 * s.topK),
  operations: 2 * s.tokens * s.experts * s.hidden,
});

const mixture: Formula = (s) => {
  const one =
    matrixBytes(s.layout, 2 * s.intermediate, s.hidden) +
    matrixBytes(s.layout, s.hidden, s.intermediate) +
    bf16(2 * s.intermediate + s.hidden);
  return {
    weights: s.expertsUsed * one,
    cache: 0,
    values: s.tokens * (2 * s.hidden * s.activation + 8 * s.topK),
    operations: 2 * s.tokens * s.topK * 3 * s.intermediate * s.hidden,
  };
};

const prepare: Formula = (s) => ({ ...none, weights: s.read, values: s.written });

/** After a norm inside the op, its rows need not go out and in again; the stream is read in their place. */
const normed =
  (of: Formula, kept: boolean): Formula =>
  (s) =>
    add(of(s), {
      ...none,
      weights: bf16(s.hidden),
      values: s.tokens * s.hidden * (s.stream - (kept ? 0 : s.activation)),
    });

const formulas: Readonly<Record<OpName, Formula>> = {
  embed: (s) => ({ ...none, weights: bf16(s.tokens * s.hidden), values: s.tokens * (s.hidden * s.stream + 4) }),
  rmsnorm: norm,
  qkv_rope_kv: qkv,
  norm_qkv_rope_kv: normed(qkv, false),
  attn_prefill: attention,
  attn_decode: attention,
  o_proj: outProjection,
  o_proj_residual: intoStream(outProjection),
  residual,
  router,
  norm_router: normed(router, true),
  moe: mixture,
  moe_residual: intoStream(mixture),
  lm_head: (s) => ({
    weights: bf16(s.vocab * s.hidden),
    cache: 0,
    values: s.rows * (s.hidden * s.activation + 4 * s.vocab),
    operations: 2 * s.rows * s.vocab * s.hidden,
  }),
  sample: (s) => ({ ...none, values: s.rows * (4 * s.vocab + 44) }),
  copy_rows: prepare,
  transpose_experts: prepare,
  mxfp4_dequantize: prepare,
  mxfp4_tiles: prepare,
};

export const costOf = (op: OpName, sizes: CostSizes): Cost => formulas[op](sizes);
