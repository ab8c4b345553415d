import { type RopeConfig, ropeTable } from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";

const yarn: RopeConfig = {
  kind: "yarn",
  theta: 150000,
  factor: 32,
  betaFast: 32,
  betaSlow: 1,
  truncate: false,
  originalContext: 4096,
  attentionFactor: null,
};
const table = (headDim: number, rope: Partial<RopeConfig>) => ropeTable({ headDim, rope: { ...yarn, ...rope } });
const relative = (value: number, expected: number): number => Math.abs(value - expected) / expected;

describe("the released models", () => {
  // As Hugging Face transformers computes them.
  it.each([
    [0, 1],
    [8, 0.0508132748],
    [9, 0.0317056962],
    [12, 0.0067949595],
    [17, 1.29318701e-4],
    [18, 3.8308812e-5],
    [31, 3.0235114e-7],
  ])("frequency %i", (i, expected) => {
    expect(relative(table(64, {}).invFreq[i]!, expected)).toBeLessThan(1e-7);
  });

  it("scale", () => {
    expect(table(64, {}).scale).toBe(1.3465735902799727);
    expect(table(64, {}).invFreq).toHaveLength(32);
  });
});

describe("other models", () => {
  it("truncate rounds the ramp's ends to 8 and 18", () => {
    const { invFreq } = table(64, { truncate: true });
    const at = (i: number): number => 150000 ** (-i / 32);
    expect(relative(invFreq[8]!, at(8))).toBeLessThan(1e-7);
    expect(relative(invFreq[18]!, at(18) / 32)).toBeLessThan(1e-7);
    expect(relative(invFreq[13]!, at(13) * (0.5 + 0.5 / 32))).toBeLessThan(1e-7);
  });

  it("another head width", () => {
    const { invFreq } = table(16, {});
    expect(invFreq).toHaveLength(8);
    // Ends of the ramp at 16 ln(4096 / (32 * 2 pi)) / (2 ln 150000) = 2.0232 and 4.3495.
    const ramp = (3 - 2.02319475) / (4.34950625 - 2.02319475);
    expect(relative(invFreq[3]!, 150000 ** (-3 / 8) * (1 - ramp + ramp / 32))).toBeLessThan(1e-6);
    expect(relative(invFreq[5]!, 150000 ** (-5 / 8) / 32)).toBeLessThan(1e-7);
  });

  it("a factor of 1 changes nothing", () => {
    const { invFreq, scale } = table(64, { factor: 1 });
    expect(invFreq).toEqual(table(64, { kind: "default" }).invFreq);
    expect(scale).toBe(1);
  });

  it("an attention factor of its own", () => {
    expect(table(64, { attentionFactor: 1.25 }).scale).toBe(1.25);
  });

  it("a ramp without width", () => {
    expect(table(2, { truncate: true }).invFreq.every(Number.isFinite)).toBe(true);
  });
});
