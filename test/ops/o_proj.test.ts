import { describe, expect, it } from "vitest";
import { check, launch, openOp, rowsWithHoles, withHoles } from "./harness.ts";
import { seeded } from "./random.ts";

function build(tokens: number, in_features: number, out_features: number, holes: number[] = []) {
  const random = seeded(tokens + in_features);
  const row_seq = rowsWithHoles(tokens, ...holes);
  const x = withHoles(random.normal(tokens * in_features), row_seq);
  const weight = random.bf16(out_features * in_features, 0.1);
  return { tokens, in_features, out_features, row_seq, x, weight, bias: random.bf16(out_features), random };
}
const shapes: [number, number, number, number[]][] = [
  [1, 64, 32, []],
  [1, 4096, 2880, []],
  [3, 96, 33, [1]],
  [7, 128, 96, [0, 6]],
  [97, 544, 160, [50]],
  [4, 32, 1, [0, 1, 2, 3]],
];

const under = await openOp("transformer-core", "o_proj");
const fused = await openOp("transformer-core", "o_proj_residual");

describe("o_proj", () => {
  it.each(shapes)("%i tokens, %i -> %i, without rows %j", (...shape) => {
    const { random: _, ...args } = build(...shape);
    check(under, "o_proj", args);
    check(under, "o_proj", { ...args, bias: null });
  });

  it("gives a row the same bits alone and among others, when it says so", () => {
    const { random: _, ...args } = build(67, 1056, 65);
    const together = launch(under, "o_proj", args).out!;
    for (const row of [0, 33, 66]) {
      const x = args.x.subarray(row * 1056, (row + 1) * 1056);
      const alone = launch(under, "o_proj", { ...args, tokens: 1, row_seq: [0], x }).out!;
      const same = Buffer.compare(
        Buffer.from(alone.buffer),
        Buffer.from(together.slice(row * 65, (row + 1) * 65).buffer),
      );
      if (under.facts.features.includes("batch_invariant")) expect(same).toBe(0);
    }
  });
});

describe("o_proj_residual", () => {
  it.each(shapes)("%i tokens, %i -> %i, without rows %j", (...shape) => {
    const { random, ...args } = build(...shape);
    const stream = withHoles(random.normal(args.tokens * args.out_features, 3), args.row_seq);
    check(fused, "o_proj_residual", { ...args, stream });
  });
});
