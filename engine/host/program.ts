/**
 * The model as a list of launches, built once per bucket. Reads as the model does: embed; in every layer norm, attention,
 * norm, experts; last norm, lm_head, sample. Which op runs which nodes is the plan's; what it is given stands here.
 */
import { type ArgsOf, dtypes, encodeArgs, layouts, type OpName } from "@kernlock/kernels/abi";
import {
  type Bucket,
  type BufferName,
  type InputName,
  inputLayout,
  type ModelFacts,
  modeTypes,
  type Plan,
  type PlannedOp,
  type ResultName,
  resultLayout,
  type StepSizes,
  stepSlots,
} from "@kernlock/policies/compatibility";
import type { ModelConfig } from "../model/index.ts";
import type { Device, Step } from "../native/index.ts";
import type { Buffers } from "./buffers.ts";
import { findOp, type LoadedOps, launch } from "./kernels.ts";
import type { LayerWeights, Weights } from "./weights.ts";

/**
 * Sizes of a launch. What really runs is read from the buffers, so that many steps share one program.
 * `rows` 0: no row samples, and what follows the layers is left out.
 */
export interface Shape extends StepSizes {
  readonly bucket: Bucket;
  readonly maxContext: number;
  /** Whether the logits themselves are wanted. */
  readonly logits: boolean;
  /** Which set of inputs and results. What a decoding step samples becomes the token ids of the next set. */
  readonly slot: number;
  /** The token ids are there already: the step before this one has put them there. */
  readonly fed: boolean;
}

/** A step's launches and copies; `routed`: after which of them a layer's experts are chosen. */
export interface Built {
  readonly steps: readonly Step[];
  readonly routed: readonly number[];
  /** What each of the steps belongs to: the name of its op, for attention also which keys it sees; "copies". */
  readonly stages: readonly string[];
}

export interface Parts {
  readonly device: Device;
  readonly plan: Plan;
  readonly model: ModelFacts;
  readonly config: ModelConfig;
  readonly ops: LoadedOps;
  readonly weights: Weights;
  readonly buffers: Buffers;
}

/** Where in the model a launch stands. */
interface Place {
  /** Number of the layer, null outside. */
  readonly layer: number | null;
  /** Scale vector of the next norm. */
  readonly norm: bigint;
}

export function buildSteps(parts: Parts, shape: Shape): Built {
  const { plan, weights, buffers, model } = parts;
  const { inputs, results } = buffers.slots[shape.slot]!;
  const { offsets, bytes } = inputLayout(shape);
  // Token ids come first.
  const first = shape.fed ? offsets.row_seq : 0;
  const steps: Step[] = inputs.up(first, bytes - first);
  const routed: number[] = [];
  const stages: string[] = steps.map(() => "copies");
  const fill = argumentsOf(parts, shape);
  const add = (op: PlannedOp, place: Place): void => {
    const loaded = findOp(parts.ops, op);
    steps.push(...launch(loaded, encode(loaded.name, fill[loaded.name], place)));
    while (stages.length < steps.length) stages.push(stageOf(op, place));
    if (op.covers.includes("router")) routed.push(steps.length);
  };
  const stageOf = ({ op, covers }: PlannedOp, { layer }: Place): string =>
    covers.includes("attn") ? `${op}, ${model.layers[layer!]}` : op;
  const planned = (segment: PlannedOp["segment"]): PlannedOp[] =>
    plan.ops.filter((op) => op.bucket === shape.bucket && op.segment === segment);

  for (const op of planned("before")) add(op, { layer: null, norm: weights.norm });
  for (const [layer, { attnNorm, moeNorm }] of weights.layers.entries()) {
    let norm = attnNorm;
    for (const op of planned("layer")) {
      if (!op.layers.includes(layer)) continue;
      add(op, { layer, norm });
      if (op.covers.includes("norm")) norm = moeNorm;
    }
  }
  if (shape.rows > 0) {
    for (const op of planned("after")) add(op, { layer: null, norm: weights.norm });
    steps.push(...results.down(0, resultLayout(shape).bytes));
    if (shape.logits) steps.push(...buffers.logits.down(4 * shape.rows * model.vocab));
  }
  while (stages.length < steps.length) stages.push("copies");
  return { steps, routed, stages };
}

/** What each op of the model is given at a place. Ops that prepare weights are `weights.ts`'s. */
type Fill = { readonly [N in OpName]: ((place: Place) => ArgsOf<N>) | null };

const encode = <N extends OpName>(name: N, fill: Fill[N], place: Place): Uint8Array => {
  if (fill === null) throw new Error(`${name} is no op of the model`);
  return encodeArgs(name, (fill as (place: Place) => ArgsOf<N>)(place));
};

function argumentsOf({ plan, model, config, weights, buffers }: Parts, shape: Shape): Fill {
  const { tokens, seqs, rows, maxContext } = shape;
  const { hidden, intermediate, heads, kvHeads, headDim, experts, topK, vocab } = model;
  const types = modeTypes[plan.mode];
  const address = (name: BufferName): bigint => buffers.named[name].address;
  const slot = buffers.slots[shape.slot]!;
  const inputs = inputLayout(shape).offsets;
  const input = (name: InputName): bigint => slot.inputs.address + BigInt(inputs[name]);
  const results = resultLayout(shape).offsets;
  const result = (name: ResultName): bigint => slot.results.address + BigInt(results[name]);
  // In a step of decoding, row i that samples is token row i, of this step and of the next.
  const nextTokens = shape.bucket === "decode" ? buffers.slots[(shape.slot + 1) % stepSlots]!.inputs.address : 0n;
  const dtype = { dtype: dtypes[types.activation] };
  const stream_dtype = { stream_dtype: dtypes[types.stream] };
  const kv_dtype = { kv_dtype: dtypes[types.kv] };
  const row_seq = input("row_seq");
  const stream = address("stream");
  const layerOf = ({ layer }: Place): LayerWeights => weights.layers[layer!]!;
  const pages = ({ layer }: Place) => ({
    kv: buffers.kv[layer!]!,
    block_table: input(model.layers[layer!] === "full" ? "block_table_full" : "block_table_sliding"),
    block_table_stride: shape.pages,
  });
  const workspace = {
    scratch: buffers.scratch.address,
    scratch_bytes: BigInt(buffers.scratch.size),
    state: buffers.state.address,
    state_bytes: BigInt(buffers.state.size),
  };
  const attention = (place: Place) => ({
    ...{ ...dtype, ...kv_dtype, tokens, seqs, max_context: maxContext },
    ...{ heads, kv_heads: kvHeads, head_dim: headDim, scale: headDim ** -0.5 },
    window: model.layers[place.layer!] === "sliding" ? model.slidingWindow : 0,
    ...pages(place),
    context: input("context"),
    q: address("q"),
    sinks: layerOf(place).sinks,
    out: address("attended"),
    ...workspace,
  });
  const norm = (place: Place) => ({ eps: config.normEps, norm_weight: place.norm });
  const qkv = (place: Place) => ({
    ...{ ...dtype, ...kv_dtype, tokens, hidden, heads, kv_heads: kvHeads, head_dim: headDim },
    rope_scale: weights.ropeScale,
    ...pages(place),
    row_seq,
    positions: input("positions"),
    weight: layerOf(place).qkv,
    bias: layerOf(place).qkvBias,
    inv_freq: weights.invFreq,
    q: address("q"),
  });
  const router = (place: Place) => ({
    ...{ ...dtype, tokens, hidden, experts, top_k: topK },
    row_seq,
    weight: layerOf(place).router,
    bias: layerOf(place).routerBias,
    expert_ids: address("expert_ids"),
    expert_weights: address("expert_weights"),
  });
  const outProjection = (place: Place) => ({
    ...{ ...dtype, ...stream_dtype, tokens, in_features: heads * headDim, out_features: hidden },
    row_seq,
    x: address("attended"),
    weight: layerOf(place).oProj,
    bias: layerOf(place).oProjBias,
  });
  const mixture = (place: Place) => ({
    ...{ ...dtype, ...stream_dtype, tokens, hidden, intermediate },
    ...{ experts, top_k: topK, expert_begin: 0, expert_end: experts, partial: 0 },
    layout: layouts[plan.expertLayout],
    alpha: config.swigluAlpha,
    limit: config.swigluLimit,
    row_seq,
    x: address("normed"),
    expert_ids: address("expert_ids"),
    expert_weights: address("expert_weights"),
    up_weight: layerOf(place).up,
    up_scales: layerOf(place).upScales,
    up_bias: layerOf(place).upBias,
    down_weight: layerOf(place).down,
    down_scales: layerOf(place).downScales,
    down_bias: layerOf(place).downBias,
    ...workspace,
  });

  return {
    embed: () => ({
      ...{ ...stream_dtype, tokens, hidden, vocab },
      row_seq,
      token_ids: input("token_ids"),
      weight: weights.embed,
      out: stream,
    }),
    rmsnorm: (place) => ({
      ...{ ...dtype, ...stream_dtype, tokens, hidden, eps: config.normEps },
      row_seq,
      x: stream,
      weight: place.norm,
      out: address("normed"),
    }),
    qkv_rope_kv: (place) => ({ ...qkv(place), x: address("normed") }),
    norm_qkv_rope_kv: (place) => ({ ...qkv(place), ...stream_dtype, ...norm(place), x: stream }),
    attn_prefill: (place) => ({ ...attention(place), query_start: input("query_start") }),
    attn_decode: attention,
    o_proj: (place) => ({ ...outProjection(place), out: address("branch") }),
    o_proj_residual: (place) => ({ ...outProjection(place), stream }),
    residual: () => ({ ...dtype, ...stream_dtype, tokens, hidden, row_seq, x: address("branch"), stream }),
    router: (place) => ({ ...router(place), x: address("normed") }),
    norm_router: (place) => ({
      ...{ ...router(place), ...stream_dtype, ...norm(place), ...workspace },
      x: stream,
      normed: address("normed"),
    }),
    moe: (place) => ({ ...mixture(place), out: address("branch") }),
    moe_residual: (place) => ({ ...mixture(place), stream }),
    lm_head: () => ({
      ...{ ...dtype, rows, hidden, vocab },
      sample_rows: input("sample_rows"),
      x: address("normed"),
      weight: weights.lmHead,
      logits: address("logits"),
    }),
    sample: () => ({
      ...{ rows, vocab },
      sample_rows: input("sample_rows"),
      logits: address("logits"),
      temperature: input("temperature"),
      top_p: input("top_p"),
      top_k: input("top_k"),
      seeds: input("seeds"),
      counters: input("counters"),
      token_ids: result("sampled"),
      logprobs: result("logprobs"),
      next_token_ids: nextTokens,
      ...workspace,
    }),
    copy_rows: null,
    transpose_experts: null,
    mxfp4_dequantize: null,
    mxfp4_tiles: null,
  };
}
