import {
  type BufferName,
  bufferBytes,
  type ModelFacts,
  type Plan,
  pageBytes,
  stepSlots,
} from "@kernlock/policies/compatibility";
import { type Device, type Memory, type Shared, type Step, share } from "../native/index.ts";

/** What a step reads and writes besides weights: its inputs and results, memory between ops, the KV cache. */
export interface Buffers {
  readonly slots: readonly { readonly inputs: Shared; readonly results: Shared }[];
  readonly named: Readonly<Record<BufferName, Memory>>;
  /** Pages of each layer, kv[page, 2, kv_heads, 64, head_dim]. */
  readonly kv: readonly bigint[];
  readonly scratch: Memory;
  readonly state: Memory;
  /** The logits as JavaScript sees them, and the steps that bring so many bytes there. Taken on first use. */
  readonly logits: { view(): Float32Array; down(bytes: number): Step[] };
}

/** @throws KL_MEMORY_ALLOCATE */
export function allocateBuffers(device: Device, model: ModelFacts, plan: Plan): Buffers {
  const { inputs, results, ...sizes } = bufferBytes(model, plan.mode, plan);
  const named = Object.fromEntries(
    Object.entries(sizes).map(([name, bytes]) => [name, device.allocate(bytes)]),
  ) as Record<BufferName, Memory>;
  return {
    slots: Array.from({ length: stepSlots }, () => ({
      inputs: share(device, inputs / stepSlots),
      results: share(device, results / stepSlots),
    })),
    named,
    kv: model.layers.map((kind) => device.allocate(plan.pages[kind] * pageBytes(model, plan.mode)).address),
    scratch: device.allocate(Math.max(plan.workspace.scratch, 64)),
    state: device.allocate(Math.max(plan.workspace.state, 64)),
    logits: visible(device, named.logits),
  };
}

function visible(device: Device, memory: Memory): Buffers["logits"] {
  let seen = device.kind === "cpu" ? memory : null;
  const host = (): Memory => {
    seen ??= device.allocateHost(memory.size);
    return seen;
  };
  return {
    view: () => f32(host().bytes),
    down: (bytes) => (device.kind === "cpu" ? [] : [{ to: host().address, from: memory.address, bytes, up: false }]),
  };
}

export const i32 = (bytes: Uint8Array): Int32Array => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
export const f32 = (bytes: Uint8Array): Float32Array =>
  new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
export const u64 = (bytes: Uint8Array): BigUint64Array =>
  new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length >> 3);
