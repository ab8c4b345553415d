/**
 * Weights in place: mapped from the files where the kernels read them as they lie, else packed, dequantised or transposed
 * by the ops that the plan names.
 */
import { encodeArgs } from "@kernlock/kernels/abi";
import { fail } from "@kernlock/kernels/format";
import { type Conversion, type Plan, scaleRow } from "@kernlock/policies/compatibility";
import { type Model, type ModelConfig, ropeTable } from "../model/index.ts";
import { createProgram, type Device, type Memory, type Step } from "../native/index.ts";
import { findOp, type LoadedOps, launch } from "./kernels.ts";

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
  /** Address of a tensor. */
  readonly at: (name: string) => bigint;
}

/** @throws KL_MODEL_SCALE before any kernel runs; KL_MEMORY_*, KL_OP_FAILED */
export async function loadWeights(
  parts: Omit<Loading, "at"> & { readonly onProgress: (done: number, total: number) => void },
): Promise<Weights> {
  const { model, plan, device, onProgress } = parts;
  const files = new Map<number, Memory>();
  const at = (name: string): bigint => {
    const tensor = model.tensors.get(name)!;
    const file = model.files[tensor.file]!;
    const mapped = files.get(tensor.file) ?? device.mapFile(file.fd, 0, file.size);
    files.set(tensor.file, mapped);
    return mapped.address + BigInt(tensor.offset);
  };
  const loading = { ...parts, at };
  for (let layer = 0; layer < model.config.layers; layer++) checkScales(loading, layer);

  const layers: LayerWeights[] = [];
  const total = plan.conversions.reduce((sum, { bytes }) => sum + bytes, 0);
  for (let layer = 0; layer < model.config.layers; layer++) {
    layers.push(await loadLayer(loading, layer));
    onProgress(Math.round((total * (layer + 1)) / model.config.layers), total);
  }
  const { invFreq, scale } = ropeTable(model.config);
  const table = device.allocate(invFreq.byteLength);
  table.bytes.set(new Uint8Array(invFreq.buffer));
  return {
    embed: at("model.embed_tokens.weight"),
    layers,
    norm: at("model.norm.weight"),
    lmHead: at("lm_head.weight"),
    invFreq: table.address,
    ropeScale: scale,
  };
}

const expertNames = ["gate_up_proj", "down_proj"] as const;

/** Rows S1 and S2 of the matrix: scales that stand for no number, or for none that bf16 can hold. */
function checkScales({ model, plan, device, at }: Loading, layer: number): void {
  if (model.expertFormat !== "mxfp4") return;
  for (const expert of expertNames) {
    const name = `model.layers.${layer}.mlp.experts.${expert}_scales`;
    for (const byte of [255, 254, 253]) {
      const row = scaleRow(byte, plan.expertLayout);
      if (row === undefined) continue;
      const place = device.indexOfByte(at(name), model.tensors.get(name)!.bytes, byte);
      if (place < 0) continue;
      fail("KL_MODEL_SCALE", `Scale ${place} of ${name} is ${byte}: ${row.reason}.`, {
        remedy: row.remedy,
        row: row.id,
        details: { tensor: name, index: place, byte },
      });
    }
  }
}

async function loadLayer(loading: Loading, layer: number): Promise<LayerWeights> {
  const { model, device, at } = loading;
  const prefix = `model.layers.${layer}.`;
  const scales = loading.plan.expertLayout === "mxfp4.rows";
  const steps: Step[] = [];
  const qkv = packQkv(loading, prefix, steps);
  const expert = (name: (typeof expertNames)[number]): bigint =>
    convertExperts(loading, `${prefix}mlp.experts.${name}`, steps, expertShape(model.config, name));
  const weights = {
    attnNorm: at(`${prefix}input_layernorm.weight`),
    ...qkv,
    sinks: at(`${prefix}self_attn.sinks`),
    oProj: at(`${prefix}self_attn.o_proj.weight`),
    oProjBias: at(`${prefix}self_attn.o_proj.bias`),
    moeNorm: at(`${prefix}post_attention_layernorm.weight`),
    router: at(`${prefix}mlp.router.weight`),
    routerBias: at(`${prefix}mlp.router.bias`),
    up: expert("gate_up_proj"),
    upScales: scales ? at(`${prefix}mlp.experts.gate_up_proj_scales`) : 0n,
    upBias: at(`${prefix}mlp.experts.gate_up_proj_bias`),
    down: expert("down_proj"),
    downScales: scales ? at(`${prefix}mlp.experts.down_proj_scales`) : 0n,
    downBias: at(`${prefix}mlp.experts.down_proj_bias`),
  };
  await createProgram(device, steps).run();
  return weights;
}

const conversion = ({ plan }: Loading, kind: Conversion["kind"]): Conversion =>
  plan.conversions.find((one) => one.kind === kind) ??
  fail("KL_ENGINE_INTERNAL", `The plan has no conversion of kind ${kind}, and the weights need one.`);

/** One matrix of q's, then k's, then v's rows, and one bias of the same order. */
function packQkv(loading: Loading, prefix: string, steps: Step[]): { qkv: bigint; qkvBias: bigint } {
  const { model, device, ops, at } = loading;
  const { heads, kvHeads, headDim, hidden } = model.config;
  const op = findOp(ops, conversion(loading, "pack"));
  const widths = { q: heads * headDim, k: kvHeads * headDim, v: kvHeads * headDim };
  const pack = (what: "weight" | "bias", rowBytes: number): bigint => {
    const rows = widths.q + widths.k + widths.v;
    const packed = device.allocate(rows * rowBytes).address;
    let row = 0;
    for (const [name, width] of Object.entries(widths)) {
      const bytes = BigInt(rowBytes);
      const args = encodeArgs("copy_rows", {
        rows: BigInt(width),
        row_bytes: bytes,
        src_stride: bytes,
        dst_stride: bytes,
        src: at(`${prefix}self_attn.${name}_proj.${what}`),
        dst: packed + BigInt(row) * bytes,
      });
      steps.push(launch(op, args));
      row += width;
    }
    return packed;
  };
  return { qkv: pack("weight", 2 * hidden), qkvBias: pack("bias", 2) };
}

interface Matrix {
  readonly out: number;
  readonly in: number;
}
const expertShape = (config: ModelConfig, name: (typeof expertNames)[number]): Matrix =>
  name === "gate_up_proj"
    ? { out: 2 * config.intermediate, in: config.hidden }
    : { out: config.hidden, in: config.intermediate };

/** The experts' matrices in the plan's layout: where they lie, or a copy that `steps` will fill. */
function convertExperts(loading: Loading, name: string, steps: Step[], shape: Matrix): bigint {
  const { model, plan, device, ops, at } = loading;
  const { experts } = model.config;
  const bf16Bytes = experts * shape.out * shape.in * 2;
  switch (model.expertFormat) {
    case "bf16.out_in":
      return at(name);
    case "bf16.in_out": {
      const dst = device.allocate(bf16Bytes).address;
      const args = { experts, rows: shape.in, columns: shape.out, src: at(name), dst };
      steps.push(launch(findOp(ops, conversion(loading, "transpose")), encodeArgs("transpose_experts", args)));
      return dst;
    }
    case "mxfp4": {
      if (plan.expertLayout === "mxfp4.rows") return at(`${name}_blocks`);
      const source = { rows: BigInt(experts * shape.out), columns: shape.in };
      const codes = { blocks: at(`${name}_blocks`), scales: at(`${name}_scales`) };
      if (plan.expertLayout === "bf16.rows") {
        const dst = device.allocate(bf16Bytes).address;
        const op = findOp(ops, conversion(loading, "dequantize"));
        steps.push(launch(op, encodeArgs("mxfp4_dequantize", { ...source, ...codes, dst })));
        return dst;
      }
      const dst = device.allocate((experts * shape.out * Math.ceil(shape.in / 64) * 272) / 8).address;
      const op = findOp(ops, conversion(loading, "tile"));
      steps.push(launch(op, encodeArgs("mxfp4_tiles", { ...source, ...codes, dst })));
      return dst;
    }
  }
}
