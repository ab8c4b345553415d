/**
 * Random inputs for every op, in shapes that separate bugs: one row and many, odd counts, rows that are not there, windows,
 * freed pages, ranges of experts. Values that nothing may read are NaN. Arrays are as the references take them.
 */
import { type Layout, layouts, type OpName } from "@kernlock/kernels/abi";
import type { ReferenceArgs } from "@kernlock/kernels/reference";
import { fillCache } from "./cache.ts";
import { type Random, seeded } from "./random.ts";

export interface Case<N extends OpName = OpName> {
  readonly label: string;
  readonly args: ReferenceArgs<N>;
}
type Make = { readonly [N in OpName]: (random: Random, layout: Layout) => Case<N>[] };

/** Every case of an op. `layout`: how experts are to be stored; `mxfp4.tiles` is described by the rows it is made from. */
export function casesOf<N extends OpName>(op: N, seed: number, layout: Layout = "bf16.rows"): Case<N>[] {
  return (make[op] as (random: Random, layout: Layout) => Case<N>[])(seeded(seed), layout);
}

/** Tokens of a launch: one, few (what is made for decode), an odd number, and more than any tile. */
const counts = [1, 3, 8, 33, 130];
const hidden = 192;
const eps = 1e-5;

/** One sequence a row; in launches of several rows, one in the middle is not there. */
function rows(tokens: number): Int32Array {
  const hole = tokens > 2 ? tokens >> 1 : -1;
  return Int32Array.from({ length: tokens }, (_, row) => (row === hole ? -1 : row));
}

function masked(values: Float32Array, present: ArrayLike<number>): Float32Array {
  const width = values.length / present.length;
  for (let row = 0; row < present.length; row++) {
    if (present[row]! < 0) values.fill(Number.NaN, row * width, (row + 1) * width);
  }
  return values;
}

function projection(random: Random, tokens: number, inFeatures: number, outFeatures: number, bias: boolean) {
  const row_seq = rows(tokens);
  return {
    ...{ tokens, in_features: inFeatures, out_features: outFeatures, row_seq },
    x: masked(random.normal(tokens * inFeatures), row_seq),
    weight: random.bf16(inFeatures * outFeatures, 0.1),
    bias: bias ? random.bf16(outFeatures) : null,
  };
}

function qkv(random: Random, tokens: number) {
  const shape = { hidden, heads: 8, kv_heads: 2, head_dim: 64 };
  const row_seq = rows(tokens);
  // Positions on both sides of page borders, and past YaRN's original 4,096.
  const positions = Int32Array.from({ length: tokens }, (_, row) => [0, 63, 64, 127, 200, 5000][row % 6]! + (row >> 3));
  const cache = fillCache(
    random,
    shape,
    Array.from(positions, (position) => position + 1),
  );
  const out = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
  return {
    ...{ tokens, ...shape, rope_scale: Math.fround(0.1 * Math.log(32) + 1), ...cache, row_seq, positions },
    x: masked(random.normal(tokens * hidden), row_seq),
    weight: random.bf16(out * hidden, 0.1),
    bias: random.bf16(out),
    inv_freq: Float32Array.from({ length: 32 }, (_, i) => 150000 ** (-i / 32)),
  };
}

function routing(random: Random, tokens: number) {
  const row_seq = rows(tokens);
  return {
    ...{ tokens, hidden, experts: 32, top_k: 4, row_seq },
    x: masked(random.normal(tokens * hidden), row_seq),
    weight: random.bf16(32 * hidden, 0.1),
    bias: random.bf16(32),
  };
}

function attention(random: Random, contexts: readonly number[], queries: readonly number[], window: number) {
  const [heads, kv_heads, head_dim] = [8, 2, 64];
  const tokens = queries.reduce((sum, count) => sum + count, 0);
  const seen = (s: number): number => (window === 0 ? 0 : Math.max(0, contexts[s]! - queries[s]! - window + 1));
  const present = queries.flatMap((count, s) => Array<number>(count).fill(contexts[s] === 0 ? -1 : s));
  return {
    ...{ tokens, seqs: contexts.length, max_context: 2 ** Math.ceil(Math.log2(Math.max(64, ...contexts))) },
    ...{ heads, kv_heads, head_dim, window, scale: 1 / Math.sqrt(head_dim) },
    ...fillCache(random, { kv_heads, head_dim }, contexts, seen),
    context: Int32Array.from(contexts),
    q: masked(random.normal(tokens * heads * head_dim, 2), present),
    sinks: random.bf16(heads, 2),
  };
}

function experts(random: Random, tokens: number, range: readonly [number, number] | null, layout: Layout) {
  const [count, intermediate, top_k] = [8, 320, 4];
  const [expert_begin, expert_end] = range ?? [0, count];
  const held = expert_end - expert_begin;
  const row_seq = rows(tokens);
  const ids = Array.from({ length: tokens }, () => random.shuffled(count).slice(0, top_k));
  const [up, down] = [held * 2 * intermediate * hidden, held * hidden * intermediate];
  const weights = Float32Array.from({ length: tokens * top_k }, () => random.next());
  return {
    ...{
      tokens,
      hidden,
      intermediate,
      experts: count,
      top_k,
      expert_begin,
      expert_end,
      partial: range === null ? 0 : 1,
    },
    ...{ layout: layouts[layout], alpha: Math.fround(1.702), limit: 7, row_seq },
    x: masked(random.normal(tokens * hidden), row_seq),
    expert_ids: Int32Array.from(ids.flatMap((row, t) => (row_seq[t]! < 0 ? row.map(() => 1 << 30) : row))),
    expert_weights: masked(weights, row_seq),
    up_bias: random.bf16(held * 2 * intermediate),
    down_bias: random.bf16(held * hidden),
    ...(layout === "bf16.rows"
      ? { up_weight: random.bf16(up, 0.3), up_scales: null, down_weight: random.bf16(down, 0.1), down_scales: null }
      : {
          up_weight: random.bytes(up / 2),
          up_scales: random.bytes(up / 32, 121, 125),
          down_weight: random.bytes(down / 2),
          down_scales: random.bytes(down / 32, 114, 124),
        }),
  };
}

const byCount = <T>(of: (tokens: number) => T): { label: string; args: T }[] =>
  counts.map((tokens) => ({ label: `${tokens} rows`, args: of(tokens) }));

/** A residual stream. Rows that are not there hold numbers, so that whoever adds something to them (NaN, say) shows. */
const stream = (random: Random, row_seq: ArrayLike<number>): Float32Array => random.normal(row_seq.length * hidden, 4);

const expertCases = (random: Random, layout: Layout) => [
  ...counts.map((tokens) => ({ label: `${tokens} rows, ${layout}`, args: experts(random, tokens, null, layout) })),
  { label: `experts 2 to 4 of 8, partial, ${layout}`, args: experts(random, 5, [2, 5], layout) },
];

const decodeCases = (random: Random) =>
  [
    { contexts: [1], window: 0 },
    { contexts: [1, 63, 64, 65, 0, 129, 700, 5], window: 0 },
    { contexts: [200, 0, 127, 128, 129, 1, 1000, 64], window: 128 },
    { contexts: [4200], window: 0 },
  ].map(({ contexts, window }) => ({
    label: `contexts ${contexts.join(" ")}, window ${window}`,
    args: attention(
      random,
      contexts,
      contexts.map(() => 1),
      window,
    ),
  }));

const make: Make = {
  embed: (random) =>
    byCount((tokens) => ({
      ...{ tokens, hidden, vocab: 1000, row_seq: rows(tokens) },
      token_ids: Int32Array.from(rows(tokens), (row) => (row < 0 ? 1 << 30 : random.below(1000))),
      weight: random.bf16(1000 * hidden),
    })),
  rmsnorm: (random) =>
    byCount((tokens) => {
      const row_seq = rows(tokens);
      const x = masked(stream(random, row_seq), row_seq);
      return { tokens, hidden, eps, row_seq, x, weight: random.bf16(hidden) };
    }),
  qkv_rope_kv: (random) => byCount((tokens) => qkv(random, tokens)),
  norm_qkv_rope_kv: (random) =>
    byCount((tokens) => ({ ...qkv(random, tokens), eps, norm_weight: random.bf16(hidden) })),
  attn_prefill: (random) =>
    [
      { contexts: [5], queries: [5], window: 0 },
      { contexts: [130, 1, 65, 300], queries: [130, 1, 3, 70], window: 0 },
      { contexts: [300, 200, 129], queries: [44, 200, 1], window: 128 },
    ].map(({ contexts, queries, window }) => ({
      label: `queries ${queries.join(" ")} of contexts ${contexts.join(" ")}, window ${window}`,
      args: {
        ...attention(random, contexts, queries, window),
        query_start: Int32Array.from([0, ...queries.map((_, i) => queries.slice(0, i + 1).reduce((a, b) => a + b))]),
      },
    })),
  attn_decode: decodeCases,
  o_proj: (random) => byCount((tokens) => projection(random, tokens, 256, hidden, tokens !== 3)),
  o_proj_residual: (random) =>
    byCount((tokens) => ({
      ...projection(random, tokens, 256, hidden, tokens !== 3),
      stream: stream(random, rows(tokens)),
    })),
  residual: (random) =>
    byCount((tokens) => {
      const row_seq = rows(tokens);
      const x = masked(random.normal(tokens * hidden), row_seq);
      return { tokens, hidden, row_seq, x, stream: stream(random, row_seq) };
    }),
  router: (random) => byCount((tokens) => routing(random, tokens)),
  norm_router: (random) => byCount((tokens) => ({ ...routing(random, tokens), eps, norm_weight: random.bf16(hidden) })),
  moe: expertCases,
  moe_residual: (random, layout) =>
    expertCases(random, layout).map(({ label, args }) => ({
      label,
      args: { ...args, stream: stream(random, args.row_seq) },
    })),
  lm_head: (random) =>
    [1, 5, 70].map((count) => ({
      label: `${count} rows`,
      args: {
        ...{ rows: count, hidden, vocab: 1000 },
        sample_rows: Int32Array.from({ length: count }, (_, i) => (count > 2 && i === 1 ? -1 : 2 * i)),
        x: random.normal(2 * count * hidden),
        weight: random.bf16(1000 * hidden, 0.1),
      },
    })),
  sample: (random) =>
    [1, 7].map((count) => ({
      label: `${count} rows`,
      args: {
        ...{ rows: count, vocab: 1000 },
        sample_rows: Int32Array.from({ length: count }, (_, i) => (i === 2 ? -1 : i)),
        logits: random.normal(count * 1000, 3),
        temperature: Float32Array.from({ length: count }, (_, i) => [0, 1, 1, 0.7, 1.5, 1, 0.9][i % 7]!),
        top_p: Float32Array.from({ length: count }, (_, i) => [1, 1, 1, 0.9, 1, 0.5, 0.8][i % 7]!),
        top_k: Int32Array.from({ length: count }, (_, i) => [0, 0, 0, 0, 40, 0, 20][i % 7]!),
        seeds: BigUint64Array.from(
          { length: count },
          (_, i) => (BigInt(i) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn,
        ),
        counters: BigUint64Array.from({ length: count }, (_, i) => BigInt(i * 7)),
      },
    })),
  copy_rows: (random) =>
    [
      [1, 2, 2, 2],
      [37, 96, 128, 96],
      [300, 384, 384, 512],
    ].map(([count = 0, width = 0, from = 0, to = 0]) => ({
      label: `${count} rows of ${width} bytes`,
      args: { rows: count, row_bytes: width, src_stride: from, dst_stride: to, src: random.bytes(count * from) },
    })),
  transpose_experts: (random) =>
    [
      [1, 32, 64],
      [3, 96, 160],
    ].map(([count = 0, down = 0, across = 0]) => ({
      label: `${count} of ${down} by ${across}`,
      args: { experts: count, rows: down, columns: across, src: random.bf16(count * down * across) },
    })),
  mxfp4_dequantize: (random) => codes(random),
  mxfp4_tiles: (random) => codes(random),
};

const codes = (random: Random) =>
  [
    [8, 64],
    [24, 320],
    [64, 96],
  ].map(([count = 0, columns = 0]) => ({
    label: `${count} rows of ${columns}`,
    args: {
      ...{ rows: count, columns },
      blocks: random.bytes((count * columns) / 2),
      scales: random.bytes((count * columns) / 32, 100, 140),
    },
  }));
