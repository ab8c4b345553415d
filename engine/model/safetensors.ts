import { type ErrorCode, fail, KernlockError, parseStrictJson } from "@kernlock/kernels/format";
import { isObject, shownValue } from "./fields.ts";
import { readExactly } from "./folder.ts";
import type { ModelFile, TensorDtype, TensorEntry } from "./types.ts";

const dtypeBytes: Readonly<Record<TensorDtype, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
};

/** Real headers take about 150 bytes a tensor; this is room for 200,000. */
const maxHeader = 32 << 20;

/**
 * Reads the header of a safetensors file (8 bytes of length, JSON, data) and checks that its tensors fill the data
 * exactly: in order, without a gap, an overlap or a byte left over. No data is read.
 *
 * @param index number of the file, for `TensorEntry.file`
 * @throws KL_MODEL_TRUNCATED, KL_MODEL_HEADER, KL_MODEL_TENSOR_BYTES, KL_MODEL_TENSOR_OVERLAP, KL_MODEL_TENSOR_GAP,
 *         KL_MODEL_TENSOR_ALIGNMENT
 */
export function readHeader(file: ModelFile, index: number): Map<string, TensorEntry> {
  if (file.size < 8) return damaged("KL_MODEL_TRUNCATED", file, `has ${file.size} bytes, not even a header`);
  const length = new DataView(readExactly(file, 0, 8).buffer).getBigUint64(0, true);
  if (length < 2n || length > BigInt(maxHeader)) {
    return damaged("KL_MODEL_HEADER", file, `states a header of ${length} bytes, outside 2 to ${maxHeader}`);
  }
  const start = 8 + Number(length);
  if (start > file.size) {
    return damaged("KL_MODEL_TRUNCATED", file, `states a header of ${length} bytes and has ${file.size} bytes in all`);
  }
  const entries = parseHeader(readExactly(file, 8, Number(length)), file);
  checkExtents(entries, file, file.size - start);
  return new Map(
    entries.map(({ name, begin, end, dtype, shape }) => {
      const offset = start + begin;
      if (offset % dtypeBytes[dtype] !== 0) {
        damaged("KL_MODEL_TENSOR_ALIGNMENT", file, `has ${name} (${dtype}) at the odd offset ${offset}`);
      }
      return [name, { file: index, offset, bytes: end - begin, dtype, shape }];
    }),
  );
}

interface Extent {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

function parseHeader(bytes: Uint8Array, file: ModelFile): Extent[] {
  let header: unknown;
  try {
    header = parseStrictJson(bytes, { what: "The header", maxBytes: maxHeader, maxDepth: 8 });
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return damaged("KL_MODEL_HEADER", file, `has a broken header: ${error.message}`, error);
  }
  if (bytes[0] !== 0x7b || !isObject(header)) return damaged("KL_MODEL_HEADER", file, "has a header that is no object");
  const entries: Extent[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name !== "__metadata__") entries.push(parseEntry(name, value, file));
    else if (!isObject(value) || !Object.values(value).every((v) => typeof v === "string")) {
      damaged("KL_MODEL_HEADER", file, "has metadata that are no strings");
    }
  }
  return entries;
}

function parseEntry(name: string, value: unknown, file: ModelFile): Extent {
  const bad = (problem: string) => damaged("KL_MODEL_HEADER", file, `describes ${shownValue(name)} badly: ${problem}`);
  if (!isObject(value) || Object.keys(value).sort().join() !== "data_offsets,dtype,shape") {
    return bad("it needs dtype, shape and data_offsets and nothing else");
  }
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(dtypeBytes, dtype)) return bad(`unknown dtype ${shownValue(dtype)}`);
  if (!isSizes(shape) || shape.length > 8) return bad("the shape is no list of sizes");
  if (!isSizes(offsets) || offsets.length !== 2) return bad("the offsets are no pair of sizes");
  const [begin, end] = offsets as [number, number];
  const expected = shape.reduce((product, size) => product * size, dtypeBytes[dtype as TensorDtype]);
  if (!Number.isSafeInteger(expected) || begin > end || end - begin !== expected) {
    damaged(
      "KL_MODEL_TENSOR_BYTES",
      file,
      `gives ${name} (${dtype} [${shape.join(", ")}]) the bytes ${begin} to ${end}, and it needs ${expected}`,
    );
  }
  return { name, dtype: dtype as TensorDtype, shape, begin, end };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((v) => Number.isSafeInteger(v) && v >= 0);
}

function checkExtents(entries: readonly Extent[], file: ModelFile, dataBytes: number): void {
  let at = 0;
  let before = "the header";
  for (const { name, begin, end } of entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin < at) damaged("KL_MODEL_TENSOR_OVERLAP", file, `lets ${name} overlap with ${before}`);
    if (begin > at) damaged("KL_MODEL_TENSOR_GAP", file, `has ${begin - at} bytes of nothing before ${name}`);
    if (end > dataBytes) {
      const short = end - dataBytes;
      damaged("KL_MODEL_TRUNCATED", file, `puts ${name} up to ${short} bytes past the end of the file`);
    }
    [at, before] = [end, name];
  }
  if (at < dataBytes) damaged("KL_MODEL_TENSOR_GAP", file, `has ${dataBytes - at} bytes after its last tensor`);
}

function damaged(code: ErrorCode, file: ModelFile, problem: string, cause?: unknown): never {
  return fail(code, `${file.path} ${problem}.`, {
    remedy: "Download the file again, and compare its digest with the publisher's.",
    details: { file: file.path },
    cause,
  });
}
