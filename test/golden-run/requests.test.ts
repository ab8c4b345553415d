import type { Engine, GenerateRequest, TokenEvent } from "@kernlock/engine";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { worstRow } from "../safetensors.ts";
import { models, startOn } from "./engines.ts";

let engine: Engine;
beforeAll(async () => {
  // Small steps, so that prompts run in chunks and beside each other.
  engine = await startOn(models.tiny, { maxSequences: 4, maxBatchTokens: 32, maxContext: 600 });
}, 300_000);
afterAll(() => engine?.close());

const prompt = (length: number, seed: number) => ({
  tokenIds: Array.from({ length }, (_, i) => (i * 37 + seed * 101) % 1000),
});
const greedy = { sampling: { kind: "greedy" }, ignoreEos: true } as const;

describe("several sequences in one step", () => {
  const requests: GenerateRequest[] = [1, 7, 33, 64, 65, 130, 200, 3, 90].map((length, i) => ({
    ...(i % 3 === 2 ? { sampling: { kind: "sample", temperature: 1, topP: 0.9, topK: 50 } as const } : greedy),
    prompt: prompt(length, i),
    seed: BigInt(i),
    maxNewTokens: 20 + 5 * i,
    ignoreEos: true,
    logits: true,
  }));

  test("give what each gives alone", { timeout: 300_000 }, async () => {
    const together = await engine.generateAll(requests);
    for (const [i, request] of requests.entries()) {
      const alone = await engine.generate(request);
      const item = together[i]!;
      if (!item.ok) throw item.error;
      expect(item.value.result.token_ids).toEqual(alone.result.token_ids);
      const { data, vocab } = alone.logits!;
      expect(worstRow(item.value.logits!.data, data, vocab)).toBeLessThanOrEqual(1e-5);
    }
  });
});

describe("results", () => {
  test("teacher forcing: a row for every token and nothing new", async () => {
    const given = prompt(50, 1);
    const forced = await engine.generate({ prompt: given, maxNewTokens: 0, logits: true });
    expect(forced.result).toMatchObject({ token_ids: [], logprobs: [], finish_reason: "length", text: null });
    expect(forced.logits).toMatchObject({ rows: 50, vocab: 1024 });
    const more = await engine.generate({ ...greedy, prompt: given, maxNewTokens: 3, logits: true });
    expect(more.logits?.rows).toBe(53);
    const row = more.logits!.data.subarray(49 * 1024, 50 * 1024);
    expect(row.indexOf(Math.max(...row))).toBe(more.result.token_ids[0]);
    // What was generated, given as a prompt, has the same logits.
    const tokenIds = [...given.tokenIds, ...more.result.token_ids];
    const again = await engine.generate({ prompt: { tokenIds }, maxNewTokens: 0, logits: true });
    expect(worstRow(again.logits!.data, more.logits!.data, 1024)).toBeLessThanOrEqual(1e-5);
  });

  test("log-probabilities are those of the unscaled softmax, whatever the sampling", async () => {
    const request = { prompt: prompt(20, 2), maxNewTokens: 8, logits: true, ignoreEos: true };
    const made = await engine.generate({
      ...request,
      sampling: { kind: "sample", temperature: 2, topK: 30 },
      seed: 5n,
    });
    for (const [k, id] of made.result.token_ids.entries()) {
      const row = made.logits!.data.subarray((19 + k) * 1024, (20 + k) * 1024);
      const most = Math.max(...row);
      const sum = row.reduce((total, logit) => total + Math.exp(logit - most), 0);
      expect(made.result.logprobs[k]).toBeCloseTo(row[id]! - most - Math.log(sum), 4);
    }
  });

  test("the same seed gives the same tokens, another one others; a seed that was drawn is told", async () => {
    const request = { prompt: prompt(10, 3), maxNewTokens: 30, ignoreEos: true } as const;
    const sampled = (seed?: bigint) =>
      engine.generate({
        ...request,
        sampling: { kind: "sample", temperature: 1.5 },
        ...(seed === undefined ? {} : { seed }),
      });
    const first = await sampled();
    expect((await sampled(first.seed)).result.token_ids).toEqual(first.result.token_ids);
    expect((await sampled(first.seed + 1n)).result.token_ids).not.toEqual(first.result.token_ids);
  });

  test("the run record names nodes of the kinds of steps that ran, and what prepared the weights", async () => {
    const record = (made: { result: { run_record: readonly { bucket: string; node: string }[] } }) =>
      new Set(made.result.run_record.map(({ bucket }) => bucket));
    expect(record(await engine.generate({ ...greedy, prompt: prompt(9, 4), maxNewTokens: 1 }))).toEqual(
      new Set(["load", "mixed"]),
    );
    const both = await engine.generate({ ...greedy, prompt: prompt(9, 4), maxNewTokens: 2 });
    expect(record(both)).toEqual(new Set(["load", "mixed", "decode"]));
    const decode = both.result.run_record.filter(({ bucket }) => bucket === "decode").map(({ node }) => node);
    expect(new Set(decode).size).toBe(13);
    for (const entry of both.result.run_record) {
      expect(entry.signer).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(entry.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    }
  });

  test("tokens are told as they come", async () => {
    const events: TokenEvent[] = [];
    const made = await engine.generate(
      { ...greedy, prompt: prompt(5, 5), maxNewTokens: 6 },
      { onToken: (event) => events.push(event) },
    );
    expect(events.map(({ id }) => id)).toEqual(made.result.token_ids);
  });
});

describe("a request that cannot be done fails alone", () => {
  test.each([
    ["KL_ENGINE_PROMPT_EMPTY", { prompt: { tokenIds: [] } }],
    ["KL_ENGINE_TOKEN_RANGE", { prompt: { tokenIds: [5, 1024] } }],
    ["KL_ENGINE_TOKEN_RANGE", { prompt: { tokenIds: [-1] } }],
    ["KL_ENGINE_TOKEN_RANGE", { prompt: { tokenIds: [0.5] } }],
    ["KL_ENGINE_CONTEXT", { prompt: prompt(600, 1) }],
    ["KL_ENGINE_CONTEXT", { prompt: prompt(590, 1), maxNewTokens: 11 }],
    ["KL_ENGINE_NO_TOKENIZER", { prompt: { prompt: "hello" } }],
    ["KL_ENGINE_NO_TOKENIZER", { prompt: { messages: [{ role: "user", content: "hello" }] } }],
    ["KL_ENGINE_REQUEST", { prompt: prompt(3, 1), maxNewTokens: -1 }],
  ] as [string, GenerateRequest][])("%s", async (code, request) => {
    const good = { ...greedy, prompt: prompt(5, 6), maxNewTokens: 5 };
    const [before, bad, after] = await engine.generateAll([good, request, good]);
    expect([before?.ok, after?.ok]).toEqual([true, true]);
    expect(bad).toMatchObject({ ok: false, error: { code } });
  });

  test("what fits to the last token runs; without a wish, the answer ends where the context does", async () => {
    const whole = await engine.generate({ ...greedy, prompt: prompt(590, 1), maxNewTokens: 10 });
    expect(whole.result.token_ids).toHaveLength(10);
    const open = await engine.generate({ ...greedy, prompt: prompt(590, 1) });
    expect(open.result).toMatchObject({ token_ids: whole.result.token_ids, finish_reason: "length" });
  });

  test("one that is given up ends, and its pages come back", async () => {
    for (let i = 0; i < 10; i++) {
      const controller = new AbortController();
      const running = engine.generate(
        { ...greedy, prompt: prompt(100, i), maxNewTokens: 500 },
        { signal: controller.signal, onToken: () => controller.abort() },
      );
      await expect(running).rejects.toMatchObject({ code: "KL_ENGINE_ABORTED" });
    }
    const full = Array.from({ length: 4 }, (_, i) => ({ ...greedy, prompt: prompt(500, i), maxNewTokens: 100 }));
    expect((await engine.generateAll(full)).every(({ ok }) => ok)).toBe(true);
  });

  test("a callback that throws ends its own request", async () => {
    const running = engine.generate(
      { ...greedy, prompt: prompt(5, 1), maxNewTokens: 50 },
      {
        onToken: () => {
          throw new RangeError("mine");
        },
      },
    );
    await expect(running).rejects.toThrow("mine");
    expect((await engine.generate({ ...greedy, prompt: prompt(5, 1), maxNewTokens: 2 })).result.token_ids).toHaveLength(
      2,
    );
  });
});
