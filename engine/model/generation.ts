import { parseStrictJson } from "@kernlock/kernels/format";
import { Fields } from "./fields.ts";
import type { GenerationConfig, ModelConfig } from "./types.ts";

/**
 * How the model wants to be sampled. `bytes` null: no such file, greedy with the stop ids of config.json.
 *
 * @throws KL_MODEL_GENERATION, KL_JSON_*
 */
export function parseGeneration(bytes: Uint8Array | null, config: ModelConfig): GenerationConfig {
  const what = "generation_config.json";
  const json = bytes === null ? {} : parseStrictJson(bytes, { what, maxBytes: 1 << 20, allowInexact: true });
  const fields = new Fields(json, what, "KL_MODEL_GENERATION");
  const stopIds = fields.ids("eos_token_id", config.vocab);
  const optional = (name: string, range: { min: number; max: number; integer?: boolean }) =>
    fields.has(name) ? fields.number(name, range) : null;
  return {
    stopIds: [...new Set(stopIds.length > 0 ? stopIds : config.eosIds)],
    doSample: fields.boolean("do_sample", false),
    temperature: optional("temperature", { min: 0, max: 100 }),
    topP: optional("top_p", { min: 0, max: 1 }),
    topK: optional("top_k", { min: 0, max: 0x7fff_ffff, integer: true }),
  };
}
