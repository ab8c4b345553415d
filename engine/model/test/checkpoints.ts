import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openModel } from "@kernlock/engine/model";
import { KernlockError } from "@kernlock/kernels/format";
import { onTestFinished } from "vitest";

const golden = join(import.meta.dirname, "../../../test/golden");

export type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** An empty folder that goes away with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-model-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A private copy of a golden checkpoint. */
export function copyOf(name: "tiny-mxfp4" | "tiny-mxfp4-sharded"): string {
  const folder = temporaryFolder();
  for (const file of readdirSync(join(golden, name))) {
    if (!file.startsWith("reference")) cpSync(join(golden, name, file), join(folder, file));
  }
  return folder;
}

/** Changes an index of shards (or any other JSON file). */
export function editJson(path: string, edit: (json: { weight_map: Record<string, unknown> }) => void): void {
  const json = JSON.parse(readFileSync(path, "utf8"));
  edit(json);
  writeFileSync(path, JSON.stringify(json));
}

export interface Parts {
  header: Header;
  data: Buffer;
}

export function readParts(path: string): Parts {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  return { header: JSON.parse(bytes.toString("utf8", 8, start)), data: bytes.subarray(start) };
}

/** `header` as text to write what no JSON library would. */
export function writeParts(path: string, header: Header | string, data: Uint8Array): void {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, data]));
}

/** Writes zeros in the shapes given, one tensor after the other. */
export function writeZeros(
  path: string,
  tensors: ReadonlyMap<string, { dtype: string; shape: readonly number[] }>,
): void {
  const header: Header = {};
  let at = 0;
  for (const [name, { dtype, shape }] of [...tensors].sort((a, b) => a[1].dtype.localeCompare(b[1].dtype))) {
    const bytes = shape.reduce((a, b) => a * b, dtype === "U8" ? 1 : 2);
    header[name] = { dtype, shape: [...shape], data_offsets: [at, at + bytes] };
    at += bytes;
  }
  writeParts(path, header, new Uint8Array(at));
}

/** The coded error of opening a folder. */
export function refusal(folder: string, env?: Record<string, string>): KernlockError {
  return refusalOf(() => openModel(folder, env).close());
}

export function refusalOf(action: () => unknown): KernlockError {
  try {
    action();
  } catch (error) {
    if (error instanceof KernlockError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}
