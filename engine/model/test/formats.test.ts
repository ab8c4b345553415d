import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { modelFacts, openModel, parseConfig } from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";
import { type ExpectedTensor, expectedTensors } from "../weights.ts";
import { copyOf, refusal, writeZeros } from "./checkpoints.ts";

/** A folder with weights of zeros for the golden config with some fields changed. */
function folderOf(
  changes: object,
  format: "mxfp4" | "bf16.in_out" | "bf16.out_in",
  edit: (tensors: Map<string, ExpectedTensor>) => void = () => undefined,
): string {
  const folder = copyOf("tiny-mxfp4");
  const config = { ...JSON.parse(readFileSync(join(folder, "config.json"), "utf8")), ...changes };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const tensors = expectedTensors(parseConfig(JSON.stringify(config)), format);
  edit(tensors);
  writeZeros(join(folder, "model.safetensors"), tensors);
  return folder;
}

function formatOf(folder: string) {
  const model = openModel(folder);
  model.close();
  return modelFacts(model).expertFormat;
}

describe("how experts are stored", () => {
  // 256 and 256: down_proj is square. 512 and 256: gate_up_proj is square. 128 and 96: neither.
  it.each([
    [256, 256],
    [512, 256],
    [128, 96],
  ])("is told apart at hidden %i, intermediate %i", (hidden_size, intermediate_size) => {
    const changes = { hidden_size, intermediate_size };
    expect(formatOf(folderOf(changes, "mxfp4"))).toBe("mxfp4");
    expect(formatOf(folderOf(changes, "bf16.in_out"))).toBe("bf16.in_out");
    expect(formatOf(folderOf(changes, "bf16.out_in"))).toBe("bf16.out_in");
  });

  it("is one orientation for both matrices", () => {
    const changes = { hidden_size: 128, intermediate_size: 96 };
    const folder = folderOf(changes, "bf16.in_out", (tensors) => {
      const name = "model.layers.0.mlp.experts.down_proj";
      tensors.set(name, { ...tensors.get(name)!, shape: [8, 128, 96] });
    });
    expect(refusal(folder).code).toBe("KL_MODEL_TENSOR_SHAPE");
  });

  it("is one format for all layers", () => {
    const mixed = folderOf({}, "mxfp4", (tensors) => {
      const prefix = "model.layers.3.mlp.experts.down_proj";
      tensors.delete(`${prefix}_blocks`);
      tensors.delete(`${prefix}_scales`);
      tensors.set(prefix, { kind: "experts", dtype: "BF16", shape: [8, 256, 256], parameters: 0 });
    });
    expect(refusal(mixed).code).toBe("KL_MODEL_TENSOR_MISSING");
  });

  it("needs scales beside blocks, of their shape", () => {
    const name = "model.layers.1.mlp.experts.gate_up_proj_scales";
    expect(refusal(folderOf({}, "mxfp4", (tensors) => tensors.delete(name))).details.tensor).toBe(name);
    const folder = folderOf({}, "mxfp4", (tensors) => {
      tensors.set(name, { ...tensors.get(name)!, shape: [8, 512, 8, 1] });
    });
    expect(refusal(folder).code).toBe("KL_MODEL_TENSOR_SHAPE");
  });
});

describe("other layouts", () => {
  it("a tied head is the embedding table under another name", () => {
    const model = openModel(folderOf({ tie_word_embeddings: true }, "mxfp4"));
    expect(model.tensors.get("lm_head.weight")).toEqual(model.tensors.get("model.embed_tokens.weight"));
    model.close();
  });

  it("odd heads, one layer, one expert, a vocabulary of seven", () => {
    const folder = folderOf(
      {
        ...{ num_hidden_layers: 1, layer_types: ["full_attention"], num_local_experts: 1, num_experts_per_tok: 1 },
        ...{ vocab_size: 7, eos_token_id: 6, pad_token_id: null, num_attention_heads: 6, num_key_value_heads: 3 },
        ...{ head_dim: 16, hidden_size: 32, intermediate_size: 64 },
      },
      "mxfp4",
    );
    rmSync(join(folder, "generation_config.json"));
    const model = openModel(folder);
    expect(modelFacts(model)).toMatchObject({
      layers: ["full"],
      heads: 6,
      kvHeads: 3,
      headDim: 16,
      experts: 1,
      vocab: 7,
    });
    expect(model.generation).toEqual({ stopIds: [6], doSample: false, temperature: null, topP: null, topK: null });
    model.close();
  });
});

it("facts for the planner count expert matrices apart from everything else", () => {
  const model = openModel(folderOf({}, "mxfp4"));
  const { bytes, layers, slidingWindow } = modelFacts(model);
  model.close();
  expect(layers).toEqual(["sliding", "full", "sliding", "full"]);
  expect(slidingWindow).toBe(16);
  // 4 layers of 8 experts; 17 bytes hold 32 weights of [512, 256] and [256, 256].
  expect(bytes.experts).toBe((4 * 8 * (512 * 256 + 256 * 256) * 17) / 32);
  const all = [...model.tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0);
  expect(bytes.experts + bytes.other).toBe(all);
});
