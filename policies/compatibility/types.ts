import type { Layout, Node } from "@kernlock/kernels/abi";
import type { Digest, Variant } from "@kernlock/kernels/format";

/** The number format of a whole plan. A machine picks the instruction set inside a mode, never the mode. */
export type Mode = "f32" | "bf16" | "q8";

/**
 * How a checkpoint stores its experts.
 * `mxfp4`: `_blocks` and `_scales` (layout `mxfp4.rows`). `bf16.out_in`: [expert, out, in] (layout `bf16.rows`).
 * `bf16.in_out`: [expert, in, out], the transposed export of Hugging Face transformers.
 */
export type ExpertFormat = "mxfp4" | "bf16.out_in" | "bf16.in_out";

export type LayerKind = "full" | "sliding";

/** What the planner must know about a checkpoint. Read from config.json and the safetensors headers alone. */
export interface ModelFacts {
  readonly name: string;
  /** One entry a layer. */
  readonly layers: readonly LayerKind[];
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly experts: number;
  readonly topK: number;
  readonly vocab: number;
  /** Keys a query of a sliding layer sees, itself included. */
  readonly slidingWindow: number;
  /** Positions the model was made for. */
  readonly maxPositions: number;
  readonly expertFormat: ExpertFormat;
  /** Bytes as stored: expert matrices (blocks and scales, or bf16), and everything else. */
  readonly bytes: { readonly experts: number; readonly other: number };
}

export type CpuLevel = "x86-64" | "x86-64-v2" | "x86-64-v3" | "x86-64-v4";

export interface MachineFacts {
  readonly os: string;
  readonly arch: string;
  readonly libc: { readonly family: string; readonly version: string };
  readonly cpu: { readonly model: string; readonly level: CpuLevel; readonly cores: number };
  /** What it can do to confine the engine host; absent where nobody has looked. `landlock`: its version, 0 without. */
  readonly confinement?: { readonly landlock: number; readonly seccomp: boolean };
  /** Bytes. */
  readonly memory: { readonly total: number; readonly available: number };
  /** Absent without a driver. */
  readonly cuda?: {
    /** The highest CUDA version the driver runs: "13.0". */
    readonly driver: string;
    /** Whose machine code runs on some device here, without repetition: "sm_90a", "sm_90". */
    readonly architectures: readonly string[];
    readonly devices: readonly Gpu[];
  };
  /** GPUs that are not NVIDIA's, by maker and model. */
  readonly otherGpus?: readonly string[];
}

export interface Gpu {
  readonly name: string;
  /** Compute capability: "9.0". */
  readonly capability: string;
  /** What its own machine code is called: "sm_90a". */
  readonly architecture: string;
  /** Bytes in all. */
  readonly memory: number;
  /** Bytes that nobody uses; absent where that is not known. */
  readonly available?: number;
}

/** One variant of one locked package. Several variants of a package may be offered; the device picks. */
export interface KernelFacts {
  readonly name: string;
  readonly version: string;
  /** Manifest digest of the variant. */
  readonly digest: Digest;
  /** Accepted signers: `sha256:<hex of the SPKI>` or issuer + subject. */
  readonly signers: readonly string[];
  readonly descriptor: Variant;
  /** What the policy permits of this package; default: neither. */
  readonly permits?: {
    /** Variants that nobody has run on such a device. */
    readonly untested: boolean;
    /** PTX, which the driver compiles at load. */
    readonly ptx: boolean;
  };
}

/** `--kernel NODE=NAME[/PATH]`, taken apart by `parsePin`. */
export interface Pin {
  /** The nodes meant: `moe` stands for moe_up and moe_down. */
  readonly nodes: readonly Node[];
  /** `namespace/name` or a bare name. */
  readonly kernel: string;
  readonly path: string | null;
  /** As written, for messages. */
  readonly text: string;
}

export interface PlanRequest {
  /** `cuda`, and `auto` with CUDA kernels in the lock: the first device that can. */
  readonly device: "auto" | "cpu" | "cuda" | `cuda:${number}`;
  /** Null: f32 on a CPU, bf16 on a GPU. */
  readonly mode: Mode | null;
  readonly pins: readonly Pin[];
  /** The flag `--allow-dequant`. */
  readonly allowDequant: boolean;
  /** Whether the policy lets that flag be used. */
  readonly policyAllowsDequant: boolean;
  /** Tokens of one sequence, prompt and answer. Null: the model's own, but at most 8192. */
  readonly maxContext: number | null;
  /** Sequences that run at once. Null: 8. */
  readonly maxSequences: number | null;
  /** Token rows of one step; prompts longer than that run in chunks. Null: 512. */
  readonly maxBatchTokens: number | null;
  /** CPU threads. Null: one a core. */
  readonly workers: number | null;
  /** What the policy says about a machine that cannot confine kernels. Default `required`: it runs none. */
  readonly confinement?: "required" | "best-effort";
}

/** `decode`: every sequence has one row. `mixed`: sequences have any number of rows (prompts, and steps of both). */
export type Bucket = "decode" | "mixed";

/**
 * Why an op was chosen. `pinned`: asked for by name. `only_candidate`: no other op here runs these nodes.
 * `longest_cover`: it runs more nodes at once than the others. `made_for_decode`: written for one row a sequence.
 * `cpu_level`: the newest instruction set this machine has. `architecture`: the code closest to this GPU.
 * `machine_code`: the others have only PTX. `first_by_name`: equal in all of that.
 */
export type ReasonCode =
  | "pinned"
  | "only_candidate"
  | "longest_cover"
  | "made_for_decode"
  | "cpu_level"
  | "architecture"
  | "machine_code"
  | "first_by_name";

/** Which op runs a run of nodes, in which layers, for one kind of step. */
export interface PlannedOp {
  readonly bucket: Bucket;
  readonly segment: "before" | "layer" | "after";
  /** Nodes that the op runs, in order. */
  readonly covers: readonly Node[];
  /** Layer numbers; empty before and after the layers. */
  readonly layers: readonly number[];
  /** As in the library's table: `moe/cpp`. */
  readonly op: string;
  readonly kernel: string;
  readonly version: string;
  readonly variant: string;
  readonly digest: Digest;
  readonly signer: string;
  readonly mode: Mode;
  /** Weight layout, for ops that state one. */
  readonly layout: Layout | null;
  readonly reason: { readonly code: ReasonCode; readonly text: string };
}

/** An op that runs nodes of the model and is used nowhere. */
export interface Declined {
  readonly op: string;
  readonly kernel: string;
  readonly version: string;
  readonly variant: string;
  readonly covers: readonly Node[];
  readonly reason: string;
}

/** A weight that is not used as it lies in the file. */
export interface Conversion {
  readonly kind: "pack" | "dequantize" | "transpose" | "tile";
  /** Which tensors, with N for the layer number. */
  readonly tensors: string;
  readonly from: string;
  readonly to: string;
  /** Bytes of the result, over all layers. */
  readonly bytes: number;
  readonly op: string;
  readonly kernel: string;
  readonly version: string;
  readonly variant: string;
  readonly digest: Digest;
  readonly signer: string;
  /** `row`: the row of the compatibility matrix that decided. */
  readonly reason: { readonly code: string; readonly text: string; readonly row: string | null };
}

/** A variant without machine code for the device, whose PTX the driver compiles when it is loaded. */
export interface PlannedPtx {
  readonly kernel: string;
  readonly version: string;
  readonly variant: string;
  /** Of the variant's manifest: it covers the PTX, and not what the driver makes of it. */
  readonly digest: Digest;
  readonly signer: string;
  /** Of the PTX: "sm_90". */
  readonly target: string;
  readonly text: string;
}

/** Bytes on the device. */
export interface PlannedMemory {
  readonly weights: number;
  readonly kv: number;
  /** Activations, step inputs, logits, scratch and state of the ops. */
  readonly workspace: number;
  readonly total: number;
  readonly available: number;
}

export interface Plan {
  readonly model: string;
  readonly device: "cpu" | `cuda:${number}`;
  /** Every visible GPU: why it is the one, or why not. Empty for the CPU. */
  readonly devices: readonly PlannedDevice[];
  readonly mode: Mode;
  readonly expertLayout: Layout;
  readonly workers: number;
  readonly maxContext: number;
  readonly maxSequences: number;
  readonly maxBatchTokens: number;
  /** KV pages of 64 tokens in each arena. */
  readonly pages: Readonly<Record<LayerKind, number>>;
  /** Rows of logits that one step may ask for. */
  readonly maxRows: number;
  /** Bytes that all ops share. `scratch` is undefined on entry; `state` is zero before and after every op. */
  readonly workspace: { readonly scratch: number; readonly state: number };
  /** In the order in which they run: before the layers, each layer, after the layers. */
  readonly ops: readonly PlannedOp[];
  /** What else the lock offers for this device, and why it is not used. */
  readonly declined: readonly Declined[];
  readonly conversions: readonly Conversion[];
  /** What the driver compiles on this machine. Empty: its compiler stays off. */
  readonly ptx: readonly PlannedPtx[];
  readonly memory: PlannedMemory;
}

export interface PlannedDevice {
  readonly device: `cuda:${number}`;
  readonly name: string;
  readonly chosen: boolean;
  readonly reason: string;
}

export type Outcome = "native" | "convert" | "refuse";
