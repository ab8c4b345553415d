/** Number formats and the few products that all references share, in double precision. */

const bits = new DataView(new ArrayBuffer(4));

/** The value of a bf16 bit pattern. */
export function fromBf16(pattern: number): number {
  bits.setUint32(0, pattern << 16);
  return bits.getFloat32(0);
}

/** The bf16 bit pattern nearest to a value, ties to even; NaN stays NaN, what is too large becomes infinite. */
export function toBf16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  // Rounding twice (to f32, then to bf16) could move a tie, so the bits that f32 drops are kept as a sticky bit.
  const single = Math.fround(value);
  bits.setFloat32(0, single);
  let pattern = bits.getUint32(0);
  if (Number.isFinite(single) && single !== value && (pattern & 0xffff) === 0x8000) {
    pattern += Math.abs(value) > Math.abs(single) ? 1 : -1;
  }
  return ((pattern + 0x7fff + ((pattern >>> 16) & 1)) >>> 16) & 0xffff;
}

export const roundBf16 = (value: number): number => fromBf16(toBf16(value));

/** An array of bf16 bit patterns as values. */
export const bf16Values = (patterns: Uint16Array): Float64Array => Float64Array.from(patterns, fromBf16);

/** Rows that take part: those whose sequence is not -1. */
export function* liveRows(rows: number, rowSeq: ArrayLike<number>): Generator<number> {
  for (let row = 0; row < rows; row++) if (rowSeq[row]! >= 0) yield row;
}

/** Row `row` of a matrix with rows of `width` values. */
export function rowOf(matrix: ArrayLike<number>, row: number, width: number): Float64Array {
  const out = new Float64Array(width);
  for (let i = 0; i < width; i++) out[i] = matrix[row * width + i]!;
  return out;
}

/** weight[row] . x, for a weight with rows as long as x. */
export function dotRow(weight: ArrayLike<number>, row: number, x: Float64Array): number {
  let sum = 0;
  const at = row * x.length;
  for (let i = 0; i < x.length; i++) sum += weight[at + i]! * x[i]!;
  return sum;
}

/** x W^T + b for one row; W has `rows` rows. */
export function linear(
  x: Float64Array,
  weight: ArrayLike<number>,
  rows: number,
  bias: ArrayLike<number> | null = null,
): Float64Array {
  const out = new Float64Array(rows);
  for (let row = 0; row < rows; row++) out[row] = dotRow(weight, row, x) + (bias === null ? 0 : bias[row]!);
  return out;
}

/** Result arrays start as "not written". */
export const unwritten = (length: number): Float64Array => new Float64Array(length).fill(Number.NaN);

/** Indices 0 .. n - 1 by falling value, lowest index first on ties. */
export function fallingOrder(values: ArrayLike<number>): number[] {
  return Array.from(values, (_, i) => i).sort((a, b) => values[b]! - values[a]! || a - b);
}

/** log(sum(exp(values))), without overflow. */
export function logSumExp(values: ArrayLike<number>): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, values[i]!);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i]! - largest);
  return largest + Math.log(sum);
}
