import { createCipheriv } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fail } from "@kernlock/kernels/format";
import { parseConfig } from "./config.ts";
import { type ExpectedTensor, expectedTensors } from "./weights.ts";

interface Widths {
  readonly layers: number;
  readonly experts: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocab: number;
}
const released = { hidden: 2880, heads: 64, kvHeads: 8, vocab: 201088 } as const;

/** The released shapes (config.json of gpt-oss-20b and gpt-oss-120b), and one that any machine runs in no time. */
export const shapes = {
  "gpt-oss-20b": { layers: 24, experts: 32, ...released },
  "gpt-oss-120b": { layers: 36, experts: 128, ...released },
  tiny: { layers: 4, experts: 32, hidden: 256, heads: 8, kvHeads: 2, vocab: 4096 },
} as const satisfies Record<string, Widths>;
export type ShapeName = keyof typeof shapes;

export interface MakeModelOptions {
  readonly shape: ShapeName;
  /** The same seed gives the same bytes. */
  readonly seed: number;
  /** Must be empty or absent. */
  readonly folder: string;
  /** Fewer layers than the shape has, for a slice in its real widths. */
  readonly layers?: number;
  /** Fewer experts or a smaller vocabulary than the shape has, for a folder that is written in no time. */
  readonly experts?: number;
  readonly vocab?: number;
  /** Bytes after which a new shard begins. Default 5 GB, as released. */
  readonly shardBytes?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Writes a checkpoint with random weights in the released layout (MXFP4 experts, sharded safetensors), a chunk at a
 * time, so that any shape fits small memory. The scales of the weights keep activations finite and experts busy.
 *
 * @throws KL_MODEL_MAKE
 */
export function makeModel(options: MakeModelOptions): { readonly bytes: number; readonly shards: number } {
  const { folder, seed } = options;
  const configText = `${JSON.stringify(shapeConfig(options), null, 2)}\n`;
  const config = parseConfig(configText);
  const tensors = expectedTensors(config, "mxfp4");
  prepareFolder(folder);
  const shards = intoShards(tensors, options.shardBytes ?? 5e9);
  const total = shards.flat().reduce((sum, { bytes }) => sum + bytes, 0);
  const random = randomStream(seed);
  const weightMap: Record<string, string> = {};
  let done = 0;
  for (const [i, shard] of shards.entries()) {
    const name = shards.length === 1 ? "model.safetensors" : `model-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
    for (const tensor of shard) weightMap[tensor.name] = name;
    writeShard(join(folder, name), shard, random, (bytes) => {
      done += bytes;
      options.onProgress?.(done, total);
    });
  }
  if (shards.length > 1) {
    const index = { metadata: { total_size: total }, weight_map: weightMap };
    writeFileSync(join(folder, "model.safetensors.index.json"), `${JSON.stringify(index, null, 2)}\n`);
  }
  const { vocab } = config;
  const generation = {
    bos_token_id: vocab - 1090,
    do_sample: true,
    eos_token_id: [vocab - 1086, vocab - 1089, vocab - 1076],
    pad_token_id: vocab - 1089,
  };
  writeFileSync(join(folder, "generation_config.json"), `${JSON.stringify(generation, null, 2)}\n`);
  // Last, so that a folder that was not finished is no model.
  writeFileSync(join(folder, "config.json"), configText);
  return { bytes: total, shards: shards.length };
}

const pad = (n: number): string => `${n}`.padStart(5, "0");

/** config.json of a shape. Special tokens stand as far from the end of the vocabulary as in the released files. */
export function shapeConfig({
  shape,
  layers = shapes[shape].layers,
  experts = shapes[shape].experts,
  vocab = shapes[shape].vocab,
}: Pick<MakeModelOptions, "shape" | "layers" | "experts" | "vocab">): Record<string, unknown> {
  const { hidden, heads, kvHeads } = shapes[shape];
  if (!Number.isInteger(layers) || layers < 1 || layers > shapes[shape].layers)
    fail("KL_MODEL_MAKE", `${shape} has 1 to ${shapes[shape].layers} layers to take.`, {
      remedy: "Give fewer layers.",
    });
  return {
    architectures: ["GptOssForCausalLM"],
    model_type: "gpt_oss",
    num_hidden_layers: layers,
    num_local_experts: experts,
    num_experts_per_tok: 4,
    experts_per_token: 4,
    hidden_size: hidden,
    intermediate_size: hidden,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: 64,
    layer_types: Array.from({ length: layers }, (_, i) => (i % 2 === 0 ? "sliding_attention" : "full_attention")),
    sliding_window: 128,
    vocab_size: vocab,
    rms_norm_eps: 1e-5,
    rope_theta: 150000,
    rope_scaling: {
      rope_type: "yarn",
      factor: 32,
      beta_fast: 32,
      beta_slow: 1,
      truncate: false,
      original_max_position_embeddings: 4096,
    },
    max_position_embeddings: 131072,
    initial_context_length: 4096,
    attention_bias: true,
    attention_dropout: 0,
    hidden_act: "silu",
    swiglu_limit: 7,
    tie_word_embeddings: false,
    pad_token_id: vocab - 1089,
    eos_token_id: vocab - 1086,
    quantization_config: {
      quant_method: "mxfp4",
      modules_to_not_convert: [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
      ],
    },
    torch_dtype: "bfloat16",
  };
}

interface SizedTensor extends ExpectedTensor {
  readonly name: string;
  readonly bytes: number;
}

function intoShards(tensors: ReadonlyMap<string, ExpectedTensor>, limit: number): SizedTensor[][] {
  const shards: SizedTensor[][] = [[]];
  let used = 0;
  for (const [name, tensor] of tensors) {
    const bytes = tensor.shape.reduce((a, b) => a * b, tensor.dtype === "U8" ? 1 : 2);
    if (used > 0 && used + bytes > limit) {
      shards.push([]);
      used = 0;
    }
    shards.at(-1)?.push({ ...tensor, name, bytes });
    used += bytes;
  }
  return shards;
}

function prepareFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    if (readdirSync(folder).length === 0) return;
  } catch (error) {
    fail("KL_MODEL_MAKE", `The folder ${folder} cannot be made (${(error as NodeJS.ErrnoException).code}).`, {
      remedy: "Name a folder that you may write to.",
      cause: error,
    });
  }
  fail("KL_MODEL_MAKE", `The folder ${folder} is not empty.`, { remedy: "Name a new folder; nothing is overwritten." });
}

/** A seeded stream of random bytes: AES-128 in counter mode, which no file of weights is long enough to exhaust. */
export function randomStream(seed: number): (bytes: number) => Buffer {
  const key = Buffer.alloc(16);
  key.writeBigUInt64LE(BigInt(seed));
  const cipher = createCipheriv("aes-128-ctr", key, Buffer.alloc(16));
  return (bytes) => cipher.update(Buffer.alloc(bytes));
}

const chunkBytes = 8 << 20;

function writeShard(
  path: string,
  tensors: readonly SizedTensor[],
  random: (bytes: number) => Buffer,
  onBytes: (bytes: number) => void,
): void {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  try {
    const file = openSync(path, "wx");
    try {
      write(file, Buffer.concat([length, Buffer.from(text)]));
      for (const tensor of tensors) {
        for (let at = 0; at < tensor.bytes; at += chunkBytes) {
          const bytes = random(Math.min(chunkBytes, tensor.bytes - at));
          shapeValues(tensor, bytes);
          write(file, bytes);
          onBytes(bytes.length);
        }
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    fail("KL_MODEL_MAKE", `${path} cannot be written (${(error as NodeJS.ErrnoException).code}).`, {
      remedy: "Free some disk space, remove the folder and try again.",
      cause: error,
    });
  }
}

export function write(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}

/** Turns random bytes into values of the tensor's kind, in place. Blocks stay random: every code is as likely. */
export function shapeValues({ name, dtype }: Pick<SizedTensor, "name" | "dtype">, bytes: Buffer): void {
  if (dtype === "U8") {
    // 2^(120-127) times a mean square of 8.6 per code: a standard deviation near 0.02.
    if (name.endsWith("_scales")) for (let i = 0; i < bytes.length; i++) bytes[i] = 119 + ((bytes[i] ?? 0) % 3);
    return;
  }
  const quantiles = table(name.endsWith("norm.weight") ? "norm" : name.endsWith("sinks") ? "sink" : "weight");
  const values = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = quantiles[values[i] ?? 0] ?? 0;
}

/** bf16 quantiles of a normal distribution: a uniform 16-bit number picks one. */
function normalTable(mean: number, deviation: number): Uint16Array {
  const quantiles = new Uint16Array(65536);
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  for (let i = 0; i < quantiles.length; i++) {
    float[0] = mean + deviation * normalQuantile((i + 0.5) / quantiles.length);
    // Round to nearest even on the upper half.
    const word = bits[0] ?? 0;
    quantiles[i] = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return quantiles;
}

/** Inverse of the normal distribution, by bisection on a series for the error function; only tables need it. */
function normalQuantile(p: number): number {
  let low = -6;
  let high = 6;
  for (let i = 0; i < 48; i++) {
    const middle = (low + high) / 2;
    if (normalCumulative(middle) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Phi(x) = 1/2 + phi(x) (x + x^3/3 + x^5/15 + ...), the Taylor series at 0 (Marsaglia 2004). */
function normalCumulative(x: number): number {
  let term = x;
  let sum = x;
  for (let i = 3; Math.abs(term) > 1e-15 * Math.abs(sum) && i < 300; i += 2) {
    term *= (x * x) / i;
    sum += term;
  }
  return 0.5 + sum * Math.exp((-x * x) / 2 - 0.9189385332046727);
}

const makers = {
  weight: () => normalTable(0, 0.02),
  norm: () => normalTable(1, 0.1),
  sink: () => normalTable(0, 0.5),
} as const;
const made = new Map<string, Uint16Array>();
function table(name: keyof typeof makers): Uint16Array {
  const found = made.get(name) ?? makers[name]();
  made.set(name, found);
  return found;
}
