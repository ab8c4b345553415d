/** The ops of transformer-core in double precision: what each is to compute, not how. */
import { dotRow, fallingOrder, linear, liveRows, logSumExp, rowOf, unwritten } from "../reference/numbers.ts";
import { uniform } from "../reference/philox.ts";
import type { Reference, ReferenceArgs } from "../reference/types.ts";

/** Positions of one page of the cache. */
const page = 64;

export const embed: Reference<"embed"> = ({ tokens, hidden, row_seq, token_ids, weight }) => {
  const out = unwritten(tokens * hidden);
  for (const t of liveRows(tokens, row_seq)) out.set(rowOf(weight, token_ids[t]!, hidden), t * hidden);
  return { out };
};

/** Where [K or V][kv head][position][0] of a sequence lies in a layer's cache, layout paged64.hnd. */
function cacheOffset(
  {
    block_table,
    block_table_stride,
    kv_heads,
    head_dim,
  }: Pick<ReferenceArgs<"qkv_rope_kv">, "block_table" | "block_table_stride" | "kv_heads" | "head_dim">,
  sequence: number,
  part: 0 | 1,
  head: number,
  position: number,
): number {
  const number = block_table[sequence * block_table_stride + Math.floor(position / page)]!;
  return (((number * 2 + part) * kv_heads + head) * page + (position % page)) * head_dim;
}

/**
 * Half-split rotation of one head by its position: with the halves a and b, (a cos - b sin, b cos + a sin).
 * The angle is rounded to f32, as the trained model has it: at large positions the rounding is part of the model.
 */
function rotate(head: Float64Array, position: number, inverse: ArrayLike<number>, scale: number): Float64Array {
  const half = head.length / 2;
  const out = new Float64Array(head.length);
  for (let i = 0; i < half; i++) {
    const angle = Math.fround(position * inverse[i]!);
    const [cos, sin] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
    const [a, b] = [head[i]!, head[half + i]!];
    out[i] = a * cos - b * sin;
    out[half + i] = b * cos + a * sin;
  }
  return out;
}

export const qkvRopeKv: Reference<"qkv_rope_kv"> = (args) => {
  const { tokens, hidden, heads, kv_heads, head_dim, rope_scale, row_seq, positions, inv_freq } = args;
  const q = unwritten(tokens * heads * head_dim);
  const kv = Float64Array.from(args.kv);
  for (const t of liveRows(tokens, row_seq)) {
    const position = positions[t]!;
    const all = linear(rowOf(args.x, t, hidden), args.weight, (heads + 2 * kv_heads) * head_dim, args.bias);
    for (let head = 0; head < heads + 2 * kv_heads; head++) {
      const values = rowOf(all, head, head_dim);
      if (head < heads) {
        q.set(rotate(values, position, inv_freq, rope_scale), (t * heads + head) * head_dim);
      } else if (head < heads + kv_heads) {
        const rotated = rotate(values, position, inv_freq, rope_scale);
        kv.set(rotated, cacheOffset(args, row_seq[t]!, 0, head - heads, position));
      } else {
        kv.set(values, cacheOffset(args, row_seq[t]!, 1, head - heads - kv_heads, position));
      }
    }
  }
  return { q, kv };
};

export const oProj: Reference<"o_proj"> = ({ tokens, in_features, out_features, row_seq, x, weight, bias }) => {
  const out = unwritten(tokens * out_features);
  for (const t of liveRows(tokens, row_seq)) {
    out.set(linear(rowOf(x, t, in_features), weight, out_features, bias), t * out_features);
  }
  return { out };
};

export const oProjResidual: Reference<"o_proj_residual"> = (args) => ({
  stream: add(args.stream, oProj(args).out),
});

export const residual: Reference<"residual"> = ({ tokens, hidden, row_seq, x, stream }) => {
  const out = Float64Array.from(stream);
  for (const t of liveRows(tokens, row_seq)) {
    for (let i = t * hidden; i < (t + 1) * hidden; i++) out[i]! += x[i]!;
  }
  return { stream: out };
};

/** stream + x where x was written. */
export const add = (stream: ArrayLike<number>, x: Float64Array): Float64Array =>
  x.map((value, i) => (Number.isNaN(value) ? stream[i]! : stream[i]! + value));

export const router: Reference<"router"> = ({ tokens, hidden, experts, top_k, row_seq, x, weight, bias }) => {
  const expert_ids = unwritten(tokens * top_k);
  const expert_weights = unwritten(tokens * top_k);
  for (const t of liveRows(tokens, row_seq)) {
    const logits = linear(rowOf(x, t, hidden), weight, experts, bias);
    const chosen = fallingOrder(logits).slice(0, top_k);
    const total = logSumExp(chosen.map((e) => logits[e]!));
    expert_ids.set(chosen, t * top_k);
    expert_weights.set(
      chosen.map((e) => Math.exp(logits[e]! - total)),
      t * top_k,
    );
  }
  return { expert_ids, expert_weights };
};

export const lmHead: Reference<"lm_head"> = ({ rows, hidden, vocab, sample_rows, x, weight }) => {
  const logits = unwritten(rows * vocab);
  for (const r of liveRows(rows, sample_rows)) {
    const row = rowOf(x, sample_rows[r]!, hidden);
    for (let id = 0; id < vocab; id++) logits[r * vocab + id] = dotRow(weight, id, row);
  }
  return { logits };
};

export const sample: Reference<"sample"> = (args) => {
  const { rows, vocab, sample_rows, temperature, top_p, top_k, seeds, counters } = args;
  const token_ids = unwritten(rows);
  const logprobs = unwritten(rows);
  for (const r of liveRows(rows, sample_rows)) {
    const logits = rowOf(args.logits, r, vocab);
    const draw = { temperature: temperature[r]!, top_p: top_p[r]!, top_k: top_k[r]! };
    const id = choose(logits, draw, uniform(seeds[r]!, counters[r]!));
    token_ids[r] = id;
    logprobs[r] = logits[id]! - logSumExp(logits);
  }
  return { token_ids, logprobs, next_token_ids: token_ids.slice() };
};

/**
 * Candidates are the `top_k` likeliest tokens of softmax(logits / temperature), then of those the shortest prefix, at least
 * one, whose probabilities (of the whole softmax) sum to `top_p`. The token is the first candidate at which the running sum
 * exceeds u times the candidates' sum.
 */
export function choose(
  logits: Float64Array,
  { temperature, top_p, top_k }: { temperature: number; top_p: number; top_k: number },
  u: number,
): number {
  const order = fallingOrder(logits);
  if (temperature === 0) return order[0]!;
  const scaled = logits.map((logit) => logit / temperature);
  const total = logSumExp(scaled);
  const limited = top_k > 0 ? order.slice(0, top_k) : order;
  const kept: { id: number; sum: number }[] = [];
  let sum = 0;
  for (const id of limited) {
    sum += Math.exp(scaled[id]! - total);
    kept.push({ id, sum });
    if (top_p < 1 && sum >= top_p) break;
  }
  return (kept.find((candidate) => candidate.sum > u * sum) ?? kept.at(-1)!).id;
}

export const copyRows: Reference<"copy_rows"> = ({ rows, row_bytes, src_stride, dst_stride, src }) => {
  const dst = unwritten(rows * dst_stride);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < row_bytes; i++) dst[row * dst_stride + i] = src[row * src_stride + i]!;
  }
  return { dst };
};
