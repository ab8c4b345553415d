import type { Model, Tokenizer } from "./types.ts";

/** Null without tokenizer.json. @throws KL_TOKENIZER_* */
export function loadTokenizer(_model: Pick<Model, "files" | "tokenizerFile">): Tokenizer | null {
  throw new Error("not written yet");
}

/** @throws KL_TOKENIZER_INVALID, KL_TOKENIZER_UNSUPPORTED */
export function parseTokenizer(_json: string): Tokenizer {
  throw new Error("not written yet");
}
