import { describe, expect, it } from "vitest";
import { buildExperts, expertShapes } from "./experts.ts";
import { check, checkScratch, launch, openOp } from "./harness.ts";

const packages = [
  { name: "megablocks-moe", layout: "bf16.rows" },
  { name: "mxfp4", layout: "mxfp4.rows" },
] as const;

for (const { name, layout } of packages) {
  const [moe, fused] = [await openOp(name, "moe"), await openOp(name, "moe_residual")];
  describe(`mixture of experts of ${name}`, () => {
    it.each(expertShapes)("%j", (shape) => {
      const { stream, ...args } = buildExperts(shape, layout);
      check(moe, "moe", args);
      check(fused, "moe_residual", { ...args, stream });
    });

    it("all tokens to one expert", () => {
      const { stream: _, ...args } = buildExperts({ ...expertShapes[2]!, tokens: 130, holes: [] }, layout);
      args.expert_ids.fill(3);
      check(moe, "moe", args);
    });

    it("gives a row the same bits alone and among others, when it says so", () => {
      const { stream: _, ...args } = buildExperts({ ...expertShapes[3]!, tokens: 40, holes: [] }, layout);
      const together = launch(moe, "moe", args).out!;
      const row = 21;
      const alone = launch(moe, "moe", {
        ...{ ...args, tokens: 1, row_seq: [0], x: args.x.subarray(row * 96, (row + 1) * 96) },
        expert_ids: args.expert_ids.subarray(row * 2, row * 2 + 2),
        expert_weights: args.expert_weights.subarray(row * 2, row * 2 + 2),
      }).out!;
      const same = alone.every((value, i) => Object.is(value, together[row * 96 + i]));
      if (moe.facts.features.includes("batch_invariant")) expect(same).toBe(true);
    });

    it("refuses scratch that is too small", () => {
      checkScratch(moe, "moe", buildExperts(expertShapes[3]!, layout));
      checkScratch(fused, "moe_residual", buildExperts(expertShapes[3]!, layout));
    });

    it("refuses the other layout", () => {
      const args = buildExperts(expertShapes[0]!, layout === "bf16.rows" ? "mxfp4.rows" : "bf16.rows");
      const details = expect.objectContaining({ status: "UNSUPPORTED" });
      expect(() => launch(moe, "moe", args)).toThrow(expect.objectContaining({ code: "KL_OP_FAILED", details }));
    });
  });
}
