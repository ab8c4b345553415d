import { describe, expect, it } from "vitest";
import { fillCache } from "./cache.ts";
import { check, checkScratch, launch, openOp } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("fa3-sinks", "attn_decode");

function build(contexts: number[], window: number, heads: number, kv_heads: number, head_dim: number) {
  const random = seeded(heads * 1000 + contexts.length);
  const seqs = contexts.length;
  const q = random.normal(seqs * heads * head_dim, 2);
  for (const [row, context] of contexts.entries()) {
    if (context === 0) q.fill(Number.NaN, row * heads * head_dim, (row + 1) * heads * head_dim);
  }
  return {
    ...{ tokens: seqs, seqs, max_context: Math.max(...contexts) + 5, heads, kv_heads, head_dim, window, q },
    ...fillCache(random, { kv_heads, head_dim }, contexts, (s) =>
      window === 0 ? 0 : Math.max(0, contexts[s]! - window),
    ),
    scale: 1 / Math.sqrt(head_dim),
    context: Int32Array.from(contexts),
    sinks: random.bf16(heads, 2),
  };
}

describe("decode attention with sinks", () => {
  it.each([
    ["page borders", [1, 63, 64, 65, 128, 129], 0],
    ["a sequence that is not there", [70, 0, 5], 0],
    ["a window of 8 and freed pages", [1, 7, 8, 9, 64, 71, 72, 73, 200, 0, 128], 8],
    ["a window of 128", [127, 128, 129, 191, 192, 193, 700], 128],
    ["a window longer than everything", [3, 100], 1000],
    ["a long context", [4097, 2], 0],
  ])("%s", (_, contexts, window) => {
    for (const [heads, kvHeads, width] of [
      [8, 2, 16],
      [6, 3, 64],
      [4, 4, 32],
      [8, 1, 64],
    ] as const) {
      check(under, "attn_decode", build(contexts, window, heads, kvHeads, width));
    }
  });

  it("takes sinks that outweigh everything, and ones that weigh nothing", () => {
    for (const sink of [60, -60]) {
      const args = build([33, 1], 0, 8, 2, 16);
      check(under, "attn_decode", { ...args, sinks: new Float32Array(8).fill(sink) });
    }
  });

  it("gives a row the same bits alone and among others", () => {
    if (!under.facts.features.includes("batch_invariant"))
      return expect(under.facts.features).not.toContain("batch_invariant");
    const args = build([300, 5, 77], 0, 8, 2, 16);
    const together = launch(under, "attn_decode", args).out!.subarray(0, 8 * 16);
    const alone = launch(under, "attn_decode", {
      ...args,
      tokens: 1,
      seqs: 1,
      max_context: 300,
      context: [300],
      q: args.q.subarray(0, 8 * 16),
    });
    expect(alone.out).toEqual(together);
    return undefined;
  });

  it("refuses scratch that is too small", () => {
    if (under.facts.workspace.scratch.length > 0) checkScratch(under, "attn_decode", build([300, 5], 0, 8, 2, 16));
  });
});
