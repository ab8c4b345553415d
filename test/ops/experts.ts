import { layouts } from "@kernlock/kernels/abi";
import { rowsWithHoles, withHoles } from "./harness.ts";
import { seeded } from "./random.ts";

export interface ExpertsShape {
  readonly tokens: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly experts: number;
  readonly top_k: number;
  readonly expert_begin?: number;
  readonly expert_end?: number;
  readonly partial?: number;
  readonly holes?: number[];
}

/** Shapes that separate bugs: widths off the usual tiles, every top_k, ranges of experts, idle and crowded experts. */
export const expertShapes: readonly ExpertsShape[] = [
  { tokens: 1, hidden: 64, intermediate: 96, experts: 8, top_k: 2 },
  { tokens: 1, hidden: 32, intermediate: 32, experts: 1, top_k: 1 },
  ...[1, 2, 3, 4, 5].map((top_k) => ({ tokens: 7, hidden: 96, intermediate: 64, experts: 5, top_k, holes: [3] })),
  { tokens: 61, hidden: 64, intermediate: 96, experts: 3, top_k: 2, holes: [0, 60] },
  { tokens: 5, hidden: 96, intermediate: 32, experts: 6, top_k: 3, expert_begin: 2, expert_end: 5, partial: 1 },
  { tokens: 3, hidden: 64, intermediate: 64, experts: 128, top_k: 4 },
  { tokens: 4, hidden: 544, intermediate: 352, experts: 4, top_k: 2 },
  { tokens: 3, hidden: 32, intermediate: 32, experts: 4, top_k: 2, holes: [0, 1, 2] },
];

/** Arguments of `moe` with weights in one layout; deviations are such that both clamps bite. */
export function buildExperts(shape: ExpertsShape, layout: "bf16.rows" | "mxfp4.rows") {
  const { tokens, hidden, intermediate, experts, top_k, expert_begin = 0, expert_end = experts, partial = 0 } = shape;
  const random = seeded(tokens * 1000 + hidden + top_k);
  const row_seq = rowsWithHoles(tokens, ...(shape.holes ?? []));
  const held = expert_end - expert_begin;
  const [up, down] = [held * 2 * intermediate * hidden, held * hidden * intermediate];
  const ids = Array.from({ length: tokens }, () => random.shuffled(experts).slice(0, top_k));
  const weights = Float32Array.from({ length: tokens * top_k }, () => random.next());
  return {
    ...{ tokens, hidden, intermediate, experts, top_k, expert_begin, expert_end, partial },
    ...{ layout: layouts[layout], alpha: Math.fround(1.702), limit: 7, row_seq },
    x: withHoles(random.normal(tokens * hidden), row_seq),
    expert_ids: Int32Array.from(ids.flatMap((row, t) => (row_seq[t]! < 0 ? row.map(() => 1 << 30) : row))),
    expert_weights: withHoles(weights, row_seq),
    up_bias: random.bf16(held * 2 * intermediate),
    down_bias: random.bf16(held * hidden),
    ...(layout === "bf16.rows"
      ? { up_weight: random.bf16(up, 0.5), up_scales: null, down_weight: random.bf16(down, 0.1), down_scales: null }
      : {
          up_weight: random.bytes(up / 2),
          up_scales: random.bytes(up / 32, 122, 126),
          down_weight: random.bytes(down / 2),
          down_scales: random.bytes(down / 32, 110, 128),
        }),
    /** For `moe_residual`. */
    stream: withHoles(random.normal(tokens * hidden, 10), row_seq),
  };
}
