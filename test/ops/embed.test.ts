import { expect, it } from "vitest";
import { check, launch, openOp, rowsWithHoles } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("transformer-core", "embed");

it.each([
  [1, 64, 17],
  [5, 96, 1001],
  [33, 2880, 40],
])("%i tokens, hidden %i, vocabulary %i", (tokens, hidden, vocab) => {
  const random = seeded(tokens);
  const row_seq = rowsWithHoles(tokens, 2, 4);
  const token_ids = Int32Array.from({ length: tokens }, (_, t) => (row_seq[t]! < 0 ? 1 << 30 : random.below(vocab)));
  token_ids[0] = vocab - 1;
  const weight = random.bf16(vocab * hidden);
  check(under, "embed", { tokens, hidden, vocab, row_seq, token_ids, weight }, { tolerance: 0 });
});

it.each([-1, 17])("refuses token id %i", (id) => {
  const args = { tokens: 1, hidden: 32, vocab: 17, row_seq: [0], token_ids: [id], weight: new Float32Array(17 * 32) };
  expect(() => launch(under, "embed", args)).toThrow(expect.objectContaining({ code: "KL_OP_FAILED" }));
});
