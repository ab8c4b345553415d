import { readFileSync } from "node:fs";

/** Integer tensors of a safetensors file, for the recorded ids. */
export function readTensors(path: string): { ids(name: string): number[] } {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, start)) as Record<string, { data_offsets: [number, number] }>;
  return {
    ids(name) {
      const [begin, end] = header[name]!.data_offsets;
      return Array.from({ length: (end - begin) / 8 }, (_, i) => Number(bytes.readBigInt64LE(start + begin + 8 * i)));
    },
  };
}
