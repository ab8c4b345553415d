import { readFileSync } from "node:fs";

export interface Tensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** Reads the f32 and i64 tensors of a safetensors file: golden data and what `--logits` writes. */
export function readSafetensors(path: string): Map<string, Tensor> {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString("utf8")) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    // Copied, so that the view is aligned.
    const bytes = new Uint8Array(file.subarray(8 + headerBytes + offsets[0], 8 + headerBytes + offsets[1])).buffer;
    if (dtype === "F32") tensors.set(name, { dtype, shape, data: new Float32Array(bytes) });
    else if (dtype === "I64") tensors.set(name, { dtype, shape, data: new BigInt64Array(bytes) });
  }
  return tensors;
}

export function floats(
  tensors: ReadonlyMap<string, Tensor>,
  name: string,
): { data: Float32Array; shape: readonly number[] } {
  const tensor = tensors.get(name);
  if (!(tensor?.data instanceof Float32Array)) throw new Error(`no f32 tensor ${name}`);
  return { data: tensor.data, shape: tensor.shape };
}

export function ids(tensors: ReadonlyMap<string, Tensor>, name: string): number[] {
  const tensor = tensors.get(name);
  if (!(tensor?.data instanceof BigInt64Array)) throw new Error(`no i64 tensor ${name}`);
  return Array.from(tensor.data, Number);
}
