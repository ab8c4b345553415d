/** Causal attention with sinks over the paged cache, in double precision. */
import { unwritten } from "../reference/numbers.ts";
import type { Reference, ReferenceArgs } from "../reference/types.ts";

/** Positions of one page of the cache. */
const page = 64;

type Args = Omit<ReferenceArgs<"attn_decode">, "max_context">;

/** Rows of sequence s are query_start[s] up to query_start[s + 1]; the last of them sits at position context[s] - 1. */
export const attnPrefill: Reference<"attn_prefill"> = (args) => {
  const out = unwritten(args.tokens * args.heads * args.head_dim);
  for (let sequence = 0; sequence < args.seqs; sequence++) {
    const [begin, end] = [args.query_start[sequence]!, args.query_start[sequence + 1]!];
    const context = args.context[sequence]!;
    if (context === 0) continue;
    for (let row = begin; row < end; row++) attend(args, out, row, sequence, context - (end - row));
  }
  return { out };
};

export const attnDecode: Reference<"attn_decode"> = (args) => {
  const out = unwritten(args.tokens * args.heads * args.head_dim);
  for (let row = 0; row < args.seqs; row++) {
    if (args.context[row]! > 0) attend(args, out, row, row, args.context[row]! - 1);
  }
  return { out };
};

/** Every head of one query at `position`: keys max(0, position + 1 - window) to position; the sink is one more logit. */
function attend(args: Args, out: Float64Array, row: number, sequence: number, position: number): void {
  const { heads, kv_heads, head_dim, window, scale, block_table, block_table_stride, q, kv, sinks } = args;
  const first = window === 0 ? 0 : Math.max(0, position + 1 - window);
  for (let head = 0; head < heads; head++) {
    const kvHead = Math.floor(head / (heads / kv_heads));
    const at = (part: 0 | 1, key: number) => {
      const number = block_table[sequence * block_table_stride + Math.floor(key / page)]!;
      return (((number * 2 + part) * kv_heads + kvHead) * page + (key % page)) * head_dim;
    };
    const query = (row * heads + head) * head_dim;
    const logits: number[] = [];
    for (let key = first; key <= position; key++) {
      const offset = at(0, key);
      let dot = 0;
      for (let i = 0; i < head_dim; i++) dot += q[query + i]! * kv[offset + i]!;
      logits.push(dot * scale);
    }
    const largest = logits.reduce((a, b) => Math.max(a, b), sinks[head]!);
    const weights = logits.map((logit) => Math.exp(logit - largest));
    const total = weights.reduce((a, b) => a + b, Math.exp(sinks[head]! - largest));
    out.fill(0, query, query + head_dim);
    for (const [i, weight] of weights.entries()) {
      const offset = at(1, first + i);
      for (let d = 0; d < head_dim; d++) out[query + d]! += (weight / total) * kv[offset + d]!;
    }
  }
}
