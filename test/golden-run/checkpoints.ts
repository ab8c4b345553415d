import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** E2M1 by code. */
const values = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

/** The checkpoint with its experts as bf16: [expert, out, in], or [expert, in, out] as transformers exports them. */
export function dequantizedCopy(from: string, to: string, order: "in_out" | "out_in"): string {
  cpSync(join(from, "generation_config.json"), join(to, "generation_config.json"));
  const { quantization_config: _, ...config } = JSON.parse(readFileSync(join(from, "config.json"), "utf8"));
  writeFileSync(join(to, "config.json"), JSON.stringify(config));

  const file = readFileSync(join(from, "model.safetensors"));
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, start)) as Header;
  const bytesOf = (name: string): Uint8Array => {
    const [begin, end] = header[name]!.data_offsets;
    return file.subarray(start + begin, start + end);
  };
  const out: Header = {};
  const data: Uint8Array[] = [];
  let offset = 0;
  const add = (name: string, dtype: string, shape: number[], bytes: Uint8Array): void => {
    out[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    data.push(bytes);
    offset += bytes.length;
  };
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__" || name.endsWith("_scales")) continue;
    if (!name.endsWith("_blocks")) {
      add(name, entry.dtype, entry.shape, bytesOf(name));
      continue;
    }
    const base = name.slice(0, -"_blocks".length);
    const [experts = 0, rows = 0, groups = 0] = entry.shape;
    const columns = groups * 32;
    const bf16 = dequantize(bytesOf(name), bytesOf(`${base}_scales`), experts, rows, columns, order === "in_out");
    add(base, "BF16", order === "in_out" ? [experts, columns, rows] : [experts, rows, columns], bf16);
  }
  const json = JSON.stringify(out);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(join(to, "model.safetensors"), Buffer.concat([length, text, ...data]));
  return to;
}

function dequantize(
  blocks: Uint8Array,
  scales: Uint8Array,
  experts: number,
  rows: number,
  columns: number,
  transpose: boolean,
): Uint8Array {
  const out = new Uint16Array(experts * rows * columns);
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  for (let e = 0; e < experts; e++) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const at = (e * rows + r) * columns + c;
        const byte = blocks[at >> 1]!;
        float[0] = values[c % 2 === 0 ? byte & 15 : byte >> 4]! * 2 ** (scales[at >> 5]! - 127);
        out[transpose ? (e * columns + c) * rows + r : at] = bits[0]! >>> 16;
      }
    }
  }
  return new Uint8Array(out.buffer);
}
