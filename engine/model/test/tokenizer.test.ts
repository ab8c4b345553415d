import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadTokenizer, parseTokenizer } from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";
import { refusalOf } from "./checkpoints.ts";

const text = readFileSync(join(import.meta.dirname, "../../../models/dictionary/tokenizer.json"), "utf8");
const tokenizer = parseTokenizer(text);
/** The parts of tokenizer.json that the tests change. */
interface Source {
  added_tokens: { id: number; content: string; lstrip: boolean }[];
  model: { type: string; vocab?: object };
  decoder: object;
  pre_tokenizer: object | null;
}
const changed = (edit: (json: Source) => void): string => {
  const json: Source = JSON.parse(text);
  edit(json);
  return JSON.stringify(json);
};

describe("special tokens", () => {
  it("are parsed only when asked for", () => {
    const end = tokenizer.specials.get("<|end|>")!;
    expect(end).toBe(4092);
    expect(tokenizer.encode("a<|end|>b", { special: true })).toContain(end);
    const plain = tokenizer.encode("a<|end|>b", { special: false });
    expect(plain.some((id) => [...tokenizer.specials.values()].includes(id))).toBe(false);
    expect(tokenizer.decode(plain)).toBe("a<|end|>b");
  });

  it("are kept when decoding", () => {
    expect(tokenizer.decode([4091, 4092])).toBe("<|start|><|end|>");
  });

  it("of which one begins another: the longer one is meant", () => {
    const longer = parseTokenizer(
      changed((json) => json.added_tokens.push({ ...json.added_tokens[6]!, id: 4096, content: "<|end|>>" })),
    );
    expect(longer.encode("<|end|>><|end|>", { special: true })).toEqual([4096, 4092]);
    expect(longer.size).toBe(4097);
  });
});

describe("decoding", () => {
  const texts = [
    "plain",
    "naïve café",
    "日本語 テキスト",
    "🦄👩‍👩‍👧‍👦",
    "\u{feff}mark",
    "tab\tline\r\n\n  spaces  ",
    "\u0000\u007f",
    "",
  ];

  it.each(texts)("gives back %j, whole and streamed", (sample) => {
    const ids = tokenizer.encode(sample, { special: false });
    expect(tokenizer.decode(ids)).toBe(sample);
    const stream = tokenizer.decodeStream();
    expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(sample);
  });

  it("holds back incomplete characters", () => {
    const ids = tokenizer.encode("🦄!", { special: false });
    const stream = tokenizer.decodeStream();
    const pieces = ids.map((id) => stream.push(id));
    expect(pieces.filter((piece) => piece !== "")).toEqual(["🦄", "!"]);
    expect(pieces[0]).toBe("");
    for (const id of ids.slice(0, 2)) stream.push(id);
    expect(stream.end()).toBe("\ufffd");
  });

  it("gives nothing for ids without a token", () => {
    expect(tokenizer.decode([4096, -1, 1.5, Number.NaN, 2 ** 40])).toBe("");
  });
});

describe("tokenizers that are refused", () => {
  it.each([
    ["not JSON", "{"],
    ["no object", "[]"],
    ["no added tokens", changed((json) => Reflect.deleteProperty(json, "added_tokens"))],
    ["an id twice", changed((json) => (json.added_tokens[1]!.id = 4086))],
    ["a content twice", changed((json) => (json.added_tokens[1]!.content = "<|startoftext|>"))],
    ["an id out of range", changed((json) => (json.added_tokens[1]!.id = 2 ** 40))],
    ["an empty content", changed((json) => (json.added_tokens[1]!.content = ""))],
    ["no vocabulary", changed((json) => delete json.model.vocab)],
  ])("with %s", (_what, json) => {
    expect(refusalOf(() => parseTokenizer(json)).code).toBe("KL_TOKENIZER_INVALID");
  });

  it.each([
    ["another model", changed((json) => (json.model.type = "Unigram"))],
    ["another decoder", changed((json) => (json.decoder = { type: "Metaspace" }))],
    ["no pre-tokenizer", changed((json) => (json.pre_tokenizer = null))],
    ["stripping special tokens", changed((json) => (json.added_tokens[0]!.lstrip = true))],
  ])("with %s", (_what, json) => {
    expect(refusalOf(() => parseTokenizer(json)).code).toBe("KL_TOKENIZER_UNSUPPORTED");
  });
});

it("without tokenizer.json there is none", () => {
  expect(loadTokenizer({ files: [], tokenizerFile: null })).toBeNull();
});
