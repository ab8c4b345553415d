/** The mixture of experts in double precision, on bf16 experts; mxfp4/reference.ts gives it other weights. */
import { liveRows, unwritten } from "../reference/numbers.ts";
import type { Reference, ReferenceArgs } from "../reference/types.ts";
import { add } from "../transformer-core/reference.ts";

/** Dot products of an expert's weight rows; `expert` counts from the first one held here. */
export interface ExpertWeights {
  up(expert: number, row: number, x: Float64Array): number;
  down(expert: number, row: number, x: Float64Array): number;
}

type Args = Omit<ReferenceArgs<"moe">, "up_weight" | "up_scales" | "down_weight" | "down_scales">;

/** out[t] = sum over the chosen experts held here of p * (W2 h + b2), h = SwiGLU(W1 x + b1); gate rows of W1 are even. */
export function mixture(args: Args, weights: ExpertWeights): Float64Array {
  const { tokens, hidden, intermediate, top_k, expert_begin, expert_end, alpha, limit } = args;
  const out = unwritten(tokens * hidden);
  for (const t of liveRows(tokens, args.row_seq)) {
    const x = Float64Array.from({ length: hidden }, (_, i) => args.x[t * hidden + i]!);
    const sum = new Float64Array(hidden);
    for (let choice = 0; choice < top_k; choice++) {
      const id = args.expert_ids[t * top_k + choice]!;
      if (id < expert_begin || id >= expert_end) continue;
      const expert = id - expert_begin;
      const row = (i: number) => weights.up(expert, i, x) + args.up_bias[expert * 2 * intermediate + i]!;
      const h = Float64Array.from({ length: intermediate }, (_, i) => swiglu(row(2 * i), row(2 * i + 1), alpha, limit));
      const p = args.expert_weights[t * top_k + choice]!;
      for (let i = 0; i < hidden; i++) {
        sum[i]! += p * (weights.down(expert, i, h) + args.down_bias[expert * hidden + i]!);
      }
    }
    out.set(sum, t * hidden);
  }
  return out;
}

/** (up + 1) gate sigmoid(alpha gate), gate clamped from above and up from both sides. */
export function swiglu(gate: number, up: number, alpha: number, limit: number): number {
  const g = Math.min(gate, limit);
  const u = Math.max(-limit, Math.min(up, limit));
  return ((u + 1) * g) / (1 + Math.exp(-alpha * g));
}

const bf16Weights = (args: ReferenceArgs<"moe">): ExpertWeights => ({
  up: (expert, row, x) => dotAt(args.up_weight, (expert * 2 * args.intermediate + row) * args.hidden, x),
  down: (expert, row, x) => dotAt(args.down_weight, (expert * args.hidden + row) * args.intermediate, x),
});

function dotAt(weight: ArrayLike<number>, at: number, x: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += weight[at + i]! * x[i]!;
  return sum;
}

export const moe: Reference<"moe"> = (args) => ({ out: mixture(args, bf16Weights(args)) });

export const moeResidual: Reference<"moe_residual"> = (args) => ({
  stream: add(args.stream, mixture(args, bf16Weights(args))),
});

export const transposeExperts: Reference<"transpose_experts"> = ({ experts, rows, columns, src }) => {
  const dst = unwritten(experts * rows * columns);
  for (let e = 0; e < experts; e++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) dst[(e * columns + j) * rows + i] = src[(e * rows + i) * columns + j]!;
    }
  }
  return { dst };
};
