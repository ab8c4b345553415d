/** The ops that prepare weights: exact, so compared bit for bit. */
import { describe, it } from "vitest";
import { check, openOp } from "./harness.ts";
import { seeded } from "./random.ts";

const copy = await openOp("transformer-core", "copy_rows");
const transpose = await openOp("megablocks-moe", "transpose_experts");
const dequantize = await openOp("mxfp4", "mxfp4_dequantize");
const exact = { tolerance: 0 };

describe("copy_rows", () => {
  it.each([
    [1, 1, 1, 1],
    [5, 64, 64, 64],
    [7, 33, 40, 51],
    [3, 5000, 8192, 5000],
    [1000, 12, 12, 36],
  ])("%i rows of %i bytes, strides %i -> %i", (rows, row_bytes, src_stride, dst_stride) => {
    const src = seeded(rows).bytes(rows * src_stride, 0, 0xa4);
    check(copy, "copy_rows", { rows, row_bytes, src_stride, dst_stride, src }, exact);
  });
});

describe("transpose_experts", () => {
  it.each([
    [1, 1, 1],
    [3, 32, 96],
    [2, 65, 130],
    [5, 96, 31],
  ])("%i experts of %i x %i", (experts, rows, columns) => {
    const src = seeded(rows).bf16(experts * rows * columns);
    check(transpose, "transpose_experts", { experts, rows, columns, src }, exact);
  });
});

describe("mxfp4_dequantize", () => {
  it.each([
    [1, 32, 127, 127],
    [7, 96, 100, 140],
    [65, 2880, 0, 254],
  ])("%i rows of %i, scales %i to %i", (rows, columns, from, to) => {
    const random = seeded(columns);
    const [blocks, scales] = [random.bytes((rows * columns) / 2), random.bytes((rows * columns) / 32, from, to)];
    check(dequantize, "mxfp4_dequantize", { rows, columns, blocks, scales }, exact);
  });
});
