import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseConfig } from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";
import { refusalOf } from "./checkpoints.ts";

const root = join(import.meta.dirname, "../../..");
const read = (path: string) => JSON.parse(readFileSync(join(root, path, "config.json"), "utf8"));
/** `rope_scaling` beside `rope_theta`, as released. */
const released = read("models/dictionary");
/** `rope_parameters`, as transformers 5 saves it. */
const saved = read("test/golden/tiny-mxfp4");
const parse = (json: object) => parseConfig(JSON.stringify(json));

describe("what is read", () => {
  it("both spellings of the rotary embedding", () => {
    const rope = {
      kind: "yarn",
      theta: 150000,
      factor: 32,
      betaFast: 32,
      betaSlow: 1,
      truncate: false,
      originalContext: 4096,
      attentionFactor: null,
    };
    expect(parse(released).rope).toEqual(rope);
    expect(parse(saved).rope).toEqual(rope);
  });

  it("the released 20b config", () => {
    const config = parse({
      ...released,
      ...{ num_hidden_layers: 24, hidden_size: 2880, intermediate_size: 2880, num_attention_heads: 64 },
      ...{ num_key_value_heads: 8, num_local_experts: 32, vocab_size: 201088, eos_token_id: 200002 },
      ...{ pad_token_id: 199999, sliding_window: 128 },
      layer_types: Array.from({ length: 24 }, (_, i) => (i % 2 === 0 ? "sliding_attention" : "full_attention")),
    });
    expect(config).toMatchObject({ layers: 24, hidden: 2880, heads: 64, kvHeads: 8, topK: 4, eosIds: [200002] });
    expect(config.quantization).toEqual({
      method: "mxfp4",
      notConverted: released.quantization_config.modules_to_not_convert,
    });
  });

  it("defaults", () => {
    const { swiglu_limit, layer_types, rope_scaling, quantization_config, num_experts_per_tok, ...rest } = released;
    const config = parse(rest);
    expect(config.swigluLimit).toBe(7);
    expect(config.topK).toBe(rest.experts_per_token);
    expect(config.layerTypes.slice(0, 3)).toEqual(["sliding", "full", "sliding"]);
    expect(config.rope).toMatchObject({ kind: "default", theta: 150000, factor: 1 });
    expect(config.quantization).toBeNull();
    expect(parse({ ...released, rope_scaling: { ...rope_scaling, truncate: undefined } }).rope.truncate).toBe(true);
  });

  it("any arrangement of layers", () => {
    const types = [
      "full_attention",
      "full_attention",
      "sliding_attention",
      "full_attention",
      "full_attention",
      "full_attention",
    ];
    expect(parse({ ...released, layer_types: types }).layerTypes).toEqual(types.map((type) => type.split("_")[0]));
    const full = Array(6).fill("full_attention");
    expect(parse({ ...released, layer_types: full, sliding_window: null }).layerTypes).toEqual(Array(6).fill("full"));
  });
});

describe("what is refused", () => {
  it.each([
    [{ model_type: "llama", architectures: ["LlamaForCausalLM"] }],
    [{ model_type: "llama" }],
    [{ architectures: ["GptOssForSequenceClassification"] }],
    [{ architectures: [] }],
    [{ model_type: undefined }],
  ])("another architecture: %j", (change) => {
    expect(refusalOf(() => parse({ ...released, ...change })).code).toBe("KL_MODEL_ARCHITECTURE");
  });

  it.each([
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_local_experts",
    "vocab_size",
    "sliding_window",
    "max_position_embeddings",
    "rope_theta",
  ])("a config without %s", (field) => {
    const error = refusalOf(() => parse({ ...released, [field]: undefined }));
    expect(error.code).toBe("KL_MODEL_CONFIG");
    expect(error.details.field).toBe(field);
  });

  it.each([
    ["num_hidden_layers", 0],
    ["num_hidden_layers", 1e9],
    ["num_hidden_layers", 5],
    ["hidden_size", 250],
    ["hidden_size", "256"],
    ["hidden_size", 256.5],
    ["hidden_size", -256],
    ["intermediate_size", 48],
    ["num_attention_heads", 0],
    ["num_key_value_heads", 3],
    ["head_dim", 63],
    ["head_dim", 100_000],
    ["num_local_experts", 0],
    ["num_experts_per_tok", 0],
    ["num_experts_per_tok", 9],
    ["vocab_size", 2 ** 31],
    ["rms_norm_eps", 0],
    ["rms_norm_eps", -1e-5],
    ["rope_theta", 0],
    ["swiglu_limit", -7],
    ["sliding_window", 0],
    ["layer_types", ["full_attention"]],
    ["layer_types", Array(6).fill("chunked_attention")],
    ["layer_types", "full_attention"],
    ["hidden_act", "gelu"],
    ["attention_bias", false],
    ["tie_word_embeddings", "no"],
    ["eos_token_id", 4096],
    ["eos_token_id", [-1]],
    ["max_position_embeddings", 0],
  ])("%s: %j", (field, value) => {
    const error = refusalOf(() => parse({ ...released, [field]: value }));
    expect(error.code).toBe("KL_MODEL_CONFIG");
    expect(error.message).toContain(field === "num_hidden_layers" && value === 5 ? "layer_types" : field);
  });

  it.each([
    ["rope_type", "llama3"],
    ["factor", 0],
    ["factor", null],
    ["beta_fast", "32"],
    ["beta_slow", 40],
    ["truncate", 1],
    ["partial_rotary_factor", 0.5],
    ["mscale", 1],
    ["original_max_position_embeddings", 0],
  ])("rope_scaling.%s: %j", (field, value) => {
    const rope_scaling = { ...released.rope_scaling, [field]: value };
    const error = refusalOf(() => parse({ ...released, rope_scaling }));
    expect(error.code).toBe("KL_MODEL_CONFIG");
    expect(error.details.field).toBe(field);
  });

  it.each([{ quant_method: "gptq" }, { bits: 4 }, "mxfp8"])("quantization_config: %j", (quantization_config) => {
    expect(refusalOf(() => parse({ ...released, quantization_config })).code).toBe("KL_MODEL_QUANTIZATION");
  });

  it.each(["", "[]", "null", "{", '{"model_type":"gpt_oss","model_type":"gpt_oss"}', "\ufeff{}", "{} x"])(
    "the text %j",
    (text) => {
      expect(refusalOf(() => parseConfig(text)).code).toMatch(/^KL_(JSON_|MODEL_CONFIG)/);
    },
  );
});
