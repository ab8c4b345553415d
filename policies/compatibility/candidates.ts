import { abiBuild, type Dim, type Layout, type Node } from "@kernlock/kernels/abi";
import { isTested, type VariantOp } from "@kernlock/kernels/format";
import { codeFor, codeText } from "./gpu.ts";
import { bucketOf, type Limits, modeTypes, stepDims } from "./sizes.ts";
import type { Bucket, CpuLevel, KernelFacts, LayerKind, MachineFacts, Mode, ModelFacts } from "./types.ts";

/** One op of one kernel variant, as something that may or may not do. */
export interface Candidate {
  readonly kernel: KernelFacts;
  readonly op: VariantOp;
  /** The PTX target that the driver would compile for the device; null where the variant has machine code for it. */
  readonly ptx: string | null;
}

/** What a place in the model asks of an op. */
export interface Need {
  readonly model: ModelFacts;
  readonly mode: Mode;
  readonly limits: Limits;
  readonly bucket: Bucket;
  /** Null outside the layers. */
  readonly layer: LayerKind | null;
  readonly expertLayout: Layout;
}

/** Why a variant does not run on a machine or device, ordered by how far it is from running. */
export const misfits = ["untested", "ptx", "driver", "absent", "architecture", "platform"] as const;
export type Misfit = (typeof misfits)[number];

/** `about`: the kind of place, a feature that is missing, a node beside it that nothing runs, the machine, or anything else. */
export interface No {
  readonly supported: false;
  readonly reason: string;
  readonly about: "bucket" | "feature" | "neighbour" | "other" | Misfit;
}
export type Answer = { readonly supported: true } | No;
const yes: Answer = { supported: true };
export const no = (reason: string, about: No["about"] = "other"): No => ({ supported: false, reason, about });

export const opLabel = ({ kernel, op }: Candidate): string => `${kernel.name} ${op.name}/${op.path}`;

/** `capability`: of the GPU that is planned for, null for the CPU. */
export function candidatesOf(kernels: readonly KernelFacts[], capability: string | null): Candidate[] {
  return kernels.flatMap((kernel) => {
    const { backend, ops } = kernel.descriptor;
    const code = backend.kind === "cuda" && capability !== null ? codeFor(backend, capability) : null;
    const ptx = code?.kind === "ptx" ? code.target : null;
    return ops.map((op) => ({ kernel, op, ptx }));
  });
}

const cpuLevels: readonly CpuLevel[] = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"];
export const cpuRank = (level: CpuLevel): number => cpuLevels.indexOf(level);

/** Whether a kernel variant runs on a device of this machine at all. */
export function fitsMachine(kernel: KernelFacts, machine: MachineFacts, device: "cpu" | `cuda:${number}`): Answer {
  const { backend, platform, abi_build } = kernel.descriptor;
  if (abi_build !== abiBuild) return no(`was built against another ABI (${abi_build})`);
  if (platform.os !== machine.os || platform.arch !== machine.arch) {
    return no(`is for ${platform.os} ${platform.arch}, this is ${machine.os} ${machine.arch}`, "platform");
  }
  if (platform.libc.family !== machine.libc.family || older(machine.libc.version, platform.libc.minimum)) {
    const have = `${machine.libc.family} ${machine.libc.version}`;
    return no(`needs ${platform.libc.family} ${platform.libc.minimum}, this machine has ${have}`);
  }
  switch (backend.kind) {
    case "cpu":
      if (device !== "cpu") return no("is a CPU kernel");
      return cpuRank(machine.cpu.level) >= cpuRank(backend.level)
        ? yes
        : no(`needs a CPU of level ${backend.level}, this one is ${machine.cpu.level}`);
    case "cuda": {
      if (device === "cpu") return no("is a CUDA kernel");
      const gpu = gpuOf(machine, device);
      if (machine.cuda === undefined || gpu === undefined) return no(`needs ${device}, which is not there`, "absent");
      const code = codeFor(backend, gpu.capability);
      if (code === null) {
        return no(`is for ${codeText(backend)}, the device is ${gpu.architecture} (${gpu.name})`, "architecture");
      }
      if (code.kind === "ptx" && kernel.permits?.ptx !== true) {
        return no(`has only PTX for ${gpu.architecture}`, "ptx");
      }
      if (older(machine.cuda.driver, backend.driver)) {
        return no(`needs a driver for CUDA ${backend.driver}, this one runs ${machine.cuda.driver}`, "driver");
      }
      if (!isTested(kernel.descriptor) && kernel.permits?.untested !== true) {
        return no(`has not been tested on ${codeText(backend)}`, "untested");
      }
      return yes;
    }
  }
}

export const gpuOf = (machine: MachineFacts, device: string) =>
  machine.cuda?.devices[Number(device.slice("cuda:".length))];

function older(have: string, floor: string): boolean {
  const a = have.split(".").map(Number);
  const b = floor.split(".").map(Number);
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if ((a[i] ?? 0) !== (b[i] ?? 0)) return (a[i] ?? 0) < (b[i] ?? 0);
  }
  return false;
}

/** Whether an op does what a place in the model needs, from its descriptor alone. */
export function supports({ op }: Candidate, need: Need): Answer {
  if (op.mode !== need.mode) return no(`runs in mode ${op.mode}`);
  if (op.name === "attn_decode" && need.bucket !== "decode") return no("takes one row per sequence only", "bucket");
  const types = modeTypes[need.mode];
  for (const role of ["activation", "stream", "kv"] as const) {
    const accepted = op.dtypes[role];
    if (accepted !== undefined && !accepted.includes(types[role])) {
      return no(`takes ${accepted.join(" or ")} as ${role} type, mode ${need.mode} has ${types[role]}`);
    }
  }
  if (op.layouts !== undefined && !op.layouts.includes(need.expertLayout)) {
    return no(`reads weights as ${op.layouts.join(" or ")}, not ${need.expertLayout}`);
  }
  for (const feature of neededFeatures(op, need)) {
    if (!op.features.includes(feature)) return no(`lacks "${feature}"`, "feature");
  }
  return withinLimits(op, need);
}

/** Rows A4 and A7: attention without these gives other numbers, so they are never optional. */
function neededFeatures(op: VariantOp, need: Need): VariantOp["features"] {
  if (!(op.covers as readonly Node[]).includes("attn")) return [];
  const features: VariantOp["features"] = ["sinks", "paged"];
  if (need.layer === "sliding") features.push("sliding_window");
  if (op.name === "attn_prefill") features.push("varlen");
  return features;
}

/** Limits bound every launch of a kind of step: the largest there is, and where an op states a floor, the smallest. */
function withinLimits(op: VariantOp, need: Need): Answer {
  const sequences = bucketOf(need.limits.maxSequences);
  const tokens = need.bucket === "decode" ? sequences : bucketOf(need.limits.maxBatchTokens);
  const largest = stepDims(need.model, need.limits, tokens);
  for (const [dim, limit] of Object.entries(op.limits) as [
    Dim,
    { min?: number; max?: number; multipleOf?: number },
  ][]) {
    const size = largest[dim];
    const smallest = stepSizes.has(dim) ? 1 : size;
    if (limit.max !== undefined && size > limit.max) return no(`takes ${dim} up to ${limit.max}, here it is ${size}`);
    if (limit.min !== undefined && smallest < limit.min) {
      return no(`takes ${dim} from ${limit.min}, here it is ${smallest}`);
    }
    if (limit.multipleOf !== undefined && !stepSizes.has(dim) && size % limit.multipleOf !== 0) {
      return no(`takes multiples of ${limit.multipleOf} as ${dim}, here it is ${size}`);
    }
  }
  return yes;
}
const stepSizes: ReadonlySet<Dim> = new Set<Dim>(["tokens", "seqs", "rows", "max_context"]);
