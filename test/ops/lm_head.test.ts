import { it } from "vitest";
import { check, openOp } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("transformer-core", "lm_head");

it.each([
  [1, [0], 64, 1000],
  [5, [4, -1, 0, 2, 2], 96, 1001],
  [20, Array.from({ length: 17 }, (_, i) => (i === 8 ? -1 : 19 - i)), 544, 333],
  [2, [-1, -1], 32, 7],
])("%i rows of x, samples %j, hidden %i, vocabulary %i", (tokens, rows, hidden, vocab) => {
  const random = seeded(vocab);
  const x = random.normal(tokens * hidden);
  for (let t = 0; t < tokens; t++) if (!rows.includes(t)) x.fill(Number.NaN, t * hidden, (t + 1) * hidden);
  const weight = random.bf16(vocab * hidden, 0.1);
  check(under, "lm_head", { rows: rows.length, hidden, vocab, sample_rows: rows, x, weight });
});
