import type { ModelConfig } from "./types.ts";

/** @throws KL_MODEL_ARCHITECTURE, KL_MODEL_CONFIG, KL_MODEL_QUANTIZATION, KL_JSON_* */
export function parseConfig(_bytes: Uint8Array | string): ModelConfig {
  throw new Error("not written yet");
}
