import type { Layout } from "@kernlock/kernels/abi";
import { fail, type VariantOp, workspaceBytes } from "@kernlock/kernels/format";
import { gpuOf } from "./candidates.ts";
import { bucketOf, bufferBytes, expertBytes, kvBytes, type Limits, stepDims } from "./sizes.ts";
import type { Bucket, Gpu, MachineFacts, Mode, ModelFacts, PlannedMemory } from "./types.ts";

/** Besides what is planned, a GPU's context and loaded kernels take about so much. */
const contextBytes = 600e6;
const free = (gpu: Gpu | undefined): number => Math.max(0, (gpu?.available ?? gpu?.memory ?? 0) - contextBytes);

type Used = readonly { readonly bucket: Bucket; readonly op: VariantOp }[];

/** Scratch and state are shared by all ops of a device, which run one after another: the largest of each is enough. */
function sharedWorkspace(model: ModelFacts, limits: Limits, used: Used): { scratch: number; state: number } {
  let scratch = 0;
  let state = 0;
  for (const { bucket, op } of used) {
    const tokens = bucketOf(bucket === "decode" ? limits.maxSequences : limits.maxBatchTokens);
    const dims = stepDims(model, limits, tokens);
    scratch = Math.max(scratch, workspaceBytes(op.workspace.scratch, dims));
    state = Math.max(state, workspaceBytes(op.workspace.state, dims));
  }
  return { scratch, state };
}

/** @throws KL_PLAN_MEMORY with the numbers */
export function plannedMemory(facts: {
  readonly model: ModelFacts;
  readonly mode: Mode;
  readonly limits: Limits;
  readonly expertLayout: Layout;
  readonly machine: MachineFacts;
  readonly device: "cpu" | `cuda:${number}`;
  readonly ops: Used;
}): { readonly memory: PlannedMemory; readonly shared: { readonly scratch: number; readonly state: number } } {
  const { model, mode, limits, expertLayout, machine, device, ops } = facts;
  const dequantized = model.expertFormat === "mxfp4" && expertLayout === "bf16.rows";
  const shared = sharedWorkspace(model, limits, ops);
  const buffers = Object.values(bufferBytes(model, mode, limits)).reduce((sum, bytes) => sum + bytes, 0);
  const weights = model.bytes.other + expertBytes(model, expertLayout);
  const kv = kvBytes(model, mode, limits);
  const workspace = buffers + shared.scratch + shared.state;
  const total = weights + kv + workspace;
  const available = device === "cpu" ? machine.memory.available : free(gpuOf(machine, device));
  const memory = { weights, kv, workspace, total, available };
  if (total > available) {
    const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
    fail(
      "KL_PLAN_MEMORY",
      `${model.name} needs ${mb(total)} on ${device} (weights ${mb(weights)}, KV cache ${mb(kv)}, ` +
        `workspace ${mb(workspace)}), and ${mb(available)} are available.`,
      {
        remedy:
          "Ask for a shorter context or fewer sequences at once" +
          (dequantized ? ", or use an MoE kernel that reads the experts as they are stored." : "."),
        details: memory,
      },
    );
  }
  return { memory, shared };
}
