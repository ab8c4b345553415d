/** Handing a step over before the tokens of the one before it are read changes no answer. */
import { defaultRequest, type Engine, type GenerateRequest, startEngine } from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import { expect, test } from "vitest";
import { models, sealedKernels } from "./engines.ts";

async function start(folder: string, ahead: boolean): Promise<Engine> {
  const model = openModel(folder);
  try {
    const request = defaultRequest({ maxSequences: 3, maxBatchTokens: 32, maxContext: 400 });
    return await startEngine({ kernels: await sealedKernels(), model, request, ahead });
  } finally {
    model.close();
  }
}

/** More than run at once, of all lengths, greedy and drawn, some with logits. */
const requests = Array.from({ length: 9 }, (_, i): GenerateRequest => {
  const tokenIds = Array.from({ length: 1 + ((i * 37) % 90) }, (_, k) => (k * 31 + i * 101) % 1000);
  const sampling =
    i % 3 === 0 ? ({ kind: "greedy" } as const) : ({ kind: "sample", temperature: 1, topP: 0.95, topK: 0 } as const);
  return {
    prompt: { tokenIds },
    sampling,
    seed: BigInt(i),
    maxNewTokens: 1 + ((i * 53) % 150),
    ignoreEos: i % 2 === 0,
    logits: i === 4,
  };
});

test("the same tokens and log-probabilities, whatever enters and ends meanwhile", async () => {
  const answers = await Promise.all(
    [true, false].map(async (ahead) => {
      await using engine = await start(models.tiny, ahead);
      await engine.watch("times");
      const done = await engine.generateAll(requests);
      const { steps } = await engine.watch("nothing");
      const rows = done.map((item) => {
        if (!item.ok) throw item.error;
        const { token_ids, logprobs, finish_reason } = item.value.result;
        return { token_ids, logprobs, finish_reason, rows: item.value.logits?.rows };
      });
      return { rows, steps };
    }),
  );
  expect(answers[0]!.rows).toEqual(answers[1]!.rows);
  // A sequence of length 90 needs three chunks at least, and somebody decodes beside it.
  expect(answers[0]!.steps.map(({ bucket }) => bucket)).toContain("mixed");
}, 300_000);

test("a stop in the middle of conversations, and a caller who gives up", async () => {
  await using engine = await start(models.dictionary, true);
  await using plain = await start(models.dictionary, false);
  const ask = (word: string): GenerateRequest => ({
    prompt: { messages: [{ role: "user", content: `What is a ${word}?` }], reasoningEffort: "low" },
    sampling: { kind: "greedy" },
    maxNewTokens: 120,
  });
  const words = ["harbor", "lantern", "river", "anchor", "bridge"].map(ask);
  const controller = new AbortController();
  const given = engine.generate(
    { prompt: { tokenIds: [1, 2, 3] }, maxNewTokens: 300, ignoreEos: true },
    { signal: controller.signal, onToken: () => controller.abort() },
  );
  const refused = expect(given).rejects.toMatchObject({ code: "KL_ENGINE_ABORTED" });
  const [done, alone] = [await engine.generateAll(words), await plain.generateAll(words)];
  await refused;
  const texts = [done, alone].map((items) => items.map((item) => (item.ok ? item.value.result.text : item.error.code)));
  expect(texts[0]).toEqual(texts[1]);
  expect(done.map((item) => item.ok && item.value.result.finish_reason)).toEqual(Array(5).fill("stop"));
}, 300_000);

test("the best of every row are those of its logits", async () => {
  await using engine = await start(models.tiny, true);
  const prompt = { tokenIds: Array.from({ length: 50 }, (_, k) => (k * 7) % 1000) };
  const whole = await engine.generate({ prompt, maxNewTokens: 0, logits: true });
  const { best, logits } = await engine.generate({ prompt, maxNewTokens: 0, logits: "best" });
  expect(logits).toBeNull();
  const { data, vocab, rows } = whole.logits!;
  expect(best!.ids).toHaveLength(rows);
  for (const [row, id] of best!.ids.entries()) {
    const sorted = data.slice(row * vocab, (row + 1) * vocab).sort((a, b) => b - a);
    expect(data[row * vocab + id]).toBe(sorted[0]);
    expect(best!.margins[row]).toBe(sorted[0]! - sorted[1]!);
  }
}, 300_000);

test("experts are counted where they are chosen", async () => {
  await using engine = await start(models.tiny, true);
  const [layers, topK] = [4, 2];
  await engine.watch("experts");
  const request: GenerateRequest = {
    prompt: { tokenIds: [5] },
    maxNewTokens: 6,
    ignoreEos: true,
    sampling: { kind: "greedy" },
  };
  const counted = await engine.generate(request);
  const { experts } = await engine.watch("nothing");
  expect(experts).toHaveLength(6);
  expect(experts.every(({ distinct }) => distinct.length === layers && distinct.every((count) => count === topK))).toBe(
    true,
  );
  // In pieces or not: the same answer.
  expect((await engine.generate(request)).result.token_ids).toEqual(counted.result.token_ids);
}, 300_000);
