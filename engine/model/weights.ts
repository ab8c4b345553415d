import { fail } from "@kernlock/kernels/format";
import type { ExpertFormat, ModelConfig, TensorDtype, TensorEntry, WeightGroup } from "./types.ts";

export interface ExpectedTensor {
  readonly kind: WeightGroup["kind"];
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  /** Weights that it holds: an MXFP4 block holds two a byte, its scales none. */
  readonly parameters: number;
}

export const layerPrefix = (layer: number): string => `model.layers.${layer}.`;

/**
 * Every tensor of a gpt-oss checkpoint by name, as Hugging Face transformers names and shapes them.
 * All bf16 but the MXFP4 experts, which are u8: blocks [expert, out, in / 32, 16] and scales [expert, out, in / 32].
 */
export function expectedTensors(config: ModelConfig, format: ExpertFormat): Map<string, ExpectedTensor> {
  const { hidden, intermediate, heads, kvHeads, headDim, experts, vocab } = config;
  const all = new Map<string, ExpectedTensor>();
  const add = (kind: WeightGroup["kind"], name: string, ...shape: number[]): void => {
    all.set(name, { kind, dtype: "BF16", shape, parameters: product(shape) });
  };
  const addExperts = (name: string, rows: number, columns: number): void => {
    const kind = "experts";
    if (format === "bf16.in_out") add(kind, name, experts, columns, rows);
    else if (format === "bf16.out_in") add(kind, name, experts, rows, columns);
    else {
      const shape = [experts, rows, columns / 32];
      all.set(`${name}_blocks`, { kind, dtype: "U8", shape: [...shape, 16], parameters: experts * rows * columns });
      all.set(`${name}_scales`, { kind, dtype: "U8", shape, parameters: 0 });
    }
  };

  add("embedding", "model.embed_tokens.weight", vocab, hidden);
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = layerPrefix(layer);
    add("norms", `${prefix}input_layernorm.weight`, hidden);
    for (const [name, width] of [
      ["q", heads * headDim],
      ["k", kvHeads * headDim],
      ["v", kvHeads * headDim],
    ] as const) {
      add("attention", `${prefix}self_attn.${name}_proj.weight`, width, hidden);
      add("attention", `${prefix}self_attn.${name}_proj.bias`, width);
    }
    add("attention", `${prefix}self_attn.sinks`, heads);
    add("attention", `${prefix}self_attn.o_proj.weight`, hidden, heads * headDim);
    add("attention", `${prefix}self_attn.o_proj.bias`, hidden);
    add("norms", `${prefix}post_attention_layernorm.weight`, hidden);
    add("router", `${prefix}mlp.router.weight`, experts, hidden);
    add("router", `${prefix}mlp.router.bias`, experts);
    addExperts(`${prefix}mlp.experts.gate_up_proj`, 2 * intermediate, hidden);
    add("experts", `${prefix}mlp.experts.gate_up_proj_bias`, experts, 2 * intermediate);
    addExperts(`${prefix}mlp.experts.down_proj`, hidden, intermediate);
    add("experts", `${prefix}mlp.experts.down_proj_bias`, experts, hidden);
  }
  add("norms", "model.norm.weight", hidden);
  if (!config.tied) add("lm_head", "lm_head.weight", vocab, hidden);
  return all;
}

/**
 * How the experts are stored, by the tensors of the first layer; `checkTensors` then holds all layers to it.
 *
 * bf16 experts come transposed from transformers ([expert, in, out]); [expert, out, in] is accepted as well. Both
 * matrices share one orientation: one of the two may be square, never both, so the other one decides.
 */
export function detectExperts(tensors: ReadonlyMap<string, TensorEntry>, config: ModelConfig): ExpertFormat {
  const prefix = `${layerPrefix(0)}mlp.experts.`;
  if (tensors.has(`${prefix}gate_up_proj_blocks`)) return "mxfp4";
  const up = tensors.get(`${prefix}gate_up_proj`);
  const down = tensors.get(`${prefix}down_proj`);
  if (up === undefined || down === undefined) return missing(`${prefix}gate_up_proj_blocks (or gate_up_proj)`);
  const { hidden, intermediate } = config;
  const matches = (entry: TensorEntry, rows: number, columns: number): boolean =>
    entry.shape.length === 3 && entry.shape[1] === rows && entry.shape[2] === columns;
  const outIn = matches(up, 2 * intermediate, hidden) && matches(down, hidden, intermediate);
  const inOut = matches(up, hidden, 2 * intermediate) && matches(down, intermediate, hidden);
  // Neither fits: the check of shapes against transformers' own orientation says what is wrong.
  return outIn && !inOut ? "bf16.out_in" : "bf16.in_out";
}

/** @throws KL_MODEL_TENSOR_MISSING, KL_MODEL_TENSOR_EXTRA, KL_MODEL_TENSOR_DTYPE, KL_MODEL_TENSOR_SHAPE */
export function checkTensors(
  tensors: ReadonlyMap<string, TensorEntry>,
  expected: ReadonlyMap<string, ExpectedTensor>,
): void {
  for (const [name, { dtype, shape }] of expected) {
    const found = tensors.get(name) ?? missing(name);
    if (found.dtype !== dtype) {
      fail("KL_MODEL_TENSOR_DTYPE", `The tensor ${name} is ${found.dtype}, and ${dtype} is needed.`, {
        remedy: "Convert the checkpoint to bf16, or take the released MXFP4 one.",
        details: { tensor: name },
      });
    }
    if (found.shape.join() !== shape.join()) {
      fail(
        "KL_MODEL_TENSOR_SHAPE",
        `The tensor ${name} has the shape [${found.shape.join(", ")}], and config.json asks for [${shape.join(", ")}].`,
        {
          remedy: "Config and weights belong to different models: take both from one place.",
          details: { tensor: name },
        },
      );
    }
  }
  for (const name of tensors.keys()) {
    if (expected.has(name)) continue;
    fail("KL_MODEL_TENSOR_EXTRA", `The tensor ${name} has no place in the model that config.json describes.`, {
      remedy: "Weights that would be left out mean another model: take config and weights from one place.",
      details: { tensor: name },
    });
  }
}

function missing(name: string): never {
  return fail("KL_MODEL_TENSOR_MISSING", `The tensor ${name} is missing.`, {
    remedy: "Download the model again.",
    details: { tensor: name },
  });
}

export function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
