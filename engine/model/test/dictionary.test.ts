import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type ChatMessage,
  createHarmonyParser,
  createTemplateRenderer,
  loadTokenizer,
  openModel,
  type TemplateRenderer,
} from "@kernlock/engine/model";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readTensors } from "./safetensors-values.ts";

/** The recorded conversations of the dictionary model, as Hugging Face transformers rendered and answered them. */
interface Recorded {
  readonly messages: readonly ChatMessage[];
  readonly reasoning_effort: "low" | "medium" | "high";
  readonly prompt: string;
  readonly output: string;
  readonly channels: Record<string, string>;
  readonly finish_reason: string;
}

const folder = join(import.meta.dirname, "../../../models/dictionary");
const recorded: Recorded[] = JSON.parse(readFileSync(join(folder, "reference.json"), "utf8"));
const tensors = readTensors(join(folder, "reference.safetensors"));
const model = openModel(folder);
const tokenizer = loadTokenizer(model)!;
let renderer: TemplateRenderer;

beforeAll(async () => {
  renderer = await createTemplateRenderer(model, tokenizer);
});
afterAll(async () => {
  await renderer.close();
  model.close();
});

describe.each(recorded.map((conversation, i) => ({ i, conversation })))("conversation $i", ({ i, conversation }) => {
  it("renders to the recorded prompt and its ids", async () => {
    const { messages, reasoning_effort: reasoningEffort } = conversation;
    const rendered = await renderer.render({ messages, reasoningEffort });
    expect(rendered.text).toBe(conversation.prompt);
    expect(tokenizer.encodePieces(rendered.pieces)).toEqual(tensors.ids(`prompt_${i}`));
    expect(tokenizer.encode(conversation.prompt, { special: true })).toEqual(tensors.ids(`prompt_${i}`));
  });

  it("decodes the recorded ids to the recorded output and channels", () => {
    const ids = tensors.ids(`greedy_${i}`);
    expect(tokenizer.decode(ids)).toBe(conversation.output);
    for (const parser of [
      createHarmonyParser(tokenizer)!,
      createHarmonyParser(tokenizer, tensors.ids(`prompt_${i}`))!,
    ]) {
      for (const id of ids) parser.push(id);
      parser.end();
      expect(parser.channels).toEqual(conversation.channels);
    }
    expect(model.generation.stopIds.includes(ids.at(-1)!)).toBe(conversation.finish_reason === "stop");
  });
});

it("covers all 55 conversations", () => {
  expect(recorded).toHaveLength(55);
});
