import { it } from "vitest";
import { check, openOp, rowsWithHoles, withHoles } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("liger-rmsnorm", "rmsnorm");

it.each([
  [1, 32, 1],
  [5, 96, 1e-3],
  [37, 2880, 100],
])("%i tokens, hidden %i, deviation %f", (tokens, hidden, deviation) => {
  const random = seeded(hidden);
  const row_seq = rowsWithHoles(tokens, 1, 17);
  const x = withHoles(random.normal(tokens * hidden, deviation), row_seq);
  x.fill(0, 0, 32);
  check(under, "rmsnorm", { tokens, hidden, eps: 1e-5, row_seq, x, weight: random.bf16(hidden) }, { tolerance: 1e-6 });
});
