import { describe, expect, it } from "vitest";
import { check, launch, openOp, rowsWithHoles, withHoles } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("transformer-core", "router");

describe("router", () => {
  for (const experts of [1, 5, 8, 32, 128]) {
    const choices = experts < 9 ? Array.from({ length: experts }, (_, i) => i + 1) : [1, 4, 7, experts];
    it.each(choices)(`${experts} experts, %i chosen`, (top_k) => {
      const random = seeded(experts * 100 + top_k);
      const [tokens, hidden] = [7, 96];
      const row_seq = rowsWithHoles(tokens, 2);
      const x = withHoles(random.normal(tokens * hidden), row_seq);
      const [weight, bias] = [random.bf16(experts * hidden, 0.2), random.bf16(experts)];
      check(under, "router", { tokens, hidden, experts, top_k, row_seq, x, weight, bias });
    });
  }

  it("takes the lowest id first on ties", () => {
    const args = { tokens: 1, hidden: 32, experts: 6, top_k: 4, row_seq: [0], x: new Float32Array(32) };
    const out = check(under, "router", { ...args, weight: new Float32Array(6 * 32), bias: [0, 1, 0, 1, 0, -1] });
    expect(Array.from(out.expert_ids!)).toEqual([1, 3, 0, 2]);
  });

  it("refuses to choose more experts than there are", () => {
    const args = { tokens: 1, hidden: 32, experts: 2, top_k: 3, row_seq: [0], x: new Float32Array(32) };
    expect(() => launch(under, "router", { ...args, weight: new Float32Array(64), bias: [0, 0] })).toThrow(
      expect.objectContaining({ code: "KL_OP_FAILED" }),
    );
  });
});
