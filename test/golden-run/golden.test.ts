import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ChatMessage } from "@kernlock/engine";
import { describe, expect, test } from "vitest";
import { floats, ids, readSafetensors, worstRow } from "../safetensors.ts";
import { models, startOn } from "./engines.ts";

interface Conversation {
  readonly messages: readonly ChatMessage[];
  readonly reasoning_effort: "low" | "medium" | "high";
  readonly prompt: string;
  readonly output: string;
  readonly channels: Record<string, string>;
  readonly finish_reason: string;
}

const cases = [
  ["tiny", "reference.safetensors"],
  ["tiny", "reference-long.safetensors"],
  ["sharded", "reference.safetensors"],
] as const;

describe.each(["mxfp4", "megablocks-moe"])("through %s, all prompts at once", (moe) => {
  test.each(cases)("%s %s: recorded ids, logits within 1e-4", { timeout: 300_000 }, async (name, file) => {
    const folder = models[name];
    const reference = readSafetensors(join(folder, file));
    const count = [...reference.keys()].filter((name) => name.startsWith("prompt_")).length;
    await using engine = await startOn(folder, { moe });
    const all = await engine.generateAll(
      Array.from({ length: count }, (_, i) => ({
        prompt: { tokenIds: ids(reference, `prompt_${i}`) },
        sampling: { kind: "greedy" as const },
        ignoreEos: true,
        logits: true,
        maxNewTokens: ids(reference, `greedy_${i}`).length,
      })),
    );
    for (const [i, item] of all.entries()) {
      if (!item.ok) throw item.error;
      const { result, logits } = item.value;
      expect(result.token_ids).toEqual(ids(reference, `greedy_${i}`));
      const expected = floats(reference, `logits_${i}`);
      const [rows = 0, vocab = 0] = expected.shape;
      const prompt = result.prompt_token_ids.length;
      expect(logits).toMatchObject({ rows: prompt + result.token_ids.length, vocab });
      // The reference keeps the last rows of long prompts only.
      const got = logits!.data.subarray((prompt - rows) * vocab, prompt * vocab);
      expect(worstRow(got, expected.data, vocab)).toBeLessThanOrEqual(1e-4);
    }
  });

  test("the dictionary's 55 conversations, token for token", { timeout: 300_000 }, async () => {
    const conversations: Conversation[] = JSON.parse(readFileSync(join(models.dictionary, "reference.json"), "utf8"));
    const reference = readSafetensors(join(models.dictionary, "reference.safetensors"));
    await using engine = await startOn(models.dictionary, { moe });
    const all = await engine.generateAll(
      conversations.map(({ messages, reasoning_effort }) => ({
        prompt: { messages, reasoningEffort: reasoning_effort },
        sampling: { kind: "greedy" as const },
      })),
    );
    expect(all).toHaveLength(55);
    for (const [i, item] of all.entries()) {
      if (!item.ok) throw item.error;
      const { result } = item.value;
      const { prompt, output, channels, finish_reason } = conversations[i]!;
      expect(result).toMatchObject({ prompt, text: output, finish_reason });
      expect(result.channels).toEqual(channels);
      expect(result.prompt_token_ids).toEqual(ids(reference, `prompt_${i}`));
      expect(result.token_ids).toEqual(ids(reference, `greedy_${i}`));
      const logprobs = floats(reference, `logprob_${i}`).data;
      for (const [k, logprob] of result.logprobs.entries()) expect(Math.abs(logprob - logprobs[k]!)).toBeLessThan(1e-3);
      const ran = result.run_record.filter(({ node }) => node === "moe_up" || node === "moe_down");
      expect(new Set(ran.map(({ kernel }) => kernel))).toEqual(new Set([`kernlock/${moe}`]));
    }
  });
});
