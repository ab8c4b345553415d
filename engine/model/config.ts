import { fail, parseStrictJson } from "@kernlock/kernels/format";
import { Fields, isObject, shownValue } from "./fields.ts";
import type { ModelConfig, RopeConfig } from "./types.ts";

const architecture = "GptOssForCausalLM";
const maxVocab = 1 << 24;

/**
 * Checks the text of a config.json. Fields that no gpt-oss model varies and that nothing here reads are ignored.
 *
 * @throws KL_MODEL_ARCHITECTURE, KL_MODEL_CONFIG (details.field names the field), KL_MODEL_QUANTIZATION, KL_JSON_*
 */
export function parseConfig(bytes: Uint8Array | string): ModelConfig {
  const what = "config.json";
  const json = parseStrictJson(bytes, { what, maxBytes: 1 << 20, allowInexact: true });
  const fields = new Fields(json, what, "KL_MODEL_CONFIG");
  checkArchitecture(fields);

  const layers = fields.integer("num_hidden_layers", 1, 1024);
  const hidden = fields.integer("hidden_size", 32, 1 << 16);
  const intermediate = fields.integer("intermediate_size", 32, 1 << 17);
  for (const [name, value] of [
    ["hidden_size", hidden],
    ["intermediate_size", intermediate],
  ] as const) {
    if (value % 32 !== 0) fields.refuse(name, `is ${value}, not a multiple of 32`);
  }
  const heads = fields.integer("num_attention_heads", 1, 1024);
  const kvHeads = fields.integer("num_key_value_heads", 1, 1024, heads);
  if (heads % kvHeads !== 0)
    fields.refuse("num_key_value_heads", `is ${kvHeads}, which does not divide ${heads} heads`);
  const headDim = fields.integer("head_dim", 2, 512, hidden / heads);
  if (headDim % 2 !== 0) fields.refuse("head_dim", `is ${headDim}, not an even number`);
  const experts = fields.integer("num_local_experts", 1, 4096);
  const topK = fields.integer(
    fields.has("num_experts_per_tok") ? "num_experts_per_tok" : "experts_per_token",
    1,
    experts,
  );
  const vocab = fields.integer("vocab_size", 1, maxVocab);
  const layerTypes = parseLayerTypes(fields, layers);
  const slidingWindow = fields.integer("sliding_window", 1, 1 << 24, layerTypes.includes("sliding") ? undefined : 128);
  checkFixed(fields);

  return {
    architecture,
    layers,
    layerTypes,
    slidingWindow,
    hidden,
    intermediate,
    heads,
    kvHeads,
    headDim,
    experts,
    topK,
    vocab,
    normEps: fields.number("rms_norm_eps", { min: 1e-12, max: 0.1 }, 1e-5),
    rope: parseRope(fields),
    maxPositions: fields.integer("max_position_embeddings", 1, 1 << 26),
    swigluAlpha: 1.702,
    swigluLimit: fields.number("swiglu_limit", { min: 1e-3, max: 1e6 }, 7),
    tied: fields.boolean("tie_word_embeddings", false),
    eosIds: fields.ids("eos_token_id", vocab),
    bosId: fields.ids("bos_token_id", vocab)[0] ?? null,
    padId: fields.ids("pad_token_id", vocab)[0] ?? null,
    quantization: parseQuantization(fields),
  };
}

function checkArchitecture(fields: Fields): void {
  const named = fields.raw("architectures");
  const type = fields.raw("model_type");
  if (type === "gpt_oss" && (named === null || (Array.isArray(named) && named[0] === architecture))) return;
  fail(
    "KL_MODEL_ARCHITECTURE",
    `The model is a ${shownValue(named ?? type)} (${shownValue(type)}), not a gpt-oss model.`,
    {
      remedy: `This engine runs ${architecture} (model_type gpt_oss) only.`,
      details: { architectures: named, model_type: type },
    },
  );
}

/** What the forward pass takes for granted; another value would mean another model. */
function checkFixed(fields: Fields): void {
  const act = fields.string("hidden_act", "silu");
  if (act !== "silu") fields.refuse("hidden_act", `is ${shownValue(act)}, not "silu"`);
  if (!fields.boolean("attention_bias", true)) {
    fields.refuse("attention_bias", "is false, and gpt-oss projections have biases");
  }
}

function parseLayerTypes(fields: Fields, layers: number): ("full" | "sliding")[] {
  const value = fields.raw("layer_types");
  // Without the list, transformers alternates and begins with a sliding layer.
  if (value === null) return Array.from({ length: layers }, (_, i) => (i % 2 === 0 ? "sliding" : "full"));
  const types = fields.strings("layer_types");
  if (types.length !== layers) fields.refuse("layer_types", `has ${types.length} entries for ${layers} layers`);
  return types.map((type) => {
    if (type === "full_attention") return "full";
    if (type === "sliding_attention") return "sliding";
    return fields.refuse("layer_types", `holds ${shownValue(type)}, which is no known kind of layer`);
  });
}

/** Both spellings: `rope_parameters` with the base inside, and `rope_scaling` beside `rope_theta`. */
function parseRope(fields: Fields): RopeConfig {
  const inside = fields.raw("rope_parameters");
  const scaling = inside ?? fields.raw("rope_scaling") ?? {};
  const name = inside === null ? "rope_scaling" : "rope_parameters";
  const rope = new Fields(scaling, `config.json: ${name}`, "KL_MODEL_CONFIG");
  const base = rope.has("rope_theta") ? rope : fields;
  const theta = base.number("rope_theta", { min: 1.001, max: 1e12 });
  const kind = rope.string(rope.has("rope_type") ? "rope_type" : "type", "default");
  if (kind !== "default" && kind !== "yarn")
    rope.refuse("rope_type", `is ${shownValue(kind)}, not "yarn" or "default"`);
  if (rope.number("partial_rotary_factor", { min: 0, max: 1 }, 1) !== 1) {
    rope.refuse("partial_rotary_factor", "is not 1, and gpt-oss rotates whole heads");
  }
  if (kind === "default") {
    const plain = { factor: 1, betaFast: 32, betaSlow: 1, truncate: true, originalContext: 1, attentionFactor: 1 };
    return { kind, theta, ...plain };
  }
  for (const mscale of ["mscale", "mscale_all_dim"]) {
    if (rope.has(mscale)) rope.refuse(mscale, "is set, and no gpt-oss model has it");
  }
  const original = "original_max_position_embeddings";
  const source = rope.has(original) || !fields.has("initial_context_length") ? rope : fields;
  const betaFast = rope.number("beta_fast", { min: 1e-3, max: 1e6 }, 32);
  const betaSlow = rope.number("beta_slow", { min: 1e-3, max: 1e6 }, 1);
  if (betaSlow >= betaFast) rope.refuse("beta_slow", `is ${betaSlow}, not below beta_fast (${betaFast})`);
  return {
    kind: "yarn",
    theta,
    factor: rope.number("factor", { min: 1, max: 1e6 }),
    betaFast,
    betaSlow,
    truncate: rope.boolean("truncate", true),
    originalContext: source.integer(source === rope ? original : "initial_context_length", 1, 1 << 26),
    attentionFactor: rope.has("attention_factor") ? rope.number("attention_factor", { min: 1e-3, max: 1e3 }) : null,
  };
}

function parseQuantization(fields: Fields): ModelConfig["quantization"] {
  const value = fields.raw("quantization_config");
  if (value === null) return null;
  const method = isObject(value) ? value.quant_method : value;
  if (method !== "mxfp4") {
    fail(
      "KL_MODEL_QUANTIZATION",
      `The model is quantised by ${shownValue(method)}, which no kernel layout describes.`,
      {
        remedy: "Take the released MXFP4 checkpoint, or one in bf16.",
      },
    );
  }
  const notConverted = new Fields(value, "config.json: quantization_config", "KL_MODEL_CONFIG");
  return { method, notConverted: notConverted.strings("modules_to_not_convert") };
}
