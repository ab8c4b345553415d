import { fail, parseStrictJson } from "@kernlock/kernels/format";
import { isObject, type Json } from "./fields.ts";
import { type ModelFolder, readSmall } from "./folder.ts";
import type { Model } from "./types.ts";

const maxTemplate = 1 << 20;

/**
 * The chat template (`chat_template.jinja`, else `chat_template` of tokenizer_config.json) and the special tokens that
 * it may name as variables.
 *
 * @throws KL_MODEL_FILE, KL_TEMPLATE_ERROR, KL_JSON_*
 */
export function readTemplate(folder: ModelFolder): Pick<Model, "template" | "templateTokens"> {
  const config = readJson(folder, "tokenizer_config.json");
  const tokens = { ...readJson(folder, "special_tokens_map.json"), ...config };
  return { template: readText(folder) ?? fromConfig(config), templateTokens: namedTokens(tokens) };
}

function readJson(folder: ModelFolder, name: string): Json {
  const bytes = readSmall(folder, name, 16 << 20);
  if (bytes === null) return {};
  const json = parseStrictJson(bytes, { what: name, maxBytes: 16 << 20, allowInexact: true });
  return isObject(json) ? json : fail("KL_MODEL_FILE", `${name} is not an object.`);
}

function readText(folder: ModelFolder): string | null {
  const bytes = readSmall(folder, "chat_template.jinja", maxTemplate);
  if (bytes === null) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    return fail("KL_TEMPLATE_ERROR", "chat_template.jinja is not valid UTF-8.", { cause });
  }
}

/** One template, or several by name, of which `default` is taken. */
function fromConfig(config: Json): string | null {
  const value = config.chat_template ?? null;
  if (value === null || typeof value === "string") return value;
  const named = Array.isArray(value) ? value.find((v) => isObject(v) && v.name === "default") : undefined;
  if (isObject(named) && typeof named.template === "string") return named.template;
  return fail("KL_TEMPLATE_ERROR", "tokenizer_config.json has a chat_template without a default.");
}

/** `bos_token` and so on, written as strings or as objects with `content`. */
function namedTokens(config: Json): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of ["bos_token", "eos_token", "pad_token", "unk_token"]) {
    const value = config[name];
    const text = isObject(value) ? value.content : value;
    if (typeof text === "string") tokens[name] = text;
  }
  return tokens;
}
