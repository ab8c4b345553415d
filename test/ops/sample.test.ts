import { describe, expect, it } from "vitest";
import { uniform } from "../../kernels/reference/index.ts";
import { check, launch, openOp } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("transformer-core", "sample");

/** Rows of logits, each sampled with its own parameters and number. */
function build(
  vocab: number,
  draws: { temperature: number; top_p?: number; top_k?: number; there?: boolean }[],
  seed = 1,
) {
  const random = seeded(seed);
  const rows = draws.length;
  const logits = random.normal(rows * vocab, 3);
  for (const [r, { there }] of draws.entries())
    if (there === false) logits.fill(Number.NaN, r * vocab, (r + 1) * vocab);
  return {
    ...{ rows, vocab, logits },
    sample_rows: draws.map(({ there }, r) => (there === false ? -1 : r)),
    temperature: draws.map(({ temperature }) => temperature),
    top_p: draws.map(({ top_p = 1 }) => top_p),
    top_k: draws.map(({ top_k = 0 }) => top_k),
    seeds: BigUint64Array.from(draws, (_, r) => BigInt(seed) * 0x9e3779b97f4a7c15n + BigInt(r)),
    counters: BigUint64Array.from(draws, (_, r) => (BigInt(r) << 33n) + 5n),
  };
}
const times = <T>(count: number, value: T): T[] => new Array(count).fill(value);

describe("sampling", () => {
  it.each([1000, 1001, 3, 1])("greedy, vocabulary %i", (vocab) => {
    check(
      under,
      "sample",
      build(vocab, [{ temperature: 0 }, { temperature: 0, there: false }, { temperature: 0, top_p: 0.1, top_k: 3 }]),
    );
  });
  it("greedy takes the lowest id on ties", () => {
    const args = { ...build(1001, [{ temperature: 0 }]), logits: new Float32Array(1001) };
    args.logits[700] = args.logits[333] = 2;
    expect(check(under, "sample", args).token_ids![0]).toBe(333);
  });
  it.each([
    ["the whole vocabulary", { temperature: 1 }],
    ["hot", { temperature: 2.5 }],
    ["cold", { temperature: 0.05 }],
    ["top k", { temperature: 1, top_k: 5 }],
    ["top k of one", { temperature: 1, top_k: 1 }],
    ["top k beyond the vocabulary", { temperature: 1, top_k: 5000 }],
    ["top p", { temperature: 1, top_p: Math.fround(0.8) }],
    ["a tiny top p", { temperature: 1, top_p: Math.fround(1e-6) }],
    ["top k and top p", { temperature: 1.5, top_k: 20, top_p: Math.fround(0.3) }],
  ])("%s: the reference's tokens", (_, draw) => {
    check(under, "sample", build(1001, [...times(40, draw), { ...draw, there: false }, ...times(20, draw)], 3));
  });
  it("breaks ties of candidates by id", () => {
    const args = { ...build(64, times(50, { temperature: 1, top_k: 7, top_p: Math.fround(0.7) })) };
    check(under, "sample", { ...args, logits: args.logits.map(Math.round) });
  });
  it("gives the same token for the same seed and counter, whatever the row, and others for others", () => {
    const args = build(1000, times(30, { temperature: 3 }));
    const row = args.logits.slice(0, 1000);
    const logits = Float32Array.from({ length: 30_000 }, (_, i) => row[i % 1000]!);
    const same = { ...args, logits, seeds: new BigUint64Array(30).fill(9n), counters: new BigUint64Array(30).fill(4n) };
    expect(new Set(launch(under, "sample", same).token_ids).size).toBe(1);
    expect(new Set(launch(under, "sample", { ...same, counters: args.counters }).token_ids).size).toBeGreaterThan(5);
    expect(new Set(launch(under, "sample", { ...same, seeds: args.seeds }).token_ids).size).toBeGreaterThan(5);
  });
  it("follows the distribution", () => {
    const rows = 4000;
    const args = build(4, times(rows, { temperature: 1 }));
    const logits = Float32Array.from({ length: rows * 4 }, (_, i) => Math.log([0.5, 0.1, 0.15, 0.25][i % 4]!));
    const counts = [0, 0, 0, 0];
    for (const id of launch(under, "sample", { ...args, logits }).token_ids!) counts[id]!++;
    for (const [i, share] of [0.5, 0.1, 0.15, 0.25].entries())
      expect(Math.abs(counts[i]! / rows - share)).toBeLessThan(0.03);
    expect(uniform(args.seeds[0]!, args.counters[0]!)).toBeLessThan(1);
  });
  it("refuses logits that are NaN, and parameters out of range", () => {
    const args = build(10, [{ temperature: 1 }]);
    const failed = expect.objectContaining({ code: "KL_OP_FAILED" });
    expect(() => launch(under, "sample", { ...args, logits: new Float32Array(10).fill(Number.NaN) })).toThrow(failed);
    expect(() => launch(under, "sample", { ...args, temperature: [-1] })).toThrow(failed);
    expect(() => launch(under, "sample", { ...args, top_k: [-1] })).toThrow(failed);
  });
});
