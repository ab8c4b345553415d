import { describe, expect, it } from "vitest";
import { fillCache } from "./cache.ts";
import { check, launch, openOp } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("transformer-core", "qkv_rope_kv");
const scale = Math.fround(0.1 * Math.log(32) + 1);

function build(
  positionsOf: number[][],
  shape: { hidden: number; heads: number; kv_heads: number; head_dim: number },
  padding: number,
) {
  const random = seeded(shape.hidden + padding);
  const { hidden, heads, kv_heads, head_dim } = shape;
  const rows = positionsOf.flatMap((positions, sequence) => positions.map((position) => ({ sequence, position })));
  const tokens = rows.length + padding;
  // Rows that are not there stand in the middle, with positions and inputs that must not be used.
  const at = Array.from({ length: tokens }, (_, t) =>
    t >= 1 && t <= padding ? undefined : rows[t === 0 ? 0 : t - padding],
  );
  const x = random.normal(tokens * hidden);
  for (let t = 1; t <= padding; t++) x.fill(Number.NaN, t * hidden, (t + 1) * hidden);
  const cache = fillCache(
    random,
    shape,
    positionsOf.map((positions) => Math.max(...positions) + 1),
  );
  const out = (heads + 2 * kv_heads) * head_dim;
  return {
    ...{ tokens, ...shape, rope_scale: scale, ...cache, x },
    row_seq: Int32Array.from(at, (row) => row?.sequence ?? -1),
    positions: Int32Array.from(at, (row) => row?.position ?? -7),
    weight: random.bf16(out * hidden, 0.1),
    bias: random.bf16(out),
    inv_freq: Float32Array.from({ length: head_dim / 2 }, (_, i) => 150000 ** ((-2 * i) / head_dim)),
  };
}

describe("q, k and v, rotated and cached", () => {
  it.each([
    ["one decode row", [[0]], { hidden: 64, heads: 8, kv_heads: 2, head_dim: 16 }, 0],
    [
      "rows across a page border",
      [[62, 63, 64, 65], [127], [128]],
      { hidden: 96, heads: 6, kv_heads: 3, head_dim: 16 },
      1,
    ],
    [
      "positions past 4096",
      [
        [4095, 4096],
        [5000, 5001, 5002],
      ],
      { hidden: 64, heads: 8, kv_heads: 1, head_dim: 64 },
      2,
    ],
    ["heads of 32", [[7]], { hidden: 32, heads: 4, kv_heads: 4, head_dim: 32 }, 0],
    ["many rows", [Array.from({ length: 131 }, (_, i) => i)], { hidden: 96, heads: 8, kv_heads: 2, head_dim: 16 }, 3],
  ])("%s", (_, positions, shape, padding) => {
    check(under, "qkv_rope_kv", build(positions, shape, padding));
  });

  it("refuses to write into a page that was freed", () => {
    const args = build([[3]], { hidden: 32, heads: 2, kv_heads: 1, head_dim: 16 }, 0);
    args.block_table.fill(-1);
    expect(() => launch(under, "qkv_rope_kv", args)).toThrow(expect.objectContaining({ code: "KL_OP_FAILED" }));
  });
});
