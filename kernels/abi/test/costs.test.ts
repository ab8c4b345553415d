import { describe, expect, it } from "vitest";
import { type CostSizes, costBytes, costOf, matrixBytes, opNames } from "../index.ts";

/** gpt-oss-20b, one token at a context of 1,024, bf16. */
const decode: CostSizes = {
  ...{ tokens: 1, rows: 1, hidden: 2880, intermediate: 2880, heads: 64, kvHeads: 8, headDim: 64 },
  ...{ experts: 32, topK: 4, vocab: 201088, layout: "mxfp4.rows", expertsUsed: 4, keys: 1024, pairs: 1024 },
  ...{ activation: 2, stream: 4, kv: 2, read: 10, written: 20 },
};

describe("costs", () => {
  it("are those of the shape that everybody knows", () => {
    expect(costOf("qkv_rope_kv", decode).weights / 1e6).toBeCloseTo(29.5, 1);
    expect(costOf("o_proj", decode).weights / 1e6).toBeCloseTo(23.6, 1);
    expect(costOf("moe", decode).weights / 1e6).toBeCloseTo(52.9, 1);
    expect(costOf("lm_head", decode).weights / 1e6).toBeCloseTo(1158.3, 1);
    // 2 KiB a token and layer.
    expect(costOf("attn_decode", decode).cache).toBe(1024 * 2048);
    expect(costOf("qkv_rope_kv", decode).cache).toBe(2048);
    expect(costOf("lm_head", decode).operations).toBe(2 * 201088 * 2880);
    expect(costOf("moe", { ...decode, tokens: 8 }).operations).toBe(8 * costOf("moe", decode).operations);
  });

  it("of a fused op are no more than those of its parts", () => {
    const bytes = (op: Parameters<typeof costOf>[0]): number => costBytes(costOf(op, decode));
    expect(bytes("norm_qkv_rope_kv")).toBeLessThan(bytes("rmsnorm") + bytes("qkv_rope_kv"));
    expect(bytes("norm_router")).toBeLessThan(bytes("rmsnorm") + bytes("router"));
    expect(bytes("o_proj_residual")).toBeLessThan(bytes("o_proj") + bytes("residual"));
    expect(bytes("moe_residual")).toBeLessThan(bytes("moe") + bytes("residual"));
  });

  it("exist for every op and are numbers", () => {
    for (const op of opNames) {
      const cost = costOf(op, decode);
      expect(costBytes(cost), op).toBeGreaterThan(0);
      expect(
        Object.values(cost).every((value) => Number.isFinite(value) && value >= 0),
        op,
      ).toBe(true);
    }
    expect(matrixBytes("mxfp4.tiles", 8, 65)).toBe(2 * 272);
  });
});
