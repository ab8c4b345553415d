import { type BufferName, bufferBytes, type ModelFacts, type Plan, pageBytes } from "@kernlock/policies/compatibility";
import type { Device, Memory } from "../native/index.ts";

/** Named memory between ops, the KV cache of each layer, and what ops may scribble in. */
export interface Buffers {
  readonly named: Readonly<Record<BufferName, Memory>>;
  /** Pages of each layer, kv[page, 2, kv_heads, 64, head_dim]. */
  readonly kv: readonly bigint[];
  readonly scratch: Memory;
  readonly state: Memory;
}

/** @throws KL_MEMORY_ALLOCATE */
export function allocateBuffers(device: Device, model: ModelFacts, plan: Plan): Buffers {
  const sizes = Object.entries(bufferBytes(model, plan.mode, plan));
  const named = Object.fromEntries(sizes.map(([name, bytes]) => [name, device.allocate(bytes)]));
  return {
    named: named as Record<BufferName, Memory>,
    kv: model.layers.map((kind) => device.allocate(plan.pages[kind] * pageBytes(model, plan.mode)).address),
    scratch: device.allocate(Math.max(plan.workspace.scratch, 64)),
    state: device.allocate(Math.max(plan.workspace.state, 64)),
  };
}

export const i32 = ({ bytes }: Memory): Int32Array => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
export const f32 = ({ bytes }: Memory): Float32Array =>
  new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
export const u64 = ({ bytes }: Memory): BigUint64Array =>
  new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
