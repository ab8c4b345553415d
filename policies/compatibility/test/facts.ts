/** Facts that tests start from: a small model, a plain machine, and descriptors as the five packages have them. */
import { abiBuild, type Layout, type OpName, ops } from "@kernlock/kernels/abi";
import type { Feature, Variant, VariantOp } from "@kernlock/kernels/format";
import {
  architectureOf,
  architecturesOf,
  type Gpu,
  type KernelFacts,
  type MachineFacts,
  type ModelFacts,
  type PlanRequest,
} from "../index.ts";

export const model: ModelFacts = {
  name: "small",
  layers: ["sliding", "full", "sliding", "full"],
  hidden: 256,
  intermediate: 256,
  heads: 8,
  kvHeads: 2,
  headDim: 64,
  experts: 8,
  topK: 2,
  vocab: 1024,
  slidingWindow: 16,
  maxPositions: 131072,
  expertFormat: "mxfp4",
  bytes: { experts: (4 * 8 * 3 * 256 * 256 * 17) / 32, other: 5_000_000 },
};

export const machine: MachineFacts = {
  os: "linux",
  arch: "x86_64",
  libc: { family: "glibc", version: "2.36" },
  cpu: { model: "a CPU", level: "x86-64-v4", cores: 2 },
  memory: { total: 16e9, available: 8e9 },
};

export const gpu: NonNullable<MachineFacts["cuda"]> = {
  driver: "13.0",
  architectures: ["sm_90a", "sm_90f", "sm_90"],
  devices: [{ name: "a GPU", capability: "9.0", architecture: "sm_90a", memory: 80e9 }],
};

/** A device of another capability. */
export const gpuOf = (capability: string, memory = 80e9): Gpu => ({
  name: `a GPU of ${capability}`,
  capability,
  architecture: architectureOf(capability),
  memory,
});
export const gpus = (...devices: Gpu[]): NonNullable<MachineFacts["cuda"]> => ({
  driver: "13.0",
  architectures: [...new Set(devices.flatMap((device) => architecturesOf(device.capability)))],
  devices,
});

export const request: PlanRequest = {
  device: "auto",
  mode: null,
  pins: [],
  allowDequant: false,
  policyAllowsDequant: true,
  maxContext: null,
  maxSequences: null,
  maxBatchTokens: null,
  workers: null,
};

interface OpFacts {
  readonly layouts?: Layout[];
  readonly features?: Feature[];
  readonly path?: string;
  readonly mode?: VariantOp["mode"];
  readonly limits?: VariantOp["limits"];
  readonly workspace?: VariantOp["workspace"];
}

export function op(name: OpName, facts: OpFacts = {}): VariantOp {
  const { layouts, features = [], path = "cpp", mode = "f32", limits = {} } = facts;
  const fields: ReadonlySet<string> = new Set(ops[name].fields.map((field) => field.name));
  const type = mode === "bf16" ? "bf16" : "f32";
  return {
    name,
    path,
    covers: [...ops[name].covers],
    mode,
    file: "kernel.so",
    dtypes: {
      ...(fields.has("dtype") ? { activation: [type] } : {}),
      ...(fields.has("stream_dtype") ? { stream: ["f32"] } : {}),
      ...(fields.has("kv_dtype") ? { kv: [type] } : {}),
    },
    ...(layouts === undefined ? {} : { layouts }),
    limits,
    features,
    workspace: facts.workspace ?? { scratch: [], state: [] },
  };
}

const digest = (fill: string) => `sha256:${fill.repeat(64)}` as const;

export function kernel(name: string, list: VariantOp[], backend: Variant["backend"] = cpu): KernelFacts {
  const level = backend.kind === "cpu" ? backend.level.slice(7) : backend.architectures.join("").replaceAll("_", "");
  const variant = `linux-x86_64-${backend.kind}-${level}`;
  return {
    name: `kernlock/${name}`,
    version: "0.1.0",
    digest: digest("a"),
    signers: [digest("b")],
    descriptor: {
      schema: "kernlock.variant/v1",
      package: `kernlock/${name}`,
      version: "0.1.0",
      variant,
      abi: 0,
      abi_build: abiBuild,
      platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
      backend,
      tested: true,
      files: [{ path: "kernel.so", kind: "shared-object", digest: digest("c"), size: 1 }],
      ops: list,
      license: "Apache-2.0",
    },
  };
}

export const cpu: Variant["backend"] = { kind: "cpu", level: "x86-64-v3" };
export const cuda: Variant["backend"] = { kind: "cuda", architectures: ["sm_90a"], ptx: [], driver: "13.0" };

const attention: Feature[] = ["sinks", "sliding_window", "paged"];
export const core = kernel("transformer-core", [
  ...(["embed", "qkv_rope_kv", "o_proj", "o_proj_residual", "residual", "router", "lm_head", "sample"] as const).map(
    (name) => op(name),
  ),
  op("copy_rows"),
  op("transpose_experts"),
]);
export const norm = kernel("liger-rmsnorm", [op("rmsnorm")]);
export const fa3 = kernel("fa3-sinks", [
  op("attn_prefill", { features: [...attention, "varlen"] }),
  op("attn_decode", { features: attention }),
]);
export const megablocks = kernel("megablocks-moe", [
  op("moe", { layouts: ["bf16.rows"] }),
  op("moe_residual", { layouts: ["bf16.rows"] }),
]);
export const mxfp4 = kernel("mxfp4", [
  op("moe", { layouts: ["mxfp4.rows"] }),
  op("moe_residual", { layouts: ["mxfp4.rows"] }),
  op("mxfp4_dequantize"),
]);
export const five = [core, norm, fa3, megablocks, mxfp4];
