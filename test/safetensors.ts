export { floats, ids, readSafetensors, type Tensor } from "../cli/selftest/safetensors.ts";

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
