/**
 * Weights in place: used as they lie in the files where the kernels read them so, else packed, tiled, dequantised or
 * transposed by the ops that the plan names.
 */
import { encodeArgs } from "@kernlock/kernels/abi";
import { fail } from "@kernlock/kernels/format";
import { type Conversion, type Plan, scaleRow } from "@kernlock/policies/compatibility";
import type { Loading as LoadingOptions, Ring } from "../client/protocol.ts";
import { type Model, type ModelConfig, ropeTable } from "../model/index.ts";
import { type Device, type Memory, type UploadTimes, writeMemory } from "../native/index.ts";
import { findOp, type LoadedOps } from "./kernels.ts";
import { type Placing, placeMapped, placeUploaded } from "./placing.ts";

/** Addresses of one layer's weights; all bf16 but the experts', whose layout the plan states. Null scales: 0n. */
export interface LayerWeights {
  readonly attnNorm: bigint;
  readonly qkv: bigint;
  readonly qkvBias: bigint;
  readonly sinks: bigint;
  readonly oProj: bigint;
  readonly oProjBias: bigint;
  readonly moeNorm: bigint;
  readonly router: bigint;
  readonly routerBias: bigint;
  readonly up: bigint;
  readonly upScales: bigint;
  readonly upBias: bigint;
  readonly down: bigint;
  readonly downScales: bigint;
  readonly downBias: bigint;
}

export interface Weights {
  readonly embed: bigint;
  readonly layers: readonly LayerWeights[];
  readonly norm: bigint;
  readonly lmHead: bigint;
  readonly invFreq: bigint;
  readonly ropeScale: number;
}

interface Loading {
  readonly model: Model;
  readonly plan: Plan;
  readonly device: Device;
  readonly ops: LoadedOps;
}

/**
 * Readers: at most, where there are so many cores. A slot holds at least the largest thing that is prepared in one piece.
 * All slots together should not be much more than a processor's cache: then copies are read from there.
 */
export const ring: Ring = { slots: 8, slotBytes: 12 << 20, readers: 16, partBytes: 2 << 20 };

/**
 * Begins to place the weights of a model; `finish` of the result does the reading. A GPU's staging memory is taken now.
 * @throws KL_MEMORY_*
 */
export function openPlacing({
  model,
  plan,
  device,
  loading,
  pinned,
}: Loading & { readonly loading: LoadingOptions; readonly pinned: Memory | undefined }): Placing {
  const scales = /\.mlp\.experts\.(gate_up|down)_proj_scales$/;
  const refused = [253, 254, 255].find((byte) => scaleRow(byte, plan.expertLayout) !== undefined) ?? 256;
  const options = {
    ...{ model, device },
    refuse: (tensor: string) => (scales.test(tensor) ? refused : 256),
    onRefused(tensor: string, index: number, byte: number): never {
      const row = scaleRow(byte, plan.expertLayout);
      fail("KL_MODEL_SCALE", `Scale ${index} of ${tensor} is ${byte}: ${row?.reason}.`, {
        remedy: row?.remedy ?? "",
        row: row?.id ?? "",
        details: { tensor, index, byte },
      });
    },
  };
  const { experts, hidden, intermediate } = model.config;
  const largest = model.expertFormat === "bf16.in_out" && experts > 0 ? 4 * hidden * intermediate + 1024 : 0;
  const asked = { ...ring, readers: Math.min(ring.readers, plan.workers), ...loading.ring };
  const slotBytes = Math.max(asked.slotBytes, largest);
  return device.kind === "cpu"
    ? placeMapped(options)
    : placeUploaded({ ...options, ring: { ...asked, slotBytes, overlap: loading.overlap, pinned } });
}

/** @throws KL_MODEL_SCALE before any kernel uses the scale; KL_MEMORY_*, KL_OP_FAILED */
export async function loadWeights(
  loading: Loading & {
    readonly placing: Placing;
    readonly onProgress: (done: number, total: number) => void;
    readonly onTimes: (times: UploadTimes) => void;
  },
): Promise<Weights> {
  const { model, device, placing, onProgress, onTimes } = loading;
  const layers = Array.from({ length: model.config.layers }, (_, layer) => placeLayer(loading, layer));
  const { invFreq, scale } = ropeTable(model.config);
  const table = device.allocate(invFreq.byteLength);
  const weights = {
    embed: placing.keep("model.embed_tokens.weight"),
    layers,
    norm: placing.keep("model.norm.weight"),
    lmHead: placing.keep("lm_head.weight"),
    invFreq: table.address,
    ropeScale: scale,
  };
  const times = await placing.finish(onProgress);
  if (times !== null) onTimes(times);
  writeMemory(device, table, new Uint8Array(invFreq.buffer));
  return weights;
}

const expertNames = ["gate_up_proj", "down_proj"] as const;
type Parts = Loading & { readonly placing: Placing };

function placeLayer(parts: Parts, layer: number): LayerWeights {
  const { model, plan, placing } = parts;
  const prefix = `model.layers.${layer}.`;
  const keep = (name: string): bigint => placing.keep(`${prefix}${name}`);
  const expert = (name: (typeof expertNames)[number]): bigint =>
    placeExperts(parts, `${prefix}mlp.experts.${name}`, expertShape(model.config, name));
  const scales = (name: (typeof expertNames)[number]): bigint =>
    plan.expertLayout === "mxfp4.rows" ? keep(`mlp.experts.${name}_scales`) : 0n;
  return {
    attnNorm: keep("input_layernorm.weight"),
    qkv: packQkv(parts, prefix, "weight", 2 * model.config.hidden),
    qkvBias: packQkv(parts, prefix, "bias", 2),
    sinks: keep("self_attn.sinks"),
    oProj: keep("self_attn.o_proj.weight"),
    oProjBias: keep("self_attn.o_proj.bias"),
    moeNorm: keep("post_attention_layernorm.weight"),
    router: keep("mlp.router.weight"),
    routerBias: keep("mlp.router.bias"),
    up: expert("gate_up_proj"),
    upScales: scales("gate_up_proj"),
    upBias: keep("mlp.experts.gate_up_proj_bias"),
    down: expert("down_proj"),
    downScales: scales("down_proj"),
    downBias: keep("mlp.experts.down_proj_bias"),
  };
}

const conversion = ({ plan }: Loading, kind: Conversion["kind"]): Conversion =>
  plan.conversions.find((one) => one.kind === kind) ??
  fail("KL_ENGINE_INTERNAL", `The plan has no conversion of kind ${kind}, and the weights need one.`);

/** One matrix of q's, then k's, then v's rows, or one bias of the same order. */
function packQkv(parts: Parts, prefix: string, what: "weight" | "bias", rowBytes: number): bigint {
  const { heads, kvHeads, headDim } = parts.model.config;
  const op = findOp(parts.ops, conversion(parts, "pack"));
  const widths = { q: heads * headDim, k: kvHeads * headDim, v: kvHeads * headDim };
  const packed = parts.placing.allocate((widths.q + widths.k + widths.v) * rowBytes);
  let row = 0;
  for (const [name, rows] of Object.entries(widths)) {
    const bytes = BigInt(rowBytes);
    parts.placing.convert({
      ...{ op, rows, unit: 1 },
      sources: [{ tensor: `${prefix}self_attn.${name}_proj.${what}`, rowBytes }],
      to: packed + BigInt(row * rowBytes),
      resultBytes: (count) => count * rowBytes,
      args: (count, [src], dst) =>
        encodeArgs("copy_rows", {
          ...{ rows: BigInt(count), row_bytes: bytes, src_stride: bytes, dst_stride: bytes },
          ...{ src: src!, dst },
        }),
    });
    row += rows;
  }
  return packed;
}

interface Matrix {
  readonly out: number;
  readonly in: number;
}
const expertShape = (config: ModelConfig, name: (typeof expertNames)[number]): Matrix =>
  name === "gate_up_proj"
    ? { out: 2 * config.intermediate, in: config.hidden }
    : { out: config.hidden, in: config.intermediate };

/** The experts' matrices in the plan's layout: as they are in the file, or what an op makes of them. */
function placeExperts(parts: Parts, name: string, shape: Matrix): bigint {
  const { model, plan, ops, placing } = parts;
  const { experts } = model.config;
  const bf16Bytes = (rows: number): number => rows * shape.in * 2;
  switch (model.expertFormat) {
    case "bf16.out_in":
      return placing.keep(name);
    case "bf16.in_out": {
      const matrixBytes = bf16Bytes(shape.out);
      const to = placing.allocate(experts * matrixBytes);
      placing.convert({
        op: findOp(ops, conversion(parts, "transpose")),
        ...{ rows: experts, unit: 1, to },
        sources: [{ tensor: name, rowBytes: matrixBytes }],
        resultBytes: (count) => count * matrixBytes,
        args: (count, [src], dst) =>
          encodeArgs("transpose_experts", { experts: count, rows: shape.in, columns: shape.out, src: src!, dst }),
      });
      return to;
    }
    case "mxfp4": {
      const { expertLayout } = plan;
      if (expertLayout === "mxfp4.rows") return placing.keep(`${name}_blocks`);
      const tiled = expertLayout === "mxfp4.tiles";
      const tileRow = (Math.ceil(shape.in / 64) * 272) / 8;
      const resultBytes = (rows: number): number => (tiled ? rows * tileRow : bf16Bytes(rows));
      const to = placing.allocate(resultBytes(experts * shape.out));
      const encode = (rows: number, [blocks, scales]: readonly bigint[], dst: bigint): Uint8Array => {
        const args = { rows: BigInt(rows), columns: shape.in, blocks: blocks!, scales: scales!, dst };
        return tiled ? encodeArgs("mxfp4_tiles", args) : encodeArgs("mxfp4_dequantize", args);
      };
      placing.convert({
        op: findOp(ops, conversion(parts, tiled ? "tile" : "dequantize")),
        ...{ rows: experts * shape.out, unit: 8, to, resultBytes, args: encode },
        sources: [
          { tensor: `${name}_blocks`, rowBytes: shape.in / 2 },
          { tensor: `${name}_scales`, rowBytes: shape.in / 32 },
        ],
      });
      return to;
    }
  }
}
