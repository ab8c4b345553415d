/** RMSNorm in double precision: x / sqrt(mean(x^2) + eps) * weight. */
import { liveRows, unwritten } from "../reference/numbers.ts";
import type { Reference } from "../reference/types.ts";

export const rmsnorm: Reference<"rmsnorm"> = ({ tokens, hidden, eps, row_seq, x, weight }) => {
  const out = unwritten(tokens * hidden);
  for (const t of liveRows(tokens, row_seq)) {
    let squares = 0;
    for (let i = 0; i < hidden; i++) squares += x[t * hidden + i]! ** 2;
    const factor = 1 / Math.sqrt(squares / hidden + eps);
    for (let i = 0; i < hidden; i++) out[t * hidden + i] = x[t * hidden + i]! * factor * weight[i]!;
  }
  return { out };
};
