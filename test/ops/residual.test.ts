import { it } from "vitest";
import { check, openOp, rowsWithHoles, withHoles } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("transformer-core", "residual");

it.each([
  [1, 32],
  [6, 96],
  [35, 2880],
])("%i tokens, hidden %i", (tokens, hidden) => {
  const random = seeded(tokens);
  const row_seq = rowsWithHoles(tokens, 3, 4);
  const [x, stream] = [1, 2].map(() => withHoles(random.normal(tokens * hidden), row_seq)) as [
    Float32Array,
    Float32Array,
  ];
  check(under, "residual", { tokens, hidden, row_seq, x, stream }, { tolerance: 1e-7 });
});
