import { describe, expect, it } from "vitest";
import { fillCache } from "./cache.ts";
import { check, checkScratch, openOp } from "./harness.ts";
import { seeded } from "./random.ts";

const under = await openOp("fa3-sinks", "attn_prefill");

/** Sequences of `context` keys whose last `rows` positions are queries; `padding` rows at the end belong to nobody. */
function build(
  sequences: { context: number; rows: number }[],
  window: number,
  [heads, kv_heads, head_dim]: readonly [number, number, number] = [8, 2, 16],
  padding = 0,
) {
  const random = seeded(sequences.length * 100 + window);
  const query_start = Int32Array.from([0, ...sequences.map(({ rows }) => rows)]);
  for (let s = 1; s < query_start.length; s++) query_start[s]! += query_start[s - 1]!;
  const live = query_start.at(-1)!;
  const tokens = live + padding;
  const q = random.normal(tokens * heads * head_dim, 2);
  q.fill(Number.NaN, live * heads * head_dim);
  const contexts = sequences.map(({ context }) => context);
  const first = (s: number) => (window === 0 ? 0 : Math.max(0, contexts[s]! - sequences[s]!.rows + 1 - window));
  return {
    ...{ tokens, seqs: contexts.length, max_context: Math.max(...contexts), heads, kv_heads, head_dim, window, q },
    ...fillCache(random, { kv_heads, head_dim }, contexts, first),
    scale: 1 / Math.sqrt(head_dim),
    context: Int32Array.from(contexts),
    sinks: random.bf16(heads, 2),
    query_start,
  };
}

describe("prefill attention with sinks", () => {
  it.each([
    ["one row", [{ context: 1, rows: 1 }], 0],
    ["whole prompts at page borders", [63, 64, 65].map((context) => ({ context, rows: context })), 0],
    [
      "chunks after a prefix",
      [
        { context: 200, rows: 73 },
        { context: 64, rows: 1 },
        { context: 130, rows: 66 },
      ],
      0,
    ],
    [
      "an empty sequence in the middle",
      [
        { context: 9, rows: 9 },
        { context: 0, rows: 0 },
        { context: 3, rows: 2 },
      ],
      0,
    ],
    [
      "a window of 8 and freed pages",
      [
        { context: 41, rows: 41 },
        { context: 300, rows: 5 },
        { context: 136, rows: 64 },
      ],
      8,
    ],
    [
      "a window of 128 inside a chunk",
      [
        { context: 300, rows: 300 },
        { context: 257, rows: 3 },
      ],
      128,
    ],
    ["a window of 1", [{ context: 66, rows: 66 }], 1],
  ])("%s", (_, sequences, window) => {
    check(under, "attn_prefill", build(sequences, window));
    check(under, "attn_prefill", build(sequences, window, [6, 3, 64], 3));
  });

  it("groups query heads contiguously", () => {
    check(under, "attn_prefill", build([{ context: 17, rows: 17 }], 0, [8, 1, 32]));
    check(under, "attn_prefill", build([{ context: 17, rows: 17 }], 0, [12, 3, 16]));
    check(under, "attn_prefill", build([{ context: 17, rows: 17 }], 0, [5, 5, 16]));
  });

  it("agrees with decode on single rows", async () => {
    const decode = await openOp("fa3-sinks", "attn_decode");
    const args = build(
      [
        { context: 77, rows: 1 },
        { context: 200, rows: 1 },
      ],
      32,
    );
    const { query_start: _, ...single } = args;
    const [a, b] = [check(under, "attn_prefill", args).out!, check(decode, "attn_decode", single).out!];
    for (const [i, value] of a.entries()) expect(value).toBeCloseTo(b[i]!, 5);
  });

  it("refuses scratch that is too small", () => {
    if (under.facts.workspace.scratch.length > 0)
      checkScratch(under, "attn_prefill", build([{ context: 99, rows: 99 }], 0));
  });
});
