import type { HarmonyParser, Tokenizer } from "./types.ts";

/**
 * A parser for what a model says after `promptIds`; null if the tokenizer has no harmony tokens.
 * Without `promptIds` the answer begins inside the assistant's header, as after `<|start|>assistant`.
 */
export function createHarmonyParser(_tokenizer: Tokenizer, _promptIds?: readonly number[]): HarmonyParser | null {
  throw new Error("not written yet");
}
