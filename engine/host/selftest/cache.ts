import type { Random } from "./random.ts";

/** Keys and values of several sequences in shuffled pages of layout paged64.hnd. */
export interface Cache {
  readonly block_table: Int32Array;
  readonly block_table_stride: number;
  readonly kv: Float32Array;
}

/**
 * Fills a cache for sequences of the given lengths. What no query may see is NaN: unused pages, positions past a length,
 * and, when `firstSeen` says so, whole pages before the first position that is still seen, which the table calls freed.
 */
export function fillCache(
  random: Random,
  { kv_heads, head_dim }: { kv_heads: number; head_dim: number },
  lengths: readonly number[],
  firstSeen: (sequence: number) => number = () => 0,
): Cache {
  const block_table_stride = Math.max(1, ...lengths.map((length) => Math.ceil(length / 64))) + 1;
  const pages = lengths.reduce((sum, length) => sum + Math.ceil(length / 64), 3);
  const numbers = random.shuffled(pages);
  const block_table = new Int32Array(lengths.length * block_table_stride).fill(-1);
  const kv = new Float32Array(pages * 2 * kv_heads * 64 * head_dim).fill(Number.NaN);
  for (const [sequence, length] of lengths.entries()) {
    for (let block = Math.floor(firstSeen(sequence) / 64); block * 64 < length; block++) {
      const page = numbers.pop()!;
      block_table[sequence * block_table_stride + block] = page;
      for (let part = 0; part < 2 * kv_heads; part++) {
        const used = Math.min(64, length - block * 64) * head_dim;
        kv.set(random.normal(used), (page * 2 * kv_heads + part) * 64 * head_dim);
      }
    }
  }
  return { block_table, block_table_stride, kv };
}
