/** The references themselves, held against published numbers and against cases small enough to work out by hand. */
import { describe, expect, it } from "vitest";
import { choose } from "../../transformer-core/reference.ts";
import { fromBf16, philox4x32, references, toBf16, uniform } from "../index.ts";

describe("Philox4x32-10", () => {
  // Known answers of the Random123 distribution.
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const)("counter %j, key %j", (counter, key, answer) => {
    expect(philox4x32([...counter], [...key])).toEqual([...answer]);
  });
  it("gives a number in [0, 1) of 24 bits", () => {
    expect(uniform(0n, 0n)).toBe((0x6627e8d5 >>> 8) / 2 ** 24);
    expect(uniform(7n, 1n)).not.toBe(uniform(7n, 2n));
    expect(uniform(2n ** 64n - 1n, 2n ** 63n)).toBeLessThan(1);
  });
});

describe("bf16", () => {
  it("rounds to nearest, ties to even", () => {
    expect(fromBf16(toBf16(1 + 1 / 256))).toBe(1);
    expect(fromBf16(toBf16(1 + 3 / 256))).toBe(1 + 4 / 256);
    expect(fromBf16(toBf16(1 + 1 / 256 + 2 ** -40))).toBe(1 + 2 / 256);
    expect(fromBf16(toBf16(-1e39))).toBe(Number.NEGATIVE_INFINITY);
    expect(toBf16(Number.NaN)).toBe(0x7fc0);
    for (let pattern = 0; pattern < 0x7f80; pattern += 7) expect(toBf16(fromBf16(pattern))).toBe(pattern);
  });
});

describe("sampling", () => {
  const logits = Float64Array.from([0.5, 0.25, 0.125, 0.125], Math.log);
  const draw = (u: number, options = {}) => choose(logits, { temperature: 1, top_p: 1, top_k: 0, ...options }, u);
  it("walks the falling order", () => {
    expect([0, 0.49, 0.51, 0.74, 0.76, 0.9, 0.999999].map((u) => draw(u))).toEqual([0, 0, 1, 1, 2, 3, 3]);
  });
  it("keeps the top k, then the shortest prefix that reaches top p", () => {
    expect(draw(0.999, { top_k: 1 })).toBe(0);
    expect(draw(0.65, { top_k: 2 })).toBe(0);
    expect(draw(0.67, { top_k: 2 })).toBe(1);
    expect(draw(0.999, { top_p: 0.6 })).toBe(1);
    expect(draw(0.999, { top_p: 0 })).toBe(0);
  });
  it("is greedy at temperature 0, lowest id first", () => {
    expect(choose(Float64Array.from([1, 3, 3]), { temperature: 0, top_p: 1, top_k: 0 }, 0.99)).toBe(1);
  });
});

describe("attention", () => {
  const kv = new Float64Array(2 * 64 * 2).fill(Number.NaN);
  kv.set([1, 0, 0, 1], 0);
  kv.set([10, 20, 30, 40], 128);
  const args = {
    ...{ tokens: 1, seqs: 1, max_context: 2, heads: 1, kv_heads: 1, head_dim: 2, scale: 1, block_table_stride: 1 },
    ...{ context: [2], block_table: [0], q: [0, 0], kv, sinks: [0] },
  };
  it("gives the sink its share and no value", () => {
    expect(Array.from(references.attn_decode({ ...args, window: 0 }).out)).toEqual(
      [40 / 3, 20].map((v) => expect.closeTo(v)),
    );
  });
  it("sees as many keys as the window says", () => {
    expect(Array.from(references.attn_decode({ ...args, window: 1 }).out)).toEqual(
      [15, 20].map((v) => expect.closeTo(v)),
    );
  });
});

describe("MXFP4", () => {
  it("reads the low nibble first and scales by powers of two", () => {
    const blocks = new Uint8Array(16);
    blocks.set([0x21, 0x97, 0x08]);
    const { dst } = references.mxfp4_dequantize({ rows: 1, columns: 32, blocks, scales: [128] });
    expect(Array.from(dst.subarray(0, 6))).toEqual([1, 2, 12, -1, -0, 0]);
  });
});
