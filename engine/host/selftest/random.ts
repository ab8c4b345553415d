import { roundBf16 } from "@kernlock/kernels/reference";

/** A small seeded generator (mulberry32), so that the same seed gives the same numbers everywhere. */
export interface Random {
  /** In [0, 1). */
  next(): number;
  /** A whole number in [0, below). */
  below(below: number): number;
  /** `count` values of about normal distribution. */
  normal(count: number, deviation?: number): Float32Array;
  /** The same, each a bf16 value. */
  bf16(count: number, deviation?: number): Float32Array;
  /** `count` bytes in [from, to]. */
  bytes(count: number, from?: number, to?: number): Uint8Array;
  /** A permutation of 0 .. count - 1. */
  shuffled(count: number): number[];
}

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  // Four uniforms have a sum of variance 1/3; its tails are short, which no op here minds.
  const one = () => (next() + next() + next() + next() - 2) * Math.sqrt(3);
  const normal = (count: number, deviation = 1) => {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = one() * deviation;
    return out;
  };
  return {
    next,
    below,
    normal,
    bf16: (count, deviation) => normal(count, deviation).map(roundBf16),
    bytes: (count, from = 0, to = 255) => Uint8Array.from({ length: count }, () => from + below(to - from + 1)),
    shuffled(count) {
      const out = Array.from({ length: count }, (_, i) => i);
      for (let i = count - 1; i > 0; i--) {
        const j = below(i + 1);
        [out[i], out[j]] = [out[j]!, out[i]!];
      }
      return out;
    },
  };
}
