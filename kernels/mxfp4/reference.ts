/**
 * MXFP4 (OCP Microscaling formats): blocks of 32 E2M1 values along a row, two in a byte, low nibble first, with one E8M0
 * scale 2^(s - 127) for each block. Here in double precision.
 */
import { type ExpertWeights, mixture } from "../megablocks-moe/reference.ts";
import { roundBf16, unwritten } from "../reference/numbers.ts";
import type { Reference, ReferenceArgs } from "../reference/types.ts";
import { add } from "../transformer-core/reference.ts";

/** E2M1 magnitudes by the low three bits of a code; the fourth bit is the sign. */
const magnitudes = [0, 0.5, 1, 1.5, 2, 3, 4, 6] as const;

export const e2m1 = (code: number): number => (code & 8 ? -1 : 1) * magnitudes[code & 7]!;

/** Value `column` of row `row` of a matrix with `columns` columns. */
export function element(
  blocks: ArrayLike<number>,
  scales: ArrayLike<number>,
  columns: number,
  row: number,
  column: number,
) {
  const index = row * columns + column;
  const byte = blocks[index >>> 1]!;
  return e2m1(index & 1 ? byte >>> 4 : byte & 15) * 2 ** (scales[(index / 32) | 0]! - 127);
}

function dotRow(blocks: ArrayLike<number>, scales: ArrayLike<number>, row: number, x: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += element(blocks, scales, x.length, row, i) * x[i]!;
  return sum;
}

function weights(args: ReferenceArgs<"moe">): ExpertWeights {
  const { up_weight, up_scales, down_weight, down_scales, hidden, intermediate } = args;
  if (up_scales === null || down_scales === null) throw new Error("MXFP4 experts need scales.");
  return {
    up: (expert, row, x) => dotRow(up_weight, up_scales, expert * 2 * intermediate + row, x),
    down: (expert, row, x) => dotRow(down_weight, down_scales, expert * hidden + row, x),
  };
}

export const moe: Reference<"moe"> = (args) => ({ out: mixture(args, weights(args)) });

export const moeResidual: Reference<"moe_residual"> = (args) => ({
  stream: add(args.stream, mixture(args, weights(args))),
});

export const dequantize: Reference<"mxfp4_dequantize"> = ({ rows, columns, blocks, scales }) => {
  const dst = unwritten(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) dst[row * columns + i] = roundBf16(element(blocks, scales, columns, row, i));
  }
  return { dst };
};

/** Bits of a 16-bit half that hold a code, sign first, for each of the four element pairs of a word. */
const tileBits = [
  [15, 8, 7, 6],
  [12, 5, 4, 3],
  [9, 2, 1, 0],
  [14, 13, 11, 10],
] as const;

/** mxfp4.rows to mxfp4.tiles: the layout stands at the op. */
export const tiles: Reference<"mxfp4_tiles"> = ({ rows, columns, blocks, scales }) => {
  const across = Math.ceil(columns / 64);
  const dst = new Float64Array((rows / 8) * across * 272);
  const code = (row: number, column: number) => {
    if (column >= columns) return 0;
    const index = row * columns + column;
    return (blocks[index >>> 1]! >>> (index & 1 ? 4 : 0)) & 15;
  };
  for (let row = 0; row < rows; row++) {
    for (let tile = 0; tile < across; tile++) {
      const base = (Math.floor(row / 8) * across + tile) * 272;
      const r = row % 8;
      for (let block = 0; block < 2; block++) {
        const at = tile * 2 + block;
        const scale = at < columns / 32 ? scales[(row * columns) / 32 + at]! : 127; // a missing block: 2 ^ 0, times codes of 0
        dst[base + 256 + 2 * r + block] = Math.min(scale, 160) + 94;
      }
      for (let column = 0; column < 64; column++) {
        const lane = r * 4 + Math.floor((column % 8) / 2);
        const step = Math.floor(column / 16);
        const pair = 2 * (step % 2) + Math.floor((column % 16) / 8);
        const value = code(row, tile * 64 + column);
        for (const [i, bit] of tileBits[pair]!.entries()) {
          if (((value >>> (3 - i)) & 1) === 0) continue;
          const place = (column % 2) * 16 + bit;
          dst[base + 8 * lane + 4 * Math.floor(step / 2) + Math.floor(place / 8)]! += 1 << (place % 8);
        }
      }
    }
  }
  return { dst };
};
