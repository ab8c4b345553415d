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
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    // Copied, so that the view is aligned.
    const bytes = new Uint8Array(file.subarray(8 + headerBytes + from, 8 + headerBytes + to)).buffer;
    if (entry.dtype === "F32") tensors.set(name, { ...entry, data: new Float32Array(bytes) });
    else if (entry.dtype === "I64") tensors.set(name, { ...entry, data: new BigInt64Array(bytes) });
  }
  return tensors;
}

export function floats(tensors: Map<string, Tensor>, name: string): { data: Float32Array; shape: readonly number[] } {
  const tensor = tensors.get(name);
  if (!(tensor?.data instanceof Float32Array)) throw new Error(`no f32 tensor ${name}`);
  return { data: tensor.data, shape: tensor.shape };
}

export function ids(tensors: Map<string, Tensor>, name: string): number[] {
  const tensor = tensors.get(name);
  if (!(tensor?.data instanceof BigInt64Array)) throw new Error(`no i64 tensor ${name}`);
  return [...tensor.data].map(Number);
}

/** Largest of the rows' ||out - ref|| / ||ref||. Rows that hold a NaN give NaN, which no bound accepts. */
export function worstRow(out: Float32Array, ref: Float32Array, width: number): number {
  let worst = 0;
  for (let row = 0; row < ref.length / width; row++) {
    let difference = 0;
    let size = 0;
    for (let i = row * width; i < (row + 1) * width; i++) {
      const expected = ref[i] ?? Number.NaN;
      difference += ((out[i] ?? Number.NaN) - expected) ** 2;
      size += expected ** 2;
    }
    const error = Math.sqrt(difference / size);
    if (Number.isNaN(error)) return Number.NaN;
    worst = Math.max(worst, error);
  }
  return worst;
}
